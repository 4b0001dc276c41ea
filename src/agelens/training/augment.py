"""Random changes to crops, each a pure function of a row of uniform numbers.

Every face of a batch has its own row, drawn from (seed, step) for the whole batch over all processes. So a resumed run
sees the same changes, and two processes with half a batch each see what one with the whole would.
"""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor
from torch.nn import functional

from agelens.align import Similarity, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.types import Pixels


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """How much crops are changed. Probabilities and strengths; all zero leaves them alone.

    Attributes:
        rotate: Largest turn in degrees.
        zoom: Largest change of scale as a share.
        shift: Largest shift as a share of the side.
        flip: Probability of mirroring.
        light: Strength of brightness, contrast, saturation and gamma changes.
        grey: Probability of losing all colour.
        shrink: Probability of being reduced to between a quarter and the whole of the resolution and enlarged again.
        jpeg: Probability of a pass through JPEG at quality 25 to 80.
        noise: Largest standard deviation of added noise, in levels of 255.
        erase: Probability of a covered rectangle.
        grain: Largest standard deviation of grain, as of film, of the dark or of prints that were scanned: fine or
            coarse, of brightness or of colours. Half of the faces have less than an eighth of it.
    """

    rotate: float = 10.0
    zoom: float = 0.08
    shift: float = 0.04
    flip: float = 0.5
    light: float = 0.25
    grey: float = 0.1
    shrink: float = 0.2
    jpeg: float = 0.15
    noise: float = 4.0
    erase: float = 0.1
    grain: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def unspoiled(self) -> AugmentConfig:
        """The same turns, shifts and covers, and nothing that a bad camera, light or scan does."""
        return replace(self, light=0.0, grey=0.0, shrink=0.0, jpeg=0.0, noise=0.0, grain=0.0)


STILL = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
DRAWS = 30
"""Uniform numbers that one face needs, whatever the configuration: the first ten for `draw_crop`."""
COARSE = 0.4
"""Share of the faces with grain whose grain is two pixels wide."""
TABLE = 1 << 20
"""Normal numbers that noise is read from."""


def draw_crop(wide: Pixels, widening: float, size: int, config: AugmentConfig, draws: NDArray[np.float64]) -> Pixels:
    """One crop out of a wider one, randomly turned, zoomed, shifted and mirrored.

    Args:
        wide: RGB uint8, shape (S, S, 3), showing `widening` times as much as the crop.
        widening: See `CropGeometry.widen`.
        size: Side of the crop in pixels.
        config: How much.
        draws: Uniform numbers in [0, 1), shape (DRAWS,).
    """
    turn, zoom, x, y = 2 * draws[:4] - 1
    mirrored, coarse, coarse_scale, packed, quality = draws[4:9]
    crop = _cut(wide, widening, size, (turn * config.rotate, zoom * config.zoom, x * config.shift, y * config.shift))
    if coarse < config.shrink:
        side = max(round(size * (0.25 + 0.75 * coarse_scale)), 8)
        small = PillowImage.fromarray(crop).resize((side, side), PillowImage.Resampling.BILINEAR)
        crop = np.asarray(small.resize((size, size), PillowImage.Resampling.BILINEAR))
    if packed < config.jpeg:
        buffer = io.BytesIO()
        PillowImage.fromarray(crop).save(buffer, "JPEG", quality=25 + int(55 * quality))
        crop = np.asarray(PillowImage.open(buffer))
    return crop[:, ::-1] if mirrored < config.flip else crop


def _cut(wide: Pixels, widening: float, size: int, moves: tuple[float, float, float, float]) -> Pixels:
    """A crop turned by degrees, enlarged by a share, and shifted by shares of the side."""
    turn, zoom, x, y = moves
    side = wide.shape[0]
    unit = side / (widening * size)  # pixels of the wide crop per pixel of the crop
    if not turn and not zoom and abs(unit - 1) < 1e-9:  # whole pixels: nothing is resampled
        left, top = (round((side - size) / 2 + move * size) for move in (x, y))
        if 0 <= left <= side - size and 0 <= top <= side - size:
            return wide[top : top + size, left : left + size]
    scale, angle = unit * (1 + zoom), math.radians(turn)
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    middle = size / 2
    centre_x, centre_y = (side * (0.5 + move / widening) for move in (x, y))
    back = Similarity(a, b, centre_x - a * middle + b * middle, centre_y - b * middle - a * middle)
    reach = middle * (abs(a) + abs(b)) + max(abs(x), abs(y)) * size * unit
    if scale > 1.25 or reach > side / 2 or not (turn or zoom or x or y):
        # It would show gaps, or reach over the edge; and what is not moved is cut just as prediction cuts it.
        return sample(wide, back, size)
    matrix = (a, -b, back.tx, b, a, back.ty)
    picture = PillowImage.fromarray(np.ascontiguousarray(wide))
    return np.asarray(
        picture.transform((size, size), PillowImage.Transform.AFFINE, matrix, PillowImage.Resampling.BILINEAR)
    )


def centre_crop(wide: Pixels, widening: float, size: int) -> Pixels:
    """The crop that prediction would see."""
    return draw_crop(wide, widening, size, STILL, np.full(DRAWS, 0.5))


def change_light(
    crops: Pixels, config: AugmentConfig, draws: NDArray[np.float64], out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Random light, colour, noise and covered parts.

    Args:
        crops: RGB uint8, shape (N, S, S, 3).
        config: How much.
        draws: Uniform numbers, shape (N, DRAWS).
        out: Where the result goes, shape (N, S, S, 3), levels 0..255.
    """
    if config.light:
        tables = _light_tables(config, draws)
    offsets = np.array([0, 256, 512], np.uint16)
    for index, (crop, row) in enumerate(zip(crops, draws, strict=True)):
        x = out[index]
        if config.light:
            np.take(tables[index], crop + offsets, out=x, mode="clip")
        else:
            x[...] = crop
        _change_one(x, config, row)
    return out


def _light_tables(config: AugmentConfig, draws: NDArray[np.float64]) -> NDArray[np.float32]:
    """What gamma, gain and tint make of each level of each colour, shape (N, 768)."""
    gamma, gain = (1 + config.light * share * (2 * draws[:, place] - 1) for place, share in ((10, 0.8), (11, 1.0)))
    tint = 1 + config.light * 0.3 * (2 * draws[:, 12:15] - 1)
    levels = np.log(np.clip(np.arange(256) / 255, 1e-4, 1))
    curves = np.exp(levels[None] * gamma[:, None]) * (255 * gain)[:, None]
    return (tint[:, :, None] * curves[:, None]).reshape(len(draws), 768).astype(np.float32)


def _change_one(x: NDArray[np.float32], config: AugmentConfig, draws: NDArray[np.float64]) -> None:
    """Contrast, colour, noise and a covered part of one crop, in place."""
    if config.light or config.grey:
        contrast, colour = (np.float32(1 + config.light * (2 * draws[place] - 1)) for place in (15, 16))
        if draws[17] < config.grey:
            colour = np.float32(0)
        brightness = x @ BRIGHTNESS
        level = brightness.mean() * (1 - contrast)
        x *= contrast * colour
        brightness *= contrast * (1 - colour)
        x += (brightness + level)[:, :, None]
    if config.noise:
        # A fixed table of noise, read at a random place: to draw it afresh would take longer than all the rest.
        start = int(draws[19] * (TABLE - x.size))
        noise = noise_table()[start : start + x.size].reshape(x.shape)
        x += np.float32(config.noise * draws[18] ** 2) * noise
    if config.grain:
        _add_grain(x, config.grain * draws[26] ** 3, draws[27:30])
    chance, w, h, left, top, level = draws[20:26]
    if chance < config.erase:
        height, width, _ = x.shape
        side_x, side_y = int((0.15 + 0.35 * w) * width), int((0.15 + 0.35 * h) * height)
        x0, y0 = int(left * (width - side_x)), int(top * (height - side_y))
        x[y0 : y0 + side_y, x0 : x0 + side_x] = level * 255
    np.clip(x, 0, 255, out=x)


def _add_grain(x: NDArray[np.float32], deviation: float, draws: NDArray[np.float64]) -> None:
    """Grain of one crop, in place: how coarse, how much of it is of colours, and where the noise is read."""
    height, width, _ = x.shape
    coarse, colour, place = draws
    step = 2 if coarse < COARSE else 1
    rows, columns = -(-height // step), -(-width // step)
    count = rows * columns
    start = int(place * (TABLE - 4 * count))
    noise = noise_table()[start : start + 4 * count]
    grey, colours = noise[:count].reshape(rows, columns, 1), noise[count:].reshape(rows, columns, 3)
    grain = np.float32(deviation) * (np.float32(math.sqrt(1 - colour**2)) * grey + np.float32(colour) * colours)
    x += grain.repeat(step, axis=0).repeat(step, axis=1)[:height, :width]


BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)
"""How much each colour counts in how bright a pixel is: ITU-R BT.601."""


@cache
def noise_table() -> NDArray[np.float32]:
    """Standard normal numbers, shape (TABLE,)."""
    return np.random.default_rng(0).standard_normal(TABLE, dtype=np.float32)


def soften(labels: NDArray[np.float32], deviation: NDArray[np.float32], bins: int) -> Tensor:
    """Exact ages as normal distributions over whole years.

    Source: label distribution learning (Geng, "Label Distribution Learning", TKDE 2016; DLDL, Gao et al., TIP 2017).

    Args:
        labels: Ages in years, shape (N,).
        deviation: Standard deviations in years, shape (N,).
        bins: Whole years 0 .. bins - 1.
    """
    years = np.arange(bins, dtype=np.float32)
    logits = -0.5 * ((years[None] - labels[:, None]) / np.maximum(deviation[:, None], 0.1)) ** 2
    return functional.softmax(torch.from_numpy(logits), dim=1)
