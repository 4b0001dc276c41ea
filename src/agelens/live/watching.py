"""Frames as they come -> faces with their tracks; one frame at a time, and never an old one."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agelens.types import Report
from agelens.video.tracks import Tracker

if TYPE_CHECKING:
    from agelens.analyzer import Analyzer
    from agelens.live.recording import Recording
    from agelens.types import Face, Pixels

RATE_SETTLING: Final = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One frame that was looked at.

    Attributes:
        number: From 1.
        pixels: RGB uint8, shape (H, W, 3).
        faces: With their tracks, from left to right.
        milliseconds: How long looking took.
        rate: Frames looked at a second, settling.
    """

    number: int
    pixels: Pixels
    faces: tuple[Face, ...]
    milliseconds: float
    rate: float

    def to_dict(self) -> dict[str, Any]:
        """What a page draws."""
        return {
            "number": self.number,
            "width": self.pixels.shape[1],
            "height": self.pixels.shape[0],
            "faces": [face.to_dict() for face in self.faces],
            "milliseconds": round(self.milliseconds, 1),
            "rate": round(self.rate, 1),
        }


class Watcher:
    """Looks at the frames of one camera. Safe to call from many threads; they take turns.

    Args:
        analyzer: Opened for frames.
        tracking: Whether faces keep an identity and their looks are fused.
        recording: Takes every frame that was looked at, if anything is to be recorded.
    """

    def __init__(self, analyzer: Analyzer, *, tracking: bool = True, recording: Recording | None = None) -> None:
        self._analyzer, self._recording = analyzer, recording
        self._tracker = Tracker(analyzer.spec, analyzer.options) if tracking else None
        self._lock = threading.Lock()
        self._count = 0
        self._begin = time.monotonic()
        self._last: float | None = None
        self._rate = 0.0

    def look(self, pixels: Pixels) -> Seen:
        """Looks at one frame, RGB uint8 of shape (H, W, 3).

        Raises:
            OutputError: It can't be recorded.
        """
        with self._lock:
            began = time.monotonic()
            seconds = began - self._begin
            faces = tuple(self._analyzer.predict(pixels))
            if self._tracker:
                faces = self._tracker.update(faces, pixels, self._count, seconds)
                self._tracker.take_ended()
            if self._recording is not None:
                height, width = pixels.shape[:2]
                report = Report("live", width, height, faces, self._analyzer.model, None, None, self._count, seconds)
                self._recording.add(pixels, report)
            self._count += 1
            now = time.monotonic()
            if self._last is not None:
                rate = 1 / max(now - self._last, 1e-3)
                self._rate = rate if not self._rate else self._rate + RATE_SETTLING * (rate - self._rate)
            self._last = now
            return Seen(self._count, pixels, faces, (now - began) * 1000, self._rate)
