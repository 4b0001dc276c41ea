"""Sets of age groups: each whole year from 0 to 100 belongs to exactly one group."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from agelens.errors import UsageError

Band = tuple[int, int | None]
OLDEST = 100  # the last year that a distribution tells apart; it stands for that and more

ADIENCE = ((0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))
ADIENCE12 = (
    *((0, 2), (4, 6), (8, 12), (15, 20), (21, 24), (25, 32)),
    *((33, 37), (38, 43), (44, 47), (48, 53), (54, 59), (60, 100)),
)
FAIRFACE = ((0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, None))
UTK = (
    *((0, 5), (6, 10), (11, 15), (16, 20), (21, 30)),
    *((31, 40), (41, 50), (51, 60), (61, 70), (71, None)),
)
DECADES = (*((low, low + 9) for low in range(0, 90, 10)), (90, None))


@dataclass(frozen=True, slots=True)
class AgeGroups:
    """A set of age groups.

    Attributes:
        name: How it was asked for.
        labels: One for each group, youngest first.
        bands: First and last year of each group; None: it is open.
    """

    name: str
    labels: tuple[str, ...]
    bands: tuple[Band, ...]
    member: tuple[int, ...] = field(init=False, repr=False)
    """Index of the group of each whole year 0 .. 100."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "member", _nearest(self.bands))

    def close(self, oldest: float) -> tuple[tuple[float, float], ...]:
        """The bands as numbers, an open end as `oldest`."""
        return tuple((float(low), oldest if high is None else float(high)) for low, high in self.bands)

    def choose(self, distribution: tuple[float, ...]) -> tuple[str, float]:
        """The most probable group of an age distribution and its probability; the younger one on a tie."""
        mass = [0.0] * len(self.labels)
        for group, probability in zip(self.member, distribution, strict=True):
            mass[group] += probability
        best = max(range(len(mass)), key=lambda index: mass[index])
        return self.labels[best], min(mass[best], 1.0)


def _nearest(bands: tuple[Band, ...]) -> tuple[int, ...]:
    """The band of each year; a year between two bands belongs to the nearer one, the younger on a tie."""
    closed = [(low, OLDEST if high is None else high) for low, high in bands]

    def distance(year: int, band: tuple[int, int]) -> int:
        return max(band[0] - year, year - band[1], 0)

    return tuple(min(range(len(closed)), key=lambda index: distance(year, closed[index])) for year in range(OLDEST + 1))


def _dashed(bands: tuple[Band, ...]) -> tuple[str, ...]:
    return tuple(f"{low}+" if high is None else f"{low}-{high}" if low < high else str(low) for low, high in bands)


def _bracketed(bands: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    return tuple(f"({low}, {high})" for low, high in bands)


NAMED = {
    # Levi & Hassner 2015 and the twelve groups of the project that agelens began from, labelled as Adience does.
    "adience": AgeGroups("adience", _bracketed(ADIENCE), ADIENCE),
    "adience12": AgeGroups("adience12", _bracketed(ADIENCE12), ADIENCE12),
    # Karkkainen & Joo, WACV 2021.
    "fairface": AgeGroups("fairface", _dashed(FAIRFACE), FAIRFACE),
    # Zhang, Song & Qi, CVPR 2017 (the paper that introduced UTKFace); its oldest group left open.
    "utk": AgeGroups("utk", _dashed(UTK), UTK),
    "decades": AgeGroups("decades", _dashed(DECADES), DECADES),
}


def parse_groups(text: str) -> AgeGroups:
    """A named set, or one's own such as "0-12,13-17,18+".

    Raises:
        UsageError: It is neither; one's own groups must begin at 0, follow one another without a gap, and end open.
    """
    if text in NAMED:
        return NAMED[text]
    bands: list[Band] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})\s*(?:[-–]\s*(\d{1,3})|(\+))?\s*", part)
        if not match:
            raise UsageError(
                f"{part.strip()!r} is no age group; use one of {', '.join(NAMED)}, or groups such as 0-12,13-17,18+"
            )
        low, high, is_open = match.groups()
        bands.append((int(low), None if is_open else int(high or low)))
    expected = 0
    for low, high in bands:
        if low != expected or (high is not None and high < low):
            raise UsageError(
                f"age groups begin at 0 and follow one another: {text!r} has {low} where {expected} is due"
            )
        expected = OLDEST + 1 if high is None else high + 1
    if bands[-1][1] is not None and bands[-1][1] < OLDEST:
        raise UsageError(f"the last age group must be open, such as {bands[-1][0]}+: {text!r} ends at {bands[-1][1]}")
    return AgeGroups(text, _dashed(tuple(bands)), tuple(bands))
