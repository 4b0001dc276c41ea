"""Makes stated probabilities true: a temperature for ages, scale and shift for gender (intervals: see `intervals`).

Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.estimate import read_years
from agelens.modelspec import AGE_BINS, IntervalLevel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


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
            "levels": [level.to_list() for level in self.levels],
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Calibration:
        levels = tuple(map(IntervalLevel.from_list, values["levels"]))
        return Calibration(values["age_temperature"], values["gender_scale"], values["gender_shift"], levels)


def softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def mark_band(low: Floats, high: Floats) -> NDArray[np.bool_]:
    """Which years lie in each band, shape (N, 101); the last means that and more."""
    years = np.arange(AGE_BINS)[None]
    return np.asarray((years >= np.minimum(low, AGE_BINS - 1)[:, None]) & (years <= high[:, None]))


def band_likelihood(probabilities: Floats, low: Floats, high: Floats) -> Floats:
    """Probability mass inside each band, shape (N,)."""
    return np.asarray((probabilities * mark_band(low, high)).sum(axis=1))


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


def decode_years(probabilities: Floats, decode: str) -> Floats:
    """The age that prediction tells of each distribution (N, 101), shape (N,); see `read_years`."""
    return np.array([read_years(each, decode) for each in edges_of(probabilities)])


def edges_of(probabilities: Floats) -> Floats:
    """Cumulative probabilities at the edges of the years, shape (N, 102), as `estimate.read_quantile` wants them."""
    return np.concatenate([np.zeros((len(probabilities), 1)), np.cumsum(probabilities, axis=1)], axis=1)
