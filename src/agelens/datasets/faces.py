"""Where a row's face is in its picture: which of the found faces it is, and the part of the picture around it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from PIL import Image as PillowImage

if TYPE_CHECKING:
    from agelens.types import AnyFace, Box, Image

LEAST_OVERLAP = 0.2
"""Intersection over union of a row's box and a face's from which on they are the same face."""
ROOM = 2.0
"""Side of the square around a face, in longer sides of its box: room for hair, chin and a turn."""
GREY = (128, 128, 128)

Corners = Collection[float]
"""A row's box: x, y, width, height in pixels of the upright picture."""


def find_in_box(faces: Sequence[AnyFace], box: Corners) -> AnyFace | None:
    """The face that a row's box means: the one that meets it best; None where none does."""
    best = max(faces, key=lambda face: _overlap(face.box, box), default=None)
    return best if best is not None and _overlap(best.box, box) >= LEAST_OVERLAP else None


def lies_within(box: Corners, width: int, height: int) -> bool:
    """Whether a box can be of a face in a picture of that size: its middle is inside, and it is no larger by half."""
    x, y, across, down = box
    inside = 0 <= x + across / 2 <= width and 0 <= y + down / 2 <= height
    return inside and across <= 1.5 * width and down <= 1.5 * height


def show_around(image: Image, box: Corners, size: float) -> PillowImage.Image:
    """The square around a face, grey where it leaves the picture.

    Args:
        image: The picture, at whatever scale it is held; it is decoded more finely where `size` needs it.
        box: Of the face; it lies within the picture.
        size: Side in pixels that the result should have at least, where the picture has so many.
    """
    x, y, width, height = box
    side = ROOM * max(width, height)
    fine = image.at_scale(size / side)
    left, top = (round((edge - side / 2) * fine.scale) for edge in (x + width / 2, y + height / 2))
    held = max(round(side * fine.scale), 1)
    part = (max(left, 0), max(top, 0), min(left + held, fine.size[0]), min(top + held, fine.size[1]))
    shown = PillowImage.new("RGB", (held, held), GREY)
    if part[0] < part[2] and part[1] < part[3]:
        shown.paste(fine.cut(*part), (part[0] - left, part[1] - top))
    return shown


def box_within(box: Corners, size: int) -> tuple[float, float, float, float]:
    """A row's box in the square of `size` pixels that `show_around` makes: in its middle."""
    _, _, width, height = box
    scale = size / (ROOM * max(width, height))
    return (size - width * scale) / 2, (size - height * scale) / 2, width * scale, height * scale


def _overlap(face: Box, box: Corners) -> float:
    x, y, width, height = (float(value) for value in box)
    across = min(face.x + face.width, x + width) - max(face.x, x)
    down = min(face.y + face.height, y + height) - max(face.y, y)
    shared = max(across, 0.0) * max(down, 0.0)
    return shared / (face.width * face.height + width * height - shared + 1e-9)
