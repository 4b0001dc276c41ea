"""Networks whose normalisation was folded into numbers: each becomes a BatchNorm again that has statistics.

Without, the first hundreds of steps would destroy what such a network knows: while it learns, a BatchNorm takes the
mean and the deviation of the batch away, whatever its numbers were fitted to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agelens.training.networks import FaceNetwork


@torch.no_grad()
def unfold(network: FaceNetwork, batches: Sequence[Tensor]) -> None:
    """Gives each BatchNorm, whose statistics say nothing, those of real crops; the network computes the same.

    Args:
        network: Changed in place; left in evaluation mode.
        batches: Normalised crops on which the statistics are measured, each (N, 3, side, side).
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    folded = {}
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        folded[norm] = (scale, norm.bias - norm.running_mean * scale)
    measure_statistics(network, folded, batches)


@torch.no_grad()
def measure_statistics(
    network: FaceNetwork, folded: Mapping[nn.BatchNorm2d, tuple[Tensor, Tensor]], batches: Sequence[Tensor]
) -> None:
    """Splits each folded scale and offset into statistics measured on crops and what is left to learn.

    Args:
        network: Changed in place; left in evaluation mode.
        folded: Scale and offset of each BatchNorm of its trunk, a number a channel.
        batches: Normalised crops, each (N, 3, side, side).
    """
    sums: dict[nn.Module, list[Tensor]] = {}

    def replace(norm: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
        assert isinstance(norm, nn.BatchNorm2d)
        x = inputs[0]
        levels = x.double()
        sums.setdefault(norm, []).append(
            torch.stack([level.mean(dim=(2, 3)).sum(dim=0) for level in (levels, levels**2)])
        )
        scale, offset = folded[norm]
        return x * scale[:, None, None] + offset[:, None, None]

    count = sum(len(batch) for batch in batches)
    hooks = [norm.register_forward_hook(replace) for norm in folded]
    network.eval()
    for batch in batches:
        network.features(batch)
    for hook in hooks:
        hook.remove()
    for norm, (scale, offset) in folded.items():
        mean, square = torch.stack(sums[norm]).sum(dim=0) / count
        variance = (square - mean * mean).clamp(min=1e-6)
        deviation = (variance + norm.eps).sqrt()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(scale * deviation)
        norm.bias.copy_(offset + scale * mean)
