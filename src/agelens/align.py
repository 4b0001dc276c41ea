"""Cuts an upright, size-normalised crop of a face: the one definition that training, evaluation and prediction share.

The crop is the least-squares similarity (Umeyama 1991: rotation, scale, translation) that carries the five landmarks
onto five fixed target points. So a head on its side comes out upright, and a loose or tight box changes nothing. It is
fitted in this direction, not in the other: a head that is turned away has its eyes close together, and the similarity
that carries the targets onto its landmarks would show but a part of it, enlarged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PillowImage

from agelens.types import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agelens.types import Box, Pixels, Point

MEAN_FACE = ((-0.5, 0.0), (0.5, 0.0), (0.0, 0.575), (-0.42, 1.04), (0.42, 1.04))
"""Right eye, left eye, nose tip, right and left mouth corner in eye distances from the middle of the eyes: the median
of YuNet's landmarks over 1,376 faces of FairFace's training part."""

EYE_SPAN = 0.47
"""Eye distance as a share of the width of YuNet's box, the median over 600 faces; EYE_LINE: eyes below its top."""
EYE_LINE = 0.304


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """What part of a face a crop shows.

    Attributes:
        size: Side of the crop in pixels.
        eye_distance: Distance between the eyes as a share of the side.
        eye_height: Distance of the eyes from the upper edge as a share of the side.
    """

    size: int
    eye_distance: float = 0.375
    eye_height: float = 0.30

    def __post_init__(self) -> None:
        in_whole_pixels = isinstance(self.size, int) and self.size >= 1
        if not in_whole_pixels or not 0 < self.eye_distance < 1 or not 0 < self.eye_height < 1:
            raise ValueError(f"not a crop geometry: {self}")

    @property
    def targets(self) -> NDArray[np.float64]:
        """Where the five landmarks go, in pixels of the crop, shape (5, 2)."""
        middle = np.array([0.5, self.eye_height])
        return np.asarray((middle + np.asarray(MEAN_FACE) * self.eye_distance) * self.size)

    def widen(self, factor: float, size: int) -> CropGeometry:
        """A geometry of another size that shows `factor` times as much around the same centre."""
        height = 0.5 + (self.eye_height - 0.5) / factor
        return CropGeometry(size, self.eye_distance / factor, height)

    def to_dict(self) -> dict[str, Any]:
        return {"size": self.size, "eye_distance": self.eye_distance, "eye_height": self.eye_height}


@dataclass(frozen=True, slots=True)
class Similarity:
    """x' = a x - b y + tx, y' = b x + a y + ty."""

    a: float
    b: float
    tx: float
    ty: float

    @property
    def scale(self) -> float:
        return math.hypot(self.a, self.b)

    @property
    def rotation(self) -> float:
        """In degrees, clockwise as seen (y grows downwards)."""
        return math.degrees(math.atan2(self.b, self.a))

    def apply(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Carries points, shape (..., 2)."""
        x, y = points[..., 0], points[..., 1]
        return np.stack([self.a * x - self.b * y + self.tx, self.b * x + self.a * y + self.ty], axis=-1)

    def carry(self, x: float, y: float) -> Point:
        """Carries one point."""
        return self.a * x - self.b * y + self.tx, self.b * x + self.a * y + self.ty


def fit_similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> Similarity:
    """The similarity without reflection that carries `source` nearest to `target`, both of shape (N, 2).

    Where all source points coincide there is no scale to speak of; the result then only moves them.
    """
    # A handful of points: plain numbers are faster than arrays.
    count = len(source)
    p, q = source.tolist(), target.tolist()
    px, py = sum(x for x, _ in p) / count, sum(y for _, y in p) / count
    qx, qy = sum(x for x, _ in q) / count, sum(y for _, y in q) / count
    spread = along = across = 0.0
    for (x, y), (u, v) in zip(p, q, strict=True):
        x, y, u, v = x - px, y - py, u - qx, v - qy
        spread += x * x + y * y
        along += x * u + y * v
        across += x * v - y * u
    a, b = (1.0, 0.0) if spread < 1e-9 else (along / spread, across / spread)
    return Similarity(a, b, qx - a * px + b * py, qy - b * px - a * py)


MOST = 2.0
"""A head seen from the side shows 1.8 times as much as the similarity in the other direction would let it; landmarks
that ask for more than this are none of a face."""


def fit_crop(landmarks: NDArray[np.float64], targets: NDArray[np.float64]) -> Similarity:
    """Where the points of a crop lie in the picture, so that its landmarks lie nearest to their targets.

    Args:
        landmarks: In pixels of the picture, shape (N, 2).
        targets: In pixels of the crop, shape (N, 2).
    """
    back, forth = fit_similarity(targets, landmarks), fit_similarity(landmarks, targets)
    more = min(1 / max(back.scale * forth.scale, 1e-9), MOST)
    a, b = back.a * more, back.b * more
    (px, py), (qx, qy) = landmarks.mean(axis=0).tolist(), targets.mean(axis=0).tolist()
    return Similarity(a, b, px - a * qx + b * qy, py - b * qx - a * qy)


def assume_landmarks(box: Box) -> tuple[Point, Point, Point, Point, Point]:
    """Where the landmarks of a face that looks straight ahead would be in its box: the medians of YuNet's own."""
    width = min(box.width, box.height * 0.8)
    x, y = box.x + box.width / 2, box.y + box.height * EYE_LINE
    right_eye, left_eye, nose, right_mouth, left_mouth = (
        (x + dx * width * EYE_SPAN, y + dy * width * EYE_SPAN) for dx, dy in MEAN_FACE
    )
    return right_eye, left_eye, nose, right_mouth, left_mouth


def align(image: Image, landmarks: Sequence[Point], geometry: CropGeometry) -> Pixels:
    """The crop of one face.

    Args:
        image: The picture. It is decoded again at a finer scale where the face needs that.
        landmarks: The five points in full-resolution pixels.
        geometry: What the crop shows.

    Returns:
        RGB uint8, shape (size, size, 3). Where the crop reaches beyond the picture, the nearest edge is repeated.
    """
    back = fit_crop(np.asarray(landmarks, dtype=np.float64), geometry.targets)
    step = back.scale  # full-resolution pixels per crop pixel
    held = image.at_scale(1.0 / max(step, 1e-6))
    scale = held.scale
    return _sample(held, Similarity(back.a * scale, back.b * scale, back.tx * scale, back.ty * scale), geometry.size)


def sample(pixels: Pixels, back: Similarity, size: int) -> Pixels:
    """Draws a crop, antialiased.

    Args:
        pixels: RGB uint8, shape (h, w, 3).
        back: Carries a point of the crop to its place in `pixels`.
        size: Side of the crop in pixels.
    """
    return _sample(Image(pixels, pixels.shape[1], pixels.shape[0]), back, size)


def _sample(image: Image, back: Similarity, size: int) -> Pixels:
    """The crop of what is held of a picture; `back` is in held pixels."""
    width, height = image.size
    corners = [back.carry(x, y) for x, y in ((0, 0), (size, 0), (size, size), (0, size))]
    reach = 2.0 + back.scale
    left, right = min(x for x, _ in corners) - reach, max(x for x, _ in corners) + reach
    top, bottom = min(y for _, y in corners) - reach, max(y for _, y in corners) + reach
    x0, x1 = _clip_span(left, right, width)
    y0, y1 = _clip_span(top, bottom, height)
    part = image.cut(x0, y0, x1, y1)
    rx = ry = 1.0
    if back.scale > 1.0:
        # First to the crop's own resolution with a filter that averages, then only a turn and a shift remain.
        reduced = (max(round((x1 - x0) / back.scale), 1), max(round((y1 - y0) / back.scale), 1))
        rx, ry = reduced[0] / (x1 - x0), reduced[1] / (y1 - y0)
        part = part.resize(reduced, PillowImage.Resampling.BILINEAR, reducing_gap=3.0)
    before_x, after_x = math.ceil(max(x0 - left, 0.0) * rx), math.ceil(max(right - x1, 0.0) * rx)
    before_y, after_y = math.ceil(max(y0 - top, 0.0) * ry), math.ceil(max(bottom - y1, 0.0) * ry)
    if before_x or after_x or before_y or after_y:
        margins = ((before_y, after_y), (before_x, after_x), (0, 0))
        part = PillowImage.fromarray(np.pad(np.asarray(part), margins, mode="edge"))
    matrix = (
        *(back.a * rx, -back.b * rx, (back.tx - x0) * rx + before_x),
        *(back.b * ry, back.a * ry, (back.ty - y0) * ry + before_y),
    )
    crop = part.transform((size, size), PillowImage.Transform.AFFINE, matrix, PillowImage.Resampling.BICUBIC)
    return np.asarray(crop)


def _clip_span(low: float, high: float, length: int) -> tuple[int, int]:
    """The whole pixels of [low, high] that lie inside [0, length); at least one."""
    start = min(max(math.floor(low), 0), length - 1)
    return start, min(max(math.ceil(high), start + 1), length)
