"""Documents are true: what they show runs, what they list exists, where they link to is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agelens.zoo import DEFAULT_MODEL, list_shipped
from command import EXAMPLE, ROOT, environment, run

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SNIPPET = re.compile(r"<!-- run -->\n```(\w+)\n(.*?)```", re.DOTALL)
SNIPPETS = [
    pytest.param(language, code, id=f"{path.name}-{number}")
    for path in DOCUMENTS
    for number, (language, code) in enumerate(SNIPPET.findall(path.read_text("utf-8")))
]
needs_model = pytest.mark.skipif(
    all(model.name != DEFAULT_MODEL for model in list_shipped()), reason=f"{DEFAULT_MODEL} is not in this tree"
)


def test_generated_documents_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools" / "write_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 0, done.stderr


def test_there_are_snippets_of_both_kinds() -> None:
    assert {parameter.values[0] for parameter in SNIPPETS} == {"sh", "python"}
    assert len(SNIPPETS) >= 7


@needs_model
@pytest.mark.parametrize(("language", "code"), SNIPPETS)
def test_snippets_run(language: str, code: str, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / "family.jpg")
    (tmp_path / "photos").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "photos" / "1.jpg")
    if language == "sh":
        command = ["/bin/sh", "-e", "-c", f'agelens() {{ "{sys.executable}" -m agelens "$@"; }}\n{code}']
    else:
        command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=120)
    assert done.returncode == 0, done.stderr
    made = {path.name for path in tmp_path.iterdir()} - {"family.jpg", "photos"}
    assert done.stdout or made


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text("utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("command", [["--help"], ["predict", "--help"], ["models", "--help"], ["prepare", "--help"]])
def test_help_is_there_with_examples(command: list[str]) -> None:
    done = run(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: agelens")
    if command[0] in ("--help", "predict"):
        assert "Examples:" in done.stdout


def test_every_option_in_the_docs_is_in_the_help() -> None:
    section = (ROOT / "docs" / "cli.md").read_text("utf-8").split("## `agelens predict`")[1].split("\n## ")[0]
    shown = run("predict", "--help").stdout
    flags = re.findall(r"`(--[a-z-]+)", section)
    assert len(flags) >= 18
    for flag in flags:
        assert flag in shown


def test_make_targets_of_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for path in DOCUMENTS:
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text("utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{path.name}: make {target}"


def test_the_example_picture_is_small_and_of_the_right_size() -> None:
    from PIL import Image

    assert (ROOT / "docs" / "example.jpg").stat().st_size < 200_000
    with Image.open(ROOT / "docs" / "example.jpg") as picture, Image.open(EXAMPLE) as original:
        assert picture.size == original.size
