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
    from torch import Tensor

    from agelens.training.soft_labels import Opinion
    from agelens.types import Pixels

RIDGE = 1e-3
"""Penalty of the regression, as a share of each feature's variance."""
SEEN = 2048
"""Faces on which the statistics of the normalisation are measured at the new size."""


def shorten(teacher: FaceNetwork, config: NetworkConfig, crops: Pixels, opinion: Opinion) -> FaceNetwork:
    """The lower stages of a network, as many as `config` has, under fitted heads.

    Args:
        teacher: The large network.
        config: Of the small one: the first stages of the large one, at any crop size.
        crops: Faces as the small network sees them, shape (N, config.size, config.size, 3).
        opinion: What is to be said of these faces.
    """
    network = FaceNetwork(config)
    known = teacher.state_dict()
    network.load_state_dict({name: known[name] for name in network.state_dict() if not is_of_head(name)}, strict=False)
    recompute_statistics(network, [_planes(crops[start : start + 128]) for start in range(0, len(crops[:SEEN]), 128)])
    network.eval()
    with torch.inference_mode():
        parts = [network.features(_planes(crops[start : start + 256])) for start in range(0, len(crops), 256)]
    features = torch.cat(parts).double().numpy()
    ages = np.log(np.maximum(opinion.ages.astype(np.float64), 1e-9))
    female = np.clip(opinion.female.astype(np.float64), 1e-6, 1 - 1e-6)
    wanted = np.column_stack([ages - ages.mean(axis=1, keepdims=True), np.log(female / (1 - female))])
    middle, target = features.mean(axis=0), wanted.mean(axis=0)
    centred = features - middle
    penalty = RIDGE * len(features) * np.diag(centred.var(axis=0) + 1e-6)
    weights = np.linalg.solve(centred.T @ centred + penalty, centred.T @ (wanted - target))
    offsets = target - middle @ weights
    with torch.no_grad():
        for head, columns in ((network.age, slice(None, -1)), (network.gender, slice(-1, None))):
            head.weight.copy_(torch.from_numpy(weights[:, columns].T))
            head.bias.copy_(torch.from_numpy(offsets[columns]))
    return network


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


def _planes(crops: Pixels) -> Tensor:
    planes = normalise(torch.from_numpy(crops).permute(0, 3, 1, 2).float())
    return planes.contiguous(memory_format=torch.channels_last)
