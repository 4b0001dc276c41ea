"""Makes stated probabilities true: temperature for ages and gender, and how wide a 90% interval must be.

Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Intervals: split conformal
prediction on the predicted distribution's own scale (Romano, Patterson & Candes 2019; groups as in Vovk's Mondrian
predictors): for each kind of face, the level is the one that held the true age of enough calibration faces.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.estimate import read_quantile
from agelens.modelspec import AGE_BINS, IntervalLevel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEAST_FACES = 150
"""A kind of face with fewer calibration faces shares the level of a wider kind."""
AGE_CUTS = (0, 4, 10, 16, 22, 30, 40, 50, 60, 70, 101)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Corrections: age logits are divided by a temperature, the gender logit is scaled and shifted."""

    age_temperature: float = 1.0
    gender_scale: float = 1.0
    gender_shift: float = 0.0
    levels: tuple[IntervalLevel, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "age_temperature": self.age_temperature,
            "gender_scale": self.gender_scale,
            "gender_shift": self.gender_shift,
            "levels": [[level.low, level.high, level.gender, level.level] for level in self.levels],
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Calibration:
        levels = tuple(IntervalLevel(*level) for level in values["levels"])
        return Calibration(values["age_temperature"], values["gender_scale"], values["gender_shift"], levels)


def softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def band_likelihood(probabilities: Floats, low: Floats, high: Floats) -> Floats:
    """Probability mass inside each band, shape (N,)."""
    years = np.arange(AGE_BINS)[None]
    inside = (years >= np.minimum(low, AGE_BINS - 1)[:, None]) & (years <= high[:, None])
    return np.asarray((probabilities * inside).sum(axis=1))


def fit_age_temperature(age_logits: Floats, low: Floats, high: Floats) -> float:
    """The temperature with the best likelihood of the labels."""
    known = ~np.isnan(low)
    candidates = np.exp(np.linspace(np.log(0.4), np.log(3.0), 81))
    losses = [
        -np.log(band_likelihood(softmax(age_logits[known] / t), low[known], high[known]) + 1e-9).mean()
        for t in candidates
    ]
    return float(candidates[int(np.argmin(losses))])


def fit_gender(logits: Floats, female: Floats) -> tuple[float, float]:
    """Scale and shift with the best likelihood (Platt scaling), by Newton's method."""
    known = ~np.isnan(female)
    x, y = np.stack([logits[known], np.ones(int(known.sum()))], axis=1), female[known]
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -40, 40)))
        gradient = x.T @ (p - y) + 1e-3 * (weights - [1.0, 0.0])
        curvature = (x * (p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0]), float(weights[1])


def draw_ages(probabilities: Floats, low: Floats, high: Floats, rng: np.random.Generator) -> Floats:
    """An exact age for every label: itself, or one drawn from the model's distribution inside the band. NaN unknown."""
    years = np.arange(AGE_BINS)[None]
    inside = (years >= np.minimum(low, AGE_BINS - 1)[:, None]) & (years <= high[:, None])
    mass = np.cumsum((probabilities + 1e-6) * inside, axis=1)
    drawn = (mass < rng.random(len(low))[:, None] * mass[:, -1:]).sum(axis=1).astype(np.float64)
    return np.where(np.isnan(low), np.nan, np.where(low == high, low, drawn))


def needed_levels(probabilities: Floats, ages: Floats) -> Floats:
    """The share of the distribution that a central interval must hold to reach each true age, shape (N,).

    The mass of year a lies evenly on [a - 0.5, a + 0.5], as prediction reads it.
    """
    edges = np.concatenate([np.zeros((len(ages), 1)), np.cumsum(probabilities, axis=1)], axis=1)
    place = np.clip(ages + 0.5, 0, AGE_BINS)
    year = np.minimum(place.astype(int), AGE_BINS - 1)
    rows = np.arange(len(ages))
    below = edges[rows, year] + (place - year) * probabilities[rows, year]
    return np.asarray(np.abs(2 * below - 1))


def decode_years(probabilities: Floats, decode: str) -> Floats:
    """The age that prediction tells of each distribution (N, 101): its "mean" or its "median", shape (N,)."""
    if decode == "mean":
        return probabilities @ np.arange(AGE_BINS)
    edges = np.concatenate([np.zeros((len(probabilities), 1)), np.cumsum(probabilities, axis=1)], axis=1)
    return np.array([read_quantile(each, 0.5) for each in edges])


def fit_levels(
    probabilities: Floats, ages: Floats, predicted: tuple[Floats, NDArray[np.bool_]], coverage: float
) -> tuple[IntervalLevel, ...]:
    """Interval levels by predicted gender and age, then by age, then for all.

    Args:
        probabilities: Of years, shape (N, 101).
        ages: True ages, shape (N,), NaN where unknown.
        predicted: What prediction tells, by which it finds its level: the age and whether female, shape (N,) each.
        coverage: What share of ages the intervals shall hold.
    """
    known = ~np.isnan(ages)
    probabilities, ages = probabilities[known], ages[known]
    years, predicted_female = predicted[0][known], predicted[1][known]
    needed = needed_levels(probabilities, ages)
    levels: list[IntervalLevel] = []
    everyone = np.ones(len(ages), bool)
    for gender, of_gender in (("female", predicted_female), ("male", ~predicted_female), ("any", everyone)):
        for low, high in itertools.pairwise(AGE_CUTS):
            of_kind = of_gender & (years >= low) & (years < high)
            if of_kind.sum() >= LEAST_FACES:
                levels.append(IntervalLevel(low, high, gender, conformal_level(needed[of_kind], coverage)))
    levels.append(IntervalLevel(0, 200, "any", conformal_level(needed, coverage)))
    return tuple(levels)


def conformal_level(needed: Floats, coverage: float) -> float:
    """The level that held the wanted share of calibration faces, with the finite-sample correction."""
    rank = min(int(np.ceil((len(needed) + 1) * coverage)), len(needed))
    return float(np.sort(needed)[rank - 1])
