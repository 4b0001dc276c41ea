"""Where in a predicted distribution of years an interval begins and ends, so that it holds as many ages as it states.

Ages are missed more often on one side than on the other (a face of 17 looks 22, hardly ever the other way round), so
both ends are chosen by themselves, for each kind of face by what is predicted of it. Of all choices that hold the
stated share of the ages of every data set, and nearly that of every part of it that is large enough, the narrowest is
wanted. Each part has a price on a missed age (a Lagrange multiplier). Given the prices, each end of each kind is the
cheapest of a list; the price of a part rises while too many of its ages are missed. As the narrowest choice suits best
the faces that it was made for, faces held out tell how much has to be held in addition. Equal coverage of groups:
Romano, Barber, Sabatti & Candes, "With Malice Toward None", 2020; the finite-sample correction is that of split
conformal prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agelens.estimate import find_years
from agelens.modelspec import AGE_BINS, IntervalLevel
from agelens.training.calibrate import decode_years, edges_of, mark_band

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.bool_]

COVERAGE = 0.9
"""Share of the ages of a data set that intervals hold."""
IN_PARTS = 0.88
"""And of the ages of each of its parts, at least. Of hundreds of other faces a few points fewer are held by chance, and
86% are to be."""
LEAST_FACES = 100
"""A kind of face with fewer calibration faces is joined with the next one, and a part with fewer has no price."""
MOST_FACES = 20_000
"""More would only take longer."""
AGE_CUTS = (0, 4, 10, 16, 22, 26, 30, 36, 44, 55, 200)
"""Kinds of faces by the predicted age."""
DECADE = 10
TAILS = np.concatenate([[0.0], np.geomspace(1e-5, 0.08, 60)])
"""Shares of a distribution that may lie outside of an interval on one side. Where more may, other data sets than those
it was fitted on are held less often; where less may not, a network that is too sure of itself can't be held."""
ROUNDS = 300
DEAR, CHEAP = 100.0, 1.0
"""What a missed age of a whole data set and one of another part cost at first, in years of an interval's width."""
ROUNDING = 1e-8
"""Levels are kept with nine digits, and an end on the edge of two years would lie in either."""
SHORT = 0.0005
"""Coverage that may be missing."""
FOLDS = 4
SPARES = (0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08)
"""What may be held in addition, so that the coverage of faces that were not fitted to is as stated."""


@dataclass(frozen=True, slots=True, eq=False)
class AgeLabels:
    """What is known of the calibration faces.

    Attributes:
        low: First year that the label allows, shape (N,), NaN where unknown.
        high: Last year.
        dataset: Where it comes from, shape (N,).
        group: Number of the person or of the near-duplicates, shape (N,); -1: nobody else's.
        traits: Further labels that make parts, such as gender and race, shape (N,) each.
    """

    low: Floats
    high: Floats
    dataset: NDArray[np.generic]
    group: NDArray[np.int64]
    traits: tuple[NDArray[np.generic], ...] = ()

    def of(self, rows: Rows | NDArray[np.int64]) -> AgeLabels:
        traits = tuple(trait[rows] for trait in self.traits)
        return AgeLabels(self.low[rows], self.high[rows], self.dataset[rows], self.group[rows], traits)


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """What the ends are chosen by, for each face and each of `TAILS`, shape (N, T).

    Attributes:
        below: How likely the age lies below an interval that begins there.
        above: How likely it lies above one that ends there.
        lows: The age at which such an interval begins.
        highs: The age at which it ends.
        years: What prediction tells, shape (N,).
        labels: Of the same faces.
    """

    below: Floats
    above: Floats
    lows: Floats
    highs: Floats
    years: Floats
    labels: AgeLabels

    def of(self, rows: Rows) -> Faces:
        return Faces(
            self.below[rows],
            self.above[rows],
            self.lows[rows],
            self.highs[rows],
            self.years[rows],
            self.labels.of(rows),
        )


@dataclass(frozen=True, slots=True)
class Ends:
    """Where the intervals of one kind of face begin and end.

    Attributes:
        low: First predicted year of the kind.
        high: Predicted years of the kind are lower.
        below: Place in `TAILS` of the share below.
        above: Place of the share above.
    """

    low: float
    high: float
    below: int
    above: int


def fit_levels(probabilities: Floats, decode: str, labels: AgeLabels) -> tuple[IntervalLevel, ...]:
    """Both ends of the intervals of each kind of face.

    Args:
        probabilities: Of years, shape (N, 101).
        decode: How prediction tells years, by which it finds the kind, and ends, see `modelspec.DECODES`.
        labels: Of the same faces. With few of them all faces are of one kind, and its interval is a central one.
    """
    known = choose_known(labels)
    probabilities, labels = probabilities[known], labels.of(known)
    weights = band_weights(probabilities, labels.low, labels.high)
    first, last = find_reach(probabilities, decode)
    if len(known) < LEAST_FACES:
        level = conformal_level(np.maximum(1 - 2 * first, 2 * last - 1).clip(min=0), weights, COVERAGE)
        return (IntervalLevel.central(0, 200, "any", level),)
    below = np.stack([(weights * (first < tail)).sum(axis=1) for tail in TAILS], axis=1)
    above = np.stack([(weights * (last > 1 - tail)).sum(axis=1) for tail in TAILS], axis=1)
    years = decode_years(probabilities, decode)
    faces = Faces(below, above, *read_ends(probabilities, decode), years, labels)
    # The narrowest ends for these faces are a little too narrow for others, the more so the fewer there are.
    spare = next((each for each in SPARES if lacks(faces, each) <= 0), SPARES[-1])
    return tuple(
        IntervalLevel(each.low, each.high, "any", float(TAILS[each.below]), float(1 - TAILS[each.above]))
        for each in choose_ends(faces, spare)
    )


def choose_known(labels: AgeLabels) -> NDArray[np.int64]:
    """Faces whose age is known, by lot where there are more than enough, in order."""
    known = np.flatnonzero(~np.isnan(labels.low))
    return np.sort(np.random.default_rng(0).permutation(known)[:MOST_FACES])


def lacks(faces: Faces, spare: float) -> float:
    """How much too rarely ages are held by intervals that were fitted to other faces: of all or of one data set.

    Of a data set, a standard error is not counted, or of several one would be found that lacks something by chance.
    """
    part, outside = draw_folds(faces.labels.group), np.zeros(len(faces.years))
    for fold in range(FOLDS):
        rows = part == fold
        outside[rows] = measure_outside(faces.of(rows), choose_ends(faces.of(~rows), spare))
    missed = 1 - COVERAGE
    sets = [outside[faces.labels.dataset == name] for name in large_sets(faces.labels)]
    errors = [float(np.sqrt(missed * COVERAGE / len(each))) for each in sets]
    lacking = [float(each.mean()) - missed - error for each, error in zip(sets, errors, strict=True)]
    return max([float(outside.mean()) - missed, *lacking])


def draw_folds(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The part of each face, 0 to `FOLDS` - 1; faces of a group share one, unless all are of one group."""
    alone = (group < 0) | (group == group[0]).all()
    names = np.where(alone, group.max(initial=0) + 1 + np.arange(len(group)), group)
    _, place = np.unique(names, return_inverse=True)
    return np.random.default_rng(0).permutation(int(place.max(initial=0)) + 1)[place] % FOLDS


def measure_outside(faces: Faces, ends: list[Ends]) -> Floats:
    """How likely each age is not held, shape (N,)."""
    outside = np.zeros(len(faces.years))
    for each in ends:
        rows = (faces.years >= each.low) & (faces.years < each.high)
        outside[rows] = faces.below[rows, each.below] + faces.above[rows, each.above]
    return outside


def choose_ends(faces: Faces, spare: float) -> list[Ends]:
    """The narrowest intervals that hold what is wanted of all parts of these faces, and a little more."""
    kinds = list(cut_kinds(faces.years))
    parts, wanted, prices = cut_parts(faces.labels)
    wanted, sizes = np.minimum(wanted + spare, 1.0), parts.sum(axis=1)
    below, above = ([table[rows] for _, _, rows in kinds] for table in (faces.below, faces.above))
    lows, highs = ([table[rows].sum(axis=0) for _, _, rows in kinds] for table in (faces.lows, faces.highs))
    best: tuple[float, float] = (np.inf, np.inf)
    chosen: list[Ends] = []
    for round_ in range(ROUNDS):
        price = parts.T @ prices
        ends, outside, width = [], np.zeros(len(faces.years)), 0.0
        for place, (low, high, rows) in enumerate(kinds):
            first = int(np.argmin(price[rows] @ below[place] - lows[place]))
            last = int(np.argmin(price[rows] @ above[place] + highs[place]))
            ends.append(Ends(low, high, first, last))
            outside[rows] = below[place][:, first] + above[place][:, last]
            width += float(highs[place][last] - lows[place][first])
        lacking = wanted - (1 - parts @ outside / sizes)
        rank = (max(float(lacking.max()), SHORT), width)
        if rank < best:
            best, chosen = rank, ends
        # Rates fall, so that the prices settle.
        prices = np.clip(prices * np.exp(np.clip(lacking * 40, -1, 1) * (1 - round_ / ROUNDS)), 1e-3, 1e5)
    return chosen


def band_weights(probabilities: Floats, low: Floats, high: Floats) -> Floats:
    """How likely each year is, given the label: the model's distribution inside it, shape (N, 101)."""
    weights = (probabilities + 1e-6) * mark_band(low, high)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def find_reach(probabilities: Floats, decode: str) -> tuple[Floats, Floats]:
    """At which share of a distribution an interval may begin at most, and must end at least, to hold each year.

    The mass of year a lies evenly on [a - 0.5, a + 0.5], as prediction reads it. Its middle has to be held, or, where
    prediction tells whole years, any of it. Shape (N, 101) each.
    """
    edges = edges_of(probabilities)
    if decode == "year":
        return edges[:, 1:] - ROUNDING, edges[:, :-1] + ROUNDING
    places = edges[:, :-1] + probabilities / 2
    return places, places


def read_ends(probabilities: Floats, decode: str) -> tuple[Floats, Floats]:
    """The ages at which intervals begin and end for each of `TAILS`, shape (N, T) each."""
    edges, years = edges_of(probabilities), np.arange(AGE_BINS + 1) - 0.5

    def read(shares: Floats) -> Floats:
        if decode == "year":
            return np.stack([find_years(each, shares) for each in edges])
        return np.asarray(np.clip([np.interp(shares, each, years) for each in edges], 0, AGE_BINS - 1))

    return read(TAILS), read(1 - TAILS)


def cut_kinds(years: Floats) -> Iterator[tuple[float, float, Rows]]:
    """Kinds of faces: from which predicted year on, below which, and which faces; all years belong to one."""
    start, left = AGE_CUTS[0], len(years)
    for end in AGE_CUTS[1:]:
        rows = (years >= start) & (years < end)
        count = int(rows.sum())
        if end == AGE_CUTS[-1] or (count >= LEAST_FACES and left - count >= LEAST_FACES):
            yield start, end, rows
            start, left = end, left - count


def cut_parts(labels: AgeLabels) -> tuple[Floats, Floats, Floats]:
    """Parts of the faces whose ages must be held: membership (P, N), 0 or 1, wanted share and first price (P,).

    Each data set, and of each the parts by age and by other labels. Faces of sets that are too small to be one count in
    a part that holds all faces.
    """
    ages = np.where(labels.low == labels.high, labels.low // DECADE * DECADE, labels.low)
    sets = [labels.dataset == name for name in large_sets(labels)]
    wholes = sets if sum(int(rows.sum()) for rows in sets) == len(ages) else [np.ones(len(ages), bool), *sets]
    rows_of = list(wholes)
    for of_set in sets:
        varied = [trait for trait in labels.traits if len(np.unique(trait[of_set])) > 1]
        for shared in ([ages], *([*others, trait] for trait in varied for others in ([], [ages]))):
            keys = np.array([" ".join(map(str, key)) for key in zip(*shared, strict=True)])
            for key in np.unique(keys[of_set]):
                rows = of_set & (keys == key)
                if rows.sum() >= LEAST_FACES:
                    rows_of.append(rows)
    parts, whole = np.stack(rows_of).astype(float), np.arange(len(rows_of)) < len(wholes)
    wanted = np.where(whole, COVERAGE, IN_PARTS) * (1 + 1 / parts.sum(axis=1))
    return parts, np.minimum(wanted, 1.0), np.where(whole, DEAR, CHEAP)


def large_sets(labels: AgeLabels) -> list[str]:
    """Names of the data sets with enough faces to be a part."""
    names, sizes = np.unique(labels.dataset, return_counts=True)
    return [str(name) for name in names[sizes >= LEAST_FACES]]


def conformal_level(needed: Floats, weights: Floats, coverage: float) -> float:
    """The central share that held the wanted share of calibration faces, with the finite-sample correction.

    Args:
        needed: The least share that holds each year of each face, shape (N, 101).
        weights: How likely each year is, given the label; a face's sum to one.
        coverage: What share is wanted.
    """
    order = np.argsort(needed, axis=None)
    held = np.cumsum(weights.ravel()[order])
    rank = min((len(needed) + 1) * coverage, held[-1])
    return float(needed.ravel()[order][np.searchsorted(held, rank - 1e-9)])
