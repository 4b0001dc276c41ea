"""A recipe from the faces to the model file and its place in the list, with small stand-ins for what is downloaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agelens.estimate import EstimateOptions, OnnxEstimator, read_age
from agelens.modelspec import ModelSpec
from agelens.training.batches import still_crops
from agelens.training.calibrate import softmax
from agelens.training.crops import CropSet
from agelens.training.judge import predict_crops
from agelens.training.networks import FaceNetwork
from agelens.training.recipe.courses import Course, Kind
from agelens.training.recipe.loop import TrainConfig, open_trained
from agelens.training.recipe.make import Places, make_model
from agelens.training.recipe.models import Recipe, Source
from agelens.training.recipe.prior import Expected, expect, median_logits
from agelens.training.recipe.school import RECOGNITION, YEARS
from training_makers import TINY, faces_of_two_sets, stand_in_downloads

Floats = NDArray[np.float64]
MAKE = "agelens.training.recipe.make"
TRAIN = TrainConfig(
    network=TINY,
    steps=60,
    batch=64,
    learning_rate=2e-2,
    warmup=5,
    average=0.9,
    smoothing=0.0,
    threads=1,
    bf16=False,
    save_every=30,
)
KIND = Kind(("odd", "even"), 640, {YEARS: 1.0}, age=0.1)
FIRST = Course("first", RECOGNITION, 1.2, (KIND,), 0.25, TRAIN)
OWN = Course("own", "first", 1.2, (replace(KIND, teachers={"first": 1.0}),), 0.25, replace(TRAIN, steps=20))
RECIPE = Recipe(
    name="agelens-made",
    sources=(Source("odd", "odd-train", {"name": "odd"}), Source("even", "even-train", {"name": "even"})),
    courses=(FIRST, OWN),
    expected=Expected(elders=1.5, women=1.2),
    second=0.0,
    int8=False,
    licence="MIT",
    about="nobody's faces",
)
FACES = faces_of_two_sets(500)


def faces_of(source: Source, places: Places) -> CropSet:
    """In place of faces cut from pictures: one data set of two."""
    rows = np.flatnonzero(FACES.dataset == source.kind)
    parts = ("pixels", "age_low", "age_high", "female", "race", "split", "group", "path", "dataset", "row")
    return replace(FACES, fingerprint=source.kind, **{name: getattr(FACES, name)[rows] for name in parts})


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    torch.set_num_threads(1)
    stand_in_downloads(monkeypatch)
    monkeypatch.setattr(f"{MAKE}.prepare_crops", faces_of)
    return Places(tmp_path / "data", tmp_path / "work", tmp_path / "downloads", tmp_path / "models")


def read_listed(places: Places) -> OnnxEstimator:
    """The one model of the list, whose digest is the file's."""
    (entry,) = json.loads((places.models / "models.json").read_text())
    model = (places.models / entry["file"]).read_bytes()
    assert entry["sha256"] == hashlib.sha256(model).hexdigest()
    assert (entry["name"], entry["about"]) == (RECIPE.name, RECIPE.about)
    return OnnxEstimator(model, name=entry["name"])


def learned(places: Places) -> FaceNetwork:
    """What the last course taught."""
    (folder,) = places.work.glob("own-*")
    network = open_trained(OWN.train, folder)
    assert network is not None
    return network


@dataclass(frozen=True, slots=True)
class Told:
    """What a model tells of faces: (N,) each."""

    years: Floats
    low: Floats
    high: Floats
    female: Floats


def tell(model: OnnxEstimator, crops: NDArray[np.uint8]) -> Told:
    """As users hear it."""
    answer = model.estimate(crops)
    ages = [
        read_age(ages, float(female), model.spec, EstimateOptions())
        for ages, female in zip(answer.ages, answer.female, strict=True)
    ]
    years, low, high = np.array([(age.years, age.low, age.high) for age in ages]).T
    return Told(years, low, high, answer.female.astype(float))


def held_back() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Crops (N, 32, 32, 3) as the network sees them, and which faces they are."""
    rows = np.flatnonzero(FACES.split == "val")
    return still_crops(FACES, rows, OWN.widening, TINY.size), rows


def test_a_recipe_becomes_a_model_that_says_how_it_was_made(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    make_model(RECIPE, places)
    assert capsys.readouterr().err.count("steps of 64") == 2
    model = read_listed(places)
    spec: ModelSpec = model.spec
    assert (spec.name, spec.licence, spec.tasks) == (RECIPE.name, "MIT", ("age", "gender"))
    assert [course["name"] for course in spec.recipe["courses"]] == ["first", "own"]
    assert spec.recipe["expected"] == {"elders": 1.5, "grown": 1.0, "women": 1.2, "youth": 1.0}
    assert {"name": "odd"} in spec.training_data

    crops, rows = held_back()
    answer = tell(model, crops)
    labels = FACES.age_low[rows].astype(float)
    assert np.abs(answer.years - labels).mean() < 0.6 * np.abs(np.median(labels) - labels).mean()
    for name in ("odd", "even"):
        part = FACES.dataset[rows] == name
        figures = spec.metrics[f"validation, {name}"]
        assert figures["mae"] == pytest.approx(np.abs(answer.years - labels)[part].mean(), abs=0.1)
        assert figures["gender"] == pytest.approx(((answer.female >= 0.5) == FACES.female[rows])[part].mean(), abs=0.03)
    held = (answer.low <= labels) & (labels <= answer.high)
    assert held.mean() >= 0.85

    make_model(RECIPE, places)
    assert "steps of" not in capsys.readouterr().err
    np.testing.assert_array_equal(tell(read_listed(places), crops).years, answer.years)


def test_what_a_model_expects_of_people_is_in_its_file(places: Places) -> None:
    make_model(RECIPE, places)
    network, (crops, rows) = learned(places), held_back()
    plain, genders = predict_crops(network, crops)
    expect(network, RECIPE.expected, median_logits(genders, FACES.female[rows]))
    ages, same = predict_crops(network, crops)
    np.testing.assert_array_equal(same, genders)
    assert np.abs(softmax(ages.astype(float)) - softmax(plain.astype(float))).max() > 1e-3
    # Calibration divides its logits by a number.
    told, wanted = np.log(read_listed(places).estimate(crops).ages.astype(float)), ages.astype(float)
    told, wanted = (values - values.mean(axis=1, keepdims=True) for values in (told, wanted))
    np.testing.assert_allclose(told * (wanted.std() / told.std()), wanted, atol=0.02)


def test_a_model_of_8_bits_says_what_they_cost(places: Places) -> None:
    make_model(RECIPE, places)
    crops, _ = held_back()
    whole = tell(read_listed(places), crops)
    size = (places.models / f"{RECIPE.name}.onnx").stat().st_size
    make_model(replace(RECIPE, int8=True), places)
    small = read_listed(places)
    assert set(small.spec.metrics) == {"validation, odd", "validation, even", "8 bits"}
    assert small.spec.metrics["8 bits"]
    assert np.abs(tell(small, crops).years - whole.years).mean() < 3
    assert (places.models / f"{RECIPE.name}.onnx").stat().st_size < size
