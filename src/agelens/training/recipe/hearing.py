"""What teachers say: of views one by one, or of faces as they are, from which what is said of views follows.

Teachers are networks that learned before; what they say is a soft label (Hinton, Vinyals & Dean, "Distilling the
Knowledge in a Neural Network", 2015). Answers are kept in files: they take long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from agelens.outfile import write_whole
from agelens.training.augment import DRAWS, STILL
from agelens.training.devices import in_bf16
from agelens.training.recipe.views import change

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from agelens.training.networks import FaceNetwork
    from agelens.training.recipe.views import Views

CHUNK = 256
"""What teachers see at once."""
Said = tuple[Tensor, Tensor | None]
"""Log probabilities of years (N, 101), and logits of "female" (N,) or None: nothing is said of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A network that says something of views.

    Attributes:
        ask: Gives what it says of RGB levels, shape (N, 3, size, size).
        widening: By how much the faces are wider than what it wants to see.
        size: Side in pixels.
    """

    ask: Callable[[Tensor], Said]
    widening: float
    size: int


def as_teacher(network: FaceNetwork, widening: float) -> Teacher:
    """A network as a teacher."""
    network.eval()

    def ask(levels: Tensor) -> Said:
        with torch.inference_mode(), in_bf16(levels.device):
            answers = [network.look(some) for some in torch.split(levels, CHUNK)]
        ages, female = (torch.cat(parts).float() for parts in zip(*answers, strict=True))
        return torch.log_softmax(ages, dim=1), female

    return Teacher(ask, widening, network.config.size)


def hear(show: Callable[[NDArray[np.int64]], Tensor], numbers: NDArray[np.int64], teacher: Teacher, kept: Path) -> Said:
    """What a teacher says of views, 16 bits a number.

    Args:
        show: Gives views by their numbers, as the teacher wants them.
        numbers: Which views, shape (N,).
        teacher: Who is asked.
        kept: The file (.safetensors) that holds the answers from then on.
    """
    if not kept.is_file():
        ages: list[Tensor] = []
        genders: list[Tensor] = []
        for start in range(0, len(numbers), CHUNK):
            said = teacher.ask(show(numbers[start : start + CHUNK]))
            ages.append(said[0].half())
            if said[1] is not None:
                genders.append(said[1].half())
        _keep(ages, genders, kept)
    return _find(kept)


def hear_faces(faces: Tensor, teacher: Teacher, kept: Path) -> Said:
    """What a teacher says of faces as they are: of each and its mirror image, the mean.

    Args:
        faces: RGB uint8, shape (F, S, S, 3).
        teacher: Who is asked.
        kept: The file (.safetensors) that holds the answers from then on.
    """
    if not kept.is_file():
        ages: list[Tensor] = []
        genders: list[Tensor] = []
        for some in torch.split(faces, CHUNK):
            seen = show_still(some, teacher.widening, teacher.size)
            said = [teacher.ask(view) for view in (seen, seen.flip(3))]
            ages.append(torch.stack([years.exp() for years, _ in said]).mean(dim=0).clamp(min=1e-9).log())
            both = [female for _, female in said if female is not None]
            genders += [torch.stack(both).mean(dim=0)] if both else []
        _keep(ages, genders, kept)
    return _find(kept)


def _keep(ages: list[Tensor], genders: list[Tensor], kept: Path) -> None:
    answers = {"ages": torch.cat(ages).cpu()} | ({"female": torch.cat(genders).cpu()} if genders else {})
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, save(answers))


def _find(kept: Path) -> Said:
    answers = load(kept.read_bytes())
    return answers["ages"], answers.get("female")


def show_still(faces: Tensor, widening: float, size: int) -> Tensor:
    """Faces unchanged: RGB uint8, shape (N, S, S, 3), to RGB levels, shape (N, 3, size, size)."""
    draws = np.full((CHUNK, DRAWS), 0.5, np.float32)
    parts = torch.split(faces, CHUNK)
    with torch.autocast(faces.device.type, enabled=False):  # in bfloat16 places would be half a pixel off
        return torch.cat([change(some, draws[: len(some)], widening, size, STILL) for some in parts])


def mix(said: Said, views: Views, numbers: NDArray[np.int64]) -> Said:
    """What was said of faces as what is said of views: of two that are mixed, the mixture of what is said of each."""
    device = said[0].device
    first, second = (torch.from_numpy(of[numbers]).to(device) for of in (views.first, views.second))
    share = torch.from_numpy(views.share[numbers]).to(device)

    def between(likely: Tensor) -> Tensor:
        part = share.reshape(-1, *[1] * (likely.ndim - 1))
        return part * likely[first] + (1 - part) * likely[second]

    ages, female = said
    mixed = between(ages.float().exp()).clamp(min=1e-9).log()
    return mixed, None if female is None else torch.logit(between(torch.sigmoid(female.float())), eps=1e-6)


def agree(said: list[Said], shares: list[float]) -> Said:
    """What several teachers say together: the weighted mean of their logs; of gender, of those that say something."""
    ages = torch.stack([share / sum(shares) * each[0].float() for each, share in zip(said, shares, strict=True)])
    telling = [(each[1].float(), share) for each, share in zip(said, shares, strict=True) if each[1] is not None]
    if not telling:
        return torch.log_softmax(ages.sum(dim=0), dim=1), None
    total = sum(share for _, share in telling)
    female = torch.stack([logits * (share / total) for logits, share in telling]).sum(dim=0)
    return torch.log_softmax(ages.sum(dim=0), dim=1), female
