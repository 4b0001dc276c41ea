"""Batches, schedule, averages, networks: the pieces that a training is made of."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from agelens.errors import TrainingError
from agelens.training.augment import DRAWS, STILL, AugmentConfig, centre_crop, change_light, draw_crop
from agelens.training.batches import BatchMaker
from agelens.training.learner import Learner, Pace, follow_average, scheduled_rate
from agelens.training.levi_hassner import LeviHassner, LeviHassnerConfig, windows
from agelens.training.networks import SIZES, FaceNetwork
from agelens.training.objective import Objective
from agelens.training.team import Team
from training_makers import face, make_lessons


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def nano(dropout: float = 0.0) -> FaceNetwork:
    torch.manual_seed(0)
    return FaceNetwork(dataclasses.replace(SIZES["nano"], dropout=dropout))


def test_the_rate_rises_then_follows_half_a_cosine() -> None:
    pace = Pace(learning_rate=1.0, warmup=10, steps=110)
    rates = [scheduled_rate(pace, step) for step in range(110)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.01 + 0.99 / 2)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert scheduled_rate(pace, 110) == pytest.approx(0.01)
    assert scheduled_rate(dataclasses.replace(pace, constant=True), 100) == 1.0


def test_the_optimiser_sees_the_scheduled_rate() -> None:
    lessons = make_lessons(16)
    learner = Learner(nano(), nano(), Objective(), Pace(learning_rate=1.0, warmup=4, steps=8, bf16=False))
    maker = BatchMaker(lessons, learner.network, batch=8, augment=STILL, seed=1)
    for step, expected in enumerate((0.25, 0.5)):
        learner.learn(maker.make(step, maker.rows_of(step)), step)
        assert {group["lr"] for group in learner.optimiser.param_groups} == {expected}


def test_the_average_follows_the_weights() -> None:
    average, network = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before, now = average.weight.clone(), network.weight.clone()
    follow_average(average, network, 0.9, 10_000)
    assert torch.allclose(average.weight, 0.9 * before + 0.1 * now, atol=1e-6)
    follow_average(average, network, 0.0, 5)
    assert torch.equal(average.weight, network.weight)


def test_an_epoch_shows_each_face_once() -> None:
    maker = BatchMaker(make_lessons(64), nano(), batch=16, augment=STILL, seed=3)
    seen = np.concatenate([maker.rows_of(step) for step in range(4)])
    assert sorted(seen) == list(range(64))
    again = np.concatenate([maker.rows_of(step) for step in range(4, 8)])
    assert sorted(again) == list(range(64))
    assert not np.array_equal(seen, again)


def test_weights_say_how_often_a_face_comes() -> None:
    weights = np.where(np.arange(64) < 8, 8.0, 1.0)
    maker = BatchMaker(make_lessons(64, weights=weights), nano(), batch=64, augment=STILL, seed=3)
    seen = np.concatenate([maker.rows_of(step) for step in range(50)])
    assert (seen < 8).mean() == pytest.approx(64 / 120, abs=0.03)


def test_two_processes_see_exactly_what_one_with_twice_the_batch_sees() -> None:
    lessons, network = make_lessons(64, deviation=2.0), nano()
    whole = BatchMaker(lessons, network, batch=16, augment=AugmentConfig(), seed=5)
    halves = [
        BatchMaker(lessons, network, batch=8, augment=AugmentConfig(), seed=5, team=Team(rank, 2)) for rank in (0, 1)
    ]
    assert halves[0].steps_per_epoch == whole.steps_per_epoch
    for step in (0, 3, 7):
        one = whole.make(step, whole.rows_of(step))
        parts = [half.make(step, half.rows_of(step)) for half in halves]
        assert all(each.hint is None for each in (one, *parts))
        for field in (field for field in dataclasses.fields(one) if field.name != "hint"):
            joined = torch.cat([getattr(part, field.name) for part in parts])
            assert torch.equal(torch.nan_to_num(getattr(one, field.name)), torch.nan_to_num(joined)), field.name


def test_a_stream_that_begins_later_goes_on_alike() -> None:
    maker = BatchMaker(make_lessons(64), nano(), batch=16, augment=AugmentConfig(), seed=5)
    first = list(maker.stream(0, 6))
    again = BatchMaker(make_lessons(64), nano(), batch=16, augment=AugmentConfig(), seed=5)
    for one, other in zip(first[4:], again.stream(4, 6), strict=True):
        assert torch.equal(one.crops, other.crops)


def test_crops_are_channels_last_and_normalised() -> None:
    maker = BatchMaker(make_lessons(16), nano(), batch=16, augment=STILL, seed=5)
    batch = maker.make(0, maker.rows_of(0))
    assert batch.crops.shape == (16, 3, 48, 48)
    assert batch.crops.is_contiguous(memory_format=torch.channels_last)
    assert batch.crops.abs().max() < 1


def test_without_augmentation_training_sees_what_prediction_sees() -> None:
    wide = face(40, True, 0, 86)
    crop = centre_crop(wide, 1.35, 64)
    draws = np.random.default_rng(0).random(DRAWS)
    assert np.array_equal(draw_crop(wide, 1.35, 64, STILL, draws), crop)
    out = change_light(crop[None], STILL, draws[None], np.empty((1, 64, 64, 3), np.float32))
    assert np.array_equal(out[0], crop)


def test_augmentation_keeps_levels_within_bounds_and_changes_something() -> None:
    wide = face(40, True, 0, 86)
    draws = np.random.default_rng(0).random((20, DRAWS))
    strong = AugmentConfig(30, 0.3, 0.1, 0.5, 0.6, 0.5, 0.5, 0.5, 30, 0.5, 30)
    crops = np.stack([draw_crop(wide, 1.35, 64, strong, row) for row in draws])
    out = change_light(crops, strong, draws, np.empty(crops.shape, np.float32))
    assert 0 <= out.min() < out.max() <= 255
    assert len({crop.tobytes() for crop in crops}) == 20


def test_levi_hassner_draws_whole_windows_of_a_larger_picture() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    config = AugmentConfig(0, 0, 14.5 / 227, 0.0, 0, 0, 0, 0, 0, 0)
    places = set()
    for row in np.random.default_rng(1).random((50, DRAWS)):
        crop = draw_crop(wide, 256 / 227, 227, config, row)
        found = [
            (y, x) for y in range(30) for x in range(30) if np.array_equal(wide[y : y + 227, x : x + 227][0], crop[0])
        ]
        assert len(found) == 1
        y, x = found[0]
        assert np.array_equal(wide[y : y + 227, x : x + 227], crop)
        places.add((y, x))
    assert len(places) > 40


@pytest.mark.parametrize(("task", "outputs"), [("age", 8), ("gender", 2), ("both", 10)])
def test_levi_hassner_is_laid_out_as_the_original(task: str, outputs: int) -> None:
    network = LeviHassner(LeviHassnerConfig(task=task)).eval()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes == {
        "conv1.weight": (96, 3, 7, 7),
        "conv1.bias": (96,),
        "conv2.weight": (256, 96, 5, 5),
        "conv2.bias": (256,),
        "conv3.weight": (384, 256, 3, 3),
        "conv3.bias": (384,),
        "fc1.weight": (512, 384 * 6 * 6),
        "fc1.bias": (512,),
        "fc2.weight": (512, 512),
        "fc2.bias": (512,),
        "fc3.weight": (outputs, 512),
        "fc3.bias": (outputs,),
    }
    with torch.no_grad():
        network.fc3.bias.fill_(-5.0)
        age, gender, features = network(torch.zeros(2, 3, 227, 227))
    assert age.shape == (2, {"age": 8, "gender": 0, "both": 8}[task])
    assert gender.shape == (2,)
    assert features.shape == (2, 512)
    if task != "gender":
        assert (age < 0).all()  # no ReLU follows the last layer


def test_oversampling_looks_at_five_windows_and_their_mirror_images() -> None:
    crops = torch.rand(2, 3, 256, 256)
    views = windows(crops)
    assert len(views) == 10
    assert torch.equal(views[3], crops[:, :, 29:, 29:])
    assert torch.equal(views[4], crops[:, :, 14:241, 14:241])
    assert torch.equal(views[5], crops[:, :, :227, :227].flip(3))


def test_the_dial_grows() -> None:
    counts = [sum(value.numel() for value in FaceNetwork(SIZES[name]).parameters()) for name in SIZES]
    assert counts == sorted(counts)
    assert len(set(counts)) == 3


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    lessons = make_lessons(16)
    learner = Learner(nano(), nano(), Objective(), Pace(bf16=False))
    with torch.no_grad():
        learner.network.age.bias.fill_(float("nan"))
    maker = BatchMaker(lessons, learner.network, batch=8, augment=STILL, seed=1)
    with pytest.raises(TrainingError, match="loss became nan at step 1"):
        learner.learn(maker.make(0, maker.rows_of(0)), 0)


def test_a_state_put_back_goes_on_bit_for_bit() -> None:
    lessons = make_lessons(32, deviation=2.0)
    pace = Pace(steps=8, warmup=2, bf16=False)

    def make() -> tuple[Learner, BatchMaker]:
        learner = Learner(nano(0.3), nano(0.3), Objective(), pace)
        return learner, BatchMaker(lessons, learner.network, batch=8, augment=AugmentConfig(), seed=1)

    unbroken, maker = make()
    for step, batch in enumerate(maker.stream(0, 8)):
        if step == 5:
            kept = {name: value.clone() for name, value in unbroken.state().items()}
        unbroken.learn(batch, step)
    resumed, maker = make()
    resumed.restore(kept)
    for step, batch in enumerate(maker.stream(5, 8), 5):
        resumed.learn(batch, step)
    final = resumed.state()
    assert final.keys() == unbroken.state().keys()
    for name, value in unbroken.state().items():
        assert torch.equal(value, final[name]), name
