"""Many looks at one person -> one age distribution and one gender probability, no surer than they deserve.

Frames are not independent. What a model gets wrong about a person, it gets wrong in every frame; only the rest, by
which the frames of a track differ, can be averaged away. Both are measured on the track itself:

* the spread of the frames' ages around their mean, against the variance that the model itself states for one frame,
  says which share of the error is of the second kind;
* how alike successive frames err (the autocorrelation of lag one) says how many independent looks they are worth.

A still picture shown a hundred times has no spread, so it narrows nothing. The distributions are pooled as logarithms
(an external Bayesian's opinion pool: Genest & Zidek, Statistical Science 1, 1986), better looks with more weight, and
sharpened by no more than those two measurements allow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from agelens.modelspec import AGE_BINS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agelens.groups import AgeGroups
    from agelens.types import Age

Floats = NDArray[np.float64]

FLOOR: Final = 1e-6
"""Least probability of a year, so that one frame can't rule out what the others see."""

SCORE_SCALE: Final = 0.01
"""A look whose detection score is lower by so much counts e times less. Tuned, as `DOUBT` was, on made-up tracks of
utkface-train and aaf-train (`benchmarks/video.py` measures on others)."""

DOUBT: Final = 1.0
"""So many looks without any spread are assumed beside the real ones: a short track has not shown its spread yet."""

LIKENESS: Final = 0.5
LIKENESS_LOOKS: Final = 4.0
"""The autocorrelation that is assumed, as if seen on so many looks."""

MOST_SHARE: Final = 0.8
"""Of the error that differs between frames, at most."""

MARGIN: Final = 0.05
"""By how much another age group must be likelier before the label changes; chosen on tracks of training packs
(`benchmarks/video_margin.py`)."""

MOST_LOGIT: Final = 7.0
_YEARS: Final = np.arange(AGE_BINS, dtype=np.float64)


@dataclass(slots=True)
class _Ages:
    """Running sums over the looks at one person's age, each look with its weight."""

    weight: float = 0.0
    squared_weight: float = 0.0
    logs: Floats = field(default_factory=lambda: np.zeros(AGE_BINS))
    stated: float = 0.0  # variance in years², times weight
    mean: float = 0.0
    spread: float = 0.0  # squared deviation from the mean, times weight
    products: float = 0.0  # of successive deviations, times weight
    last: float = 0.0  # the latest deviation

    def scale(self, factor: float) -> None:
        self.weight *= factor
        self.squared_weight *= factor * factor
        self.logs *= factor
        self.stated *= factor
        self.spread *= factor
        self.products *= factor

    def add(self, distribution: Floats, weight: float) -> None:
        years = float(distribution @ _YEARS)
        variance = float(distribution @ (_YEARS - years) ** 2)
        weight /= math.sqrt(max(variance, 1.0))  # who is unsure says less
        self.weight += weight
        self.squared_weight += weight * weight
        self.logs += weight * np.log(np.maximum(distribution, FLOOR))
        self.stated += weight * variance
        before = years - self.mean
        self.mean += before * weight / self.weight
        deviation = years - self.mean
        self.spread += weight * before * deviation
        self.products += weight * deviation * self.last
        self.last = deviation


def settle_group(age: Age, before: str | None, groups: AgeGroups, margin: float = MARGIN) -> Age:
    """The same age, told as the group that was told before unless another one is likelier by `margin`.

    Near a border between two groups the likelier one changes with every look, and the label would flicker.
    """
    if before is None or before == age.group or before not in groups.labels or not age.distribution:
        return age
    index = groups.labels.index(before)
    probability = sum(p for p, group in zip(age.distribution, groups.member, strict=True) if group == index)
    if age.group_probability > probability + margin:
        return age
    return replace(age, group=before, group_probability=min(probability, 1.0))


class Fusion:
    """What the looks at one person say together. Memory and time of a look don't grow with their number."""

    def __init__(self) -> None:
        self.looks = 0
        self._best = -math.inf  # the highest score so far, whose weight is 1
        self._ages = _Ages()
        self._gender_weight = 0.0
        self._logits = 0.0

    def add(self, ages: Sequence[float] | None, female: float | None, score: float) -> None:
        """Takes one look.

        Args:
            ages: Probability of each whole year, shape (101,); None where the age isn't asked for.
            female: Probability of "female"; None where the gender isn't asked for.
            score: Of the detection, 0 to 1: how well the face is seen.
        """
        self.looks += 1
        if score > self._best:
            factor = math.exp((self._best - score) / SCORE_SCALE)
            self._ages.scale(factor)
            self._gender_weight *= factor
            self._logits *= factor
            self._best = score
        weight = math.exp((score - self._best) / SCORE_SCALE)
        if ages is not None:
            distribution = np.asarray(ages, dtype=np.float64)
            self._ages.add(distribution / distribution.sum(), weight)
        if female is not None:
            least = 1 / (1 + math.exp(MOST_LOGIT))
            bounded = min(max(female, least), 1 - least)
            self._gender_weight += weight
            self._logits += weight * math.log(bounded / (1 - bounded))

    @property
    def likeness(self) -> float:
        """The autocorrelation of successive looks' errors, 0 to below 1, as measured so far."""
        ages = self._ages
        prior = LIKENESS_LOOKS * (ages.spread / ages.weight if ages.weight else 0.0)
        if prior <= 0:
            return LIKENESS
        measured = (ages.products + LIKENESS * prior) / (ages.spread + prior)
        # A short track's own mean takes part of a slow error away, which lowers what is measured (Kendall, 1954).
        return min(max(measured + (1 + 4 * measured) / self.looks, 0.0), 0.99)

    @property
    def independent_looks(self) -> float:
        """How many independent looks those so far are worth, at least 1: weight counts, and likeness discounts."""
        ages = self._ages
        if not ages.weight:
            return 1.0
        count = ages.weight**2 / ages.squared_weight
        return max(count * (1 - self.likeness) / (1 + self.likeness), 1.0)

    @property
    def remaining(self) -> float:
        """The share of one look's variance that is left in the fused age, above 0 to 1."""
        ages = self._ages
        if not ages.stated:
            return 1.0
        count = ages.weight**2 / ages.squared_weight
        variance = ages.spread / ages.weight * count / (count - 1 + DOUBT)
        share = min(variance / (ages.stated / ages.weight), MOST_SHARE)
        return 1 - share * (1 - 1 / self.independent_looks)

    def read_ages(self) -> Floats | None:
        """The fused probability of each whole year, shape (101,); None where no look told an age."""
        ages = self._ages
        if not ages.weight:
            return None
        logs = ages.logs / (ages.weight * self.remaining)
        pooled = np.exp(logs - logs.max())
        result: Floats = pooled / pooled.sum()
        return result

    def read_female(self) -> float | None:
        """The fused probability of "female"; None where no look told a gender."""
        if not self._gender_weight:
            return None
        return 1 / (1 + math.exp(-self._logits / self._gender_weight))
