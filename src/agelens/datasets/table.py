"""Your own pictures, labelled by a table: CSV, TSV, JSON Lines or Parquet with one row a face.

Columns are found by name (`path`/`file`/`image`, `age` or `age_low` and `age_high`, `gender`/`sex`,
`subject`/`identity`/`person`, `race`, `split`, `fold`, `dataset`, `face`, `box_x` to `box_height` or `x`, `y`, `width`,
`height`), or named (`--column age=Alter`). Only the path is needed, and one of age and gender. Genders are words or
letters; what numbers mean differs from set to set, so it must be said (`--gender-code 0=male`), and so must words of
other languages (`--gender-code weiblich=female`). A row without a box is about the face in the middle of its picture.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agelens.datasets.importing import NO_PICTURE, Imported, ImportOptions, read_split
from agelens.datasets.label_table import TextRow, read_table
from agelens.datasets.labels import (
    Band,
    known_text,
    parse_age,
    parse_gender,
    parse_mangled_age,
    parse_whole,
    with_point,
    write_age,
)
from agelens.datasets.matching import match_paths
from agelens.datasets.pictures import FolderPictures, Pictures, is_picture
from agelens.datasets.rows import KnownGender, Row, Tally
from agelens.datasets.table_columns import BOX, find_columns
from agelens.errors import UnreadableLabelsError, UsageError

BOXLESS = "its box is not x, y, width, height in pixels"
AGELESS = "age unreadable or impossible"
NO_GENDER = "gender: not given"
FOLDLESS = "its fold is not a whole number"
HIGHEST_FOLD = 32767
AS_WRITTEN = ("path", "gender", "box_x", "box_y")
"""Roles of which -1 is no sign that nothing is known: it may be the code of a gender, or just outside the picture."""

Place = tuple[float, float, float, float]


class TablePictures(FolderPictures):
    """The pictures that a table names: by absolute paths, relative to its own folder, or somewhere below that.

    Args:
        labels: The table.
        paths: Its paths as they stand there.

    Attributes:
        root: The deepest folder that all of them lie below.
        places: Name, relative to `root`, of every path that is a file as it stands.
    """

    def __init__(self, labels: Path, paths: Iterable[str]) -> None:
        folder = Path(os.path.normpath(labels.expanduser().absolute().parent))
        given = list(dict.fromkeys(paths))
        files = {path: file for path in given if (file := _resolve(folder, path))}
        outside = [file.parent for file in files.values() if not file.is_relative_to(folder)]
        super().__init__(Path(os.path.commonpath([folder, *outside])))
        self.places = {path: file.relative_to(self.root).as_posix() for path, file in files.items()}
        # Only where a path is no file as it stands, the folders below the table are searched for one that it may mean.
        others = FolderPictures(folder).names() if len(files) < len(given) else []
        below = folder.relative_to(self.root)
        self._names = sorted({*self.places.values(), *((below / name).as_posix() for name in others)})

    def names(self) -> list[str]:
        return self._names


def _resolve(folder: Path, path: str) -> Path | None:
    """The file that a path is, from the table's folder; None where there is none."""
    joined = folder / path.replace("\\", "/")
    tidy = Path(os.path.normpath(joined))
    try:
        return tidy if tidy.is_file() else joined.resolve() if joined.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def open_table(labels: Path, options: ImportOptions) -> TablePictures:
    """The pictures of a table that lie wherever it says.

    Raises:
        UnreadableLabelsError: The table can't be read, holds no rows, or has no column of paths.
    """
    table, columns = _read(labels, options)
    return TablePictures(labels, (label[columns["path"]] for label in table))


def _read(labels: Path, options: ImportOptions) -> tuple[list[TextRow], dict[str, str]]:
    table = list(read_table(labels))
    if not table:
        raise UnreadableLabelsError(f"{labels} holds no rows")
    return table, find_columns(table[0], options.columns, str(labels))


def import_table(pictures: Pictures, options: ImportOptions) -> Imported:
    """Read a table of labels.

    Args:
        pictures: Those of `open_table`, or of the folder or archive that the paths are relative to.
        options: `labels` is the table.

    Raises:
        UsageError: No table is given, or `columns` names an unknown role.
        UnreadableLabelsError: A column is missing, genders are numbers whose meaning is not given, or a split is none
            of train, val and test.
    """
    if options.labels is None:
        raise UsageError("a table is needed: agelens prepare table FILE.csv -o OUT")
    table, columns = _read(options.labels, options)
    places = pictures.places if isinstance(pictures, TablePictures) else {}
    names = filter(is_picture, pictures.names())
    found = match_paths(pictures.root, names, (label[columns["path"]] for label in table), places)
    tally = Tally(rows=len(table))
    rows = []
    for label in table:
        file = label[columns["path"]]
        known = {
            role: label[name] if role in AS_WRITTEN else known_text(label[name]) or "" for role, name in columns.items()
        }
        path = found.get(file)
        if path is None:
            tally.drop(NO_PICTURE, file)
        elif row := _row(path, known, options, tally):
            rows.append(row)
    return Imported(rows, tally)


def _row(path: str, known: dict[str, str], options: ImportOptions, tally: Tally) -> Row | None:
    band, repair = _age(known)
    box, fold = _box(known), parse_whole(known.get("fold", ""))
    gender = _gender(known.get("gender", ""), options)
    ungendered = "" if gender else _why_no_gender(known.get("gender", ""))
    wrong = _fault(known, band, box, fold)
    if not (wrong or band or gender):
        wrong = "neither age nor gender" if ungendered == NO_GENDER else ungendered
    if wrong:
        tally.drop(wrong, path)
        return None
    if repair:
        tally.remap(repair, path)
    for lacking in ("" if band else "age: not given", ungendered):
        if lacking:
            tally.leave_unlabelled(lacking, path)
    texts: dict[str, Any] = {role: known.get(role) or None for role in ("subject", "race", "face")}
    return Row(
        dataset=known.get("dataset") or "table",
        path=path,
        age_low=band[0] if band else None,
        age_high=band[1] if band else None,
        gender=gender,
        split=read_split(known.get("split", ""), str(options.labels)),
        fold=fold,
        box=box,
        **texts,
    )


def _fault(known: dict[str, str], band: Band | None, box: Place | None, fold: int | None) -> str:
    """Why a row can't be used: something is given, and can't be read."""
    if band is None and _is_given(known, "age", "age_low", "age_high"):
        return AGELESS
    if box is None and _is_given(known, "box_width", "box_height"):
        return BOXLESS
    return FOLDLESS if _is_given(known, "fold") and (fold is None or fold > HIGHEST_FOLD) else ""


def _is_given(known: dict[str, str], *roles: str) -> bool:
    return any(known.get(role) for role in roles)


def _age(known: dict[str, str]) -> tuple[Band | None, str]:
    """The band, and what was done to read it."""
    written = [known["age_low"], known["age_high"]] if known.get("age_low") else [known.get("age", "")]
    text = "-".join(map(with_point, written))
    if band := parse_age(text):
        return band, "" if text == "-".join(written) else "a decimal comma -> a point"
    band = parse_mangled_age(text)
    return band, f"{text} -> {write_age(band)}" if band else ""


def _box(known: dict[str, str]) -> Place | None:
    try:
        x, y, width, height = (float(with_point(known[role])) for role in BOX)
    except (KeyError, ValueError):
        return None
    # Numbers up to 1 would be shares of the picture's sides.
    whole = math.isfinite(x + y + width + height) and min(width, height) > 0 and max(width, height) > 1
    return (x, y, width, height) if whole else None


def _why_no_gender(text: str) -> str:
    """Why a text gives no gender, and what to do about it."""
    if known_text(text) is None:
        return NO_GENDER
    return f"gender: {text!r} not understood (--gender-code {shlex.quote(f'{text}=female')} or =male says it)"


def _gender(text: str, options: ImportOptions) -> KnownGender | None:
    code = text if text in options.gender_codes else text.removesuffix(".0")
    if code in options.gender_codes:
        return options.gender_codes[code]
    gender = parse_gender(text)
    if gender is None and known_text(text) and code.replace(".", "").isdigit():
        raise UnreadableLabelsError(
            f"{options.labels} writes genders as numbers ({text}), and sets differ in what they mean. Say it: "
            f"--gender-code {code}=female or --gender-code {code}=male"
        )
    return gender
