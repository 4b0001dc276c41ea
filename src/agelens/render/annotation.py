"""A report becomes a picture: boxes and labels on a copy, and crops of single faces.

Everything is drawn by blending small patches into the pixels, so the cost depends on the faces, not on the picture.
Line widths and letters grow with both.

A label reads `31 (24-39)  female 97%`, in one line or two; in a crowd all labels of a picture are written smaller, and
then short (`31 F`, `31 ?` for an unknown gender). `agelens.render.layout` says where they stand; the rest is in the
record.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from agelens.render.drawing import INK, Colour, Mask, blend, draw_box, draw_line, rounded
from agelens.render.layout import Level, Plate, Size, place_labels
from agelens.types import Box, Face, Image
from agelens.wording import NO_FACE, describe_age, describe_briefly, describe_gender, describe_group

if TYPE_CHECKING:
    from agelens.types import Pixels

Lines = tuple[str, ...]

# Hues that people with any kind of colour blindness tell apart, light enough for dark letters (contrast above 8:1).
_COLOURS: dict[str | None, Colour] = {
    "female": (255, 184, 77),
    "male": (111, 198, 255),
    "unknown": (226, 228, 232),
    None: (112, 232, 190),
}
_SMALLEST_FONT = 9
_DASHES = str.maketrans("–—", "--")  # Pillow's own font has the hyphen only
# (size of the letters, short text?, cost): see `layout.Level`.
_LEVELS = ((1.0, False, 0.0), (0.85, False, 0.1), (0.72, False, 0.25), (0.85, True, 0.55), (0.7, True, 0.65))
_LAST_LEVEL_COST = 0.8
_ALONE_SHORT_COST = 6.0


@dataclass(frozen=True, slots=True)
class _Scale:
    """Sizes for one picture, in pixels: letters at most, at least and never below; the widest line."""

    largest: float
    smallest: float
    floor: int
    line: float

    @classmethod
    def of(cls, width: int, height: int) -> _Scale:
        # A panorama is looked at in pieces: its length says little about how large letters must be.
        side = min(max(width, height), 2 * min(width, height))
        return cls(max(side / 46, 12), max(side / 78, 11), max(_SMALLEST_FONT, round(side / 130)), max(side / 500, 1.4))

    def font(self, box: Box, factor: float) -> int:
        return max(round(min(max(box.width * 0.2, self.smallest), self.largest) * factor), self.floor)

    def stroke(self, box: Box) -> int:
        return max(1, round(min(self.line, min(box.width, box.height) / 26)))


def annotate(image: Image, faces: Sequence[Face], *, group: bool = False) -> Pixels:
    """Draws the faces on a copy of the picture in full resolution.

    Args:
        image: The picture; its pixels stay as they are.
        faces: Boxes in full-resolution pixels. If there are none, the copy says `NO FACE DETECTED`.
        group: Also write the age group and its probability.

    Returns:
        RGB uint8, shape (H, W, 3).
    """
    full = image.at_scale(1.0)
    pixels = full.pixels.copy()
    draw_on(pixels, faces, scale=full.scale, group=group)
    return pixels


def draw_on(pixels: Pixels, faces: Sequence[Face], *, scale: float = 1.0, group: bool = False) -> None:
    """Draws the faces into `pixels` themselves.

    Args:
        pixels: RGB uint8, shape (h, w, 3), writable.
        faces: Boxes in full-resolution pixels.
        scale: Pixels held per full-resolution pixel.
        group: Also write the age group and its probability.
    """
    height, width = pixels.shape[:2]
    if not faces:
        _draw_notice(pixels, NO_FACE)
        return
    sizes = _Scale.of(width, height)
    boxes = [_scaled(face.box, scale) for face in faces]
    for face, box in zip(faces, boxes, strict=True):
        draw_box(pixels, box, _colour(face), sizes.stroke(box))
    texts, levels = _prepare_labels(faces, boxes, sizes, group=group)
    placements = place_labels(boxes, levels, (width, height), gap=max(1, round(sizes.line)))
    # All leaders first: a plate may stand on a line, a line never crosses a plate.
    for face, placement in zip(faces, placements, strict=True):
        if placement.leader:
            draw_line(pixels, placement.leader, _colour(face), max(1.0, sizes.line * 0.7))
    for number, (face, placement) in enumerate(zip(faces, placements, strict=True)):
        if placement.plate:
            lines, font = texts[placement.level][number][placement.form]
            _draw_plate(pixels, placement.plate, lines, font, _colour(face))


def crop_face(image: Image, face: Face, *, margin: float = 0.3) -> Pixels:
    """Cuts a face out of the picture in full resolution.

    Args:
        image: The picture.
        face: The face; its box in full-resolution pixels.
        margin: What to add on each side, as a share of the longer side of the box.

    Returns:
        RGB uint8, a copy: a square around the middle of the box, without what would lie outside the picture; at least
        one pixel, even for a box outside the picture.
    """
    full = image.at_scale(1.0)
    height, width = full.pixels.shape[:2]
    box = _scaled(face.box, full.scale)
    half = max(box.width, box.height) * (0.5 + max(margin, 0.0))
    left, right = _span(box.x + box.width / 2, half, width)
    top, bottom = _span(box.y + box.height / 2, half, height)
    return full.pixels[top:bottom, left:right].copy()


def _scaled(box: Box, scale: float) -> Box:
    return Box(box.x * scale, box.y * scale, box.width * scale, box.height * scale)


def _span(middle: float, half: float, size: int) -> tuple[int, int]:
    """Whole pixels [start, stop) of a stretch around `middle`, within [0, size) and never empty."""
    start = min(max(round(middle - half), 0), size - 1)
    return start, min(max(round(middle + half), start + 1), size)


def _colour(face: Face) -> Colour:
    return _COLOURS[face.gender.label if face.gender else None]


# --- words ---------------------------------------------------------------------------------------------------------


def _full_texts(face: Face, *, group: bool) -> list[Lines]:
    """What a label may say, the widest first: all in one line, and one under the other."""
    parts = [describe_age(face.age).translate(_DASHES)] if face.age else []
    if face.gender:
        alone = "gender " if face.gender.label == "unknown" and not face.age else ""
        parts.append(alone + describe_gender(face.gender))
    if not parts:
        return []
    extra = (describe_group(face.age).translate(_DASHES),) if group and face.age else ()
    return list(dict.fromkeys([("  ".join(parts), *extra), (*parts, *extra)]))


def _prepare_labels(
    faces: Sequence[Face], boxes: Sequence[Box], sizes: _Scale, *, group: bool
) -> tuple[list[list[list[tuple[Lines, int]]]], list[Level]]:
    """For each level and face the texts with their font sizes, and the same as plate sizes."""
    full = [_full_texts(face, group=group) for face in faces]
    short: list[list[Lines]] = [[(brief,)] if (brief := describe_briefly(face)) else [] for face in faces]
    plans = [*_LEVELS, (0.0, True, _LAST_LEVEL_COST)]
    if len(faces) == 1:  # alone, a face gets all that is known of it, as long as that fits at all
        plans = [*((factor, brief, cost) for factor, brief, cost in plans if not brief), (0.0, True, _ALONE_SHORT_COST)]
    texts = [
        [
            [(lines, sizes.font(box, factor)) for lines in choice]
            for box, choice in zip(boxes, short if brief else full, strict=True)
        ]
        for factor, brief, _ in plans
    ]
    levels = [
        Level([[_plate_size(lines, font) for lines, font in forms] for forms in level], cost)
        for level, (_, _, cost) in zip(texts, plans, strict=True)
    ]
    return texts, levels


@lru_cache(maxsize=256)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def _line_width(text: str, font: int) -> int:
    return math.ceil(_font(font).getbbox(text, anchor="ls")[2])


def _line_step(font: int) -> int:
    return math.ceil(font * 1.16)


def _padding(font: int) -> tuple[int, int]:
    return max(2, round(font * 0.4)), max(2, round(font * 0.26))


def _plate_size(lines: Lines, font: int) -> Size:
    across, down = _padding(font)
    width = max(_line_width(line, font) for line in lines)
    return width + 2 * across, math.ceil(font * 0.74) + (len(lines) - 1) * _line_step(font) + 2 * down


@lru_cache(maxsize=64)  # in a large picture one takes 300 KiB
def _text_mask(lines: Lines, font: int, *, centred: bool = False) -> Mask:
    """The opacity of the letters of a plate, as large as the plate."""
    width, height = _plate_size(lines, font)
    across, down = _padding(font)
    canvas = Pillow.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        x = (width - _line_width(line, font)) / 2 if centred else across
        draw.text((x, down + math.ceil(font * 0.74) + number * _line_step(font)), line, 255, _font(font), anchor="ls")
    mask: Mask = np.asarray(canvas, dtype=np.float32) / np.float32(255)
    mask.flags.writeable = False
    return mask


def _draw_plate(pixels: Pixels, plate: Plate, lines: Lines, font: int, colour: Colour) -> None:
    blend(pixels, plate.x, plate.y, rounded(plate.width, plate.height, min(font * 0.28, plate.height / 2)), colour)
    blend(pixels, plate.x, plate.y, _text_mask(lines, font), INK)


# --- nothing found -------------------------------------------------------------------------------------------------


def _draw_notice(pixels: Pixels, text: str) -> None:
    """A plate in the middle; in a picture too small for letters it shrinks with them, so something is always there."""
    height, width = pixels.shape[:2]
    words = text.split()
    forms: list[Lines] = [(text,), (" ".join(words[:2]), " ".join(words[2:])), tuple(words)]
    largest = max(round(min(width, 2 * height) * 0.055), 14)
    fitting = [(_fitting_font(form, (width, height), largest), form) for form in forms]
    font, lines = max(fitting, key=lambda found: found[0] * _shrink(found[1], found[0], (width, height)))
    plate_width, plate_height = _plate_size(lines, font)
    plate = rounded(plate_width, plate_height, font * 0.28)
    letters = _text_mask(lines, font, centred=True)
    shrink = _shrink(lines, font, (width, height))
    if shrink < 1:
        plate, letters = _shrunk(plate, shrink), _shrunk(letters, shrink)
    x, y = (width - plate.shape[1]) // 2, (height - plate.shape[0]) // 2
    blend(pixels, x, y, plate * np.float32(0.88), INK)
    blend(pixels, x, y, letters, (255, 255, 255))


def _fitting_font(lines: Lines, frame: Size, largest: int) -> int:
    for font in range(largest, _SMALLEST_FONT, -1):
        width, height = _plate_size(lines, font)
        if width <= frame[0] * 0.94 and height <= frame[1] * 0.94:
            return font
    return _SMALLEST_FONT


def _shrink(lines: Lines, font: int, frame: Size) -> float:
    width, height = _plate_size(lines, font)
    return min(frame[0] / width, frame[1] / height, 1.0)


def _shrunk(mask: Mask, factor: float) -> Mask:
    size = max(1, int(mask.shape[1] * factor)), max(1, int(mask.shape[0] * factor))
    return np.asarray(Pillow.fromarray(mask).resize(size, Pillow.Resampling.BOX), dtype=np.float32)
