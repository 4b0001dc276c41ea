"""uvicorn as this server needs it: strict with slow heads, and patient with the last requests when it is to stop."""

from __future__ import annotations

import asyncio
import ctypes
import math
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from agelens.server.engine import Engine

HEAD_LIMIT: Final = 10.0
"""Seconds until the head of a request, or the first byte of a new connection, has come."""

KEEP_ALIVE: Final = 30
LINGER: Final = 1.0
"""Seconds that a connection without a request stays open when the server stops: what is on its way is answered."""

LAST_ACCEPTED: Final = 0.5
"""Seconds in which a server that stops still accepts who knocked before."""

ROUNDS: Final = 5
SO_ATTACH_FILTER: Final = 26
"""Of Linux; the socket module has no name for it."""

BACKLOG: Final = 1024
STOPPING: Final = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, `kill`, and the terminal that was closed, which not every system tells."""


class Connection(HttpToolsProtocol):
    """One connection."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._arm()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arm()

    def on_headers_complete(self) -> None:
        self._disarm()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Told that the server stops."""
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
        else:
            self.loop.call_later(LINGER, super().shutdown)

    def _arm(self) -> None:
        self._disarm()
        self._due = self.loop.call_later(HEAD_LIMIT, self.transport.abort)

    def _disarm(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


class Listener(uvicorn.Server):
    """One process's server. Ends without an error once it was told to and has answered everything."""

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
        for _ in range(ROUNDS):  # in each of which the loop accepts whoever stands in line
            await asyncio.sleep(LAST_ACCEPTED / ROUNDS)
        await super().shutdown(sockets)

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
        timeout_graceful_shutdown=math.ceil(engine.settings.drain_limit),
    )
    return Listener(config, engine, on_ready)
