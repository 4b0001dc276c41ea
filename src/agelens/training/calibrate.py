"""Makes stated probabilities true: a temperature for ages; a scale, a shift and a sureness by age for gender.

Intervals: see `intervals`. Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
Scale and shift: Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
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


SURE_AGES = (5.0, 13.0, 25.0)
"""Children, teenagers, adults: between these ages what gender may be sure of changes evenly, beyond them not."""
FIRM = 10.0
"""How firmly gender is held to be as sure at every age as on average: as faces that tell so much would hold it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Corrections of what a network says.

    Attributes:
        age_temperature: Age logits are divided by it.
        gender_scale: The gender logit is multiplied by it,
        gender_shift: and this is added.
        levels: Where intervals of ages begin and end.
        sureness: What the logit that comes of it is multiplied by at each of `SURE_AGES`, weighed by the distribution
            of ages; nothing leaves it as it is. Positive, so that nobody's likelier gender changes.
    """

    age_temperature: float = 1.0
    gender_scale: float = 1.0
    gender_shift: float = 0.0
    levels: tuple[IntervalLevel, ...] = ()
    sureness: tuple[float, ...] = ()

    @property
    def sureness_by_year(self) -> Floats:
        """Of each year, shape (101,)."""
        return np.interp(np.arange(AGE_BINS), SURE_AGES, self.sureness) if self.sureness else np.ones(AGE_BINS)

    def tell_female(self, gender_logits: Floats, years: Floats) -> Floats:
        """How likely each face is "female", shape (N,).

        Args:
            gender_logits: As the network gives them, shape (N,).
            years: The calibrated distribution of ages, shape (N, 101).
        """
        logits = (gender_logits * self.gender_scale + self.gender_shift) * (years @ self.sureness_by_year)
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -40, 40))))

    def to_dict(self) -> dict[str, Any]:
        return {
            "age_temperature": self.age_temperature,
            "gender_scale": self.gender_scale,
            "gender_shift": self.gender_shift,
            "levels": [level.to_list() for level in self.levels],
            "sureness": list(self.sureness),
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Calibration:
        levels = tuple(map(IntervalLevel.from_list, values["levels"]))
        scale, shift, sureness = values["gender_scale"], values["gender_shift"], values.get("sureness", ())
        return Calibration(values["age_temperature"], scale, shift, levels, tuple(sureness))


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
    """Scale and shift with the best likelihood (Platt scaling)."""
    known = ~np.isnan(female)
    numbers = np.stack([logits[known], np.ones(int(known.sum()))], axis=1)
    scale, shift = _fit_logistic(numbers, female[known], np.array([1.0, 0.0]), 1e-3)
    return float(scale), float(shift)


def fit_sureness(logits: Floats, female: Floats, years: Floats) -> tuple[float, ...]:
    """How sure gender may be at each of `SURE_AGES`: what suits the labels best, and nothing where ages say nothing.

    Args:
        logits: Scaled and shifted, shape (N,).
        female: Labels, NaN where unknown.
        years: Calibrated distributions of ages, shape (N, 101).
    """
    known = ~np.isnan(female)
    places = np.arange(AGE_BINS)
    weights = np.stack([np.interp(places, SURE_AGES, corner) for corner in np.eye(len(SURE_AGES))], axis=1)
    numbers = logits[known, None] * (years[known] @ weights)
    fitted = _fit_logistic(numbers, female[known], np.ones(len(SURE_AGES)), FIRM)
    return tuple(np.clip(fitted, 0.1, 3.0).tolist())


def _fit_logistic(numbers: Floats, labels: Floats, prior: Floats, firm: float) -> Floats:
    """The weights, shape (D,), of a logistic regression, by Newton's method.

    Args:
        numbers: By which labels are told, shape (N, D).
        labels: 0 to 1, shape (N,).
        prior: What they are held to be without labels.
        firm: How firmly.
    """
    weights = prior
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(numbers @ weights, -40, 40)))
        gradient = numbers.T @ (p - labels) + firm * (weights - prior)
        curvature = (numbers * (p * (1 - p))[:, None]).T @ numbers + firm * np.eye(len(prior))
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(weights)


def decode_years(probabilities: Floats, decode: str) -> Floats:
    """The age that prediction tells of each distribution (N, 101), shape (N,); see `read_years`."""
    return np.array([read_years(each, decode) for each in edges_of(probabilities)])


def edges_of(probabilities: Floats) -> Floats:
    """Cumulative probabilities at the edges of the years, shape (N, 102), as `estimate.read_quantile` wants them."""
    return np.concatenate([np.zeros((len(probabilities), 1)), np.cumsum(probabilities, axis=1)], axis=1)
