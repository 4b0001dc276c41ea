"""How common people of 70 years and more are taken to be, before a face is seen.

A network that saw few old people needs much evidence before it calls someone old: right for its training set, wrong
for most others. Adding the logarithm of how much more common they are elsewhere to the bias of the age head takes this
habit away, at no cost in speed (logit adjustment: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from agelens.training.networks import FaceNetwork

OLD = 68.0
"""Where the shift is half of the whole, in years: a network tells 68 and 70 apart by little."""
SLOPE = 2.0
"""How fast it sets in, in years."""


@torch.no_grad()
def expect_elders(network: FaceNetwork, times: float) -> None:
    """Changes the bias of the age head, in place.

    Args:
        network: Whose.
        times: How many times as common people well over 70 are expected to be (of six, a person of 70 gets four); 1
            leaves the network alone. The temperature of calibration comes after it, and divides its logarithm.
    """
    years = torch.arange(len(network.age.bias), dtype=torch.float32)
    shift = math.log(times) * torch.sigmoid((years - OLD) / SLOPE)
    network.age.bias.add_(shift.to(network.age.bias))
