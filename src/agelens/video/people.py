"""A person who is followed: where they go, how they look, what is known of them by now."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from agelens.video.fusion import Fusion
from agelens.video.looks import measure_sharpness
from agelens.video.motion import Motion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.types import Box, Face, Pixels

    Floats = NDArray[np.float64]

LOOK_SETTLING: Final = 0.15
"""How far a new look pulls the known one."""


@dataclass(frozen=True, slots=True)
class BestLook:
    """The best look at a person.

    Attributes:
        quality: Higher is better: the face is sure, large and sharp.
        frame: Number of the frame.
        time_seconds: Its time.
        box: Where the face is.
        crop: The face, RGB uint8, shape (h, w, 3).
    """

    quality: float
    frame: int
    time_seconds: float
    box: Box
    crop: Pixels


class Person:
    """A track that still goes on."""

    def __init__(self, number: int, face: Face, frame: int, time: float) -> None:
        self.number = number
        self.motion = Motion.begin(face.box, time)
        self.first = self.last = (frame, time)
        self.fusion = Fusion()
        self.look: Floats | None = None
        self.best: BestLook | None = None
        self.face = face
        self.group: str | None = None
        self.hidden = False  # whether the last look didn't find them

    def take(self, face: Face, frame: int, time: float) -> None:
        if (frame, time) != self.first:
            self.motion.correct(face.box, time)
        self.last = (frame, time)
        self.fusion.add(
            face.age.distribution if face.age else None,
            face.gender.female_probability if face.gender else None,
            face.detection_score,
        )

    def take_look(self, look: Floats, *, clear: bool) -> None:
        """Learns how the person looks; from a face that another one overlaps only where nothing is known yet."""
        if self.look is None:
            self.look = look
        elif clear:
            mixed = self.look + LOOK_SETTLING * (look - self.look)
            self.look = mixed / max(float(np.linalg.norm(mixed)), 1e-9)

    def take_best(self, pixels: Pixels, frame: int, time: float) -> None:
        face = self.face
        side = math.sqrt(face.box.width * face.box.height)
        if self.best is not None and face.detection_score * side < 0.5 * self.best.quality:
            return
        sharpness = measure_sharpness(pixels, face.box)
        quality = face.detection_score**4 * math.sqrt(side) * math.sqrt(sharpness + 0.1)
        if self.best is None or quality > self.best.quality:
            self.best = BestLook(quality, frame, time, face.box, _cut(pixels, face.box))


def _cut(pixels: Pixels, box: Box) -> Pixels:
    """A face with some of what is around it, as `agelens.render.crop_face` cuts it; a copy."""
    height, width = pixels.shape[:2]
    half = max(box.width, box.height) * 0.8
    x, y = box.x + box.width / 2, box.y + box.height / 2
    left, top = min(max(round(x - half), 0), width - 1), min(max(round(y - half), 0), height - 1)
    right, bottom = min(max(round(x + half), left + 1), width), min(max(round(y + half), top + 1), height)
    return pixels[top:bottom, left:right].copy()
