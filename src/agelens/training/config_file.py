"""Configurations as files: YAML or TOML in, upper or lower case; a commented YAML out."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from agelens.advice import how_to_install
from agelens.errors import MissingPackageError, NotFoundError, UsageError
from agelens.training.config import Config, default_config

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
Values = Mapping[str, Any]

SPELLINGS = {"cross_entropy_loss": "cross_entropy", "crossentropyloss": "cross_entropy", "adam": "adamw"}
"""What the original's file, or a habit, calls something that has another name here."""


def read_config_file(path: Path) -> dict[str, Any]:
    """The raw sections of a `.toml`, or of a YAML file under any other name; keys in lower case.

    Raises:
        NotFoundError: There is no such file.
        UsageError: It is neither, or holds no sections.
        MissingPackageError: It is YAML and PyYAML is not installed.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no configuration {path}; `agelens train --print-config > {path}` makes one"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration {path} can't be read: {error}") from error
    if path.suffix.lower() == ".toml":
        try:
            return lower_keys(tomllib.loads(text), str(path))
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path} is no TOML: {error}") from error
    return lower_keys(_parse_yaml(text, path), str(path))


def _parse_yaml(text: str, path: Path) -> dict[Any, Any]:
    try:
        import yaml
    except ImportError as error:
        raise MissingPackageError(
            f"a YAML configuration needs PyYAML: {how_to_install('train', 'pyyaml')}, or write it as .toml"
        ) from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no sections such as DATA and HYPERPARAMETERS")
    return values


def lower_keys(values: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """The same with keys in lower case, `-` as `_`, all the way down.

    Raises:
        UsageError: Two keys become one.
    """
    lowered: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).lower().replace("-", "_")
        if name in lowered:
            raise UsageError(f"{where} says {key} twice")
        lowered[name] = lower_keys(value, where) if isinstance(value, Mapping) else value
    return lowered


def parse_setting(text: str) -> dict[str, Any]:
    """`HYPERPARAMETERS.OPTIMIZER.LR=0.01` as nested sections.

    Raises:
        UsageError: It is not of that form.
    """
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise UsageError(f"--set takes SECTION.KEY=VALUE, such as HYPERPARAMETERS.EPOCHS=10; got {text!r}")
    parsed: Any = value
    if value.lower() in ("true", "false"):
        parsed = value.lower() == "true"
    elif value.startswith("["):
        try:
            parsed = json.loads(value)
        except ValueError as error:
            raise UsageError(f"{value!r} is no list; write [0, 1]") from error
    for name in reversed(path.lower().replace("-", "_").split(".")):
        parsed = {name: parsed}
    assert isinstance(parsed, dict)
    return parsed


def merge(*layers: Values) -> dict[str, Any]:
    """Later layers over earlier ones, section by section."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
            merged[name] = merge(merged[name], value) if both else value
    return merged


def make_config(values: Values) -> Config:
    """A configuration of raw sections; what they leave out comes from the recipe of the network that they choose.

    Raises:
        UsageError: A key is unknown (the message names the nearest), or a value makes no sense.
    """
    checked = _fill(Config(), values, "")
    name = checked.network.name
    if name == "auto":
        name = "levi-hassner" if checked.hyperparameters.loss == "cross_entropy" else "face"
    config = _fill(default_config(name), values, "")
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, name=name))
    _check(config)
    return config


def _fill(defaults: T, values: Values, where: str) -> T:
    """`defaults`, an instance of a dataclass, with what the values say."""
    kind = type(defaults)
    fields = {field.name: field for field in dataclasses.fields(defaults)}
    hints = get_type_hints(kind)
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in fields:
            raise UsageError(_unknown(name, fields, where))
        place = f"{where}{name.upper()}"
        held = getattr(defaults, name)
        if dataclasses.is_dataclass(held) and not isinstance(held, type):
            if value is None:
                continue
            if not isinstance(value, Mapping):
                raise UsageError(f"{place} is a section with keys of its own, got {value!r}")
            changes[name] = _fill(held, value, f"{place}.")
        else:
            changes[name] = _convert(value, hints[name], fields[name].metadata.get("choices") or (), place)
    return dataclasses.replace(defaults, **changes)


def _unknown(name: str, fields: Iterable[str], where: str) -> str:
    near = difflib.get_close_matches(name, list(fields), 1, 0.5)
    hint = f"did you mean {where}{near[0].upper()}?" if near else f"there are: {', '.join(f.upper() for f in fields)}"
    return f"there is no setting {where}{name.upper()}; {hint}"


def _convert(value: object, kind: object, choices: tuple[str, ...], place: str) -> object:
    """A value as its field wants it."""
    if kind is str:
        return _as_word("" if value is None else str(value), choices, place)
    readers = {bool: _as_bool, int: _as_int, float: _as_float, tuple[int, ...]: _as_numbers}
    if kind not in readers:
        if value is not None and not isinstance(value, Mapping):
            raise UsageError(f"{place} is a section, got {value!r}")
        return dict(value or {})
    try:
        return readers[kind](value)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "a list of whole numbers")
        raise UsageError(f"{place} is {wanted}, got {value!r}") from error


# YAML 1.1 takes 5e-3 for a text, and people quote numbers: what reads as a number is one.
def _as_float(value: object) -> float:
    number = float("" if isinstance(value, bool) else str(value))
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _as_int(value: object) -> int:
    number = _as_float(value)
    if number != int(number):
        raise ValueError(value)
    return int(number)


def _as_bool(value: object) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    text = str(value).lower()
    return words[text] if text in words else bool(int(text))


def _as_numbers(value: object) -> tuple[int, ...]:
    listed = value.replace(",", " ").split() if isinstance(value, str) else value
    if isinstance(listed, (list, tuple)):
        return tuple(_as_int(number) for number in listed)
    return (_as_int(listed),)


def _as_word(text: str, choices: tuple[str, ...], place: str) -> str:
    if not choices:
        return text
    word = text.lower()
    word = SPELLINGS.get(word, word)
    for choice in choices:
        if word.replace("_", "-") == choice.replace("_", "-"):
            return choice
    near = difflib.get_close_matches(word, choices, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(choices)}"
    raise UsageError(f"{place} knows no {text!r}; {hint}")


BOUNDS = {
    "DATA.TEST_FOLD": (-1, 1e4),
    "HYPERPARAMETERS.EPOCHS": (1, 1e6),
    "HYPERPARAMETERS.BATCH_SIZE": (0, 1e6),
    "HYPERPARAMETERS.OPTIMIZER.LR": (1e-12, 1e3),
    "HYPERPARAMETERS.OPTIMIZER.MOMENTUM": (0, 0.999999),
    "HYPERPARAMETERS.OPTIMIZER.WT_DECAY": (0, 1e3),
    "HYPERPARAMETERS.OPTIMIZER.WARMUP": (0, 1),
    "HYPERPARAMETERS.OPTIMIZER.CLIP": (0, 1e9),
    "HYPERPARAMETERS.SEED": (0, 1e15),
    "HYPERPARAMETERS.EMA": (0, 0.999999),
    "HYPERPARAMETERS.PATIENCE": (0, 1e6),
    "HYPERPARAMETERS.SIGMA": (0.1, 50),
    "HYPERPARAMETERS.GENDER_WEIGHT": (1e-6, 1e6),
    "HYPERPARAMETERS.SMOOTHING": (0, 0.99),
    "HYPERPARAMETERS.RARE_AGES": (0, 1),
    "HYPERPARAMETERS.SAVE_EVERY": (1, 1e9),
    "AUGMENT.ROTATE": (0, 180),
    "AUGMENT.ZOOM": (0, 0.9),
    "AUGMENT.SHIFT": (0, 0.5),
    "AUGMENT.LIGHT": (0, 1),
    **dict.fromkeys((f"AUGMENT.{name}" for name in ("FLIP", "GREY", "SHRINK", "JPEG", "ERASE")), (0, 1)),
    **dict.fromkeys(("AUGMENT.NOISE", "AUGMENT.GRAIN"), (0, 255)),
    "DATALOADER.VALIDATION_SPLIT": (0.001, 0.9),
    "GPU.THREADS": (0, 1e4),
}
"""The least and the largest value of each number that has them."""
OWN_DROPOUT = -1


def _check(config: Config) -> None:
    for place, (low, high) in BOUNDS.items():
        value: Any = functools.reduce(getattr, place.lower().split("."), config)
        if not low <= value <= high:
            hint = "; --age-gender age learns no gender" if place.endswith("GENDER_WEIGHT") and not value else ""
            raise UsageError(f"{place} is {value}; it must lie within {low:g} and {high:g}{hint}")
    dropout = config.network.dropout
    if dropout != OWN_DROPOUT and not 0 <= dropout < 1:
        raise UsageError(f"NETWORK.DROPOUT is {dropout}; it must be -1, the network's own, or from 0 to below 1")


def to_values(config: DataclassInstance) -> dict[str, Any]:
    """A configuration as plain values, keys in upper case as in a file."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = to_values(value)
        values[field.name.upper()] = list(value) if isinstance(value, tuple) else value
    return values


def write_config(config: Config) -> str:
    """The configuration as commented YAML, which `--config` reads again."""
    lines = ["# agelens train --config THIS. Whatever is left out has the value that stands here."]
    _write_section(config, lines, 0)
    return "\n".join(lines) + "\n"


def _write_section(section: DataclassInstance, lines: list[str], depth: int) -> None:
    indent = "  " * depth
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        comment = field.metadata.get("help", "")
        note = f"  # {comment}" if comment else ""
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            lines.append(f"{indent}{field.name.upper()}:{note}")
            _write_section(value, lines, depth + 1)
        else:
            plain = list(value) if isinstance(value, tuple) else value
            lines.append(f"{indent}{field.name.upper()}: {json.dumps(plain)}{note}")
