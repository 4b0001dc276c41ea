"""Interval levels hold what they state on faces that they were not fitted on; how years are read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agelens.training.calibrate import conformal_level, decode_years, fit_levels, needed_levels
from stand_in import make_spec

Floats = NDArray[np.float64]


def people(count: int, seed: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Answers as normal distributions, 4 years wide, about ages of the same error."""
    rng = np.random.default_rng(seed)
    ages = rng.integers(10, 70, count).astype(float)
    seen = ages + rng.normal(0, 4, count)
    answers = np.exp(-(((np.arange(101)[None] - seen[:, None]) / 4) ** 2) / 2)
    return answers / answers.sum(axis=1, keepdims=True), ages, rng.random(count) < 0.5


@pytest.mark.parametrize("decode", ["mean", "median"])
def test_intervals_hold_what_they_state(decode: str) -> None:
    answers, ages, female = people(6000, 1)
    levels = fit_levels(answers, ages, (decode_years(answers, decode), female), 0.9)
    answers, ages, female = people(6000, 2)
    spec = replace(make_spec(), levels=levels)
    years = decode_years(answers, decode)
    level = [spec.level_for(age, "female" if side else "male") for age, side in zip(years, female, strict=True)]
    assert (needed_levels(answers, ages) <= level).mean() == pytest.approx(0.9, abs=0.012)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
@settings(max_examples=200, deadline=None)
def test_a_level_holds_the_share_of_the_faces_it_was_fitted_on(needed: list[float], coverage: float) -> None:
    values = np.array(needed)
    level = conformal_level(values, coverage)
    rank = min(int(np.ceil((len(values) + 1) * coverage - 1e-9)), len(values))
    assert level == np.sort(values)[rank - 1]


@given(st.lists(st.floats(0, 1), min_size=101, max_size=101))
@settings(max_examples=100, deadline=None)
def test_the_median_has_half_of_the_mass_on_either_side(mass: list[float]) -> None:
    answers = np.array([mass]) + 1e-3
    answers /= answers.sum()
    median = float(decode_years(answers, "median")[0])
    below = np.interp(median + 0.5, np.arange(102), np.concatenate([[0], np.cumsum(answers[0])]))
    assert below == pytest.approx(0.5, abs=1e-6)
    assert decode_years(answers, "mean")[0] == pytest.approx(answers[0] @ np.arange(101))
