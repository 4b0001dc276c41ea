"""A clip through the corridor: frames are found and judged side by side, and told in order, with their tracks.

Frames between those that are looked at are handed on, too: their faces are drawn where they pass from one look to the
next.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

from agelens.types import Box, Face, Report
from agelens.video.tracks import Tracker

if TYPE_CHECKING:
    from collections.abc import Generator

    from agelens.analyzer import Analyzer
    from agelens.types import Pixels
    from agelens.video.frames import Frame
    from agelens.video.reader import VideoReader
    from agelens.video.tracks import Track

UNDER_WAY: Final = (4, 24)
"""Frames that were read and not yet taken, at least and at most: as many as `ROOM` holds."""

ROOM: Final = 48_000_000
"""Pixels of such frames."""

SMALLEST: Final = 63
"""A face is searched from this part of the longer side on: as small as the detector's first look shows."""


def least_face(width: int, height: int) -> float:
    """The smallest face, in pixels, for which a frame need not be searched more closely."""
    return max(width, height) / SMALLEST


def _frames_that_fit(width: int, height: int) -> int:
    least, most = UNDER_WAY
    return min(max(ROOM // (width * height), least), most)


@dataclass(frozen=True, slots=True)
class Pace:
    """Which frames are looked at.

    Attributes:
        every: One frame in so many.
        rate: Looks per second at most; None: no bound.
    """

    every: int = 1
    rate: float | None = None

    def choose(self, frames: Iterator[Frame]) -> Iterator[tuple[Frame, bool]]:
        """Each frame, and whether it is looked at; the first one is."""
        first: float | None = None
        looks = 0
        for count, frame in enumerate(frames):
            chosen = count % self.every == 0
            if chosen and self.rate is not None:
                first = frame.seconds if first is None else first
                due = first + looks / self.rate
                chosen = frame.seconds >= due - 1e-6
                if chosen:  # frames may be farther apart than looks are due
                    looks = int((frame.seconds - first) * self.rate + 1e-6) + 1
            yield frame, chosen


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One frame on its way out.

    Attributes:
        frame: The frame.
        report: What was found; None for a frame that wasn't looked at.
        faces: What is to be drawn.
        pixels: The upright frame, RGB uint8, shape (H, W, 3), of which the taker may do what he likes; None where the
            frames themselves aren't wanted.
    """

    frame: Frame
    report: Report | None
    faces: tuple[Face, ...]
    pixels: Pixels | None


class _StoppedError(Exception):
    """The taker has gone."""


class ClipAnalysis:
    """Runs one clip through an analyzer.

    Args:
        analyzer: Opened for frames: its `min_face` bounds how closely each is searched.
        reader: The clip.
        source: How records call it.
        pace: Which frames are looked at.
        tracking: Whether faces keep an identity and their looks are fused.
        shown: Whether every frame is wanted with its pixels.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        reader: VideoReader,
        source: str,
        *,
        pace: Pace,
        tracking: bool = True,
        shown: bool = False,
    ) -> None:
        self._analyzer, self._reader, self._source, self._pace, self._shown = analyzer, reader, source, pace, shown
        self._tracker = Tracker(analyzer.spec, analyzer.options) if tracking else None
        self._room = _frames_that_fit(reader.clip.width, reader.clip.height)
        self._items: queue.Queue[tuple[Frame, Pixels | None] | None] = queue.Queue(self._room)
        self._stopped = threading.Event()

    def take_ended(self) -> list[Track]:
        """The tracks that ended since the last call."""
        return self._tracker.take_ended() if self._tracker else []

    def finish(self) -> None:
        """Ends all tracks: the clip is over, or was broken off."""
        if self._tracker:
            self._tracker.finish()

    def run(self) -> Iterator[Shown]:
        """The frames that were looked at, or all where they are shown, in order.

        Raises:
            InputError: The file can't be read any more, or a frame has no colours that can be read.
        """
        reports = cast("Generator[Report]", self._analyzer.stream(self._feed()))
        between: list[Frame] = []
        before: Report | None = None
        try:
            # The first frame is always looked at; the stream, and with it the feeding, begins as its report is asked.
            report = next(reports, None)
            while report is not None:
                item = self._items.get()
                if item is None:
                    break
                frame, pixels = item
                if pixels is None:
                    between.append(frame)
                    if len(between) > self._room:
                        yield from self._show_between([between.pop(0)], before, None)
                    continue
                # The report of this very frame: it is the first one not yet taken.
                report = report if before is None else next(reports)
                report = self._complete(report, frame, pixels)
                yield from self._show_between(between, before, report)
                between, before = [], report
                yield Shown(frame, report, report.faces, pixels if self._shown else None)
            yield from self._show_between(between, before, None)
            next(reports, None)  # raises what ended the feeding, if that wasn't the end of the clip
        finally:
            self._stopped.set()
            reports.close()

    def _feed(self) -> Iterator[Pixels]:
        """What the analyzer's reading thread takes; every frame goes to `_items` beforehand."""
        try:
            for frame, chosen in self._pace.choose(self._reader.read_frames()):
                if chosen:
                    pixels = frame.read_pixels()
                    self._put((frame, pixels))
                    yield pixels
                elif self._shown:
                    self._put((frame, None))
        except _StoppedError:
            return
        finally:
            self._put_end()

    def _put(self, item: tuple[Frame, Pixels | None] | None) -> None:
        while not self._stopped.is_set():
            try:
                self._items.put(item, timeout=0.2)
            except queue.Full:
                continue
            return
        raise _StoppedError

    def _put_end(self) -> None:
        try:
            self._put(None)
        except _StoppedError:
            return

    def _complete(self, report: Report, frame: Frame, pixels: Pixels) -> Report:
        faces: Sequence[Face] = report.faces
        if self._tracker:
            faces = self._tracker.update(faces, pixels, frame.number, frame.seconds)
        return replace(report, source=self._source, faces=tuple(faces), frame=frame.number, time_seconds=frame.seconds)

    def _show_between(self, frames: Sequence[Frame], before: Report | None, after: Report | None) -> Iterator[Shown]:
        for frame in frames:
            faces = pass_between(before, after, frame.seconds) if before else ()
            yield Shown(frame, None, faces, frame.read_pixels())


def pass_between(before: Report, after: Report | None, seconds: float) -> tuple[Face, ...]:
    """The faces of a look, moved towards where the next look finds them."""
    if after is None or before.time_seconds is None or after.time_seconds is None:
        return before.faces
    share = (seconds - before.time_seconds) / max(after.time_seconds - before.time_seconds, 1e-9)
    later = {face.track: face for face in after.faces if face.track is not None}
    faces = []
    for face in before.faces:
        then = later.get(face.track) if face.track is not None else None
        if then is not None:
            faces.append(replace(face, box=_mix(face.box, then.box, share)))
        elif share < 0.5:
            faces.append(face)
    return tuple(faces)


def _mix(a: Box, b: Box, share: float) -> Box:
    return Box(
        a.x + share * (b.x - a.x),
        a.y + share * (b.y - a.y),
        a.width + share * (b.width - a.width),
        a.height + share * (b.height - a.height),
    )
