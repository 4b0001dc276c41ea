"""What `agelens predict` says on standard error: a bar, what went wrong, and a summary."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from agelens.types import Report

PATIENCE = 0.5  # seconds before a bar is worth the time to load it
REST = 0.1  # seconds between two drawings
TOLD_ONE_BY_ONE = 20


def tell(line: str) -> None:
    """One line on standard error, if there is one; where it can't be written, the work matters more."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(line + "\n")


class Bar:
    """A bar on standard error with the time left, and lines that don't break it.

    It is drawn once the work has taken `PATIENCE` seconds, and only on a terminal.

    Args:
        wanted: Whether there shall be one.
        opened: Called when it is drawn first.
    """

    def __init__(self, *, wanted: bool, opened: Callable[[], None] | None = None) -> None:
        self._wanted = wanted and sys.stderr is not None and sys.stderr.isatty()
        self._opened = opened
        self._start = self._drawn = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the work began; never zero."""
        return max(time.monotonic() - self._start, 1e-3)

    @property
    def is_due(self) -> bool:
        """Whether it is time to draw again."""
        now = time.monotonic()
        return self._wanted and now - self._start >= PATIENCE and now - self._drawn >= REST

    def draw(self, done: int, total: int | None, words: str) -> None:
        """Draws; asked only where it `is_due`, so that nobody else makes words in vain."""
        self._drawn = time.monotonic()
        if self._bar is None:
            self._open()
        assert self._bar is not None
        assert self._task is not None
        self._bar.update(self._task, completed=done, total=total, words=words)

    def say(self, line: str) -> None:
        """One line above the bar, or alone."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            tell(line)

    def restart(self, total: int | None) -> None:
        """Begins at nothing again."""
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=total)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            *(BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}", markup=False)),
            TimeRemainingColumn(compact=True),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=None, words="")
        self._bar.start()
        if self._opened is not None:
            self._opened()


class Tally:
    """Counts, and tells.

    Args:
        quiet: Tell nothing.
        with_bar: Draw a bar where standard error is a terminal.

    Attributes:
        count: Finds out how many pictures there are; None where nobody can know.
    """

    def __init__(self, *, quiet: bool, with_bar: bool) -> None:
        self.pictures = self.faces = self.skipped = self.unwritten = 0
        self.skipped_videos = 0  # of those that were skipped
        self.errors: Counter[str] = Counter()
        self._told = 0
        self._quiet = quiet
        self._bar = Bar(wanted=with_bar and not quiet, opened=self._begin_to_count)
        self.count: Callable[[], int] | None = None
        self._total: int | None = None

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    @property
    def failed(self) -> bool:
        """Whether anything could not be read or written."""
        return bool(self.errors or self.unwritten)

    def add(self, report: Report, *, seen: bool) -> None:
        """Counts a picture that is done; `seen`: the user reads the record itself, so an error needs no telling."""
        self.pictures += 1
        self.faces += len(report.faces)
        if report.error is not None:
            self.errors[report.error.code] += 1
            if not seen:
                self._warn(report.source, report.error.message)
        self._draw()

    def add_many(
        self, pictures: int, faces: int, errors: Mapping[str, int], told: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Counts pictures that were done elsewhere; `told`: names and messages of some that could not be read."""
        self.pictures += pictures
        self.faces += faces
        self.errors.update(errors)
        for source, why in told:
            self._warn(source, why)
        self._draw()

    def expect(self, total: int | None) -> None:
        """Tells how many pictures there are in all."""
        self._total = total

    def add_unwritten(self, source: str, why: str) -> None:
        """Counts a picture whose copy or crops could not be written."""
        self.unwritten += 1
        self._warn(source, why)

    def _warn(self, source: str, why: str) -> None:
        self._told += 1
        if self._quiet or self._told > TOLD_ONE_BY_ONE + 1:
            return
        line = f"agelens: {source!r}: {why}" if self._told <= TOLD_ONE_BY_ONE else "agelens: ... (see the records)"
        self._bar.say(line)

    def summarise(self, device: str, places: str) -> None:
        """Tells the totals in one line; `places`: where they are."""
        if self._quiet:
            return
        seconds = self._bar.seconds
        rate = self.pictures / seconds
        speed = f"{seconds:,.1f} s, {rate:,.{0 if rate >= 100 else 1}f} pictures/s, {device}"
        tell(f"{self.done()}; {speed}{places}")

    def done(self) -> str:
        """What was done so far, in words."""
        parts = [count_of(self.pictures, "picture"), count_of(self.faces, "face")]
        if self.errors:
            codes = ", ".join(f"{code} {count:,}" for code, count in self.errors.most_common())
            parts.append(f"{count_of(self.errors.total(), 'error')} ({codes})")
        if self.unwritten:
            parts.append(f"copies of {self.unwritten:,} not written")
        if self.skipped:
            parts.append(f"{count_of(self.skipped, 'other file')} skipped")
        return ", ".join(parts)

    def _draw(self) -> None:
        if not self._bar.is_due:
            return
        words = f"{self.pictures / self._bar.seconds:.1f}/s  {count_of(self.faces, 'face')}"
        if self.errors:
            words += f"  {count_of(self.errors.total(), 'error')}"
        self._bar.draw(self.pictures, self._total, words)

    def _begin_to_count(self) -> None:
        if self.count is not None:
            threading.Thread(target=self._count_all, name="agelens-count", daemon=True).start()

    def _count_all(self) -> None:
        assert self.count is not None
        self._total = self.count()


def count_of(number: int, word: str) -> str:
    """`1 face`, `2,000 faces`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
