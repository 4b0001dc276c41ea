"""Whole trainings on made-up faces: what they leave, how they go on, and how they fail."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

from agelens.cli.app import make_app
from agelens.datasets.manifest_file import read_manifest, write_manifest
from agelens.errors import (
    DamagedModelError,
    EmptyDatasetError,
    LeakError,
    NotFoundError,
    TrainingError,
    UnfitModelError,
    UsageError,
)
from agelens.training import course, material
from agelens.training.config_file import make_config, merge
from agelens.training.run_folder import create_run_folder, find_unfinished
from command import environment, run, start
from training_makers import SETTINGS, make_manifest, make_original_h5, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_manifest(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(data, tmp_path_factory.mktemp("finished"))[0]


def options(**changes: str) -> list[str]:
    """The settings of `training_makers` as a command line."""
    plain = {"epochs": "2", "batch-size": "16", "size": "nano", "crop": "whole", "lr": "0.003"} | changes
    words = [word for name, value in plain.items() for word in (f"--{name}", value)]
    for setting in ("HYPERPARAMETERS.SAVE_EVERY=2", "GPU.STATUS=false", "GPU.THREADS=1", "GPU.BF16=false"):
        words += ["--set", setting]
    return words


def test_a_run_leaves_what_the_original_left_and_more(finished: Path) -> None:
    assert finished.name == "16_output_0"
    names = {path.name for path in finished.iterdir()}
    logs = {name for name in names if name.endswith(".log")}
    assert len(logs) == 1
    assert names - logs == {
        "both_stats_16_0.json",
        "both_train_valid_accuracy_0.png",
        "both_train_valid_loss_0.png",
        "both_model_16_0.safetensors",
        "grid.png",
        "last",
    }
    for plot in ("both_train_valid_accuracy_0.png", "both_train_valid_loss_0.png", "grid.png"):
        with Image.open(finished / plot) as image:
            assert min(image.size) > 90
    assert "epoch 2" in (finished / logs.pop()).read_text()


def test_the_statistics_have_the_original_keys_and_ours(finished: Path) -> None:
    stats = json.loads((finished / "both_stats_16_0.json").read_text())
    assert set(stats["data"]) == {"training", "validation", "testing"}
    assert all(set(part) == {"num_samples", "num_batches"} for part in stats["data"].values())
    assert stats["data"]["testing"] == {"num_samples": 8, "num_batches": 1}
    assert sum(part["num_samples"] for part in stats["data"].values()) == 64
    assert stats["hyperparameters"] == {"epochs": 2, "learning_rate": 0.003, "batch_size": 16, "optimizer": "adamw"}
    assert stats["device"]["type"] == "cpu"
    assert stats["device"]["parallel"] is False
    assert set(stats["device"]["devices"][0]) == {"id", "device_name", "total_memory (MB)"}
    metrics = stats["metrics"]
    wanted = [f"{part}_{what}" for part in ("training", "validation", "test") for what in ("loss", "accuracy")]
    assert all(np.isfinite(metrics[name]) for name in wanted)
    assert metrics["runtime (secs)"] > 0
    assert len(stats["training_history"]) == 2
    assert all(len(epoch) == 4 for epoch in stats["training_history"])
    assert stats["test_history"] == [[metrics["test_loss"], metrics["test_accuracy"]]]
    # The metrics are those of the weights that are kept, not of the last epoch.
    best = min(stats["training_history"], key=lambda epoch: epoch[1])
    assert metrics["validation_loss"] == pytest.approx(best[1], abs=1e-5)
    assert metrics["training_loss"] == best[0]
    assert stats["seed"] == 1
    assert stats["config"]["HYPERPARAMETERS"]["EPOCHS"] == 2
    assert len(stats["dataset"]["fingerprint"]) == 64
    assert stats["versions"]["torch"] == torch.__version__


def test_the_weights_say_what_they_are(finished: Path) -> None:
    with safe_open(finished / "both_model_16_0.safetensors", "pt") as file:
        about = json.loads(file.metadata()["agelens"])
    assert (about["kind"], about["task"]) == ("face", "both")
    assert about["crop"]["size"] == 48
    assert about["calibration"]["levels"]
    assert about["date"]


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    names = [create_run_folder(tmp_path, "age", 64, 3).path.name for _ in range(3)]
    assert names == ["64_output_3", "64_output_3_2", "64_output_3_3"]


def test_something_is_learned(tmp_path: Path) -> None:
    data = make_manifest(tmp_path, 96)
    settings = {"hyperparameters": {"epochs": 12, "ema": 0.0, "sigma": 5}, "augment": _plain()}
    folder, _ = train(data, tmp_path / "out", settings=settings)
    metrics = json.loads(next(folder.glob("*_stats_*")).read_text())["metrics"]
    assert metrics["validation"]["gender_accuracy"] >= 0.9
    assert metrics["validation"]["mae"] < 12


def _plain() -> dict[str, float]:
    names = ("rotate", "zoom", "shift", "flip", "light", "grey", "shrink", "jpeg", "noise", "erase", "grain")
    return dict.fromkeys(names, 0.0)


@pytest.mark.parametrize("loss", ["interval", "ordinal", "cross_entropy"])
@pytest.mark.parametrize("task", ["age", "gender"])
def test_every_loss_and_task_runs(data: Path, tmp_path: Path, loss: str, task: str) -> None:
    settings = {
        "hyperparameters": {"loss": loss, "epochs": 1, "class_weights": True, "rare_ages": 0.5},
        "network": {"name": "face"},
    }
    folder, told = train(data, tmp_path, task, settings)
    stats = json.loads((folder / f"{task}_stats_16_0.json").read_text())
    assert set(stats["metrics"]["validation"]) == {
        "loss",
        "accuracy",
        *(("age_accuracy", "mae") if task == "age" else ("gender_accuracy",)),
    }
    assert any("best epoch 1" in line for line in told)


def test_levi_hassner_trains_on_the_original_layout(tmp_path: Path) -> None:
    data = make_original_h5(tmp_path / "adience.h5")
    settings = {"hyperparameters": {"epochs": 1, "batch_size": 8, "loss": "cross_entropy"}}
    folder, told = train(data, tmp_path / "out", "age", settings)
    stats = json.loads((folder / "age_stats_8_0.json").read_text())
    assert stats["network"]["kind"] == "levi-hassner"
    assert stats["network"]["groups"] == "adience12"
    assert load_file(folder / "age_model_8_0.safetensors")["fc3.weight"].shape == (12, 512)
    assert any("does not say who is who" in line for line in told)
    assert stats["data"]["testing"]["num_samples"] == 5


def test_a_pack_of_prepare_trains(tmp_path: Path) -> None:
    make_manifest(tmp_path)
    lines = ["path,age,gender,subject"]
    manifest = [json.loads(line) for line in (tmp_path / "faces.jsonl").read_text().splitlines()[1:]]
    lines += [f"{row['path']},{row['age_low']:g},{row['gender']},{row['subject']}" for row in manifest]
    (tmp_path / "faces.csv").write_text("\n".join(lines) + "\n")
    pack = tmp_path / "faces.h5"
    made = run("prepare", "table", tmp_path / "faces.csv", "-o", pack, "--size", "64")
    assert made.returncode == 0, made.stderr
    folder, _ = train(pack, tmp_path / "out", settings={"hyperparameters": {"epochs": 1}})
    stats = json.loads((folder / "both_stats_16_0.json").read_text())
    assert sum(part["num_samples"] for part in stats["data"].values()) == 64
    assert stats["data"]["testing"]["num_samples"] > 0


def test_killed_in_mid_epoch_it_goes_on_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    settings = options(epochs="6")
    train(data, tmp_path / "a", settings={"hyperparameters": {"epochs": 6}})
    process = start("train", "--data", data, "-o", tmp_path / "b", *settings)
    state = tmp_path / "b" / "16_output_0" / "last" / "state.json"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        # Three steps an epoch, a checkpoint every second one: any other than a multiple of three is in mid-epoch.
        if state.is_file():
            try:
                step = json.loads(state.read_text())["course"]["step"]
            except (ValueError, OSError):
                continue
            if step >= 2 and step % 3:
                break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not list((tmp_path / "b").glob("*/both_stats*"))
    _, told = train(data, tmp_path / "b", settings={"hyperparameters": {"epochs": 6}}, resume=True)
    assert any(line.startswith("going on at step") for line in told)
    assert not any(line.startswith("going on at step 0") for line in told)
    assert [path.name for path in (tmp_path / "b").glob("*_output_*")] == ["16_output_0"]
    for name in ("both_model_16_0.safetensors", "last/state.safetensors"):
        one, other = (load_file(tmp_path / part / "16_output_0" / name) for part in ("a", "b"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    histories = [
        json.loads((tmp_path / part / "16_output_0" / "both_stats_16_0.json").read_text())["training_history"]
        for part in ("a", "b")
    ]
    assert histories[0] == histories[1]


def test_resume_refuses_another_configuration_and_other_data(data: Path, finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "16_output_0"
    shutil.copytree(finished, copy)
    with pytest.raises(TrainingError, match=r"HYPERPARAMETERS\.EPOCHS differ"):
        train(data, tmp_path, settings={"hyperparameters": {"epochs": 3}}, resume=True, run=copy)
    with pytest.raises(TrainingError, match=r"GPU\.BF16 differ"):
        train(data, tmp_path, settings={"gpu": {"bf16": True}}, resume=True, run=copy)
    with pytest.raises(TrainingError, match="trains both, not age"):
        train(data, tmp_path, "age", resume=True, run=copy)
    other = make_manifest(tmp_path, 40)
    with pytest.raises(TrainingError, match="other data"):
        train(other, tmp_path, resume=True, run=copy)
    manifest = read_manifest(data)
    write_manifest(manifest.take(np.arange(64)[::-1]), tmp_path / "turned.jsonl")
    with pytest.raises(TrainingError, match="the same faces in another order"):
        train(tmp_path / "turned.jsonl", tmp_path, resume=True, run=copy)
    with pytest.raises(NotFoundError, match="no unfinished training"):
        train(data, tmp_path, resume=True)


def test_early_stop(data: Path, tmp_path: Path) -> None:
    settings = {"hyperparameters": {"epochs": 40, "patience": 1, "ema": 0.0, "optimizer": {"lr": 0.05, "warmup": 0}}}
    folder, told = train(data, tmp_path, settings=settings)
    history = json.loads((folder / "both_stats_16_0.json").read_text())["training_history"]
    assert len(history) < 40
    assert history[-1][1] >= min(epoch[1] for epoch in history)
    assert any(line.startswith("stopping") for line in told)


def test_a_loss_that_explodes_keeps_the_best_weights(data: Path, tmp_path: Path, monkeypatch) -> None:
    learn = course.Learner.learn

    def explode(self, batch, step):
        if step == 4:
            self.network.age.bias.data.fill_(float("nan"))
        return learn(self, batch, step)

    monkeypatch.setattr(course.Learner, "learn", explode)
    with pytest.raises(TrainingError, match="became nan at step 5"):
        train(data, tmp_path, settings={"hyperparameters": {"save_every": 2}})
    weights = load_file(tmp_path / "16_output_0" / "both_model_16_0.safetensors")
    assert all(torch.isfinite(value.float()).all() for value in weights.values())
    kept = json.loads((tmp_path / "16_output_0" / "last" / "state.json").read_text())
    assert kept["course"]["step"] == 4


def test_a_full_disk_is_said_and_the_last_checkpoint_stays(finished: Path, data: Path, tmp_path: Path) -> None:
    script = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from agelens.errors import DiskFullError
from agelens.training import course
from training_makers import train
end = course.Training._end_epoch
def full(self):
    end(self)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
course.Training._end_epoch = full
try:
    train(Path({str(data)!r}), Path({str(tmp_path)!r}))
except DiskFullError as error:
    print(error.message)
    sys.exit(7)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 7, done.stderr
    assert "no space is left" in done.stdout
    folder = tmp_path / "16_output_0"
    kept = json.loads((folder / "last" / "state.json").read_text())
    assert kept["course"]["step"] < 3
    assert load_file(folder / "last" / "state.safetensors")
    assert load_file(folder / "both_model_16_0.safetensors")
    assert not list(folder.glob(".*.new")) + list(folder.glob(".*.part"))


def test_one_class_and_empty_data_are_refused(data: Path, tmp_path: Path) -> None:
    no_gender = make_manifest(tmp_path / "a", 24, gender=False)
    with pytest.raises(EmptyDatasetError, match="no face with a label for gender"):
        train(no_gender, tmp_path, "gender")
    with pytest.raises(EmptyDatasetError, match="0 female and 0 male"):
        train(no_gender, tmp_path, "both")
    no_age = make_manifest(tmp_path / "b", 24, age=False)
    with pytest.raises(EmptyDatasetError, match="no face with a label for age"):
        train(no_age, tmp_path, "age")
    empty = make_manifest(tmp_path / "c", 0, test=0)
    with pytest.raises(EmptyDatasetError, match="holds no faces"):
        train(empty, tmp_path)
    assert not list(tmp_path.glob("*_output_*"))


def test_splits_that_leak_are_refused_or_stamped(tmp_path: Path) -> None:
    data = make_manifest(tmp_path, 48, test=7)  # a person's two pictures on both sides
    with pytest.raises(LeakError):
        train(data, tmp_path / "out")
    settings = {"data": {"allow_leak": True}, "hyperparameters": {"epochs": 1, "batch_size": 8}}
    folder, told = train(data, tmp_path / "out", settings=settings)
    assert json.loads((folder / "both_stats_8_0.json").read_text())["dataset"]["leaky"] is True
    assert any("LEAK" in line for line in told)


def test_data_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="agelens prepare"):
        train(tmp_path / "none.parquet", tmp_path)
    with pytest.raises(UsageError, match="which data"):
        train(Path(), tmp_path, settings={"data": {"file": ""}})


def test_pictures_without_a_face_are_counted(data: Path, tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match="no face was found"):
        train(data, tmp_path, settings={"data": {"crop": "face"}})


def test_a_checkpoint_of_the_other_task_or_network_is_refused(data: Path, tmp_path: Path) -> None:
    folder, _ = train(data, tmp_path, "age", {"hyperparameters": {"epochs": 1}})
    age = folder / "age_model_16_0.safetensors"
    with pytest.raises(UnfitModelError, match="has learned age and you asked for gender"):
        train(data, tmp_path, "gender", {"network": {"start": str(age)}})
    with pytest.raises(UnfitModelError, match="is a face network"):
        train(data, tmp_path, "age", {"network": {"start": str(age), "name": "levi-hassner"}})
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(age.read_bytes()[:-1000])
    with pytest.raises(DamagedModelError, match="no whole weights file"):
        train(data, tmp_path, "age", {"network": {"start": str(cut)}})
    again, told = train(data, tmp_path, "age", {"network": {"start": str(folder)}, "hyperparameters": {"epochs": 1}})
    assert again.name == "16_output_0_2"  # three were begun in vain and left nothing
    assert sorted(path.name for path in tmp_path.glob("*_output_*")) == ["16_output_0", "16_output_0_2"]
    assert not any("afresh" in line for line in told)


def test_interrupted_it_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    process = start("train", "--data", data, "-o", tmp_path, *options(epochs="500"))
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/last/state.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"--resume" in errors


def test_mistakes_on_the_command_line(data: Path, tmp_path: Path) -> None:
    missing = run("train", "--data", tmp_path / "none.parquet", "-o", tmp_path / "x", *options())
    assert missing.returncode == 1
    assert "agelens train: there is no data" in missing.stderr
    assert missing.stdout == ""
    wrong = run("train", "--size", "huge", "--data", data)
    assert wrong.returncode == 2
    assert "NETWORK.SIZE knows no 'huge'" in wrong.stderr


def test_interrupted_before_it_began_it_says_that_it_begins_again(data: Path, tmp_path: Path, monkeypatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(material, "cut_crops", interrupt)
    words = ["--data", str(data), "-o", str(tmp_path / "out"), *options()]
    done = CliRunner().invoke(make_app("train"), ["train", *words])
    assert (done.exit_code, "the same command begins again" in done.stderr) == (130, True)
    assert "--resume" not in done.stderr
    done = CliRunner().invoke(make_app("train"), ["train", *words, "--resume"])
    assert done.exit_code == 1
    assert "leave --resume out to begin one" in done.stderr


def test_of_two_that_were_cut_off_the_one_with_these_settings_goes_on(data: Path, tmp_path: Path, monkeypatch) -> None:
    learn = course.Learner.learn

    def cut(self, batch, step):
        if step == 4:
            raise KeyboardInterrupt
        return learn(self, batch, step)

    monkeypatch.setattr(course.Learner, "learn", cut)
    settings = [{"hyperparameters": {"save_every": 2, "optimizer": {"lr": lr}}} for lr in (0.003, 0.002)]
    for changes in settings:
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path, settings=changes)
    for changes, name in zip(settings, ("16_output_0", "16_output_0_2"), strict=True):
        config = make_config(merge(SETTINGS, {"data": {"file": str(data)}}, changes))
        assert find_unfinished(tmp_path, "both", config).name == name
    with pytest.raises(TrainingError, match=r"16_output_0_2 .*HYPERPARAMETERS\.EPOCHS differ.*--run"):
        train(data, tmp_path, settings={"hyperparameters": {"epochs": 9}}, resume=True)
    monkeypatch.setattr(course.Learner, "learn", learn)
    folder, told = train(data, tmp_path, settings=settings[0], resume=True)
    assert folder.name == "16_output_0"
    assert f"going on at step 4 of 6 in {folder}" in told
