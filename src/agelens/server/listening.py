"""uvicorn as this server needs it: strict with slow or large heads, and patient with the last requests at the end."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from agelens.errors import AgelensError, BadRequestError, HeadTooLargeError
from agelens.server.guard import STRICT_HEADERS
from agelens.server.problems import answer_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from agelens.server.engine import Engine

HEAD_LIMIT: Final = 10.0
"""Seconds until the head of a request, or the first byte of a new connection, has come."""

HEAD_BYTES: Final = 1 << 16
"""That may come before they are a whole head, a piece of a body, or the end of one."""

KEEP_ALIVE: Final = 30
"""Seconds that a connection stays open between requests, or while the rest of one that was answered comes."""

LINGER: Final = 1.0
"""Seconds that a connection without a request stays open when the server stops: what is on its way is answered; and
one that is refused, so that its client can read why."""

LAST_ACCEPTED: Final = 0.5
"""Seconds in which a server that stops still accepts who knocked before."""

FAREWELL: Final = 0.5
"""Seconds for those whose requests are cut off at the end to be told so."""

ROUNDS: Final = 5
SO_ATTACH_FILTER: Final = 26
"""Of Linux; the socket module has no name for it."""

BACKLOG: Final = 1024
STOPPING: Final = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, `kill`, and the terminal that was closed, which not every system tells."""


class Connection(HttpToolsProtocol):
    """One connection."""

    _due: asyncio.TimerHandle | None = None
    _unused = 0  # bytes that the parser was given, and has told nothing of yet
    _in_head = True
    _is_refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._arm(HEAD_LIMIT)

    def data_received(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest and not self._is_refused:
            room = HEAD_BYTES - self._unused
            if not room:
                self._refuse(
                    HeadTooLargeError(f"the head of a request has at most {HEAD_BYTES:,} bytes; send shorter headers")
                )
                return
            block, rest = bytes(rest[:room]), rest[room:]
            self._unused += len(block)
            super().data_received(block)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._arm(HEAD_LIMIT)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes behind a body would pass for what the guard has seen
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unused, self._in_head = 0, False
        self._disarm()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unused = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unused = 0
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._arm(KEEP_ALIVE)

    def send_400_response(self, msg: str) -> None:
        """What uvicorn answers to what is no HTTP."""
        del msg
        self._refuse(BadRequestError("the request is no HTTP/1.1; call the server by http:// and check the program"))

    def _refuse(self, problem: AgelensError) -> None:
        """Answers what no request can be made of, unless another answer is under way, and hears no more."""
        self._is_refused = True
        if self.pipeline or (self.cycle and self.cycle.response_started and not self.cycle.response_complete):
            self.transport.abort()
            return
        if self.cycle and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        answer = answer_problem(problem, headers={"Connection": "close"})
        headers = b"".join(b"%s: %s\r\n" % header for header in [*answer.raw_headers, *STRICT_HEADERS])
        self.transport.write(STATUS_LINE[answer.status_code] + headers + b"\r\n" + bytes(answer.body))
        self.transport.write_eof()  # a socket that is closed while more comes takes the answer back
        self._arm(LINGER)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Told that the server stops."""
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
        else:
            self.loop.call_later(LINGER, super().shutdown)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._due = self.loop.call_later(seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


class Listener(uvicorn.Server):
    """One process's server. Ends without an error once it was told to and has answered everything.

    What takes longer than the settings allow is cut off, and the process with it: a thread can't be.
    """

    _stop_by: float | None = None
    _end: threading.Timer | None = None

    def __init__(self, config: uvicorn.Config, engine: Engine, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._engine, self._on_ready = engine, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._engine.metrics.set("agelens_ready", 1.0)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers all that was accepted, and accepts nothing more."""
        self._engine.admission.stopping = True
        self._engine.metrics.set("agelens_ready", 0.0)
        if self._engine.settings.workers == 1:  # else the socket is shared, and who watches over all does that
            for listening in sockets or []:
                refuse_newcomers(listening)
        self._end = threading.Timer(self._seconds_left() + FAREWELL, os._exit, (0,))
        self._end.daemon = True
        self._end.start()
        pause = min(LAST_ACCEPTED, self._seconds_left()) / ROUNDS
        for _ in range(ROUNDS):  # in each of which the loop accepts whoever stands in line
            await asyncio.sleep(pause)
        cast("Any", self.config).timeout_graceful_shutdown = self._seconds_left()
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=FAREWELL)

    def spare_process(self) -> None:
        """All has ended in time, and the process may go on."""
        if self._end is not None:
            self._end.cancel()

    def _seconds_left(self) -> float:
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self._engine.settings.drain_limit
        return max(self._stop_by - time.monotonic(), 0.0)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal to stop doesn't strike again afterwards."""
        before: dict[int, Any] = catch_stopping(self.handle_exit)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del frame
        self._seconds_left()  # from the first signal on
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def refuse_newcomers(listening: socket.socket) -> None:
    """From now on nobody gets in line; those who stand in it can still be accepted.

    Whoever is in line when a socket is closed would be thrown out although it was connected. So on Linux a filter drops
    what asks for a new connection: such a client tries again by itself, and then finds that nobody listens.
    """
    with suppress(OSError):  # where filters are forbidden, or are none
        drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0), 8)  # BPF_RET | BPF_K: keep 0 bytes
        if sys.platform == "linux":
            listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(drop)))
            return
    listening.listen(0)


def catch_stopping(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Lets signals to stop come to `handler`, but for those that the starter wants ignored, as `nohup` does.

    Returns:
        What handled them before.
    """
    heeded = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heeded}


def make_listener(app: ASGIApp, engine: Engine, on_ready: Callable[[], None]) -> Listener:
    """A server that isn't started; `on_ready` is called once it takes requests on, and signals to stop."""
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
    )
    return Listener(config, engine, on_ready)
