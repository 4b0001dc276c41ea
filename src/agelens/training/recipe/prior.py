"""How common old and young people are taken to be, before a face is seen.

A network that saw few old people needs much evidence before it calls someone old: right for its training set, wrong
for most others; and so it is with teenagers, with people of forty, beside many in their twenties, and with women, whom
people who label pictures call younger than they are. Adding the logarithm of how much more common they are elsewhere
to what the age head says takes this habit away, at no cost in speed (logit adjustment: Menon et al., "Long-tail
learning via logit adjustment", ICLR 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from agelens.errors import TrainingError
from agelens.training.networks import AGE_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from agelens.training.networks import FaceNetwork

OLD, GROWN, YOUNG = 68.0, 33.0, 19.0
"""Where each shift is half of the whole, in years: a network tells 68 and 70 apart by little, and 19 and 20."""
SLOPE = 2.0
"""How fast they set in, in years."""


@dataclass(frozen=True, slots=True)
class Expected:
    """How many times as common people are expected to be as in what was learned.

    Attributes:
        elders: Well over 70 (of six, a person of 70 gets four, one of 65 one and a half). The temperature of
            calibration comes after it, and divides its logarithm.
        grown: Well over 33, which comes on top for the old.
        women: The middle woman well over 33 beside the middle man of that age, `grown` lying between them; for others
            the logarithm follows from the gender logit in proportion.
        youth: Well under 20, down to birth: a child is rarely in doubt against any but teenagers.
    """

    elders: float = 1.0
    grown: float = 1.0
    women: float = 1.0
    youth: float = 1.0

    def shift(self, device: torch.device) -> Tensor:
        """What is added to the logs of years 0 to 100, shape (101,), but for what depends on gender."""
        years = torch.arange(float(AGE_BINS), device=device)
        old, young = torch.sigmoid((years - OLD) / SLOPE), torch.sigmoid((YOUNG - years) / SLOPE)
        return math.log(self.elders) * old + math.log(self.grown) * be_grown(device) + math.log(self.youth) * young


def be_grown(device: torch.device) -> Tensor:
    """How much each year counts as over 33, shape (101,)."""
    return torch.sigmoid((torch.arange(float(AGE_BINS), device=device) - GROWN) / SLOPE)


def median_logits(logits: NDArray[np.floating[Any]], female: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """The gender logit that the middle man gets, and the middle woman.

    Raises:
        TrainingError: Women get no higher ones than men, or one gender is missing.
    """
    men, women = (logits[female == gender] for gender in (0, 1))
    if not (len(men) and len(women) and np.median(women) > np.median(men)):
        raise TrainingError(
            f"of {len(men)} men and {len(women)} women the network doesn't tell genders apart, so it can't be told"
            " that women are as common as men; let it learn longer, or expect women as they are (1.0)"
        )
    return float(np.median(men)), float(np.median(women))


@torch.no_grad()
def expect(network: FaceNetwork, expected: Expected, medians: tuple[float, float] | None = None) -> None:
    """Changes the age head, in place.

    Args:
        network: Whose.
        expected: Whom.
        medians: See `median_logits`; None: only where nothing is expected of women beside men.
    """
    age, gender = network.age, network.gender
    age.bias.add_(expected.shift(age.bias.device).to(age.bias.dtype))
    if expected.women != 1:
        assert medians is not None
        men, women = medians
        # Both heads are linear: this adds so much for each unit that the gender logit lies above the middle of both.
        slope = (be_grown(age.bias.device) * math.log(expected.women) / (women - men)).to(age.bias.dtype)
        age.weight.add_(slope[:, None] * gender.weight)
        age.bias.add_(slope * (gender.bias - (men + women) / 2))
