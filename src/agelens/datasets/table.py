"""Your own pictures, labelled by a table: CSV, TSV, JSON Lines or Parquet with one row a face.

Columns are found by name (`path`/`file`/`image`, `age` or `age_low` and `age_high`, `gender`/`sex`,
`subject`/`identity`/ `person`, `race`, `split`, `fold`, `dataset`, `face`), or named (`--column age=Alter`). Only the
path is needed, and one of age and gender. Genders are words or letters; what numbers mean differs from set to set, so
it must be said (`--gender-code 0=male`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agelens.datasets.folder import SPLITS
from agelens.datasets.importing import NO_PICTURE, Imported, ImportOptions
from agelens.datasets.label_table import TextRow, find_column, read_table
from agelens.datasets.labels import Band, parse_age, parse_gender, parse_mangled_age, write_age
from agelens.datasets.pictures import FolderPictures, NameIndex, Pictures, is_picture
from agelens.datasets.rows import KnownGender, Row, Tally
from agelens.errors import UnreadableLabelsError, UsageError

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "picture"),
    "age": ("age", "age_band", "age_range", "age_group"),
    "age_low": ("age_low", "age_min"),
    "age_high": ("age_high", "age_max"),
    "gender": ("gender", "sex"),
    "subject": ("subject", "identity", "person", "user_id", "subject_id"),
    "race": ("race", "ethnicity"),
    "split": ("split", "partition", "subset"),
    "fold": ("fold",),
    "dataset": ("dataset",),
    "face": ("face", "face_id"),
}
MISSING = frozenset({"", "none", "nan", "null", "n/a", "na", "unknown", "u", "-1"})


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
    table = _read(labels)
    column = _find_columns(table[0], options, str(labels))["path"]
    return TablePictures(labels, (label[column] for label in table))


def _read(labels: Path) -> list[TextRow]:
    table = list(read_table(labels))
    if not table:
        raise UnreadableLabelsError(f"{labels} holds no rows")
    return table


def import_table(pictures: Pictures, options: ImportOptions) -> Imported:
    """Read a table of labels.

    Args:
        pictures: Those of `open_table`, or of the folder or archive that the paths are relative to.
        options: `labels` is the table.

    Raises:
        UsageError: No table is given, or `columns` names an unknown role.
        UnreadableLabelsError: A column is missing, or genders are numbers whose meaning is not given.
    """
    if options.labels is None:
        raise UsageError("a table is needed: agelens prepare table FILE.csv -o OUT")
    table = _read(options.labels)
    columns = _find_columns(table[0], options, str(options.labels))
    places = pictures.places if isinstance(pictures, TablePictures) else {}
    index = NameIndex(pictures, [name for name in pictures.names() if is_picture(name)])
    tally = Tally(rows=len(table))
    rows = []
    for label in table:
        file = label[columns["path"]]
        known = {role: label[name] for role, name in columns.items()}
        path = places.get(file) or index.find(file)
        if path is None:
            tally.drop(NO_PICTURE, file)
        elif row := _row(path, known, options, tally):
            rows.append(row)
    return Imported(rows, tally)


def _find_columns(first: TextRow, options: ImportOptions, source: str) -> dict[str, str]:
    unknown = set(options.columns) - set(COLUMNS)
    if unknown:
        raise UsageError(f"{', '.join(sorted(unknown))} is no role of a column. There are: {', '.join(COLUMNS)}")
    present = {name.lower(): name for name in first}
    columns = {role: find_column(first, [name], role, source) for role, name in options.columns.items()}
    for role, names in COLUMNS.items():
        found = next((present[name] for name in names if name in present), None)
        if found is not None:
            columns.setdefault(role, found)
    if "path" not in columns:
        find_column(first, COLUMNS["path"], "picture's path", source)
    if not columns.keys() & {"age", "age_low", "gender"}:
        find_column(first, COLUMNS["age"] + COLUMNS["gender"], "age or the gender", source)
    if ("age_low" in columns) != ("age_high" in columns):
        raise UnreadableLabelsError(f"{source} has only one of the two columns age_low and age_high")
    return columns


def _row(path: str, known: dict[str, str], options: ImportOptions, tally: Tally) -> Row | None:
    band, wrong = _age(known, path, tally)
    gender = _gender(known.get("gender", ""), options)
    if wrong:
        tally.drop(wrong, path)
        return None
    if band is None and gender is None:
        tally.drop("neither age nor gender", path)
        return None
    for task, label in (("age", band), ("gender", gender)):
        if label is None:
            tally.leave_unlabelled(f"{task}: not given", path)
    texts: dict[str, Any] = {role: known.get(role) or None for role in ("subject", "race", "face")}
    split, fold = known.get("split", "").lower(), known.get("fold", "")
    return Row(
        dataset=known.get("dataset") or "table",
        path=path,
        age_low=band[0] if band else None,
        age_high=band[1] if band else None,
        gender=gender,
        split=SPLITS.get(split, split) or None,
        fold=int(fold) if fold.isdigit() else None,
        **texts,
    )


def _age(known: dict[str, str], path: str, tally: Tally) -> tuple[Band | None, str]:
    """The band, and what is wrong with it."""
    if known.get("age_low", "").lower() not in MISSING:
        text = f"{known['age_low']}-{known['age_high']}"
    else:
        text = known.get("age", "")
    if text.lower() in MISSING:
        return None, ""
    band = parse_age(text)
    if band is None and (band := parse_mangled_age(text)):
        tally.remap(f"{text} -> {write_age(band)}", path)
    return band, "" if band else "age unreadable or impossible"


def _gender(text: str, options: ImportOptions) -> KnownGender | None:
    if text in options.gender_codes:
        return options.gender_codes[text]
    gender = parse_gender(text)
    if gender is None and text.lower() not in MISSING and text.replace(".", "").isdigit():
        raise UnreadableLabelsError(
            f"{options.labels} writes genders as numbers ({text}), and sets differ in what they mean. Say it: "
            f"--gender-code {text}=female or --gender-code {text}=male"
        )
    return gender
