"""FG-NET (Lanitis et al., 2002; research use): 1,002 scans of 82 people, 0 to 69 years.

`001A02.JPG`, `001A43a.JPG`: person, "A", age, and a letter where one age has several pictures. The set gives no
gender; `--labels FILE` may add one by person (columns subject, gender).
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from agelens.datasets.importing import Imported, ImportOptions, picture_names
from agelens.datasets.label_table import find_column, read_table
from agelens.datasets.labels import parse_gender, parse_whole
from agelens.datasets.pictures import Pictures
from agelens.datasets.rows import OLDEST_LABEL, KnownGender, Row, Tally
from agelens.errors import WrongLayoutError

_NAME = re.compile(r"^(\d{3})A(\d{2,3})[a-z]?$", re.IGNORECASE)


def import_fgnet(pictures: Pictures, options: ImportOptions) -> Imported:
    """Read FG-NET.

    Raises:
        WrongLayoutError: No name follows the set's rule.
        UnreadableLabelsError: The label file lacks a column.
    """
    genders = _genders(options)
    tally = Tally()
    rows = []
    for path in picture_names(pictures, "fgnet", "images/ with 001A02.JPG and so on"):
        tally.rows += 1
        match = _NAME.match(PurePosixPath(path).stem)
        if match is None:
            tally.drop("the name is not person-A-age", path)
            continue
        subject, age = match[1], float(match[2])
        if age > OLDEST_LABEL:
            tally.drop(f"age over {OLDEST_LABEL:.0f}", path)
            continue
        gender = genders.get(int(subject))
        if gender is None:
            tally.leave_unlabelled("gender: not given", path)
        rows.append(Row(dataset="fgnet", path=path, age_low=age, age_high=age, gender=gender, subject=subject))
    if not rows:
        raise WrongLayoutError(f"{pictures.root} holds no file named as FG-NET names them (001A02.JPG)")
    return Imported(rows, tally)


def _genders(options: ImportOptions) -> dict[int | None, KnownGender | None]:
    if options.labels is None:
        return {}
    table = list(read_table(options.labels))
    if not table:
        return {}
    subject = find_column(table[0], ["subject", "person", "id"], "person", str(options.labels))
    gender = find_column(table[0], ["gender", "sex"], "gender", str(options.labels))
    return {parse_whole(row[subject]): parse_gender(row[gender]) for row in table}
