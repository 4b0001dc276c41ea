"""Pictures that are face crops already: taken as they are, and measured, so that prediction cuts alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PillowImage

from agelens.align import CropGeometry
from agelens.datasets.pack import scale_picture
from agelens.detect import FaceDetector, central_face
from agelens.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.training.crops import Cut
    from agelens.types import Image

LOOKED_AT = 200
LEAST = 20


def whole_cut(read: Callable[[int], Image], side: int, widening: float) -> Cut:
    """Gives each picture as a square, its edges repeated outwards so that augmentation has room.

    Args:
        read: Gives a row's picture.
        side: Side of the result in pixels.
        widening: By how much the result is wider than the picture.
    """
    inner = round(side / widening)
    before = (side - inner) // 2

    def cut(row: int) -> NDArray[np.uint8] | str:
        try:
            image = read(row)
        except InputError as error:
            return error.code
        pixels = np.asarray(scale_picture(PillowImage.fromarray(image.pixels), inner))
        margin = (before, side - inner - before)
        return np.pad(pixels, (margin, margin, (0, 0)), mode="edge")

    return cut


def measure_geometry(rows: int, read: Callable[[int], Image], size: int) -> CropGeometry | None:
    """Where faces lie in square pictures: the medians over up to 200 of them; None where too few are found.

    Args:
        rows: How many pictures there are.
        read: Gives a row's picture.
        size: Side that the geometry is to have.
    """
    detector = FaceDetector()
    distances, heights = [], []
    for row in np.linspace(0, rows - 1, min(rows, LOOKED_AT)).astype(int):
        try:
            image = read(int(row))
        except InputError:
            continue
        faces = detector.detect(image)
        if not faces:
            continue
        right, left = np.array(central_face(faces, image.width, image.height).landmarks[:2])
        side = max(image.width, image.height)
        distances.append(float(np.hypot(*(left - right))) / side)
        heights.append((float(right[1] + left[1]) / 2 + (side - image.height) / 2) / side)
    if len(distances) < LEAST:
        return None
    distance, height = float(np.median(distances)), float(np.median(heights))
    return CropGeometry(size, distance, height) if 0 < distance < 1 and 0 < height < 1 else None
