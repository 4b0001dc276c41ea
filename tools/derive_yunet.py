"""Makes the detector file that ships: YuNet 2023mar rearranged, every weight untouched.

The published file takes one picture of 640x640 as 32-bit numbers, and answers in twelve pieces, although the network
itself is convolutional and runs at any multiple of 32. Of it this makes one that

- takes any number of canvases of any such size, as bytes;
- computes the four heads of each level at once: they read the same input, and convolutions of 1 and of 4 channels cost
  as much as one of 16. Their kernels are put one after the other; each channel is computed from the same numbers;
- answers for the cells of all levels together, and multiplies the two probabilities itself.

Run: `python tools/derive_yunet.py PUBLISHED.onnx OUT.onnx` (needs the `train` extra for `onnx`).
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PUBLISHED_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
LEVELS = ("0", "1", "2")  # strides 8, 16 and 32
HEADS = ("cls", "obj", "bbox", "kps")
CHANNELS = 16  # of the four heads: 1, 1, 4 and 10


def derive(published: bytes) -> bytes:
    """The same network, rearranged as the module says."""
    digest = hashlib.sha256(published).hexdigest()
    if digest != PUBLISHED_SHA256:
        raise SystemExit(f"this is not the published YuNet 2023mar file: sha256 {digest}")
    model = onnx.load_from_string(published)
    kept = list(find_body(model.graph))
    kept[0].input[0] = "planes"
    weights = {weight.name: weight for weight in model.graph.initializer}
    inputs = {node.input[1]: node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    nodes = [helper.make_node("Cast", ["canvases"], ["planes"], to=TensorProto.FLOAT), *kept]
    used = [weights[name] for node in kept for name in node.input if name in weights]
    for level in LEVELS:
        parts = [f"{part}.{kind}" for part in ("conv1", "conv2") for kind in ("weight", "bias")]
        used.extend(join_heads(weights, level, part) for part in parts)
        features = inputs[f"bbox_head.multi_level_cls.{level}.conv1.weight"]
        nodes.extend(make_head(level, features))
    nodes.extend(
        (
            helper.make_node("Concat", [f"cells_{level}" for level in LEVELS], ["findings"], axis=2),
            helper.make_node("Slice", ["findings", "first", "second", "channel"], ["cls"]),
            helper.make_node("Slice", ["findings", "second", "third", "channel"], ["obj"]),
            helper.make_node("Sigmoid", ["cls"], ["face_here"]),
            helper.make_node("Sigmoid", ["obj"], ["box_fits"]),
            helper.make_node("Mul", ["face_here", "box_fits"], ["certainty"]),
        )
    )
    numbers = {"first": [0], "second": [1], "third": [2], "channel": [1], "flat": [0, CHANNELS, -1]}
    used.extend(numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items())
    graph = helper.make_graph(
        nodes,
        "yunet",
        [helper.make_tensor_value_info("canvases", TensorProto.UINT8, ["N", 3, "height", "width"])],
        [
            helper.make_tensor_value_info("certainty", TensorProto.FLOAT, ["N", 1, "cells"]),
            helper.make_tensor_value_info("findings", TensorProto.FLOAT, ["N", CHANNELS, "cells"]),
        ],
        list({weight.name: weight for weight in used}.values()),
    )
    derived = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(derived)
    data: bytes = derived.SerializeToString(deterministic=True)
    return data


def find_body(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes before the heads, in order."""
    after: set[str] = set()
    for node in graph.node:
        if any(name in after or name.startswith("bbox_head.") for name in node.input):
            after.update(node.output)
        else:
            yield node


def join_heads(weights: dict[str, TensorProto], level: str, part: str) -> TensorProto:
    """The four heads' weights of one convolution, or its biases, one after the other."""
    parts = [numpy_helper.to_array(weights[f"bbox_head.multi_level_{head}.{level}.{part}"]) for head in HEADS]
    return numpy_helper.from_array(np.concatenate(parts), f"heads.{level}.{part}")


def make_head(level: str, features: str) -> list[onnx.NodeProto]:
    """One level's four heads: the features' channels mixed, then each head's channels smoothed by themselves."""

    def convolve(source: str, part: str, **shape: Any) -> onnx.NodeProto:
        weights = [f"heads.{level}.{part}.weight", f"heads.{level}.{part}.bias"]
        return helper.make_node("Conv", [source, *weights], [f"{part}_{level}"], **shape)

    return [
        convolve(features, "conv1", kernel_shape=[1, 1]),
        convolve(f"conv1_{level}", "conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=CHANNELS),
        helper.make_node("Reshape", [f"conv2_{level}", "flat"], [f"cells_{level}"]),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("published", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.write_bytes(derive(arguments.published.read_bytes()))
