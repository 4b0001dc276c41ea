"""Numbers with bootstrap intervals, resampled by person where a person has several pictures.

Every figure here is a function of sums over faces: a mean is a sum over a count, a balanced accuracy several such, an
expected calibration error a sum over bins. So one resample of all figures is one product of how often each person was
drawn with the sums of each person, and intervals for hundreds of figures and slices cost seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]
    Units = NDArray[np.int64]

ECE_BINS = 15
_BLOCK = 1 << 22
"""Most numbers in one block of resampling counts, so that memory stays bounded however many faces there are."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of an evaluation.

    Attributes:
        value: The number.
        low: Lower end of its bootstrap 95% interval; None where there are too few faces for one.
        high: Upper end, likewise.
        faces: How many faces it is drawn from.
    """

    value: float
    low: float | None
    high: float | None
    faces: int

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high, "faces": self.faces}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Figure:
        return Figure(float(values["value"]), values["low"], values["high"], int(values["faces"]))


@dataclass(frozen=True, slots=True, eq=False)
class Statistic:
    """A function of sums over faces.

    Attributes:
        terms: What is summed, shape (N, K).
        combine: Sums (..., K) -> the number, shape (...); NaN where there is nothing to divide by.
        counted: Mask (N,) of the faces that it is about.
        biased: Whether resampling moves it to one side, as it does the lowest of several shares or a calibration gap;
            its interval is then moved back by as much, within the 0 to 1 that these can be.
    """

    terms: Floats
    combine: Callable[[Floats], Floats]
    counted: Mask
    biased: bool = False

    def take(self, chosen: NDArray[Any]) -> Statistic:
        """The same of some faces only: an index array or a boolean mask."""
        return Statistic(self.terms[chosen], self.combine, self.counted[chosen], self.biased)

    def value(self) -> float:
        """The number over all faces."""
        return float(self.combine(self.terms.sum(axis=0)))


def _divide(above: Floats, below: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(below > 0, above / np.where(below > 0, below, 1), np.nan))


def _ratio(sums: Floats) -> Floats:
    return _divide(sums[..., 0], sums[..., 1])


def _ratios(sums: Floats) -> Floats:
    half = sums.shape[-1] // 2
    return _divide(sums[..., :half], sums[..., half:])


def _mean_ratio(sums: Floats) -> Floats:
    ratios = _ratios(sums)
    known = ~np.isnan(ratios)
    return _divide(np.where(known, ratios, 0).sum(axis=-1), known.sum(axis=-1))


def _least_ratio(sums: Floats) -> Floats:
    ratios = _ratios(sums)
    least = np.where(np.isnan(ratios), np.inf, ratios).min(axis=-1)
    return np.asarray(np.where(np.isinf(least), np.nan, least))


def _calibration_gap(sums: Floats) -> Floats:
    return _divide(np.abs(sums[..., :-1]).sum(axis=-1), sums[..., -1])


def mean_of(values: Floats) -> Statistic:
    """The mean; NaN counts for nothing."""
    known = ~np.isnan(values)
    return Statistic(np.stack([np.where(known, values, 0.0), known], axis=1).astype(float), _ratio, known)


def balanced_mean(values: Floats, classes: NDArray[Any], names: NDArray[Any]) -> Statistic:
    """The mean of each class's mean: balanced accuracy, where the values are 1 for right and 0 for wrong."""
    return Statistic(*_by_class(values, classes, names), biased=False)


def least_mean(values: Floats, classes: NDArray[Any], names: NDArray[Any]) -> Statistic:
    """The lowest of each class's mean; the values are 0 to 1."""
    terms, _, counted = _by_class(values, classes, names)
    return Statistic(terms, _least_ratio, counted, biased=True)


def _by_class(
    values: Floats, classes: NDArray[Any], names: NDArray[Any]
) -> tuple[Floats, Callable[[Floats], Floats], Mask]:
    member = (classes[:, None] == names[None, :]) & ~np.isnan(values)[:, None]
    terms = np.concatenate([np.where(member, values[:, None], 0.0), member], axis=1).astype(float)
    return terms, _mean_ratio, np.asarray(member.any(axis=1))


def calibration_gap(confidence: Floats, right: Floats, bins: int = ECE_BINS) -> Statistic:
    """Expected calibration error over bins of equal width (Guo et al., ICML 2017); NaN in `right` counts nothing."""
    known = ~np.isnan(right)
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.where(known, right - confidence, 0.0)
    terms = np.zeros((len(right), bins + 1))
    terms[np.arange(len(right)), index] = gaps
    terms[:, -1] = known
    return Statistic(terms, _calibration_gap, known, biased=True)


def draw_counts(units: int, rounds: int, seed: int) -> Iterator[Floats]:
    """How often each unit is drawn in each round: blocks of shape (some rounds, units), `rounds` in all."""
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // max(units, 1))
    for start in range(0, rounds, step):
        block = [np.bincount(rng.integers(0, units, units), minlength=units) for _ in range(min(step, rounds - start))]
        yield np.stack(block).astype(float)


def sum_by_unit(terms: Floats, units: Units) -> Floats:
    """Sums (U, K) of the terms (N, K) of each unit; units are numbered from 0 without a gap."""
    sums = np.zeros((int(units.max(initial=-1)) + 1, terms.shape[1]))
    if len(sums) == len(units):  # each its own, by far the most frequent case
        sums[units] = terms
    else:
        np.add.at(sums, units, terms)
    return sums


def number_units(keys: NDArray[Any]) -> Units:
    """Numbers (N,) of what is resampled together: equal keys share one; an empty key is a unit of its own."""
    alone = keys == ""
    numbers = np.unique(np.where(alone, "", keys), return_inverse=True)[1].astype(np.int64)
    numbers[alone] = numbers.max(initial=0) + 1 + np.arange(int(alone.sum()))
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


def resample(statistics: Mapping[str, Statistic], units: Units, *, rounds: int, seed: int = 0) -> dict[str, Floats]:
    """Each statistic over `rounds` bootstrap samples of the units, shape (rounds,).

    The same units, rounds and seed give the same samples, so that differences between models can be taken round by
    round.
    """
    names = list(statistics)
    edges = np.cumsum([0, *(statistics[name].terms.shape[1] for name in names)])
    sums = sum_by_unit(np.concatenate([statistics[name].terms for name in names], axis=1), units)
    parts: dict[str, list[Floats]] = {name: [] for name in names}
    for counts in draw_counts(len(sums), rounds, seed):
        drawn = counts @ sums
        for place, name in enumerate(names):
            parts[name].append(statistics[name].combine(drawn[:, edges[place] : edges[place + 1]]))
    return {name: np.concatenate(values) for name, values in parts.items()}


def make_figures(
    statistics: Mapping[str, Statistic], units: Units, *, rounds: int = 1000, seed: int = 0
) -> dict[str, Figure]:
    """Each statistic with its interval; those without a single face are left out.

    Args:
        statistics: By name, all of N faces.
        units: Numbers (N,) of the units that are drawn, see `number_units`.
        rounds: Bootstrap samples.
        seed: Of the draws.
    """
    counted = {name: statistic for name, statistic in statistics.items() if statistic.counted.any()}
    if not counted:
        return {}
    samples = resample(counted, units, rounds=rounds, seed=seed)
    figures = {}
    for name, statistic in counted.items():
        value = statistic.value()
        if np.isnan(value):
            continue
        enough = len(np.unique(units[statistic.counted])) > 1
        low, high = interval(samples[name], value if statistic.biased else None) if enough else (None, None)
        figures[name] = Figure(value, low, high, int(statistic.counted.sum()))
    return figures


def interval(samples: Floats, centre: float | None = None) -> tuple[float, float] | tuple[None, None]:
    """The middle 95% of bootstrap samples; where a centre is given, moved to be around it, within 0 and 1."""
    known = samples[~np.isnan(samples)]
    if not known.size:
        return None, None
    ends = np.percentile(known, [2.5, 97.5])
    low, high = ends if centre is None else np.clip(ends + centre - known.mean(), 0, 1)
    return float(low), float(high)
