"""Random changes to crops, each a pure function of a seeded generator, so that a resumed run sees the same ones."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


STILL = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def draw_crop(wide: Pixels, widening: float, size: int, config: AugmentConfig, rng: np.random.Generator) -> Pixels:
    """One crop out of a wider one, randomly turned, zoomed, shifted and mirrored.

    Args:
        wide: RGB uint8, shape (S, S, 3), showing `widening` times as much as the crop.
        widening: See `CropGeometry.widen`.
        size: Side of the crop in pixels.
        config: How much.
        rng: Where the randomness comes from; the same number of draws is made whatever the configuration.
    """
    turn, zoom, x, y = rng.uniform(-1, 1, 4)
    mirrored, coarse, coarse_scale, packed, quality = rng.random(5)
    scale = wide.shape[0] / (widening * size) * (1 + zoom * config.zoom)
    angle = np.deg2rad(turn * config.rotate)
    a, b = float(scale * np.cos(angle)), float(scale * np.sin(angle))
    middle = size / 2
    centre_x, centre_y = (wide.shape[0] * (0.5 + move * config.shift / widening) for move in (x, y))
    back = Similarity(a, b, centre_x - a * middle + b * middle, centre_y - b * middle - a * middle)
    crop = sample(wide, back, size)
    if coarse < config.shrink:
        side = max(round(size * (0.25 + 0.75 * coarse_scale)), 8)
        small = PillowImage.fromarray(crop).resize((side, side), PillowImage.Resampling.BILINEAR)
        crop = np.asarray(small.resize((size, size), PillowImage.Resampling.BILINEAR))
    if packed < config.jpeg:
        buffer = io.BytesIO()
        PillowImage.fromarray(crop).save(buffer, "JPEG", quality=25 + int(55 * quality))
        crop = np.asarray(PillowImage.open(buffer))
    return crop[:, ::-1] if mirrored < config.flip else crop


def centre_crop(wide: Pixels, widening: float, size: int) -> Pixels:
    """The crop that prediction would see."""
    return draw_crop(wide, widening, size, STILL, np.random.default_rng(0))


def change_light(crops: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Random light, colour, noise and covered parts for a batch of crops, shape (N, 3, S, S), levels 0..255."""
    count, _, height, width = crops.shape

    def draw(strength: float) -> Tensor:
        return torch.from_numpy(1 + strength * rng.uniform(-1, 1, count).astype(np.float32))[:, None, None, None]

    gamma, gain, contrast, colour = (draw(config.light * share) for share in (0.8, 1.0, 1.0, 1.0))
    tint = torch.from_numpy(1 + config.light * 0.3 * rng.uniform(-1, 1, (count, 3)).astype(np.float32))
    greyed = torch.from_numpy((rng.random(count) < config.grey).astype(np.float32))[:, None, None, None]
    crops = (crops / 255).clamp(1e-4, 1) ** gamma * 255 * gain * tint[:, :, None, None]
    crops = (crops - crops.mean(dim=(1, 2, 3), keepdim=True)) * contrast + crops.mean(dim=(1, 2, 3), keepdim=True)
    weights = torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]
    brightness = (crops * weights).sum(dim=1, keepdim=True)
    crops = brightness + (crops - brightness) * colour * (1 - greyed)
    deviation = torch.from_numpy((config.noise * rng.random(count) ** 2).astype(np.float32))[:, None, None, None]
    crops = crops + deviation * torch.from_numpy(rng.standard_normal(crops.shape, dtype=np.float32))
    for index, (chance, w, h, x, y, level) in enumerate(rng.random((count, 6))):
        if chance < config.erase:
            side_x, side_y = int((0.15 + 0.35 * w) * width), int((0.15 + 0.35 * h) * height)
            left, top = int(x * (width - side_x)), int(y * (height - side_y))
            crops[index, :, top : top + side_y, left : left + side_x] = level * 255
    return crops.clamp(0, 255)


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
