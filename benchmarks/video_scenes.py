"""Made-up scenes: heads from the packs that move over a ground, with known places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from video_material import Pixels, read_chips

from agelens.video.writer import VideoWriter

Places = list[tuple[float, float]]
"""The middle of each head, in pixels."""


def ground(width: int, height: int, seed: int) -> Pixels:
    """Soft blobs of colour."""
    coarse = np.random.default_rng(seed).integers(40, 200, (9, 16, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@dataclass(frozen=True, slots=True)
class Sprite:
    """A head with a soft, oval edge: RGB and opacity, both of shape (side, side, ...)."""

    pixels: Pixels
    opacity: Pixels

    @staticmethod
    def make(picture: Image.Image, side: int, blur: float = 0.0) -> Sprite:
        head = picture.resize((side, side), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(blur))
        y, x = (np.mgrid[0:side, 0:side] + 0.5) / side * 2 - 1
        opacity = np.clip((1 - np.hypot(x / 0.95, y)) * 12, 0, 1) * 255
        return Sprite(np.asarray(head), opacity.astype(np.uint8))

    def paste(self, canvas: Image.Image, x: float, y: float) -> None:
        canvas.paste(Image.fromarray(self.pixels), (round(x), round(y)), Image.fromarray(self.opacity))


def three_faces(frames: int, seed: int = 0, size: tuple[int, int] = (1280, 720)) -> Iterator[Pixels]:
    """Three heads that wander over a ground, coming nearer and going away: people who sit before a camera."""
    width, height = size
    scale = height / 720
    chips = [chip.read() for chip in read_chips("utkface-test", 3, seed)]
    plain = Image.fromarray(ground(width, height, seed))
    for i in range(frames):
        canvas = plain.copy()
        for number, chip in enumerate(chips):
            side = round((230 + 50 * math.sin(i / 40 + number)) * scale)
            x = 130 + 380 * number + 60 * math.sin(i / 25 + 2 * number)
            Sprite.make(chip, side).paste(canvas, x * scale, (220 + 90 * math.cos(i / 33 + number)) * scale)
        yield np.asarray(canvas)


def three_walkers(frames: int, seed: int = 0) -> Iterator[Pixels]:
    """720p at 25 frames a second: three heads that walk to and fro, 1.2 to 2 head's widths a second, and bob."""
    rng = np.random.default_rng(seed)
    chips = [chip.read() for chip in read_chips("utkface-test", 3, seed)]
    sides = [130, 150, 170]
    heads = [Sprite.make(chip, side, 0.6) for chip, side in zip(chips, sides, strict=True)]
    speeds = rng.uniform(1.2, 2.0, 3) * sides / 25
    starts, phases = rng.uniform(0, 1000, 3), rng.uniform(0, 2 * math.pi, 3)
    plain = Image.fromarray(ground(1280, 720, seed))
    for i in range(frames):
        canvas = plain.copy()
        for number, head in enumerate(heads):
            way = 1280 - sides[number]
            along = (starts[number] + speeds[number] * i) % (2 * way)
            x = along if along < way else 2 * way - along
            bob = 0.06 * sides[number] * math.sin(2 * math.pi * 1.9 * i / 25 + phases[number])
            head.paste(canvas, x, 40 + 215 * number + bob)
        yield np.asarray(canvas)


def write_clip(path: Path, frames: Iterator[Pixels], rate: float, size: tuple[int, int] = (1280, 720)) -> None:
    """Encodes frames."""
    with VideoWriter(path, size, Fraction(rate).limit_denominator()) as video:
        for i, frame in enumerate(frames):
            video.write(frame, i / rate)


def film_meeting(
    one: Image.Image, two: Image.Image, kind: str, rng: np.random.Generator
) -> Iterator[tuple[Pixels, Places]]:
    """640 x 360: two heads meet, the second behind the first; they pass each other, or turn back where they overlap.

    Args:
        one: Who is in front.
        two: Who is behind.
        kind: "cross" or "turn back".
        rng: Of sizes, speed, heights and the ground.
    """
    sides = rng.integers(110, 150, 2)
    heads = [Sprite.make(chip, int(side), 0.6) for chip, side in zip((one, two), sides, strict=True)]
    plain = Image.fromarray(ground(640, 360, int(rng.integers(1 << 30))))
    speed, wave = rng.uniform(6, 12), rng.uniform(0, 25, 2)
    heights = 110 + rng.uniform(-25, 25, 2)
    steps = int(450 / speed)
    for i in range(steps):
        share = i / (steps - 1)
        if kind == "turn back":
            share = min(share, 1 - share) * 1.02
        canvas, centres = plain.copy(), []
        for number in (1, 0):
            x = 30 + 450 * share if number == 0 else 480 - 450 * share
            y = heights[number] + wave[number] * math.sin(6 * share)
            heads[number].paste(canvas, x, y)
            centres.append((x + sides[number] / 2, y + sides[number] / 2))
        yield np.asarray(canvas), centres[::-1]
