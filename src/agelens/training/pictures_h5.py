"""An `.h5` as a manifest and its pictures: one of `agelens prepare`, or one of the project that agelens began from.

The latter has `x_train`, `x_test` (N, 227, 227, 3), floats of 0 to 255, and `y_train_age`, `y_test_age` (number of
one of Adience's twelve groups), `y_train_gender`, `y_test_gender` (0 male, 1 female), and no word on who is who.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.advice import how_to_install
from agelens.datasets.manifest import Columns, Manifest
from agelens.datasets.pack import open_pixels, read_pack
from agelens.datasets.rows import KnownGender, Row
from agelens.errors import DamagedDatasetError, MissingPackageError, NotFoundError
from agelens.groups import ADIENCE, ADIENCE12
from agelens.types import Image

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

KIND = "original"


def open_h5(path: Path) -> tuple[Manifest, Callable[[int], Image]]:
    """The manifest of an `.h5`, and what gives the picture of a row.

    Raises:
        NotFoundError: There is no such file.
        DamagedDatasetError: It is no `.h5`, was cut, or has another layout.
        MissingPackageError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingPackageError(f"an .h5 needs h5py: {how_to_install('train', 'h5py')}") from error
    if not path.is_file():
        raise NotFoundError(f"there is no {path}; make it with `agelens prepare KIND PATH -o {path}`")
    try:
        file = h5py.File(path, "r")
        is_ours, has_layout = "format" in file.attrs, "x_train" in file
    except OSError as error:
        raise DamagedDatasetError(f"{path} is no .h5, or was cut ({error}); prepare it again") from error
    if is_ours:
        file.close()
        pixels = open_pixels(path)
        return read_pack(path), lambda row: _image(pixels(row))
    if not has_layout:
        raise DamagedDatasetError(f"{path} has no x_train: it is not laid out as `agelens prepare` lays it out")
    return _open_original(file, path)


def _open_original(file: h5py.File, path: Path) -> tuple[Manifest, Callable[[int], Image]]:
    rows: list[Row] = []
    places: list[tuple[str, int]] = []
    bands: tuple[tuple[int, int], ...] = ADIENCE12
    for part in ("train", "test"):
        name = f"x_{part}"
        if name not in file:
            continue
        count = len(file[name])
        ages, width = _read_codes(file, f"y_{part}_age", count, path)
        genders, _ = _read_codes(file, f"y_{part}_gender", count, path)
        bands = ADIENCE if width == len(ADIENCE) else bands
        if ages.max(initial=-1) >= len(bands) or genders.max(initial=-1) > 1:
            raise DamagedDatasetError(f"{path} numbers its age groups up to {ages.max()}; {len(bands)} are known")
        for index, (age, gender) in enumerate(zip(ages.tolist(), genders.tolist(), strict=True)):
            rows.append(_row(f"{name}/{index}", part, None if age < 0 else bands[age], gender))
            places.append((name, index))
    fractions = all(float(np.max(file[name][:1], initial=0)) <= 1 for name in {place[0] for place in places})
    factor = 255.0 if fractions else 1.0
    groups = tuple(f"({low}, {high})" for low, high in bands)

    def read(row: int) -> Image:
        name, index = places[row]
        pixels = np.asarray(file[name][index])
        if pixels.dtype != np.uint8:
            pixels = np.clip(np.rint(pixels * factor), 0, 255).astype(np.uint8)
        return _image(pixels)

    provenance = {"read": f"{path.name}, in the layout of the original project; it does not say who is who"}
    return Manifest(KIND, path.absolute(), Columns.of(rows), groups, provenance), read


def _row(name: str, part: str, band: tuple[int, int] | None, gender: int) -> Row:
    genders: dict[int, KnownGender] = {0: "male", 1: "female"}
    low, high = (None, None) if band is None else (float(band[0]), float(band[1]))
    group = None if band is None else f"({band[0]}, {band[1]})"
    return Row(KIND, name, low, high, genders.get(gender), split=part, age_group=group)


def _read_codes(file: h5py.File, name: str, count: int, path: Path) -> tuple[NDArray[np.int64], int]:
    """Class numbers, shape (N,), -1 where unknown, of numbers or of one-hot rows; and how wide those rows are."""
    if name not in file:
        return np.full(count, -1), 0
    codes: NDArray[Any] = np.asarray(file[name][()])
    width = codes.shape[1] if codes.ndim == 2 else 0
    codes = codes.argmax(axis=1) if width > 1 else codes.reshape(-1)
    if len(codes) != count:
        raise DamagedDatasetError(f"{path} holds {count} pictures and {len(codes)} labels in {name}; prepare it again")
    return codes.astype(np.int64), width


def _image(pixels: NDArray[np.uint8]) -> Image:
    return Image(pixels, pixels.shape[1], pixels.shape[0])
