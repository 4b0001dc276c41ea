"""docs/training.md does what it says, on made-up faces."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from agelens.training.config import LOSSES
from agelens.training.networks import SIZES
from command import EXAMPLE, ROOT, run
from training_makers import make_manifest

TEXT = (ROOT / "docs" / "training.md").read_text("utf-8")


def test_the_ten_minutes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = make_manifest(tmp_path, 64)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()[1:]]
    table = ["path,age,gender,subject"]
    table += [f"{row['path']},{row['age_low']:g},{row['gender']},{row['subject']}" for row in rows]
    (tmp_path / "faces.csv").write_text("\n".join(table) + "\n")
    shutil.copy(EXAMPLE, tmp_path / "family.jpg")
    (block,) = re.findall(r"<!-- with faces -->\n```sh\n(.*?)```", TEXT, re.DOTALL)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [command[1] for command in commands] == ["prepare", "train", "export", "predict"]
    for _, *words in commands:
        if words[0] == "train":  # made-up faces are found by no detector, and a small network will do
            words += ["--crop", "whole", "--size", "nano", "--epochs", "1", "--set", "GPU.THREADS=1"]
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"]["name"] == "mine"


def test_every_option_that_is_named_exists() -> None:
    shown = "".join(run(*command, "--help").stdout for command in (["train"], ["export"], ["prepare", "table"]))
    named = set(re.findall(r"`(--[a-z0-9-]+)", TEXT)) - {"--nproc-per-node"}
    assert len(named) >= 12
    for flag in named:
        assert flag in shown, flag


def test_every_loss_size_and_setting_that_is_named_exists() -> None:
    printed = run("train", "--print-config").stdout
    assert set(re.findall(r"^\| `([a-z_]+)` \|", TEXT, re.MULTILINE)) == set(LOSSES)
    assert f"--size {'|'.join(SIZES)}" in TEXT
    for key in ("SIGMA", "RARE_AGES", "CLASS_WEIGHTS", "PATIENCE", "BATCH_SIZE", "PARALLEL", "DEVICES"):
        assert f"{key}:" in printed
