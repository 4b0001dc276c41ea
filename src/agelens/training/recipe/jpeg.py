"""What JPEG does to a picture, as arithmetic on tensors: colours halved in resolution, blocks of 8x8 rounded."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

_BRIGHTNESS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_COLOUR = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)
"""Steps of quality 50: ITU-T T.81, Annex K."""
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_FROM_YCC = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def pass_through_jpeg(levels: Tensor, quality: Tensor) -> Tensor:
    """Pictures as they come back from JPEG (ITU-T T.81) at a quality, colours at half the resolution.

    Args:
        levels: RGB 0..255, shape (N, 3, S, S).
        quality: 1 to 99 each, shape (N,).
    """
    size = levels.shape[-1]
    planes = torch.einsum("kc,nchw->nkhw", levels.new_tensor(_TO_YCC), levels)
    missing = -size % 16
    planes = functional.pad(planes, (0, missing, 0, missing), mode="replicate")
    factor = torch.where(quality < 50, 50 / quality, 2 - quality / 50).float()
    bright = _round_blocks(planes[:, :1] - 128, levels.new_tensor(_BRIGHTNESS), factor) + 128
    colours = _round_blocks(functional.avg_pool2d(planes[:, 1:], 2), levels.new_tensor(_COLOUR), factor)
    colours = functional.interpolate(colours, scale_factor=2, mode="bilinear")
    planes = torch.cat([bright, colours], dim=1)[:, :, :size, :size]
    return torch.einsum("ck,nkhw->nchw", levels.new_tensor(_FROM_YCC), planes).clamp(0, 255)


def _round_blocks(planes: Tensor, table: Tensor, factor: Tensor) -> Tensor:
    """Planes (N, C, S, S), S a multiple of 8, with the frequencies of each block rounded to the table's steps."""
    basis = _basis().to(planes.device)
    count, channels, size, _ = planes.shape
    blocks = planes.reshape(count, channels, size // 8, 8, size // 8, 8)
    steps = (table * factor[:, None, None]).round().clamp(1, 255)[:, None, None, :, None, :]
    frequencies = torch.einsum("ui,ncaibj,vj->ncaubv", basis, blocks, basis)
    rounded = (frequencies / steps).round() * steps
    return torch.einsum("ui,ncaubv,vj->ncaibj", basis, rounded, basis).reshape(planes.shape)


@cache
def _basis() -> Tensor:
    """The orthonormal cosine transform of eight numbers, shape (frequency, place)."""
    place, frequency = torch.arange(8.0), torch.arange(8.0)[:, None]
    waves = torch.cos((2 * place + 1) * frequency * torch.pi / 16) / 2
    waves[0] /= 2**0.5
    return waves
