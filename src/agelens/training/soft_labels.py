"""What the faces of a recipe are taught: their labels, softened by what teachers say of them.

Soft labels: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015. A teacher is believed inside
what the label allows and no further, so that its own errors are not learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from agelens.training.crops import LABELS, CropSet
from agelens.training.losses import band_mask, cut_to_band
from agelens.training.networks import AGE_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

CERTAIN, VAGUER = 1.0, 0.04
"""An exact age of a face is as good as its annotator's eye: a standard deviation of a year, and 4% of the age."""


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """What a teacher says of the faces of a crop set.

    Attributes:
        ages: Probability of each year, shape (N, 101).
        female: Probability of "female", shape (N,).
    """

    ages: NDArray[np.float32]
    female: NDArray[np.float32]


def merge(opinions: Sequence[Opinion], shares: Sequence[float]) -> Opinion:
    """What several teachers say together: the weighted mean of their log probabilities, as probabilities again."""
    ages = sum(share * np.log(np.maximum(each.ages, 1e-9)) for each, share in zip(opinions, shares, strict=True))
    raised = np.exp(ages - np.max(ages, axis=1, keepdims=True))
    sides = [np.stack([1 - each.female, each.female], axis=1) for each in opinions]
    genders = np.exp(sum(share * np.log(np.clip(side, 1e-9, 1)) for side, share in zip(sides, shares, strict=True)))
    return Opinion(
        (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32),
        (genders[:, 1] / genders.sum(axis=1)).astype(np.float32),
    )


def soften(
    crops: CropSet, first: NDArray[np.float32], second: Opinion, *, age: float, gender: float
) -> tuple[CropSet, NDArray[np.float32]]:
    """Labels and teachers, mixed.

    Args:
        crops: The faces.
        first: What the first teacher says of their ages, shape (N, 101).
        second: What the second one says.
        age: Share of the second teacher in the ages, beside the first.
        gender: Share of the second teacher in the genders, beside the label.

    Returns:
        The faces with softened genders, and a distribution over years for each, shape (N, 101).
    """
    inside = band_mask(torch.from_numpy(crops.age_low), torch.from_numpy(crops.age_high), AGE_BINS)
    cut = [cut_to_band(torch.from_numpy(each), inside).numpy() for each in (first, second.ages)]
    female = ((1 - gender) * crops.female + gender * second.female).astype(np.float32)
    return replace(crops, female=female), ((1 - age) * cut[0] + age * cut[1]).astype(np.float32)


def blur_exact(crops: CropSet, target: NDArray[np.float32]) -> tuple[CropSet, NDArray[np.float32]]:
    """Exact ages as bands of a standard deviation to both sides, with a normal distribution as target.

    Args:
        crops: The faces; bands and unknown ages stay as they are.
        target: A distribution over years for each face, shape (N, 101); used where the age is a band or unknown.
    """
    exact, age = crops.age_low == crops.age_high, crops.age_low
    spread = CERTAIN + VAGUER * age
    density = np.exp(-(((np.arange(AGE_BINS)[None] - age[:, None]) / spread[:, None]) ** 2) / 2)
    density /= np.maximum(density.sum(axis=1, keepdims=True), 1e-9)
    blurred = replace(
        crops,
        age_low=np.where(exact, np.maximum(age - spread, 0), crops.age_low).astype(np.float32),
        age_high=np.where(exact, age + spread, crops.age_high).astype(np.float32),
    )
    return blurred, np.where(exact[:, None], density, target).astype(np.float32)


def balance(crops: CropSet, rows: NDArray[np.int64], power: float) -> NDArray[np.float64]:
    """How often each face is drawn, relative to the others, shape (N,): n^-power for one of n of an age and gender.

    An age is a band where the label is one, else a decade; unknown ages are a kind of their own.
    """
    low, high = (np.nan_to_num(values[rows], nan=-1) for values in (crops.age_low, crops.age_high))
    age = np.where(low == high, np.floor(low / 10) * 10 + 0.5, low)
    kinds = np.stack([age, crops.female[rows] >= 0.5], axis=1)
    _, kind, counts = np.unique(kinds, axis=0, return_inverse=True, return_counts=True)
    weights = counts[kind.ravel()].astype(np.float64) ** -power
    return np.asarray(weights / weights.mean())


def join_crops(sets: Sequence[CropSet]) -> CropSet:
    """Several crop sets as one, their pixels in memory; near-duplicate groups stay apart."""
    if len(sets) == 1:
        return replace(sets[0], pixels=np.array(sets[0].pixels))
    lost: dict[str, int] = {}
    groups, first = [], 0
    for crops in sets:
        groups.append(np.where(crops.group >= 0, crops.group + first, -1))
        first += int(crops.group.max(initial=-1)) + 1
        for reason, count in crops.lost.items():
            lost[reason] = lost.get(reason, 0) + count
    joined = {name: np.concatenate([getattr(crops, name) for crops in sets]) for name in (*LABELS, "row")}
    joined["group"] = np.concatenate(groups)
    return CropSet(
        pixels=np.concatenate([crops.pixels for crops in sets]),
        geometry=sets[0].geometry,
        **joined,
        fingerprint=hashlib.sha256("".join(crops.fingerprint for crops in sets).encode()).hexdigest(),
        lost=lost,
    )
