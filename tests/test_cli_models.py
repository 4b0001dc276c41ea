"""`agelens models`: list, show, verify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agelens.modelspec import DECODES
from agelens.zoo import DEFAULT_MODEL, find_shipped, list_shipped
from command import ROOT, run
from stand_in import model_bytes, write_model


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
    card = " ".join(done.stdout.split())
    for fact in (
        *("name: stand-in", "licence: MIT", "none: mae 1.5", "Limits: - for tests", "Trained on: - none (none)"),
        *("sha256: ", "RGB, 32 x 32 pixels", "interval: is to hold 90% of ages", "in full: --json"),
    ):
        assert fact in card
    assert "Measured end to end" not in card, "figures of another file are not shown"
    card = json.loads(run("models", "show", stand_in, "--json").stdout)
    assert card["crop"]["size"] == 32
    assert card["bytes"] == len(model_bytes())
    assert card["measured"] == []


def test_show_of_a_model_without_calibration_says_so(tmp_path: Path) -> None:
    done = run("models", "show", write_model(tmp_path / "m.onnx", levels=(), notes=(), training_data=(), metrics={}))
    assert "NOT calibrated" in " ".join(done.stdout.split())
    assert not {"Limits:", "Trained on:", "Measured while it was made:"} & set(done.stdout.splitlines())


@pytest.mark.parametrize(("decode", "said"), DECODES.items())
def test_show_says_how_years_come_out(decode: str, said: str, tmp_path: Path) -> None:
    done = run("models", "show", write_model(tmp_path / "m.onnx", decode=decode))
    assert f"years are {said} of 101 probabilities" in " ".join(done.stdout.split())


def test_show_has_the_figures_by_group_of_the_model_that_ships() -> None:
    card = json.loads(run("models", "show", DEFAULT_MODEL, "--json").stdout)
    assert card["sha256"] == find_shipped(DEFAULT_MODEL).sha256
    assert card["measured"]
    compared = json.loads((ROOT / "benchmarks" / "results" / "peers.json").read_text("utf-8"))
    originals = {pack["pictures"]: pack["models"][0] for pack in compared["packs"].values()}
    for measured in card["measured"]:
        original = originals[measured["pictures"]]
        for name, figure in measured["figures"].items():
            assert figure.items() <= original["figures"][name].items()
        assert {"age", "gender"} <= {part["by"] for part in measured["parts"]}
    done = run("models", "show", DEFAULT_MODEL)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(entry["name"] in done.stdout and entry["licence"] in done.stdout for entry in card["training_data"])
    for measured in card["measured"]:
        rows = {line[2:18].strip(): line[18:].split() for line in _table_of(measured["title"], lines)}
        assert rows.keys() >= {"all", "female", "male", *(part["name"] for part in measured["parts"])}
        assert rows["all"][0] == f"{measured['pictures'] - measured['failed']:,}"
        assert f"{measured['figures']['gender']['value']:.1%}" in rows["all"]


def _table_of(title: str, lines: list[str]) -> list[str]:
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{title}: "))
    return lines[start + 2 : lines.index("", start)]


def test_show_on_a_terminal_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = run("models", "show", DEFAULT_MODEL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "all              " in done.stdout


def test_show_of_the_detector() -> None:
    shown = run("models", "show", "yunet").stdout.split("\n")
    assert "licence:  MIT (OpenCV Zoo)" in shown
    assert "role:     detector" in shown


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


def test_the_weights_beside_the_package_are_whole_small_and_say_their_terms() -> None:
    folder = ROOT / "weights"
    entries = json.loads((folder / "models.json").read_text("utf-8"))
    assert {path.name for path in folder.glob("*.onnx")} == {entry["file"] for entry in entries}
    for entry in entries:
        path = folder / entry["file"]
        assert path.stat().st_size <= 10_000_000
        card = json.loads(run("models", "show", path, "--json").stdout)
        assert (card["sha256"], card["licence"]) == (entry["sha256"], entry["licence"])
        assert "research only" in card["licence"]
        assert entry["name"] not in {model.name for model in list_shipped()}
        done = run("predict", ROOT / "src/agelens/examples/astronaut.jpg", "--model", path)
        assert done.returncode == 0
        assert done.stderr.count("for research and not for commercial use") == 1
