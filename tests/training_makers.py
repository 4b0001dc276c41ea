"""Made-up faces for tests of training: nobody's, but something can be learned from them.

face(age, female, seed)     a picture: the brighter the older, the redder the more female
make_manifest(folder, ...)  such pictures with a manifest
make_original_h5(path, ..)  the same in the layout of the project that agelens began from
make_lessons(count)         faces and labels in memory
faces_of_two_sets(count)    the same of two data sets, every label known
view_lessons(count)         views of those
stand_in_downloads(patch)   networks of 32 pixels instead of those that the recipe downloads
train(...)                  a short training through the Python interface
SETTINGS                    what makes a training small
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from agelens.align import CropGeometry
from agelens.datasets.manifest import Columns, Manifest
from agelens.datasets.manifest_file import write_manifest
from agelens.datasets.rows import Row
from agelens.training.batches import Lessons
from agelens.training.config_file import make_config, merge
from agelens.training.course import run_training
from agelens.training.crops import CropSet
from agelens.training.listeners import Listeners
from agelens.training.networks import FaceNetwork, NetworkConfig, normalise
from agelens.training.recipe import recognition, school
from agelens.training.recipe.courses import Kind
from agelens.training.recipe.lessons import Labels, ViewLessons, combine
from agelens.training.recipe.views import draw_views

TINY = NetworkConfig(size=32, widths=(8, 16), blocks=(1, 1), last_inner=16)
SETTINGS: dict[str, Any] = {
    "data": {"crop": "whole"},
    "hyperparameters": {"epochs": 2, "batch_size": 16, "save_every": 100, "optimizer": {"lr": 0.003}},
    "network": {"size": "nano"},
    "gpu": {"status": False, "threads": 1, "bf16": False},
}


def face(age: float, female: bool, seed: int, side: int = 64) -> NDArray[np.uint8]:
    """RGB of shape (side, side, 3)."""
    rng = np.random.default_rng(seed)
    level = 30 + age * 1.9
    tint = np.array([25.0, 0.0, -25.0]) * (1 if female else -1)
    return np.clip(level + tint + rng.normal(0, 12, (side, side, 3)), 0, 255).astype(np.uint8)


def labels(count: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Ages and whether female."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 90, count), rng.random(count) < 0.5


def make_manifest(
    folder: Path, count: int = 64, *, gender: bool = True, age: bool = True, test: int = 8, name: str = "faces.jsonl"
) -> Path:
    """Pictures and a manifest; every person has two pictures, the last `test` rows are the test part."""
    ages, females = labels(count)
    (folder / "faces").mkdir(parents=True, exist_ok=True)
    rows = []
    for index, (years, female) in enumerate(zip(ages.tolist(), females.tolist(), strict=True)):
        Image.fromarray(face(years, female, index)).save(folder / "faces" / f"{index}.png")
        rows.append(
            Row(
                "made",
                f"faces/{index}.png",
                float(years) if age else None,
                float(years) if age else None,
                ("female" if female else "male") if gender else None,
                subject=f"p{index // 2}",
                split="test" if index >= count - test else "train",
            )
        )
    path = folder / name
    write_manifest(Manifest("made", folder.absolute(), Columns.of(rows)), path)
    return path


def make_original_h5(path: Path, count: int = 48, side: int = 64) -> Path:
    """Floats of 0 to 255, groups by number, no word on who is who."""
    import h5py

    from agelens.groups import NAMED

    ages, females = labels(count)
    pixels = np.stack(
        [
            face(years, bool(female), index, side)
            for index, (years, female) in enumerate(zip(ages, females, strict=True))
        ]
    )
    member = np.array(NAMED["adience12"].member)
    cut = count * 9 // 10
    with h5py.File(path, "w") as file:
        for part, rows in (("train", slice(0, cut)), ("test", slice(cut, count))):
            file.create_dataset(f"x_{part}", data=pixels[rows].astype(np.float64), compression="gzip")
            file.create_dataset(f"y_{part}_age", data=member[ages[rows]])
            file.create_dataset(f"y_{part}_gender", data=females[rows].astype(np.int64))
    return path


def make_lessons(count: int = 64, side: int = 65, **changes: Any) -> Lessons:
    """Faces and labels in memory, every fifth gender and every seventh age unknown."""
    ages, females = labels(count)
    pixels = np.stack(
        [face(years, bool(female), i, side) for i, (years, female) in enumerate(zip(ages, females, strict=True))]
    )
    age = np.where(np.arange(count) % 7 == 6, np.nan, ages).astype(np.float32)
    female = np.where(np.arange(count) % 5 == 4, np.nan, females).astype(np.float32)
    texts = np.zeros(count, "U4")
    crops = CropSet(
        pixels=pixels,
        geometry=CropGeometry(side),
        age_low=age,
        age_high=age.copy(),
        female=female,
        race=texts,
        split=texts,
        group=np.full(count, -1),
        path=texts,
        dataset=texts,
        row=np.arange(count),
        fingerprint="made",
        lost={},
    )
    plain = {"rows": np.arange(count), "weights": np.ones(count), "widening": 1.35}
    return Lessons(crops=crops, **{**plain, **changes})


def faces_of_two_sets(count: int = 24) -> CropSet:
    """Faces in memory with all labels known, of the data sets "odd" and "even"; every fifth is held back."""
    crops, numbers = make_lessons(count).crops, np.arange(count)
    ages, females = labels(count)
    return replace(
        crops,
        age_low=ages.astype(np.float32),
        age_high=ages.astype(np.float32),
        female=females.astype(np.float32),
        dataset=np.where(numbers % 2, "odd", "even"),
        split=np.where(numbers % 5, "train", "val"),
    )


def view_lessons(count: int = 64) -> ViewLessons:
    """Views of such faces, labels alone."""
    crops = faces_of_two_sets()
    kinds = [(np.flatnonzero(crops.split == "train"), count)]
    views, _ = draw_views(crops, kinds, 0.25, seed=3)
    known = Labels.of(crops, np.full((len(crops), 101), 1 / 101, np.float32), torch.device("cpu"))
    told = combine(known, views, np.arange(count), None, Kind((), count, {}))
    return ViewLessons(torch.from_numpy(crops.pixels), views, *told, 1.0)


def stand_in_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of 32 pixels instead of the downloaded ones."""

    def age_network(_: Path) -> FaceNetwork:
        torch.manual_seed(0)
        return FaceNetwork(TINY).eval()

    def ask(network: FaceNetwork, levels: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.log_softmax(network(normalise(levels))[0], dim=1)

    monkeypatch.setattr(school, "open_age_network", age_network)
    monkeypatch.setattr(school, "ask_years", ask)
    monkeypatch.setattr(school, "SIDE", 32)
    monkeypatch.setattr(recognition, "begin_with_recognition", lambda config, archive, seen: FaceNetwork(config))


def train(
    data: Path, output: Path, task: str = "both", settings: dict[str, Any] | None = None, **options: Any
) -> tuple[Path, list[str]]:
    """The run's folder and what was said."""
    told: list[str] = []
    where = {"data": {"file": str(data), "output_dir": str(output)}}
    config = make_config(merge(SETTINGS, where, settings or {}))
    return run_training(config, task, listeners=Listeners(tell=told.append), **options), told
