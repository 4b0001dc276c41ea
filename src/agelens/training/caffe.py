"""The published networks of Levi & Hassner (CVPRW 2015), read from their own `.caffemodel` files.

A `.caffemodel` is a protocol buffer (BVLC Caffe, `caffe.proto`): layers with names and blobs. What little of it holds
weights is read here, without OpenCV, Caffe or protobuf; the layout of the network is known, so its `.prototxt` is not
needed. Nothing in the file is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from agelens.align import CropGeometry
from agelens.errors import DamagedModelError, UnfitModelError
from agelens.training.levi_hassner import PICTURE, WINDOW, LeviHassnerConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Blobs = dict[str, list[NDArray[np.float32]]]

SUFFIX: Final = ".caffemodel"
MEAN: Final = (114.895847746, 87.7689143744, 78.4263377603)
"""Of red, green and blue, as the authors' scripts subtract them; nothing is divided."""
LAYERS: Final = {"conv1": "conv1", "conv2": "conv2", "conv3": "conv3", "fc6": "fc1", "fc7": "fc2", "fc8": "fc3"}
"""What the authors call each layer, and what it is called here."""
HEADS: Final = {8: ("age", "adience"), 12: ("age", "adience12"), 2: ("gender", "adience")}
"""Task and age groups by the number of outputs."""
GEOMETRY: Final = CropGeometry(WINDOW, 0.345, 0.313).widen(PICTURE / WINDOW, PICTURE)
"""The window is 1.05 times as high as YuNet's box of the face, which suits these networks best (UTKFace, 200 faces)."""

# Numbers of the fields in caffe.proto.
_V1_LAYERS, _LAYERS = 2, 100
_V1_NAME, _V1_BLOBS, _NAME, _BLOBS = 4, 6, 1, 7
_NUM, _CHANNELS, _HEIGHT, _WIDTH, _DATA, _SHAPE, _DIM = 1, 2, 3, 4, 5, 7, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS: Final = {_FIXED64: 8, _FIXED32: 4}


def read_caffemodel(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights under our network's names, and what they are, as our own checkpoints say it.

    Raises:
        DamagedModelError: The file was cut, or is none.
        UnfitModelError: It holds another network.
    """
    try:
        blobs = _read_blobs(memoryview(path.read_bytes()))
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise DamagedModelError(f"{path} is no whole {SUFFIX} ({error}); fetch it again") from error
    tensors: dict[str, Tensor] = {}
    for theirs, ours in LAYERS.items():
        if len(blobs.get(theirs, ())) != 2:
            raise UnfitModelError(
                f"{path} is not the network of Levi & Hassner: it has no layer {theirs} with weights and biases"
            )
        weight, bias = blobs[theirs]
        if ours.startswith("fc"):
            weight = weight.reshape(bias.size, -1)
        elif ours == "conv1":
            weight = weight[:, ::-1]  # it was trained on blue, green, red
        for name, value in (("weight", weight), ("bias", bias.reshape(-1))):
            tensors[f"{ours}.{name}"] = torch.from_numpy(np.ascontiguousarray(value))
    return tensors, _describe(path, len(tensors["fc3.bias"]))


def _describe(path: Path, outputs: int) -> dict[str, Any]:
    if outputs not in HEADS:
        raise UnfitModelError(f"{path} has {outputs} outputs; there are networks of 2 genders, 8 and 12 age groups")
    task, groups = HEADS[outputs]
    config = LeviHassnerConfig(task=task, groups=groups, mean=MEAN, scale=(1.0, 1.0, 1.0), ceil=True)
    return {
        "kind": "levi-hassner",
        "network": asdict(config),
        "task": task,
        "crop": GEOMETRY.to_dict(),
        "date": "2015",
        "training_data": [{"name": "Adience (Eidinger, Enbar & Hassner 2014)", "licence": "research only"}],
        "config": {"NETWORK": {"NAME": "levi-hassner"}},
    }


def _read_blobs(data: memoryview) -> Blobs:
    """The blobs of every layer that has any, in either of Caffe's two ways of writing layers."""
    found: Blobs = {}
    for number, value in _fields(data):
        if number not in (_V1_LAYERS, _LAYERS) or not isinstance(value, memoryview):
            continue
        name_field, blobs_field = (_V1_NAME, _V1_BLOBS) if number == _V1_LAYERS else (_NAME, _BLOBS)
        name, blobs = "", []
        for inner, content in _fields(value):
            if inner == name_field and isinstance(content, memoryview):
                name = str(content, "utf-8")
            elif inner == blobs_field and isinstance(content, memoryview):
                blobs.append(_read_blob(content))
        if blobs:
            found[name] = blobs
    if not found:
        raise ValueError("no layer in it holds weights")
    return found


def _read_blob(data: memoryview) -> NDArray[np.float32]:
    sizes: dict[int, int] = {}
    shape: list[int] = []
    parts: list[NDArray[np.float32]] = []
    for number, value in _fields(data):
        if number in (_NUM, _CHANNELS, _HEIGHT, _WIDTH) and isinstance(value, int):
            sizes[number] = value
        elif number == _SHAPE and isinstance(value, memoryview):
            shape = [size for field, dims in _fields(value) if field == _DIM for size in _integers(dims)]
        elif number == _DATA and isinstance(value, memoryview):
            parts.append(np.frombuffer(value, "<f4"))
    values = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return values.reshape(shape or [sizes.get(place, 1) for place in (_NUM, _CHANNELS, _HEIGHT, _WIDTH)])


def _integers(value: int | memoryview) -> Iterator[int]:
    """A repeated integer, packed or one by one."""
    if isinstance(value, int):
        yield value
        return
    place = 0
    while place < len(value):
        number, place = _varint(value, place)
        yield number


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: their numbers and contents; numbers of fixed width as their bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if kind == _BYTES:
            length, place = _varint(data, place)
        elif kind in _WIDTHS:
            length = _WIDTHS[kind]
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if place + length > len(data):
            raise ValueError(f"it ends {place + length - len(data):,} bytes too early")
        yield number, data[place : place + length]
        place += length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """An integer of seven bits a byte, the least first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number without an end")
