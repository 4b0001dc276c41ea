"""An ONNX graph between the inputs and outputs that model files promise, collected node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from agelens.modelspec import AGE_BINS, AGE_OUTPUT, GENDER_OUTPUT, INPUT

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray
    from torch import nn

    from agelens.training.calibrate import Calibration


class GraphWriter:
    """Collects nodes and weights."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: float | str | list[int]) -> str:
        """Adds a node; returns the name of its output."""
        output = output or f"t{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [output])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self.nodes.append(node)
        return output

    def constant(self, value: NDArray[Any]) -> str:
        """Adds a weight; denormal numbers become zero. Returns its name."""
        if value.dtype == np.float32:
            value = np.where(np.abs(value) < 1e-30, np.float32(0), value)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def convolve(self, x: str, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> str:
        """A convolution with its normalisation folded in."""
        kernel, bias = fold(conv, norm)
        padding = conv.padding[0] if isinstance(conv.padding, tuple) else 0
        return self.add(
            "Conv",
            *(x, self.constant(kernel), self.constant(bias)),
            kernel_shape=list(kernel.shape[2:]),
            strides=list(conv.stride),
            pads=[padding] * 4,
        )

    def pad(self, x: str, channels: int, rows: int, columns: int) -> str:
        """Appends zeros to the channels, rows and columns."""
        if not channels and not rows and not columns:
            return x
        pads = np.array([0, 0, 0, 0, 0, channels, rows, columns], np.int64)
        return self.add("Pad", x, self.constant(pads), mode="constant")


def temper(graph: GraphWriter, logit: str, calibration: Calibration) -> str:
    """A corrected gender logit (N, 1), made as sure as the calibration says at the ages of a face."""
    if not calibration.sureness:
        return logit
    by_year = calibration.sureness_by_year.astype(np.float32)[:, None]
    return graph.add("Mul", logit, graph.add("MatMul", AGE_OUTPUT, graph.constant(by_year)))


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel and bias of a convolution followed by its normalisation, as one convolution."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    kernel = conv.weight * factor[:, None, None, None]
    bias = norm.bias - norm.running_mean * factor
    return kernel.detach().numpy(), bias.detach().numpy()


def make_graph(graph: GraphWriter, size: int) -> onnx.GraphProto:
    """The collected nodes between the inputs and outputs of the contract."""
    return helper.make_graph(
        graph.nodes,
        "agelens",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", size, size, 3])],
        [
            helper.make_tensor_value_info(AGE_OUTPUT, TensorProto.FLOAT, ["N", AGE_BINS]),
            helper.make_tensor_value_info(GENDER_OUTPUT, TensorProto.FLOAT, ["N"]),
        ],
        graph.weights,
    )
