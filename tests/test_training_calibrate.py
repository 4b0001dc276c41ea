"""How years are read of distributions, and what is fitted to the faces of a crop set."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agelens.modelspec import IntervalLevel
from agelens.training.batches import Lessons
from agelens.training.calibrate import Calibration, decode_years, fit_gender, fit_sureness
from agelens.training.calibration import Labelled, fit_calibration, year_probabilities
from agelens.training.judge import collect
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
    calibration = Calibration(1.0, scale, shift, (), fit_sureness(logits * scale + shift, female, years))
    assert calibration.sureness_by_year[[0, 13, 100]] * scale == pytest.approx(true, abs=0.08)
    chance = calibration.tell_female(logits, years)
    for low, high in ((0, 6), (10, 16), (25, 60)):
        rows = years[:, low:high].any(axis=1)
        for part in (chance < 0.2, (chance > 0.3) & (chance < 0.7), chance > 0.8):
            assert chance[rows & part].mean() == pytest.approx(female[rows & part].mean(), abs=0.03)


@pytest.mark.parametrize("true", [(0.1, 0.3, 0.5), (0.3, 0.6, 1.4), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("loud", [1.0, 4.0])
def test_a_network_that_is_far_too_sure_is_corrected(true: tuple[float, float, float], loud: float) -> None:
    logits, female, years = draw_genders(4_000, true)
    logits = logits * loud
    wanted = np.array(true) / loud
    fitted = np.array(fit_sureness(logits, female, years))[:, 1]
    assert fitted == pytest.approx(np.maximum(wanted, 0.1), abs=0.15)
    scale, shift = fit_gender(logits, female)
    assert 0.5 * wanted.min() < scale < 1.5 * wanted.max()
    assert abs(shift) < 0.3


def test_few_labels_move_how_sure_gender_may_be_less() -> None:
    logits, female, years = draw_genders(4_000, (0.3, 0.6, 1.4))
    factors = []
    for count in (4_000, 20, 0):
        female[count:] = np.nan
        factors.append(np.array(fit_sureness(logits, female, years))[:, 1])
    many, few, none = factors
    assert many == pytest.approx((0.3, 0.6, 1.4), abs=0.1)
    assert np.abs(few - 1).sum() < 0.6 * np.abs(many - 1).sum()
    assert none.tolist() == [1.0, 1.0, 1.0]


def test_how_sure_gender_may_be_is_fitted_where_both_are_told() -> None:
    lessons, rows = make_lessons(130), np.arange(130)
    torch.manual_seed(0)
    network = FaceNetwork(NetworkConfig(size=48, widths=(8, 16, 32), blocks=(1, 1, 1), last_inner=32)).eval()
    found = fit_calibration(network, "both", lessons, rows)
    ages, genders = collect(network, lessons, rows)
    years = year_probabilities(network, ages, found.age_temperature)
    corrected = genders * found.gender_scale + found.gender_shift
    female = lessons.crops.female[rows].astype(float)
    assert found.sureness == fit_sureness(corrected, female, years)
    assert found.sureness != fit_sureness(genders, female, years)
    for task in ("age", "gender"):
        assert fit_calibration(network, task, lessons, rows).sureness == ()


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 3)), max_size=4, unique_by=lambda pair: pair[0]),
    st.floats(-30, 30),
    st.floats(0.1, 3),
    st.floats(-2, 2),
    st.integers(0, 100),
)
@settings(max_examples=100, deadline=None)
def test_how_sure_gender_may_be_changes_nobodys_likelier_gender(
    sureness: list[tuple[float, float]], logit: float, scale: float, shift: float, age: int
) -> None:
    assume(abs(logit * scale + shift) > 1e-9)
    plain = Calibration(1.0, scale, shift)
    softened = replace(plain, sureness=tuple(sorted(sureness)))
    assert Calibration.from_dict(json.loads(json.dumps(softened.to_dict()))) == softened
    before, after = (each.tell_female(np.array([logit]), np.eye(101)[[age]])[0] for each in (plain, softened))
    assert (before >= 0.5) == (after >= 0.5)


def test_a_calibration_from_before_it_asked_for_ages_is_read() -> None:
    old = {"age_temperature": 1.5, "gender_scale": 0.9, "gender_shift": 0.1, "levels": []}
    assert Calibration.from_dict(old) == Calibration(1.5, 0.9, 0.1)


# What is there stays where labels are too few

BEFORE = Calibration(1.5, 0.8, 0.3, (IntervalLevel.central(0, 200, "any", 0.8),), ((5, 0.5), (25, 1.0)), 5000, 4000)


def lessons_with(ages: int, female: int, male: int) -> Lessons:
    """200 faces of which so many have labels."""
    lessons = make_lessons(200)
    numbers = np.arange(200)
    age = np.where(numbers < ages, 10 + numbers % 60, np.nan).astype(np.float32)
    gender = np.full(200, np.nan, np.float32)
    gender[:female], gender[female : female + male] = 1, 0
    return replace(lessons, crops=replace(lessons.crops, age_low=age, age_high=age, female=gender))


def fit(lessons: Lessons, before: Calibration = BEFORE, task: str = "both") -> Calibration:
    torch.manual_seed(0)
    network = FaceNetwork(NetworkConfig(size=48, widths=(8, 16, 32), blocks=(1, 1, 1), last_inner=32)).eval()
    return fit_calibration(network, task, lessons, np.arange(200), before=before)


def parts(calibration: Calibration) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """What belongs to ages, and what to gender."""
    gender = (calibration.gender_scale, calibration.gender_shift, calibration.sureness, calibration.gender_faces)
    return (calibration.age_temperature, calibration.levels, calibration.age_faces), gender


@pytest.mark.parametrize(
    ("female", "male", "is_enough"), [(200, 0, False), (181, 19, False), (49, 50, False), (180, 20, True)]
)
def test_gender_is_calibrated_on_both_genders_only(female: int, male: int, is_enough: bool) -> None:
    ages, gender = parts(fit(lessons_with(200, female, male)))
    assert ages != parts(BEFORE)[0]
    assert (gender == parts(BEFORE)[1]) is not is_enough
    assert gender[-1] == (female + male if is_enough else 4000)
    assert parts(fit(lessons_with(200, 200, 0), Calibration()))[1] == parts(Calibration())[1]
    said = list(Labelled.count(lessons_with(200, female, male), np.arange(200)).describe("both", BEFORE))
    assert said[0] == "age: calibrated on 200 faces"
    assert ("NOT calibrated, what was there stays" in said[1]) is not is_enough


def test_a_set_without_ages_leaves_their_calibration_alone() -> None:
    lessons = lessons_with(0, 100, 100)
    ages, gender = parts(fit(lessons))
    assert ages == parts(BEFORE)[0]
    assert gender[-1] == 200
    # How sure gender may be at each age goes with its scale and shift.
    assert len(gender[2]) == 3
    said = list(Labelled.count(lessons, np.arange(200)).describe("both", BEFORE))
    assert said == [
        "age: NOT calibrated, what was there stays: 0 faces with an age are too few",
        "gender: calibrated on 200 faces",
    ]


def test_a_few_ages_replace_none_but_those_of_fewer() -> None:
    few = lessons_with(50, 100, 100)
    assert parts(fit(few))[0] == parts(BEFORE)[0]
    assert parts(fit(few, replace(BEFORE, age_faces=49)))[0][-1] == 50
    assert parts(fit(few, Calibration()))[0][-1] == 50
    assert parts(fit(lessons_with(100, 100, 100)))[0][-1] == 100


def test_what_was_there_makes_no_difference_where_labels_are_enough() -> None:
    lessons = lessons_with(200, 100, 100)
    assert fit(lessons) == fit(lessons, Calibration())
    assert fit(lessons, task="age") == replace(
        fit(lessons, Calibration(), task="age"),
        **dict(zip(("gender_scale", "gender_shift", "sureness", "gender_faces"), parts(BEFORE)[1], strict=True)),
    )
