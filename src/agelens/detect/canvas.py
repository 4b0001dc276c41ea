"""Lays a region of a picture on a canvas that the detector can look at, and carries what it finds back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PillowImage

from agelens.detect.words import read_words
from agelens.detect.yunet import Candidates
from agelens.types import Box, Image

if TYPE_CHECKING:
    from agelens.detect.yunet import Floats, Planes

MULTIPLE = 32
GREY = 127
WHOLE = 1e-3  # by which share a ratio of scales may miss a whole number
SHIFTS = (16, 8, 0)  # of blue, green and red in a word


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a canvas lies in the picture.

    Attributes:
        region: What the canvas shows, in full-resolution pixels; it may reach beyond the picture.
        scale: Canvas pixels per full-resolution pixel.
        turns: Quarter turns, counter-clockwise, by which the region was turned before it was laid on the canvas.
    """

    region: Box
    scale: float
    turns: int = 0

    def carry_back(self, found: Candidates) -> Candidates:
        """The same candidates in full-resolution pixels of the upright picture."""
        if not len(found):
            return found
        corners = self.carry_points(found.boxes.reshape(-1, 2, 2))
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        return Candidates(boxes, found.scores, self.carry_points(found.points))

    def carry_points(self, points: Floats) -> Floats:
        """Canvas points, shape (..., 2), as points of the picture."""
        x, y = points[..., 0] / self.scale, points[..., 1] / self.scale
        width, height = self.region.width, self.region.height
        if self.turns == 1:
            x, y = width - y, x
        elif self.turns == 2:
            x, y = width - x, height - y
        elif self.turns == 3:
            x, y = y, height - x
        return np.stack([x + self.region.x, y + self.region.y], axis=-1).astype(np.float32)


def lay_out(image: Image, frame: Frame, *, stretch: float = 1.0) -> Planes:
    """Draws a frame's region on a canvas.

    Args:
        image: The picture; it is decoded again at a finer scale where the frame needs that.
        frame: What to draw. Where its region reaches beyond the picture the canvas is grey.
        stretch: How far what is held may be enlarged before the picture is decoded again instead.

    Returns:
        Blue, green and red planes, uint8, shape (3, H, W), both sides multiples of 32; the region starts at the top
        left, the rest is grey.
    """
    held = image.at_scale(frame.scale / stretch)
    width, height = held.size
    held_scale = held.scale
    region, scale = frame.region, frame.scale
    canvas_width, canvas_height = round(region.width * scale), round(region.height * scale)
    # The part of the region that the picture covers, in held pixels and on the canvas.
    x0, y0 = max(region.x * held_scale, 0.0), max(region.y * held_scale, 0.0)
    x1 = min((region.x + region.width) * held_scale, float(width))
    y1 = min((region.y + region.height) * held_scale, float(height))
    ratio = scale / held_scale
    left, top = round(x0 * ratio - region.x * scale), round(y0 * ratio - region.y * scale)
    part_width = min(max(round((x1 - x0) * ratio), 1), canvas_width - left)
    part_height = min(max(round((y1 - y0) * ratio), 1), canvas_height - top)

    turned = frame.turns % 2 == 1
    shown_width, shown_height = (canvas_height, canvas_width) if turned else (canvas_width, canvas_height)
    canvas = np.empty((3, _round_up(shown_height), _round_up(shown_width)), np.uint8)
    if canvas.shape[1:] != (part_height, part_width) or turned:
        canvas.fill(GREY)
    target = canvas[:, :shown_height, :shown_width]
    target = turn(target, -frame.turns) if frame.turns else target
    if x1 > x0 and y1 > y0 and part_width > 0 and part_height > 0:
        words = read_words(_resample(held, (x0, y0, x1, y1), (part_width, part_height)))
        for plane, shift in zip(target[:, top : top + part_height, left : left + part_width], SHIFTS, strict=True):
            np.copyto(plane, words >> shift if shift else words, casting="unsafe")  # the lowest byte of each
    return canvas


def turn(planes: Planes, turns: int) -> Planes:
    """Planes, shape (3, H, W), after so many quarter turns, counter-clockwise: a view."""
    return np.rot90(planes, turns, axes=(1, 2))


def shrink(image: Image, scale: float) -> Image:
    """The whole picture held at another scale; where that is a whole part of what is held, by averaging whole pixels.

    The last row and column of averages may lie partly beyond the picture. The result then counts as that much larger,
    so that its scale is true.
    """
    held = image.at_scale(scale)
    picture, ratio = held.picture, held.scale / scale
    divisor = round(ratio)
    if divisor > 1 and abs(ratio - divisor) < WHOLE * divisor:
        picture = picture.reduce(divisor)
        width, height = (max(round(side * divisor / held.scale), 1) for side in picture.size)
        return Image(picture, width, height)
    width, height = (max(round(side * scale), 1) for side in (image.width, image.height))
    if (width, height) != picture.size:
        kind = PillowImage.Resampling.BOX if width < picture.width else PillowImage.Resampling.BILINEAR
        picture = picture.resize((width, height), kind, reducing_gap=1.0)
    return Image(picture, image.width, image.height)


def _resample(held: Image, box: tuple[float, float, float, float], size: tuple[int, int]) -> PillowImage.Image:
    """A rectangle of what is held at another size, antialiased; a copy is made only of the rectangle."""
    x0, y0, x1, y1 = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    part = held.cut(x0, y0, x1, y1)
    if size == part.size:
        return part
    inner = (box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0)
    return part.resize(size, PillowImage.Resampling.BILINEAR, box=inner, reducing_gap=1.0)


def _round_up(length: int) -> int:
    return max(-(-length // MULTIPLE), 1) * MULTIPLE
