"""Model files as a start: read back they answer as before, learn on, hand down what they have seen and their terms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from agelens.align import CropGeometry
from agelens.datasets.manifest_file import read_manifest
from agelens.errors import DamagedModelError, NotFoundError, UnfitModelError
from agelens.estimate import OnnxEstimator
from agelens.evaluation.leaks import find_leak_reasons
from agelens.evaluation.protocol import default_protocol, load_protocol
from agelens.modelspec import is_restricted
from agelens.training import finish, publish
from agelens.training.calibrate import Calibration, softmax
from agelens.training.checkpoint import load_checkpoint
from agelens.training.config_file import make_config, merge
from agelens.training.course import run_training
from agelens.training.export import export_onnx
from agelens.training.foreign import Weights, read_weights
from agelens.training.heritage import inherit, list_data, settle_licence
from agelens.training.judge import predict_crops
from agelens.training.levi_hassner import LeviHassner, LeviHassnerConfig
from agelens.training.listeners import Listeners
from agelens.training.material import find_geometry, open_data
from agelens.training.networks import FaceNetwork, NetworkConfig, normalise
from agelens.training.publish import UNSTATED, ExportOptions, export_checkpoint
from agelens.training.reopen import read_model_weights, read_sureness
from agelens.training.unfold import unfold
from agelens.zoo import read_model
from command import run
from stand_in import make_spec
from training_makers import SETTINGS, make_manifest, train

pytestmark = pytest.mark.filterwarnings("ignore::agelens.errors.TermsWarning")
RESEARCH = Path(__file__).parents[1] / "weights/agelens-research.onnx"
SHORT = {"hyperparameters": {"epochs": 1, "optimizer": {"lr": 1e-5}}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_manifest(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    rng = np.random.default_rng(4)
    smooth = rng.normal(0, 40, (40, 6, 6, 3)).repeat(16, axis=1).repeat(16, axis=2)
    return np.clip(128 + smooth + rng.normal(0, 12, (40, 96, 96, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=["agelens-base", str(RESEARCH)])
def model(request: pytest.FixtureRequest) -> tuple[bytes, str]:
    return read_model(request.param), request.param


def rebuilt(model: bytes, source: str) -> FaceNetwork:
    weights = read_model_weights(model, source)
    network = FaceNetwork(NetworkConfig.from_dict(weights.about["network"]))
    network.load_state_dict(weights.tensors)
    return network.eval()


def assert_alike(network: FaceNetwork, model: bytes, crops: np.ndarray, tolerance: float = 1e-4) -> None:
    ages, genders = predict_crops(network, crops)
    answer = OnnxEstimator(model, name="model").estimate(crops)
    years = softmax(ages.astype(float))
    assert np.abs(years - answer.ages).max() < tolerance
    left = read_sureness(onnx.load_from_string(model).graph)
    assert np.abs(left.tell_female(genders.astype(float), years) - answer.female).max() < tolerance


def batches(crops: np.ndarray) -> list[torch.Tensor]:
    return list(torch.split(normalise(torch.from_numpy(crops).permute(0, 3, 1, 2).float()), 16))


def test_read_back_a_model_answers_as_its_file_does(model, crops) -> None:
    weights = read_model_weights(*model)
    assert weights.folded
    assert weights.about["crop"] == OnnxEstimator(model[0], name="model").spec.crop.to_dict()
    assert_alike(rebuilt(*model), model[0], crops)


def test_unfolded_it_answers_the_same_while_it_learns_too(model, crops) -> None:
    network = rebuilt(*model)
    folded = network.features(batches(crops)[0])
    network.train()
    lost = (network.features(batches(crops)[0]) - folded).abs().mean() / folded.abs().mean()
    network = rebuilt(*model)
    unfold(network, [torch.cat(batches(crops))])
    assert_alike(network, model[0], crops)
    network.train()
    whole = torch.cat(batches(crops))
    learning = network.features(whole)
    network = rebuilt(*model)
    kept = (learning - network.features(whole)).abs().mean() / network.features(whole).abs().mean()
    assert kept < 1e-3 < 0.2 < lost


def test_exported_again_it_is_the_same_graph(model, crops) -> None:
    network = rebuilt(*model)
    spec = OnnxEstimator(model[0], name="model").spec
    again = export_onnx(network, read_sureness(onnx.load_from_string(model[0]).graph), spec)
    first, second = (onnx.load_from_string(data).graph for data in (model[0], again))
    assert list(first.node) == list(second.node)
    assert_alike(network, again, crops)


def test_how_sure_a_file_may_be_of_gender_is_no_part_of_what_learns_on(model, crops) -> None:
    network = rebuilt(*model)
    spec = OnnxEstimator(model[0], name="model").spec
    fitted = Calibration(sureness=((4, 0.5), (14, 0.75), (30, 1.25)))
    file = export_onnx(network, fitted, spec)
    assert read_sureness(onnx.load_from_string(file).graph).sureness_by_year == pytest.approx(fitted.sureness_by_year)
    assert_alike(rebuilt(file, "softened"), file, crops)
    for (name, value), (_, kept) in zip(
        rebuilt(file, "softened").state_dict().items(), network.state_dict().items(), strict=True
    ):
        assert torch.allclose(value, kept), name


def test_a_run_begins_with_a_model_by_name(data: Path, tmp_path: Path) -> None:
    folder, told = train(data, tmp_path, settings=SHORT | {"network": {"start": "agelens-base"}})
    assert any("laid out like agelens-base, for crops of 96 pixels" in line for line in told)
    assert not any("afresh" in line or "NOTE" in line for line in told)
    weights = read_weights(folder)
    assert weights.about["crop"]["size"] == 96
    assert weights.about["network"]["widths"] == [32, 64, 128, 256]
    before = read_model_weights(read_model("agelens-base"), "agelens-base")
    # The second opinion does not learn; the first kernels hardly had the time to.
    for name, value in weights.tensors.items():
        if name.startswith("second."):
            assert torch.equal(value, before.tensors[name]), name
    assert (weights.tensors["stem.weight"] - before.tensors["stem.weight"]).abs().max() < 1e-3
    spec = export_checkpoint(folder, ExportOptions(output=tmp_path / "mine.onnx"))
    names = [entry["name"] for entry in spec.training_data]
    assert any("FairFace" in name for name in names)
    assert names[-1].startswith("made (")
    assert spec.licence == UNSTATED
    # Once more, from what was made: all of it is still told, once.
    again, _ = train(data, tmp_path / "again", settings=SHORT | {"network": {"start": str(tmp_path / "mine.onnx")}})
    about = read_weights(again).about
    assert [entry["name"] for entry in list_data(about)] == names
    seen = [entry["name"] for entry in about["begun"]["seen"]]
    assert any("FairFace" in name for name in seen)
    assert names[-1] in seen


def test_years_are_told_as_the_start_tells_them_and_intervals_fitted_to_that(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[Any] = []
    for module in (finish, publish):
        fit = module.fit_calibration
        monkeypatch.setattr(
            module, "fit_calibration", lambda *told, _fit=fit, **more: (fitted.append(told[4]), _fit(*told, **more))[1]
        )
    folder, _ = train(data, tmp_path, settings=SHORT | {"network": {"start": "agelens-base"}})
    spec = export_checkpoint(folder, ExportOptions(output=tmp_path / "mine.onnx", calibrate=data))
    assert spec.decode == "year"
    assert fitted == ["year", "year"]
    # What learns on from a run's weights, not from a model file, goes on so.
    assert inherit(read_weights(folder))["decode"] == "year"
    assert inherit(Weights({}, {"data": {}}, "one.pt"))["decode"] == "mean"


def test_terms_pass_on(data: Path, tmp_path: Path) -> None:
    folder, told = train(data, tmp_path, "age", SHORT | {"network": {"start": str(RESEARCH)}})
    assert any("not for commercial use" in line for line in told)
    spec = export_checkpoint(folder, ExportOptions(output=tmp_path / "mine.onnx", licence="MIT"))
    assert spec.licence.startswith("research only")
    assert spec.licence.endswith("; and MIT")
    alone = export_checkpoint(folder, ExportOptions(output=tmp_path / "mine.onnx")).licence
    assert f"{alone}; and MIT" == spec.licence
    assert spec.terms is not None
    own, _ = train(data, tmp_path / "next", "age", SHORT | {"network": {"start": str(folder)}})
    told = settle_licence(read_weights(own).about, "MIT")
    assert told == spec.licence
    assert settle_licence({"terms": told}, "MIT") == told


def test_terms_of_data_pass_on_as_well() -> None:
    named = {"training_data": [{"name": "Adience", "licence": "research only"}]}
    assert settle_licence(named, "MIT") == "research only; and MIT"
    assert settle_licence({"begun": inherit(Weights({}, named, "age_net.caffemodel"))}, None) == "research only"
    assert settle_licence({"training_data": [{"name": "own", "licence": "CC BY 4.0"}]}, "MIT") == "MIT"
    assert settle_licence({"terms": "LIMITED to research"}, "MIT") == "LIMITED to research; and MIT"


@pytest.mark.parametrize(
    ("licence", "restricted"),
    [
        ("research only (UTKFace)", True),
        ("CC BY-NC 4.0", True),
        ("non-commercial use", True),
        ("noncommercial", True),
        ("MIT", False),
        ("CC BY 4.0", False),
        ("not stated", False),
    ],
)
def test_what_a_licence_keeps_from_being_used(licence: str, restricted: bool) -> None:
    assert is_restricted(licence) is restricted


def test_what_the_start_has_seen_is_a_leak_too(data: Path, tmp_path: Path) -> None:
    first, _ = train(data, tmp_path / "first", settings=SHORT)
    other = make_manifest(tmp_path / "other", 40)
    folder, _ = train(other, tmp_path / "second", settings=SHORT | {"network": {"start": str(first), "size": "nano"}})
    spec = export_checkpoint(folder, ExportOptions(output=tmp_path / "mine.onnx"))
    manifest, protocol = read_manifest(data), default_protocol("made")
    everyone, tested = np.arange(len(manifest)), np.flatnonzero(manifest.columns.split == "test")
    (reason,) = find_leak_reasons(spec, manifest, everyone, protocol)
    assert "weights that it began with were trained on these very pictures" in reason
    assert not list(find_leak_reasons(spec, manifest, tested, protocol))
    begun = inherit(Weights({}, {"training_data": [{"name": "Adience", "licence": "x"}]}, "net.caffemodel"))
    assert begun["seen"] == [{"name": "Adience"}]
    folds = load_protocol("adience5")
    seen = replace(spec, recipe={**spec.recipe, "seen": [{"name": "made, with love"}]})
    (told,) = find_leak_reasons(seen, manifest, tested, folds, held_out="3")
    assert "began with weights that name made" in told


def test_the_first_checkpoint_answers_as_the_model_does(data: Path, tmp_path: Path, crops: np.ndarray) -> None:
    def stop(facts: dict[str, Any]) -> None:
        raise InterruptedError

    where = {"data": {"file": str(data), "output_dir": str(tmp_path)}, "network": {"start": "agelens-base"}}
    with pytest.raises(InterruptedError):
        run_training(make_config(merge(SETTINGS, where)), "both", listeners=Listeners(step=stop))
    (last,) = tmp_path.glob("*/last")
    weights = read_weights(last)
    network = FaceNetwork(NetworkConfig.from_dict(weights.about["network"]))
    network.load_state_dict(load_checkpoint(last).part("network"))
    assert_alike(network.eval(), read_model("agelens-base"), crops)
    assert network.stem_norm.running_mean is not None
    assert (network.stem_norm.running_mean.abs() > 1e-3).any()
    assert network.config.dropout == 0.2  # as it was trained


def test_faces_are_cut_as_the_start_wants_them(data: Path) -> None:
    wider = CropGeometry(96, 0.3, 0.35)
    config = make_config(merge(SETTINGS, {"data": {"crop": "face"}}))
    source, about = open_data(data), {"kind": "face", "crop": wider.to_dict()}
    assert find_geometry(config, source, Weights({}, about, "mine.onnx"), lambda _: None) == wider
    levi = Weights({}, {**about, "kind": "levi-hassner"}, "levi")
    assert find_geometry(config, source, levi, lambda _: None) == CropGeometry(48)


def test_who_learns_ages_alone_says_nothing_of_gender(data: Path, tmp_path: Path, crops: np.ndarray) -> None:
    folder, _ = train(data, tmp_path, "age", SHORT | {"network": {"start": "agelens-base"}})
    spec = export_checkpoint(folder, ExportOptions(output=tmp_path / "mine.onnx"))
    assert spec.decode == "year"
    answer = OnnxEstimator((tmp_path / "mine.onnx").read_bytes(), name="mine").estimate(crops)
    assert answer.female == pytest.approx(0.5)


def test_a_file_with_its_numbers_elsewhere_is_refused() -> None:
    changed = onnx.load_from_string(read_model("agelens-base"))
    changed.graph.initializer[3].data_location = onnx.TensorProto.EXTERNAL
    changed.graph.initializer[3].external_data.add(key="location", value="elsewhere.bin")
    with pytest.raises(UnfitModelError, match="can't be learned on from"):
        read_model_weights(changed.SerializeToString(), "changed.onnx")


def test_gone_on_with_after_a_break_it_ends_as_if_there_had_been_none(data: Path, tmp_path: Path) -> None:
    settings = {"hyperparameters": {"save_every": 2}, "network": {"start": "agelens-base"}}
    whole, _ = train(data, tmp_path / "whole", settings=settings)

    def stop(facts: dict[str, Any]) -> None:
        if facts["step"] == 4:
            raise InterruptedError

    where = {"data": {"file": str(data), "output_dir": str(tmp_path / "cut")}}
    with pytest.raises(InterruptedError):
        run_training(make_config(merge(SETTINGS, where, settings)), "both", listeners=Listeners(step=stop))
    resumed, _ = train(data, tmp_path / "cut", settings=settings, resume=True)
    for name, value in read_weights(whole).tensors.items():
        assert torch.equal(value, read_weights(resumed).tensors[name]), name
    assert read_weights(resumed).about["begun"] == read_weights(whole).about["begun"]


def test_what_cannot_be_learned_on_from_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UnfitModelError, match="32-bit numbers"):
        train(data, tmp_path, settings={"network": {"start": "agelens-nano"}})
    levi = LeviHassner(LeviHassnerConfig(task="age", groups="adience12")).eval()
    (tmp_path / "levi.onnx").write_bytes(export_onnx(levi, Calibration(), make_spec()))
    with pytest.raises(UnfitModelError):
        train(data, tmp_path, settings={"network": {"start": str(tmp_path / "levi.onnx")}})
    changed = onnx.load_from_string(read_model("agelens-base"))
    next(node for node in changed.graph.node if node.op_type == "Relu").op_type = "Sigmoid"
    with pytest.raises(UnfitModelError, match="can't be learned on from"):
        read_model_weights(changed.SerializeToString(), "changed.onnx")
    (tmp_path / "cut.onnx").write_bytes(read_model("agelens-base")[:-1000])
    with pytest.raises(DamagedModelError):
        train(data, tmp_path, settings={"network": {"start": str(tmp_path / "cut.onnx")}})
    with pytest.raises(NotFoundError, match=r"its name or its \.onnx"):
        train(data, tmp_path, settings={"network": {"start": "agelens-bas"}})
    with pytest.raises(UnfitModelError, match="is a face network"):
        train(data, tmp_path, settings={"network": {"start": "agelens-base", "name": "levi-hassner"}})
    assert not list(tmp_path.glob("*_output_*"))


def test_weights_of_somebody_else_are_said_to_be_of_unknown_data(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "theirs.pt")
    begun = inherit(read_weights(tmp_path / "theirs.pt"))
    assert begun["training_data"] == [{"name": "unknown, seen by the weights that it began with"}]
    assert settle_licence({"begun": begun}, "MIT") == "MIT"


def test_on_the_command_line(data: Path, tmp_path: Path) -> None:
    done = run(
        *("train", "--data", data, "-o", tmp_path, "--start", "agelens-base", "--set", "DATA.CROP=whole"),
        *("--epochs", "1", "--batch-size", "16", "--set", "GPU.STATUS=false"),
    )
    assert done.returncode == 0, done.stderr
    (stats,) = tmp_path.glob("*/both_stats_*.json")
    assert json.loads(stats.read_text())["network"]["size"] == 96
