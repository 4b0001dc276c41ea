"""Runs the server: in this process, or in several that share one socket and are replaced when they die."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agelens.errors import AgelensError, UsageError
from agelens.server.app import create_app
from agelens.server.engine import Engine
from agelens.server.listening import BACKLOG, catch_stopping, make_listener, refuse_newcomers
from agelens.server.metrics import Board, Metrics

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from types import FrameType

    from agelens.server.settings import ServerSettings

CALM: Final = 1.0
"""Seconds before a process that died is replaced; twice as many each time that one dies before it serves."""

LONGEST_CALM: Final = 60.0

Tell = Callable[[str], None]

log = logging.getLogger("agelens.server")


def run_server(settings: ServerSettings, tell: Tell) -> int:
    """Serves until it is told to stop by SIGTERM or Ctrl-C, and has answered what it accepted.

    Args:
        settings: What to do.
        tell: Takes a line for whoever started it.

    Returns:
        The exit status.

    Raises:
        ModelError: A model is unknown, damaged or unfit, or the device isn't there.
        UsageError: The address can't be listened on.
    """
    listening = open_socket(settings)
    address = describe_address(settings, listening)
    if not settings.is_local and settings.api_key is None:
        tell("agelens serve: whoever reaches this address can use it; set AGELENS_API_KEY to ask for a key")
    if settings.workers == 1:
        return serve(settings, listening, Metrics(), lambda device: tell(_greet(address, settings, device)))
    return Supervisor(settings, listening, lambda: tell(_greet(address, settings, settings.device))).run()


def open_socket(settings: ServerSettings) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: The address is taken, forbidden, or no address of this machine.
    """
    where = f"{settings.host} port {settings.port}"
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise UsageError(
            f"can't listen on {where}: {error.strerror or error}; choose others with --host and --port"
        ) from error


def describe_address(settings: ServerSettings, listening: socket.socket) -> str:
    """How to call the server."""
    return f"http://{settings.url_host}:{listening.getsockname()[1]}"


def _greet(address: str, settings: ServerSettings, device: str) -> str:
    processes = "1 process" if settings.workers == 1 else f"{settings.workers} processes"
    return (
        f"agelens serve: {address} ({settings.model} on {device}, {processes}, {settings.threads_each} pictures at once"
        " in each; Ctrl-C stops)"
    )


def serve(settings: ServerSettings, listening: socket.socket, metrics: Metrics, on_ready: Callable[[str], None]) -> int:
    """Serves in this process.

    Raises:
        ModelError: A model is unknown, damaged or unfit, or the device isn't there.
    """
    set_up_logging()
    engine = Engine(settings, metrics)
    try:
        engine.warm_up()
        listener = make_listener(create_app(engine), engine, lambda: on_ready(engine.device))
        listener.run([listening])
    finally:
        engine.close()
    listener.spare_process()
    return 0


class _Private(logging.Filter):
    """Tells of an error where it struck, and not what it says: that may be about somebody's picture."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(trace)]
            record.msg = f"{record.getMessage().strip()}: {kind.__name__} at {' < '.join(reversed(places[-6:]))}"
            record.args, record.exc_info, record.exc_text = (), None, None
        return True


def set_up_logging() -> None:
    """Lines on standard error: requests, and what uvicorn warns of."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handler.addFilter(_Private())
    for name, level in (("agelens.server", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


class Supervisor:
    """Several processes on one socket: started, watched, replaced, and stopped together.

    Args:
        settings: What to do.
        listening: The socket.
        on_ready: Called once all take requests on.
    """

    def __init__(self, settings: ServerSettings, listening: socket.socket, on_ready: Callable[[], None]) -> None:
        self._settings, self._listening, self._on_ready = settings, listening, on_ready
        self._board = Board.shared(settings.workers)
        self._processes: dict[int, SpawnProcess] = {}
        self._due = dict.fromkeys(range(settings.workers), 0.0)  # when those that don't run are started
        self._calm = dict.fromkeys(range(settings.workers), CALM)
        self._begun: set[int] = set()
        self._told = self._is_stopping = False

    def run(self) -> int:
        """Returns the exit status once all have ended.

        A process that dies is replaced as long as another is there. If one can't even begin when all are started, or
        when none is left, the server ends.

        Raises:
            UsageError: The system doesn't start so many.
        """
        set_up_logging()
        catch_stopping(self._stop)
        status: int | None = None
        try:
            while not self._is_stopping and status is None:
                self._start_due()
                connection.wait([process.sentinel for process in self._processes.values()], timeout=0.2)
                self._note_begun()
                status = self._let_go_of_dead()
        finally:
            self._end()
        return status or 0

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._is_stopping = True

    def _start_due(self) -> None:
        for row in [row for row, due in self._due.items() if due <= time.monotonic()]:
            arguments = (self._settings, self._listening, self._board, row)
            process = get_context("spawn").Process(target=_serve_beside, args=arguments, name=f"agelens-serve-{row}")
            try:
                process.start()
            except OSError as error:  # no memory, or no process more
                if not self._told:
                    many = self._settings.workers
                    raise UsageError(f"can't start {many} processes: {error}; lower --workers") from error
                self._put_off(row, f"can't be started ({error.strerror})")
            else:
                self._processes[row] = process
                del self._due[row]

    def _note_begun(self) -> None:
        self._begun |= {row for row in self._processes if self._board.is_ready(row)}
        for row in self._begun:
            self._calm[row] = CALM
        if not self._told and len(self._begun) == self._settings.workers:
            self._told = True
            self._on_ready()

    def _let_go_of_dead(self) -> int | None:
        """Has dead processes replaced; the exit status to end with if there is no use in that."""
        for row, process in [(row, process) for row, process in self._processes.items() if not process.is_alive()]:
            del self._processes[row]
            code = process.exitcode or 0
            why = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            has_begun = row in self._begun or self._board.is_ready(row)
            if not has_begun and not (self._told and self._processes):
                if code <= 0:  # else it has said why
                    sys.stderr.write(f"agelens serve: a process {why} before it could serve; is there memory enough?\n")
                return code if code > 0 else 1
            self._begun.discard(row)
            self._board.clear_ready(row)
            self._put_off(row, why)
        return None

    def _put_off(self, row: int, why: str) -> None:
        log.warning("process %d %s, another takes its place", row, why)
        self._due[row] = time.monotonic() + self._calm[row]
        self._calm[row] = min(2 * self._calm[row], LONGEST_CALM)

    def _end(self) -> None:
        refuse_newcomers(self._listening)
        self._listening.close()  # the processes have theirs; while this one is open, callers would wait in vain
        for process in self._processes.values():
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)
        for process in self._processes.values():
            process.join(self._settings.drain_limit + 10)
            if process.is_alive():
                process.kill()
                process.join()


def _serve_beside(settings: ServerSettings, listening: socket.socket, board: Board, row: int) -> None:
    """What one of several processes does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all, and the one that watches passes it on
    _follow_parent()
    try:
        status = serve(settings, listening, Metrics(board, row), lambda _: None)
    except AgelensError as error:
        sys.stderr.write(f"agelens serve: {error.message}\n")
        status = error.exit_status
    sys.stderr.flush()
    os._exit(status)


def _follow_parent() -> None:
    """Stops when the process that watches over this one is gone."""
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="agelens-follow", daemon=True).start()
