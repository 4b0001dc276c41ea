"""Checkpoint -> ONNX: the graph is written node by node, so it holds exactly what prediction needs.

BatchNorm is folded into the convolutions, the crop's normalisation and the calibration are part of the graph: uint8
RGB crops (N, size, size, 3) go in, age probabilities (N, 101) and the female probability (N,) come out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import nn

from agelens.modelspec import AGE_OUTPUT, GENDER_OUTPUT, INPUT, METADATA_KEY, ModelSpec
from agelens.training.export_levi import build_levi_graph
from agelens.training.graph import GraphWriter, make_graph, temper
from agelens.training.levi_hassner import LeviHassner
from agelens.training.networks import MEAN, SCALE, Block, FaceNetwork
from agelens.training.second_opinion import SIDE, SecondOpinion

if TYPE_CHECKING:
    from agelens.training.calibrate import Calibration
    from agelens.training.networks import Network

OPSET = 17
IR_VERSION = 8


def write_block(graph: GraphWriter, x: str, block: Block, side: int) -> tuple[str, int]:
    """A residual block on a square of `side`; returns its output and its side."""
    y = graph.add("Relu", graph.convolve(x, block.conv1, block.norm1))
    y = graph.convolve(y, block.conv2, block.norm2)
    if block.stride > 1:
        main, short = (side - 3) // block.stride + 1, side // block.stride
        x = graph.add("AveragePool", x, kernel_shape=[block.stride] * 2, strides=[block.stride] * 2)
        side = max(main, short)
        x = graph.pad(x, block.grown, side - short, side - short)
        y = graph.pad(y, 0, side - main, side - main)
    return graph.add("Relu", graph.add("Add", x, y)), side


def write_second(graph: GraphWriter, x: str, opinion: SecondOpinion, side: int) -> str:
    """A second opinion on normalised crops, `side` pixels wide; the name of its logits, shape (N, 1)."""
    reduction = [side // SIDE] * 2
    x = graph.add("AveragePool", x, kernel_shape=reduction, strides=reduction)
    for place, conv in enumerate(opinion.convs):
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        kernel, bias = (graph.constant(values.detach().numpy()) for values in (conv.weight, conv.bias))
        x = graph.add("Relu", graph.add("Conv", x, kernel, bias, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4))
        if place % 2:
            x = graph.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = graph.add("Flatten", x, axis=1)
    for linear in (opinion.hidden, opinion.answer):
        weight, bias = (graph.constant(values.detach().numpy()) for values in (linear.weight, linear.bias))
        x = graph.add("Gemm", x, weight, bias, transB=1)
        x = graph.add("Relu", x) if linear is opinion.hidden else x
    return x


def build_graph(network: FaceNetwork, calibration: Calibration) -> onnx.GraphProto:
    """The inference graph of a network."""
    graph, size = GraphWriter(), network.config.size
    x = graph.add("Transpose", graph.add("Cast", INPUT, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    x = graph.add("Sub", x, graph.constant(np.array(MEAN, np.float32).reshape(1, 3, 1, 1)))
    x = graph.add("Mul", x, graph.constant(np.array(1 / SCALE, np.float32)))
    normal = x
    x = graph.add("Relu", graph.convolve(x, network.stem, network.stem_norm))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    side = ((size - 7) // 2 + 1 - 3) // 2 + 1
    for block in network.body:
        assert isinstance(block, Block)
        x, side = write_block(graph, x, block, side)
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x), axis=1)

    age_weight = network.age.weight.detach().numpy() / calibration.age_temperature
    age_bias = network.age.bias.detach().numpy() / calibration.age_temperature
    logits = graph.add("Gemm", x, graph.constant(age_weight), graph.constant(age_bias), transB=1)
    graph.add("Softmax", logits, output=AGE_OUTPUT, axis=1)
    gender_weight = network.gender.weight.detach().numpy() * np.float32(calibration.gender_scale)
    gender_bias = network.gender.bias.detach().numpy() * np.float32(calibration.gender_scale) + calibration.gender_shift
    logit = graph.add(
        "Gemm", x, graph.constant(gender_weight), graph.constant(gender_bias.astype(np.float32)), transB=1
    )
    if network.second is not None:
        second = write_second(graph, normal, network.second, size)
        weight = np.array(network.config.second * calibration.gender_scale, np.float32)
        logit = graph.add("Add", logit, graph.add("Mul", second, graph.constant(weight)))
    probability = graph.add("Sigmoid", temper(graph, logit, calibration))
    graph.add("Squeeze", probability, graph.constant(np.array([1], np.int64)), output=GENDER_OUTPUT)
    return make_graph(graph, size)


def export_onnx(network: Network, calibration: Calibration, spec: ModelSpec) -> bytes:
    """The model file's bytes: the same for the same weights, so that its SHA-256 names them.

    Args:
        network: In evaluation mode; its weights are only read.
        calibration: What its answers are corrected by.
        spec: What the file says of itself.
    """
    return pack_model(write_graph(network, calibration), spec)


def write_graph(network: Network, calibration: Calibration) -> onnx.GraphProto:
    """The inference graph of a network of any kind."""
    if isinstance(network, FaceNetwork):
        return build_graph(network, calibration)
    assert isinstance(network, LeviHassner)
    return build_levi_graph(network, calibration)


def pack_model(graph: onnx.GraphProto, spec: ModelSpec) -> bytes:
    """A graph with its description, checked, as bytes that are the same every time."""
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, producer_name="agelens")
    model.ir_version = IR_VERSION
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
