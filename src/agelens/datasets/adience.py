"""Adience (Eidinger, Enbar & Hassner, 2014; research use): 2,284 people's albums, 8 age groups, gender, five folds.

Expected: `faces/` or `aligned/` (`faces/<user_id>/coarse_tilt_aligned_face.<face_id>.<original_image>`,
`aligned/<user_id>/landmark_aligned_face.<face_id>.<original_image>`) and `fold_0_data.txt` ... `fold_4_data.txt`,
among the pictures or in the folder that `--labels` names. Both circulating editions are read: 19,370 rows, or 19,487
of which 117 repeat another row. A subject is a user (an album), and no user is in two folds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from agelens.datasets.adience_labels import LABEL_SETS, group_bands, group_label, read_age_label
from agelens.datasets.importing import NO_PICTURE, Imported, ImportOptions, pack_labels
from agelens.datasets.label_table import find_column, parse_table
from agelens.datasets.labels import parse_gender
from agelens.datasets.pictures import Pictures, open_pictures
from agelens.datasets.rows import Row, Tally
from agelens.errors import UnreadableLabelsError, WrongLayoutError

FOLDS = 5
PREFIXES = {"faces": "coarse_tilt_aligned_face", "aligned": "landmark_aligned_face"}

_FOLD = re.compile(r"^fold_(\d)_data\.txt$")
_FRONTAL = re.compile(r"^fold_frontal_(\d)_data\.txt$")
_FACE = re.compile(r"^(coarse_tilt_aligned_face|landmark_aligned_face)\.(\d+)\.(.+)$")
_COLUMNS = ("user_id", "original_image", "face_id", "age", "gender")

Key = tuple[str, str, str]
"""User, original image without its ending, face number: what tells faces apart; an image may hold several."""


@dataclass(frozen=True, slots=True)
class _Line:
    key: Key
    fold: int | None
    age: str
    gender: str

    def __str__(self) -> str:
        return f"{self.key[0]}/{self.key[2]}.{self.key[1]}"


def import_adience(pictures: Pictures, options: ImportOptions) -> Imported:
    """Read Adience.

    Raises:
        UsageError: There is no such label set.
        WrongLayoutError: A fold file is missing, or there are no pictures of the set.
        UnreadableLabelsError: A fold file lacks a column.
    """
    groups = tuple(map(group_label, group_bands(options.groups)))
    published = {group_label(band) for band in LABEL_SETS["adience"]}
    lines, edition = _read_lines(pictures, options)
    frontal = _frontal_keys(pictures, options) if options.frontal else None
    layout, files = _find_faces(pictures, options.layout)
    tally = Tally(rows=len(lines))
    tally.groups.update(dict.fromkeys(groups, 0))
    seen: dict[Key, _Line] = {}
    rows = []
    for line in lines:
        if line.age in published:
            tally.groups[line.age] += 1
        earlier = seen.setdefault(line.key, line)
        if earlier is not line:
            same = (earlier.age, earlier.gender) == (line.age, line.gender)
            tally.drop("repeats a row" if same else "repeats a row with another label", str(line))
        elif frontal is not None and line.key not in frontal:
            tally.drop("not in the frontal lists", str(line))
        elif row := _row(line, files.get(line.key), options, tally):
            rows.append(row)
    tally.pictures, tally.joined = len(files), sum(key in seen for key in files)
    return Imported(rows, tally, groups, {"edition": edition, "layout": layout, "label_set": options.groups})


def _row(line: _Line, path: str | None, options: ImportOptions, tally: Tally) -> Row | None:
    age = read_age_label(line.age, options.groups, repair=options.repair)
    gender = parse_gender(line.gender)
    if age.band is None and gender is None:
        tally.drop("neither age nor gender", str(line))
        return None
    if path is None:
        tally.drop(NO_PICTURE, str(line))
        return None
    if age.change:
        tally.remap(age.change, path)
    if age.lack:
        tally.leave_unlabelled(f"age: {age.lack}", path)
    if gender is None:
        tally.leave_unlabelled(f"gender: {line.gender or 'not given'}", path)
    low, high = age.band or (None, None)
    return Row(
        dataset="adience",
        path=path,
        age_low=low,
        age_high=high,
        gender=gender,
        subject=line.key[0],
        fold=line.fold,
        age_group=age.group,
        face=line.key[2],
    )


def _read_lines(pictures: Pictures, options: ImportOptions) -> tuple[list[_Line], str]:
    if options.labels is not None and options.labels.is_file():
        return _pack_lines(options), options.labels.name
    source = pictures if options.labels is None else open_pictures(options.labels)
    lists = _lists(source, _FOLD)
    missing = [f"fold_{fold}_data.txt" for fold in range(FOLDS) if fold not in lists]
    if missing:
        raise WrongLayoutError(
            f"{source.root} lacks {', '.join(missing)}. Adience comes with five fold files; put them beside the faces/ "
            f"or aligned/ folder, or name their folder: --labels DIR"
        )
    lines = [line for fold in range(FOLDS) for line in _parse(source, lists[fold], fold)]
    return lines, f"{len(lines)} rows"


def _lists(source: Pictures, pattern: re.Pattern[str]) -> dict[int, str]:
    """The lists by fold number; where a folder below holds another edition, the ones nearest to the root."""
    found: dict[int, str] = {}
    for name in sorted(source.names(), key=lambda name: (name.count("/"), name)):
        if match := pattern.match(PurePosixPath(name).name):
            found.setdefault(int(match[1]), name)
    folders = {PurePosixPath(name).parent for name in found.values()}
    if len(folders) > 1:
        raise WrongLayoutError(
            f"the fold files of {source.root} lie in several folders ({', '.join(sorted(map(str, folders)))}), perhaps "
            f"of two editions. Name the folder of one: --labels DIR"
        )
    return found


def _parse(source: Pictures, name: str, fold: int | None) -> Iterator[_Line]:
    # Only the tab parts fields: the ages hold a comma and a space.
    table = list(parse_table(source.read(name), name, delimiter="\t"))
    if not table:
        raise UnreadableLabelsError(f"{name} holds no rows")
    columns = [find_column(table[0], [column], column, name) for column in _COLUMNS]
    for row in table:
        user, image, face, age, gender = (row[column] for column in columns)
        yield _Line((user, _stem(image), face), fold, age, gender)


def _frontal_keys(pictures: Pictures, options: ImportOptions) -> set[Key]:
    source = open_pictures(options.labels) if options.labels is not None and options.labels.is_dir() else pictures
    lists = _lists(source, _FRONTAL)
    if len(lists) < FOLDS:
        raise WrongLayoutError(f"{source.root} lacks some of the five frontal lists (fold_frontal_0_data.txt, ...)")
    return {line.key for name in lists.values() for line in _parse(source, name, None)}


def _pack_lines(options: ImportOptions) -> list[_Line]:
    """Lines from a label file that names pictures: without the folds, the key is in the picture's name."""
    assert options.labels is not None
    lines = []
    for row in pack_labels(options.labels, "adience"):
        key = _key(row["path"])
        if key is not None:
            lines.append(_Line(key, None, row.get("age", ""), row.get("gender", "")))
    return lines


def _find_faces(pictures: Pictures, wanted: Literal["faces", "aligned"] | None) -> tuple[str, dict[Key, str]]:
    found: dict[str, dict[Key, str]] = {"faces": {}, "aligned": {}}
    for name in pictures.names():
        key = _key(name)
        if key is not None:
            layout = "faces" if PurePosixPath(name).name.startswith(PREFIXES["faces"]) else "aligned"
            found[layout].setdefault(key, name)
    layout = wanted or ("faces" if len(found["faces"]) >= len(found["aligned"]) else "aligned")
    if not found[layout] and wanted is not None and any(found.values()):
        raise WrongLayoutError(f"{pictures.root} holds no pictures of the {wanted}/ layout, only of the other one")
    return layout, found[layout]


def _key(path: str) -> Key | None:
    parts = path.replace("\\", "/").split("/")
    match = _FACE.match(parts[-1])
    return (parts[-2], _stem(match[3]), match[2]) if match and len(parts) > 1 else None


def _stem(image: str) -> str:
    # Copies are often re-encoded: `..._o.jpg` may lie there as `..._o.webp`.
    return PurePosixPath(image).stem
