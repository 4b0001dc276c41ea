"""Takes back part of what a network has learned of how common ages are.

A network that saw few old people needs much evidence before it calls someone old: right for its training set, wrong
for most others. Adding the logarithm of the training set's age distribution, times a share, to the bias of the age head
takes that share of the habit away, at no cost in speed (logit adjustment: Menon et al., "Long-tail learning via logit
adjustment", ICLR 2021).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.training.networks import FaceNetwork

SMOOTHED = 2.0
"""Standard deviation in years of the smoothing of the distribution of ages."""
FLOOR = 1e-4


def measure_prior(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """How common each year is, shape (bins,), from distributions over years of many faces, shape (N, bins)."""
    bins = probabilities.shape[1]
    distances = np.arange(bins)[:, None] - np.arange(bins)[None]
    kernel = np.exp(-((distances / SMOOTHED) ** 2) / 2)
    smooth = (kernel / kernel.sum(axis=0)) @ probabilities.mean(axis=0)
    return np.asarray(smooth / smooth.sum())


@torch.no_grad()
def take_back_prior(network: FaceNetwork, prior: NDArray[np.float64], share: float) -> None:
    """Changes the bias of the age head, in place.

    Args:
        network: Whose.
        prior: See `measure_prior`.
        share: 0 leaves the network alone, 1 makes every age as likely as every other before the face is seen.
    """
    shift = -share * np.log(prior + FLOOR)
    network.age.bias.add_(torch.from_numpy(shift - shift.mean()).to(network.age.bias))
