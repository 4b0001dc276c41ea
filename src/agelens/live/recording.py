"""What is watched live, kept on request: an annotated video, and a record a frame beside it."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from agelens.errors import AgelensError, MissingCodecError, OutputError, UsageError
from agelens.outfile import Target, to_output_error
from agelens.render import draw_on
from agelens.serialise import Writer, open_writer
from agelens.types import Report
from agelens.video.writer import VIDEO_ENDINGS, VideoWriter

if TYPE_CHECKING:
    from agelens.types import Face, ModelId, Pixels

RATE: Final = Fraction(15)
"""Frames a second that the encoder is told to expect; each frame's own time counts."""


class Recording:
    """Writes to OUT and OUT.jsonl from the first frame on; a context manager, whose end completes both.

    All pages write to the same one, from many threads: here frames get their numbers and times, and people theirs. What
    can't be written ends it for good.

    Attributes:
        frames: How many there are so far.

    Raises:
        UsageError: The name isn't a video's.
        OutputError: It can't be written.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in VIDEO_ENDINGS:
            raise UsageError(f"--record {path}: a video's name ends in one of {' '.join(VIDEO_ENDINGS)}")
        self._path, self._records_path = path, Path(f"{path}.jsonl")
        for place in (self._path, self._records_path):
            Target(place).discard()
        self.frames = 0
        self._people = 0
        self._begin = 0.0
        self._video: VideoWriter | None = None
        self._records: Writer | None = None
        self._failure: AgelensError | None = None
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def count_person(self) -> int:
        """The number of one more person, from 1, whoever watches them."""
        with self._lock:
            self._people += 1
            return self._people

    def add(self, pixels: Pixels, faces: tuple[Face, ...], model: ModelId) -> None:
        """Takes one frame, RGB uint8 of shape (H, W, 3), and what was found in it; the frame stays as it is.

        Raises:
            OutputError: It can't be written, or an earlier one couldn't.
            MissingCodecError: No codec is there for this kind of video.
        """
        with self._lock:
            self._check()
            if self._closed:
                return
            try:
                self._write(pixels, faces, model)
            except BrokenPipeError as error:  # the records may go to a pipe, whose reader may go away
                self._failure = to_output_error(error, self._records_path)
                raise self._failure from error
            except (OutputError, MissingCodecError) as error:
                self._failure = error
                raise

    def close(self) -> None:
        """Completes both files.

        Raises:
            OutputError: One of them can't be completed, or a frame couldn't be written.
            MissingCodecError: No codec was there for this kind of video.
        """
        with self._lock:
            self._closed = True
            try:
                if self._video is not None:
                    self._video.close()
            finally:
                if self._records is not None:
                    self._records.close()
            self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # which would grow with each frame, and hold them all

    def _write(self, pixels: Pixels, faces: tuple[Face, ...], model: ModelId) -> None:
        height, width = pixels.shape[:2]
        now = time.monotonic()
        if self._video is None:
            self._video = VideoWriter(self._path, (width, height), RATE)
            self._begin = now
        if self._records is None:
            self._records = open_writer(self._records_path, "jsonl", video=True)
        seconds = now - self._begin
        drawn = pixels.copy()
        draw_on(drawn, faces)
        self._video.write(drawn, seconds)
        self._records.write(Report("live", width, height, faces, model, frame=self.frames, time_seconds=seconds))
        self.frames += 1
