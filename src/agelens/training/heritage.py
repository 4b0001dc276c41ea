"""What weights carry on to those that learn on from them: the data that they have seen, and their terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agelens.modelspec import is_restricted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agelens.training.foreign import Weights

AND = "; and "
"""Between the terms of what weights carry on."""
UNKNOWN = {"name": "unknown, seen by the weights that it began with"}


def list_data(about: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    """The data sets that weights have seen, those of what they began with among them.

    Args:
        about: What a weights file says of itself; `begun` is what `inherit` gave for what it began with.
    """
    own, before = about.get("training_data"), about.get("begun", {}).get("training_data", ())
    if own is None:
        own = [{"name": name_data(about.get("data", {}))}]
    return tuple({tuple(entry.items()): entry for entry in (*before, *own)}.values())


def name_data(data: Mapping[str, Any]) -> str:
    """What was trained on as a text: its kind, the data sets in it where they have other names, its fingerprint."""
    kind, sets = data.get("kind", "unknown"), data.get("datasets", [])
    named = f": {', '.join(sets)}" if set(sets) - {kind} else ""
    return f"{kind}{named} ({data.get('fingerprint', '')[:12]})"


def inherit(start: Weights) -> dict[str, Any]:
    """What a training has to keep of the weights that it begins with, as plain values."""
    about = start.about
    known = "training_data" in about or "data" in about
    return {
        "training_data": list(list_data(about)) if known else [UNKNOWN],
        "seen": list(_list_seen(about)),
        "terms": find_terms(about),
        "decode": about.get("decode") or find_decode(about),
    }


def find_decode(about: Mapping[str, Any]) -> str:
    """How a trained network tells years, see `ModelSpec`: as the model does that it learned on from, or the mean."""
    return str(about.get("begun", {}).get("decode") or "mean")


def _list_seen(about: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Manifests that weights have seen, by fingerprint, name and what was held out of them, or data sets by name."""
    yield from about.get("begun", {}).get("seen", ())
    yield from about.get("seen", ())
    data = about.get("data", {})
    if data.get("fingerprint"):
        yield {"name": name_data(data), "data": data["fingerprint"], "held_out": data.get("held_out", "")}
    elif "seen" not in about:
        yield from ({"name": entry["name"]} for entry in about.get("training_data", ()))


def find_terms(about: Mapping[str, Any]) -> str | None:
    """Terms that pass on: the weights' own, those of what they began with, or of data that says them; None: none."""
    own = about.get("terms") or about.get("begun", {}).get("terms")
    licences = (str(entry.get("licence", "")) for entry in about.get("training_data", ()))
    return own or next((licence for licence in licences if is_restricted(licence)), None)


def settle_licence(about: Mapping[str, Any], licence: str | None) -> str | None:
    """The licence that is asked for, behind the terms that pass on; None: neither is there."""
    terms = find_terms(about)
    if terms is None or licence is None or licence in terms.split(AND):
        return terms or licence
    return f"{terms}{AND}{licence}"
