"""Model files that ship, the detector's origin, and sessions."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest

from agelens import Analyzer, zoo
from agelens.detect.canvas import Frame, lay_out
from agelens.detect.yunet import YuNet
from agelens.errors import DamagedModelError, DeviceError, DeviceWarning, UnfitModelError, UnknownModelError
from agelens.runtime import DEVICES, PROVIDERS, _is_usable, open_session, resolve_device
from agelens.types import Box, Image
from agelens.zoo import DEFAULT_MODEL, MODELS, find_shipped, list_shipped, read_figures, read_model, read_shipped
from faces import PORTRAIT_FACE, overlap, portrait
from stand_in import model_bytes

ROOT = Path(__file__).parent.parent
PUBLISHED = Path(__file__).parent / "assets" / "face_detection_yunet_2023mar.onnx"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder of models, to be damaged."""
    models = tmp_path / "models"
    models.mkdir()
    for file in (ROOT / "src" / "agelens" / "models").iterdir():
        if file.is_file():
            (models / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(zoo, "MODELS", models)
    return models


@pytest.fixture(scope="module")
def derivation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("derive_yunet", ROOT / "tools" / "derive_yunet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The manifest -------------------------------------------------------------------------------------------------------


def test_every_model_that_ships_is_whole_and_listed() -> None:
    shipped = list_shipped()
    folder = ROOT / "src" / "agelens" / "models"
    assert {model.file for model in shipped} == {file.name for file in folder.glob("*.onnx")}
    assert len({model.name for model in shipped}) == len(shipped)
    for model in shipped:
        assert hashlib.sha256(read_shipped(model.name)).hexdigest() == model.sha256
        assert model.role in ("detector", "estimator")
        assert model.licence
        assert model.about
        assert len(read_shipped(model.name)) <= 10_000_000


def test_models_that_ship_open_by_name() -> None:
    assert find_shipped("yunet").role == "detector"
    assert read_model("yunet", role=None) == read_shipped("yunet")
    assert read_model(DEFAULT_MODEL) == read_shipped(DEFAULT_MODEL)


def test_a_damaged_file_is_told_from_a_whole_one(package: Path) -> None:
    file = package / find_shipped("yunet").file
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedModelError, match=r"is damaged: sha256 .*install agelens again"):
        read_shipped("yunet")
    file.unlink()
    with pytest.raises(DamagedModelError, match="can't be read"):
        read_shipped("yunet")


@pytest.mark.parametrize("text", [None, "", "{", '{"a": 1}', '[{"name": "x"}]', "3", '[["yunet"]]'])
def test_a_broken_manifest_is_told(package: Path, text: str | None) -> None:
    manifest = package / "models.json"
    manifest.unlink() if text is None else manifest.write_text(text)
    with pytest.raises(DamagedModelError, match="install agelens again"):
        list_shipped()


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"sha256": "ab"}', '{"sha256": "ab", "sets": 3}'])
def test_a_broken_list_of_figures_is_told(package: Path, text: str | None) -> None:
    file = package / "figures.json"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(DamagedModelError, match="install agelens again"):
        read_figures("ab")


def test_figures_are_those_of_one_file_alone() -> None:
    assert read_figures(find_shipped(DEFAULT_MODEL).sha256)
    assert read_figures("ab" * 32) == []


@pytest.mark.parametrize("name", ["agelens_base", "agelens-bas", "Agelens-Base", "agelens", "base"])
def test_an_unknown_model_suggests_the_nearest(package: Path, name: str) -> None:
    entry = json.loads((package / "models.json").read_text())[0] | {"name": DEFAULT_MODEL, "role": "estimator"}
    (package / "models.json").write_text(json.dumps([entry]))
    with pytest.raises(UnknownModelError, match=r"did you mean 'agelens-base'\? A file") as caught:
        read_model(name)
    assert caught.value.exit_status == 3


def test_a_model_like_no_other_is_told_what_there_is() -> None:
    with pytest.raises(UnknownModelError, match=r"there are: agelens-base, agelens-nano\. A file of your own"):
        read_model("resnet152")
    with pytest.raises(UnknownModelError, match=r"there are: .*yunet.*\. A file of your own"):
        read_model("resnet152", role=None)


@pytest.mark.parametrize("name", ["yunett", "yunet-2023", "unet"])
def test_the_detector_is_not_proposed_where_an_estimator_is_asked_for(name: str) -> None:
    with pytest.raises(UnknownModelError, match="there are: agelens-base") as caught:
        read_model(name)
    assert "yunet'?" not in caught.value.message
    with pytest.raises(UnknownModelError, match=r"did you mean 'yunet'\?"):
        read_model(name, role=None)


def test_the_detector_is_no_estimator() -> None:
    with pytest.raises(
        UnfitModelError, match="'yunet' is a detector and no estimator; there are: agelens-base"
    ) as caught:
        read_model("yunet")
    assert caught.value.exit_status == 3


# One's own files ----------------------------------------------------------------------------------------------------


def test_a_file_of_ones_own_is_read_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "Ü b.ONNX"
    file.write_bytes(model_bytes())
    assert read_model(str(file)) == model_bytes()


def test_a_file_that_no_model_can_fill_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(DamagedModelError, match="more than ONNX can hold"):
        read_model(str(path))


def test_a_path_that_is_no_file_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    for path in (tmp_path / "none.onnx", folder, tmp_path / "a.onnx" / "b.onnx", "\0.onnx"):
        with pytest.raises(UnknownModelError, match="there is no model file"):
            read_model(str(path))


# The detector's origin ----------------------------------------------------------------------------------------------


def test_the_published_detector_is_the_published_one(derivation: ModuleType) -> None:
    digest = hashlib.sha256(PUBLISHED.read_bytes()).hexdigest()
    assert digest == derivation.PUBLISHED_SHA256
    assert digest.startswith("8f2383e4dd3cfbb4")
    assert len(PUBLISHED.read_bytes()) == 232_589


def test_the_detector_that_ships_is_derived_from_it(derivation: ModuleType) -> None:
    assert derivation.derive(PUBLISHED.read_bytes()) == read_shipped("yunet")


def test_nothing_else_is_derived(derivation: ModuleType) -> None:
    with pytest.raises(SystemExit, match="not the published"):
        derivation.derive(PUBLISHED.read_bytes()[:-1])


@pytest.mark.parametrize("content", ["portrait", "noise", "grey"])
def test_both_detectors_answer_alike(content: str) -> None:
    if content == "portrait":
        planes = lay_out(Image(portrait(), 512, 512), Frame(Box(0, 0, 512, 512), 1.25))
    elif content == "noise":
        planes = np.random.default_rng(0).integers(0, 256, (3, 640, 640), dtype=np.uint8)
    else:
        planes = np.full((3, 640, 640), 127, np.uint8)
    assert planes.shape == (3, 640, 640)
    published = open_session(PUBLISHED.read_bytes(), name="published")
    outputs = [node.name for node in published.get_outputs()]
    assert outputs == [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    heads = [head[0] for head in published.run(None, {"input": planes[None].astype(np.float32)})]
    classes, objectness, boxes, points = (np.concatenate(heads[start : start + 3]) for start in (0, 3, 6, 9))
    certainty, findings = YuNet().forward(planes[None])
    assert findings.shape == (1, 16, 80 * 80 + 40 * 40 + 20 * 20)
    assert np.abs(certainty[0, 0] - (classes * objectness)[:, 0]).max() < 1e-6
    assert np.abs(findings[0, 2:6].T - boxes).max() < 1e-5
    assert np.abs(findings[0, 6:].T - points).max() < 1e-5


def test_every_weight_of_the_detector_is_as_published() -> None:
    onnx = pytest.importorskip("onnx")
    old, new = (
        {weight.name: onnx.numpy_helper.to_array(weight) for weight in onnx.load_from_string(data).graph.initializer}
        for data in (PUBLISHED.read_bytes(), read_shipped("yunet"))
    )
    heads = [name for name in old if name.startswith("bbox_head.")]
    assert len(heads) == 3 * 4 * 2 * 2
    for name in heads:
        _, kind, level, part, what = name.split(".")
        start, end = {"cls": (0, 1), "obj": (1, 2), "bbox": (2, 6), "kps": (6, 16)}[kind.rpartition("_")[2]]
        assert np.array_equal(new[f"heads.{level}.{part}.{what}"][start:end], old[name])
    body = [name for name in old if name not in heads and old[name].dtype == np.float32 and old[name].size]
    assert len(body) == 60
    for name in body:
        assert np.array_equal(new[name], old[name])


def test_canvases_together_are_answered_as_one_by_one() -> None:
    canvas = lay_out(Image(portrait(), 512, 512), Frame(Box(0, 0, 512, 512), 0.5))
    canvases = np.stack([canvas, np.full_like(canvas, 127), canvas[:, :, ::-1]])
    network = YuNet()
    together = network.look_at_all(canvases, 0.3)
    assert [bool(len(found)) for found in together] == [True, False, True]
    for found, each in zip(together, canvases, strict=True):
        alone = network.look(each, 0.3)
        assert found.boxes == pytest.approx(alone.boxes, abs=1e-3)
        assert found.points == pytest.approx(alone.points, abs=1e-3)
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)


# Sessions -----------------------------------------------------------------------------------------------------------


def test_the_device_is_what_is_there() -> None:
    available = onnxruntime.get_available_providers()
    expected = "cuda" if PROVIDERS["cuda"] in available else "cpu"
    assert resolve_device() == resolve_device("auto") == expected
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("device", ["gpu", "", "CPU", "cuda:0"])
def test_an_unknown_device_is_told_which_there_are(device: str) -> None:
    with pytest.raises(DeviceError, match=f"choose one of {', '.join(DEVICES)}"):
        resolve_device(device)


def test_a_device_that_is_not_offered_is_refused_and_not_replaced() -> None:
    missing = [name for name, provider in PROVIDERS.items() if provider not in onnxruntime.get_available_providers()]
    for device in missing:
        with pytest.raises(DeviceError, match=f"'{device}' is not offered.*offers: .*cpu"):
            resolve_device(device)


@pytest.fixture
def cuda_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As onnxruntime's build for GPUs is on a machine without one: it is offered, and sessions go to the CPU."""
    built_in = [PROVIDERS["cuda"], PROVIDERS["cpu"]]
    monkeypatch.setattr("agelens.runtime.ort.get_available_providers", lambda: built_in)
    _is_usable.cache_clear()
    yield
    _is_usable.cache_clear()


@pytest.mark.usefixtures("cuda_without_a_driver")
@pytest.mark.skipif(PROVIDERS["cuda"] in onnxruntime.get_available_providers(), reason="CUDA is there")
def test_a_device_that_is_offered_and_cannot_be_used_is_told() -> None:
    with pytest.raises(DeviceError, match="offers 'cuda' and can't use it here"):
        resolve_device("cuda")
    with pytest.warns(DeviceWarning, match="the cpu does the work"):
        assert resolve_device("auto") == "cpu"
    assert resolve_device("cpu") == "cpu"


def test_a_device_that_works_is_known_as_usable() -> None:
    assert _is_usable("cpu")


def test_a_session_that_cannot_open_says_so_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DamagedModelError, match="the model mine can't be opened") as caught:
        open_session(b"\x08\x08" + b"rubbish" * 20, name="mine")
    assert "\n" not in caught.value.message
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("side", [192, 256, 480, 832])
def test_the_derived_detector_runs_at_sizes_it_was_not_published_for(side: int) -> None:
    found = YuNet().look(lay_out(Image(portrait(), 512, 512), Frame(Box(0, 0, 512, 512), side / 512)), 0.6)
    best = int(found.scores.argmax())
    x0, y0, x1, y1 = (float(value) * 512 / side for value in found.boxes[best])
    assert overlap(Box(x0, y0, x1 - x0, y1 - y0), PORTRAIT_FACE) > 0.5


def test_nano_fits_where_base_does_not_and_says_much_the_same() -> None:
    small, large = find_shipped("agelens-nano"), find_shipped("agelens-base")
    assert (MODELS / small.file).stat().st_size <= 1.5e6 < (MODELS / large.file).stat().st_size
    photo = Path(__file__).parents[1] / "src" / "agelens" / "examples" / "astronaut.jpg"
    faces = [Analyzer(model.name, threads=1).predict(photo) for model in (small, large)]
    assert [face.gender.label for (face,) in faces if face.gender] == ["female", "female"]
    (one,), (other,) = faces
    assert one.age is not None
    assert other.age is not None
    assert abs(one.age.years - other.age.years) < 8
    assert one.age.low < other.age.years < one.age.high
