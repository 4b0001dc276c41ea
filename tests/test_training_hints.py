"""Hints: what a teacher sees, told by the network that learns, and left out when it has learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agelens.errors import TrainingError
from agelens.training.augment import STILL
from agelens.training.networks import FaceNetwork, NetworkConfig
from agelens.training.objective import Objective
from agelens.training.recipe.hints import Hinted, begin_to_tell, shrink
from agelens.training.recipe.lessons import ViewLessons, ViewMaker
from agelens.training.recipe.loop import TrainConfig, open_trained, train
from training_makers import view_lessons

TINY = NetworkConfig(size=32, widths=(8, 16), blocks=(1, 1), last_inner=16)
CONFIG = TrainConfig(network=TINY, steps=6, batch=16, warmup=1, threads=1, bf16=False, save_every=3, hint=2.0)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def lessons_with_hints(count: int = 5) -> ViewLessons:
    lessons = view_lessons()
    generator = torch.Generator().manual_seed(1)
    return replace(lessons, hints=torch.randn(len(lessons.faces), count, generator=generator))


def test_hints_are_what_explains_most_on_a_scale_of_shares() -> None:
    rng = np.random.default_rng(0)
    seen = (rng.normal(size=(500, 3)) * (9, 3, 1)) @ rng.normal(size=(3, 20)) + 7
    seen = (seen + 0.01 * rng.normal(size=seen.shape)).astype(np.float32)
    rows = np.arange(0, 500, 2)
    hints = shrink(seen, rows, 3)
    assert hints.shape == (500, 3)
    assert (hints[rows] ** 2).sum(axis=1).mean() == pytest.approx(1, abs=1e-5)
    assert (np.diff(hints[rows].var(axis=0)) < 0).all()
    assert abs(np.corrcoef(hints[rows], rowvar=False) - np.eye(3)).max() < 1e-3
    told, *_ = np.linalg.lstsq(np.column_stack([hints, np.ones(500)]), seen, rcond=None)
    left = seen - np.column_stack([hints, np.ones(500)]) @ told
    assert (left**2).mean() < 1e-3 * seen.var(axis=0).mean()


def test_faces_that_all_look_the_same_make_no_hints() -> None:
    with pytest.raises(TrainingError, match="give more faces"):
        shrink(np.ones((10, 4), np.float32), np.arange(10), 2)
    with pytest.raises(TrainingError, match="give more faces"):
        shrink(np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32), np.arange(10), 6)


def test_a_training_without_hints_is_called_as_before() -> None:
    assert not {"hint", "frozen"} & replace(CONFIG, hint=0.0).to_dict().keys()
    assert CONFIG.to_dict()["hint"] == 2.0


def test_frozen_blocks_and_their_statistics_stay_while_the_others_learn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = Hinted(FaceNetwork(TINY), 5)
    before = {name: value.clone() for name, value in start.network.state_dict().items()}
    config = replace(CONFIG, frozen=1)
    learned = train(config, lessons_with_hints(), start, tmp_path).state_dict()
    frozen = [name for name in before if name.startswith(("stem.", "stem_norm.", "body.0."))]
    assert len(frozen) > 12
    assert all(torch.equal(learned[name], before[name]) for name in frozen)
    statistics = [name for name in before if "running" in name]
    assert all(torch.equal(learned[name], before[name]) for name in statistics)
    learning = [name for name in before if name not in {*frozen, *statistics} and before[name].is_floating_point()]
    assert not any(torch.equal(learned[name], before[name]) for name in learning)
    whole = train(CONFIG, lessons_with_hints(), start, tmp_path / "whole").state_dict()
    assert not any(torch.equal(whole[name], before[name]) for name in ("stem.weight", "stem_norm.running_mean"))


def test_a_frozen_training_does_not_go_on_as_another(tmp_path: Path) -> None:
    train(replace(CONFIG, frozen=1), lessons_with_hints(), Hinted(FaceNetwork(TINY), 5), tmp_path)
    with pytest.raises(TrainingError, match=r"another configuration \(frozen differ"):
        train(CONFIG, lessons_with_hints(), Hinted(FaceNetwork(TINY), 5), tmp_path)


def test_a_network_that_was_frozen_answers_as_before_and_may_learn_again() -> None:
    torch.manual_seed(0)
    network, x = FaceNetwork(TINY), torch.randn(2, 3, 32, 32)
    whole = network.eval()(x)[0]
    network.freeze(1)
    torch.testing.assert_close(network(x)[0], whole)
    assert not network.stem.weight.requires_grad
    network.train()
    norms = [norm for _, norm in network.convolutions()]
    assert [network.dropout.training, *(norm.training for norm in norms)] == [True, *[False] * len(norms)]
    network.freeze(0)
    assert all(norm.training for norm in norms)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_it_begins_to_tell_as_well_as_its_features_allow() -> None:
    torch.manual_seed(0)
    network = FaceNetwork(TINY).eval()
    crops = torch.rand(200, 3, 32, 32) - 0.45
    with torch.no_grad():
        features = network.features(crops)
    hints = features @ torch.randn(16, 4) * 10 + 3
    hinted = begin_to_tell(network, crops, hints)
    with torch.no_grad():
        age, gender, told = hinted(crops)
        same_age, same_gender, _ = network(crops)
    assert float((told - hints).square().sum() / (hints - hints.mean(dim=0)).square().sum()) < 0.05
    assert torch.equal(age, same_age)
    assert torch.equal(gender, same_gender)


def test_of_two_mixed_faces_the_mixture_is_to_be_told() -> None:
    lessons = lessons_with_hints()
    maker = ViewMaker(lessons, FaceNetwork(TINY), batch=16, augment=STILL, seed=1)
    numbers = np.arange(30, 46)
    batch, views = maker.make(0, numbers), lessons.views
    assert lessons.hints is not None
    assert batch.hint is not None
    assert views.mixed[numbers].any()
    for place, number in enumerate(numbers):
        share = float(views.share[number])
        mixture = share * lessons.hints[views.first[number]] + (1 - share) * lessons.hints[views.second[number]]
        torch.testing.assert_close(batch.hint[place], mixture)
    assert batch.to(torch.device("cpu")).hint is not None
    without = ViewMaker(view_lessons(), FaceNetwork(TINY), batch=16, augment=STILL, seed=1).make(0, numbers)
    assert without.hint is None
    assert without.to(torch.device("cpu")).hint is None


def test_what_is_told_wrongly_costs_its_square() -> None:
    maker = ViewMaker(lessons_with_hints(), FaceNetwork(TINY), batch=16, augment=STILL, seed=1)
    batch = maker.make(0, np.arange(16))
    age, gender = torch.zeros(16, 101), torch.zeros(16)
    assert batch.hint is not None
    plain = Objective().measure(age, gender, batch, batch.hint + 0.5)
    hinted = Objective(hint=2.0).measure(age, gender, batch, batch.hint + 0.5)
    assert "hint" not in plain
    assert float(hinted["hint"]) == pytest.approx(5 * 0.25, rel=1e-5)
    assert float(hinted["loss"] - plain["loss"]) == pytest.approx(2 * 5 * 0.25, rel=1e-4)


def test_a_network_learns_to_tell_and_forgets_how(tmp_path: Path) -> None:
    lessons = lessons_with_hints()
    facts: list[dict[str, float]] = []
    longer = replace(CONFIG, steps=60, save_every=30, learning_rate=5e-3)
    network = train(longer, lessons, Hinted(FaceNetwork(TINY), 5), tmp_path, listener=facts.append)
    assert isinstance(network, FaceNetwork)
    told = [each["hint"] for each in facts if "hint" in each]
    assert told[-1] < told[0]
    again = open_trained(longer, tmp_path)
    assert again is not None
    assert again.state_dict().keys() == FaceNetwork(TINY).state_dict().keys()
    assert all(value.equal(again.state_dict()[name]) for name, value in network.state_dict().items())


class CutError(Exception):
    pass


def test_a_training_with_hints_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    lessons, start = lessons_with_hints(), Hinted(FaceNetwork(TINY), 5)
    whole = train(CONFIG, lessons, start, tmp_path / "whole")

    def cut(facts: dict[str, object]) -> None:
        raise CutError

    with pytest.raises(CutError):
        train(CONFIG, lessons, start, tmp_path / "cut", listener=cut)
    facts: list[dict[str, object]] = []
    again = train(CONFIG, lessons, Hinted(FaceNetwork(TINY), 5), tmp_path / "cut", listener=facts.append)
    assert [each["step"] for each in facts] == [6]
    assert all(value.equal(again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_hints_that_are_missing_are_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="its lessons bring none along"):
        train(CONFIG, view_lessons(), FaceNetwork(TINY), tmp_path)
