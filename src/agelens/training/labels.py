"""Labels of the faces of a recipe: exact ages as distributions, how often each face is shown, several sets as one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from agelens.training.crops import LABELS, CropSet
from agelens.training.networks import AGE_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

CERTAIN, VAGUER = 1.0, 0.04
"""An exact age of a face is as good as its annotator's eye: a standard deviation of a year, and 4% of the age."""


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


def weigh_races(crops: CropSet, rows: NDArray[np.int64], races: Mapping[str, float]) -> NDArray[np.float64]:
    """How often each face is drawn by its race, shape (N,); 1 for all that aren't named."""
    return np.array([races.get(str(race), 1.0) for race in crops.race[rows]], np.float64)


def draw_pass(
    rows: NDArray[np.int64], weights: NDArray[np.float64], rng: np.random.Generator, count: int
) -> NDArray[np.int64]:
    """The order of one pass over faces, at least `count` long: each comes once, or as often as its weight says.

    Args:
        rows: The faces, shape (N,).
        weights: How often each is drawn, relative to the others, shape (N,).
        rng: Decides.
        count: Where fewer come, some come again.
    """
    # Systematic sampling: a row of weight w comes floor(w) or ceil(w) times.
    marks = np.cumsum(weights / weights.mean()) + rng.random()
    counts = np.diff(np.floor(marks), prepend=np.floor(marks[0] - weights[0] / weights.mean())).astype(int)
    order = rng.permutation(np.repeat(rows, counts))
    short = count - len(order)
    return np.concatenate([order, rng.choice(rows, short)]) if short > 0 else order


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
