"""Feeds training: which faces come when, and what is made of them. All of it follows from (seed, step) alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from agelens.training.augment import AugmentConfig, centre_crop, change_light, draw_crop
from agelens.training.crops import CropSet
from agelens.training.losses import band_mask, cut_to_band
from agelens.training.networks import AGE_BINS, normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

AHEAD = 4  # batches made in advance


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's input: normalised crops (N, 3, S, S), year masks and teacher targets (N, 101), female (N,)."""

    crops: Tensor
    inside: Tensor
    target: Tensor
    female: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """What is learned from.

    Attributes:
        crops: The faces.
        rows: Which of them, shape (N,).
        weights: How often each row is drawn, relative to the others, shape (N,).
        teacher: A teacher's distribution over years for every face of `crops`, shape (len(crops), 101), or None.
        widening: By how much the crops are wider than what the network sees.
    """

    crops: CropSet
    rows: NDArray[np.int64]
    weights: NDArray[np.float64]
    teacher: NDArray[np.float32] | None
    widening: float


class BatchMaker:
    """Makes the batch of any step."""

    def __init__(self, lessons: Lessons, *, size: int, batch: int, augment: AugmentConfig, seed: int) -> None:
        self.lessons, self.size, self.batch, self.augment, self.seed = lessons, size, batch, augment, seed
        self.steps_per_epoch = max(len(lessons.rows) // batch, 1)
        self._epoch = -1
        self._order = np.zeros(0, np.int64)

    def rows_of(self, step: int) -> NDArray[np.int64]:
        """The rows of a step: within an epoch each row comes once, or as its weight says."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order, self._epoch = self._order_of(epoch), epoch
        return self._order[place * self.batch : (place + 1) * self.batch]

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, 1, epoch])
        rows, weights = self.lessons.rows, self.lessons.weights
        # Systematic sampling: a row of weight w comes floor(w) or ceil(w) times.
        marks = np.cumsum(weights / weights.mean()) + rng.random()
        counts = np.diff(np.floor(marks), prepend=np.floor(marks[0] - weights[0] / weights.mean())).astype(int)
        order = rng.permutation(np.repeat(rows, counts))
        short = self.steps_per_epoch * self.batch - len(order)
        return np.concatenate([order, rng.choice(rows, short)]) if short > 0 else order

    def make(self, step: int, rows: NDArray[np.int64]) -> Batch:
        rng = np.random.default_rng([self.seed, 2, step])
        lessons = self.lessons
        crops = np.stack(
            [draw_crop(lessons.crops.pixels[row], lessons.widening, self.size, self.augment, rng) for row in rows]
        )
        pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
        low, high = torch.from_numpy(lessons.crops.age_low[rows]), torch.from_numpy(lessons.crops.age_high[rows])
        inside = band_mask(low, high, AGE_BINS)
        if lessons.teacher is None:
            target = torch.zeros_like(inside)
        else:
            target = cut_to_band(torch.from_numpy(lessons.teacher[rows]), inside)
        female = torch.from_numpy(lessons.crops.female[rows])
        pixels = normalise(change_light(pixels, self.augment, rng))
        return Batch(pixels.contiguous(memory_format=torch.channels_last), inside, target, female)

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps start .. stop - 1, made in a thread of their own."""
        with ThreadPoolExecutor(1) as pool:
            waiting: list[Future[Batch]] = []
            for step in range(start, stop):
                waiting.append(pool.submit(self.make, step, self.rows_of(step)))
                if len(waiting) > AHEAD:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()


def still_crops(crops: CropSet, rows: NDArray[np.int64], widening: float, size: int) -> NDArray[np.uint8]:
    """What prediction would see of some faces: RGB uint8, shape (N, size, size, 3)."""
    return np.stack([centre_crop(crops.pixels[row], widening, size) for row in rows])
