"""Weights from elsewhere: read without running code, `module.` taken off where it leads, what does not fit reported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from agelens.errors import DamagedModelError, NotFoundError, UnfitModelError
from agelens.training.foreign import read_weights, strip_module
from agelens.training.levi_hassner import LeviHassner, LeviHassnerConfig
from agelens.training.start import load_start


class Payload:
    """Runs when it is unpickled by a reader that lets it."""

    def __reduce__(self):
        return (print, ("code of the file was run",))


@pytest.fixture(scope="module")
def original() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return LeviHassner(LeviHassnerConfig(task="age", groups="adience12")).state_dict()


def network(task: str = "age", groups: str = "adience12") -> LeviHassner:
    return LeviHassner(LeviHassnerConfig(task=task, groups=groups))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrap", [False, True])
def test_a_state_dict_of_the_original_is_taken_over(original, tmp_path: Path, prefix: str, wrap: bool) -> None:
    state = {prefix + name: value for name, value in original.items()}
    torch.save({"state_dict": state, "epoch": 3} if wrap else state, tmp_path / "age.pt")
    fresh = network()
    assert load_start(fresh, read_weights(tmp_path / "age.pt"), "age") == []
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, original[name]), name


def test_module_is_taken_off_only_where_it_leads() -> None:
    assert set(strip_module({"module.a": torch.zeros(1), "module.b.module.c": torch.zeros(1)})) == {"a", "b.module.c"}
    assert set(strip_module({"module.a": torch.zeros(1), "b.module.c": torch.zeros(1)})) == {"module.a", "b.module.c"}


def test_a_head_that_is_missing_or_of_another_size_is_drawn_afresh_and_told(original, tmp_path: Path) -> None:
    torch.save({name: value for name, value in original.items() if not name.startswith("fc3")}, tmp_path / "a.pt")
    notes = load_start(network(), read_weights(tmp_path / "a.pt"), "age")
    assert notes == [f"fc3.{name}: not in the start, drawn afresh" for name in ("weight", "bias")]
    torch.save(original | {"extra.weight": torch.zeros(3)}, tmp_path / "b.pt")
    eight = network(groups="adience")
    notes = load_start(eight, read_weights(tmp_path / "b.pt"), "age")
    assert "fc3.weight: (12, 512) in the start, (8, 512) here, drawn afresh" in notes
    assert "extra.weight: in the start, not used" in notes
    assert torch.equal(eight.conv2.weight, original["conv2.weight"])


def test_another_network_is_refused(original, tmp_path: Path) -> None:
    state = dict(original)
    state["conv1.weight"] = torch.zeros(64, 3, 7, 7)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(UnfitModelError, match=r"conv1.weight is \(64, 3, 7, 7\), not \(96, 3, 7, 7\)"):
        load_start(network(), read_weights(tmp_path / "a.pt"), "age")
    del state["conv1.weight"]
    torch.save(state, tmp_path / "b.pt")
    with pytest.raises(UnfitModelError, match=r"conv1.weight is not there"):
        load_start(network(), read_weights(tmp_path / "b.pt"), "age")


def test_no_code_of_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"conv1.weight": Payload()}, tmp_path / "bad.pt")
    with pytest.raises(UnfitModelError, match="Python objects"):
        read_weights(tmp_path / "bad.pt")
    assert "code of the file" not in capsys.readouterr().out


def test_what_is_broken_is_refused(original, tmp_path: Path) -> None:
    torch.save({name: value[:1] for name, value in original.items()}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 30):
        (tmp_path / "cut.pt").write_bytes(whole[:cut])
        with pytest.raises(DamagedModelError):
            read_weights(tmp_path / "cut.pt")
    (tmp_path / "text.pt").write_text("no weights at all")
    with pytest.raises(DamagedModelError):
        read_weights(tmp_path / "text.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UnfitModelError, match="no state dict"):
        read_weights(tmp_path / "list.pt")
    with pytest.raises(NotFoundError):
        read_weights(tmp_path / "none.pt")
    state = dict(original)
    state["fc2.bias"] = torch.full((512,), float("nan"))
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(UnfitModelError, match=r"numbers that are none \(in fc2.bias\)"):
        load_start(network(), read_weights(tmp_path / "nan.pt"), "age")
