"""What weights carry on to those that learn on from them: the data that they have seen, and their terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agelens.training.foreign import Weights


def list_data(about: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    """The data sets that weights have seen, those of what they began with among them.

    Args:
        about: What a weights file says of itself; `begun` is what `inherit` gave for what it began with.
    """
    own, before = about.get("training_data"), about.get("begun", {}).get("training_data", ())
    if own is None:
        data = about.get("data", {})
        own = [{"name": f"{data.get('kind', 'unknown')} ({data.get('fingerprint', '')[:12]})"}]
    return tuple({tuple(entry.items()): entry for entry in (*before, *own)}.values())


def inherit(start: Weights) -> dict[str, Any]:
    """What a training has to keep of the weights that it begins with, as plain values."""
    about = start.about
    known = "training_data" in about or "data" in about
    return {
        "source": start.source,
        "training_data": list(list_data(about)) if known else [{"name": f"unknown: it began with {start.source}"}],
        "terms": about.get("terms") or about.get("begun", {}).get("terms"),
    }


def settle_licence(about: Mapping[str, Any], licence: str) -> str:
    """The licence that is asked for, or the stricter terms of what the weights began with."""
    terms = about.get("begun", {}).get("terms")
    return f"{terms}; else: {licence}" if terms else licence
