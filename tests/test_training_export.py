"""Checkpoint -> model file: the same answers, the same bytes, and `predict` runs it as it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from agelens.align import CropGeometry
from agelens.datasets.manifest_file import read_manifest
from agelens.errors import (
    DamagedModelError,
    NotFoundError,
    OutputUnwritableError,
    TrainingError,
    UnfitModelError,
    UsageError,
)
from agelens.estimate import OnnxEstimator, read_years
from agelens.evaluation.leaks import find_leak_reasons
from agelens.evaluation.protocol import load_protocol
from agelens.modelspec import IntervalLevel
from agelens.training import finish, publish
from agelens.training.batches import still_crops
from agelens.training.calibrate import Calibration
from agelens.training.crops import open_crops
from agelens.training.export import export_onnx
from agelens.training.foreign import read_weights
from agelens.training.levi_hassner import LeviHassner, LeviHassnerConfig
from agelens.training.networks import FaceNetwork, NetworkConfig
from agelens.training.publish import ExportOptions, check_parity, export_checkpoint
from agelens.training.quantise import crops_for, quantise
from command import EXAMPLE, records, run
from stand_in import make_spec
from training_makers import make_lessons, make_manifest, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_manifest(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(data, tmp_path_factory.mktemp("finished"), settings={"hyperparameters": {"epochs": 1}})[0]


def test_the_file_says_what_it_is_and_answers_like_the_network(finished: Path, tmp_path: Path) -> None:
    told: list[str] = []
    spec = export_checkpoint(finished, ExportOptions(output=tmp_path / "mine.onnx"), told.append)
    data = (tmp_path / "mine.onnx").read_bytes()
    estimator = OnnxEstimator(data, name="mine")
    assert estimator.spec.to_json() == spec.to_json()
    assert spec.name == "mine"
    assert spec.tasks == ("age", "gender")
    assert spec.crop.size == 48
    assert spec.levels
    assert set(spec.metrics["test"]) == {"mae", "accuracy", "age_accuracy", "gender_accuracy"}
    assert "largest difference" in told[0]
    card = (tmp_path / "mine.md").read_text()
    assert hashlib.sha256(data).hexdigest() in card
    assert "Limits" in card
    for count in (1, 2, 7):
        assert estimator.estimate(np.zeros((count, 48, 48, 3), np.uint8)).ages.shape == (count, 101)


def test_the_same_checkpoint_gives_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_checkpoint(finished, ExportOptions(output=tmp_path / f"{name}.onnx", name="same"))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_predict_runs_what_export_wrote(finished: Path, tmp_path: Path) -> None:
    exported = run("export", finished, "-o", tmp_path / "mine.onnx", "--name", "my-model", "--licence", "MIT")
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout == ""
    done = run("predict", EXAMPLE, "--model", tmp_path / "mine.onnx")
    assert done.returncode == 0, done.stderr
    (record,) = records(done.stdout)
    assert record["model"]["name"] == "my-model"
    assert record["faces"][0]["age"]["low"] <= record["faces"][0]["age"]["years"]
    shown = run("models", "show", tmp_path / "mine.onnx", "--json")
    assert json.loads(shown.stdout)["licence"] == "MIT"


@pytest.mark.parametrize("task", ["age", "gender"])
def test_a_network_of_one_task_answers_only_that(data: Path, tmp_path: Path, task: str) -> None:
    folder, _ = train(data, tmp_path, task, {"hyperparameters": {"epochs": 1}})
    spec = export_checkpoint(folder, ExportOptions(output=tmp_path / "one.onnx"))
    assert spec.tasks == (task,)
    answer = OnnxEstimator((tmp_path / "one.onnx").read_bytes(), name="one").estimate(
        np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3)).astype(np.uint8)
    )
    if task == "age":
        assert answer.female == pytest.approx([0.5] * 3)
        assert answer.ages.std() > 0
    else:
        assert answer.ages == pytest.approx(np.full((3, 101), 1 / 101), abs=1e-6)


@pytest.mark.parametrize("task", ["both", *(pytest.param(name, marks=pytest.mark.slow) for name in ("age", "gender"))])
@pytest.mark.parametrize("ceil", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_levi_hassner_with_its_over_sampling_is_one_file(task: str, ceil: bool) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = LeviHassner(LeviHassnerConfig(task=task, ceil=ceil, groups="adience12")).eval()
    torch.nn.init.normal_(network.fc3.weight, std=0.1)
    tasks = ("age", "gender") if task == "both" else (task,)
    gender = (1.5, 0.2) if task != "age" else (1.0, 0.0)
    sureness = ((5.0, 0.6), (13.0, 0.8), (25.0, 1.1)) if task == "both" else ()
    calibration = Calibration(1.0, *gender, (IntervalLevel.central(0, 200, "any", 0.9),), sureness)
    spec = make_spec(name="levi", tasks=tasks, crop=make_spec().crop.widen(1.0, 256))
    model = export_onnx(network, calibration, spec)
    assert check_parity(model, network, calibration) < 1e-4
    assert model == export_onnx(network, calibration, spec)
    if task == "both":
        with pytest.raises(TrainingError, match="differs from the network"):
            check_parity(model, network, replace(calibration, sureness=(*sureness[:2], (25.0, 1.2))))


def test_a_graph_that_differs_is_not_written(finished: Path, tmp_path: Path, monkeypatch) -> None:
    export = publish.export_onnx

    def wrong(network, calibration, spec):
        with torch.no_grad():
            network.age.bias[3] += 0.5
        model = export(network, calibration, spec)
        with torch.no_grad():
            network.age.bias[3] -= 0.5
        return model

    monkeypatch.setattr(publish, "export_onnx", wrong)
    with pytest.raises(TrainingError, match="differs from the network"):
        export_checkpoint(finished, ExportOptions(output=tmp_path / "mine.onnx"))
    assert not list(tmp_path.iterdir())


def test_int8_is_smaller_and_says_what_it_costs(finished: Path, data: Path, tmp_path: Path) -> None:
    plain = ExportOptions(output=tmp_path / "plain.onnx", cache=tmp_path / "cache")
    export_checkpoint(finished, plain)
    small = ExportOptions(output=tmp_path / "small.onnx", int8=True, calibrate=data, cache=tmp_path / "cache")
    spec = export_checkpoint(finished, small)
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("plain", "small")]
    assert sizes[1] < sizes[0] / 2
    cost = spec.metrics["int8"]
    assert cost["faces"] > 0
    assert {"mean_years_moved", "genders_changed", "mae", "float32_mae", "gender_accuracy"} <= set(cost)
    assert cost["mean_years_moved"] < 3
    estimator = OnnxEstimator((tmp_path / "small.onnx").read_bytes(), name="small")
    assert estimator.spec.to_json() == spec.to_json()
    graph = onnx.load(tmp_path / "small.onnx").graph
    numbers = {tensor.name: tensor.data_type for tensor in graph.initializer}
    kernels = [numbers.get(node.input[1]) for node in graph.node if node.op_type == "Conv"]
    assert kernels[0] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.FLOAT not in kernels[1:]
    first = (tmp_path / "small.onnx").read_bytes()
    export_checkpoint(finished, small)
    assert (tmp_path / "small.onnx").read_bytes() == first


def test_how_sure_gender_may_be_stays_exact_in_8_bits() -> None:
    torch.manual_seed(0)
    lessons, rows = make_lessons(40), np.arange(40)
    network = FaceNetwork(NetworkConfig(size=48, widths=(8, 16, 32), blocks=(1, 1, 1), last_inner=32)).eval()
    torch.nn.init.normal_(network.gender.weight, std=2.0)
    answers = []
    for sureness in ((), ((5.0, 0.25), (13.0, 0.25), (25.0, 0.25))):
        spec = make_spec(crop=CropGeometry(48))
        small = quantise(export_onnx(network, Calibration(sureness=sureness), spec), spec, lessons, rows)
        female = OnnxEstimator(small, name="small").estimate(crops_for(lessons, rows, 48)).female.astype(float)
        answers.append(np.log(female / (1 - female)))
    assert answers[0].std() > 0.1
    np.testing.assert_allclose(answers[1], answers[0] / 4, atol=1e-4)


def test_calibrating_on_other_faces_uses_all_of_them(finished: Path, tmp_path: Path) -> None:
    other = make_manifest(tmp_path, 130, test=0)
    told: list[str] = []
    options = ExportOptions(output=tmp_path / "c.onnx", calibrate=other, cache=tmp_path / "cache")
    spec = export_checkpoint(finished, options, told.append)
    assert any("calibrated on 130 faces" in line for line in told)
    assert spec.levels[-1].gender == "any"


def test_the_test_part_of_other_faces_is_left_for_evaluations(finished: Path, tmp_path: Path) -> None:
    other = make_manifest(tmp_path, 140, test=30)
    told: list[str] = []
    options = ExportOptions(output=tmp_path / "c.onnx", calibrate=other, cache=tmp_path / "cache")
    spec = export_checkpoint(finished, options, told.append)
    assert any("age: calibrated on 110 faces" in line for line in told)
    manifest = read_manifest(other)
    assert spec.recipe["calibrated_on"] == {
        "name": f"made ({manifest.fingerprint[:12]})",
        "data": manifest.fingerprint,
    }
    for part, reasons in (
        (
            "train",
            [f"the model {spec.name} was calibrated on this manifest, and pictures outside its test part (train)"],
        ),
        ("test", []),
    ):
        rows = np.flatnonzero(manifest.in_split(part))
        found = list(find_leak_reasons(spec, manifest, rows, load_protocol("plain")))
        assert [reason.removesuffix(" are to be evaluated") for reason in found] == reasons
    named = list(find_leak_reasons(spec, manifest, rows, load_protocol("cross")))
    assert f"the model {spec.name} was calibrated on made, and cross is zero-shot" in named


def test_faces_that_are_all_for_evaluations_calibrate_nothing(finished: Path, tmp_path: Path) -> None:
    other = make_manifest(tmp_path, 20, test=20)
    options = ExportOptions(output=tmp_path / "c.onnx", calibrate=other, cache=tmp_path / "cache")
    with pytest.raises(UnfitModelError, match="its test part is for evaluations"):
        export_checkpoint(finished, options)
    assert not (tmp_path / "c.onnx").exists()


def test_its_own_validation_part_is_no_foreign_data(finished: Path, data: Path, tmp_path: Path) -> None:
    options = ExportOptions(output=tmp_path / "c.onnx", calibrate=data, cache=tmp_path / "cache")
    assert "calibrated_on" not in export_checkpoint(finished, options).recipe


def figures_of(model: Path, cache: Path, faces: int) -> dict[str, float]:
    """What a model file reaches on the test part of so many faces, years and genders as prediction tells them."""
    estimator = OnnxEstimator(model.read_bytes(), name=model.name)
    (crops,) = (crops for crops in map(open_crops, cache.iterdir()) if len(crops) == faces)
    rows = np.flatnonzero(crops.split == "test")
    answer = estimator.estimate(still_crops(crops, rows, 1.35, estimator.spec.crop.size))
    edges = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(answer.ages.astype(float), axis=1)], axis=1)
    years = [read_years(each, estimator.spec.decode) for each in edges]
    return {
        "mae": float(np.abs(years - crops.age_low[rows]).mean()),
        "gender_accuracy": float(((answer.female >= 0.5) == (crops.female[rows] >= 0.5)).mean()),
    }


def test_the_figures_in_a_file_are_those_of_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (publish, finish):
        monkeypatch.setattr(module, "find_decode", lambda about: "year")
    data = make_manifest(tmp_path / "data", 280, test=60)
    settings = {"hyperparameters": {"epochs": 3, "ema": 0.0}, "dataloader": {"validation_split": 0.5}}
    folder, _ = train(data, tmp_path / "out", settings=settings)
    other, model = make_manifest(tmp_path / "other", 120, test=0), tmp_path / "m.onnx"
    for changes in ({}, {"calibrate": other}, {"int8": True}):
        spec = export_checkpoint(folder, ExportOptions(output=model, cache=tmp_path / "out", **changes))
        expected = figures_of(model, tmp_path / "out" / "crops", 280)
        assert {name: spec.metrics["test"][name] for name in expected} == pytest.approx(expected, abs=2e-3), changes


def test_without_its_own_data_a_file_calibrated_anew_states_no_figures(tmp_path: Path) -> None:
    data = make_manifest(tmp_path / "data")
    folder, _ = train(data, tmp_path / "out", settings={"hyperparameters": {"epochs": 1}})
    data.unlink()
    other = make_manifest(tmp_path / "other", 130, test=0)
    told: list[str] = []
    options = ExportOptions(output=tmp_path / "m.onnx", calibrate=other, cache=tmp_path / "cache")
    assert export_checkpoint(folder, options, told.append).metrics == {}
    assert any("states no figures" in line for line in told)
    assert export_checkpoint(folder, ExportOptions(output=tmp_path / "m.onnx")).metrics["test"]["mae"] > 0


def test_calibrating_on_one_label_keeps_what_was_fitted_to_the_other(finished: Path, tmp_path: Path) -> None:
    plain = export_checkpoint(finished, ExportOptions(output=tmp_path / "plain.onnx"))
    other = make_manifest(tmp_path, 210, age=False, test=0)
    told: list[str] = []
    options = ExportOptions(output=tmp_path / "c.onnx", calibrate=other, cache=tmp_path / "cache")
    spec = export_checkpoint(finished, options, told.append)
    assert plain.levels
    assert spec.levels == plain.levels
    assert any("age: NOT calibrated, what was there stays" in line for line in told)
    assert any("gender: calibrated on 210 faces" in line for line in told)
    faces = read_weights(finished).about["calibration"]["age_faces"]
    assert spec.notes[-1].startswith(f"Calibrated for age on {faces} faces only: ")  # and not on 210


def test_earlier_checkpoints_say_how_many_faces_there_were() -> None:
    level = IntervalLevel.central(0, 200, "any", 0.9)
    fitted = Calibration(1.5, 0.9, 0.1, (level,)).to_dict()
    old = {name: value for name, value in fitted.items() if not name.endswith("_faces")}
    for about, expected in (
        ({"calibration": old, "calibration_faces": 70}, (70, 70)),
        ({"calibration": old}, (200, 200)),
        ({"calibration": {**old, "levels": []}, "calibration_faces": 70}, (0, 70)),
        ({"calibration": {**old, "gender_scale": 1.0, "gender_shift": 0.0}, "calibration_faces": 70}, (70, 0)),
        ({"calibration": fitted | {"age_faces": 3, "gender_faces": 4}}, (3, 4)),
        ({}, (0, 0)),
    ):
        found = publish.read_calibration(about)
        assert (found.age_faces, found.gender_faces) == expected


def test_what_cannot_be_exported(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.onnx"):
        export_checkpoint(finished, ExportOptions(output=tmp_path / "mine.pt"))
    with pytest.raises(NotFoundError, match="there are no weights"):
        export_checkpoint(tmp_path / "none", ExportOptions(output=tmp_path / "m.onnx"))
    with pytest.raises(OutputUnwritableError):
        export_checkpoint(finished, ExportOptions(output=tmp_path / "no" / "m.onnx"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="is it the folder of a run"):
        export_checkpoint(tmp_path / "empty", ExportOptions(output=tmp_path / "m.onnx"))
    weights = read_weights(finished)
    torch.save(weights.tensors, tmp_path / "plain.pt")
    with pytest.raises(DamagedModelError, match="does not say which network"):
        export_checkpoint(tmp_path / "plain.pt", ExportOptions(output=tmp_path / "m.onnx"))
    done = run("export", tmp_path / "none.safetensors", "-o", tmp_path / "m.onnx")
    assert done.returncode == 1
    assert "agelens export: there are no weights" in done.stderr


def test_the_last_checkpoint_of_an_unfinished_run_can_be_exported(finished: Path, tmp_path: Path) -> None:
    spec = export_checkpoint(finished / "last", ExportOptions(output=tmp_path / "last.onnx"))
    assert spec.version == "unfinished"
