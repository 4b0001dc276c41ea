"""AgeDB (Moschoglou et al., CVPRW 2017; research use): 16,488 pictures of 568 famous people, 1 to 101 years.

`0_MariaCallas_35_f.jpg`: picture, person, age, gender.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from agelens.datasets.importing import Imported, ImportOptions, picture_names
from agelens.datasets.labels import parse_gender
from agelens.datasets.pictures import Pictures
from agelens.datasets.rows import OLDEST_LABEL, Row, Tally
from agelens.errors import WrongLayoutError

_NAME = re.compile(r"^(\d+)_(.+)_(\d{1,3})_([mf])$", re.IGNORECASE)


def import_agedb(pictures: Pictures, _options: ImportOptions) -> Imported:
    """Read AgeDB.

    Raises:
        WrongLayoutError: No name follows the set's rule.
    """
    tally = Tally()
    rows = []
    for path in picture_names(pictures, "agedb", "0_MariaCallas_35_f.jpg and so on"):
        tally.rows += 1
        match = _NAME.match(PurePosixPath(path).stem)
        if match is None:
            tally.drop("the name is not number_person_age_gender", path)
            continue
        age = float(match[3])
        if age > OLDEST_LABEL:
            tally.drop(f"age over {OLDEST_LABEL:.0f}", path)
            continue
        rows.append(
            Row(
                dataset="agedb",
                path=path,
                age_low=age,
                age_high=age,
                gender=parse_gender(match[4]),
                subject=match[2],
            )
        )
    if not rows:
        raise WrongLayoutError(f"{pictures.root} holds no file named as AgeDB names them (0_MariaCallas_35_f.jpg)")
    return Imported(rows, tally)
