"""All-Age-Faces (Cheng et al., 2019; research use): 13,322 mostly East Asian faces, 2 to 80 years, gender.

`NNNNNAaa.jpg`: serial number, "A", age. Serial numbers 0 to 7380 are women, the later ones men; the set's own lists
(`image sets/train.txt`, `val.txt`) say the same as 0 and 1 (0 = female, the reverse of UTKFace's rule), and are used
where they are there. A serial number is a picture, not a person: the set does not say who is who.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from agelens.datasets.importing import Imported, ImportOptions, picture_names
from agelens.datasets.pictures import Pictures
from agelens.datasets.rows import OLDEST_LABEL, KnownGender, Row, Tally
from agelens.errors import WrongLayoutError

LAST_WOMAN = 7380
GENDERS: dict[str, KnownGender] = {"0": "female", "1": "male"}

_PARTS = {"train": "train", "val": "test"}
"""What is published as "val" is what everybody is measured on; for choices a part of "train" is held back."""
_NAME = re.compile(r"^(\d{5})A(\d{2,3})$")


def import_aaf(pictures: Pictures, _options: ImportOptions) -> Imported:
    """Read All-Age-Faces. Where both are there, the aligned faces are taken and the original pictures left.

    Raises:
        WrongLayoutError: No name follows the set's rule.
    """
    names = picture_names(pictures, "aaf", "the folder of aligned faces (00000A02.jpg, ...)")
    aligned = [name for name in names if re.search(r"al?i?gl?i?ned", PurePosixPath(name).parent.as_posix().lower())]
    listed = _own_lists(pictures)
    tally = Tally()
    rows = []
    for path in aligned or names:
        tally.rows += 1
        stem = PurePosixPath(path).stem
        match = _NAME.match(stem)
        if match is None:
            tally.drop("the name is not serial-A-age", path)
            continue
        age = float(match[2])
        if age > OLDEST_LABEL:
            tally.drop(f"age over {OLDEST_LABEL:.0f}", path)
            continue
        gender, split = listed.get(stem, (None, None))
        if gender is None:
            gender = "female" if int(match[1]) <= LAST_WOMAN else "male"
        rows.append(Row(dataset="aaf", path=path, age_low=age, age_high=age, gender=gender, split=split))
    if not rows:
        raise WrongLayoutError(
            f"{pictures.root} holds no file named as All-Age-Faces names them (00000A02.jpg). Give the folder or "
            f"archive of the aligned faces"
        )
    return Imported(rows, tally)


def _own_lists(pictures: Pictures) -> dict[str, tuple[KnownGender | None, str | None]]:
    listed: dict[str, tuple[KnownGender | None, str | None]] = {}
    for name in pictures.names():
        split = _PARTS.get(PurePosixPath(name).stem)
        if PurePosixPath(name).suffix != ".txt" or split is None:
            continue
        for line in pictures.read(name).decode("utf-8", "replace").splitlines():
            fields = line.split()
            if len(fields) == 2 and fields[1] in GENDERS:
                listed[PurePosixPath(fields[0]).stem] = (GENDERS[fields[1]], split)
    return listed
