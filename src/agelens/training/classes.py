"""What an age head tells apart: single years, or age groups; and how its answer becomes a distribution over years.

A group's probability is spread over the years of its own band, so that `predict` gets its 101 years from a network of
groups too, and reading the same groups back out of the years gives exactly the group's probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agelens.groups import NAMED, AgeGroups, parse_groups
from agelens.modelspec import AGE_BINS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

FADE = 0.9
"""In the last group, which is open, each year has this share of the probability of the year before."""


@dataclass(frozen=True, slots=True, eq=False)
class AgeClasses:
    """The classes of an age head.

    Attributes:
        labels: One for each class, youngest first.
        member: Class of each whole year 0 .. 100, shape (101,).
        spread: How each class's probability lies on the years, shape (C, 101); rows sum to 1.
    """

    labels: tuple[str, ...]
    member: NDArray[np.int64]
    spread: Floats

    def __len__(self) -> int:
        return len(self.labels)

    def mark(self, low: Floats, high: Floats, *, single: bool = False) -> Floats:
        """1.0 for the classes that a label allows, shape (N, C); all 0 where it says nothing.

        Args:
            low: First year of each label, shape (N,), NaN where unknown.
            high: Last year.
            single: Whether a label that allows several classes says nothing either.
        """
        years = np.arange(AGE_BINS, dtype=np.float32)
        # A mean of many guesses such as 24.7 lies in the class of the nearest whole year.
        first, last = np.rint(np.minimum(low, AGE_BINS - 1)), np.rint(high)
        allowed = (years >= first[:, None]) & (years <= last[:, None])
        marks = np.zeros((len(low), len(self)), np.float32)
        for index in range(len(self)):
            marks[:, index] = allowed[:, self.member == index].any(axis=1)
        return marks * (marks.sum(axis=1, keepdims=True) == 1) if single else marks

    def to_years(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Class probabilities (N, C) as probabilities of years (N, 101)."""
        return np.asarray(probabilities @ self.spread.astype(np.float64))


YEARS = AgeClasses(
    tuple(str(year) for year in range(AGE_BINS)), np.arange(AGE_BINS), np.eye(AGE_BINS, dtype=np.float32)
)
"""Every year is a class of its own."""


def group_classes(groups: AgeGroups, seen: Sequence[float] = ()) -> AgeClasses:
    """Age groups as classes.

    Args:
        groups: The set.
        seen: How many faces of each exact year 0 .. 100 the training had; empty where it had none. Within a group the
            years share its probability evenly (the open one: fading), leaning towards what was seen.
    """
    spread = np.zeros((len(groups.labels), AGE_BINS), np.float64)
    counts = np.asarray(seen, np.float64) if len(seen) else np.zeros(AGE_BINS)
    for index, (low, high) in enumerate(groups.close(AGE_BINS - 1)):
        years = np.arange(int(low), min(int(high), AGE_BINS - 1) + 1)
        is_open = high >= AGE_BINS - 1
        prior = FADE ** np.arange(len(years)) if is_open else np.ones(len(years))
        weights = prior / prior.sum() * 10 + counts[years]
        spread[index, years] = weights / weights.sum()
    return AgeClasses(groups.labels, np.asarray(groups.member), spread.astype(np.float32))


def find_groups(labels: Sequence[str], chosen: str | None) -> AgeGroups:
    """The set of groups to work with: the chosen one, else the data set's own, else Adience's eight.

    Args:
        labels: The data set's own groups; empty where it has none.
        chosen: What the user asked for.

    Raises:
        UsageError: There is no such set.
    """
    if chosen:
        return parse_groups(chosen)
    return next((groups for groups in NAMED.values() if groups.labels == tuple(labels)), NAMED["adience"])
