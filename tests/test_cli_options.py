"""The quick reading of `predict` and typer's are one: same values, and what one refuses the other refuses."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from agelens.analyzer import DEFAULTS
from agelens.cli import app, options
from agelens.cli.options import FORMATS, OPTIONS, SWITCHES, PredictOptions, make_options, parse_quickly
from agelens.cli.outputs import PICTURES
from agelens.limits import DEFAULT_LIMITS
from agelens.render import picture_extensions
from agelens.runtime import DEVICES
from agelens.serialise import Format
from agelens.zoo import DEFAULT_MODEL

GOOD = {
    "every": ["1", "30"],
    "fps": ["5", "0.5"],
    "start": ["0", "12.5", "1:30", "1:02:30.5"],
    "end": ["3", "0:03"],
    "tracks": ["people.csv"],
    "output": ["out.jsonl", "-", "a b/"],
    "format": ["table", "JSON", "parquet"],
    "crops": ["faces"],
    "task": ["age", "gender", "both"],
    "groups": ["adience", "utk", "0-12,13-17,18+"],
    "gender_threshold": ["0.5", "1", "7e-1"],
    "min_score": ["0", "0.35"],
    "min_face": ["12", "0.5"],
    "max_faces": ["1", "20"],
    "model": ["agelens-base", "dir/my.onnx"],
    "device": ["auto", "cpu"],
    "threads": ["1", "8"],
    "batch_size": ["64"],
    "max_bytes": ["1000"],
    "max_pixels": ["4000000"],
}
BAD = {
    "every": ["0", "1.5"],
    "fps": ["0", "inf"],
    "start": ["-1", "1:2:3:4", "x", "inf"],
    "end": ["", "1:-2"],
    "tracks": [""],
    "output": [""],
    "format": ["xml"],
    "task": ["ages", ""],
    "groups": ["0-5", "young"],
    "gender_threshold": ["0.4", "1.1", "nan", "x"],
    "min_score": ["-0.1", "inf"],
    "min_face": ["-1", "inf"],
    "max_faces": ["0", "1.5", "-1", "²"],
    "device": ["gpu"],
    "threads": ["0", "two", "9" * 5000],
    "batch_size": ["0"],
    "max_bytes": ["0"],
    "max_pixels": ["many"],
}


def read_by_typer(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> PredictOptions | int:
    """What typer makes of a command line: the options, or its exit status."""
    seen: list[PredictOptions] = []

    def note(found: dict[str, Any]) -> PredictOptions:
        seen.append(make_options(found))
        raise typer.Abort

    monkeypatch.setattr(app, "make_options", note)
    command = get_command(app.make_app("predict"))
    try:
        command(["predict", *arguments], standalone_mode=True)
    except SystemExit as end:
        return seen[0] if seen else int(end.code or 0)
    raise AssertionError("neither read nor refused")


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    sources = draw(st.lists(st.sampled_from(["a.jpg", "-", "photos/**/*.jpg", "ü 1%.png"]), min_size=1, max_size=3))
    parts = []
    for name in draw(st.lists(st.sampled_from(sorted(GOOD)), unique=True, max_size=5)):
        flag = draw(st.sampled_from(OPTIONS[name].flags))
        value = draw(st.sampled_from(GOOD[name]))
        parts.append([f"{flag}={value}"] if flag.startswith("--") and draw(st.booleans()) else [flag, value])
    for name in draw(st.lists(st.sampled_from(sorted(SWITCHES)), unique=True)):
        parts.append([draw(st.sampled_from(SWITCHES[name].flags))])
    parts.insert(draw(st.integers(0, len(parts))), sources)
    return [word for part in parts for word in part]


@given(command_lines())
def test_both_ways_read_the_same(arguments: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        quick = parse_quickly(arguments)
        assert quick is not None
        assert read_by_typer(arguments, patch) == quick


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_both_ways_refuse_the_same(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["a.jpg", f"{OPTIONS[name].flags[0]}={value}"]
    assert parse_quickly(arguments) is None
    assert read_by_typer(arguments, monkeypatch) == 2


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["a.jpg", "--nonsense"], ["a.jpg", "--out", "x.csv"], ["a.jpg", "--task"], ["-x.jpg"]]
)
def test_what_is_unclear_is_left_to_typer(arguments: list[str]) -> None:
    assert parse_quickly(arguments) is None


def test_sources_between_options(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["a.jpg", "-o", "x.csv", "b.jpg"]
    read = parse_quickly(arguments) or read_by_typer(arguments, monkeypatch)
    assert read == PredictOptions(("a.jpg", "b.jpg"), output="x.csv")


def test_a_dash_after_two_dashes_is_a_name() -> None:
    assert parse_quickly(["-q", "--", "-x.jpg"]) == PredictOptions(("-x.jpg",), quiet=True)


def test_every_option_has_a_good_and_a_bad_value_here() -> None:
    assert set(GOOD) == set(OPTIONS)
    assert set(BAD) == set(OPTIONS) - {"crops", "model"}


def test_what_is_repeated_here_agrees_with_its_origin() -> None:
    assert options.DEVICES == DEVICES
    assert set(PICTURES) >= set(picture_extensions())
    assert set(FORMATS) == set(get_args(Format))
    assert PredictOptions(()).model == DEFAULT_MODEL
    chosen = {name: getattr(PredictOptions(()), name) for name in DEFAULTS.keys() - {"limits"}}
    assert chosen | {"limits": DEFAULT_LIMITS} == DEFAULTS
    assert str(DEFAULT_LIMITS.max_bytes) in OPTIONS["max_bytes"].help
    assert str(DEFAULT_LIMITS.max_pixels) in OPTIONS["max_pixels"].help
