"""Which imported rows can't be used, whatever their set, told before any picture is decoded.

A name that is not UTF-8 stands in no manifest. Of several rows of one picture, each must say which face it is about:
else all of them would be taken for the face in the middle.
"""

from __future__ import annotations

from dataclasses import replace

from agelens.datasets.manifest import TEXTS
from agelens.datasets.rows import Row, Tally

NAME = "its name is not UTF-8: rename it"
REPEATED = "repeats a row"
CONTRADICTED = "repeats a row with another label"
UNPLACED = "one of several faces of its picture, without a box"


def sift(rows: list[Row], tally: Tally) -> list[Row]:
    """The rows that can be used; the others are dropped and counted.

    Faces of one picture that have boxes and no numbers are numbered, so that they stay told apart.
    """
    written = []
    for row in rows:
        if reason := _unwritable(row):
            tally.drop(reason, row.path)
        else:
            written.append(row)
    by_path: dict[str, list[Row]] = {}
    for row in written:
        by_path.setdefault(row.path, []).append(row)
    if len(by_path) == len(written):
        return written
    return [row for of_one in by_path.values() for row in _tell_apart(of_one, tally)]


def _unwritable(row: Row) -> str:
    for name in TEXTS:
        try:
            (getattr(row, name) or "").encode()
        except UnicodeEncodeError:
            return NAME if name == "path" else f"its {name} is not UTF-8"
    return ""


def _tell_apart(rows: list[Row], tally: Tally) -> list[Row]:
    """Of the rows of one picture, those of which it is clear which face they are about."""
    if len(rows) == 1:
        return rows
    distinct = list(dict.fromkeys(rows))
    for row in rows[len(distinct) :]:
        tally.drop(REPEATED, row.path)
    labels: dict[object, set[Row]] = {}
    for row in distinct:
        labels.setdefault(row.box, set()).add(_label(row))
    kept = []
    for row in distinct:
        if row.box is None and (len(labels) > 1 or len(labels[None]) > 1):
            tally.drop(UNPLACED, row.path)
        elif len(labels[row.box]) > 1:
            tally.drop(CONTRADICTED, row.path)
        else:
            kept.append(row)
    return _number(kept)


def _number(rows: list[Row]) -> list[Row]:
    """The rows of one picture, their faces numbered by their places where the set doesn't number each differently."""
    faces = {row.box: row.face for row in rows}
    if None in faces or len({*faces.values()} - {None}) == len(faces):
        return rows
    numbers = {box: str(number) for number, box in enumerate(sorted(filter(None, faces)), 1)}
    return [replace(row, face=numbers[row.box]) for row in rows if row.box]


def _label(row: Row) -> Row:
    """What a row says of its face. Where it stands is no label: a face in two splits is a leak, and told as one."""
    return replace(row, dataset="", split=None, fold=None)
