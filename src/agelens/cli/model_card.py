"""The card of a model file as text that a terminal of 80 columns shows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agelens.modelspec import DECODES

WIDTH: Final = 80
NOT_ASCII: Final = "±−"
_ASCII: Final = str.maketrans({"±": "~", "−": "-"})
_PARTS: Final = ("gender", "age", "race")
"""By what the faces of a set are told apart here; more is in the full card."""

_HEADS: Final = {
    "mae": "mean error",
    "bias": "bias",
    "exact": "age group",
    "one_off": "or beside",
    "gender": "gender",
    "coverage": "in interval",
}
_IN_YEARS: Final = ("mae", "bias")
_NAME_WIDTH, _FACES_WIDTH, _FIGURE_WIDTH = 16, 6, 12


def write_card(card: Mapping[str, Any], *, as_ascii: bool = False) -> str:
    """The text of a card.

    Args:
        card: What the file says of itself, with `sha256` and `bytes` of the file, and what was `measured` on it, see
            `agelens.zoo.read_figures`. What is missing is left out.
        as_ascii: Whether the terminal has no other characters.
    """
    parts = [_facts(card), *_lists(card), *(_measured(card) if card.get("measured") else ())]
    if card.get("recipe"):
        parts.append(iter(["How it was made, in full: --json"]))
    text = "\n\n".join("\n".join(lines) for part in parts if (lines := list(part)))
    return text.translate(_ASCII) if as_ascii else text


def _facts(card: Mapping[str, Any]) -> Iterator[str]:
    for name in ("name", "role", "about", "version", "licence", "sha256"):
        if card.get(name):
            yield from _fact(name, str(card[name]))
    yield from _fact("bytes", f"{card['bytes']:,}")
    if crop := card.get("crop"):
        apart, below = f"{crop['eye_distance']:.3g}", f"{crop['eye_height']:.3g}"
        size = f"RGB, {crop['size']} x {crop['size']} pixels"
        yield from _fact("crop", f"{size}; the eyes {apart} of a side apart, {below} of it below the top")
    if tasks := card.get("tasks"):
        years = f"years are {DECODES[card['age']['decode']]} of 101 probabilities"
        yield from _fact("answers", f"{' and '.join(tasks)}; {years}")
        yield from _fact("interval", _interval(card))


def _interval(card: Mapping[str, Any]) -> str:
    promised = f"is to hold {card['intervals']['coverage']:.0%} of ages"
    if not card["intervals"]["levels"]:
        return f"{promised}, but was NOT calibrated: there were no faces to do it on"
    measured = {each["title"]: each["figures"].get("coverage") for each in card.get("measured", ())}
    held = [f"{_number('coverage', figure['value'])} ({title})" for title, figure in measured.items() if figure]
    return f"{promised}; it held {', '.join(held)}" if held else promised


def _fact(name: str, text: str) -> list[str]:
    start = f"{name}:".ljust(10)
    return _wrap(text, start, " " * len(start))


def _lists(card: Mapping[str, Any]) -> Iterator[Iterator[str]]:
    yield _listed("Trained on", [_data_set(entry) for entry in card.get("training_data", ())])
    yield _listed("Limits", card.get("notes", ()))
    metrics = card.get("metrics", {})
    yield _listed("Measured while it was made", [f"{name}: {_in_a_line(found)}" for name, found in metrics.items()])


def _listed(title: str, entries: Sequence[str]) -> Iterator[str]:
    if entries:
        yield f"{title}:"
    for entry in entries:
        yield from _wrap(entry, "  - ", "    ")


def _data_set(entry: Mapping[str, str]) -> str:
    rest = "; ".join(str(value) for key, value in entry.items() if key != "name" and value)
    name = entry.get("name", "")
    return f"{name} ({rest})" if rest else name


def _in_a_line(found: object) -> str:
    if isinstance(found, Mapping):
        return ", ".join(f"{name} {_in_a_line(value)}" for name, value in found.items())
    return f"{found:.4g}" if isinstance(found, float) else str(found)


# --- what was measured ---------------------------------------------------------------------------------------------


def _measured(card: Mapping[str, Any]) -> Iterator[Iterator[str]]:
    yield iter(
        _wrap(
            "Measured end to end on this very file, on pictures that it has not seen. Mean error and bias in years,"
            " bias below 0: judged too young. Age group: the labelled one, or one beside it. In interval: labelled ages"
            " that the interval holds (of a labelled band, by the model's own distribution). Behind ±: half of the"
            " bootstrap 95% interval.",
        )
    )
    for measured in card["measured"]:
        yield _table(measured)


def _table(measured: Mapping[str, Any]) -> Iterator[str]:
    failed = measured["failed"] / measured["pictures"]
    yield f"{measured['title']}: {measured['pictures']:,} pictures, in {failed:.1%} no face was found"
    # Where labels are years, errors in years say more than groups.
    ages = _IN_YEARS if "mae" in measured["figures"] else ("exact", "one_off")
    columns = [name for name in (*ages, "gender", "coverage") if name in measured["figures"]]
    heads = "".join(_HEADS[name].rjust(_FIGURE_WIDTH + 1) for name in columns)
    yield f"  {''.ljust(_NAME_WIDTH)}{'faces'.rjust(_FACES_WIDTH)}{heads}"
    faces = measured["pictures"] - measured["failed"]
    rows = [{"name": "all", "faces": faces, "figures": measured["figures"]}]
    rows += [part for by in _PARTS for part in measured["parts"] if part["by"] == by]
    for row in rows:
        cells = "".join(_figure(name, row["figures"].get(name)).rjust(_FIGURE_WIDTH + 1) for name in columns)
        yield f"  {row['name'][:_NAME_WIDTH].ljust(_NAME_WIDTH)}{row['faces']:>{_FACES_WIDTH},}{cells}"


def _figure(name: str, figure: Mapping[str, float | None] | None) -> str:
    if figure is None or figure["value"] is None:
        return ""
    value = _number(name, figure["value"])
    low, high = figure["low"], figure["high"]
    if low is None or high is None:
        return value
    return f"{value} ±{_number(name, (high - low) / 2).removesuffix('%')}"


def _number(name: str, value: float) -> str:
    return (f"{value:.2f}" if name in _IN_YEARS else f"{value:.1%}").replace("-", "−")


def _wrap(text: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
