"""Made-up video of real faces: chips of the packs moved, scaled, blurred and compressed again, with known truth.

Nothing of it is stored: it is made anew, from a seed, for each measurement.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]
DATA = Path(os.environ.get("AGELENS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
UNPACKED = Path(os.environ.get("AGELENS_UNPACKED", Path(__file__).resolve().parents[2] / "data"))
STILL = 0.8
"""How much of one frame's shift and turn the next one has (first-order autoregression), at 30 frames a second."""


@dataclass(frozen=True, slots=True)
class Camera:
    """How badly a face is seen.

    Attributes:
        sides: Least and most side of the picture in pixels; the face is about half as wide.
        quality: Least and most quality of the JPEG compression.
        blur: Spread of the blur's radius, as a share of the side.
        noise: Standard deviation of the sensor's noise, in steps of 255.
    """

    sides: tuple[float, float]
    quality: tuple[int, int]
    blur: float
    noise: float


CAMERAS = {
    "webcam": Camera((70, 220), (25, 75), 0.011, 4.0),
    "far": Camera((44, 90), (10, 40), 0.014, 8.0),
}


@dataclass(frozen=True, slots=True)
class Chip:
    """One labelled face of a pack."""

    path: Path
    age: float
    female: bool | None

    def read(self) -> Image.Image:
        with Image.open(self.path) as picture:
            return picture.convert("RGB")


def read_chips(pack: str, count: int, seed: int = 0) -> list[Chip]:
    """`count` faces of a pack with an exact age, drawn at random; the same ones for a seed."""
    rows: list[Chip] = []
    with (DATA / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows += [
            Chip(UNPACKED / row["path"], float(row["age"]), {"F": True, "M": False}.get(row["gender"]))
            for row in csv.DictReader(file)
            if row["path"].startswith(f"{pack}/") and row["age"].isdigit() and int(row["age"]) <= 100
        ]
    order = np.random.default_rng(seed).permutation(len(rows))
    return [rows[i] for i in order[:count]]


def drift(rng: np.random.Generator, frames: int, spread: float, still: float = STILL) -> NDArray[np.float64]:
    """A stationary wandering around 0 with that standard deviation, shape (frames,)."""
    values = np.empty(frames)
    values[0] = rng.normal(0, spread)
    for i in range(1, frames):
        values[i] = still * values[i - 1] + rng.normal(0, spread * math.sqrt(1 - still * still))
    return values


def film(chip: Image.Image, camera: Camera, frames: int, rng: np.random.Generator) -> Iterator[Pixels]:
    """A face as a camera would see it: it moves, turns, comes near, blurs; light changes; compression spoils it.

    Yields:
        RGB uint8, shape (side, side, 3); all of one size.
    """
    side = round(float(np.exp(rng.uniform(*np.log(camera.sides)))))
    quality = int(rng.integers(*camera.quality))
    dx, dy = drift(rng, frames, 0.05), drift(rng, frames, 0.05)
    turn, zoom = drift(rng, frames, 6.0), drift(rng, frames, 0.08)
    light, contrast = drift(rng, frames, 0.15, 0.9), drift(rng, frames, 0.12, 0.9)
    blur = np.abs(drift(rng, frames, camera.blur)) * side
    for i in range(frames):
        scale = chip.width / side * math.exp(zoom[i])
        angle = math.radians(turn[i])
        a, b = scale * math.cos(angle), scale * math.sin(angle)
        middle = chip.width / 2
        cx, cy = side * (0.5 + dx[i]), side * (0.5 + dy[i])
        matrix = (a, -b, middle - a * cx + b * cy, b, a, middle - b * cx - a * cy)
        small = chip if scale < 1.5 else chip.filter(ImageFilter.GaussianBlur(scale / 2.5))
        picture = small.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        picture = picture.filter(ImageFilter.GaussianBlur(float(blur[i])))
        values = np.asarray(picture, np.float32)
        values = (values - 128) * (1 + contrast[i]) + 128 * (1 + light[i]) + rng.normal(0, camera.noise, values.shape)
        coded = io.BytesIO()
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(coded, "JPEG", quality=quality)
        with Image.open(coded) as again:
            yield np.asarray(again.convert("RGB"))
