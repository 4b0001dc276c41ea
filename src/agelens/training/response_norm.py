"""Local response normalisation across channels (Krizhevsky et al., NIPS 2012), as fast as the convolutions around it.

torch computes it by a three-dimensional pooling that takes a fifth of the whole training of Levi & Hassner's network on
a CPU. Here the sum over neighbouring channels is a 1x1 convolution with a band of ones, and its gradient the same
again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

SIZE, ALPHA, BETA = 5, 1e-4, 0.75


class LocalResponseNorm(nn.Module):
    """x / (1 + alpha / size * sum of squares over `size` neighbouring channels) ** 0.75, shape (N, C, H, W).

    Args:
        channels: C.
    """

    band: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        number = torch.arange(channels)
        near = (number[:, None] - number).abs() <= SIZE // 2
        self.register_buffer("band", near.float()[:, :, None, None] * (ALPHA / SIZE), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = _Normalise.apply(x, self.band)  # type: ignore[no-untyped-call]
        return normalised


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, band: Tensor) -> Tensor:
        wide = x.float()
        with torch.autocast(x.device.type, enabled=False):  # squares of large answers need all 24 bits
            around = functional.conv2d(wide * wide, band).add_(1.0)
        root = around.rsqrt()
        factor = root * root.sqrt()  # around ** -0.75
        ctx.save_for_backward(wide, around, factor, band)
        return (wide * factor).to(x.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        wide, around, factor, band = ctx.saved_tensors  # type: ignore[attr-defined]
        scaled = gradient.float() * factor
        with torch.autocast(gradient.device.type, enabled=False):
            spread = functional.conv2d((scaled * wide).div_(around), band)
        return scaled.addcmul_(wide, spread, value=-2 * BETA).to(gradient.dtype), None
