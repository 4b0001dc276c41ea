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
"""Children, teenagers, adults: at these ages how sure gender may be is fitted."""
FIRM = 10.0
"""How firmly gender is held to be as sure at each of these ages as at any: the curvature of the penalty, in nats. Some
fifty faces of an age, half of whose genders are in doubt, weigh as much."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Corrections of what a network says.

    Attributes:
        age_temperature: Age logits are divided by it.
        gender_scale: The gender logit is multiplied by it,
        gender_shift: and this is added.
        levels: Where intervals of ages begin and end.
        sureness: By what the logit that comes of it is multiplied: pairs of an age and a factor, even between them and
            beyond, weighed by the distribution of ages; without pairs it stays as it is. Factors are positive, so that
            nobody's likelier gender changes.
        age_faces: How many faces temperature and levels were fitted to; 0: they weren't.
        gender_faces: How many scale, shift and sureness were.
    """

    age_temperature: float = 1.0
    gender_scale: float = 1.0
    gender_shift: float = 0.0
    levels: tuple[IntervalLevel, ...] = ()
    sureness: tuple[tuple[float, float], ...] = ()
    age_faces: int = 0
    gender_faces: int = 0

    @property
    def sureness_by_year(self) -> Floats:
        """Of each year, shape (101,)."""
        ages, factors = zip(*self.sureness, strict=True) if self.sureness else ((0.0,), (1.0,))
        return np.asarray(np.interp(np.arange(AGE_BINS), ages, factors))

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
            "sureness": [list(pair) for pair in self.sureness],
            "age_faces": self.age_faces,
            "gender_faces": self.gender_faces,
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Calibration:
        levels = tuple(map(IntervalLevel.from_list, values["levels"]))
        scale, shift = values["gender_scale"], values["gender_shift"]
        sureness = tuple((age, factor) for age, factor in values.get("sureness", ()))
        faces = (values.get("age_faces", 0), values.get("gender_faces", 0))
        return Calibration(values["age_temperature"], scale, shift, levels, sureness, *faces)


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


def fit_sureness(logits: Floats, female: Floats, years: Floats) -> tuple[tuple[float, float], ...]:
    """How sure gender may be at each of `SURE_AGES`: what suits the labels best; 1 at ages of which there are none.

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
    return tuple(zip(SURE_AGES, np.clip(fitted, 0.1, 3.0).tolist(), strict=True))


def _fit_logistic(numbers: Floats, labels: Floats, prior: Floats, firm: float) -> Floats:
    """The weights, shape (D,), of a logistic regression, by Newton's method.

    Args:
        numbers: By which labels are told, shape (N, D).
        labels: 0 to 1, shape (N,).
        prior: What they are held to be without labels.
        firm: How firmly: the curvature of the penalty.
    """

    def loss(weights: Floats) -> float:
        z = numbers @ weights
        return float((np.logaddexp(0, z) - labels * z).sum() + firm / 2 * ((weights - prior) ** 2).sum())

    weights, before = prior, loss(prior)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(numbers @ weights, -40, 40)))
        gradient = numbers.T @ (p - labels) + firm * (weights - prior)
        curvature = (numbers * (p * (1 - p))[:, None]).T @ numbers + firm * np.eye(len(prior))
        step = np.linalg.solve(curvature, gradient)
        # Where the network is far too sure, a whole step goes too far, and the next one further back.
        while np.abs(step).max() > 1e-9 and not loss(weights - step) <= before:
            step = step / 2
        weights = weights - step
        before = loss(weights)
        if np.abs(step).max() <= 1e-9:
            break
    return np.asarray(weights)


def decode_years(probabilities: Floats, decode: str) -> Floats:
    """The age that prediction tells of each distribution (N, 101), shape (N,); see `read_years`."""
    return np.array([read_years(each, decode) for each in edges_of(probabilities)])


def edges_of(probabilities: Floats) -> Floats:
    """Cumulative probabilities at the edges of the years, shape (N, 102), as `estimate.read_quantile` wants them."""
    return np.concatenate([np.zeros((len(probabilities), 1)), np.cumsum(probabilities, axis=1)], axis=1)
