"""The checked list of a data set's faces: columns in memory, one fingerprint, and where it all came from.

Unknown values: NaN for ages and boxes, -1 for `gender`, `fold` and `group`, None for texts. `gender` is 0 for male
and 1 for female, the target of a "female probability". `box` is (N, 4), `dhash` (N, 5): 64 bits, then 256 finer ones;
all zero where `group` is -1, since a picture without a hash is in no group.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from agelens.datasets.pictures import Pictures, open_pictures
from agelens.datasets.rows import KnownGender, Row

TEXTS = ("dataset", "path", "subject", "race", "split", "age_group", "face")
GENDERS: tuple[KnownGender, KnownGender] = ("male", "female")
"""The meaning of the codes 0 and 1 of the `gender` column."""

Texts = NDArray[np.object_]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The rows, column by column; all of one length N. The names are those of `Row`."""

    dataset: Texts
    path: Texts
    age_low: NDArray[np.float32]
    age_high: NDArray[np.float32]
    gender: NDArray[np.int8]
    subject: Texts
    fold: NDArray[np.int16]
    race: Texts
    split: Texts
    age_group: Texts
    face: Texts
    box: NDArray[np.float32]
    group: NDArray[np.int32]
    dhash: NDArray[np.uint64]

    @staticmethod
    def of(rows: Sequence[Row]) -> Columns:
        """Columns of the given rows, in their order. Equal texts are held once."""
        held: dict[str, str] = {}

        def texts(name: str) -> Texts:
            values = (getattr(row, name) for row in rows)
            return _objects([None if value is None else held.setdefault(value, value) for value in values])

        def numbers(name: str, missing: float, kind: type[np.generic]) -> NDArray[Any]:
            values = (getattr(row, name) for row in rows)
            return np.array([missing if value is None else value for value in values], dtype=kind)

        codes = {None: -1, "male": 0, "female": 1}
        no_box = (float("nan"),) * 4
        return Columns(
            **{name: texts(name) for name in TEXTS},
            age_low=numbers("age_low", float("nan"), np.float32),
            age_high=numbers("age_high", float("nan"), np.float32),
            gender=np.array([codes[row.gender] for row in rows], dtype=np.int8),
            fold=numbers("fold", -1, np.int16),
            box=np.array([row.box or no_box for row in rows], dtype=np.float32).reshape(len(rows), 4),
            group=numbers("group", -1, np.int32),
            dhash=np.frombuffer(
                b"".join(bytes.fromhex(row.dhash) if row.dhash else bytes(40) for row in rows), dtype=">u8"
            )
            .astype(np.uint64)
            .reshape(len(rows), 5),
        )

    def take(self, chosen: NDArray[Any]) -> Columns:
        """The rows of an index array or a boolean mask."""
        return Columns(**{name: getattr(self, name)[chosen] for name in self.__slots__})

    def row(self, index: int) -> Row:
        """One row as a value."""
        gender, fold, group = int(self.gender[index]), int(self.fold[index]), int(self.group[index])
        low, high, box = float(self.age_low[index]), float(self.age_high[index]), self.box[index]
        return Row(
            **{name: getattr(self, name)[index] for name in TEXTS},
            age_low=None if np.isnan(low) else _shortest(low),
            age_high=None if np.isnan(high) else _shortest(high),
            gender=None if gender < 0 else GENDERS[gender],
            fold=None if fold < 0 else fold,
            box=None if np.isnan(box[0]) else cast(tuple[float, float, float, float], tuple(map(_shortest, box))),
            group=None if group < 0 else group,
            dhash=None if group < 0 else self.dhash[index].astype(">u8").tobytes().hex(),
        )


@dataclass(frozen=True, eq=False)
class Manifest:
    """A data set, ready for training and evaluation.

    Attributes:
        kind: The importer that made it ("utkface", "adience", ...).
        root: The folder or archive that holds the pictures.
        columns: The rows.
        groups: Labels of the age groups of the set's classification protocol, in order; empty where it has none.
        provenance: Counts of kept, remapped and dropped rows by reason, and how the manifest was made.
        leaky: Whether leaks between splits were found and allowed; every result made from it says so.
        versions: The versions of agelens and of the libraries that decoded the pictures.
    """

    kind: str
    root: Path
    columns: Columns
    groups: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    leaky: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)

    @cached_property  # which is why this value has no slots: most manifests on the way are never asked for it
    def fingerprint(self) -> str:
        """SHA-256 over the content of all rows, in hexadecimal.

        The same in whatever order the rows stand and wherever the pictures lie. `group` is left out, since it is drawn
        from `dhash`.
        """
        digests = sorted(hashlib.sha256(canonical_row(row, with_group=False)).digest() for row in self)
        return hashlib.sha256(b"".join(digests)).hexdigest()

    @cached_property
    def order(self) -> str:
        """SHA-256 over which face stands in which row, in hexadecimal: what numbers of rows depend on.

        Unlike the fingerprint it changes with the order, and with nothing else that the rows say.
        """
        columns = self.columns
        faces = [columns.path.tolist(), columns.face.tolist(), columns.box.tolist()]
        return hashlib.sha256(json.dumps(faces).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.columns.path)

    def __getitem__(self, index: int) -> Row:
        return self.columns.row(index)

    def __iter__(self) -> Iterator[Row]:
        return (self.columns.row(index) for index in range(len(self)))

    def take(self, chosen: NDArray[Any]) -> Manifest:
        """The same set with only the rows of an index array or a boolean mask."""
        return replace(self, columns=self.columns.take(chosen))

    def with_splits(self, split: Texts) -> Manifest:
        """The same set, divided as the texts of shape (N,) say."""
        return replace(self, columns=replace(self.columns, split=split))

    def in_split(self, split: str) -> NDArray[np.bool_]:
        """Mask (N,) of the rows of one split."""
        return np.asarray(self.columns.split == split, dtype=bool)

    @property
    def exact_age(self) -> NDArray[np.float32]:
        """The age where it is known as one number, shape (N,), else NaN."""
        low, high = self.columns.age_low, self.columns.age_high
        return np.where(low == high, low, np.float32("nan"))

    @property
    def typical_age(self) -> NDArray[np.float32]:
        """The middle of the age band, shape (N,), but at most five years above its lower end; NaN where unknown.

        A wide or open band ("60-100", "70+") has most of its people near its lower end.
        """
        low, high = self.columns.age_low, self.columns.age_high
        return np.minimum((low + high) / 2, low + 5)

    def open_pictures(self) -> Pictures:
        """The pictures that `columns.path` names.

        Raises:
            NotFoundError: The root is no longer where it was.
        """
        return open_pictures(self.root)


def canonical_row(row: Row, *, with_group: bool = True) -> bytes:
    """One row as JSON in one fixed spelling, what is unknown left out."""
    known = {name: value for name in Row.__slots__ if (value := getattr(row, name)) is not None}
    if not with_group:
        known.pop("group", None)
    return json.dumps(known, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def _shortest(value: float) -> float:
    # float32 keeps 24.7 as 24.700000762...; the shortest decimal that rounds to it is what the label file said.
    return float(str(np.float32(value)))


def _objects(values: list[str | None]) -> Texts:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
