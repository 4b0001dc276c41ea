"""A network that answers everybody alike is said so, a batch suits the set, and few faces calibrate nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agelens.datasets.manifest_file import read_manifest
from agelens.errors import LeakError
from agelens.estimate import OnnxEstimator
from agelens.evaluation.run import EvaluateOptions, evaluate
from agelens.training import course
from agelens.training.alarms import Answers, ConstantAnswer, find_constant
from agelens.training.build import inherit_layout
from agelens.training.config_file import make_config
from agelens.training.foreign import Weights, read_weights
from agelens.training.judge import measure_rows
from agelens.training.learner import Learner, Pace
from agelens.training.networks import FaceNetwork, named_config
from agelens.training.objective import Objective
from agelens.training.plan import settle_batch
from agelens.training.publish import ExportOptions, export_checkpoint
from training_makers import make_lessons, make_manifest, train

NAMES = ("(0, 2)", "(4, 6)", "(8, 12)")


def answers(given: tuple[float, ...], known: tuple[float, ...], **changes: float) -> Answers:
    return Answers("age", NAMES, given, known, **changes)


@pytest.mark.parametrize(
    ("said", "alarm"),
    [
        (answers((100, 0, 0), (40, 30, 30)), ConstantAnswer("age", 3, "(0, 2)", 1.0, 0.4)),
        (answers((99, 1, 0), (40, 30, 30)), ConstantAnswer("age", 3, "(0, 2)", 0.99, 0.4)),
        (answers((98, 2, 0), (40, 30, 30)), None),
        (answers((100, 0, 0), (95, 5, 0)), None),  # the labels are no better
        (answers((19, 0, 0), (9, 5, 5)), None),  # too few to tell
        (answers((60, 40, 0), (40, 30, 30), deviation=0.1, mean=7.0), ConstantAnswer("age", 3, "7.0 years", 1.0, 0.0)),
        (answers((60, 40, 0), (40, 30, 30), deviation=2.0, mean=7.0), None),
        (answers((0, 0, 0), (0, 0, 0)), None),
    ],
)
def test_which_answers_are_constant(said: Answers, alarm: ConstantAnswer | None) -> None:
    assert list(find_constant([said], 3)) == ([alarm] if alarm else [])


def test_an_alarm_says_what_to_do() -> None:
    text = ConstantAnswer("gender", 2, "male", 0.995, 0.5).describe()
    assert text.startswith(
        "WARNING: after epoch 2 the network gives 99.5% of the validation faces the same gender, male"
    )
    assert "50% of the labels" in text
    assert all(word in text for word in ("--lr", "inspect", "grid.png", "CLASS_WEIGHTS"))


def make_learner(task: str = "both") -> Learner:
    torch.manual_seed(0)
    nano = named_config("nano")
    objective = Objective(age=float(task != "gender"), target=0.0, gender=float(task != "age"))
    return Learner(FaceNetwork(nano), FaceNetwork(nano), objective, Pace(bf16=False))


def test_a_constant_network_is_found_among_measured_faces() -> None:
    lessons = make_lessons(60)
    learner = make_learner()
    with torch.no_grad():
        for head in (learner.average.age, learner.average.gender):
            head.weight.zero_()
        learner.average.age.bias.zero_()
        learner.average.age.bias[30] = 20.0
        learner.average.gender.bias.fill_(-1)
    _, said = measure_rows(learner, lessons, np.arange(60), fully=False)
    age, gender = find_constant(said, 1)
    assert (age.task, age.answer) == ("age", "30.0 years")
    assert (gender.task, gender.answer, gender.share) == ("gender", "male", 1.0)
    known = ~np.isnan(lessons.crops.female)
    assert gender.labels == pytest.approx(float((lessons.crops.female[known] == 0).mean()))
    for task in ("age", "gender"):  # of what is not learned nothing is said
        only = make_learner(task)
        only.average.load_state_dict(learner.average.state_dict())
        _, said = measure_rows(only, lessons, np.arange(60), fully=False)
        assert [alarm.task for alarm in find_constant(said, 1)] == [task]


def test_it_stands_in_the_log_and_in_the_statistics(tmp_path: Path, monkeypatch) -> None:
    data = make_manifest(tmp_path, 240, test=0)
    monkeypatch.setattr(course.Learner, "learn", stuck)
    settings = {"hyperparameters": {"epochs": 2, "batch_size": 64}, "dataloader": {"validation_split": 0.3}}
    folder, told = train(data, tmp_path / "out", settings=settings)
    assert sum("tells nobody apart" in line for line in told) >= 2
    assert "tells nobody apart" in next(folder.glob("both_*.log")).read_text()
    alarms = json.loads((folder / "both_stats_64_0.json").read_text())["alarms"]
    assert {(alarm["task"], alarm["epoch"]) for alarm in alarms} >= {("gender", 1), ("gender", 2)}


def stuck(self: Learner, batch, step: int) -> dict[str, float]:
    """Learns nothing but to say "female" and 40."""
    del batch, step
    with torch.no_grad():
        for network in (self.network, self.average):
            network.gender.weight.zero_()
            network.gender.bias.fill_(3)
            network.age.weight.zero_()
            network.age.bias[40] = 30
    return dict.fromkeys((*course.SUMMED,), 1.0)


@pytest.mark.parametrize(
    ("network", "asked", "faces", "world", "batch", "words"),
    [
        ("face", 0, 20_000, 1, 128, ""),
        ("face", 0, 160, 1, 16, "160 faces are few for batches of 128: taking 16"),
        ("face", 0, 1300, 1, 64, "taking 64"),
        ("face", 0, 1300, 4, 16, "taking 16"),
        ("face", 128, 160, 1, 128, "30 epochs of 160 faces in batches of 128 are 30 steps: too few"),
        ("levi-hassner", 0, 20_000, 1, 64, ""),
        ("levi-hassner", 0, 400, 1, 16, "taking 16"),
    ],
)
def test_the_batch_suits_the_set(network: str, asked: int, faces: int, world: int, batch: int, words: str) -> None:
    told: list[str] = []
    config = make_config({"network": {"name": network}, "hyperparameters": {"batch_size": asked}})
    settled = settle_batch(config, faces, world, told.append)
    assert settled.hyperparameters.batch_size == batch
    assert replace(settled, hyperparameters=config.hyperparameters) == config
    assert words in " ".join(told)
    assert bool(told) == bool(words)


def test_the_run_is_named_by_the_batch_that_was_taken(tmp_path: Path) -> None:
    data = make_manifest(tmp_path, 60, test=0)
    folder, told = train(data, tmp_path / "out", settings={"hyperparameters": {"batch_size": 0, "epochs": 1}})
    assert folder.name == "16_output_0"
    assert any("taking 16" in line for line in told)
    assert json.loads((folder / "both_stats_16_0.json").read_text())["hyperparameters"]["batch_size"] == 16


def test_an_export_calibrated_on_few_faces_says_so(tmp_path: Path) -> None:
    data = make_manifest(tmp_path, 64)
    folder, _ = train(data, tmp_path / "out", settings={"hyperparameters": {"epochs": 1}})
    told: list[str] = []
    spec = export_checkpoint(folder, ExportOptions(output=tmp_path / "few.onnx"), told.append)
    count = read_weights(folder).about["calibration"]["age_faces"]
    said = f"Calibrated for age on {count} faces only and for gender on no faces at all"
    assert 0 < count < 20
    assert any(line.startswith(f"WARNING: {said}") for line in told)
    assert spec.notes[-1].startswith(said)
    assert said in (tmp_path / "few.md").read_text()


def test_an_evaluation_knows_what_an_exported_model_has_seen(tmp_path: Path) -> None:
    data = make_manifest(tmp_path, 64, test=8)
    folder, _ = train(data, tmp_path / "out", settings={"hyperparameters": {"epochs": 1}})
    spec = export_checkpoint(folder, ExportOptions(output=tmp_path / "seen.onnx"))
    manifest = read_manifest(data)
    assert spec.recipe["data"] == manifest.fingerprint  # though a validation part was drawn from it
    model = OnnxEstimator((tmp_path / "seen.onnx").read_bytes(), name="seen")
    options = EvaluateOptions(rounds=10, threads=1, device="cpu", crops=True)
    with pytest.raises(LeakError, match="trained on these very pictures"):
        evaluate(model, manifest, options=replace(options, split="all"))
    assert evaluate(model, manifest, options=options).leaks == ()


def test_the_network_takes_its_layout_from_what_it_begins_with() -> None:
    assert inherit_layout(Weights({}, {}, "x")) == {}
    assert inherit_layout(Weights({"fc1.weight": torch.zeros(512, 384 * 49)}, {}, "x")) == {"ceil": True}
    assert inherit_layout(Weights({"fc1.weight": torch.zeros(512, 384 * 36)}, {}, "x")) == {}
    about = {"kind": "levi-hassner", "network": {"ceil": False, "mean": [1, 2, 3], "scale": [1, 1, 1]}}
    assert inherit_layout(Weights({}, about, "x")) == {"ceil": False, "mean": (1, 2, 3), "scale": (1, 1, 1)}
    assert inherit_layout(Weights({}, {"kind": "face", "network": {"size": 48}}, "x")) == {}
