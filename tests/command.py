"""Runs `agelens` as users do: as a process of its own.

run(...)       the finished process, its output as text
start(...)     a process that is still running
on_terminal()  what a process writes where standard output is a terminal
records(...)   JSON Lines as a list
EXAMPLE        the photo that ships
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "src" / "agelens" / "examples" / "astronaut.jpg"
COMMAND = [sys.executable, "-m", "agelens"]


def environment(**changes: str) -> dict[str, str]:
    """The environment of a user: this source tree, a plain terminal of 120 columns."""
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "COLUMNS": "120", "TERM": "xterm", "PYTHONUTF8": "1"} | changes


def run(*arguments: str | Path, stdin: str | bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end. Bytes of names are kept through `surrogateescape`."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [*COMMAND, *map(os.fspath, arguments)], input=data, capture_output=True, cwd=cwd, env=environment(), timeout=120
    )
    out, err = (stream.decode("utf-8", "surrogateescape") for stream in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    """Starts the command; the caller ends it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    # A test runner may have been started with Ctrl-C ignored, which children inherit.
    return subprocess.Popen(
        [*COMMAND, *map(os.fspath, arguments)],
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **pipes,
    )


def on_terminal(*arguments: str | Path, stderr_too: bool = False) -> tuple[int, str, str]:
    """Runs the command with standard output, or standard error too, on a terminal.

    Returns:
        Exit status, what the terminal showed, and what came on standard error.
    """
    controller, terminal = pty.openpty()
    process = start(*arguments, stdin=terminal, stdout=terminal, stderr=terminal if stderr_too else subprocess.PIPE)
    os.close(terminal)
    shown = bytearray()
    while True:
        try:
            block = os.read(controller, 1 << 16)
        except OSError:  # how Linux says that the other end is closed
            break
        if not block:
            break
        shown += block
    os.close(controller)
    _, errors = process.communicate(timeout=120)
    return process.returncode, shown.decode("utf-8", "replace"), (errors or b"").decode()


def records(lines: str) -> Sequence[dict[str, Any]]:
    """JSON Lines -> records; every line must be one."""
    return [json.loads(line) for line in lines.splitlines()]
