"""A model file of ours as weights to begin with: what `export` wrote, read back.

The file holds no BatchNorms any more, they are part of its convolutions: see `unfold`. Its calibration is part of the
heads and stays there, but for how sure of gender it may be at each age: what has learned on needs its own, which is
fitted where there are labels enough.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from agelens.errors import DamagedModelError, UnfitModelError, UsageError
from agelens.modelspec import AGE_OUTPUT, METADATA_KEY, ModelSpec
from agelens.training.calibrate import Calibration
from agelens.training.export import build_graph
from agelens.training.foreign import Weights
from agelens.training.heritage import name_data
from agelens.training.networks import FaceNetwork, NetworkConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import nn


def read_model_weights(model: bytes, source: str) -> Weights:
    """The weights of a model file of a face network, in 32-bit numbers.

    Args:
        model: The file's bytes.
        source: What messages call it.

    Raises:
        DamagedModelError: It is no whole model file.
        UnfitModelError: It is none of ours, or of another network, or in 8-bit numbers.
    """
    try:
        found = onnx.load_from_string(model)
    except (DecodeError, onnx.checker.ValidationError, OSError) as error:
        raise DamagedModelError(f"{source} is no whole model file ({error}); fetch or export it again") from error
    described = {entry.key: entry.value for entry in found.metadata_props}.get(METADATA_KEY, "{}")
    spec = ModelSpec.from_json(described, name=source)
    try:
        network = _rebuild(found.graph, _find_dropout(spec))
        same = network.side == spec.crop.size and _is_same(
            build_graph(network, read_sureness(found.graph)), found.graph
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, UsageError):
        same = False
    if not same:
        raise UnfitModelError(
            f"{source} can't be learned on from: that goes with face networks in 32-bit numbers, such as agelens-base,"
            " and not with 8-bit numbers or other networks; begin with the weights that it was exported from"
        )
    about = {
        "kind": network.kind,
        "network": network.describe(),
        "task": "both" if len(spec.tasks) > 1 else spec.tasks[0],
        "crop": spec.crop.to_dict(),
        "training_data": list(spec.training_data),
        "seen": list(_list_seen(spec)),
        "decode": spec.decode,
        # Whoever learns on from restricted weights is restricted too.
        "terms": spec.licence if spec.terms else None,
    }
    return Weights(network.state_dict(), about, source, folded=True)


def _list_seen(spec: ModelSpec) -> Iterator[dict[str, Any]]:
    """See `heritage.inherit`."""
    yield from spec.recipe.get("seen", ())
    names = [entry.get("name", "") for entry in spec.training_data]
    if "data" in spec.recipe:
        own = name_data(spec.recipe["dataset"]) if "dataset" in spec.recipe else "; ".join(names)
        yield {"name": own, **{key: spec.recipe[key] for key in ("data", "held_out") if key in spec.recipe}}
    else:
        yield from ({"name": name} for name in names)


def _find_dropout(spec: ModelSpec) -> float:
    """The share that the network last learned labels with, where its recipe says it; of itself it learned without."""
    labelled = [course for course in spec.recipe.get("courses", ()) if not course.get("unspoiled")]
    return float(labelled[-1]["train"]["network"]["dropout"]) if labelled else NetworkConfig().dropout


def _rebuild(graph: onnx.GraphProto, dropout: float) -> FaceNetwork:
    """The network of a graph; whether it is the same is seen when it is written again."""
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise ValueError("its numbers lie in another file")
    known = _read_numbers(graph)
    convs = [node for node in graph.node if node.op_type == "Conv"]
    linears = [node for node in graph.node if node.op_type == "Gemm"]
    # A second opinion is written behind the heads.
    trunk = sum(node.op_type == "Conv" for node in itertools.takewhile(lambda node: node.op_type != "Gemm", graph.node))
    network = FaceNetwork(replace(_read_layout(graph, convs[:trunk], known), dropout=dropout))
    pairs = network.convolutions()
    with torch.no_grad():
        for (conv, norm), node in zip(pairs, convs[:trunk], strict=True):
            conv.weight.copy_(_tensor(known, node, 1))
            norm.weight.fill_((1 + norm.eps) ** 0.5)
            norm.bias.copy_(_tensor(known, node, 2))
        layers: list[nn.Conv2d | nn.Linear] = [network.age, network.gender]
        nodes = linears[:2]
        if network.second is not None:
            layers += [
                *cast("list[nn.Conv2d]", list(network.second.convs)),
                network.second.hidden,
                network.second.answer,
            ]
            nodes += [*convs[trunk:], *linears[2:]]
        for layer, node in zip(layers, nodes, strict=True):
            assert layer.bias is not None
            layer.weight.copy_(_tensor(known, node, 1))
            layer.bias.copy_(_tensor(known, node, 2))
    return network.eval()


def _read_numbers(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def read_sureness(graph: onnx.GraphProto) -> Calibration:
    """What of a file's calibration is not part of its heads: how sure it may be of gender in each year."""
    asked = [node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[0] == AGE_OUTPUT]
    if not asked:
        return Calibration()
    by_year = _read_numbers(graph)[asked[0]][:, 0]
    return Calibration(sureness=tuple((float(year), float(factor)) for year, factor in enumerate(by_year)))


def _read_layout(
    graph: onnx.GraphProto, trunk: Sequence[onnx.NodeProto], known: Mapping[str, NDArray[Any]]
) -> NetworkConfig:
    """The sizes of a network, by its kernels."""
    stem, *rest = (known[node.input[1]].shape for node in trunk)
    strides = [helper.get_node_attr_value(node, "strides")[0] for node in trunk[1::2]]
    widths, blocks = [stem[0]], [0]
    for stride, kernel in zip(strides, rest[1::2], strict=True):
        if stride > 1:
            widths.append(kernel[0])
            blocks.append(0)
        blocks[-1] += 1
    size = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    second = [node for node in graph.node if node.op_type == "Mul" and node.input[1] in known][1:]
    return NetworkConfig(
        size=size,
        widths=tuple(widths),
        blocks=tuple(blocks),
        last_inner=rest[-2][0],
        second=known[second[0].input[1]].item() if second else 0.0,
    )


def _tensor(known: Mapping[str, NDArray[Any]], node: onnx.NodeProto, place: int) -> torch.Tensor:
    return torch.from_numpy(known[node.input[place]].copy())


def _is_same(written: onnx.GraphProto, read: onnx.GraphProto) -> bool:
    """Whether a graph, written again, does what it did."""
    if list(written.node) != list(read.node) or len(written.initializer) != len(read.initializer):
        return False
    pairs = zip(written.initializer, read.initializer, strict=True)
    return all(
        first.name == second.name and np.allclose(numpy_helper.to_array(first), numpy_helper.to_array(second), 1e-5)
        for first, second in pairs
    )
