"""Feeds training: which faces come when, and what is made of them. All of it follows from (seed, step) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from agelens.groups import NAMED, AgeGroups
from agelens.training.augment import DRAWS, AugmentConfig, centre_crop, change_light, draw_crop, soften
from agelens.training.classes import YEARS, AgeClasses
from agelens.training.labels import draw_pass
from agelens.training.team import Team

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.training.crops import CropSet
    from agelens.training.networks import Network

AHEAD = 4  # batches made in advance


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's input, N faces, C age classes.

    Attributes:
        crops: Normalised, shape (N, 3, S, S).
        inside: 1.0 for the classes that the label allows, shape (N, C); all 0 where it says nothing.
        target: A distribution over the classes, shape (N, C); all 0 where there is none.
        female: 1.0 female, 0.0 male, NaN unknown, shape (N,).
        group: The age group that the label lies in, shape (N,), -1 where it lies in none or is unknown.
        age_weight: How much the age label counts, shape (N,).
        gender_weight: How much the gender label counts, shape (N,).
        hint: What a teacher sees, shape (N, H); None: nothing is told of it.
    """

    crops: Tensor
    inside: Tensor
    target: Tensor
    female: Tensor
    group: Tensor
    age_weight: Tensor
    gender_weight: Tensor
    hint: Tensor | None = None

    @staticmethod
    def of_equals(crops: Tensor, inside: Tensor, target: Tensor, female: Tensor, hint: Tensor | None = None) -> Batch:
        """A batch in which all labels count alike and nobody asks for groups."""
        ones = torch.ones(len(crops), device=crops.device)
        return Batch(crops, inside, target, female, torch.full_like(ones, -1, dtype=torch.int64), ones, ones, hint)

    def to(self, device: torch.device) -> Batch:
        return self._with_each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> Batch:
        """The same in memory that a GPU fetches from by itself, while the processor goes on."""
        return self._with_each(Tensor.pin_memory)

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        there = {name: getattr(self, name) for name in self.__slots__}
        return Batch(**{name: change(tensor) for name, tensor in there.items() if tensor is not None})


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """What is learned from.

    Attributes:
        crops: The faces.
        rows: Which of them, shape (N,).
        weights: How often each row is drawn, relative to the others, shape (N,).
        widening: By how much the crops are wider than what the network sees.
        classes: What the age logits tell apart.
        groups: The set of age groups by which accuracy is counted.
        deviation: Standard deviation in years of the distribution that an exact age becomes; None: it stays exact.
        single: Whether a label that allows several classes says nothing (cross-entropy).
        age_known: Whether the age label of each face of `crops` counts, shape (len(crops),); None: all do.
        age_weights: Weight of each face's age label, shape (len(crops),); None: all 1.
        gender_weights: Weight of each face's gender label; None: all 1.
    """

    crops: CropSet
    rows: NDArray[np.int64]
    weights: NDArray[np.float64]
    widening: float
    classes: AgeClasses = YEARS
    groups: AgeGroups = NAMED["adience"]
    deviation: float | None = None
    single: bool = False
    age_known: NDArray[np.bool_] | None = None
    age_weights: NDArray[np.float32] | None = None
    gender_weights: NDArray[np.float32] | None = None


class BatchMaker:
    """Makes the batch of any step.

    Args:
        lessons: What is learned from.
        network: Whose crops they are.
        batch: Faces in a batch of this process.
        augment: Changes made to the crops.
        seed: Of order and changes.
        team: The processes that share each step; together they see what one with `world` times the batch would.
    """

    def __init__(
        self,
        lessons: Lessons,
        network: Network,
        *,
        batch: int,
        augment: AugmentConfig,
        seed: int,
        team: Team | None = None,
    ) -> None:
        team = team or Team()
        self.lessons, self.size, self.batch, self.augment, self.seed = lessons, network.side, batch, augment, seed
        self._mean, self._factor = np.array(network.mean, np.float32), 1 / np.array(network.scale, np.float32)
        self._pins = team.device.type == "cuda"
        self._whole, self._mine = batch * team.world, slice(team.rank * batch, (team.rank + 1) * batch)
        self.steps_per_epoch = max(len(lessons.rows) // self._whole, 1)
        self._epoch = -1
        self._order = np.zeros(0, np.int64)

    def rows_of(self, step: int) -> NDArray[np.int64]:
        """This process's rows of a step: within an epoch each row comes once, or as its weight says."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order, self._epoch = self._order_of(epoch), epoch
        return self._order[place * self._whole : (place + 1) * self._whole][self._mine]

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, 1, epoch])
        return draw_pass(self.lessons.rows, self.lessons.weights, rng, self.steps_per_epoch * self._whole)

    def make(self, step: int, rows: NDArray[np.int64]) -> Batch:
        """The batch of a step, its faces changed at random."""
        draws = np.random.default_rng([self.seed, 2, step]).random((self._whole, DRAWS))[self._mine]
        pixels, lessons = self.lessons.crops.pixels, self.lessons
        crops = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        for place, (row, drawn) in enumerate(zip(rows, draws, strict=True)):
            crops[place] = draw_crop(pixels[row], lessons.widening, self.size, self.augment, drawn)
        levels = change_light(crops, self.augment, draws, np.empty(crops.shape, np.float32))
        batch = self._label(levels, rows)
        return batch.pin() if self._pins else batch

    def _label(self, levels: NDArray[np.float32], rows: NDArray[np.int64]) -> Batch:
        levels -= self._mean
        levels *= self._factor
        # As it lies in memory, (N, S, S, 3) is (N, 3, S, S) in channels_last.
        return label_crops(self.lessons, rows, torch.from_numpy(levels).permute(0, 3, 1, 2))

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps start .. stop - 1, made in a thread of their own."""
        with ThreadPoolExecutor(1) as pool:
            waiting: list[Future[Batch]] = []
            try:
                for step in range(start, stop):
                    waiting.append(pool.submit(self.make, step, self.rows_of(step)))
                    if len(waiting) > AHEAD:
                        yield waiting.pop(0).result()
                for future in waiting:
                    yield future.result()
            finally:
                for future in waiting:
                    future.cancel()


def label_crops(lessons: Lessons, rows: NDArray[np.int64], crops: Tensor) -> Batch:
    """A batch of crops with the labels of their rows."""
    inside, target = label_ages(lessons, rows)
    weights = (
        np.ones(len(rows), np.float32) if kept is None else kept[rows]
        for kept in (lessons.age_weights, lessons.gender_weights)
    )
    arrays = (lessons.crops.female[rows], label_groups(lessons, rows), *weights)
    return Batch(crops, inside, target, *(torch.from_numpy(values) for values in arrays))


def label_ages(lessons: Lessons, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Which classes the labels allow, and the distribution over them where there is one; both (N, C)."""
    low, high = _known_ages(lessons, rows)
    inside = torch.from_numpy(lessons.classes.mark(low, high, single=lessons.single))
    target = torch.zeros_like(inside)
    if lessons.deviation is not None:
        exact = low == high
        ages = np.where(exact, low, 0).astype(np.float32)
        soft = soften(ages, np.full(len(ages), lessons.deviation, np.float32), len(lessons.classes))
        is_exact = torch.from_numpy(exact)[:, None]
        # An exact age is told by its distribution, a band by the mass inside it.
        target, inside = soft * is_exact, inside * ~is_exact
    return inside, target


def label_groups(lessons: Lessons, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The age group that each label lies in as a whole, shape (N,), else -1."""
    low, high = _known_ages(lessons, rows)
    known = ~np.isnan(low)
    first, last = (np.clip(np.nan_to_num(np.rint(ages)), 0, 100).astype(int) for ages in (low, high))
    member = np.asarray(lessons.groups.member)
    return np.where(known & (member[first] == member[last]), member[first], -1)


def _known_ages(lessons: Lessons, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    low, high = lessons.crops.age_low[rows], lessons.crops.age_high[rows]
    if lessons.age_known is None:
        return low, high
    known = lessons.age_known[rows]
    nothing = np.float32("nan")
    return np.where(known, low, nothing), np.where(known, high, nothing)


def still_crops(crops: CropSet, rows: NDArray[np.int64], widening: float, size: int) -> NDArray[np.uint8]:
    """What prediction would see of some faces: RGB uint8, shape (N, size, size, 3)."""
    return np.stack([centre_crop(crops.pixels[row], widening, size) for row in rows])
