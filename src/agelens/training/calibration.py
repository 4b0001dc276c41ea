"""Fits the corrections of any network on faces it has not learned from, as far as there are enough of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from agelens.training.calibrate import (
    Calibration,
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
"""With fewer labels, a correction would be noise: probabilities stay as they were."""
LEAST_OF_EACH = 20
"""Faces of the rarer gender."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """How many faces there are to calibrate on.

    Attributes:
        age: Of known age.
        female: Labelled female.
        male: Labelled male.
    """

    age: int
    female: int
    male: int

    @staticmethod
    def count(lessons: Lessons, rows: NDArray[np.int64]) -> Labelled:
        """Those among some rows."""
        low, _, female = _read_labels(lessons, rows)
        return Labelled(*(int(mask.sum()) for mask in (~np.isnan(low), female >= 0.5, female < 0.5)))

    def suffice_for_age(self, before: Calibration) -> bool:
        """Whether ages can be calibrated; on a few only where that was done on even fewer before."""
        return self.age > 0 and self.age >= min(LEAST, before.age_faces)

    @property
    def suffice_for_gender(self) -> bool:
        """Whether gender can be: of one gender alone, all would be told to be of it."""
        return self.female + self.male >= LEAST and min(self.female, self.male) >= LEAST_OF_EACH

    def describe(self, task: str, before: Calibration) -> Iterator[str]:
        """What is calibrated on them, and what is not."""
        if task != "gender":
            if self.suffice_for_age(before):
                yield f"age: calibrated on {self.age:,} faces"
            else:
                yield f"age: NOT calibrated, what was there stays: {self.age:,} faces with an age are too few"
        if task != "age":
            if self.suffice_for_gender:
                yield f"gender: calibrated on {self.female + self.male:,} faces"
            else:
                yield (
                    f"gender: NOT calibrated, what was there stays: {self.female:,} female and {self.male:,} male faces"
                    f" are too few; it takes {LEAST_OF_EACH} of each and {LEAST} in all"
                )


def year_probabilities(network: Network, age_logits: Floats, temperature: float = 1.0) -> Floats:
    """Logits of an age head (N, C) as probabilities of years (N, 101); an untrained head knows nothing."""
    if not age_logits.shape[1]:
        return np.full((len(age_logits), 101), 1 / 101)
    return network.classes.to_years(softmax(age_logits / temperature))


def fit_calibration(
    network: Network,
    task: str,
    lessons: Lessons,
    rows: NDArray[np.int64],
    decode: str = "mean",
    before: Calibration | None = None,
) -> Calibration:
    """Temperature, corrections of gender and interval levels.

    Args:
        network: In evaluation mode.
        task: What it has learned; what it has not is left alone.
        lessons: Hold faces and labels.
        rows: Which of them, none of which it has learned from.
        decode: How prediction will tell years, see `modelspec.DECODES`.
        before: What stays where labels are too few to fit it anew, see `Labelled`; by default nothing is corrected.
    """
    ages, genders = collect(network, lessons, rows)
    low, high, female = _read_labels(lessons, rows)
    found = before or Calibration()
    labelled = Labelled.count(lessons, rows)
    if task != "gender" and labelled.suffice_for_age(found):
        temperature = found.age_temperature
        if network.kind == "face" and labelled.age >= LEAST:
            temperature = fit_age_temperature(ages, low, high)
        probabilities = year_probabilities(network, ages, temperature)
        crops = lessons.crops
        labels = AgeLabels(low, high, crops.dataset[rows], crops.group[rows], (crops.female[rows], crops.race[rows]))
        levels = fit_levels(probabilities, decode, labels)
        found = replace(found, age_temperature=temperature, levels=levels, age_faces=labelled.age)
    if task != "age" and labelled.suffice_for_gender:
        scale, shift = fit_gender(genders, female)
        sureness: tuple[tuple[float, float], ...] = ()
        if task == "both":
            probabilities = year_probabilities(network, ages, found.age_temperature)
            sureness = fit_sureness(genders * scale + shift, female, probabilities)
        faces = labelled.female + labelled.male
        found = replace(found, gender_scale=scale, gender_shift=shift, sureness=sureness, gender_faces=faces)
    return found


def _read_labels(lessons: Lessons, rows: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """First and last year that each label allows, and whether it is "female"; each (N,), NaN where unknown."""
    low, high, female = (
        values[rows].astype(np.float64)
        for values in (lessons.crops.age_low, lessons.crops.age_high, lessons.crops.female)
    )
    if lessons.age_known is not None:
        low, high = (np.where(lessons.age_known[rows], values, np.nan) for values in (low, high))
    # A mean of many guesses is a fraction of a year; distributions are of whole years.
    return np.rint(low), np.rint(high), female
