"""Standard output that does not hold up the end of an interrupted command.

Whoever reads a pipe may stop reading without closing it (a pager, a stopped process, a terminal after Ctrl-S). A plain
write then waits for ever, and Ctrl-C with it, since results are never broken off in the middle.
"""

from __future__ import annotations

import io
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from agelens.cli.interrupts import Interrupts

GRACE: Final = 1.0
"""Seconds that a reader gets after a signal to stop."""

_LOOK: Final = 0.1  # seconds between two looks whether a signal came
_PIECE: Final = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe which takes anything takes at once, so that such a write never waits."""


class PatientOutput(io.RawIOBase):
    """The bytes of standard output; once a signal came and nobody reads for `GRACE` seconds, they are dropped.

    Args:
        descriptor: Of standard output.
        interrupts: Knows whether a signal to stop came, and is told if bytes are dropped.
    """

    name = "<stdout>"

    def __init__(self, descriptor: int, interrupts: Interrupts) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._interrupts = interrupts

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer) -> int:
        """Writes all of `data`, or drops it.

        Raises:
            BrokenPipeError: Nobody reads any more.
            OSError: It can't be written.
        """
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest and self._is_taken():
            rest = rest[os.write(self._descriptor, rest[:_PIECE]) :]
        return size

    def _is_taken(self) -> bool:
        """Waits until something can be written; False where that has no end."""
        deadline = None
        while not self._interrupts.stalled:
            if select.select([], [self._descriptor], [], _LOOK)[1]:
                return True
            if self._interrupts.signal:
                deadline = deadline or time.monotonic() + GRACE
                self._interrupts.stalled = time.monotonic() >= deadline
        return False


def open_stdout(interrupts: Interrupts) -> TextIO:
    """Standard output for records; as it is where it is in memory, or the system can't tell whether somebody reads."""
    try:
        descriptor = sys.stdout.fileno()
    except io.UnsupportedOperation:
        return sys.stdout
    if os.name != "posix":
        return sys.stdout
    output = PatientOutput(descriptor, interrupts)
    return io.TextIOWrapper(output, sys.stdout.encoding, sys.stdout.errors, write_through=True)
