"""A small network out of a large one's lower stages, its heads fitted to what the large one says.

What the lower stages learned stays, so the small network begins near where the large one ended instead of learning
from noise what the upper stages had known. The heads are a ridge regression of the large network's logits on the small
one's features, as the heads of a linear probe are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from agelens.training.networks import FaceNetwork, NetworkConfig, normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

RIDGE = 1e-3
"""Penalty of the regression, as a share of each feature's variance and of the mean of all."""
SEEN = 2048
"""Faces on which the statistics of the normalisation are measured at the new size."""


def shorten(
    teacher: FaceNetwork, config: NetworkConfig, levels: Tensor, said: tuple[Tensor, Tensor | None]
) -> FaceNetwork:
    """The lower stages of a network, as many as `config` has, under fitted heads.

    Args:
        teacher: The large network.
        config: Of the small one: the first stages of the large one, at any crop size.
        levels: Faces as the small network sees them, RGB levels, shape (N, 3, config.size, config.size).
        said: What is to be said of these faces: log probabilities of years (N, 101) and logits of "female" (N,).
    """
    ages, female = said
    assert female is not None
    network = FaceNetwork(config).to(levels.device)
    known = teacher.state_dict()
    network.load_state_dict({name: known[name] for name in network.state_dict() if not is_of_head(name)}, strict=False)
    planes = normalise(levels).contiguous(memory_format=torch.channels_last)
    recompute_statistics(network, list(torch.split(planes[:SEEN], 128)))
    network.eval()
    with torch.inference_mode():
        features = torch.cat([network.features(part) for part in torch.split(planes, 256)]).double().cpu().numpy()
    logs = np.maximum(ages.double().cpu().numpy(), np.log(1e-9))
    sides = np.clip(female.double().cpu().numpy(), -14, 14)
    wanted = np.column_stack([logs - logs.mean(axis=1, keepdims=True), sides])
    weights, offsets = regress(features, wanted)
    with torch.no_grad():
        for head, columns in ((network.age, slice(None, -1)), (network.gender, slice(-1, None))):
            head.weight.copy_(torch.from_numpy(weights[:, columns].T))
            head.bias.copy_(torch.from_numpy(offsets[columns]))
    return network


def regress(
    features: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ridge regression: the matrix (F, W) and the offsets (W,) that make `wanted` (N, W) out of `features` (N, F).

    A feature that hardly moves on these faces is hardly believed: on others it may move a thousand times as far.
    """
    middle, target = features.mean(axis=0), wanted.mean(axis=0)
    centred = features - middle
    spread = centred.var(axis=0)
    penalty = RIDGE * len(features) * np.diag(spread + spread.mean() + 1e-6)
    weights = np.linalg.solve(centred.T @ centred + penalty, centred.T @ (wanted - target))
    return weights, target - middle @ weights


@torch.no_grad()
def recompute_statistics(network: nn.Module, batches: list[Tensor]) -> None:
    """Sets the running statistics of every BatchNorm to those of real crops: another crop size has others."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
    network.train()
    for batch in batches:
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def is_of_head(name: str) -> bool:
    """Whether a tensor of a `FaceNetwork` belongs to a head."""
    return name.startswith(("age.", "gender."))
