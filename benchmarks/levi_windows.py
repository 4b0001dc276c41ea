"""The published networks of Levi & Hassner (2015), one look at each face.

The weights are read as `agelens train --start` reads them (`agelens.training.caffe`); what they are trained for is the
middle of a wider picture, 227 of 256 pixels. Their authors also average ten looks at the corners, the middle and their
mirror images, which takes ten times as long (by their paper it is a percent better); `agelens export` does that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from onnx import TensorProto, helper
from tfjs import PICTURES

from agelens.modelspec import AGE_BINS
from agelens.training.build import rebuild_network
from agelens.training.caffe import MEAN, SUFFIX, read_caffemodel
from agelens.training.export import IR_VERSION, OPSET
from agelens.training.export_levi import add_layers
from agelens.training.graph import GraphWriter
from agelens.training.levi_hassner import WINDOW, LeviHassner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["SPREAD", "WINDOW", "build_networks", "feed"]

GROUPS: Final = ((0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 80))
"""The last one, 60 and older, stands for 60 to 80: its mean is then 70 years."""


def spread_groups() -> Floats:
    """How the probability of each group lies on the years, evenly, shape (8, 101)."""
    spread = np.zeros((len(GROUPS), AGE_BINS), np.float32)
    for row, (low, high) in zip(spread, GROUPS, strict=True):
        row[low : high + 1] = 1 / (high + 1 - low)
    return spread


SPREAD: Final = spread_groups()


def feed(crops: Floats) -> Floats:
    """Less the mean; the importer turned the first layer to red, green, blue."""
    return crops - np.array(MEAN, np.float32)


def build_networks(files: Mapping[str, bytes]) -> tuple[bytes, ...]:
    """Groups (N, 8), and male and female (N, 2), in the order of the files.

    Raises:
        ModelError: A file is no such network.
    """
    return tuple(_build(data) for data in files.values())


def _build(data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"net{SUFFIX}")
        file.write_bytes(data)
        weights, about = read_caffemodel(file)
    network = rebuild_network(about["kind"], about["network"], weights)
    assert isinstance(network, LeviHassner)
    graph = GraphWriter()
    answer = add_layers(graph, graph.add("Transpose", PICTURES, perm=[0, 3, 1, 2]), network)
    graph.add("Softmax", answer, axis=1, output="answer")
    made = helper.make_graph(
        graph.nodes,
        "levi-hassner",
        [helper.make_tensor_value_info(PICTURES, TensorProto.FLOAT, ["N", WINDOW, WINDOW, 3])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["N", network.fc3.out_features])],
        graph.weights,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString())
