"""Fits the corrections of any network on faces it has not learned from, as far as there are enough of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agelens.training.calibrate import (
    Calibration,
    decode_years,
    fit_age_temperature,
    fit_gender,
    fit_sureness,
    softmax,
)
from agelens.training.intervals import AgeLabels, fit_levels
from agelens.training.judge import collect

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.training.batches import Lessons
    from agelens.training.networks import Network

    Floats = NDArray[np.float64]

LEAST = 100
"""With fewer labels, a correction would be noise: probabilities stay as the network gives them."""


def year_probabilities(network: Network, age_logits: Floats, temperature: float = 1.0) -> Floats:
    """Logits of an age head (N, C) as probabilities of years (N, 101); an untrained head knows nothing."""
    if not age_logits.shape[1]:
        return np.full((len(age_logits), 101), 1 / 101)
    return network.classes.to_years(softmax(age_logits / temperature))


def fit_calibration(
    network: Network, task: str, lessons: Lessons, rows: NDArray[np.int64], decode: str = "mean"
) -> Calibration:
    """Temperature, corrections of gender and interval levels.

    Args:
        network: In evaluation mode.
        task: What it has learned; what it has not is left alone.
        lessons: Hold faces and labels.
        rows: Which of them, none of which it has learned from.
        decode: How prediction will tell years, see `decode_years`.
    """
    ages, genders = collect(network, lessons, rows)
    low, high, female = (
        values[rows].astype(np.float64)
        for values in (lessons.crops.age_low, lessons.crops.age_high, lessons.crops.female)
    )
    if lessons.age_known is not None:
        low, high = (np.where(lessons.age_known[rows], values, np.nan) for values in (low, high))
    # A mean of many guesses is a fraction of a year; distributions are of whole years.
    low, high = np.rint(low), np.rint(high)
    temperature, scale, shift = 1.0, 1.0, 0.0
    sureness: tuple[tuple[float, float], ...] = ()
    tells_gender = task != "age" and int((~np.isnan(female)).sum()) >= LEAST
    if tells_gender:
        scale, shift = fit_gender(genders, female)
    known = int((~np.isnan(low)).sum())
    if task == "gender" or not known:
        return Calibration(temperature, scale, shift)
    if network.kind == "face" and known >= LEAST:
        temperature = fit_age_temperature(ages, low, high)
    probabilities = year_probabilities(network, ages, temperature)
    if tells_gender:
        sureness = fit_sureness(genders * scale + shift, female, probabilities)
    crops = lessons.crops
    labels = AgeLabels(low, high, crops.dataset[rows], crops.group[rows], (crops.female[rows], crops.race[rows]))
    levels = fit_levels(probabilities, decode_years(probabilities, decode), labels)
    return Calibration(temperature, scale, shift, levels, sureness)
