"""Intervals hold what they state on faces that they were not fitted on: of all, and of each part."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agelens.estimate import EstimateOptions, read_age
from agelens.modelspec import IntervalLevel
from agelens.training.intervals import (
    AGE_CUTS,
    COVERAGE,
    IN_PARTS,
    LEAST_FACES,
    MOST_FACES,
    AgeLabels,
    choose_known,
    conformal_level,
    cut_kinds,
    cut_parts,
    draw_folds,
    fit_levels,
)
from stand_in import make_spec

Floats = NDArray[np.float64]


@dataclass
class People:
    """Made-up answers about people, and their labels."""

    answers: Floats
    ages: Floats
    labels: AgeLabels

    def measure(self, levels: tuple[IntervalLevel, ...], decode: str) -> tuple[NDArray[np.bool_], Floats]:
        """Which ages the intervals hold that prediction tells, and how wide they are."""
        spec = make_spec(levels=levels, decode=decode)
        told = [read_age(each, 0.0, spec, EstimateOptions()) for each in self.answers]
        low, high = np.array([each.low for each in told]), np.array([each.high for each in told])
        return (low - 1e-6 <= self.ages) & (self.ages <= high + 1e-6), high - low


def make_people(count: int, seed: int, *, banded: bool = False) -> People:
    """Answers as normal distributions, 4 years wide, about ages; people of 15 to 19 look 3 to 15 years older."""
    rng = np.random.default_rng(seed)
    ages = rng.integers(10, 70, count).astype(float)
    seen = ages + rng.normal(0, 4, count) + (ages >= 15) * (ages < 20) * rng.uniform(3, 15, count)
    answers = np.exp(-(((np.arange(101)[None] - seen[:, None]) / 4) ** 2) / 2)
    answers /= answers.sum(axis=1, keepdims=True)
    low, high = (ages // 10 * 10, ages // 10 * 10 + 9) if banded else (ages, ages)
    return People(
        answers, ages, AgeLabels(low, high, np.full(count, "made up"), np.full(count, -1), (rng.integers(0, 2, count),))
    )


@pytest.mark.parametrize("decode", ["mean", "median", "year"])
def test_intervals_hold_what_they_state_of_all_and_of_each_part(decode: str) -> None:
    learned, fresh = make_people(3000, 1), make_people(6000, 2)
    levels = fit_levels(learned.answers, decode, learned.labels)
    held, _ = fresh.measure(levels, decode)
    assert COVERAGE - 0.018 < held.mean() < 0.95
    for decade in range(10, 70, 10):
        rows = fresh.ages // 10 * 10 == decade
        assert held[rows].mean() > IN_PARTS - 0.025, decade


def test_both_ends_are_chosen_by_themselves() -> None:
    people = make_people(3000, 1)
    levels = fit_levels(people.answers, "year", people.labels)
    twenties = next(level for level in levels if level.covers(24, "any"))
    # Many who look 24 are younger by much, and nobody is older by more than the answers' own width.
    assert twenties.lower < 0.02
    assert 1 - twenties.upper > 3 * twenties.lower


def test_central_intervals_of_the_same_coverage_are_wider() -> None:
    people = make_people(3000, 1)
    levels = fit_levels(people.answers, "year", people.labels)
    held, free = people.measure(levels, "year")
    for level in np.linspace(0.8, 0.999, 100):
        wide, middle = people.measure((IntervalLevel.central(0, 200, "any", level),), "year")
        if wide.mean() >= held.mean():
            break
    assert free.mean() < middle.mean() - 0.3


def test_whole_years_hold_as_many_ages_in_narrower_intervals() -> None:
    learned, fresh = make_people(3000, 1), make_people(6000, 2)
    of = {name: fresh.measure(fit_levels(learned.answers, name, learned.labels), name) for name in ("median", "year")}
    (held, width), (held_whole, width_whole) = of["median"], of["year"]
    assert (width_whole == np.round(width_whole)).all()
    assert held_whole.mean() >= held.mean()
    assert width_whole.mean() < width.mean() - 0.4


def test_a_band_counts_by_how_likely_its_years_are() -> None:
    learned, fresh = make_people(3000, 1, banded=True), make_people(6000, 2)
    levels = fit_levels(learned.answers, "year", learned.labels)
    held, _ = fresh.measure(levels, "year")
    assert held.mean() == pytest.approx(COVERAGE, abs=0.05)


@pytest.mark.parametrize("count", [1, 9, LEAST_FACES - 1])
def test_few_faces_give_one_central_interval(count: int) -> None:
    people = make_people(count, 3)
    levels = fit_levels(people.answers, "year", people.labels)
    (level,) = levels
    assert level.lower == pytest.approx(1 - level.upper)
    held, _ = people.measure(levels, "year")
    assert held.mean() >= min(COVERAGE, (count - 0.5) / count)


@pytest.mark.parametrize(("decode", "wanted"), [("median", 0.9), ("year", 0.8)])
def test_few_bands_give_an_interval_as_wide_as_their_years(decode: str, wanted: float) -> None:
    answers = np.zeros((90, 101))
    answers[:, 20:30] = 0.1
    low = np.full(90, 20.0)
    labels = AgeLabels(low, low + 9, np.full(90, "made up"), np.full(90, -1))
    (level,) = fit_levels(answers, decode, labels)
    # Each year holds a tenth; whole years at both ends need no more than a trace of it.
    assert level.upper - level.lower == pytest.approx(wanted, abs=0.051)
    exact, banded = make_people(90, 6), make_people(90, 6, banded=True)
    (known,) = fit_levels(exact.answers, "year", exact.labels)
    (guessed,) = fit_levels(banded.answers, "year", banded.labels)
    assert guessed.upper - guessed.lower > known.upper - known.lower - 0.1


def test_unknown_ages_say_nothing() -> None:
    people = make_people(900, 4)
    half = np.arange(900) < 450
    labels = people.labels
    blank = replace(labels, low=np.where(half, labels.low, np.nan))
    assert fit_levels(people.answers, "year", blank) == fit_levels(people.answers[half], "year", labels.of(half))


@given(st.lists(st.floats(0, 100), min_size=LEAST_FACES, max_size=1200))
@settings(max_examples=60, deadline=None)
def test_every_age_has_one_kind_and_every_kind_enough_faces(years: list[float]) -> None:
    kinds = list(cut_kinds(np.array(years)))
    assert kinds[0][0] == AGE_CUTS[0]
    assert kinds[-1][1] == AGE_CUTS[-1]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(kinds))
    assert np.array([rows for _, _, rows in kinds]).sum(axis=0).tolist() == [1] * len(years)
    assert all(rows.sum() >= LEAST_FACES for _, _, rows in kinds)


def test_each_data_set_is_held() -> None:
    """One of them is wider off than its answers say."""
    rng = np.random.default_rng(7)
    learned, fresh = make_people(2000, 1), make_people(6000, 2)
    for people, few in ((learned, 400), (fresh, 1200)):
        moved = np.roll(np.arange(101), 6)
        rows = np.flatnonzero(np.arange(len(people.ages)) < few)
        rows = rows[rng.random(few) < 0.5]
        people.answers[rows] = people.answers[rows][:, moved]
        people.labels = replace(people.labels, dataset=np.where(np.arange(len(people.ages)) < few, "hard", "easy"))
    levels = fit_levels(learned.answers, "year", learned.labels)
    held, _ = fresh.measure(levels, "year")
    for name in ("hard", "easy"):
        assert held[fresh.labels.dataset == name].mean() > COVERAGE - 0.03, name


def test_an_odd_face_of_a_tiny_data_set_decides_nothing() -> None:
    people = make_people(600, 8)
    people.ages[0], people.answers[0] = 5, people.answers[int(np.argmax(people.ages))]
    labels = replace(people.labels, low=people.ages.copy(), high=people.ages.copy())
    alone = replace(labels, dataset=np.where(np.arange(600) == 0, "odd", "made up"))
    assert all(level.lower > 0 for level in fit_levels(people.answers, "year", alone))


def test_parts_are_large_and_faces_of_small_sets_count_with_all() -> None:
    people = make_people(1000, 5)
    dataset = np.where(np.arange(1000) < 40, "small", "large")
    parts, wanted, _ = cut_parts(replace(people.labels, dataset=dataset))
    sizes = parts.sum(axis=1)
    assert sorted(sizes[wanted >= COVERAGE]) == [960, 1000]
    assert (sizes >= LEAST_FACES).all()
    assert len(parts) > 8
    same, _, _ = cut_parts(replace(people.labels, traits=(np.full(1000, ""), *people.labels.traits)))
    assert len(same) == len(cut_parts(people.labels)[0])


def test_faces_of_a_person_share_a_fold() -> None:
    group = np.array([3, 3, -1, 5, -1, 5, 3, -1] * 50)
    folds = draw_folds(group)
    assert len(set(folds[group == 3].tolist())) == 1
    assert sorted(set(folds[group < 0].tolist())) == [0, 1, 2, 3]
    assert np.bincount(folds[group < 0]).min() > 20
    assert np.bincount(draw_folds(np.full(200, 7))).min() > 20, "one person alone is cut by faces"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
@settings(max_examples=200, deadline=None)
def test_a_level_holds_the_share_of_the_faces_it_was_fitted_on(needed: list[float], coverage: float) -> None:
    values = np.array(needed)
    level = conformal_level(values[:, None], np.ones((len(values), 1)), coverage)
    rank = min(int(np.ceil((len(values) + 1) * coverage - 1e-9)), len(values))
    assert level == np.sort(values)[rank - 1]


def test_of_very_many_faces_enough_are_drawn() -> None:
    count = MOST_FACES + 5000
    low = np.where(np.arange(count) % 10 == 0, np.nan, 30.0)
    labels = AgeLabels(low, low, np.full(count, "made up"), np.full(count, -1))
    known = choose_known(labels)
    assert len(known) == MOST_FACES
    assert (np.diff(known) > 0).all()
    assert not np.isnan(low[known]).any()
    few = choose_known(labels.of(np.arange(50)))
    assert few.tolist() == [row for row in range(50) if row % 10]
