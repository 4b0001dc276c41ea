"""Made-up `.caffemodel` files in the layout of Levi & Hassner's, written byte by byte, and their `.prototxt`.

make_weights(outputs)           random weights under Caffe's names, as numpy arrays
write_caffemodel(path, ...)     a file of such weights, in either of Caffe's two ways
write_prototxt(path, outputs)   what OpenCV wants beside it
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Weights = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
SHAPES = {
    "conv1": (96, 3, 7, 7),
    "conv2": (256, 96, 5, 5),
    "conv3": (384, 256, 3, 3),
    "fc6": (512, 384 * 7 * 7),
    "fc7": (512, 512),
}


def make_weights(outputs: int, seed: int = 0) -> Weights:
    """He's deviations, so that answers are neither all alike nor all certain."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in {**SHAPES, "fc8": (outputs, 512)}.items():
        deviation = (2 / np.prod(shape[1:])) ** 0.5 / (20 if name == "conv1" else 1)
        weight = rng.standard_normal(shape, dtype=np.float32) * np.float32(deviation)
        found[name] = (weight, rng.standard_normal(shape[0], dtype=np.float32) * np.float32(0.1))
    return found


def write_caffemodel(path: Path, weights: Weights, *, new: bool = False) -> None:
    """Layers as V1LayerParameter with four sizes, or (`new`) as LayerParameter with a shape."""
    data = _field(1, b"CaffeNet")
    for name, blobs in weights.items():
        head = _field(1, name.encode()) + _field(2, b"Anything") if new else _field(4, name.encode()) + _number(5, 4)
        body = b"".join(_field(7 if new else 6, _blob(blob, new=new)) for blob in blobs)
        data += _field(100 if new else 2, head + body)
    path.write_bytes(data + _field(2, _field(4, b"relu1")))


def _blob(values: NDArray[np.float32], *, new: bool) -> bytes:
    if new:
        sizes = _field(7, _field(1, b"".join(_varint(size) for size in values.shape)))
    else:
        padded = (1,) * (4 - values.ndim) + values.shape
        sizes = b"".join(_number(place + 1, size) for place, size in enumerate(padded))
    return sizes + _field(5, values.astype("<f4").tobytes())


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def write_prototxt(path: Path, outputs: int) -> None:
    """The published network, layer by layer."""
    lines = ['name: "made"', 'input: "data"', "input_dim: 1", "input_dim: 3", "input_dim: 227", "input_dim: 227"]

    def layer(name: str, kind: str, below: str, above: str, parameters: str = "") -> None:
        lines.append(f'layer {{ name: "{name}" type: "{kind}" bottom: "{below}" top: "{above}" {parameters} }}')

    below = "data"
    for number, (count, side, more) in enumerate(((96, 7, "stride: 4"), (256, 5, "pad: 2"), (384, 3, "pad: 1")), 1):
        shape = f"convolution_param {{ num_output: {count} kernel_size: {side} {more} }}"
        layer(f"conv{number}", "Convolution", below, f"conv{number}", shape)
        layer(f"relu{number}", "ReLU", f"conv{number}", f"conv{number}")
        pool = "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"
        layer(f"pool{number}", "Pooling", f"conv{number}", f"pool{number}", pool)
        below = f"pool{number}"
        if number < 3:
            layer(
                f"norm{number}", "LRN", below, f"norm{number}", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"
            )
            below = f"norm{number}"
    for name, count in (("fc6", 512), ("fc7", 512), ("fc8", outputs)):
        layer(name, "InnerProduct", below, name, f"inner_product_param {{ num_output: {count} }}")
        if name != "fc8":
            layer(f"relu_{name}", "ReLU", name, name)
        below = name
    layer("prob", "Softmax", below, "prob")
    path.write_text("\n".join(lines) + "\n")
