"""`agelens models`: list, show, verify."""

from __future__ import annotations

import json
from pathlib import Path

from agelens.zoo import list_shipped
from command import run
from stand_in import model_bytes


def test_list(tmp_path: Path) -> None:
    done = run("models", "list", cwd=tmp_path)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["name", *(m.name for m in list_shipped())]
    entries = json.loads(run("models", "list", "--json").stdout)
    assert {entry["role"] for entry in entries} <= {"detector", "estimator"}
    assert all(entry["licence"] for entry in entries)


def test_show_is_the_card_inside_the_file(stand_in: Path) -> None:
    done = run("models", "show", stand_in)
    assert done.returncode == 0
    for fact in ("name: stand-in", "licence: MIT", "mae 1.5", "for tests", "training_data:", "sha256: "):
        assert fact in done.stdout
    card = json.loads(run("models", "show", stand_in, "--json").stdout)
    assert card["crop"]["size"] == 32
    assert card["bytes"] == len(model_bytes())


def test_show_of_the_detector() -> None:
    assert "licence: MIT" in run("models", "show", "yunet").stdout


def test_verify_all_that_ship() -> None:
    done = run("models", "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(list_shipped())


def test_verify_tells_the_damaged_and_goes_on(tmp_path: Path, stand_in: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(model_bytes()[:-300])
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(model_bytes(gain=float("nan")))
    done = run("models", "verify", damaged, broken, stand_in)
    assert done.returncode == 3
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [str(damaged), str(broken)]
    assert done.stdout.startswith(f"{stand_in}: ok")


def test_unknown_names_exit_with_3() -> None:
    done = run("models", "show", "yunett")
    assert done.returncode == 3
    assert "did you mean 'yunet'?" in done.stderr
