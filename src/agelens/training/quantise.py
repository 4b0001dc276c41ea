"""A model file in 8-bit integers, and what that costs, measured on faces."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from agelens.estimate import OnnxEstimator
from agelens.modelspec import INPUT, METADATA_KEY
from agelens.training.batches import still_crops
from agelens.training.calibrate import decode_years

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.modelspec import ModelSpec
    from agelens.training.batches import Lessons

SEEN = 256
"""Faces from which the ranges of the activations are taken."""
MEASURED = 2000


def crops_for(lessons: Lessons, rows: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """RGB crops (N, size, size, 3) as prediction would cut them."""
    wider = lessons.crops.geometry.size / size
    return still_crops(lessons.crops, rows, lessons.widening if wider > 1 else 1.0, size)


class _Faces(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, crops: NDArray[np.uint8]) -> None:
        self._batches = iter([crops[start : start + 16] for start in range(0, len(crops), 16)])

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def quantise(model: bytes, spec: ModelSpec, lessons: Lessons, rows: NDArray[np.int64]) -> bytes:
    """The same model with 8-bit weights (per channel) and activations; the last layers' sums stay exact.

    Its first convolution stays in float32: it holds 1% of the weights, and in 8 bits what it gives costs
    `agelens-nano` two points of FairFace's bands and a quarter of a year.

    Args:
        model: The file's bytes.
        spec: What the result says of itself.
        lessons: Hold faces.
        rows: Which of them may be looked at.
    """
    crops = crops_for(lessons, rows[:: max(len(rows) // SEEN, 1)][:SEEN], spec.crop.size)
    before = logging.root.level
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, small = (Path(folder) / name for name in ("plain.onnx", "ready.onnx", "small.onnx"))
        plain.write_bytes(model)
        logging.root.setLevel(logging.ERROR)  # it warns of what is done here on purpose
        try:
            quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
            first = _name_first_convolution(ready)
            quantize_static(
                str(ready),
                str(small),
                _Faces(crops),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
                nodes_to_exclude=[first],
            )
        finally:
            logging.root.setLevel(before)
        made = onnx.load(small)
    del made.metadata_props[:]
    onnx.helper.set_model_props(made, {METADATA_KEY: spec.to_json()})
    return bytes(made.SerializeToString(deterministic=True))


def _name_first_convolution(file: Path) -> str:
    """The name of a model's first convolution, which is given one; the quantiser knows nodes by their names."""
    model = onnx.load(file)
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    first.name = "first convolution"
    onnx.save(model, file)
    return str(first.name)


def ask_model(
    model: OnnxEstimator, lessons: Lessons, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a model file says of some faces: years (N, 101) and female probability (N,)."""
    parts = [
        model.estimate(crops_for(lessons, rows[start : start + 64], model.spec.crop.size))
        for start in range(0, len(rows), 64)
    ]
    years, female = (np.concatenate([getattr(part, name) for part in parts]) for name in ("ages", "female"))
    return years.astype(np.float64), female.astype(np.float64)


def compare_models(plain: bytes, small: bytes, lessons: Lessons, rows: NDArray[np.int64]) -> dict[str, float]:
    """What 8 bits cost: differences of the answers, and errors of both where labels are known."""
    first, second = OnnxEstimator(plain, name="float32"), OnnxEstimator(small, name="int8")
    rows = rows[:: max(len(rows) // MEASURED, 1)][:MEASURED]
    (ages, f), (other_ages, g) = (ask_model(estimator, lessons, rows) for estimator in (first, second))
    a, b = (decode_years(each, first.spec.decode) for each in (ages, other_ages))
    cost = {"faces": len(rows), "bytes": len(small), "float32_bytes": len(plain)}
    found: dict[str, float] = {**cost, "mean_years_moved": float(np.abs(a - b).mean())}
    found["genders_changed"] = float(((f >= 0.5) != (g >= 0.5)).mean())
    low, high, female = (getattr(lessons.crops, name)[rows] for name in ("age_low", "age_high", "female"))
    exact, known = low == high, ~np.isnan(female)
    if exact.any() and "age" in first.spec.tasks:
        found["mae"], found["float32_mae"] = (float(np.abs(x - low)[exact].mean()) for x in (b, a))
    if known.any() and "gender" in first.spec.tasks:
        found["gender_accuracy"], found["float32_gender_accuracy"] = (
            float(((x >= 0.5) == (female >= 0.5))[known].mean()) for x in (g, f)
        )
    return found
