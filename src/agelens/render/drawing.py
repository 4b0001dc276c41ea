"""Shapes on pixels: blended, smooth at their edges, cut off at the frame, and touching no pixel but their own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agelens.types import Box, Point

if TYPE_CHECKING:
    from agelens.types import Pixels

Colour = tuple[int, int, int]
Mask = NDArray[np.float32]
"""Opacity, 0 to 1, shape (h, w)."""

INK: Colour = (16, 18, 22)
"""Letters, and the halo that sets a line off from a light ground."""
_HALO_OPACITY = 0.5


def blend(pixels: Pixels, x: int, y: int, mask: Mask, colour: Colour) -> None:
    """Lays `colour` over the pixels from (x, y) on, as opaque as the mask says; what lies outside is ignored."""
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + mask.shape[1], pixels.shape[1]), min(y + mask.shape[0], pixels.shape[0])
    if left >= right or top >= bottom:
        return
    alpha = mask[top - y : bottom - y, left - x : right - x, None]
    patch = pixels[top:bottom, left:right]
    patch[:] = (patch + alpha * (np.array(colour, dtype=np.float32) - patch) + 0.5).astype(np.uint8)


@lru_cache(maxsize=64)
def rounded(width: int, height: int, radius: float) -> Mask:
    """A filled rectangle with round corners."""
    x = np.abs(np.arange(width, dtype=np.float32) + 0.5 - width / 2) - (width / 2 - radius)
    y = np.abs(np.arange(height, dtype=np.float32) + 0.5 - height / 2) - (height / 2 - radius)
    outside = np.hypot(np.maximum(x, 0)[None, :], np.maximum(y, 0)[:, None])
    mask: Mask = np.clip(radius - outside + 0.5, 0, 1)
    mask.flags.writeable = False
    return mask


def draw_line(pixels: Pixels, ends: tuple[Point, Point], colour: Colour, width: float) -> None:
    """A straight line of `width` pixels between two points, on a halo."""
    (x0, y0), (x1, y1) = ends
    margin = math.ceil(width) + 2
    left, top = math.floor(min(x0, x1)) - margin, math.floor(min(y0, y1)) - margin
    right, bottom = math.ceil(max(x0, x1)) + margin, math.ceil(max(y0, y1)) + margin
    x = np.arange(left, right, dtype=np.float32)[None, :] + 0.5 - x0
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - y0
    length = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-6)
    along = np.clip((x * (x1 - x0) + y * (y1 - y0)) / length, 0, 1)
    distance = np.hypot(x - along * (x1 - x0), y - along * (y1 - y0)).astype(np.float32)
    blend(pixels, left, top, np.clip(width / 2 + 1.5 - distance, 0, 1) * _HALO_OPACITY, INK)
    blend(pixels, left, top, np.clip(width / 2 + 0.5 - distance, 0, 1), colour)


def draw_box(pixels: Pixels, box: Box, colour: Colour, stroke: int) -> None:
    """A thin round-cornered outline with thicker corners, on a dark halo that sets it off from light grounds."""
    left, top = round(box.x), round(box.y)
    right, bottom = max(round(box.x + box.width), left + 1), max(round(box.y + box.height), top + 1)
    short = min(right - left, bottom - top)
    radius = round(min(short * 0.12, 7 * stroke + 3))
    thick, arm = stroke + max(1, round(stroke * 0.7)), round(short * 0.26)
    if short < 24:  # on a tiny face thick corners would be all there is to see
        thick, arm = stroke, 0
    outline = (left, top, right, bottom)
    _draw_ring(pixels, outline, radius, _Pen(stroke + 2, INK, _HALO_OPACITY))
    if arm > radius:
        _draw_ring(pixels, outline, radius, _Pen(thick + 2, INK, _HALO_OPACITY), arm + 1)
    _draw_ring(pixels, outline, radius, _Pen(stroke, colour, 1.0))
    if arm > radius:
        _draw_ring(pixels, outline, radius, _Pen(thick, colour, 1.0), arm)


@dataclass(frozen=True, slots=True)
class _Pen:
    width: int
    colour: Colour
    opacity: float

    @property
    def outer(self) -> int:
        """How much of the width lies outside the outline."""
        return self.width // 2


@lru_cache(maxsize=256)
def _corner(radius: int, width: int, outer: int) -> Mask:
    """The top left quarter of a ring."""
    side = radius + outer
    away = side - np.arange(side, dtype=np.float32) - 0.5
    distance = np.hypot(away[None, :], away[:, None])
    mask: Mask = np.clip(side - distance + 0.5, 0, 1) * np.clip(distance - (side - width) + 0.5, 0, 1)
    mask.flags.writeable = False
    return mask


def _draw_ring(
    pixels: Pixels, outline: tuple[int, int, int, int], radius: int, pen: _Pen, arm: int | None = None
) -> None:
    """A round-cornered outline; with `arm`, only that much of each side from its corners on."""
    left, top, right, bottom = outline
    corner = _corner(radius, pen.width, pen.outer) * np.float32(pen.opacity)
    far_x, far_y = right - radius, bottom - radius
    blend(pixels, left - pen.outer, top - pen.outer, corner, pen.colour)
    blend(pixels, far_x, top - pen.outer, corner[:, ::-1], pen.colour)
    blend(pixels, left - pen.outer, far_y, corner[::-1], pen.colour)
    blend(pixels, far_x, far_y, corner[::-1, ::-1], pen.colour)
    across, down = [(left + radius, far_x)], [(top + radius, far_y)]
    if arm is not None:
        across = [(left + radius, left + arm), (right - arm, far_x)]
        down = [(top + radius, top + arm), (bottom - arm, far_y)]
    for y in (top - pen.outer, bottom + pen.outer - pen.width):
        for start, stop in across:
            _fill(pixels, (start, y, stop, y + pen.width), pen)
    for x in (left - pen.outer, right + pen.outer - pen.width):
        for start, stop in down:
            _fill(pixels, (x, start, x + pen.width, stop), pen)


def _fill(pixels: Pixels, rectangle: tuple[int, int, int, int], pen: _Pen) -> None:
    left, top, right, bottom = (max(edge, 0) for edge in rectangle)
    patch = pixels[top:bottom, left:right]
    if pen.opacity == 1:
        patch[:] = pen.colour
    else:
        patch[:] = (patch + np.float32(pen.opacity) * (np.array(pen.colour, dtype=np.float32) - patch)).astype(np.uint8)
