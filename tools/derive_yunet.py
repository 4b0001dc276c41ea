"""Makes the detector file that ships: YuNet 2023mar with its input size left open, every weight untouched.

The published file declares an input of 640x640 and records the shapes of all inner tensors for that size, although the
network itself is convolutional and runs at any multiple of 32. This drops the recorded shapes and names the two open
dimensions. Run: `python tools/derive_yunet.py PUBLISHED.onnx OUT.onnx` (needs the `train` extra for `onnx`).
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import onnx

PUBLISHED_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


def open_dimension(dimension: onnx.TensorShapeProto.Dimension, name: str) -> None:
    """Replaces a fixed size by a named one."""
    dimension.Clear()
    dimension.dim_param = name


def derive(published: bytes) -> bytes:
    """The same network with open input height and width (multiples of 32)."""
    digest = hashlib.sha256(published).hexdigest()
    if digest != PUBLISHED_SHA256:
        raise SystemExit(f"this is not the published YuNet 2023mar file: sha256 {digest}")
    model = onnx.load_from_string(published)
    del model.graph.value_info[:]
    for dimension, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], ("height", "width"), strict=True):
        open_dimension(dimension, name)
    for output in model.graph.output:
        open_dimension(output.type.tensor_type.shape.dim[1], f"cells_{output.name.split('_')[1]}")
    return model.SerializeToString(deterministic=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("published", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.write_bytes(derive(arguments.published.read_bytes()))
