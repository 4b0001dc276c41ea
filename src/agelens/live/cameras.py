"""Cameras of this machine, streams and files, read so that the newest frame wins."""

from __future__ import annotations

import platform
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agelens.errors import CameraError
from agelens.sources.address import SCHEMES
from agelens.video.backend import Native, load_av

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agelens.types import Pixels

STREAMS: Final = (*SCHEMES, "rtsp://", "rtsps://", "rtmp://", "udp://", "tcp://", "srt://")
TIMEOUT: Final = 10.0
"""Seconds that a stream may be silent."""

PAUSES: Final = (0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to open a camera that went away; the last one again and again."""

_DEVICES: Final = {"Linux": "v4l2", "Darwin": "avfoundation", "Windows": "dshow"}


def list_cameras() -> list[tuple[int, str]]:
    """Number and name of each camera, as far as the system tells (Linux)."""
    found = []
    for place in Path("/sys/class/video4linux").glob("video*"):
        number = place.name.removeprefix("video")
        if number.isdigit() and Path(f"/dev/video{number}").exists():
            try:
                name = (place / "name").read_text("utf-8", "replace").strip()
            except OSError:
                name = "camera"
            found.append((int(number), name))
    return sorted(found)


def describe_cameras() -> str:
    """Which cameras there are, as the end of a sentence."""
    found = list_cameras()
    if found:
        return "there are: " + ", ".join(f"{number} ({name})" for number, name in found)
    return "there is no camera on this machine; without --camera the page uses that of the browser"


class Camera:
    """Reads one camera, stream or file in a thread of its own and keeps the newest frame.

    Args:
        address: The number of a camera, the address of a stream, or a file, which is played at its own speed and again.

    Attributes:
        trouble: Why there is no new frame at the moment, or "".

    Raises:
        CameraError: It can't be opened.
        MissingPackageError: PyAV isn't installed.
    """

    def __init__(self, address: str) -> None:
        self._av = load_av()
        self._address = address
        self.trouble = ""
        self._newest: tuple[int, Pixels] | None = None
        self._condition = threading.Condition()
        self._stopped = threading.Event()
        container = self._open()  # the first attempt tells at once what is wrong
        self._thread = threading.Thread(target=self._run, args=(container,), name="agelens-camera", daemon=True)
        self._thread.start()

    @property
    def is_file(self) -> bool:
        """Whether it is a file, and no live source."""
        return not (self._address.isdigit() or self._address.lower().startswith(STREAMS))

    def take(self, after: int, timeout: float) -> tuple[int, Pixels] | None:
        """The newest frame and its number, once there is a later one than `after`; None where none came in time."""
        with self._condition:
            self._condition.wait_for(lambda: self._newest is not None and self._newest[0] > after, timeout)
            return self._newest if self._newest is not None and self._newest[0] > after else None

    def close(self) -> None:
        """Lets go of the camera."""
        self._stopped.set()
        self._thread.join(TIMEOUT)

    def _open(self) -> Native:
        av, address = self._av, self._address
        try:
            if address.isdigit():
                system = platform.system()
                name = {"Linux": f"/dev/video{address}", "Darwin": f"{address}:none"}.get(system, f"video={address}")
                return av.open(name, format=_DEVICES.get(system))
            if not self.is_file:
                options = {"rtsp_transport": "tcp", "flags": "low_delay"}
                return av.open(address, options=options, timeout=TIMEOUT)
            return av.open(address, options={"protocol_whitelist": "file"})
        except (av.error.FFmpegError, OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            if address.isdigit():
                raise CameraError(f"camera {address} can't be opened ({why}); {describe_cameras()}") from error
            raise CameraError(f"{address!r} can't be opened ({why}); {describe_cameras()}") from error

    def _run(self, container: Native) -> None:
        attempts = 0
        while not self._stopped.is_set():
            try:
                if container is None:
                    container = self._open()
                gave = False
                for pixels in self._frames(container):
                    attempts, gave = 0, True
                    self._put(pixels)
                    if self._stopped.is_set():
                        break
                if not self.is_file:
                    self.trouble = "the camera went away; trying again"
                elif not gave:
                    self.trouble = f"{self._address!r} gives no picture; trying again"
            except (CameraError, self._av.error.FFmpegError, OSError) as error:
                self.trouble = f"{error}; trying again"
            if container is not None:
                container.close()
                container = None
            if self.trouble:
                self._stopped.wait(PAUSES[min(attempts, len(PAUSES) - 1)])
                attempts += 1

    def _frames(self, container: Native) -> Iterator[Pixels]:
        if not container.streams.video:
            raise CameraError(f"{self._address!r} has no picture")
        stream = container.streams.video[0]
        stream.thread_type = "SLICE" if not self.is_file else "AUTO"  # threads by frame would each hold one back
        began: float | None = None
        for frame in container.decode(stream):
            if self.is_file and frame.time is not None:
                began = time.monotonic() - frame.time if began is None else began
                self._stopped.wait(max(began + frame.time - time.monotonic(), 0.0))
            turns = round(frame.rotation / 90) % 4
            pixels = frame.to_ndarray(format="rgb24")
            yield _turn(pixels, turns) if turns else pixels

    def _put(self, pixels: Pixels) -> None:
        with self._condition:
            self.trouble = ""
            self._newest = ((self._newest[0] if self._newest else 0) + 1, pixels)
            self._condition.notify_all()


def _turn(pixels: Pixels, turns: int) -> Pixels:
    import numpy as np

    return np.ascontiguousarray(np.rot90(pixels, turns))
