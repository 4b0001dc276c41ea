"""`agelens evaluate --protocol adience5` without a model: five are trained, each without its fold, and scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agelens.datasets.importing import ImportOptions
from agelens.datasets.manifest import Manifest
from agelens.datasets.manifest_file import write_manifest
from agelens.datasets.prepare import prepare
from agelens.errors import LeakError, TrainingError, UsageError
from agelens.estimate import OnnxEstimator
from agelens.evaluation.run import EvaluateOptions, evaluate
from agelens.training.config_file import make_config, merge
from agelens.training.folds import train_folds
from agelens.training.listeners import Listeners
from agelens.training.material import hold_out
from command import run
from dataset_makers import make_adience


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("adience")
    make_adience(folder, people=15, each=8)
    return prepare("adience", folder, ImportOptions())


@pytest.fixture(scope="module")
def data(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared") / "adience.jsonl"
    write_manifest(manifest, path)
    return path


def ignore(_: str) -> None:
    """Tells nobody."""


@pytest.fixture(scope="module")
def scored(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one whole call of the command."""
    out = tmp_path_factory.mktemp("folds")
    said = run(
        *("evaluate", "--protocol", "adience5", "--data", data, "-o", out, "--crops", "--bootstrap", "10"),
        *("--threads", "1", "--set", "DATA.CROP=whole", "--set", "NETWORK.SIZE=nano", "--set", "GPU.THREADS=1"),
        *("--set", "HYPERPARAMETERS.EPOCHS=1", "--set", "HYPERPARAMETERS.BATCH_SIZE=16"),
    )
    assert said.returncode == 0, said.stderr
    assert "fold 4: training without it" in said.stderr
    return out


def test_the_table_of_the_paper_comes_out(scored: Path) -> None:
    found = json.loads((scored / "evaluation.json").read_text())
    assert [model["name"] for model in found["models"]] == [f"face-without-fold-{fold}" for fold in range(5)]
    assert [fold["name"] for fold in found["folds"]] == list("01234")
    for name in ("exact", "one_off", "gender"):
        values = [fold["figures"][name]["value"] for fold in found["folds"]]
        assert found["over_folds"][name]["folds"] == 5
        assert found["over_folds"][name]["mean"] == pytest.approx(np.mean(values))
        assert found["over_folds"][name]["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert found["leaks"] == []
    assert (scored / "evaluation.html").is_file()


def test_each_model_has_not_seen_its_fold(scored: Path, manifest: Manifest) -> None:
    for fold in range(5):
        spec = OnnxEstimator((scored / f"fold-{fold}" / "model.onnx").read_bytes(), name="m").spec
        assert spec.recipe["held_out"] == str(fold)
        assert spec.recipe["data"] == manifest.fingerprint
        stats = json.loads(next((scored / f"fold-{fold}").glob("*_output_*/both_stats_*.json")).read_text())
        assert 0 < stats["data"]["testing"]["num_samples"] <= int((manifest.columns.fold == fold).sum())
    assert len(list((scored / "crops").iterdir())) == 1  # faces are cut once, not five times
    models = [str(scored / f"fold-{fold}" / "model.onnx") for fold in (1, 0, 2, 3, 4)]
    options = EvaluateOptions(rounds=10, threads=1, device="cpu", crops=True)
    with pytest.raises(LeakError, match="left out '1'"):
        evaluate(models, manifest, "adience5", options)


def test_a_second_call_trains_nothing_and_other_settings_are_refused(
    scored: Path, data: Path, manifest: Manifest
) -> None:
    known = manifest.fingerprint
    again = {
        "data": {"file": str(data), "crop": "whole"},
        "network": {"size": "nano"},
        "gpu": {"threads": 1},
        "hyperparameters": {"epochs": 1, "batch_size": 16},
    }
    told: list[str] = []
    before = (scored / "fold-2" / "model.onnx").stat().st_mtime_ns
    paths = train_folds(make_config(again), known, [2, 3], scored, Listeners(tell=told.append))
    assert paths == [scored / "fold-2" / "model.onnx", scored / "fold-3" / "model.onnx"]
    assert before == paths[0].stat().st_mtime_ns
    assert all("trained before" in line for line in told)
    with pytest.raises(TrainingError, match=r"other settings \(HYPERPARAMETERS.EPOCHS differ\)"):
        train_folds(make_config(merge(again, {"hyperparameters": {"epochs": 2}})), known, [2], scored)
    with pytest.raises(TrainingError, match="on other data"):
        train_folds(make_config(again), "other", [2], scored)


def test_what_is_linked_to_the_fold_is_in_no_part(manifest: Manifest) -> None:
    told: list[str] = []
    subject = manifest.columns.subject.copy()
    test = manifest.columns.fold == 3
    other = int(np.flatnonzero(~test)[0])
    subject[other] = subject[np.flatnonzero(test)[0]]
    linked = replace(manifest, columns=replace(manifest.columns, subject=subject))
    split = hold_out(linked, 3, told.append).columns.split
    assert (split[test] == "test").all()
    assert split[other] is None
    assert (split == "train").sum() == len(manifest) - test.sum() - 1
    assert told == ["1 faces are left out: they show people or photographs of fold 3"]
    with pytest.raises(UsageError, match="TEST_FOLD is 7, and the data has the folds: 0, 1, 2, 3, 4"):
        hold_out(manifest, 7, ignore)


def test_what_cannot_be_trained_is_said_before_anything_is(data: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("--protocol", "adience5-zero-shot"), "only protocols with folds, such as adience5, train their own"),
        (("--protocol", "adience5"), "need a folder: -o DIR"),
        (("--protocol", "adience5", "--model", "agelens-base", "--set", "GPU.THREADS=1"), "leave them out"),
        ((), "give a model and a data set"),
    ):
        said = run("evaluate", "--data", data, *arguments)
        assert said.returncode == 2, said.stderr
        assert message in said.stderr
    short = tmp_path / "short.jsonl"
    from agelens.datasets.manifest_file import read_manifest

    whole = read_manifest(data)
    write_manifest(whole.take(whole.columns.fold != 2), short)
    said = run("evaluate", "--data", short, "--protocol", "adience5", "-o", tmp_path / "o")
    assert said.returncode == 2
    assert "needs 5 folds, and the data set has 4" in said.stderr
    assert not (tmp_path / "o").exists()
