"""Your own pictures, labelled by the folders that they lie in.

Every folder of a picture's path that means something is read: an age or age band (`35`, `18-25`, `70+`), a gender
(`male`, `women`), a split (`train`, `val`, `test`), in any order and depth: `train/female/18-25/x.jpg`. Other
folders' names are passed over. Where two folders disagree, the picture is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TypeVar

from agelens.datasets.importing import Imported, ImportOptions, picture_names
from agelens.datasets.labels import parse_age, parse_gender, parse_split
from agelens.datasets.pictures import Pictures
from agelens.datasets.rows import KnownGender, Row, Tally
from agelens.errors import WrongLayoutError

Label = TypeVar("Label")


def import_folder(pictures: Pictures, _options: ImportOptions) -> Imported:
    """Read pictures whose folders are their labels.

    Raises:
        WrongLayoutError: No folder's name is a label.
    """
    tally = Tally()
    rows = []
    for path in picture_names(pictures, "folder", "folders such as 18-25/ or male/"):
        tally.rows += 1
        folders = PurePosixPath(path).parts[:-1]
        ages = _distinct(map(parse_age, folders))
        genders: list[KnownGender] = _distinct(map(parse_gender, folders))
        splits = _distinct(map(parse_split, folders))
        if max(len(ages), len(genders), len(splits)) > 1:
            tally.drop("two of its folders disagree", path)
            continue
        if not ages and not genders:
            tally.drop("none of its folders is an age or a gender", path)
            continue
        low, high = ages[0] if ages else (None, None)
        gender = genders[0] if genders else None
        for task, found in (("age", ages), ("gender", genders)):
            if not found:
                tally.leave_unlabelled(f"{task}: not given", path)
        rows.append(
            Row(
                dataset="folder",
                path=path,
                age_low=low,
                age_high=high,
                gender=gender,
                split=splits[0] if splits else None,
            )
        )
    if not rows:
        raise WrongLayoutError(
            f"no folder of {pictures.root} is named for an age (35, 18-25, 70+) or a gender (male, female), "
            f"for example {tally.examples[next(iter(tally.examples))][0]}"
        )
    return Imported(rows, tally)


def _distinct(labels: Iterable[Label | None]) -> list[Label]:
    return list(dict.fromkeys(label for label in labels if label is not None))
