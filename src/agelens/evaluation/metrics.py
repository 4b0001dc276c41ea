"""What a set of predictions reaches, as plain numbers. Pure functions on arrays.

NaN stands for an unknown label; it counts for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Band = tuple[float, float]


def nearest_band(ages: Floats, bands: Sequence[Band]) -> NDArray[np.int64]:
    """Index of the band (first year, last year) that each age lies in or is nearest to, (N,); ties to the younger.

    A band reaches to the end of its last year: 29.9 lies in (20, 29). From outside, its distance is that to its first
    or last year as a number.
    """
    low = np.array([band[0] for band in bands], float)
    high = np.array([band[1] for band in bands], float)
    age = np.asarray(ages, float)[:, None]
    inside = (age >= low) & (age < high + 1)
    outside = np.where(inside, 0.0, np.minimum(np.abs(age - low), np.abs(age - high)))
    return np.asarray(outside.argmin(axis=1))


def measure_ages(predicted: Floats, ages: Floats) -> dict[str, float]:
    """Mean absolute error, share within 5 years, and signed bias, in years."""
    known = ~np.isnan(ages)
    error = np.asarray(predicted, float)[known] - ages[known]
    if not error.size:
        return {}
    return {
        "mae": float(np.abs(error).mean()),
        "cs5": float((np.abs(error) <= 5).mean()),
        "bias": float(error.mean()),
    }


def measure_bands(predicted: Floats, low: Floats, bands: Sequence[Band]) -> dict[str, float]:
    """Share in the right band and share at most one band off; `low` is the first year of each label's band."""
    known = ~np.isnan(low)
    if not known.any():
        return {}
    off = np.abs(nearest_band(predicted[known], bands) - nearest_band(low[known] + 0.5, bands))
    return {"exact": float((off == 0).mean()), "one_off": float((off <= 1).mean())}


def measure_gender(female_probability: Floats, female: Floats) -> dict[str, float]:
    """Accuracy at one half, and expected calibration error of the chosen label's probability."""
    known = ~np.isnan(female)
    if not known.any():
        return {}
    probability = np.asarray(female_probability, float)[known]
    right = (probability >= 0.5) == (female[known] >= 0.5)
    return {
        "gender": float(right.mean()),
        "gender_ece": calibration_error(np.maximum(probability, 1 - probability), right),
    }


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error over bins of equal width (Guo et al., ICML 2017)."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for number in range(bins):
        chosen = index == number
        if chosen.any():
            error += chosen.mean() * abs(float(right[chosen].mean()) - float(confidence[chosen].mean()))
    return float(error)


def worst_slice(right: NDArray[np.bool_], slices: NDArray[Any], least: int = 50) -> float | None:
    """The lowest accuracy of all slices with at least `least` faces; None where there are fewer than two."""
    names = [name for name in np.unique(slices) if name and (slices == name).sum() >= least]
    if len(names) < 2:
        return None
    return float(min(right[slices == name].mean() for name in names))
