"""The network of Levi & Hassner as an ONNX graph that `predict` runs: crops of 256 pixels in, 101 years out.

The over-sampling is part of the graph: five windows and their mirror images, their probabilities averaged. The groups'
probabilities are spread over the years by a constant matrix (see `classes`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from agelens.modelspec import AGE_BINS, AGE_OUTPUT, GENDER_OUTPUT, INPUT
from agelens.training.graph import GraphWriter, make_graph, temper
from agelens.training.levi_hassner import PICTURE, WINDOW
from agelens.training.response_norm import ALPHA, BETA, SIZE

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from agelens.training.calibrate import Calibration
    from agelens.training.levi_hassner import LeviHassner

VIEWS = 10


def build_levi_graph(network: LeviHassner, calibration: Calibration) -> onnx.GraphProto:
    """The inference graph of a network."""
    graph = GraphWriter()
    x = graph.add("Transpose", graph.add("Cast", INPUT, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    x = graph.add("Sub", x, graph.constant(np.array(network.mean, np.float32).reshape(1, 3, 1, 1)))
    x = graph.add("Mul", x, graph.constant((1 / np.array(network.scale)).astype(np.float32).reshape(1, 3, 1, 1)))
    x = graph.add("Concat", *_windows(graph, x), axis=0)
    x = add_layers(graph, x, network)
    count = network.age_outputs
    if count:
        groups = _average(graph, graph.add("Softmax", _columns(graph, x, 0, count), axis=1), count)
    else:  # it knows nothing of ages: every year is as probable as any other
        groups = _average(graph, graph.add("Softmax", _columns(graph, x, 0, 1), axis=1), 1)
    spread = network.classes.spread if count else np.full((1, AGE_BINS), 1 / AGE_BINS, np.float32)
    graph.add("MatMul", groups, graph.constant(spread), output=AGE_OUTPUT)
    if network.config.task == "age":
        half = graph.add("Mul", _columns(graph, groups, 0, 1), graph.constant(np.array(0, np.float32)))
        female = graph.add("Add", half, graph.constant(np.array(0.5, np.float32)))
    else:
        genders = graph.add("Softmax", _columns(graph, x, count, count + 2), axis=1)
        female = _calibrate(graph, _columns(graph, _average(graph, genders, 2), 1, 2), calibration)
    graph.add("Squeeze", female, graph.constant(np.array([1], np.int64)), output=GENDER_OUTPUT)
    return make_graph(graph, PICTURE)


def add_layers(graph: GraphWriter, x: str, network: LeviHassner) -> str:
    """All layers of a network, from windows without their mean, (N, 3, 227, 227), to the answers before the softmax."""
    for conv, has_norm in ((network.conv1, True), (network.conv2, True), (network.conv3, False)):
        x = _convolve(graph, x, conv, ceil=network.config.ceil)
        if has_norm:
            x = graph.add("LRN", x, size=SIZE, alpha=ALPHA, beta=BETA, bias=1.0)
    x = graph.add("Flatten", x, axis=1)
    x = graph.add("Relu", _dense(graph, x, network.fc1))
    x = graph.add("Relu", _dense(graph, x, network.fc2))
    return _dense(graph, x, network.fc3)


def _windows(graph: GraphWriter, x: str) -> list[str]:
    edge = PICTURE - WINDOW
    places = ((0, 0), (0, edge), (edge, 0), (edge, edge), (edge // 2, edge // 2))
    axes = graph.constant(np.array([2, 3], np.int64))
    straight = []
    for top, left in places:
        first = graph.constant(np.array([top, left], np.int64))
        last = graph.constant(np.array([top + WINDOW, left + WINDOW], np.int64))
        straight.append(graph.add("Slice", x, first, last, axes))
    backwards = [np.array([value], np.int64) for value in (-1, -(WINDOW + 1), 3, -1)]
    constants = [graph.constant(value) for value in backwards]
    return straight + [graph.add("Slice", window, *constants) for window in straight]


def _convolve(graph: GraphWriter, x: str, conv: nn.Conv2d, *, ceil: bool) -> str:
    kernel = conv.weight.detach().numpy()
    assert conv.bias is not None
    padding = int(conv.padding[0])
    x = graph.add(
        "Conv",
        *(x, graph.constant(kernel), graph.constant(conv.bias.detach().numpy())),
        kernel_shape=list(kernel.shape[2:]),
        strides=list(conv.stride),
        pads=[padding] * 4,
    )
    return graph.add("MaxPool", graph.add("Relu", x), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=int(ceil))


def _dense(graph: GraphWriter, x: str, layer: nn.Linear) -> str:
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return graph.add("Gemm", x, graph.constant(weight), graph.constant(bias), transB=1)


def _columns(graph: GraphWriter, x: str, first: int, last: int) -> str:
    bounds = [graph.constant(np.array([value], np.int64)) for value in (first, last, 1)]
    return graph.add("Slice", x, *bounds)


def _average(graph: GraphWriter, x: str, width: int) -> str:
    """The mean over the views of probabilities, (views * N, width) -> (N, width)."""
    shape = graph.constant(np.array([VIEWS, -1, width], np.int64))
    return graph.add("ReduceMean", graph.add("Reshape", x, shape), axes=[0], keepdims=0)


def _calibrate(graph: GraphWriter, probability: str, calibration: Calibration) -> str:
    """sigmoid(scale * logit(p) + shift), as sure as is said at the ages of a face."""

    def constant(value: float) -> str:
        return graph.constant(np.array(value, np.float32))

    p = graph.add("Clip", probability, constant(1e-7), constant(1 - 1e-7))
    logit = graph.add("Sub", graph.add("Log", p), graph.add("Log", graph.add("Sub", constant(1.0), p)))
    scaled = graph.add("Mul", logit, constant(calibration.gender_scale))
    corrected = graph.add("Add", scaled, constant(calibration.gender_shift))
    return graph.add("Sigmoid", temper(graph, corrected, calibration))
