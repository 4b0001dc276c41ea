"""`agelens export`: a checkpoint -> a model file that `predict`, `serve` and `batch` run as it is, and its card."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from agelens.align import CropGeometry
from agelens.errors import NotFoundError, TrainingError, UnfitModelError, UsageError
from agelens.estimate import OnnxEstimator
from agelens.modelspec import IntervalLevel, ModelSpec
from agelens.outfile import Target, write_whole
from agelens.training.build import network_of
from agelens.training.calibrate import Calibration
from agelens.training.calibration import Labelled, fit_calibration, year_probabilities
from agelens.training.card import write_card
from agelens.training.config_file import lower_keys, make_config
from agelens.training.export import export_onnx
from agelens.training.figures import ask_network, measure_answers
from agelens.training.foreign import Weights, read_weights
from agelens.training.heritage import find_decode, list_data, name_data, settle_licence
from agelens.training.intervals import COVERAGE
from agelens.training.judge import predict_crops
from agelens.training.listeners import Listeners, ignore
from agelens.training.material import cut_material, draw_validation, open_data
from agelens.training.plan import make_lessons
from agelens.training.quantise import ask_model, compare_models, quantise
from agelens.training.team import Team

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.training.batches import Lessons
    from agelens.training.networks import Network

    Floats = NDArray[np.float64]
    _Rows = tuple[Lessons, NDArray[np.int64]]

TOLERANCE = 1e-4
NOTES = (
    "Age is how old a face looks, not what a document says.",
    "Gender is how a person presents in a picture, not who they are; below 13 years it is close to a guess.",
    "Not for decisions about access, work, policing or anything else that affects a person.",
)
ENOUGH = 200
"""Faces from which on a calibration is more than a hint."""
UNSTATED = "not stated: it depends on the licence of the training data"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How a checkpoint becomes a model file.

    Attributes:
        output: The `.onnx` to write; its card goes beside it as `.md`.
        name: What the model is called; by default the file's name without its ending.
        int8: Whether weights and activations become 8-bit integers.
        calibrate: Faces to calibrate on (a manifest or an `.h5`), and to measure `int8` on; its test part is left out.
        licence: Of the weights; terms that they carry on stand before it. None: it isn't stated.
        cache: Where cut faces are kept.
    """

    output: Path
    name: str = ""
    int8: bool = False
    calibrate: Path | None = None
    licence: str | None = None
    cache: Path = Path("output")


def export_checkpoint(checkpoint: Path, options: ExportOptions, tell: Callable[[str], None] = ignore) -> ModelSpec:
    """Writes the model file and its card.

    Args:
        checkpoint: A weights file of a run, or the run's folder.
        options: How.
        tell: Is told what was measured.

    Returns:
        What the file says of itself.

    Raises:
        UsageError: The output is no `.onnx`, or int8 has no faces to be measured on.
        NotFoundError, DamagedModelError, UnfitModelError: The checkpoint is none, or not whole.
        TrainingError: The graph does not give what the network gives; nothing is written.
    """
    if options.output.suffix.lower() != ".onnx":
        raise UsageError(f"a model file's name ends in .onnx, got {options.output.name!r}")
    Target(options.output).discard()  # a name that cannot be written is better said now
    weights = read_weights(checkpoint)
    if checkpoint.is_dir() and Path(weights.source).parent != checkpoint:
        tell(f"weights: {weights.source}")
    network, about = network_of(weights), weights.about
    silence(network, about["task"])
    faces = _open_faces(weights, options, tell) if options.calibrate or options.int8 else None
    calibration, fitted_on = read_calibration(about), None
    if faces is not None and options.calibrate:
        for line in Labelled.count(faces.lessons, faces.rows).describe(about["task"], calibration):
            tell(f"{options.calibrate}: {line}")
        calibration = fit_calibration(
            network, about["task"], faces.lessons, faces.rows, find_decode(about), before=calibration
        )
        fitted_on = faces.foreign
    few = warn_of_few(calibration, about["task"])
    spec = describe(weights, calibration, options)
    own = None
    if faces is not None:
        own = _open_own(weights, options, faces, tell)
        spec = _measure(spec, own, lambda rows: ask_network(network, calibration, *rows))
    if fitted_on is not None:
        spec = replace(spec, recipe=spec.recipe | {"calibrated_on": fitted_on})
    spec = replace(spec, notes=spec.notes + few)
    model = export_onnx(network, calibration, spec)
    difference = check_parity(model, network, calibration)
    tell(f"largest difference between torch and onnxruntime: {difference:.1e}")
    for line in few:
        tell(f"WARNING: {line} Give more with --calibrate FILE.")
    if options.int8:
        assert faces is not None
        model, spec = _make_int8(model, spec, faces, own)
        tell(f"int8, measured on {len(faces.rows):,} faces: {spec.metrics['int8']}")
    write_whole(options.output, model)
    card = write_card(spec, hashlib.sha256(model).hexdigest(), len(model))
    write_whole(options.output.with_suffix(".md"), card.encode())
    return spec


def silence(network: Network, task: str) -> None:
    """Sets a head that has learned nothing to zero: it then answers one half, or every year alike."""
    with torch.no_grad():
        for parameter in network.heads(task):
            parameter.zero_()


def read_calibration(about: dict[str, Any]) -> Calibration:
    """What a checkpoint says of its calibration; without a word of it nothing is corrected."""
    if "calibration" not in about:
        return Calibration()
    found = Calibration.from_dict(about["calibration"])
    if "age_faces" in about["calibration"]:
        return found
    # Earlier ones say how many faces there were for both, or nothing of it.
    faces = int(about.get("calibration_faces", ENOUGH))
    is_fitted = (found.gender_scale, found.gender_shift) != (1.0, 0.0)
    return replace(found, age_faces=faces if found.levels else 0, gender_faces=faces if is_fitted else 0)


def warn_of_few(calibration: Calibration, task: str) -> tuple[str, ...]:
    """What must be said of what was learned and is calibrated on few faces; nothing where they are enough."""
    counts = {"age": calibration.age_faces, "gender": calibration.gender_faces}
    few = {name: faces for name, faces in counts.items() if task in (name, "both") and faces < ENOUGH}
    if not few:
        return ()
    on = " and ".join(
        f"for {name} on {f'{faces:,} faces only' if faces else 'no faces at all'}" for name, faces in few.items()
    )
    return (f"Calibrated {on}: its intervals and probabilities may be off by much.",)


def describe(weights: Weights, calibration: Calibration, options: ExportOptions) -> ModelSpec:
    """What the model file says of itself."""
    about = weights.about
    data = about.get("data", {})
    leaky = ("Trained on splits that leak: its figures are too good to be true.",) if data.get("leaky") else ()
    return ModelSpec(
        name=options.name or options.output.stem,
        version=str(about.get("date", "unfinished")),
        crop=CropGeometry(**about["crop"]),
        tasks=("age", "gender") if about["task"] == "both" else (about["task"],),
        decode=find_decode(about),
        coverage=COVERAGE,
        # As precisely as the file states them.
        levels=tuple(IntervalLevel.from_list(level.to_list()) for level in calibration.levels),
        licence=settle_licence(about, options.licence) or UNSTATED,
        training_data=list_data(about),
        # An unfinished run measures a network that isn't calibrated; its loss is no figure of the file's answers.
        metrics={
            name: _rounded({figure: value for figure, value in about[name].items() if figure != "loss"})
            for name in ("validation", "test")
            if about.get(name) and "calibration" in about
        },
        notes=NOTES + leaky,
        # By `data` and `held_out` an evaluation knows whether the network has seen its pictures.
        recipe={
            "config": about.get("config", {}),
            **{name: data[key] for name, key in (("data", "fingerprint"), ("held_out", "held_out")) if data.get(key)},
            **({"seen": about["begun"]["seen"]} if about.get("begun") else {}),
            "dataset": data,
            "versions": about.get("versions", {}),
        },
    )


def check_parity(model: bytes, network: Network, calibration: Calibration) -> float:
    """The largest difference between what the file and the network say of made-up crops, in batches of 1, 2 and 7.

    Raises:
        TrainingError: It is larger than 1e-4.
    """
    estimator = OnnxEstimator(model, name="the exported model")
    size = estimator.spec.crop.size
    crops = np.random.default_rng(0).integers(0, 256, (10, size, size, 3)).astype(np.uint8)
    crops[0], crops[1] = 0, np.linspace(0, 255, size, dtype=np.uint8)[:, None, None]
    age_logits, gender_logits = predict_crops(network, crops)
    ages = year_probabilities(network, age_logits.astype(np.float64), calibration.age_temperature)
    female = calibration.tell_female(gender_logits.astype(np.float64), ages)
    largest = 0.0
    for rows in (slice(0, 1), slice(1, 3), slice(3, 10)):
        answer = estimator.estimate(crops[rows])
        gaps = (np.abs(answer.ages - ages[rows]).max(), np.abs(answer.female - female[rows]).max())
        largest = max(largest, *map(float, gaps))
    if not largest <= TOLERANCE:
        raise TrainingError(f"the exported graph differs from the network by {largest:.1e}; nothing was written")
    return largest


def _make_int8(model: bytes, spec: ModelSpec, faces: _Faces, own: _Faces | None) -> tuple[bytes, ModelSpec]:
    """The model in 8-bit integers, and its description with what that cost."""
    small = quantise(model, spec, faces.lessons, faces.rows)
    cost = compare_models(model, small, faces.lessons, faces.rows)
    estimator = OnnxEstimator(small, name="int8")
    spec = _measure(spec, own, lambda rows: ask_model(estimator, *rows))
    spec = replace(spec, metrics={**spec.metrics, "int8": _rounded(cost)})
    return quantise(model, spec, faces.lessons, faces.rows), spec


def _measure(spec: ModelSpec, own: _Faces | None, ask: Callable[[_Rows], tuple[Floats, Floats]]) -> ModelSpec:
    """The description with the figures of these answers on the network's own validation and test part; or with none."""
    if own is None:
        return replace(spec, metrics={})
    task = spec.tasks[0] if len(spec.tasks) == 1 else "both"
    figures = {
        name: _rounded(measure_answers(ask((own.lessons, rows)), spec.decode, task, own.lessons, rows))
        for name, rows in own.parts.items()
        if len(rows)
    }
    return replace(spec, metrics=figures)


class _Faces(NamedTuple):
    """Faces to calibrate on and to measure `int8` on.

    Attributes:
        lessons: Hold them.
        rows: Which.
        foreign: Name and fingerprint of their data, by which an evaluation knows that the model has been fitted to it;
            None where it is the network's own.
        parts: Of the network's own data the parts that it has not learned from, by name.
    """

    lessons: Lessons
    rows: NDArray[np.int64]
    foreign: dict[str, str] | None
    parts: dict[str, NDArray[np.int64]]


def _open_faces(weights: Weights, options: ExportOptions, tell: Callable[[str], None]) -> _Faces:
    """Faces that the network has not learned from: the validation part of its own data, or other data but its test."""
    about = weights.about
    data = about.get("data", {})
    file = options.calibrate or Path(data.get("file", "the training data"))
    if not file.is_file():
        raise NotFoundError(f"{file} is not there; name a manifest or an .h5 with --calibrate: int8 is measured on it")
    config = make_config(lower_keys(about["config"], weights.source))
    config = replace(config, data=replace(config.data, output_dir=str(options.cache)))
    source = open_data(file)
    is_own = source.fingerprint == data.get("fingerprint")
    if is_own:
        source = replace(source, manifest=draw_validation(source.manifest, config, tell))
    material = cut_material(config, about["task"], source, CropGeometry(**about["crop"]), Team(), Listeners(tell))
    is_test = source.manifest.columns.split[material.crops.row] == "test"
    rows = material.val if is_own else np.flatnonzero(~is_test)
    if not len(rows):
        kept = "; its test part is for evaluations: prepare it with other splits" if is_test.any() else ""
        raise UnfitModelError(f"{file} holds no face to measure {about['task']} on{kept}")
    foreign = None if is_own else {"name": name_data(material.about), "data": source.fingerprint}
    parts = {"validation": material.val, "test": material.test} if is_own else {}
    return _Faces(make_lessons(config, material, network_of(weights)), rows, foreign, parts)


def _open_own(weights: Weights, options: ExportOptions, faces: _Faces, tell: Callable[[str], None]) -> _Faces | None:
    """The faces that the network's figures are measured on; None where its data is no longer what it was."""
    if faces.foreign is None:
        return faces
    file = Path(weights.about.get("data", {}).get("file", ""))
    own = None
    if file.is_file():
        own = _open_faces(weights, replace(options, calibrate=file), tell)
    if own is None or own.foreign is not None:
        tell("the data that it was trained on is not there: the file states no figures of its validation and test part")
        return None
    return own


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}
