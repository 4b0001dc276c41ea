"""What `agelens predict` says of videos on standard error: a bar with the time left, what went wrong, a summary."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from agelens.cli.progress import Bar, count_of, tell


class VideoTally:
    """Counts frames, and tells.

    Args:
        quiet: Tell nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.videos = self.frames = self.looks = self.people = 0
        self.failures: list[str] = []
        self._quiet = quiet
        self._bar = Bar(wanted=not quiet)
        self._total: int | None = None
        self._before = 0

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def begin(self, frames: int | None) -> None:
        """A video begins; `frames`: how many there will be, if somebody knows."""
        self.videos += 1
        self._before, self._total = self.frames, frames
        self._bar.restart(frames)

    def count(self, *, looked: bool) -> None:
        """One frame is done."""
        self.frames += 1
        self.looks += looked
        self._draw()

    def warn(self, source: str, why: str, code: str = "") -> None:
        """Tells what went wrong; with a `code`, the input counts as failed."""
        if code:
            self.failures.append(code)
        if not self._quiet:
            self._bar.say(f"agelens: {source!r}: {why}")

    def summarise(self, device: str, places: str) -> None:
        """Tells the totals in one line."""
        if not self._quiet:
            seconds = self._bar.seconds
            tell(f"{self.done()}; {seconds:,.1f} s, {self.frames / seconds:,.1f} frames/s, {device}{places}")

    def done(self) -> str:
        """What was done so far, in words."""
        parts = [count_of(self.frames, "frame")]
        if self.looks != self.frames:
            parts[0] += f" ({self.looks:,} looked at)"
        if self.videos > 1:
            parts.insert(0, count_of(self.videos, "video"))
        parts.append(count_of(self.people, "track"))
        if self.failures:
            parts.append(f"{count_of(len(self.failures), 'error')} ({', '.join(sorted(set(self.failures)))})")
        return ", ".join(parts)

    def _draw(self) -> None:
        if self._bar.is_due:
            words = f"{self.frames / self._bar.seconds:.1f} frames/s"
            self._bar.draw(self.frames - self._before, self._total, words)
