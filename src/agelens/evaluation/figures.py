"""Which figures there are, what they are called, and how each is drawn from predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from agelens.evaluation.metrics import nearest_band
from agelens.evaluation.statistics import Statistic, balanced_mean, calibration_gap, least_mean, mean_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agelens.evaluation.predictions import Predictions
    from agelens.evaluation.protocol import Protocol

    Floats = NDArray[np.float64]

LEAST_IN_SLICE = 30
"""Faces below which a slice gets no figures: their intervals would say nothing."""
LEAST_FOR_WORST = 50
"""Faces of a race below which it can't be the worst one."""


@dataclass(frozen=True, slots=True)
class FigureKind:
    """How a figure is said.

    Attributes:
        title: Its name in tables.
        unit: "years", or "share" for what is said in per cent.
        better: Whether a lower or a higher value is better; "" where neither is.
        about: What it is, in a sentence.
    """

    title: str
    unit: Literal["years", "share", "number"]
    better: Literal["lower", "higher", ""]
    about: str


KINDS: dict[str, FigureKind] = {
    "mae": FigureKind("MAE", "years", "lower", "Mean absolute error of the estimated years."),
    "cs5": FigureKind("CS@5", "share", "higher", "Share of faces at most 5 years off."),
    "cs10": FigureKind("CS@10", "share", "higher", "Share of faces at most 10 years off."),
    "bias": FigureKind("Bias", "years", "", "Mean of estimated less labelled years; positive: judged too old."),
    "constant_mae": FigureKind(
        "MAE of a constant", "years", "", "What answering every face with the median label would reach."
    ),
    "exact": FigureKind("Exact group", "share", "higher", "Share in the labelled age group, by the estimated years."),
    "one_off": FigureKind("One-off", "share", "higher", "Share in the labelled age group or one beside it."),
    "exact_balanced": FigureKind(
        "Exact, balanced", "share", "higher", "Mean over the age groups of the share that is exact in each."
    ),
    "exact_most_probable": FigureKind(
        "Exact, most probable group", "share", "higher", "Share in the labelled group, by the most probable group."
    ),
    "coverage": FigureKind(
        "Interval coverage",
        "share",
        "",
        "Share of labelled ages inside the interval. For a labelled band, the model's own probability that it is, given"
        " the band.",
    ),
    "width": FigureKind(
        "Interval width", "years", "", "Mean width of the interval: narrower is better at equal coverage."
    ),
    "gender": FigureKind("Gender", "share", "higher", "Gender accuracy, decided at one half."),
    "gender_balanced": FigureKind("Gender, balanced", "share", "higher", "Mean of the two genders' accuracies."),
    "gender_13": FigureKind("Gender, 13 and older", "share", "higher", "Gender accuracy for labels of 13 and older."),
    "gender_min_race": FigureKind(
        "Gender, worst race", "share", "higher", "Lowest gender accuracy of all races with 50 faces or more."
    ),
    "gender_ece": FigureKind(
        "Gender ECE", "number", "lower", "Expected calibration error of the given label's probability, 15 equal bins."
    ),
    "gender_brier": FigureKind("Gender Brier score", "number", "lower", "Mean squared error of the probability."),
}


def is_share(name: str) -> bool:
    """Whether a figure is said in per cent."""
    return KINDS[name].unit == "share"


def write_number(name: str, value: float) -> str:
    """A value as tables have it: `5.23`, `93.1%`."""
    unit = KINDS[name].unit
    said = f"{value * 100:.1f}%" if unit == "share" else f"{value:.2f}" if unit == "years" else f"{value:.3f}"
    return said.replace("-", "−")


def labelled_ages(predictions: Predictions, protocol: Protocol) -> Floats:
    """Exact labelled ages that the protocol counts, shape (N,), else NaN."""
    return predictions.exact_age if protocol.ages == "years" else np.full(len(predictions), np.nan)


def build_statistics(predictions: Predictions, protocol: Protocol) -> dict[str, Statistic]:
    """Every figure's statistic, for faces that were found."""
    return (
        _age_statistics(predictions, protocol)
        | _group_statistics(predictions, protocol)
        | _gender_statistics(predictions)
    )


def _age_statistics(predictions: Predictions, protocol: Protocol) -> dict[str, Statistic]:
    ages = labelled_ages(predictions, protocol)
    error = predictions.years - ages
    off = np.abs(error)
    known = ages[~np.isnan(ages)]
    middle = float(np.median(known)) if known.size else np.nan
    return {
        "mae": mean_of(off),
        "cs5": mean_of(share(off <= 5, off)),
        "cs10": mean_of(share(off <= 10, off)),
        "bias": mean_of(error),
        "constant_mae": mean_of(np.abs(ages - middle)),
        "coverage": mean_of(predictions.inside),
        "width": mean_of(np.where(np.isnan(predictions.inside), np.nan, predictions.high - predictions.low)),
    }


def _group_statistics(predictions: Predictions, protocol: Protocol) -> dict[str, Statistic]:
    band = predictions.band
    known = np.where(band >= 0, 0.0, np.nan)
    known[np.isnan(predictions.years)] = np.nan
    years = np.nan_to_num(predictions.years)
    off = np.abs(nearest_band(years, protocol.bands) - band)
    exact = share(off == 0, known)
    return {
        "exact": mean_of(exact),
        "one_off": mean_of(share(off <= 1, known)),
        "exact_balanced": balanced_mean(exact, band, np.arange(len(protocol.bands))),
        "exact_most_probable": mean_of(share(predictions.group == band, known)),
    }


def _gender_statistics(predictions: Predictions) -> dict[str, Statistic]:
    female, stated = predictions.female, predictions.female_probability
    known = np.where(np.isnan(stated), np.nan, female)
    right = share((stated >= 0.5) == (female >= 0.5), known)
    statistics = {
        "gender": mean_of(right),
        "gender_balanced": balanced_mean(right, np.nan_to_num(female, nan=-1.0), np.array([0.0, 1.0])),
        "gender_13": mean_of(np.where(predictions.age_low >= 13, right, np.nan)),
        "gender_ece": calibration_gap(np.nan_to_num(np.maximum(stated, 1 - stated)), right),
        "gender_brier": mean_of((stated - known) ** 2),
    }
    races = large_enough(predictions.race[~np.isnan(right)], LEAST_FOR_WORST)
    if len(races) > 1:
        statistics["gender_min_race"] = least_mean(right, predictions.race, np.array(races))
    return statistics


def share(true: NDArray[np.bool_], known: Floats) -> Floats:
    """1 and 0 for true and false, NaN where `known` is NaN."""
    return np.where(np.isnan(known), np.nan, np.asarray(true, float))


def large_enough(names: NDArray[np.str_], least: int) -> Sequence[str]:
    """The distinct names, empty ones left out, that occur at least so often."""
    distinct, counts = np.unique(names, return_counts=True)
    return [str(name) for name, count in zip(distinct, counts, strict=True) if name and count >= least]
