"""How years are read of distributions, and what is fitted to the faces of a crop set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agelens.training.calibrate import decode_years
from agelens.training.calibration import fit_calibration
from agelens.training.networks import FaceNetwork, NetworkConfig
from training_makers import make_lessons


@given(st.lists(st.floats(0, 1), min_size=101, max_size=101))
@settings(max_examples=100, deadline=None)
def test_the_median_has_half_of_the_mass_on_either_side(mass: list[float]) -> None:
    answers = np.array([mass]) + 1e-3
    answers /= answers.sum()
    median = float(decode_years(answers, "median")[0])
    below = np.interp(median + 0.5, np.arange(102), np.concatenate([[0], np.cumsum(answers[0])]))
    assert below == pytest.approx(0.5, abs=1e-6)
    assert decode_years(answers, "mean")[0] == pytest.approx(answers[0] @ np.arange(101))
    assert abs(decode_years(answers, "year")[0] - median) <= 0.5 + 1e-9


@pytest.mark.parametrize("count", [40, 130])
@pytest.mark.parametrize("task", ["age", "both"])
def test_an_age_that_is_a_fraction_counts_as_the_nearest_year(count: int, task: str) -> None:
    lessons, rows = make_lessons(count), np.arange(count)
    network = FaceNetwork(NetworkConfig(size=48, widths=(8, 16, 32), blocks=(1, 1, 1), last_inner=32)).eval()

    def fit(shift: float) -> object:
        crops = lessons.crops
        moved = replace(crops, age_low=crops.age_low + np.float32(shift), age_high=crops.age_high + np.float32(shift))
        return fit_calibration(network, task, replace(lessons, crops=moved), rows)

    assert fit(0.3) == fit(-0.3) == fit(0.0)


def test_calibration_asks_that_genders_are_held_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    lessons, rows = make_lessons(130), np.arange(0, 130, 2)
    network = FaceNetwork(NetworkConfig(size=48, widths=(8, 16, 32), blocks=(1, 1, 1), last_inner=32)).eval()
    seen = []
    monkeypatch.setattr("agelens.training.calibration.fit_levels", lambda _p, _y, labels: seen.append(labels) or ())
    fit_calibration(network, "both", lessons, rows)
    (labels,) = seen
    crops = lessons.crops
    np.testing.assert_array_equal(labels.low, crops.age_low[rows])
    np.testing.assert_array_equal(labels.group, crops.group[rows])
    np.testing.assert_array_equal(labels.dataset, crops.dataset[rows])
    np.testing.assert_array_equal(labels.traits[0], crops.female[rows])
    np.testing.assert_array_equal(labels.traits[1], crops.race[rows])
