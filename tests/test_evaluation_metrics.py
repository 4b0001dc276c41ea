"""Figures against hand-made cases and scikit-learn; intervals against theory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from agelens.evaluation.curves import SHARES, draw_reliability, draw_risk, measure_confusions, measure_gates
from agelens.evaluation.figures import KINDS, build_statistics
from agelens.evaluation.metrics import (
    calibration_error,
    measure_ages,
    measure_bands,
    measure_gender,
    nearest_band,
    worst_slice,
)
from agelens.evaluation.protocol import load_protocol
from agelens.evaluation.slices import CROSS, cut, measure_slices
from agelens.evaluation.statistics import (
    Statistic,
    calibration_gap,
    least_mean,
    make_figures,
    mean_of,
    number_units,
    resample,
)
from evaluation_makers import BANDS, EXACT, make_predictions, random_predictions

ADIENCE = load_protocol("adience5").bands


def figures_of(predictions, protocol=EXACT, rounds=50):
    return make_figures(build_statistics(predictions, protocol), predictions.units, rounds=rounds)


@pytest.mark.parametrize(
    ("age", "index"),
    [
        (0, 0),
        (2.99, 0),
        (3.0, 0),
        (3.01, 1),
        (6.9, 1),
        (7, 1),
        (7.1, 2),
        (22, 3),
        (24, 4),
        (32.9, 4),
        (99, 7),
        (130, 7),
    ],
)
def test_nearest_band_counts_from_the_years_at_its_ends(age, index):
    assert nearest_band(np.array([age]), ADIENCE)[0] == index


@given(st.floats(0, 119.99))
def test_bands_without_gaps_hold_every_age(age):
    low, high = BANDS.bands[nearest_band(np.array([age]), BANDS.bands)[0]]
    assert low <= age < high + 1


def test_hand_made_ages():
    predictions = make_predictions(
        4,
        age=[10, 20, 30, 40],
        years=[12, 20, 25, 51],
        low=[8, 15, 26, 40],
        high=[16, 25, 34, 60],
        inside=[1, 1, 1, 1],
        group=[2, 3, 4, 5],
    )
    found = figures_of(predictions)
    assert found["mae"].value == pytest.approx((2 + 0 + 5 + 11) / 4)
    assert found["cs5"].value == 0.75
    assert found["cs10"].value == 0.75
    assert found["bias"].value == pytest.approx((2 + 0 - 5 + 11) / 4)
    assert found["constant_mae"].value == pytest.approx(10.0)
    assert found["exact"].value == 0.5  # 25 is in 20-29 and 51 in 50-59
    assert found["one_off"].value == 1.0
    assert found["exact_most_probable"].value == 1.0
    assert found["coverage"].value == 1.0
    assert found["width"].value == pytest.approx((8 + 10 + 8 + 20) / 4)
    assert found["mae"].faces == 4
    assert "gender" not in found


def test_hand_made_genders_and_unknown_labels():
    predictions = make_predictions(
        5,
        female=[1, 1, 0, 0, np.nan],
        female_probability=[0.9, 0.4, 0.2, 0.1, 0.7],
        race=["A", "A", "B", "B", "B"],
        age_low=[20.0, 5, 30, 30, 30],
        age_high=[20.0, 5, 30, 30, 30],
    )
    found = figures_of(predictions)
    assert found["gender"].value == 0.75
    assert found["gender"].faces == 4
    assert found["gender_balanced"].value == 0.75
    assert found["gender_13"].value == 1.0
    assert found["gender_brier"].value == pytest.approx((0.01 + 0.36 + 0.04 + 0.01) / 4)
    assert "gender_min_race" not in found  # no race has 50 faces


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 400), st.integers(0, 10**6))
def test_figures_agree_with_scikit_learn(count, seed):
    said = random_predictions(count, seed)
    found = figures_of(said, rounds=2)
    group = nearest_band(said.years, EXACT.bands)
    answered = (said.female_probability >= 0.5).astype(int)
    assert found["mae"].value == pytest.approx(reference.mean_absolute_error(said.age_low, said.years))
    assert found["exact"].value == pytest.approx(reference.accuracy_score(said.band, group))
    # scikit-learn averages over answers without a label, too, and warns of them.
    recalls = reference.recall_score(said.band, group, average=None, labels=np.unique(said.band), zero_division=0)
    assert found["exact_balanced"].value == pytest.approx(np.mean(recalls))
    assert found["gender"].value == pytest.approx(reference.accuracy_score(said.female, answered))
    recalls = reference.recall_score(
        said.female, answered, average=None, labels=np.unique(said.female), zero_division=0
    )
    assert found["gender_balanced"].value == pytest.approx(np.mean(recalls))
    assert found["gender_brier"].value == pytest.approx(np.mean((said.female - said.female_probability) ** 2))
    confusions = measure_confusions(said, EXACT)
    wanted = reference.confusion_matrix(said.band, group, labels=range(len(EXACT.labels)))
    assert np.array_equal(confusions["age"].counts, wanted)
    wanted = reference.confusion_matrix(said.female, answered, labels=[0, 1])
    assert np.array_equal(confusions["gender"].counts, wanted)


def test_reliability_agrees_with_scikit_learn():
    said = random_predictions(2000, 4)
    curve = draw_reliability(said.female_probability, said.female, said.units, rounds=20)
    share, stated = calibration_curve(said.female, said.female_probability, n_bins=10)
    assert [figure.value for figure in curve.figures] == pytest.approx(share.tolist())
    assert list(curve.x) == pytest.approx(stated.tolist())


def test_plain_metrics_and_figures_are_the_same_numbers():
    said = random_predictions(500, 7)
    found = figures_of(said)
    plain = measure_ages(said.years, said.age_low) | measure_gender(said.female_probability, said.female)
    inside = (said.low <= said.age_low) & (said.age_low <= said.high)
    plain |= {"coverage": inside.mean(), "width": (said.high - said.low).mean()}
    for name, value in plain.items():
        assert found[name].value == pytest.approx(value), name
    low = np.array([EXACT.bands[band][0] for band in said.band])
    bands = measure_bands(said.years, low, EXACT.bands)
    assert found["exact"].value == pytest.approx(bands["exact"])
    assert found["one_off"].value == pytest.approx(bands["one_off"])
    right = (said.female_probability >= 0.5) == (said.female >= 0.5)
    assert found["gender_min_race"].value == pytest.approx(worst_slice(right, said.race))


def test_plain_metrics_of_nothing():
    nothing = np.array([np.nan])
    assert measure_ages(np.array([3.0]), nothing) == {}
    assert measure_bands(np.array([3.0]), nothing, ADIENCE) == {}
    assert measure_gender(np.array([0.3]), nothing) == {}
    assert worst_slice(np.array([True]), np.array(["A"])) is None


def test_calibration_error_by_hand():
    confidence, right = np.array([0.55, 0.55, 0.95, 0.95]), np.array([True, False, True, True])
    assert calibration_error(confidence, right) == pytest.approx(0.5 * 0.05 + 0.5 * 0.05)
    probability, female = np.array([0.55, 0.45, 0.95, 0.05]), np.array([1.0, 1.0, 1.0, 0.0])
    found = figures_of(make_predictions(4, female=female, female_probability=probability))
    assert found["gender_ece"].value == pytest.approx(0.05)


def test_interval_of_a_mean_is_what_theory_says():
    values = np.random.default_rng(0).normal(10, 4, 900)
    figure = make_figures({"x": mean_of(values)}, np.arange(900), rounds=3000)["x"]
    half = 1.96 * values.std() / 30
    assert figure.value == pytest.approx(values.mean())
    assert (figure.high - figure.low) / 2 == pytest.approx(half, rel=0.08)


def test_people_are_resampled_whole():
    """Ten copies of each picture of a person say nothing new, so the interval must stay as wide."""
    values = np.random.default_rng(1).normal(0, 1, 100)
    alone = make_figures({"x": mean_of(values)}, np.arange(100), rounds=2000)["x"]
    copied = make_figures({"x": mean_of(np.repeat(values, 10))}, np.repeat(np.arange(100), 10), rounds=2000)["x"]
    naive = make_figures({"x": mean_of(np.repeat(values, 10))}, np.arange(1000), rounds=2000)["x"]
    width = alone.high - alone.low
    assert copied.high - copied.low == pytest.approx(width, rel=0.01)
    assert naive.high - naive.low < 0.4 * width


def test_one_person_has_no_interval():
    figure = make_figures({"x": mean_of(np.arange(5.0))}, np.zeros(5, np.int64), rounds=10)["x"]
    assert (figure.value, figure.low, figure.high) == (2.0, None, None)


def test_units_are_people_and_single_pictures():
    units = number_units(np.array(["a", "", "b", "a", ""]))
    assert units[0] == units[3]
    assert len(set(units.tolist())) == 4
    assert sorted(set(units.tolist())) == [0, 1, 2, 3]


def test_the_same_person_of_two_sets_is_two_people():
    predictions = make_predictions(2, dataset=["x", "y"], subject=["1", "1"])
    assert len(set(predictions.units.tolist())) == 2


def test_an_album_is_resampled_by_its_numbered_faces():
    predictions = make_predictions(4, subject=["a"] * 4, face=["1", "1", "2", "3"])
    assert len(set(predictions.units.tolist())) == 3


def test_interval_of_a_worst_slice_holds_it():
    said = random_predictions(600, 5)
    figure = figures_of(said, rounds=400)["gender_min_race"]
    assert figure.low <= figure.value <= figure.high
    figure = figures_of(said, rounds=400)["gender_ece"]
    assert 0 <= figure.low <= figure.value <= figure.high


def test_what_is_moved_stays_within_what_it_can_be():
    right = np.ones(120)
    right[[0, 61]] = 0
    races = np.repeat(["A", "B"], 60)
    worst = make_figures({"x": least_mean(right, races, np.array(["A", "B"]))}, np.arange(120))["x"]
    assert worst.value <= worst.high <= 1
    wrong = make_figures({"x": least_mean(1 - right, races, np.array(["A", "B"]))}, np.arange(120))["x"]
    assert 0 <= wrong.low <= wrong.value
    off = make_figures({"x": calibration_gap(np.full(120, 0.99), 1 - right)}, np.arange(120))["x"]
    assert off.value <= off.high <= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_resampling_is_the_same_for_the_same_seed(seed):
    statistics = {"x": mean_of(np.random.default_rng(seed).normal(size=30))}
    first, second = (resample(statistics, np.arange(30), rounds=7, seed=seed)["x"] for _ in range(2))
    assert np.array_equal(first, second)


def test_statistics_of_a_part_are_those_of_its_faces():
    said = random_predictions(100, 2)
    chosen = said.race == "A"
    whole: dict[str, Statistic] = build_statistics(said, EXACT)
    assert whole["mae"].take(chosen).value() == pytest.approx(build_statistics(said.take(chosen), EXACT)["mae"].value())


def test_risk_falls_with_certainty():
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    curve = draw_risk(confidence, np.array([0.0, 0.0, 1.0, 1.0]), np.arange(4), rounds=50)
    at = {
        round(x, 3): (figure.value, mark) for x, figure, mark in zip(curve.x, curve.figures, curve.marks, strict=True)
    }
    assert at[0.5] == (0.0, 0.8)
    assert at[0.75] == (pytest.approx(1 / 3), 0.7)
    assert at[1.0] == (0.5, 0.6)
    assert len(curve.x) == len(SHARES)


def test_risk_at_full_coverage_is_the_whole():
    said = random_predictions(333, 9, people=40)
    loss = np.abs(said.years - said.age_low)
    curve = draw_risk(said.score, loss, said.units, rounds=200)
    whole = make_figures({"x": mean_of(loss)}, said.units, rounds=200)["x"]
    assert curve.figures[-1].value == pytest.approx(whole.value)
    assert curve.figures[-1].low == pytest.approx(whole.low, rel=0.05)


def test_gates_by_hand():
    age = [8, 12, 14, 15, 17, 18, 19, 25, 40]
    years = [9.0, 13.5, 17.9, 18.0, 26.0, 17.0, 22.0, 30.0, 41.0]
    gates = measure_gates(make_predictions(9, age=age, years=years), EXACT, rounds=20)
    assert gates["challenge_18_minors"].value == pytest.approx(2 / 5)
    assert gates["challenge_18_minors"].faces == 5
    assert gates["challenge_25_minors"].value == pytest.approx(1 / 5)
    assert gates["challenge_18_nearly"].value == pytest.approx(2 / 3)
    assert gates["challenge_30_nearly"].value == 0.0
    assert gates["challenge_18_adults"].value == pytest.approx(3 / 4)
    assert gates["challenge_30_adults"].value == pytest.approx(2 / 4)
    assert gates["aged_13_16"].value == 0.0  # 14 -> 17.9 and 15 -> 18.0
    assert gates["aged_13_16_younger"].value == pytest.approx(1 / 2)
    assert gates["aged_13_16_older"].value == 0.0


def test_gates_need_exact_ages():
    said = random_predictions(50, 1)
    assert measure_gates(said, BANDS, rounds=10) == {}


def test_slices_cover_what_they_say():
    said = random_predictions(3000, 6)
    parts = {(by, name): mask for by, name, mask in cut(said, EXACT)}
    for by in ("age", "gender", "race", "face size", "sharpness"):
        masks = [mask for (kind, _), mask in parts.items() if kind == by]
        assert np.array_equal(np.sum(masks, axis=0), np.ones(len(said))), by
    sharp = parts["sharpness", "sharpest quarter"]
    assert said.sharpness[sharp].min() > said.sharpness[~sharp].max()
    measured = measure_slices(said, EXACT, rounds=10)
    assert all(part.faces >= 200 for part in measured if part.by == CROSS)
    one = next(part for part in measured if (part.by, part.name) == ("race", "B"))
    mask = said.race == "B"
    assert one.faces == mask.sum()
    assert one.figures["mae"].value == pytest.approx(np.abs(said.years - said.age_low)[mask].mean())


def test_every_figure_has_a_name():
    for protocol in (EXACT, BANDS):
        assert build_statistics(random_predictions(200, 3), protocol).keys() <= KINDS.keys()
