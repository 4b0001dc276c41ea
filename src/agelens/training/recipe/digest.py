"""How what is kept in the work folder is named: after all that it depends on."""

from __future__ import annotations

import hashlib
import json


def digest(facts: object) -> str:
    """Eight letters that change with the facts.

    Args:
        facts: In JSON's types; tuples count as lists.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
