"""Pictures as cameras, scanners and networks spoil them: each damage is a function of the pixels and a generator."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.types import Pixels

Damage = Callable[["Pixels", np.random.Generator], "Pixels"]
USUAL_SIDE = 200
"""Strengths in pixels hold for pictures of this width: chips with one face, as the packs have them."""
SEPIA = ((255.0, 0.8), (235.0, 0.95), (190.0, 1.1))
"""What paper and silver make of brightness: a level and an exponent for each colour."""


def as_is(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """Nothing happens."""
    return pixels


def grain(deviation: float) -> Damage:
    """Noise of so many levels, half of it of brightness, half of colours."""

    def spoil(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        height, width, _ = pixels.shape
        noise = rng.standard_normal((height, width, 1)) + rng.standard_normal((height, width, 3))
        return _levels(pixels + deviation * noise / 2**0.5)

    return spoil


def night(gain: float, deviation: float) -> Damage:
    """So much of the light, and noise of so many levels."""
    noisy = grain(deviation)
    return lambda pixels, rng: noisy(_levels(pixels * gain), rng)


def blur(radius: float) -> Damage:
    """Out of focus: a normal distribution of so many pixels."""

    def spoil(pixels: Pixels, _: np.random.Generator) -> Pixels:
        scaled = radius * pixels.shape[1] / USUAL_SIDE
        return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(scaled)))

    return spoil


def small(width: int) -> Damage:
    """So many pixels wide, as in a crowd or a thumbnail."""

    def spoil(pixels: Pixels, _: np.random.Generator) -> Pixels:
        height = max(round(width * pixels.shape[0] / pixels.shape[1]), 1)
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))

    return spoil


def jpeg(quality: int) -> Damage:
    """Saved by someone who was short of space."""

    def spoil(pixels: Pixels, _: np.random.Generator) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer).convert("RGB"))

    return spoil


def grey(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """Without colours."""
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def faded(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """Six tenths of the contrast, and no black."""
    return _levels(60 + 0.6 * pixels)


def old_print(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A scan of a print: soft, faded, sepia, with grain."""
    soft = grey(faded(blur(1.2)(pixels, rng), rng), rng)[..., 0] / 255
    sepia = np.stack([level * soft**exponent for level, exponent in SEPIA], axis=2)
    return _levels(sepia + 8 * rng.standard_normal((*soft.shape, 1)))


def covered(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """A band over the lower third: a scarf, a mask, a hand."""
    spoiled = pixels.copy()
    spoiled[round(0.64 * len(pixels)) :] = 110
    return spoiled


def _levels(values: NDArray[np.float64]) -> Pixels:
    return values.round().clip(0, 255).astype(np.uint8)


def in_turn(*damages: Damage) -> Damage:
    """One after the other."""

    def spoil(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        for damage in damages:
            pixels = damage(pixels, rng)
        return pixels

    return spoil


SMALL = small(100)
"""Faces of about the size at which networks see them. Of larger ones the crop averages grain away."""
DAMAGES: dict[str, Damage] = {
    "as it is": as_is,
    "100 pixels wide": SMALL,
    "100 pixels, grain of 8 levels": in_turn(SMALL, grain(8)),
    "100 pixels, grain of 16 levels": in_turn(SMALL, grain(16)),
    "100 pixels, grain of 24 levels": in_turn(SMALL, grain(24)),
    "100 pixels, night: a quarter of the light, grain of 8 levels": in_turn(SMALL, night(0.25, 8)),
    "100 pixels, old print: soft, faded, sepia, grain of 8 levels": in_turn(SMALL, old_print),
    "grain of 16 levels": grain(16),
    "40 pixels wide": small(40),
    "out of focus, 2 pixels of 200": blur(2),
    "out of focus, 4 pixels of 200": blur(4),
    "JPEG, quality 10": jpeg(10),
    "grey": grey,
    "faded": faded,
    "lower third covered": covered,
}
