"""`agelens evaluate` as users call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agelens.cli.app import run_typer
from agelens.datasets.manifest_file import write_manifest
from command import run
from evaluation_makers import make_set
from stand_in import write_model


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    write_manifest(make_set(folder, count=6), folder / "set.jsonl")
    return folder / "set.jsonl"


def test_from_manifest_to_report(data: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "first.onnx")
    done = run("evaluate", "--model", model, "--data", data, "-o", tmp_path / "out", "--bootstrap", "20")
    assert done.returncode == 0, done.stderr
    assert "| MAE | " in done.stdout
    assert "gave no face" in done.stderr
    names = ["evaluation.html", "evaluation.json", "evaluation.md", "predictions.npz"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["schema"] == "agelens.evaluation/1"
    assert "--bootstrap 20" in found["origin"]["command"]
    assert "data:image" not in (tmp_path / "out" / "evaluation.html").read_text()


def test_comparison(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, coverage in ((first, 0.9), (second, 0.8)):
        model = write_model(tmp_path / f"{folder.name}.onnx", coverage=coverage)
        arguments = ["-m", str(model), "-d", str(data), "-o", str(folder), "--bootstrap", "20", "--quiet"]
        assert run_typer(["evaluate", *arguments]) == 0
    capsys.readouterr()
    assert run_typer(["evaluate", "compare", str(first), str(second / "evaluation.json"), "--json"]) == 0
    differences = json.loads(capsys.readouterr().out)["differences"]
    assert {each["difference"] for each in differences} == {0.0}
    assert run_typer(["evaluate", "compare", str(first), str(second), "-o", str(tmp_path / "c.md")]) == 0
    assert (tmp_path / "c.md").read_text() == capsys.readouterr().out


def test_json_goes_to_standard_output(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "m.onnx")
    arguments = ["evaluate", "-m", str(model), "-d", str(data), "--json", "--bootstrap", "10", "--limit", "5"]
    assert run_typer(arguments) == 0
    assert json.loads(capsys.readouterr().out)["data"]["pictures"] == 5


def test_worst_cases_are_embedded_on_request(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "m.onnx")
    arguments = ["evaluate", "-m", str(model), "-d", str(data), "--bootstrap", "10", "--quiet", "--worst", "3"]
    assert run_typer([*arguments, "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "out" / "evaluation.html").read_text().count("data:image/jpeg") == 3
    assert run_typer(arguments) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 2, "give a model and a data set"),
        (("-m", "agelens-bass", "-d", "DATA"), 3, "did you mean 'agelens-base'"),
        (("-m", "MODEL", "-d", "DATA", "-p", "utkfce"), 2, "did you mean 'utkface'"),
        (("-m", "MODEL", "-d", "DATA", "-p", "aaf"), 2, "the protocol aaf is for aaf"),
        (("-m", "MODEL", "-d", "none.jsonl"), 1, "agelens prepare"),
        (("-m", "MODEL", "-d", "DATA", "--train-manifest", "DATA"), 1, "too good to be true"),
        (("-m", "none.whl", "-d", "DATA"), 3, "pip download"),
        (("compare", "none.json", "none.json"), 1, "no evaluation"),
        (("compare", "a.json", "b.json", "-o", "c.txt"), 2, ".json or .md"),
    ],
)
def test_mistakes(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    model = write_model(tmp_path / "m.onnx")
    named = [{"DATA": str(data), "MODEL": str(model)}.get(argument, argument) for argument in arguments]
    ended = run_typer(["evaluate", *named])
    out, err = capsys.readouterr()
    assert ended == status, err
    assert said in err
    assert out == ""
