"""What one number can't say: calibration, accuracy against the share that is answered, age gates, confusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.evaluation.figures import labelled_ages, share
from agelens.evaluation.metrics import nearest_band
from agelens.evaluation.statistics import Figure, draw_counts, interval, make_figures, mean_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.evaluation.predictions import Predictions
    from agelens.evaluation.protocol import Protocol

    Floats = NDArray[np.float64]
    Units = NDArray[np.int64]

RELIABILITY_BINS = 10
SHARES = np.linspace(0.05, 1.0, 39)
"""Shares of faces that are answered, at which a risk-coverage curve is drawn."""
MOST_YEARS = 15
CHALLENGES = (18, 21, 25, 30)
MINOR = 18
NEARLY = (14, 17)
GATE = (13, 16)


@dataclass(frozen=True, slots=True)
class Curve:
    """Points from left to right.

    Attributes:
        x: Where they are.
        figures: What is there, with intervals.
        marks: A third number at each point where the curve has one, such as the threshold; else empty.
    """

    x: tuple[float, ...]
    figures: tuple[Figure, ...]
    marks: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"x": list(self.x), "figures": [figure.to_dict() for figure in self.figures], "marks": list(self.marks)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Curve:
        figures = tuple(Figure.from_dict(figure) for figure in values["figures"])
        return Curve(tuple(values["x"]), figures, tuple(values["marks"]))


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each label got each answer: rows are labels, columns answers."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        return {"labels": list(self.labels), "counts": [list(row) for row in self.counts]}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Confusion:
        return Confusion(tuple(values["labels"]), tuple(tuple(row) for row in values["counts"]))


def count_confusion(labels: tuple[str, ...], true: NDArray[np.int64], answered: NDArray[np.int64]) -> Confusion:
    """Counts of the faces whose label and answer are both known (not negative)."""
    known = (true >= 0) & (answered >= 0)
    counts = np.zeros((len(labels), len(labels)), int)
    np.add.at(counts, (true[known], answered[known]), 1)
    return Confusion(labels, tuple(tuple(row) for row in counts.tolist()))


def measure_confusions(predictions: Predictions, protocol: Protocol) -> dict[str, Confusion]:
    """Of age groups (by the estimated years) and of gender; those without a single face are left out."""
    years = predictions.years
    group = np.where(np.isnan(years), -1, nearest_band(np.nan_to_num(years), protocol.bands))
    stated = predictions.female_probability
    answered = np.where(np.isnan(stated), -1, (stated >= 0.5).astype(int))
    true = np.nan_to_num(predictions.female, nan=-1.0).astype(np.int64)
    found = {
        "age": count_confusion(protocol.labels, predictions.band, group),
        "gender": count_confusion(("male", "female"), true, answered),
    }
    return {name: confusion for name, confusion in found.items() if any(map(any, confusion.counts))}


def measure_curves(predictions: Predictions, protocol: Protocol, *, rounds: int) -> dict[str, Curve]:
    """All curves that the labels allow, for faces that were found.

    `reliability`: stated probability of "female" against the share of women. `gender_risk`: gender errors among the
    surest faces, marks are the least probability among them. `age_risk`: mean absolute error (for bands: share outside
    the labelled group) among the faces with the narrowest intervals, marks are the widest of them. `cumulative`: share
    of faces at most so many years off.
    """
    units = predictions.units
    curves = {}
    stated, female = predictions.female_probability, predictions.female
    judged = ~np.isnan(stated) & ~np.isnan(female)
    if judged.any():
        curves["reliability"] = draw_reliability(stated[judged], female[judged], units[judged], rounds=rounds)
        wrong = ((stated >= 0.5) != (female >= 0.5)).astype(float)
        sure = np.maximum(stated, 1 - stated)
        curves["gender_risk"] = draw_risk(sure[judged], wrong[judged], units[judged], rounds=rounds)
    ages = labelled_ages(predictions, protocol)
    off = np.abs(predictions.years - ages)
    aged = ~np.isnan(off)
    if aged.any():
        steps = {str(k): mean_of(share(off <= k, off)) for k in range(MOST_YEARS + 1)}
        figures = make_figures(steps, units, rounds=rounds)
        curves["cumulative"] = Curve(tuple(range(MOST_YEARS + 1)), tuple(figures.values()))
    elif (predictions.band >= 0).any():
        aged = (predictions.band >= 0) & ~np.isnan(predictions.years)
        off = (nearest_band(np.nan_to_num(predictions.years), protocol.bands) != predictions.band).astype(float)
    if aged.any():
        width = predictions.high - predictions.low
        risk = draw_risk(-width[aged], off[aged], units[aged], rounds=rounds)
        curves["age_risk"] = Curve(risk.x, risk.figures, tuple(-mark for mark in risk.marks))
    return curves


def draw_reliability(stated: Floats, female: Floats, units: Units, *, rounds: int) -> Curve:
    """Share of women among faces of about the same stated probability; x is the mean of what was stated."""
    index = np.minimum((stated * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    members = [index == number for number in range(RELIABILITY_BINS)]
    bins = {str(number): mean_of(np.where(of, female, np.nan)) for number, of in enumerate(members) if of.any()}
    figures = make_figures(bins, units, rounds=rounds)
    x = tuple(float(stated[members[int(name)]].mean()) for name in figures)
    return Curve(x, tuple(figures.values()))


def draw_risk(confidence: Floats, loss: Floats, units: Units, *, rounds: int) -> Curve:
    """Mean loss of the most confident share of faces, for each of SHARES; marks are the least confidence in it.

    Ties are answered together with what stands before them in the order of the faces, which is the same in every
    resample (El-Yaniv & Wiener, JMLR 2010).
    """
    order = np.argsort(-confidence, kind="stable")
    confidence, loss, units = confidence[order], loss[order], np.unique(units, return_inverse=True)[1][order]
    value = _risk_at(np.ones((1, len(loss))), loss)[0]
    distinct = int(units.max()) + 1
    samples = np.concatenate([_risk_at(counts[:, units], loss) for counts in _thin(distinct, len(loss), rounds)])
    ends = np.maximum(np.ceil(SHARES * len(loss)).astype(int), 1)
    figures = []
    for column, end in enumerate(ends):
        low, high = interval(samples[:, column]) if distinct > 1 else (None, None)
        figures.append(Figure(float(value[column]), low, high, int(end)))
    return Curve(tuple(SHARES.tolist()), tuple(figures), tuple(confidence[ends - 1].tolist()))


def _thin(units: int, faces: int, rounds: int) -> list[Floats]:
    # A block holds a number for each face, not only for each unit.
    return [part for block in draw_counts(units, rounds, 0) for part in np.array_split(block, -(-faces // units))]


def _risk_at(counts: Floats, loss: Floats) -> Floats:
    """Risks (R, S) at SHARES of faces that each count so often, (R, N), in order of confidence."""
    answered, lost = np.cumsum(counts, axis=1), np.cumsum(counts * loss, axis=1)
    risks = np.empty((len(counts), len(SHARES)))
    for row in range(len(counts)):
        total = answered[row, -1]
        end = np.minimum(np.searchsorted(answered[row], np.ceil(SHARES * total - 1e-9)), len(loss) - 1)
        risks[row] = lost[row, end] / answered[row, end]
    return risks


def measure_gates(predictions: Predictions, protocol: Protocol, *, rounds: int) -> dict[str, Figure]:
    """What an age gate that trusts the estimate alone would do (after NIST IR 8525, Face Analysis: Age Estimation).

    `challenge_T_minors`: the false positive rate of Challenge-T, the share of people under 18 who are estimated to be T
    or older and so pass unasked. `challenge_T_nearly`: the same of those aged 14 to 17. `challenge_T_adults`: share of
    people of 18 and older who pass unasked. `aged_13_16`: share of those aged 13 to 16 who are estimated to be so, and
    `aged_13_16_younger`, `aged_13_16_older`: share of those aged 8 to 12 and 17 to 20 who are wrongly taken for it.
    """
    ages, years = labelled_ages(predictions, protocol), predictions.years
    known = np.isnan(ages) | np.isnan(years)
    age = np.where(known, np.nan, ages)

    def among(low: float, high: float, passes: NDArray[np.bool_]) -> Floats:
        return np.where((age >= low) & (age < high + 1), share(passes, age), np.nan)

    gates = {}
    for threshold in CHALLENGES:
        passes = years >= threshold
        gates[f"challenge_{threshold}_minors"] = mean_of(among(0, MINOR - 1, passes))
        gates[f"challenge_{threshold}_nearly"] = mean_of(among(*NEARLY, passes))
        gates[f"challenge_{threshold}_adults"] = mean_of(among(MINOR, 200, passes))
    inside = (years >= GATE[0]) & (years < GATE[1] + 1)
    gates["aged_13_16"] = mean_of(among(*GATE, inside))
    gates["aged_13_16_younger"] = mean_of(among(8, GATE[0] - 1, inside))
    gates["aged_13_16_older"] = mean_of(among(GATE[1] + 1, 20, inside))
    return make_figures(gates, predictions.units, rounds=rounds)
