"""Hints: a network that learns tells what a large one sees of a face, beside its age and gender.

What a network trained on millions of people sees says far more of a face than one age and one gender, and it was
learned from other labels than ours, so there is nothing of ours in it to learn by heart (Romero et al., "FitNets: Hints
for Thin Deep Nets", ICLR 2015). The part that tells it is left out when the learning is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from agelens.errors import TrainingError
from agelens.training.classes import YEARS
from agelens.training.networks import MEAN, SCALE, FaceNetwork, Network
from agelens.training.recipe.shorten import regress

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Hinted(Network):
    """A network and what it tells of hints: its third answer is that, shape (N, H), in place of its features.

    Args:
        network: The network, which is not copied.
        hints: How many numbers a hint has.
    """

    kind = "hinted"
    classes = YEARS
    mean = MEAN
    scale = (SCALE, SCALE, SCALE)

    def __init__(self, network: FaceNetwork, hints: int) -> None:
        super().__init__()
        self.side = network.side
        self.network = network
        self.tell = nn.Linear(network.age.in_features, hints)

    def heads(self, task: str) -> list[nn.Parameter]:
        return self.network.heads(task)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        age, gender, features = self.network(x)
        return age, gender, self.tell(features)


@torch.no_grad()
def begin_to_tell(network: FaceNetwork, crops: Tensor, hints: Tensor) -> Hinted:
    """A network that tells hints as well as its features allow before it has learned to.

    Args:
        network: It learns on.
        crops: What it sees, normalised, shape (N, 3, size, size).
        hints: Theirs, shape (N, H).
    """
    hinted = Hinted(network, hints.shape[1]).to(crops.device)
    planes = crops.contiguous(memory_format=torch.channels_last)
    network.eval()
    features = torch.cat([network.features(part) for part in torch.split(planes, 256)]).double().cpu().numpy()
    weights, offsets = regress(features, hints.double().cpu().numpy())
    hinted.tell.weight.copy_(torch.from_numpy(weights.T))
    hinted.tell.bias.copy_(torch.from_numpy(offsets))
    return hinted


def shrink(seen: NDArray[np.float32], rows: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Hints of what a teacher sees: its principal components, on a scale on which their squares sum to 1 on average.

    So the squared error of telling them is the share that is not explained.

    Args:
        seen: Shape (F, D).
        rows: The faces by which components and scale are found.
        count: How many components.

    Returns:
        Shape (F, count); of each component's two signs the one by which its largest weight is positive.

    Raises:
        TrainingError: All faces look the same, or there are fewer components.
    """
    known = seen[rows].astype(np.float64)
    middle = known.mean(axis=0)
    _, directions = np.linalg.eigh(np.cov(known, rowvar=False))
    directions = directions[:, ::-1][:, :count]
    largest = np.abs(directions).argmax(axis=0)
    components = (seen - middle) @ (directions * np.sign(directions[largest, np.arange(directions.shape[1])]))
    scale = np.sqrt((components[rows] ** 2).sum(axis=1).mean())
    if directions.shape[1] < count or not scale > 0:
        raise TrainingError(
            f"{count} numbers can't be made of what a teacher sees of {len(rows)} faces: give more faces"
        )
    return np.asarray(components / scale, np.float32)
