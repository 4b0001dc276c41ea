"""Measures a network on the validation faces of a crop set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from agelens.datasets.rows import OLDEST_LABEL
from agelens.evaluation.metrics import measure_ages, measure_bands, measure_gender, worst_slice
from agelens.groups import NAMED
from agelens.training.batches import still_crops
from agelens.training.calibrate import decode_years, softmax
from agelens.training.judge import predict_crops
from agelens.training.networks import FaceNetwork

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.training.crops import CropSet

BANDS = NAMED["fairface"].close(OLDEST_LABEL)


DECODE = "year"
"""How the models that we make tell years. A calibrated distribution is wide and leans to the older side; its mean moves
with its width, its median does not. Labels are whole years, and so is the median of a distribution over them."""


def measure(
    age_probabilities: NDArray[np.float64], female: NDArray[np.float64], crops: CropSet, rows: NDArray[np.int64]
) -> dict[str, float]:
    """Figures of predictions for some faces of a crop set: (N, 101) and (N,)."""
    years = decode_years(age_probabilities, DECODE)
    low, high = crops.age_low[rows].astype(float), crops.age_high[rows].astype(float)
    labels = crops.female[rows].astype(float)
    exact = np.where(low == high, low, np.nan)
    figures = measure_ages(years, exact) | measure_gender(female, labels)
    if np.isnan(exact).all():
        figures |= measure_bands(years, low, BANDS)
    worst = worst_slice((female >= 0.5) == (labels >= 0.5), crops.race[rows])
    return figures | ({} if worst is None else {"gender_min_race": worst})


def make_judge(crops: CropSet, rows: NDArray[np.int64], widening: float, size: int) -> Callable[..., dict[str, float]]:
    """A function that measures a network on the given faces."""
    pixels = still_crops(crops, rows, widening, size)

    def judge(network: FaceNetwork) -> dict[str, float]:
        ages, genders = predict_crops(network, pixels)
        female = 1 / (1 + np.exp(-genders.astype(np.float64)))
        return measure(softmax(ages.astype(np.float64)), female, crops, rows)

    return judge


def judge_each(crops: CropSet, widening: float, size: int) -> Callable[..., dict[str, float]]:
    """A function that measures a network on the validation faces of each data set by itself.

    Args:
        crops: All faces.
        widening: By how much they are wider than what the network sees.
        size: Side of what the network sees, in pixels.
    """
    names = sorted(set(crops.dataset.tolist()))
    held = {name: np.flatnonzero((crops.split == "val") & (crops.dataset == name)) for name in names}
    judges = {name: make_judge(crops, rows, widening, size) for name, rows in held.items()}

    def judge(network: FaceNetwork) -> dict[str, float]:
        return {
            figure if len(names) == 1 else f"{name} {figure}": value
            for name in names
            for figure, value in judges[name](network).items()
        }

    return judge
