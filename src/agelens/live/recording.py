"""What is watched live, kept on request: an annotated video, and a record a frame beside it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from agelens.errors import UsageError
from agelens.outfile import Target
from agelens.render import draw_on
from agelens.serialise import open_writer
from agelens.video.writer import VIDEO_ENDINGS, VideoWriter

if TYPE_CHECKING:
    from agelens.types import Pixels, Report

RATE: Final = Fraction(15)
"""Frames a second that the encoder is told to expect; each frame's own time counts."""


class Recording:
    """Writes to OUT and OUT.jsonl; a context manager, whose end completes both.

    Raises:
        UsageError: The name isn't a video's.
        OutputError: It can't be written.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in VIDEO_ENDINGS:
            raise UsageError(f"--record {path}: a video's name ends in one of {' '.join(VIDEO_ENDINGS)}")
        Target(path).discard()
        self._path = path
        self._video: VideoWriter | None = None
        self._records = open_writer(f"{path}.jsonl", "jsonl", video=True)
        self._begin = 0.0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, pixels: Pixels, report: Report) -> None:
        """Takes one frame, RGB uint8 of shape (H, W, 3), and what was found in it; the frame stays as it is.

        Raises:
            OutputError: It can't be written.
        """
        if self._closed:
            return
        seconds = report.time_seconds or 0.0
        if self._video is None:
            self._video = VideoWriter(self._path, (pixels.shape[1], pixels.shape[0]), RATE)
            self._begin = seconds
        drawn = pixels.copy()
        draw_on(drawn, report.faces)
        self._video.write(drawn, seconds - self._begin)
        self._records.write(report)

    def close(self) -> None:
        """Completes both files."""
        self._closed = True
        try:
            if self._video is not None:
                self._video.close()
        finally:
            self._records.close()
