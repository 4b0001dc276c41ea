"""APPA-REAL (Agustsson et al., FG 2017; research use): 7,591 pictures with a real age and the mean of guesses.

Expected: `train/`, `valid/`, `test/` and `gt_avg_train.csv`, `gt_avg_valid.csv`, `gt_avg_test.csv` (file_name,
num_ratings, apparent_age_avg, apparent_age_std, real_age); `allcategories_*.csv`, where there, add gender and race.
Where the cropped faces (`000000.jpg_face.jpg`) are there, they are taken. Ages are apparent ones unless real ones are
asked for.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from agelens.datasets.importing import NO_PICTURE, Imported, ImportOptions, own_table
from agelens.datasets.label_table import TextRow, find_column
from agelens.datasets.labels import known_text, parse_age, parse_gender
from agelens.datasets.pictures import Pictures
from agelens.datasets.rows import Row, Tally
from agelens.errors import WrongLayoutError

SPLITS = {"train": "train", "valid": "val", "test": "test"}
AGE_COLUMNS = {"apparent": "apparent_age_avg", "real": "real_age"}


def import_appa_real(pictures: Pictures, options: ImportOptions) -> Imported:
    """Read APPA-REAL.

    Raises:
        WrongLayoutError: A label list is missing.
        UnreadableLabelsError: One lacks a column.
    """
    names = pictures.names()
    by_place = {(PurePosixPath(name).parent.name, PurePosixPath(name).name): name for name in names}
    lists = {PurePosixPath(name).name: name for name in names if name.endswith(".csv")}
    present = {folder: f"gt_avg_{folder}.csv" for folder in SPLITS if f"gt_avg_{folder}.csv" in lists}
    if not present:
        raise WrongLayoutError(
            f"{pictures.root} holds none of the lists gt_avg_train.csv, gt_avg_valid.csv, gt_avg_test.csv. Give the "
            f"folder that was unpacked from appa-real-release"
        )
    tally = Tally()
    rows = []
    for folder, name in present.items():
        people = _people(pictures, lists.get(f"allcategories_{folder}.csv"))
        for label in own_table(pictures, lists[name]):
            tally.rows += 1
            file = label[find_column(label, ["file_name", "file"], "picture's name", name)]
            path = by_place.get((folder, f"{file}_face.jpg")) or by_place.get((folder, file))
            age = parse_age(label[find_column(label, [AGE_COLUMNS[options.age]], "age", name)])
            if age is None:
                tally.drop("age missing or impossible", f"{folder}/{file}")
            elif path is None:
                tally.drop(NO_PICTURE, f"{folder}/{file}")
            else:
                rows.append(_row(path, age, SPLITS[folder], people.get(file, {}), tally))
    return Imported(rows, tally, notes={"age": options.age})


def _row(path: str, age: tuple[float, float], split: str, person: TextRow, tally: Tally) -> Row:
    gender = parse_gender(person.get("gender", ""))
    if gender is None:
        tally.leave_unlabelled("gender: not given", path)
    return Row(
        dataset="appa_real",
        path=path,
        age_low=age[0],
        age_high=age[1],
        gender=gender,
        race=known_text(person.get("race", "")),
        split=split,
    )


def _people(pictures: Pictures, name: str | None) -> dict[str, TextRow]:
    if name is None:
        return {}
    table = own_table(pictures, name)
    return {row[find_column(row, ["file", "file_name"], "picture's name", name)]: row for row in table}
