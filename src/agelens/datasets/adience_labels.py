"""Adience's age labels: the 8 published groups, the 12 of the project that agelens began from, and every odd one.

The fold files hold `(25, 32)`, single ages such as `35`, `None`, odd bands such as `(27, 32)`, and in one edition the
reversed `(25, 23)`: the other edition has `(25, 32)` in those very rows, so that one is a slip of the pen and mended
in every label set. The rest are judgements. The published protocol scores rows of the 8 groups only; an age outside
them keeps its band (it still trains a regression) but has no group.
"""

from __future__ import annotations

from dataclasses import dataclass

from agelens.datasets.labels import Band, parse_age
from agelens.errors import UsageError
from agelens.groups import ADIENCE, ADIENCE12

LABEL_SETS: dict[str, tuple[Band, ...]] = {"adience": ADIENCE, "adience12": ADIENCE12}

SLIPS = {"(25, 23)": "(25, 32)"}
"""Labels that are slips of the pen, and what the other edition has in their place."""

_MOVED = {"3": "(0, 2)", "13": "(8, 12)", "(38, 48)": "(38, 43)", "(8, 23)": "(8, 12)"}
"""`adience12`: labels that no group holds, and where the original project put them."""


@dataclass(frozen=True, slots=True)
class AgeLabel:
    """What one age label says.

    Attributes:
        band: The years, None where no age is given.
        group: Label of the group, None where the age lies in none.
        change: "label -> group" where the label was repaired or moved, else "".
        lack: Why there is no group, else "".
    """

    band: Band | None
    group: str | None
    change: str = ""
    lack: str = ""


def group_label(band: Band) -> str:
    """A group as the fold files write it: `(25, 32)`."""
    return f"({band[0]:g}, {band[1]:g})"


def group_bands(groups: str) -> tuple[Band, ...]:
    """The age groups of a label set, in order.

    Raises:
        UsageError: There is no such label set.
    """
    try:
        return LABEL_SETS[groups]
    except KeyError as error:
        raise UsageError(f"there is no label set {groups!r}. There are: {', '.join(LABEL_SETS)}") from error


def read_age_label(text: str, groups: str = "adience", *, repair: bool = False) -> AgeLabel:
    """Read one age label of a fold file.

    Args:
        text: As it stands there.
        groups: The label set, "adience" or "adience12".
        repair: Give odd labels the group that holds them; "adience12" always does, and moves the four in `_MOVED` too.

    Raises:
        UsageError: There is no such label set.
    """
    bands = group_bands(groups)
    text = text.strip()
    meant = SLIPS.get(text, text)
    band = parse_age(meant)
    if band is None:
        return AgeLabel(None, None, lack="not given" if text in ("", "None") else f"{text} is no age")
    if band in bands:
        group = group_label(band)
        return AgeLabel(band, group, change=f"{text} -> {group}" if text != meant else "")
    held = next((group_label(g) for g in bands if g[0] <= band[0] and band[1] <= g[1]), None)
    home = (held or _MOVED.get(text)) if groups == "adience12" else held
    if home is None or not (repair or groups == "adience12"):
        return AgeLabel(band, None, lack=f"{text} is none of the groups")
    return AgeLabel(band, home, change=f"{text} -> {home}")
