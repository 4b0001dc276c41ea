"""The files of a network published for TensorFlow.js: a list of TensorFlow's nodes, and weights in 8, 16 or 32 bits."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from agelens.errors import DamagedModelError, UnfitModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

STORED: Final = {"float32": "<f4", "int32": "<i4", "float16": "<f2", "uint8": "u1", "uint16": "<u2"}


@dataclass(frozen=True, slots=True)
class Node:
    """One of TensorFlow's nodes.

    Attributes:
        name: Its only output is called the same.
        op: What it does.
        inputs: Names of nodes or weights.
        attributes: As plain values; texts are decoded.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def read_nodes(model: bytes, *, name: str) -> tuple[list[Node], list[dict[str, Any]]]:
    """The nodes of a graph model's JSON file, and the list of its weights for `read_weights`.

    Raises:
        DamagedModelError: It is no such file.
    """
    try:
        content = json.loads(model)
        nodes = [
            Node(
                each["name"],
                each["op"],
                tuple(source.removesuffix(":0") for source in each.get("input", ())),
                {key: _read_attribute(value) for key, value in each.get("attr", {}).items()},
            )
            for each in content["modelTopology"]["node"]
        ]
        return nodes, [entry for group in content["weightsManifest"] for entry in group["weights"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedModelError(f"{name} is no graph model of TensorFlow.js ({error!r}); fetch it again") from error


def _read_attribute(value: Mapping[str, Any]) -> object:
    """`{"i": "2"}` or `{"list": {"s": [...]}}` as a plain value; what says nothing of computing is left as it is."""
    ((kind, content),) = value.items()
    if kind == "list":
        return [_read_attribute({inner: each}) for inner, several in content.items() for each in several]
    if kind == "i":
        return int(content)
    return base64.b64decode(content).decode() if kind == "s" else content


def read_weights(entries: Sequence[Mapping[str, Any]], data: bytes, *, name: str) -> dict[str, NDArray[Any]]:
    """The named weights as float32 or int32, restored where they are kept in fewer bits.

    Args:
        entries: Name, shape, type and, where they are quantised, the scale and the least value of each, in order.
        data: The bytes of all of them.
        name: How messages call the file.

    Raises:
        DamagedModelError: There are more or fewer bytes than the list says.
        UnfitModelError: They are kept in an unknown way.
    """
    found: dict[str, NDArray[Any]] = {}
    place = 0
    for entry in entries:
        quantised = entry.get("quantization", {})
        kept = quantised.get("dtype", entry["dtype"])
        if kept not in STORED or entry["dtype"] not in ("float32", "int32"):
            raise UnfitModelError(f"the weight {entry['name']} of {name} is {entry['dtype']} kept as {kept}: unknown")
        count = int(np.prod(entry["shape"], dtype=np.int64))
        end = place + count * np.dtype(STORED[kept]).itemsize
        if end > len(data):
            raise DamagedModelError(f"{name} ends {end - len(data):,} bytes too early; fetch it again")
        values = np.frombuffer(data[place:end], STORED[kept]).reshape(entry["shape"])
        if "scale" in quantised:
            values = values.astype(np.float64) * quantised["scale"] + quantised.get("min", 0.0)
        found[entry["name"]] = values.astype(np.int32 if entry["dtype"] == "int32" else np.float32)
        place = end
    if place != len(data):
        raise DamagedModelError(f"{name} has {len(data) - place:,} bytes more than its list says; fetch it again")
    return found
