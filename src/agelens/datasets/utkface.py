"""UTKFace (Zhang et al., CVPR 2017; research use): 1 to 116 years, gender and race, all in the file's name.

`[age]_[gender]_[race]_[date].jpg`; gender 0 is male, 1 is female. Some names of the original set are broken: a space
or no dot before the ending is read as it was meant; of one with a field missing only what is certain is kept.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from agelens.datasets.importing import Imported, ImportOptions
from agelens.datasets.pictures import Pictures, is_picture
from agelens.datasets.rows import OLDEST_LABEL, KnownGender, Row, Tally
from agelens.errors import WrongLayoutError

RACES = ("White", "Black", "Asian", "Indian", "Other")
GENDERS: dict[str, KnownGender] = {"0": "male", "1": "female"}

_WHOLE = re.compile(r"^(\d{1,3})_([01])_([0-4])_\d{8,}")
# One field of the two is missing, or is there but empty: `39_1_2017...`, `53__0_2017...`.
_PARTIAL = re.compile(r"^(\d{1,3})_([01]?)_?([0-4]?)_?(\d{14,})")


def import_utkface(pictures: Pictures, _options: ImportOptions) -> Imported:
    """Read UTKFace from the names of its files, in whatever folders they lie.

    Raises:
        WrongLayoutError: No name follows the set's rule.
    """
    tally = Tally()
    rows = []
    for path in pictures.names():
        name = PurePosixPath(path).name
        # An ending that lost its dot is no ending; such a file still counts by its name.
        if not is_picture(name) and not _WHOLE.match(name):
            continue
        tally.rows += 1
        row = _row(path, name, tally)
        if row is not None:
            rows.append(row)
    if not rows:
        raise WrongLayoutError(
            f"{pictures.root} holds no file named as UTKFace names them (25_0_1_20170116221224609.jpg.chip.jpg). "
            f"Give the folder or archive of the aligned and cropped faces"
        )
    return Imported(rows, tally)


def _row(path: str, name: str, tally: Tally) -> Row | None:
    gender: KnownGender | None
    race: str | None
    if whole := _WHOLE.match(name):
        age, gender, race = float(whole[1]), GENDERS[whole[2]], RACES[int(whole[3])]
    elif partial := _PARTIAL.match(name):
        age, gender, race = float(partial[1]), None, None
        if "__" in name:  # the gender is there but empty, so the next field is the race
            race = RACES[int(partial[3])] if partial[3] else None
        # With one number between age and date, 1 may be "female" or "Black": neither is taken.
        tally.leave_unlabelled("gender: a field of the name is missing", path)
    else:
        tally.drop("the name is not age_gender_race_date", path)
        return None
    if age > OLDEST_LABEL:
        tally.drop(f"age over {OLDEST_LABEL:.0f}", path)
        return None
    return Row(dataset="utkface", path=path, age_low=age, age_high=age, gender=gender, race=race)
