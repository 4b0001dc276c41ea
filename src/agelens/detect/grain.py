"""Grain: how much of it a picture has, and the picture without most of it.

In the noise of dark rooms, cheap cameras and scanned prints the detector overlooks faces, and places eyes and mouths a
tenth of the eyes' distance wrongly; in a smoothed copy it finds nearly all of them.
"""

from __future__ import annotations

import numpy as np
from PIL import ImageFilter

from agelens.types import Image

GRAINY = 0.035
"""Noise as a share of contrast from which a picture counts as grainy. Photographs of textures stay below 0.025."""
RADIUS, MORE, MOST = 0.4, 11.0, 2.0
"""Of the smoothing, as a deviation in held pixels: at no grain, more for each contrast of it, and at most."""
BANDS, ROWS = 4, 8
"""A picture is measured in so many bands of so many rows."""
TAILS = (1.0, 99.0)
"""Percentiles that contrast is measured between."""
LEAST_CONTRAST = 20.0
"""Levels; less is not stretched to the whole range, nor are pictures with less than a tenth of it measured."""
NORMAL = 0.6745 * 6
"""The median of what noise of deviation 1 leaves."""


def measure_grain(image: Image) -> float:
    """The deviation of a picture's noise as a share of its contrast.

    The noise is what is left of every pixel when its neighbours are taken from it so that flat parts, slopes and edges
    along rows and columns vanish (Immerkaer, "Fast noise variance estimation", Computer Vision and Image
    Understanding 1996); of that the median counts, so that details don't.

    Args:
        image: As it is held.
    """
    width, height = image.size
    if width < ROWS or height < ROWS:
        return 0.0
    tops = [round((height - ROWS) * (2 * band + 1) / (2 * BANDS)) for band in range(BANDS)]
    green = np.stack([np.asarray(image.cut(0, top, width, top + ROWS))[..., 1] for top in tops])
    low, high = np.percentile(green, TAILS)
    if high - low < LEAST_CONTRAST / 10:
        return 0.0
    levels = green.astype(np.int16)
    across = levels[:, :, :-2] - 2 * levels[:, :, 1:-1] + levels[:, :, 2:]
    left = across[:, :-2] - 2 * across[:, 1:-1] + across[:, 2:]
    return float(np.median(np.abs(left)) / NORMAL / (high - low))


def smooth(image: Image, grain: float) -> Image:
    """What is held without most of its grain, and with all the contrast there is; nothing finer can be had of it.

    Args:
        image: As it is held.
        grain: How much of it there is, see `measure_grain`.
    """
    blurred = image.picture.filter(ImageFilter.GaussianBlur(min(RADIUS + MORE * grain, MOST)))
    low, high = np.percentile(np.asarray(blurred), TAILS)
    gain = 255 / max(high - low, LEAST_CONTRAST)
    table = np.rint((np.arange(256) - low) * gain).clip(0, 255).astype(int).tolist()
    return Image(blurred.point(table * 3), image.width, image.height)
