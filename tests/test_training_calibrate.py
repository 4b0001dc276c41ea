"""How years are read of distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agelens.training.calibrate import decode_years


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
