"""Figures of a model file: of its calibrated answers, with years told as it tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agelens.training.batches import label_groups
from agelens.training.calibrate import decode_years
from agelens.training.calibration import year_probabilities
from agelens.training.judge import collect

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.training.batches import Lessons
    from agelens.training.calibrate import Calibration
    from agelens.training.networks import Network

    Floats = NDArray[np.float64]


def ask_network(
    network: Network, calibration: Calibration, lessons: Lessons, rows: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """What the file of a network will say of some faces: years (N, 101) and female probability (N,)."""
    ages, genders = collect(network, lessons, rows)
    years = year_probabilities(network, ages, calibration.age_temperature)
    return years, calibration.tell_female(genders, years)


def measure_answers(
    answers: tuple[Floats, Floats], decode: str, task: str, lessons: Lessons, rows: NDArray[np.int64]
) -> dict[str, float]:
    """Figures of such answers, as far as there are labels.

    Args:
        answers: Of `rows`.
        decode: How the file tells years, see `modelspec.DECODES`.
        task: What the network has learned.
        lessons: Hold the labels.
        rows: Which of them.

    Returns:
        "mae" in years, of exact ages; "age_accuracy" by group; "gender_accuracy"; "accuracy": the mean of those two.
    """
    years, female = answers
    low, high, label = (getattr(lessons.crops, name)[rows] for name in ("age_low", "age_high", "female"))
    figures: dict[str, float] = {}
    shares: dict[str, float] = {}
    if task != "gender":
        exact = low == high
        if exact.any():
            figures["mae"] = float(np.abs(decode_years(years[exact], decode) - low[exact]).mean())
        groups = label_groups(lessons, rows)
        mass = years @ np.eye(len(lessons.groups.labels))[list(lessons.groups.member)]
        if (groups >= 0).any():
            shares["age_accuracy"] = float((mass.argmax(axis=1) == groups)[groups >= 0].mean())
    known = ~np.isnan(label)
    if task != "age" and known.any():
        shares["gender_accuracy"] = float(((female >= 0.5) == (label >= 0.5))[known].mean())
    return figures | {"accuracy": sum(shares.values()) / max(len(shares), 1)} | shares
