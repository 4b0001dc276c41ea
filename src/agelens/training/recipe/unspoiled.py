"""What a network says of views as they would be unspoiled.

A network that is to learn what spoils pictures, and nothing else, hears itself as it was: of a view in grain it learns
to say what it said of the same view without. Views that nothing spoils hold it to all else that it knew (Li & Hoiem,
"Learning without Forgetting", ECCV 2016). No label has a say, so nothing of them is learned by heart. Another network
may be heard as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from agelens.training.devices import in_bf16
from agelens.training.networks import normalise

if TYPE_CHECKING:
    from agelens.training.networks import FaceNetwork

CHUNK = 64
"""Views at once; more don't fit into a CPU's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class UnspoiledTeacher:
    """A network that is asked, of each view and its mirror image, the mean.

    Attributes:
        network: In evaluation mode; it stays as it is.
        widening: By how much the faces are wider than what it wants to see.
        middle: Means of its features, shape (F,).
        spread: Their standard deviations, times the root of F, so that hints sum to 1 on average, see `hints`.
    """

    network: FaceNetwork
    widening: float
    middle: Tensor
    spread: Tensor

    @staticmethod
    def of(network: FaceNetwork, widening: float, levels: Tensor) -> UnspoiledTeacher:
        """It, with the scale of its features on some views: RGB levels, shape (N, 3, size, size)."""
        network.eval()
        seen = _look(network, levels)
        return UnspoiledTeacher(
            network, widening, seen.mean(dim=0), seen.std(dim=0).clamp(min=1e-3) * seen.shape[1] ** 0.5
        )

    @property
    def size(self) -> int:
        """Side of what it wants to see, in pixels."""
        return self.network.config.size

    def __call__(self, levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What it says and sees of views.

        Args:
            levels: RGB levels, shape (N, 3, size, size).

        Returns:
            Probability of each year, shape (N, 101), and of "female", shape (N,); its features as hints, shape (N, F).
        """
        seen = _look(self.network, levels)
        with torch.no_grad():
            years, female = torch.softmax(self.network.age(seen), dim=1), torch.sigmoid(self.network.gender(seen)[:, 0])
        return years, female, (seen - self.middle) / self.spread


@torch.no_grad()
def _look(network: FaceNetwork, levels: Tensor) -> Tensor:
    """Features, shape (N, F): heads are linear, so what they say of the mean is the mean of what they say of both."""
    seen = []
    with in_bf16(levels.device):
        for some in torch.split(levels, CHUNK):
            both = [normalise(view).contiguous(memory_format=torch.channels_last) for view in (some, some.flip(3))]
            seen.append(torch.stack([network.features(view) for view in both]).mean(dim=0))
    return torch.cat(seen).float()
