"""What `import agelens` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import agelens
from command import EXAMPLE, ROOT, environment

HEAVY = {"numpy", "PIL", "onnxruntime", "torch", "onnx", "typer", "rich", "pydantic", "h5py", "pyarrow", "matplotlib"}


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter holds after `code`."""
    ask = f"{code}\nimport sys; sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 0, done.stderr
    return HEAVY & set(done.stderr.split())


def test_every_public_name_is_there_and_sorted() -> None:
    assert agelens.__all__ == sorted(agelens.__all__, key=lambda name: (name.islower(), name))
    for name in agelens.__all__:
        assert getattr(agelens, name) is not None
    assert dir(agelens) == agelens.__all__


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'preditc'"):
        _ = agelens.preditc


def test_import_is_light() -> None:
    assert loaded_by("import agelens; from agelens import Limits, Face, AgelensError, errors") == set()


def test_version_is_light() -> None:
    code = "import sys; sys.argv = ['agelens', '--version']; from agelens.cli import main; main()"
    assert loaded_by(code) == set()


def test_prediction_loads_no_more_than_it_needs(stand_in: Path) -> None:
    code = f"from agelens.cli import run; run(['predict', {str(EXAMPLE)!r}, '--model', {str(stand_in)!r}, '-q'])"
    assert loaded_by(code) == {"numpy", "PIL", "onnxruntime"}


def test_ways_in_and_settings(stand_in: Path) -> None:
    with Image.open(EXAMPLE) as picture:
        picture.load()
    ways = [EXAMPLE, str(EXAMPLE), EXAMPLE.read_bytes(), picture, np.asarray(picture)]
    results = [agelens.predict(way, model=str(stand_in)) for way in ways]
    assert all(result == results[0] for result in results)
    (face,) = results[0]
    assert face.age is not None
    assert face.age.low < face.age.years < face.age.high
    (face,) = agelens.predict(EXAMPLE, model=str(stand_in), task="gender")
    assert face.age is None


def test_errors_have_codes(stand_in: Path) -> None:
    with pytest.raises(agelens.AgelensError) as caught:
        agelens.predict("/nowhere.jpg", model=str(stand_in))
    assert isinstance(caught.value, agelens.InputError)
    assert caught.value.code == "not_found"


def test_the_wheel_needs_the_four_and_no_more() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = [requirement.split(">")[0] for requirement in project["dependencies"]]
    assert names == ["numpy", "pillow", "onnxruntime", "typer"]


def test_predict_takes_settings_in_any_order_and_without_a_hash() -> None:
    class Nobody:
        __hash__ = None  # type: ignore[assignment]

        def detect(self, image: object) -> list[object]:
            return []

    picture = np.full((64, 64, 3), 90, np.uint8)
    assert agelens.predict(picture, task="age", min_score=0.7) == agelens.predict(picture, min_score=0.7, task="age")
    assert agelens.predict(picture, detector=Nobody()) == []
