"""Fixtures that rooms share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from command import EXAMPLE
from stand_in import model_bytes

settings.register_profile("agelens", deadline=None)  # the machine may be busy
settings.load_profile("agelens")


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model file, so that a test of the command needs no trained weights."""
    path = tmp_path_factory.mktemp("model") / "stand-in.onnx"
    path.write_bytes(model_bytes())
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A portrait, the same in a subfolder under an odd name, a picture of nobody, and what is no picture."""
    from PIL import Image

    folder = tmp_path / "photos"
    odd = folder / "sub folder" / "ü #1 100%.jpg"
    odd.parent.mkdir(parents=True)
    shutil.copy(EXAMPLE, folder / "a.jpg")
    shutil.copy(EXAMPLE, odd)
    with Image.open(EXAMPLE) as portrait:
        portrait.save(folder / "a.png")
    Image.new("RGB", (200, 120), (90, 120, 200)).save(folder / "nobody.webp")
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").write_text("no picture")
    return folder
