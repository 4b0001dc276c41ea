"""How common old and young people are taken to be, before a face is seen.

A network that saw few old people needs much evidence before it calls someone old: right for its training set, wrong
for most others; and so it is with teenagers, and with people of forty, beside many in their twenties. Adding the
logarithm of how much more common they are elsewhere to the bias of the age head takes this habit away, at no cost in
speed (logit adjustment: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from agelens.training.networks import AGE_BINS

if TYPE_CHECKING:
    from torch import Tensor

    from agelens.training.networks import FaceNetwork

OLD, GROWN, YOUNG = 68.0, 33.0, 19.0
"""Where each shift is half of the whole, in years: a network tells 68 and 70 apart by little, and 19 and 20."""
SLOPE = 2.0
"""How fast they set in, in years."""


def shift_for(device: torch.device, *, elders: float = 1.0, grown: float = 1.0, youth: float = 1.0) -> Tensor:
    """What is added to the logs of years 0 to 100, shape (101,), see `expect`."""
    years = torch.arange(float(AGE_BINS), device=device)
    old, half, young = (torch.sigmoid(part / SLOPE) for part in (years - OLD, years - GROWN, YOUNG - years))
    return math.log(elders) * old + math.log(grown) * half + math.log(youth) * young


@torch.no_grad()
def expect(network: FaceNetwork, *, elders: float = 1.0, grown: float = 1.0, youth: float = 1.0) -> None:
    """Changes the bias of the age head, in place.

    Args:
        network: Whose.
        elders: How many times as common people well over 70 are expected to be (of six, a person of 70 gets four, one
            of 65 one and a half). The temperature of calibration comes after it, and divides its logarithm.
        grown: The same of people well over 33, which comes on top for the old.
        youth: The same of people well under 20, down to birth: a child is rarely in doubt against any but teenagers.
    """
    shift = shift_for(network.age.bias.device, elders=elders, grown=grown, youth=youth)
    network.age.bias.add_(shift.to(network.age.bias.dtype))
