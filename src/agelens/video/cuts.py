"""Where one scene ends and another begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from agelens.types import Pixels

GRID: Final = (36, 64)
"""Rows and columns of the points that are compared."""

LEAST_CHANGE: Final = 16.0
"""Mean change of a point's channels, of 255; below this nothing was cut."""

LEAST_MOVED: Final = 0.3
"""Share of the points whose colour must be another one: who moves before a wall keeps the colours together."""

OUTSTANDING: Final = 3.0
"""A cut changes so many times as much as the frames before it did: a hand-held camera changes all the time."""

_SETTLING: Final = 0.8
_BINS: Final = 4


class CutDetector:
    """Compares each frame with the one before: point by point, and by how often each colour occurs."""

    def __init__(self) -> None:
        self._points: NDArray[np.int16] | None = None
        self._colours: NDArray[np.int64] | None = None
        self._usual = 0.0

    def is_cut(self, pixels: Pixels) -> bool:
        """Whether a new scene begins with this frame, RGB uint8 of shape (H, W, 3); never with the first one."""
        rows = np.linspace(0, pixels.shape[0] - 1, GRID[0]).astype(np.intp)
        columns = np.linspace(0, pixels.shape[1] - 1, GRID[1]).astype(np.intp)
        points = pixels[rows[:, None], columns].astype(np.int16)
        step = 256 // _BINS
        bins = (points[..., 0] // step * _BINS + points[..., 1] // step) * _BINS + points[..., 2] // step
        colours = np.bincount(bins.ravel(), minlength=_BINS**3)
        before, colours_before = self._points, self._colours
        self._points, self._colours = points, colours
        if before is None or colours_before is None:
            return False
        change = float(np.abs(points - before).mean())
        moved = float(np.abs(colours - colours_before).sum()) / (2 * bins.size)
        cut = change > max(LEAST_CHANGE, OUTSTANDING * self._usual) and moved > LEAST_MOVED
        self._usual = 0.0 if cut else _SETTLING * self._usual + (1 - _SETTLING) * change
        return cut
