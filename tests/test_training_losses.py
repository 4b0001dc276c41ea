"""Losses against numbers worked out by hand, and what a missing label must not do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agelens.groups import NAMED, parse_groups
from agelens.training.augment import soften
from agelens.training.batches import label_ages, label_crops, label_groups
from agelens.training.classes import YEARS, find_groups, group_classes
from agelens.training.losses import (
    distribution_loss,
    gender_loss,
    interval_loss,
    ordinal_loss,
)
from agelens.training.material import inverse_frequencies
from agelens.training.objective import Objective
from training_makers import make_lessons

QUARTERS = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))


def test_interval_loss_is_minus_log_of_the_mass_inside() -> None:
    inside = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    assert interval_loss(QUARTERS, inside).item() == pytest.approx(-math.log(0.5), abs=1e-6)
    assert interval_loss(QUARTERS, torch.zeros(1, 4)).item() == 0.0


def test_one_class_inside_is_cross_entropy() -> None:
    logits = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 7, 3, 3, 1])
    inside = torch.nn.functional.one_hot(labels, 8).float()
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(interval_loss(torch.log_softmax(logits, 1), inside), expected, atol=1e-6)


def test_distribution_loss_is_the_divergence_from_the_target() -> None:
    target = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    expected = 0.5 * math.log(0.5 / 0.1) + 0.5 * math.log(0.5 / 0.2)
    assert distribution_loss(QUARTERS, target).item() == pytest.approx(expected, abs=1e-6)
    assert distribution_loss(QUARTERS, QUARTERS.exp()).item() == pytest.approx(0, abs=1e-6)
    assert distribution_loss(QUARTERS, torch.zeros(1, 4)).item() == 0.0


def test_ordinal_loss_asks_of_each_class_whether_the_face_is_older() -> None:
    # Label: class 1 or 2. It is older than class 0 (0.9), not older than class 2 (mass up to it: 0.6);
    # "older than 1" is not decided.
    inside = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    expected = -(math.log(0.9) + math.log(0.6)) / 10
    assert ordinal_loss(QUARTERS, inside).item() == pytest.approx(expected, abs=1e-6)
    exact = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    expected = -(math.log(0.9) + math.log(0.7) + math.log(0.6)) / 10
    assert ordinal_loss(QUARTERS, exact).item() == pytest.approx(expected, abs=1e-6)
    assert ordinal_loss(QUARTERS, torch.zeros(1, 4)).item() == 0.0


def test_ordinal_loss_prefers_the_nearer_miss() -> None:
    def peak(at: int) -> torch.Tensor:
        return torch.log_softmax(-((torch.arange(101.0) - at) ** 2)[None] / 8, dim=1)

    label = torch.nn.functional.one_hot(torch.tensor([30]), 101).float()
    losses = [ordinal_loss(peak(at), label).item() for at in (30, 32, 36, 50)]
    assert losses == sorted(losses)


def test_gender_loss_by_hand() -> None:
    logits, female = torch.tensor([0.0, 2.0, -2.0]), torch.tensor([1.0, 1.0, 1.0])
    expected = [math.log(2), math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))]
    assert gender_loss(logits, female, 0.0).tolist() == pytest.approx(expected, abs=1e-6)
    assert gender_loss(torch.tensor([3.0]), torch.tensor([float("nan")]), 0.0).item() == 0.0


@pytest.mark.parametrize("ordinal", [False, True])
def test_a_missing_label_gives_no_gradient(ordinal: bool) -> None:
    lessons = make_lessons(35, deviation=None if ordinal else 2.0)
    batch = label_crops(lessons, np.arange(35), torch.empty(0))
    age = torch.randn(35, 101, requires_grad=True)
    gender = torch.randn(35, requires_grad=True)
    Objective(ordinal=ordinal).measure(age, gender, batch)["loss"].backward()
    assert age.grad is not None
    assert gender.grad is not None
    no_age, no_gender = np.arange(35) % 7 == 6, np.arange(35) % 5 == 4
    assert age.grad[no_age].abs().max() == 0
    assert (age.grad[~no_age].abs().sum(dim=1) > 0).all()
    assert gender.grad[no_gender].abs().max() == 0
    assert (gender.grad[~no_gender].abs() > 0).all()


def test_a_task_left_out_gives_no_gradient_at_all() -> None:
    batch = label_crops(make_lessons(8), np.arange(8), torch.empty(0))
    age, gender = torch.randn(8, 101, requires_grad=True), torch.randn(8, requires_grad=True)
    Objective(gender=0.0).measure(age, gender, batch)["loss"].backward()
    assert gender.grad is None
    assert age.grad is not None


def test_halves_of_a_batch_average_to_the_whole() -> None:
    lessons = make_lessons(32, deviation=2.0)
    age, gender = torch.randn(32, 101), torch.randn(32)
    losses = [
        Objective().measure(age[part], gender[part], label_crops(lessons, np.arange(32)[part], torch.empty(0)))["loss"]
        for part in (slice(None), slice(0, 16), slice(16, 32))
    ]
    assert losses[0].item() == pytest.approx((losses[1] + losses[2]).item() / 2, abs=1e-6)


def test_soft_labels_have_the_age_as_mean_and_the_deviation_asked_for() -> None:
    soft = soften(np.array([30, 50], np.float32), np.array([2, 3], np.float32), 101).double()
    years = torch.arange(101.0, dtype=torch.float64)
    mean = soft @ years
    assert mean.tolist() == pytest.approx([30, 50], abs=1e-4)
    variance = (soft * (years[None] - mean[:, None]) ** 2).sum(dim=1)
    assert variance.sqrt().tolist() == pytest.approx([2, 3], abs=1e-3)


def test_an_exact_age_becomes_a_distribution_and_a_band_stays_a_band() -> None:
    lessons = make_lessons(4, deviation=2.0)
    lessons.crops.age_low[:] = [30, 20, np.nan, 24.7]
    lessons.crops.age_high[:] = [30, 29, np.nan, 24.7]
    inside, target = label_ages(lessons, np.arange(4))
    assert target.sum(dim=1).tolist() == pytest.approx([1, 0, 0, 1])
    assert inside.sum(dim=1).tolist() == [0, 10, 0, 0]
    assert target[0].argmax() == 30


@given(
    hnp.arrays(np.float32, (3, 101), elements=st.floats(-8, 8, width=32)),
    st.integers(0, 100),
    st.integers(0, 30),
)
def test_the_mass_inside_is_a_probability(logits: np.ndarray, low: int, width: int) -> None:
    inside = YEARS.mark(np.full(3, low, np.float32), np.full(3, low + width, np.float32))
    loss = interval_loss(torch.log_softmax(torch.from_numpy(logits), dim=1), torch.from_numpy(inside))
    assert (loss >= -1e-5).all()
    assert torch.isfinite(loss).all()


def test_years_and_groups_mark_what_a_label_allows() -> None:
    low, high = np.array([3, 20, 60, np.nan], np.float32), np.array([3, 29, 120, np.nan], np.float32)
    assert YEARS.mark(low, high).sum(axis=1).tolist() == [1, 10, 41, 0]
    assert YEARS.mark(low, high, single=True).sum(axis=1).tolist() == [1, 0, 0, 0]
    adience = group_classes(NAMED["adience"])
    assert adience.mark(low, high).tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],  # 3 lies between (0, 2) and (4, 6): the younger
        [0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 1],
        [0] * 8,
    ]


def test_cross_entropy_takes_only_labels_of_one_group() -> None:
    lessons = make_lessons(3, classes=group_classes(NAMED["adience"]), single=True)
    lessons.crops.age_low[:], lessons.crops.age_high[:] = [20, 25, np.nan], [29, 32, np.nan]
    inside, _ = label_ages(lessons, np.arange(3))
    assert inside.sum(dim=1).tolist() == [0, 1, 0]
    assert label_groups(lessons, np.arange(3)).tolist() == [-1, 4, -1]


@pytest.mark.parametrize("name", ["adience", "adience12", "fairface", "utk", "0-12,13-17,18+"])
def test_groups_spread_over_years_and_read_back_are_the_same(name: str) -> None:
    groups = parse_groups(name)
    classes = group_classes(groups, seen=np.arange(101.0).tolist())
    assert classes.spread.sum(axis=1) == pytest.approx(np.ones(len(classes)), abs=1e-6)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(classes)), 5)
    years = classes.to_years(probabilities)
    back = years @ np.eye(len(classes))[np.array(groups.member)]
    assert back == pytest.approx(probabilities, abs=1e-6)


def test_an_open_group_has_most_of_its_people_near_its_lower_end() -> None:
    classes = group_classes(NAMED["adience"])
    assert 65 < float(classes.spread[-1] @ np.arange(101)) < 72


def test_groups_come_from_the_user_then_from_the_data_then_from_adience() -> None:
    twelve = NAMED["adience12"].labels
    assert find_groups(twelve, None).name == "adience12"
    assert find_groups(twelve, "utk").name == "utk"
    assert find_groups((), None).name == "adience"
    for name, groups in NAMED.items():
        assert find_groups(groups.labels, None).name == name


def test_rare_classes_weigh_more_and_the_mean_weight_is_one() -> None:
    labels = np.array([0] * 90 + [1] * 9 + [2] * 1 + [-1] * 10)
    weights = inverse_frequencies(labels, np.arange(110))
    assert weights[95] == pytest.approx(weights[0] * 10)
    assert weights[99] == pytest.approx(weights[0] * 10)  # 90 times rarer, but no more than ten times the weight
    assert weights[:100].mean() == pytest.approx(1, abs=1e-6)
    assert (weights[100:] == 1).all()
