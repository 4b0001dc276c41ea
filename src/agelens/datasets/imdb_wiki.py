"""IMDB-WIKI (Rothe, Timofte & Van Gool, 2015; research use): half a million faces off the web.

Expected: `imdb.mat` or `wiki.mat` beside the numbered folders of its pictures. The age is the year of the photograph
less the year of birth, and wrong for many: impossible ones (below 0, above 100) are refused, so are pictures without
a face, with a face found too weakly, and with a second face (whose age is it?). Gender 0 is female, 1 is male.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from datetime import date
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from agelens.advice import how_to_install
from agelens.datasets.importing import NO_PICTURE, Imported, ImportOptions
from agelens.datasets.labels import known_text
from agelens.datasets.pictures import Pictures
from agelens.datasets.rows import KnownGender, Row, Tally
from agelens.errors import MissingPackageError, UnreadableLabelsError, WrongLayoutError

GENDERS: dict[float, KnownGender] = {0.0: "female", 1.0: "male"}
OLDEST_BELIEVED = 100

_MATLAB_EPOCH = 366
"""Days between Matlab's day 0 (year 0) and Python's (year 1)."""

_FIELDS = ("dob", "photo_taken", "full_path", "gender", "name", "face_location", "face_score", "second_face_score")


def import_imdb_wiki(pictures: Pictures, options: ImportOptions) -> Imported:
    """Read IMDB-WIKI.

    Raises:
        WrongLayoutError: Neither `imdb.mat` nor `wiki.mat` is there.
        UnreadableLabelsError: It is damaged, or lacks a field.
        MissingPackageError: SciPy, which reads `.mat`, is not installed.
    """
    names = pictures.names()
    lists = [name for name in names if PurePosixPath(name).name in ("imdb.mat", "wiki.mat")]
    if not lists:
        raise WrongLayoutError(
            f"{pictures.root} holds neither imdb.mat nor wiki.mat. Give the folder imdb_crop or wiki_crop"
        )
    present = set(names)
    tally = Tally()
    rows: list[Row] = []
    for name in lists:
        kind = PurePosixPath(name).stem
        folder = PurePosixPath(name).parent
        for entry in _entries(pictures.read(name), kind, name):
            tally.rows += 1
            path = (folder / str(entry["full_path"])).as_posix()
            reason = _refusal(entry, options) or (NO_PICTURE if path not in present else "")
            if reason:
                tally.drop(reason, path)
                continue
            rows.append(_row(entry, kind, path, tally))
    return Imported(rows, tally)


def age_at(born: float, taken: float) -> float | None:
    """Whole years of life in the middle of the year `taken`, from a Matlab day number of birth.

    Returns:
        None where the day of birth is none.
    """
    if not math.isfinite(born) or not math.isfinite(taken) or not 1 <= born - _MATLAB_EPOCH <= date.max.toordinal():
        return None
    birth = date.fromordinal(int(born) - _MATLAB_EPOCH)
    # Only the year of the photograph is known: it counts as taken on the first of July.
    return taken - birth.year - (0 if birth.month < 7 else 1)


def _refusal(entry: dict[str, Any], options: ImportOptions) -> str:
    age = age_at(float(entry["dob"]), float(entry["photo_taken"]))
    if age is None:
        return "no date of birth"
    if age < 0:
        return "age below 0"
    if age > OLDEST_BELIEVED:
        return f"age above {OLDEST_BELIEVED}"
    if not math.isfinite(float(entry["face_score"])):
        return "no face found"
    if float(entry["face_score"]) < options.min_face_score:
        return f"face score below {options.min_face_score:g}"
    return "" if math.isnan(float(entry["second_face_score"])) else "a second face"


def _row(entry: dict[str, Any], kind: str, path: str, tally: Tally) -> Row:
    age = age_at(float(entry["dob"]), float(entry["photo_taken"]))
    gender = GENDERS.get(float(entry["gender"]))
    if gender is None:
        tally.leave_unlabelled("gender: not given", path)
    # SciPy gives an empty text of a MATLAB file as an array without elements.
    name = entry["name"] if isinstance(entry["name"], str) else ""
    # The crops hold the face with 40% margin, so the place in the uncropped picture says nothing about them.
    return Row(dataset=kind, path=path, age_low=age, age_high=age, gender=gender, subject=known_text(str(name)))


def _entries(content: bytes, kind: str, name: str) -> Iterator[dict[str, Any]]:
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise MissingPackageError(f"reading .mat files needs SciPy: {how_to_install('mat', 'scipy')}") from error
    try:
        table = loadmat(io.BytesIO(content), squeeze_me=True, variable_names=[kind])[kind]
        columns = {field: np.atleast_1d(table[field].item()) for field in _FIELDS}
    except (MatReadError, KeyError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise UnreadableLabelsError(f"{name} is damaged or lacks a field of {kind}.mat: {error!r}") from error
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(_FIELDS, values, strict=True))
