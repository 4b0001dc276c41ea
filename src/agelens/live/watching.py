"""Frames as they come -> faces with their tracks; one frame at a time, and never an old one."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from agelens.video.tracks import Tracker

if TYPE_CHECKING:
    from agelens.analyzer import Analyzer
    from agelens.live.recording import Recording
    from agelens.types import Face, Pixels
    from agelens.video.tracks import Track

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
        recording: Takes every frame that was looked at, if anything is to be recorded. It then numbers the people,
            since other watchers write to it too.
    """

    def __init__(self, analyzer: Analyzer, *, tracking: bool = True, recording: Recording | None = None) -> None:
        self._analyzer, self._recording = analyzer, recording
        self._tracker = Tracker(analyzer.spec, analyzer.options) if tracking else None
        self._numbers: dict[int, int] = {}  # of the tracker -> of the recording
        self._lock = threading.Lock()
        self._count = 0
        self._begin = time.monotonic()
        self._last: float | None = None
        self._rate = 0.0

    def look(self, pixels: Pixels) -> Seen:
        """Looks at one frame, RGB uint8 of shape (H, W, 3).

        Raises:
            OutputError: It can't be recorded.
            MissingCodecError: Nor can any other.
        """
        with self._lock:
            began = time.monotonic()
            faces = tuple(self._analyzer.predict(pixels))
            if self._tracker:
                faces = self._tracker.update(faces, pixels, self._count, began - self._begin)
                self._forget(self._tracker.take_ended())
            if self._recording is not None:
                faces = tuple(self._number(face, self._recording) for face in faces)
                self._recording.add(pixels, faces, self._analyzer.model)
            self._count += 1
            now = time.monotonic()
            if self._last is not None:
                rate = 1 / max(now - self._last, 1e-3)
                self._rate = rate if not self._rate else self._rate + RATE_SETTLING * (rate - self._rate)
            self._last = now
            return Seen(self._count, pixels, faces, (now - began) * 1000, self._rate)

    def _number(self, face: Face, recording: Recording) -> Face:
        if face.track is None:
            return face
        if face.track not in self._numbers:
            self._numbers[face.track] = recording.count_person()
        return replace(face, track=self._numbers[face.track])

    def _forget(self, ended: list[Track]) -> None:
        for track in ended:
            self._numbers.pop(track.number, None)
