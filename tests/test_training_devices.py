"""Where a training runs, tested without a GPU: what is chosen, what is said, and what moves with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from agelens.errors import UsageError
from agelens.training import course, devices
from agelens.training.augment import AugmentConfig
from agelens.training.batches import Batch, BatchMaker
from agelens.training.config import GpuConfig
from agelens.training.devices import choose_devices, count_threads, describe_devices, has_bf16, in_bf16
from agelens.training.learner import Learner, Pace
from agelens.training.networks import FaceNetwork, named_config
from agelens.training.objective import Objective
from agelens.training.team import Team
from training_makers import make_lessons, make_manifest, train

META = torch.device("meta")
NANO = named_config("nano")


def make_batch(count: int = 8) -> Batch:
    maker = BatchMaker(make_lessons(16), FaceNetwork(NANO), batch=count, augment=AugmentConfig(), seed=1)
    return maker.make(0, maker.rows_of(0))


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_without_a_gpu_it_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told: list[str] = []
    assert choose_devices(GpuConfig(), told.append) == [torch.device("cpu")]
    assert told == ["there is no GPU here; training on the CPU"]
    assert choose_devices(GpuConfig(status=False), told.append) == [torch.device("cpu")]
    assert len(told) == 1


def test_one_process_has_one_gpu_and_several_have_one_each(two_gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    both = GpuConfig(devices=(1, 0), parallel=True)
    assert choose_devices(both, print) == [torch.device("cuda", 1)]
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert choose_devices(both, print) == [torch.device("cuda", 1), torch.device("cuda", 0)]
    assert choose_devices(GpuConfig(devices=(1, 0)), print) == [torch.device("cuda", 1)]
    with pytest.raises(UsageError, match=r"GPU.DEVICES names \[2\] and there are 0 to 1"):
        choose_devices(GpuConfig(devices=(0, 2)), print)


def test_a_gpu_is_described_as_the_original_did(two_gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="Tesla V100", total_memory=16 * 2**30, major=7, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    device = torch.device("cuda", 1)
    found = describe_devices([device], Team(world=1, device=device), GpuConfig())
    assert found["devices"] == [{"id": 1, "device_name": "Tesla V100", "total_memory (MB)": 16384}]
    assert (found["type"], found["parallel"], found["precision"]) == ("cuda", False, "float32")


@pytest.mark.parametrize(("capability", "expected"), [((7, 0), False), ((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_only_where_it_is_fast(monkeypatch: pytest.MonkeyPatch, capability, expected: bool) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert has_bf16(torch.device("cuda", 0)) is expected


@pytest.mark.parametrize(
    ("capability", "wanted", "precision"),
    [("AVX512", True, "bfloat16"), ("AVX512", False, "float32"), ("AVX2", True, "float32")],
)
def test_the_statistics_tell_in_what_the_convolutions_ran(
    monkeypatch: pytest.MonkeyPatch, capability: str, wanted: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    device = torch.device("cpu")
    found = describe_devices([device], Team(world=1, device=device), GpuConfig(bf16=wanted))
    assert found["precision"] == precision


@pytest.mark.parametrize(("capability", "expected"), [("DEFAULT", False), ("AVX2", False), ("AVX512", True)])
def test_on_a_cpu_that_would_emulate_bfloat16_a_step_is_taken_in_float32(
    monkeypatch: pytest.MonkeyPatch, capability: str, expected: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    device = torch.device("cpu")
    assert has_bf16(device) is expected
    left, right = torch.ones(2, 2), torch.ones(2, 2)
    for wanted in (True, False):
        with in_bf16(device, wanted=wanted):
            found = (left @ right).dtype
        assert found is (torch.bfloat16 if wanted and expected else torch.float32)


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count_cores", lambda: 8)
    assert count_threads(GpuConfig(), Team()) == 8
    assert count_threads(GpuConfig(threads=3), Team()) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert count_threads(GpuConfig(), Team(world=4)) == 2


def test_a_batch_keeps_its_layout_on_the_way() -> None:
    batch = replace(make_batch(), hint=torch.zeros(8, 3))
    moved = batch.to(META)
    assert {getattr(moved, name).device for name in Batch.__slots__} == {META}
    assert moved.crops.is_contiguous(memory_format=torch.channels_last)
    assert moved.crops.shape == batch.crops.shape
    assert {getattr(moved, name).dtype for name in Batch.__slots__} == {
        getattr(batch, name).dtype for name in Batch.__slots__
    }


def test_batches_are_pinned_for_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Batch] = []
    monkeypatch.setattr(Batch, "pin", lambda self: pinned.append(self) or self)
    for device, count in ((torch.device("cpu"), 0), (torch.device("cuda", 0), 1)):
        team = Team(device=device)
        maker = BatchMaker(make_lessons(16), FaceNetwork(NANO), batch=8, augment=AugmentConfig(), seed=1, team=team)
        maker.make(0, maker.rows_of(0))
        assert len(pinned) == count


def test_the_numbers_of_a_step_come_in_one_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner(FaceNetwork(NANO), FaceNetwork(NANO), Objective(), Pace(bf16=False))
    fetched: list[int] = []
    monkeypatch.setattr(torch.Tensor, "item", lambda self: fetched.append(1) or float(self.detach().numpy()))
    losses = learner.learn(make_batch(), 0)
    assert losses["known_age"] <= 8
    assert all(isinstance(value, float) for value in losses.values())
    assert len(fetched) <= 1  # the norm of the gradient may be one


def test_a_run_of_a_gpu_goes_on_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_manifest(tmp_path, 40)
    settings = {"hyperparameters": {"epochs": 4, "batch_size": 8}}
    end = course.Training._end_epoch

    def stop(self) -> None:
        end(self)
        if len(self.course.history) == 2:
            self._save()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(course, "count_gpus", lambda *_: 1)
        patch.setattr(course.Training, "_end_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "out", settings=settings)
    folder, _ = train(data, tmp_path / "out", settings=settings, resume=True)
    assert folder.name == "8_output_1"
    names = {path.name for path in folder.iterdir()}
    assert {"both_stats_8_1.json", "both_model_8_1.safetensors", "both_train_valid_loss_1.png"} <= names
    assert not any(name.endswith(("_0.json", "_0.safetensors", "_0.png")) for name in names)
    assert json.loads((folder / "both_stats_8_1.json").read_text())["device"]["type"] == "cpu"
