"""docs/server.md is true: its commands run, its container and its service start what the README starts."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from agelens.errors import ServerError
from command import EXAMPLE, ROOT, environment, run
from serving import Server, serving

DOCUMENT = (ROOT / "docs" / "server.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
INSTALL = "pip install '.[serve]'"


def blocks(mark: str) -> list[tuple[str, str]]:
    """Language and text of the blocks below a mark."""
    return re.findall(rf"<!-- {mark} -->\n```(\w+)\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture(scope="module")
def server(stand_in: Path) -> Iterator[Server]:
    with serving("--model", stand_in, "--quiet") as running:
        yield running


@pytest.mark.parametrize(("language", "code"), blocks("ask"))
def test_what_the_document_asks_is_answered(server: Server, tmp_path: Path, language: str, code: str) -> None:
    for name in ("family.jpg", "other.jpg"):
        shutil.copy(EXAMPLE, tmp_path / name)
    code = code.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    if language == "sh":
        if shutil.which("curl") is None:
            pytest.skip("needs curl")
        command = ["/bin/sh", "-e", "-c", code.replace("curl ", "curl --silent --fail ")]
    else:
        command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=60)
    assert done.returncode == 0, done.stderr
    assert "female" in done.stdout or "male" in done.stdout
    if language == "sh":
        assert (tmp_path / "annotated.jpg").stat().st_size > 10_000


def test_the_document_lists_the_paths_and_statuses_that_there_are(server: Server) -> None:
    made = server.get("/openapi.json").json()["paths"]
    listed = set(re.findall(r"^\| `(?:GET|POST) (/\S*)` \|", DOCUMENT, re.MULTILINE))
    assert listed == {*made, "/openapi.json", "/"}
    told = {
        int(status) for status in re.findall(r"\b[45]\d\d\b", DOCUMENT.split("| status | when |")[1].split("\n\n")[0])
    }
    kinds = [ServerError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    assert told >= {kind.http_status for kind in kinds} - {404, 405, 500}
    for name in re.findall(r"`(agelens_[a-z_]+)", DOCUMENT):
        assert f"# TYPE {name} " in server.get("/metrics").body.decode(), name


def options_of(command: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in command if word.startswith("--")}


def known_options() -> set[str]:
    return set(re.findall(r"(--[a-z-]+)", run("serve", "--help").stdout))


def test_every_option_of_the_document_exists() -> None:
    section = DOCUMENT.split("## In a container")[0]
    found = set(re.findall(r"`(--[a-z-]+)", section))
    assert found
    assert found <= known_options()


def test_the_container_runs_the_commands_of_the_readme() -> None:
    assert INSTALL in README
    assert INSTALL in DOCUMENT
    assert "agelens serve" in README
    steps = dict(re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", DOCKERFILE, re.MULTILINE))
    command = [*json.loads(steps["ENTRYPOINT"]), *json.loads(steps["CMD"])]
    assert command[:2] == ["agelens", "serve"]
    assert options_of(command) <= known_options()
    # The same packages: what pip is asked for there is what it is asked for here.
    (asked,) = re.findall(r"pip install (?:--\S+ )*('[^']+')", DOCKERFILE)
    assert f"pip install {asked}" == INSTALL
    assert re.search(r"^USER 65532:65532$", DOCKERFILE, re.MULTILINE)
    copied = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    assert all((ROOT / name).exists() for name in copied)


def test_the_document_builds_and_runs_that_container() -> None:
    ((_, code),) = blocks("container")
    build, start = (shlex.split(line) for line in code.strip().splitlines())
    assert build == ["docker", "build", "--tag", "agelens", "."]
    assert {"--read-only", "--cap-drop", "--security-opt"} <= options_of(start)
    assert start[-1] == "agelens"
    (port,) = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    assert f"127.0.0.1:{port}:{port}" in start
    assert f"127.0.0.1:{port}/readyz" in DOCKERFILE


def test_the_makefile_serves_with_the_same_command() -> None:
    recipe = MAKEFILE.split("\nserve:")[1].split("\n\n")[0]
    assert "agelens serve" in recipe
    assert "'.[serve]'" in MAKEFILE
    assert "make serve" in DOCUMENT


def read_unit() -> configparser.ConfigParser:
    ((_, text),) = blocks("unit")
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str
    unit.read_string(text)
    return unit


def test_the_service_starts_as_it_is_written(stand_in: Path) -> None:
    command = shlex.split(read_unit()["Service"]["ExecStart"])
    assert command[:2] == ["/opt/agelens/bin/agelens", "serve"]
    assert options_of(command) <= known_options()
    arguments = [word for word in command[2:] if word not in ("--port", "8000")]
    # An unwritable home and working folder, as ProtectSystem=strict makes them.
    with serving("--model", stand_in, *arguments, HOME="/nonexistent") as running:
        assert running.get("/readyz").status == 200
    limit = int(read_unit()["Service"]["TimeoutStopSec"])
    assert limit > 30, "systemd must not kill what is still draining"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_the_service(tmp_path: Path) -> None:
    ((_, text),) = blocks("unit")
    unit = tmp_path / "agelens.service"
    unit.write_text(text.replace("/opt/agelens/bin/agelens", shutil.which("env") or "/usr/bin/env"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    if "Failed to initialize manager" in done.stderr:
        pytest.skip(f"systemd-analyze does not run here: {done.stderr.strip()}")
    complaints = [line for line in done.stderr.splitlines() if "agelens.service" in line]
    assert not complaints


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody else")
def test_it_runs_as_a_user_who_may_write_nowhere() -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    nobody = ["setpriv", "--reuid", "65532", "--regid", "65532", "--clear-groups", sys.executable]
    spare = environment(PYTHONDONTWRITEBYTECODE="1", HOME="/nonexistent")
    probe = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import agelens.zoo'], check=True)"
    if subprocess.run([*nobody, "-c", probe], cwd="/", env=spare, capture_output=True).returncode:
        pytest.skip("Python or the packages lie where only root may reach them")
    command = [*nobody, "-m", "agelens", "serve", "--port", "0", "--workers", "2"]
    with subprocess.Popen(command, cwd="/", env=spare, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            # onnxruntime complains of a home that it can't write to.
            greeting = next((line for line in process.stderr if b"agelens serve: http://" in line), b"")
            assert greeting
            port = int(greeting.split(b"(")[0].rsplit(b":", 1)[1])
            assert Server(process, port).post(EXAMPLE.read_bytes()).status == 200
        finally:
            process.terminate()
            assert process.wait(30) == 0
