"""What `agelens predict` says of videos on standard error: a bar with the time left, what went wrong, a summary."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agelens.cli.progress import PATIENCE, tell

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class VideoTally:
    """Counts frames, and tells.

    Args:
        quiet: Tell nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.videos = self.frames = self.looks = self.people = 0
        self.failures: list[str] = []
        self._quiet = quiet
        self._start = self._drawn = time.monotonic()
        self._with_bar = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._total: int | None = None
        self._before = 0

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, frames: int | None) -> None:
        """A video begins; `frames`: how many there will be, if somebody knows."""
        self.videos += 1
        self._before, self._total = self.frames, frames
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=frames)

    def count(self, *, looked: bool) -> None:
        """One frame is done."""
        self.frames += 1
        self.looks += looked
        self._draw()

    def warn(self, source: str, why: str, code: str = "") -> None:
        """Tells what went wrong; with a `code`, the input counts as failed."""
        if code:
            self.failures.append(code)
        if self._quiet:
            return
        line = f"agelens: {source!r}: {why}"
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            tell(line)

    def summarise(self, device: str, places: str) -> None:
        """Tells the totals in one line."""
        if not self._quiet:
            seconds = max(time.monotonic() - self._start, 1e-3)
            tell(f"{self.done()}; {seconds:,.1f} s, {self.frames / seconds:,.1f} frames/s, {device}{places}")

    def done(self) -> str:
        """What was done so far, in words."""
        parts = [_count(self.frames, "frame")]
        if self.looks != self.frames:
            parts[0] += f" ({self.looks:,} looked at)"
        if self.videos > 1:
            parts.insert(0, _count(self.videos, "video"))
        parts.append(_count(self.people, "track"))
        if self.failures:
            parts.append(f"{_count(len(self.failures), 'error')} ({', '.join(sorted(set(self.failures)))})")
        return ", ".join(parts)

    def _draw(self) -> None:
        now = time.monotonic()
        if not self._with_bar or now - self._start < PATIENCE or now - self._drawn < 0.1:
            return
        self._drawn = now
        if self._bar is None:
            self._open_bar()
        assert self._bar is not None
        assert self._task is not None
        words = f"{self.frames / (now - self._start):.1f} frames/s"
        self._bar.update(self._task, completed=self.frames - self._before, total=self._total, words=words)

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            *(BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}", markup=False)),
            TimeRemainingColumn(compact=True),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("frames", total=self._total, words="")
        self._bar.start()


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
