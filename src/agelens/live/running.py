"""The live page served until somebody stops it, or a window on the desktop."""

from __future__ import annotations

import contextlib
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn

from agelens.errors import UsageError
from agelens.live.app import Live, create_app
from agelens.live.cameras import Camera
from agelens.live.recording import Recording
from agelens.live.watching import Watcher

if TYPE_CHECKING:
    from agelens.analyzer import Analyzer

LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """How to run.

    Attributes:
        camera: The number of a camera of this machine, a stream's address or a file; None: the browser's camera.
        window: A window of the desktop in place of a page.
        record: Where to keep what is watched; None: nowhere.
        host: Address to listen at.
        port: 0 takes a free one.
        hosts: Names by which the page may be called besides the local ones.
        browser: Whether to open one.
        tracking: Whether faces keep an identity.
    """

    camera: str | None = None
    window: bool = False
    record: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8010
    hosts: tuple[str, ...] = ()
    browser: bool = True
    tracking: bool = True


class _Server(uvicorn.Server):
    """Ends once it `is_stopped`, and leaves signals alone: uvicorn's own would let them strike again afterwards."""

    def __init__(self, config: uvicorn.Config, is_stopped: Callable[[], bool]) -> None:
        super().__init__(config)
        self._is_stopped = is_stopped

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or self._is_stopped()
        return await super().on_tick(counter)


def run_live(
    analyzer: Analyzer, settings: LiveSettings, tell: Callable[[str], None], is_stopped: Callable[[], bool]
) -> None:
    """Watches until it is stopped.

    Args:
        analyzer: Opened for frames.
        settings: What to do.
        tell: Takes a line for whoever started it.
        is_stopped: Whether a signal to stop came. None may break this off, or the recording would not be completed.

    Raises:
        CameraError: The camera can't be opened.
        UsageError: The address can't be listened at, or there is no desktop for a window.
        OutputError: What is to be recorded can't be written.
        MissingCodecError: No codec is there for this kind of video.
    """
    with ExitStack() as stack:
        camera = None
        if settings.camera is not None or settings.window:
            camera = Camera(settings.camera or "0")
            stack.callback(camera.close)
        recording = stack.enter_context(Recording(settings.record)) if settings.record else None

        def make_watcher() -> Watcher:
            return Watcher(analyzer, tracking=settings.tracking, recording=recording)

        if settings.window:
            from agelens.live.window import show_window

            assert camera is not None
            show_window(camera, make_watcher(), is_stopped)
        else:
            _serve(make_watcher, camera, settings, tell, is_stopped)
    if recording is not None:
        what = "recorded in" if recording.frames else "no frame came, so nothing was written to"
        tell(f"agelens live: {what} {settings.record}")


def _serve(
    make_watcher: Callable[[], Watcher],
    camera: Camera | None,
    settings: LiveSettings,
    tell: Callable[[str], None],
    is_stopped: Callable[[], bool],
) -> None:
    names = LOCAL | {name.lower() for name in settings.hosts} | {settings.host.lower()}
    recorded = str(settings.record) if settings.record else ""
    live = Live(make_watcher, camera, frozenset(names), recorded)
    listening = _listen(settings)
    config = uvicorn.Config(
        create_app(live), log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1
    )
    server = _Server(config, is_stopped)
    watching = threading.Thread(
        target=live.watch_camera, args=(lambda: server.should_exit,), name="agelens-watch", daemon=True
    )
    if camera is not None:
        watching.start()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{listening.getsockname()[1]}/"
    tell(f"agelens live: {address} (Ctrl-C stops it)")
    if settings.browser and not is_stopped():
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(address)
    with listening:
        server.run(sockets=[listening])
    if camera is not None:
        watching.join(5)


def _listen(settings: LiveSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise UsageError(
            f"can't listen at {settings.host}, port {settings.port} ({error}); choose another --port, 0 for any"
        ) from error
    return listening
