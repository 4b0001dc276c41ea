"""The second opinion on gender inside a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agelens.align import CropGeometry
from agelens.errors import TrainingError, UsageError
from agelens.estimate import OnnxEstimator
from agelens.modelspec import IntervalLevel
from agelens.training.augment import STILL
from agelens.training.calibrate import Calibration
from agelens.training.export import export_onnx
from agelens.training.networks import FaceNetwork, NetworkConfig
from agelens.training.recipe.loop import TrainConfig, train
from agelens.training.recipe.small_gender import attach
from agelens.training.second_opinion import SecondOpinion
from stand_in import make_spec
from training_makers import view_lessons

SMALL = NetworkConfig(size=32, widths=(8, 16), blocks=(1, 1), last_inner=16, dropout=0.0)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_a_network_with_a_second_opinion_adds_its_logit_and_exports_it() -> None:
    torch.manual_seed(5)
    plain = FaceNetwork(replace(SMALL, size=64)).eval()
    opinion = SecondOpinion().eval()
    joined = attach(plain, opinion, 0.25)
    crops = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    planes = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        (age, gender), (same, more) = plain.predict(planes), joined.predict(planes)
        second = opinion((planes - torch.tensor(plain.mean)[:, None, None]) / 256)
    assert torch.equal(age, same)
    assert torch.allclose(more, gender + 0.25 * second, atol=1e-5)
    calibration = Calibration(1.0, 1.5, -0.2, (IntervalLevel.central(0, 200, "any", 0.9),))
    softened = replace(calibration, sureness=((5, 0.5), (13, 0.6), (25, 1.2)))
    years = torch.softmax(age, dim=1).numpy()
    sureness = years @ np.interp(np.arange(101), [5, 13, 25], [0.5, 0.6, 1.2])
    for fitted, factor in ((calibration, 1.0), (softened, sureness)):
        model = export_onnx(joined, fitted, make_spec(crop=CropGeometry(64)))
        answer = OnnxEstimator(model, name="joined").estimate(crops)
        assert answer.female == pytest.approx(1 / (1 + np.exp(-(more.numpy() * 1.5 - 0.2) * factor)), abs=1e-5)


def test_the_second_opinion_does_not_learn() -> None:
    network = FaceNetwork(replace(SMALL, second=0.2))
    assert network.second is not None
    assert not any(parameter.requires_grad for parameter in network.second.parameters())
    assert all(parameter.requires_grad for parameter in network.body.parameters())


def test_a_second_opinion_needs_a_side_that_it_can_reduce() -> None:
    with pytest.raises(UsageError, match="multiple of 32, not 72"):
        FaceNetwork(replace(SMALL, size=72, second=0.2))


def test_a_training_from_before_there_were_second_opinions_goes_on(tmp_path: Path) -> None:
    config = TrainConfig(network=SMALL, augment=STILL, steps=4, batch=8, warmup=2, threads=1, save_every=1)
    torch.manual_seed(0)
    start, lessons = FaceNetwork(SMALL), view_lessons(32)
    whole = train(config, lessons, start, tmp_path / "whole")

    class CutOffError(Exception):
        pass

    calls = iter(range(4))

    def cut_off(_: FaceNetwork) -> dict[str, float]:
        if next(calls) == 2:  # in the third step, when the second is on disk
            raise CutOffError
        return {}

    with pytest.raises(CutOffError):
        train(config, lessons, start, tmp_path / "cut", judge=cut_off)
    state = tmp_path / "cut" / "last" / "state.json"
    facts = json.loads(state.read_text())
    assert facts["config"]["network"].pop("second") == 0
    state.write_text(json.dumps(facts))
    again = train(config, lessons, start, tmp_path / "cut")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    with pytest.raises(TrainingError, match="network differ"):
        train(replace(config, network=replace(SMALL, dropout=0.5)), lessons, start, tmp_path / "cut")
