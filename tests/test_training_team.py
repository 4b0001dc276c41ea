"""Two real processes against one: the same gradients, the same curve, the same run folder."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from command import environment
from training_makers import make_manifest

WORKER = Path(__file__).with_name("team_worker.py")


def launch(count: int, *arguments: object, module: bool = False) -> list[str]:
    """Runs as many processes as torchrun would, and returns what each said on standard error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *(("-m", "agelens") if module else (str(WORKER),)), *map(str, arguments)]
    places = [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        for rank in range(count)
    ]
    started = [
        subprocess.Popen(command, env=environment(**place), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for place in places
    ]
    said = [process.communicate(timeout=240)[1] for process in started]
    assert [process.returncode for process in started] == [0] * count, "\n".join(said)
    return said


def results(tmp_path: Path, count: int, batch: int, optimiser: str) -> dict[str, Any]:
    out = tmp_path / f"{count}-{optimiser}.pt"
    launch(count, out, batch, 50, optimiser)
    found: dict[str, Any] = torch.load(out, weights_only=True)
    return found


@pytest.mark.parametrize("optimiser", ["adamw", pytest.param("sgd", marks=pytest.mark.slow)])
def test_two_processes_learn_what_one_with_twice_the_batch_learns(tmp_path: Path, optimiser: str) -> None:
    one, two = results(tmp_path, 1, 16, optimiser), results(tmp_path, 2, 8, optimiser)
    assert one["gradients"].keys() == two["gradients"].keys()
    for name, gradient in one["gradients"].items():
        assert gradient.abs().max() > 0, name
        assert torch.allclose(gradient, two["gradients"][name], rtol=1e-3, atol=1e-5), name
    assert len(one["losses"]) == 50
    # Batches differ, so one of the last may be harder than the first.
    assert sum(one["losses"][-10:]) < sum(one["losses"][:10])
    largest = max(abs(a - b) for a, b in zip(one["losses"], two["losses"], strict=True))
    assert largest < 1e-4
    for name, value in one["weights"].items():
        assert torch.allclose(value.float(), two["weights"][name].float(), atol=2e-3), name


def test_a_run_of_two_processes_leaves_one_folder(tmp_path: Path) -> None:
    data = make_manifest(tmp_path)
    arguments = ["train", "--data", data, "-o", tmp_path / "out", "--epochs", "1", "--batch-size", "8"]
    arguments += ["--size", "nano", "--crop", "whole", "--set", "GPU.STATUS=false"]
    said = launch(2, *arguments, module=True)
    assert "best epoch 1" in said[0]
    assert "epoch" not in said[1]
    (folder,) = (tmp_path / "out").glob("*_output_*")
    stats = json.loads((folder / "both_stats_8_0.json").read_text())
    assert stats["device"]["processes"] == 2
    assert stats["device"]["parallel"] is True
    training = stats["data"]["training"]
    assert training["num_batches"] == training["num_samples"] // 16
