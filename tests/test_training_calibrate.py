"""How years are read of distributions, and what is fitted to the faces of a crop set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agelens.training.calibrate import Calibration, decode_years, fit_gender, fit_sureness
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


def draw_genders(count: int, sureness: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels that are as sure as is said at 5, 13 and 25 years, and ages that are known for certain."""
    rng = np.random.default_rng(3)
    ages = rng.integers(0, 60, count)
    logits = rng.normal(0, 2.5, count)
    chance = 1 / (1 + np.exp(-logits * np.interp(ages, [5, 13, 25], sureness)))
    return logits, (rng.random(count) < chance).astype(float), np.eye(101)[ages]


def test_how_sure_gender_may_be_is_found_by_age() -> None:
    true = (0.5, 0.7, 1.2)
    logits, female, years = draw_genders(40_000, true)
    scale, shift = fit_gender(logits, female)
    fitted = np.array(fit_sureness(logits * scale + shift, female, years)) * scale
    assert fitted == pytest.approx(true, abs=0.08)
    calibration = Calibration(1.0, scale, shift, (), tuple(fitted / scale))
    chance = calibration.tell_female(logits, years)
    for low, high in ((0, 6), (10, 16), (25, 60)):
        rows = years[:, low:high].any(axis=1)
        for part in (chance < 0.2, (chance > 0.3) & (chance < 0.7), chance > 0.8):
            assert chance[rows & part].mean() == pytest.approx(female[rows & part].mean(), abs=0.03)


def test_few_labels_hardly_move_how_sure_gender_may_be() -> None:
    logits, female, years = draw_genders(4_000, (0.3, 0.6, 1.4))
    moved = []
    for count in (4_000, 20):
        female[count:] = np.nan
        moved.append(np.abs(np.subtract(fit_sureness(logits, female, years), 1)).sum())
    assert moved[1] < 0.6 * moved[0]
    female[:] = np.nan
    assert fit_sureness(logits, female, years) == (1.0, 1.0, 1.0)


@given(
    st.lists(st.floats(0.1, 3), min_size=3, max_size=3),
    st.floats(-30, 30),
    st.floats(0.1, 3),
    st.floats(-2, 2),
    st.integers(0, 100),
)
@settings(max_examples=100, deadline=None)
def test_how_sure_gender_may_be_changes_nobodys_likelier_gender(
    sureness: list[float], logit: float, scale: float, shift: float, age: int
) -> None:
    plain = Calibration(1.0, scale, shift)
    softened = replace(plain, sureness=tuple(sureness))
    assert Calibration.from_dict(softened.to_dict()) == softened
    before, after = (each.tell_female(np.array([logit]), np.eye(101)[[age]])[0] for each in (plain, softened))
    assert (before >= 0.5) == (after >= 0.5)


def test_a_calibration_from_before_it_asked_for_ages_is_read() -> None:
    old = {"age_temperature": 1.5, "gender_scale": 0.9, "gender_shift": 0.1, "levels": []}
    assert Calibration.from_dict(old) == Calibration(1.5, 0.9, 0.1)
