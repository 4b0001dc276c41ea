"""One labelled face, and the count of what became of a data set's rows.

An age is a closed band of whole years: `(20, 29)` for "20-29", `(35, 35)` for an exact 35, `(70, 120)` for "more than
70" (120 stands for "no upper end"). A mean of many guesses, as APPA-REAL has, is a band without width: `(24.7,
24.7)`. What is not known is None and stays apart: a face without a gender still trains age.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

KnownGender = Literal["female", "male"]

OLDEST_LABEL = 120.0
"""The upper end of an open band, and the highest age that any importer believes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled face.

    Attributes:
        dataset: The set it comes from, as the importer names it ("utkface", "fairface", ...).
        path: The picture, relative to the manifest's root, with `/` between folders.
        age_low: First year of the age band, None where the age is unknown.
        age_high: Last year of the age band (inclusive), None where the age is unknown.
        gender: "female", "male", or None where it is unknown.
        subject: Who it is, unique within the set; None where the set does not say.
        fold: Number of the fold in the set's own protocol.
        race: As the set names it.
        split: "train", "val" or "test"; None where nothing is assigned.
        age_group: Label of the age group in the set's classification protocol, None where the age lies in none.
        face: Number of the face within its picture, where a picture holds several.
        box: Where the face is in the picture: x, y, width, height in pixels, where the set says.
        group: Number of the near-duplicate group; pictures that show the same photograph share it.
        dhash: Difference hash of the decoded picture, 80 hexadecimal digits: 64 bits, then 256 finer ones.
    """

    dataset: str
    path: str
    age_low: float | None = None
    age_high: float | None = None
    gender: KnownGender | None = None
    subject: str | None = None
    fold: int | None = None
    race: str | None = None
    split: str | None = None
    age_group: str | None = None
    face: str | None = None
    box: tuple[float, float, float, float] | None = None
    group: int | None = None
    dhash: str | None = None

    def __post_init__(self) -> None:
        if (self.age_low is None) != (self.age_high is None):
            raise ValueError(f"an age band has both ends or none, got {self.age_low} to {self.age_high}")
        if (
            self.age_low is not None
            and self.age_high is not None
            and not 0 <= self.age_low <= self.age_high <= OLDEST_LABEL
        ):
            raise ValueError(f"an age band lies within 0 to {OLDEST_LABEL:.0f}, got {self.age_low} to {self.age_high}")
        if self.gender not in (None, "female", "male"):
            raise ValueError(f"a gender is 'female', 'male' or None, got {self.gender!r}")

    @property
    def exact_age(self) -> float | None:
        """The age where it is known as one number, else None."""
        return self.age_low if self.age_low == self.age_high else None


@dataclass(slots=True)
class Tally:
    """What became of every row of a data set: `rows` = kept + dropped, to the last one.

    Attributes:
        rows: How many labelled rows (or, where names are the labels, pictures) the set holds.
        dropped: How many were left out, by reason.
        remapped: How many of the kept ones had a label repaired or moved, by what was done.
        unlabelled: How many of the kept ones lack a label for one task: "age: reason" or "gender: reason".
        groups: How many rows each age group of the set's protocol has, as published: before anything is dropped.
        pictures: How many pictures of the set's layout are there, and `joined`: how many of them have a row; None where
            names are the labels, so that every picture is its own row.
        examples: Up to three names for each reason.
    """

    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    remapped: Counter[str] = field(default_factory=Counter)
    unlabelled: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    pictures: int | None = None
    joined: int | None = None
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        return self.rows - self.dropped.total()

    def drop(self, reason: str, example: str) -> None:
        """Count one row as left out."""
        self.dropped[reason] += 1
        self._remember(reason, example)

    def remap(self, reason: str, example: str) -> None:
        """Count one kept row as repaired."""
        self.remapped[reason] += 1
        self._remember(reason, example)

    def leave_unlabelled(self, reason: str, example: str) -> None:
        """Count one kept row as without a label for one of the tasks."""
        self.unlabelled[reason] += 1
        self._remember(reason, example)

    def _remember(self, reason: str, example: str) -> None:
        names = self.examples.setdefault(reason, [])
        if len(names) < 3:
            # A name may hold bytes that are no UTF-8, and a report can't.
            names.append(example.encode("utf-8", "backslashreplace").decode())

    def to_dict(self) -> dict[str, Any]:
        """The report: `rows`, `kept`, `remapped`, `dropped`, then what is known beyond them."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            "remapped": dict(self.remapped.most_common()),
            "dropped": dict(self.dropped.most_common()),
            "unlabelled": dict(self.unlabelled.most_common()),
            "groups": dict(self.groups),
            "pictures": self.pictures,
            "joined": self.joined,
            "examples": {reason: list(names) for reason, names in self.examples.items()},
        }
