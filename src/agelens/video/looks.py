"""What a face looks like, cheaply: a coarse picture of it, to tell two people in one scene apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from agelens.types import Box, Pixels

Floats = NDArray[np.float64]

CELLS: Final = 8
"""Of the coarse picture, each way."""

POINTS: Final = 4
"""Points whose mean is a cell, each way."""

MARGIN: Final = 0.12
"""Of the box's sides, on each side: hair tells people apart."""


def describe_look(pixels: Pixels, box: Box) -> Floats:
    """The coarse picture of a face, its mean light and contrast taken out, of length 1; shape (192,).

    Args:
        pixels: RGB uint8, shape (H, W, 3).
        box: The face, in its pixels.
    """
    height, width = pixels.shape[:2]
    count = CELLS * POINTS
    share = (np.arange(count) + 0.5) / count * (1 + 2 * MARGIN) - MARGIN
    columns = np.clip((box.x + share * box.width).astype(np.intp), 0, width - 1)
    rows = np.clip((box.y + share * box.height).astype(np.intp), 0, height - 1)
    points = pixels[rows[:, None], columns].astype(np.float64)
    cells = points.reshape(CELLS, POINTS, CELLS, POINTS, 3).mean(axis=(1, 3))
    centred = (cells - cells.mean()).ravel()
    length = float(np.linalg.norm(centred))
    result: Floats = centred / length if length > 0 else centred
    return result


def measure_sharpness(pixels: Pixels, box: Box) -> float:
    """How sharp a face is: the mean step between neighbouring pixels, of 255."""
    height, width = pixels.shape[:2]
    left, top = max(int(box.x), 0), max(int(box.y), 0)
    part = pixels[top : min(int(box.y + box.height) + 1, height), left : min(int(box.x + box.width) + 1, width), 1]
    return float(np.abs(np.diff(part.astype(np.int16), axis=1)).mean()) if min(part.shape) > 1 else 0.0
