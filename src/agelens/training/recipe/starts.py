"""Where training begins: the face recognition network of dlib, read from its own file.

Its scale and offset layers are BatchNorms whose statistics were folded in: see `unfold`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from agelens.training.networks import FaceNetwork, NetworkConfig
from agelens.training.unfold import measure_statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


RECOGNITION_CONFIG = NetworkConfig(size=150, widths=(32, 64, 128, 256, 256), blocks=(3, 4, 3, 3, 1), last_inner=256)
"""The layout of dlib's face recognition network, at the crop side that it was trained with."""


def load_recognition_start(config: NetworkConfig, model: bytes, batches: Sequence[Tensor]) -> FaceNetwork:
    """The face recognition network of dlib (D. King, CC0 1.0) as a start; its age and gender heads are fresh.

    Args:
        config: In the layout of `RECOGNITION_CONFIG`, the size apart.
        model: The bytes of `dlib_face_recognition_resnet_model_v1.dat`.
        batches: Normalised crops on which the BatchNorm statistics are measured.
    """
    network = FaceNetwork(config)
    pairs = network.convolutions()
    tensors = read_dlib_tensors(model)[: 2 * len(pairs)]  # the configuration may leave out the last stages
    kernels, scalings = tensors[0::2], tensors[1::2]
    affine: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}
    with torch.no_grad():
        for (conv, norm), kernel, scaling in zip(pairs, kernels, scalings, strict=True):
            count = conv.weight.numel()
            scale, offset = scaling[: conv.out_channels], scaling[conv.out_channels :]
            conv.weight.copy_(_flushed(kernel[:count].reshape(conv.weight.shape)))
            affine[norm] = (_flushed(scale), _flushed(offset + scale * kernel[count:]))
        measure_statistics(network, affine, batches)
    return network


def read_dlib_tensors(data: bytes) -> list[NDArray[np.float32]]:
    """The weight tensors of a dlib network file, in order from the input to the output.

    dlib writes a tensor as its version (2), four sizes and the numbers as little-endian float32; an integer is one byte
    with its length, then its bytes. Everything between tensors (layer names, settings) is passed over.
    """
    tensors: list[NDArray[np.float32]] = []
    place = 0
    while (place := data.find(b"\x01\x02", place)) >= 0:
        sizes, end = _read_integers(data, place + 2, 4)
        count = int(np.prod(sizes)) if sizes else 0
        if count >= 32 and end + 4 * count <= len(data):
            values = np.frombuffer(data, "<f4", count, end)
            if np.isfinite(values).all() and 1e-6 < np.abs(values).max() < 1e4:
                tensors.append(values)
                place = end + 4 * count
                continue
        place += 1
    return tensors


def _read_integers(data: bytes, place: int, count: int) -> tuple[list[int], int]:
    """So many positive integers in dlib's encoding and where they end; none where they are not that."""
    values = []
    for _ in range(count):
        length = data[place] if place < len(data) else 0
        if not 1 <= length <= 4:
            return [], place
        values.append(int.from_bytes(data[place + 1 : place + 1 + length], "little"))
        place += 1 + length
    return (values, place) if all(values) else ([], place)


def _flushed(values: NDArray[np.float32]) -> Tensor:
    """As a tensor, denormal numbers set to zero: they make arithmetic many times slower."""
    values = np.asarray(values, np.float32)
    return torch.from_numpy(np.where(np.abs(values) < 1e-30, np.float32(0), values))
