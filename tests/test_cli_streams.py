"""Pipes, signals, and a standard input that stays open."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from command import COMMAND, EXAMPLE, environment, records, start

MANY = 300
PIPE_HOLDS = 1 << 16


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(MANY):
        shutil.copy(EXAMPLE, folder / f"{number}.jpg")
    return folder


def wait_until_something_is_there(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if sum(1 for _ in folder.glob("*.jpg")) >= 5:
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing appeared in {folder}")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_in_the_middle_what_is_finished_is_valid(
    many: Path, tmp_path: Path, stand_in: Path, number: signal.Signals, status: int
) -> None:
    out = tmp_path / "out"
    process = start("predict", many, "--model", stand_in, "-o", out)
    wait_until_something_is_there(out)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    said = errors.decode()
    assert process.returncode == status, said
    assert "Traceback" not in said
    assert said.count("\n") == 1
    found = records((out / "predictions.jsonl").read_text("utf-8"))
    assert 0 < len(found) < MANY
    assert f"interrupted; {len(found)} pictures, {len(found)} faces, saved in {out / 'predictions.jsonl'}" in said
    assert [Path(record["source"]).name for record in found] == [f"{number}.jpg" for number in range(len(found))]
    copies = {path.name for path in out.glob("*.jpg")}
    assert {Path(record["source"]).name for record in found} <= copies, "each record has its copy"
    assert not list(out.glob(".*")), "no half-written file"


def test_interrupted_while_standard_input_is_silent(stand_in: Path) -> None:
    process = start("predict", "-", "--model", stand_in, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{EXAMPLE}\n".encode())
    process.stdin.flush()
    line = process.stdout.readline()  # comes though the input stays open
    assert len(json.loads(line)["faces"]) == 1
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode() == "agelens predict: interrupted; 1 picture, 1 face\n"


def test_strict_ends_although_standard_input_stays_open(stand_in: Path) -> None:
    process = start("predict", "-", "--model", stand_in, "--strict", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"/nowhere/none.jpg\n")
    process.stdin.flush()
    assert process.wait(timeout=60) == 1
    process.communicate()


def test_a_reader_that_goes_away_is_no_drama(many: Path, stand_in: Path) -> None:
    process = start("predict", many, "--model", stand_in)
    assert process.stdout is not None
    assert process.stderr is not None
    json.loads(process.stdout.readline())
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait(timeout=60) == 141
    assert said == ""
    process.stderr.close()


@pytest.mark.parametrize("arguments", [["models", "show", "agelens-base"], ["--help"]])
def test_a_reader_that_goes_away_is_no_drama_for_other_commands(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run([*COMMAND, *arguments], stdout=gone, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


def test_closed_standard_output_is_told(stand_in: Path) -> None:
    command = " ".join([*COMMAND, "predict", str(EXAMPLE), "--model", str(stand_in), ">&-"])
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, env=environment(), timeout=60)
    assert done.returncode == 1
    assert b"standard output is closed" in done.stderr


def test_a_full_non_blocking_pipe_loses_nothing(many: Path, stand_in: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = start("predict", many, many, "--model", stand_in, "--task", "age", stdout=writer)
    os.close(writer)
    assert process.stderr is not None
    found, block = bytearray(), os.read(reader, 100)
    time.sleep(1.0)  # meanwhile more comes than a pipe holds
    while block:
        found += block
        block = os.read(reader, 1 << 16)
    os.close(reader)
    assert process.wait(timeout=60) == 0, process.stderr.read()
    process.stderr.close()
    assert len(records(found.decode())) == 2 * MANY


def test_ctrl_c_is_prompt_though_nobody_reads_standard_output(many: Path, stand_in: Path) -> None:
    process = start("predict", many, "--model", stand_in)
    assert process.stdout is not None
    assert process.stderr is not None
    waiting, deadline = 0, time.monotonic() + 60
    while waiting < PIPE_HOLDS - 2000 and time.monotonic() < deadline:
        time.sleep(0.05)
        (waiting,) = struct.unpack("i", fcntl.ioctl(process.stdout, termios.FIONREAD, b"\0" * 4))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    said = process.stderr.read().decode()
    assert said.startswith("agelens predict: interrupted; ")
    assert said.endswith(", but standard output was not read to its end\n")
    found = records(process.stdout.read().decode())
    assert [Path(record["source"]).name for record in found] == [f"{number}.jpg" for number in range(len(found))]
    assert 50 < len(found) < MANY, "whole records until the pipe was full"
    process.stdout.close()
    process.stderr.close()


def test_a_slow_reader_gets_all_the_same(many: Path, stand_in: Path) -> None:
    process = start("predict", many, "--model", stand_in, "--quiet")
    time.sleep(2.5)  # more than the grace that it would have after a signal
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert len(records(out.decode())) == MANY


def test_a_non_blocking_standard_input_is_waited_for(stand_in: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    process = start("predict", "-", "--model", stand_in, stdin=reader)
    os.close(reader)
    time.sleep(0.5)
    os.write(writer, f"{EXAMPLE}\n".encode())
    os.close(writer)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert len(records(out.decode())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_standard_error_that_takes_nothing_stops_nothing(stand_in: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = start("predict", "/nowhere.jpg", EXAMPLE, "--model", stand_in, stderr=full)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert [len(record["faces"]) for record in records(out.decode())] == [0, 1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["models", "list"]])
def test_a_standard_output_that_takes_nothing_is_told(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        process = start(*arguments, stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.decode().startswith("agelens: the system refused: ")
    assert errors.count(b"\n") == 1


def test_no_file_takes_the_place_of_a_closed_stream(stand_in: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    command = " ".join([*COMMAND, "predict", str(EXAMPLE), "--model", str(stand_in), "-o", str(out), "<&- >&- 2>&-"])
    assert subprocess.run(["/bin/sh", "-c", command], env=environment(), timeout=60, check=False).returncode == 0
    assert len(records(out.read_text("utf-8"))) == 1
    shown = subprocess.run(["/bin/sh", "-c", " ".join([*COMMAND, "--version", ">&-"])], env=environment(), timeout=60)
    assert shown.returncode == 0


def test_memory_does_not_grow_with_the_folder(many: Path, tmp_path: Path, stand_in: Path) -> None:
    def peak(count: int) -> int:
        names = "\n".join(str(many / f"{number % MANY}.jpg") for number in range(count))
        process = start("predict", "-", "--model", stand_in, "-o", tmp_path / "out.jsonl", stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(names.encode())
        process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        process.returncode = 0
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        return usage.ru_maxrss

    assert peak(400) < 1.15 * peak(100)
