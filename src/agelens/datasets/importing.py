"""What every importer is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agelens.datasets.label_table import TextRow, find_column, parse_table, read_table
from agelens.datasets.labels import SPLITS, known_text, parse_split
from agelens.datasets.pictures import Pictures, is_picture
from agelens.datasets.rows import KnownGender, Row, Tally
from agelens.errors import MissingPicturesError, UnreadableLabelsError, WrongLayoutError


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to read a set; an importer uses what concerns its set.

    Attributes:
        labels: A label file for pictures that come without the set's own.
        groups: Adience: which age groups, "adience" (the 8 published ones) or "adience12".
        repair: Adience: move odd ages into the group that holds them ("adience12" always does).
        layout: Adience: which pictures, "faces" or "aligned"; None takes the ones that are there.
        frontal: Adience: only the rows of the frontal lists.
        age: APPA-REAL: whether the age is the mean of many guesses or the age on the document.
        columns: Table: which column holds what, e.g. `{"age": "Alter"}`.
        gender_codes: Table: what numbers and words in the gender column mean, e.g. `{"0": "female", "1": "male"}`.
        min_face_score: IMDB-WIKI: the least score of the face detector.
        max_missing: The largest share of labelled pictures that may be absent.
    """

    labels: Path | None = None
    groups: str = "adience"
    repair: bool = False
    layout: Literal["faces", "aligned"] | None = None
    frontal: bool = False
    age: Literal["apparent", "real"] = "apparent"
    columns: Mapping[str, str] = field(default_factory=dict)
    gender_codes: Mapping[str, KnownGender] = field(default_factory=dict)
    min_face_score: float = 1.0
    max_missing: float = 0.01


@dataclass(frozen=True, slots=True)
class Imported:
    """The rows that an importer kept, and what became of the rest.

    Attributes:
        rows: In the order of the set's own lists.
        tally: Accounts for every row.
        groups: Labels of the age groups of the set's classification protocol, in order.
        notes: What else the provenance should say.
    """

    rows: list[Row]
    tally: Tally
    groups: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


Importer = Callable[[Pictures, ImportOptions], Imported]

NO_PICTURE = "picture missing"


def own_table(pictures: Pictures, name: str) -> list[TextRow]:
    """A delimited label file that lies among the pictures."""
    return list(parse_table(pictures.read(name), name))


def pack_labels(path: Path, dataset: str) -> list[TextRow]:
    """The rows of one set in a label file that may hold several (column `dataset`).

    Raises:
        UnreadableLabelsError: There is no column for the path.
    """
    rows = [row for row in read_table(path) if row.get("dataset", dataset) == dataset]
    if rows:
        find_column(rows[0], ["path"], "picture's path", str(path))
    return rows


def read_split(text: str, source: str) -> str | None:
    """The split that a label file names; None where it names none.

    Raises:
        UnreadableLabelsError: It is none of train, val and test, by whatever name.
    """
    split = parse_split(text)
    if split is None and known_text(text):
        raise UnreadableLabelsError(
            f"{source} has the split {text!r}, and there are train, val and test (also written {', '.join(SPLITS)}). "
            f"Write one of them there, or nothing where the rows may be divided as needed; a column that holds no "
            f"splits needs another name"
        )
    return split


def picture_names(pictures: Pictures, kind: str, expected: str) -> list[str]:
    """The names of all pictures.

    Raises:
        WrongLayoutError: There are none.
    """
    names = [name for name in pictures.names() if is_picture(name)]
    if not names:
        raise WrongLayoutError(f"{pictures.root} holds no pictures. As {kind}, it should hold {expected}")
    return names


def refuse_missing(tally: Tally, options: ImportOptions, pictures: Pictures, where: str) -> None:
    """Stop where too large a share of the labelled pictures is absent; `where` says what to do about it.

    Raises:
        MissingPicturesError: More than `options.max_missing` of all rows; the message names examples.
    """
    missing = tally.dropped[NO_PICTURE]
    if missing > options.max_missing * tally.rows:
        raise MissingPicturesError(
            f"{missing:,} of {tally.rows:,} labelled pictures ({missing / tally.rows:.1%}) are not in {pictures.root}, "
            f"for example {', '.join(tally.examples[NO_PICTURE])}. {where}, or allow more "
            f"(--max-missing {missing / tally.rows + 0.005:.2f})"
        )
