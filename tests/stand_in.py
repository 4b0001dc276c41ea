"""A tiny model file of agelens for tests: its answers follow the pixels, so that a mixed-up crop shows.

model_bytes(...)    a valid file: the brighter the crop the older, the redder the more female
write_model(path)   the same on disk
make_spec(...)      what it says of itself
described()         that as plain values, to be changed
with_metadata(...)  the same graph with another description, or none
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agelens.align import CropGeometry
from agelens.modelspec import AGE_BINS, AGE_OUTPUT, GENDER_OUTPUT, INPUT, METADATA_KEY, IntervalLevel, ModelSpec

SIZE = 32


def make_spec(**changes: Any) -> ModelSpec:
    """A complete description."""
    spec = ModelSpec(
        name="stand-in",
        version="2026-01-01",
        crop=CropGeometry(SIZE),
        tasks=("age", "gender"),
        decode="mean",
        coverage=0.9,
        levels=(
            IntervalLevel.central(0.0, 30.0, "female", 0.8),
            IntervalLevel.central(0.0, 30.0, "any", 0.85),
            IntervalLevel.central(0.0, 200.0, "any", 0.9),
        ),
        licence="MIT",
        training_data=({"name": "none", "licence": "none"},),
        metrics={"none": {"mae": 1.5}},
        notes=("for tests",),
        recipe={"steps": 0},
    )
    return replace(spec, **changes)


def build_model(
    spec: ModelSpec | None = None,
    *,
    spread: float = 6.0,
    gain: float = 1.0,
    batch: int | str = "N",
    scalar: bool = False,
) -> onnx.ModelProto:
    """The model: years = mean brightness * `gain` / 255 * 100, normally distributed with `spread` years.

    Args:
        spec: What it says of itself.
        spread: Standard deviation of the distribution in years.
        gain: NaN makes broken weights.
        batch: The first dimension, as declared; a number fixes it.
        scalar: Declares the gender output without a dimension.
    """
    spec = spec or make_spec()
    size = spec.crop.size
    weights = {
        "years": np.arange(AGE_BINS, dtype=np.float32)[None],
        "to_years": np.array(gain * 100 / 255, np.float32),
        "sharpness": np.array(-0.5 / spread**2, np.float32),
        "red_less_blue": np.array([[0.1], [0.0], [-0.1]], np.float32),
        "columns": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", [INPUT], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["colour"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMean", ["colour"], ["brightness"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["brightness", "to_years"], ["age"]),
        helper.make_node("Sub", ["years", "age"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["squared"]),
        helper.make_node("Mul", ["squared", "sharpness"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [AGE_OUTPUT], axis=1),
        helper.make_node("MatMul", ["colour", "red_less_blue"], ["tint"]),
        helper.make_node("Sigmoid", ["tint"], ["sure"]),
        helper.make_node("Squeeze", ["sure", "columns"], [GENDER_OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [batch, size, size, 3])],
        [
            helper.make_tensor_value_info(AGE_OUTPUT, TensorProto.FLOAT, [batch, AGE_BINS]),
            helper.make_tensor_value_info(GENDER_OUTPUT, TensorProto.FLOAT, [] if scalar else [batch]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="tests")
    model.ir_version = 8
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    return model


def model_bytes(spec: ModelSpec | None = None, **options: Any) -> bytes:
    """The file's bytes; see `build_model`."""
    return bytes(build_model(spec, **options).SerializeToString(deterministic=True))


def write_model(path: Path, **changes: Any) -> Path:
    """Writes the file, its description changed so; returns its path."""
    path.write_bytes(model_bytes(make_spec(**changes)))
    return path


def with_metadata(text: str | None) -> bytes:
    """The valid graph with another description, or without one."""
    model = build_model()
    del model.metadata_props[:]
    if text is not None:
        helper.set_model_props(model, {METADATA_KEY: text})
    return bytes(model.SerializeToString(deterministic=True))


def described() -> dict[str, Any]:
    """The description as plain values, to be changed and written back."""
    values: dict[str, Any] = json.loads(make_spec().to_json())
    return values
