"""Ctrl-C and termination, let through only where nothing is half written."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, Self, TypeVar

Item = TypeVar("Item")

STOPPING: Final = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, `kill`, and the terminal that was closed, which not every system tells."""


class Interrupts:
    """While it is entered, signals to stop are noted; inside `allowed` they raise KeyboardInterrupt, once.

    Attributes:
        signal: The number of the first one that came, or 0.
        stalled: Whether results were dropped after it, because nobody read them.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.stalled = False
        self._is_allowed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` and a shell's `&` set it
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Where the work may be broken off.

        Raises:
            KeyboardInterrupt: A signal came, now or earlier.
        """
        self._is_allowed = True
        try:
            if self.signal:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_allowed = False

    def each(self, items: Iterator[Item]) -> Iterator[Item]:
        """The items of an iterator; the work may be broken off while the next one is made, and only then.

        Raises:
            KeyboardInterrupt: A signal came, now or earlier.
        """
        while True:
            with self.allowed():
                item = next(items, None)
            if item is None:
                return
            yield item

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal = self.signal or number
        if self._is_allowed:
            self._is_allowed = False
            raise KeyboardInterrupt
