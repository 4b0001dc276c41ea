"""Networks published for TensorFlow.js, as ONNX graphs that onnxruntime runs.

Exactly the operations that the published age and gender networks use are known here; any other is refused.

TensorFlow holds pictures as (N, H, W, C), ONNX convolves (N, C, H, W). A picture is turned where it first meets a
convolution or a pooling, stays so through everything that treats all places alike, and is turned back before what minds
the order. Padding is TensorFlow's: where `SAME` needs an odd number of rows, the last side gets the one more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from agelens.errors import UnfitModelError
from agelens.training.export import IR_VERSION, OPSET
from agelens.training.graph import GraphWriter
from agelens.training.recipe.tfjs_files import Node

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Weights = Mapping[str, NDArray[Any]]

PICTURES: Final = "pictures"
"""The input of every converted network: float32, (N, H, W, C)."""
PADDINGS: Final = {"SAME": "SAME_UPPER", "VALID": "VALID"}
TO_CHANNELS_FIRST, TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
ALONE: Final = {"Relu": "Relu", "Tanh": "Tanh", "Sigmoid": "Sigmoid", "Identity": "Identity"}
PAIRED: Final = {
    **{"Add": "Add", "AddV2": "Add", "BiasAdd": "Add", "Mul": "Mul", "RealDiv": "Div"},
    **{"Minimum": "Min", "Maximum": "Max"},
}
"""TensorFlow's names of what is done number by number, and ONNX's."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A value of the ONNX graph; `turned` are pictures as (N, C, H, W)."""

    name: str
    turned: bool


def convert(nodes: Sequence[Node], weights: Weights, shape: tuple[int, int, int], outputs: Sequence[str]) -> bytes:
    """The network as an ONNX file that takes `PICTURES`.

    Args:
        nodes: In any order.
        weights: By name.
        shape: Height, width and channels of a picture.
        outputs: Names of the nodes whose values, (N, width) each, are wanted, in that order.

    Raises:
        UnfitModelError: It holds an operation, or a use of one, that is not known here, or a node lacks its input.
    """
    converter = _Converter(weights)
    for node in _sort(nodes, weights, outputs):
        converter.add(node)
    model = helper.make_model(
        converter.finish(shape, outputs), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _sort(nodes: Sequence[Node], weights: Weights, outputs: Sequence[str]) -> Iterator[Node]:
    """What the outputs need, each node behind its inputs."""
    by_name = {node.name: node for node in nodes if node.op != "Const"}
    needed, open_names = set[str](), list(outputs)
    while open_names:
        name = open_names.pop()
        if name in needed or name in weights:
            continue
        if name not in by_name:
            raise UnfitModelError(f"the graph has neither a node nor a weight {name}")
        needed.add(name)
        open_names.extend(by_name[name].inputs)
    sorter = TopologicalSorter(
        {name: [source for source in by_name[name].inputs if source in needed] for name in sorted(needed)}
    )
    try:
        yield from (by_name[name] for name in sorter.static_order())
    except CycleError as error:
        raise UnfitModelError("the graph runs in a circle") from error


class _Converter:
    """Adds node by node to an ONNX graph.

    Args:
        weights: By name.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._graph = GraphWriter()
        self._values: dict[str, _Held] = {}
        self._seen: dict[tuple[str, bool], str] = {}
        self._known: dict[str, Callable[[Node], _Held]] = {
            "Placeholder": lambda _: _Held(PICTURES, turned=False),
            **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative", "_FusedConv2D"), self._convolve),
            **dict.fromkeys(("MatMul", "_FusedMatMul"), self._multiply),
            **dict.fromkeys(("MaxPool", "AvgPool"), self._pool),
            **dict.fromkeys(ALONE, self._alone),
            **dict.fromkeys(PAIRED, self._pair),
            **{"Mean": self._average, "Softmax": self._softmax, "Reshape": self._reshape},
            **{"StridedSlice": self._slice, "ExpandDims": self._expand},
        }

    def add(self, node: Node) -> None:
        if node.op not in self._known:
            raise UnfitModelError(
                f"the node {node.name} does {node.op}, which is not among the operations known here:"
                f" {', '.join(sorted(self._known))}"
            )
        if not node.inputs and node.op != "Placeholder":
            raise UnfitModelError(f"the node {node.name} ({node.op}) has no input")
        self._values[node.name] = self._fuse(node, self._known[node.op](node))

    def finish(self, shape: tuple[int, int, int], outputs: Sequence[str]) -> onnx.GraphProto:
        """The graph with its input and outputs."""
        named = [self._graph.add("Identity", self._plain(name), output=f"output{i}") for i, name in enumerate(outputs)]
        return helper.make_graph(
            self._graph.nodes,
            "published",
            [helper.make_tensor_value_info(PICTURES, TensorProto.FLOAT, ["N", *shape])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", f"{name}_width"]) for name in named],
            self._graph.weights,
        )

    def _hold(self, name: str) -> _Held:
        """The value of a node, or a weight."""
        if name not in self._values:
            self._values[name] = _Held(self._graph.constant(self._weights[name]), turned=False)
        return self._values[name]

    def _see(self, name: str, *, turned: bool) -> str:
        """A value in the wanted order."""
        held = self._hold(name)
        if held.turned == turned:
            return held.name
        if (held.name, turned) not in self._seen:
            order = TO_CHANNELS_FIRST if turned else TO_CHANNELS_LAST
            self._seen[held.name, turned] = self._graph.add("Transpose", held.name, perm=order)
        return self._seen[held.name, turned]

    def _plain(self, name: str) -> str:
        return self._see(name, turned=False)

    def _constant(self, node: Node, place: int) -> NDArray[Any]:
        """An input that must be a weight."""
        if len(node.inputs) <= place or node.inputs[place] not in self._weights:
            raise UnfitModelError(f"input {place} of the node {node.name} ({node.op}) is no weight")
        return self._weights[node.inputs[place]]

    def _integers(self, node: Node, place: int) -> NDArray[np.int64]:
        return np.atleast_1d(self._constant(node, place)).astype(np.int64)

    def _window(self, node: Node, key: str) -> list[int]:
        """Rows and columns of an attribute that has a number for each of (N, H, W, C)."""
        if node.attributes.get("data_format", "NHWC") != "NHWC":
            raise UnfitModelError(f"the node {node.name} holds pictures as {node.attributes['data_format']}")
        first, rows, columns, last = node.attributes.get(key, [1, 1, 1, 1])
        if (first, last) != (1, 1):
            raise UnfitModelError(f"the node {node.name} has {key} across pictures or channels")
        return [rows, columns]

    def _padding(self, node: Node) -> str:
        if node.attributes.get("padding") not in PADDINGS:
            raise UnfitModelError(f"the node {node.name} pads in an unknown way: {node.attributes.get('padding')}")
        return PADDINGS[node.attributes["padding"]]

    def _convolve(self, node: Node) -> _Held:
        kernel = self._constant(node, 1)
        if self._window(node, "dilations") != [1, 1]:
            raise UnfitModelError(f"the node {node.name} is a dilated convolution")
        rows, columns, inner, outer = kernel.shape
        groups = inner if node.op.startswith("Depthwise") else 1
        # Of a depthwise kernel the last number counts the outputs of each channel.
        order = kernel.transpose(2, 3, 0, 1) if groups > 1 else kernel.transpose(3, 2, 0, 1)
        kernel = order.reshape(-1, 1 if groups > 1 else inner, rows, columns)
        assert len(kernel) == (inner * outer if groups > 1 else outer)
        convolved = self._graph.add(
            "Conv",
            *(self._see(node.inputs[0], turned=True), self._graph.constant(kernel)),
            kernel_shape=[rows, columns],
            strides=self._window(node, "strides"),
            auto_pad=self._padding(node),
            group=groups,
        )
        return _Held(convolved, turned=True)

    def _multiply(self, node: Node) -> _Held:
        if node.attributes.get("transpose_a") or node.attributes.get("transpose_b"):
            raise UnfitModelError(f"the node {node.name} multiplies by a turned matrix")
        matrix = self._graph.constant(self._constant(node, 1))
        return _Held(self._graph.add("MatMul", self._plain(node.inputs[0]), matrix), turned=False)

    def _fuse(self, node: Node, value: _Held) -> _Held:
        """What TensorFlow does in the same breath: a bias is the third input."""
        for fused in node.attributes.get("fused_ops", []):
            if fused == "BiasAdd":
                bias = self._broadcast(node, self._constant(node, 2), turned=value.turned)
                value = _Held(self._graph.add("Add", value.name, bias), value.turned)
            elif fused in ALONE:
                value = _Held(self._graph.add(ALONE[fused], value.name), value.turned)
            else:
                raise UnfitModelError(f"the node {node.name} ({node.op}) has {fused} fused into it, which is not known")
        return value

    def _broadcast(self, node: Node, weight: NDArray[Any], *, turned: bool) -> str:
        """A weight that meets a value number by number: one number, or one for each channel."""
        if turned and weight.ndim > 1:
            raise UnfitModelError(f"the node {node.name} ({node.op}) adds {weight.shape} to pictures")
        return self._graph.constant(weight.reshape(-1, 1, 1) if turned and weight.ndim else weight)

    def _alone(self, node: Node) -> _Held:
        held = self._hold(node.inputs[0])
        return _Held(self._graph.add(ALONE[node.op], held.name), held.turned)

    def _pair(self, node: Node) -> _Held:
        moving = [self._values[name] for name in node.inputs if name not in self._weights]
        turned = bool(moving) and all(value.turned for value in moving)
        pair = [
            self._broadcast(node, self._weights[name], turned=turned)
            if name in self._weights
            else self._see(name, turned=turned)
            for name in node.inputs
        ]
        return _Held(self._graph.add(PAIRED[node.op], *pair), turned)

    def _pool(self, node: Node) -> _Held:
        pooled = self._graph.add(
            "MaxPool" if node.op == "MaxPool" else "AveragePool",
            self._see(node.inputs[0], turned=True),
            kernel_shape=self._window(node, "ksize"),
            strides=self._window(node, "strides"),
            auto_pad=self._padding(node),
        )
        return _Held(pooled, turned=True)

    def _average(self, node: Node) -> _Held:
        axes = self._integers(node, 1).tolist()
        keep = bool(node.attributes.get("keep_dims"))
        if sorted(axes) == [1, 2] and self._hold(node.inputs[0]).turned:
            name = self._see(node.inputs[0], turned=True)
            return _Held(self._graph.add("ReduceMean", name, axes=[2, 3], keepdims=int(keep)), turned=keep)
        name = self._plain(node.inputs[0])
        return _Held(self._graph.add("ReduceMean", name, axes=axes, keepdims=int(keep)), turned=False)

    def _softmax(self, node: Node) -> _Held:
        return _Held(self._graph.add("Softmax", self._plain(node.inputs[0]), axis=-1), turned=False)

    def _reshape(self, node: Node) -> _Held:
        shape = self._graph.constant(self._integers(node, 1))
        return _Held(self._graph.add("Reshape", self._plain(node.inputs[0]), shape), turned=False)

    def _expand(self, node: Node) -> _Held:
        axes = self._graph.constant(self._integers(node, 1))
        return _Held(self._graph.add("Unsqueeze", self._plain(node.inputs[0]), axes), turned=False)

    def _slice(self, node: Node) -> _Held:
        """x[begin:end:step], where a bit in a mask leaves out a bound or takes a single place."""
        if node.attributes.get("ellipsis_mask") or node.attributes.get("new_axis_mask"):
            raise UnfitModelError(f"the node {node.name} slices with an ellipsis or a new axis")
        begin, end, step = (self._integers(node, place).copy() for place in (1, 2, 3))
        if (step < 1).any():
            raise UnfitModelError(f"the node {node.name} slices backwards")
        single = []
        for axis in range(len(begin)):
            bit = 1 << axis
            if node.attributes.get("shrink_axis_mask", 0) & bit:
                single.append(axis)
                end[axis] = begin[axis] + 1 if begin[axis] != -1 else np.iinfo(np.int64).max
                continue
            if node.attributes.get("begin_mask", 0) & bit:
                begin[axis] = 0
            if node.attributes.get("end_mask", 0) & bit:
                end[axis] = np.iinfo(np.int64).max
        bounds = [self._graph.constant(value) for value in (begin, end, np.arange(len(begin)), step)]
        cut = self._graph.add("Slice", self._plain(node.inputs[0]), *bounds)
        if single:
            cut = self._graph.add("Squeeze", cut, self._graph.constant(np.array(single, np.int64)))
        return _Held(cut, turned=False)
