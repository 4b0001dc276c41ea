"""Errors: where they stand in the tree, and that what they advise is right for whoever reads it."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agelens import errors
from agelens.advice import either_way, how_to_install
from command import ROOT

SOURCES = ROOT / "src" / "agelens"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
COMMANDS_ONLY = ("cli", "datasets", "evaluation", "training", "server", "video", "live", "batch")
"""Rooms whose way in is a command; the others are met from Python just as well."""

BOTH_WAYS = sorted(p for p in SOURCES.rglob("*.py") if p.relative_to(SOURCES).parts[0] not in COMMANDS_ONLY)


def strings(tree: ast.AST) -> Iterator[str]:
    """Every text of a program but documentation and what `either_way` is given."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == either_way.__name__:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        yield from strings(node)


@pytest.mark.parametrize("path", BOTH_WAYS, ids=lambda path: str(path.relative_to(SOURCES)))
def test_a_message_that_names_an_option_names_the_argument_too(path: Path) -> None:
    for text in strings(ast.parse(path.read_text("utf-8"))):
        assert not re.search(r"(^|\s)--[a-z]", text), text


def test_no_message_sends_people_to_a_registry_that_has_no_agelens() -> None:
    for path in SOURCES.rglob("*.py"):
        for text in strings(ast.parse(path.read_text("utf-8"))):
            assert "agelens[" not in text, path
            assert "install agelens" not in text.replace("install agelens again", ""), path


def test_extras_that_are_advised_exist() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    calls = [
        node
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == how_to_install.__name__
    ]
    assert len(calls) >= 10
    for call in calls:
        extra, *package = (ast.literal_eval(argument) for argument in call.args)
        packages = {re.split(r"[><=\[]", requirement)[0] for requirement in extras[extra]}
        assert set(package) <= packages


def test_what_is_said() -> None:
    assert either_way("--threads 1", "threads=1") == "--threads 1 on the command line, threads=1 in Python"
    assert how_to_install("heif", "pillow-heif") == (
        "pip install pillow-heif, or install the extra 'heif' (in a checkout: pip install '.[heif]')"
    )
    assert how_to_install("train") == "install the extra 'train' (in a checkout: pip install '.[train]')"


def tree(kind: type[errors.AgelensError] = errors.AgelensError) -> Iterator[type[errors.AgelensError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


def test_every_error_has_a_code_of_its_own_and_stands_in_the_overview() -> None:
    kinds = list(tree())
    assert len({kind.code for kind in kinds}) == len(kinds)
    for kind in kinds[1:]:
        assert re.search(rf"\b{kind.__name__}\b", errors.__doc__ or ""), kind
        assert kind.exit_status in (1, 2, 3)
        assert 400 <= kind.http_status < 600


@pytest.mark.parametrize(
    ("kind", "parent", "exit_status", "http_status"),
    [
        (errors.RecordError, errors.AgelensError, 1, 500),
        (errors.UnknownSchemaError, errors.RecordError, 1, 500),
        (errors.DeviceError, errors.UsageError, 2, 422),
        (errors.MissingPackageError, errors.UsageError, 2, 501),
        (errors.UrlNotAllowedError, errors.InputError, 1, 403),
        (errors.UnknownModelError, errors.ModelError, 3, 500),
    ],
)
def test_an_error_is_what_its_name_says(
    kind: type[errors.AgelensError], parent: type[errors.AgelensError], exit_status: int, http_status: int
) -> None:
    assert kind.__mro__[1] is parent
    assert (kind.exit_status, kind.http_status) == (exit_status, http_status)
