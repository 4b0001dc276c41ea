"""How much work a server takes on: so many pictures, so many bytes; what is more is told to come again."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from agelens.errors import OverloadedError

LONGEST_WAIT = 60
"""Seconds; the most that a refused client is told to wait."""


class Admission:
    """The one bounded queue, as a count: of pictures that arrive, wait, or are worked on, and of the bytes they hold.

    Args:
        pictures: At most so many.
        held: At most so many bytes.
        on_change: Told both numbers whenever they change.

    Attributes:
        stopping: Whether the server is about to stop. It answers what still comes, and asks for no more.
    """

    def __init__(self, pictures: int, held: int, on_change: Callable[[int, int], None] | None = None) -> None:
        self.most_pictures, self.most_held = pictures, held
        self.pictures = self.held = 0
        self.stopping = False
        self._on_change = on_change
        self._lock = threading.Lock()
        self._pace = 0.05  # seconds from one finished picture to the next, a running mean
        self._finished_at = time.monotonic()

    def admit(self) -> Lease:
        """Takes a request on, with room for one picture.

        Raises:
            OverloadedError: There is no room.
        """
        lease = Lease(self)
        lease.take(pictures=1)
        return lease

    def take(self, pictures: int, held: int) -> None:
        """Makes room.

        Raises:
            OverloadedError: There is none.
        """
        with self._lock:
            self.check(pictures, held)
            self._change(pictures, held)

    def check(self, pictures: int, held: int) -> None:
        """Whether there is room; takes none.

        Raises:
            OverloadedError: There is none.
        """
        if self.pictures + pictures > self.most_pictures:
            raise OverloadedError(
                f"{self.pictures} pictures are waiting or under way, the limit is {self.most_pictures}; try again"
                f" in {self.wait_seconds()} s"
            )
        if self.held + held > self.most_held:
            raise OverloadedError(
                f"the requests under way hold {self.held:,} bytes, the limit is {self.most_held:,}; try again in"
                f" {self.wait_seconds()} s"
            )

    def release(self, pictures: int, held: int) -> None:
        """Gives room back."""
        with self._lock:
            self._change(-pictures, -held)

    def _change(self, pictures: int, held: int) -> None:
        self.pictures += pictures
        self.held += held
        if self._on_change is not None:
            self._on_change(self.pictures, self.held)

    def note_finished(self) -> None:
        """Remembers how fast pictures get done."""
        with self._lock:
            now = time.monotonic()
            # A pause without work says nothing about the pace.
            self._pace += 0.1 * (min(now - self._finished_at, 2.0) - self._pace)
            self._finished_at = now

    def wait_seconds(self) -> int:
        """After how many whole seconds half of the queue should be done."""
        return min(max(math.ceil(self.pictures * self._pace / 2), 1), LONGEST_WAIT)


class Lease:
    """The room of one request; given back when the last who holds it lets go."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._pictures = self._held = 0
        self._holders = 1
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()

    def take(self, *, pictures: int = 0, held: int = 0) -> None:
        """Makes room for more.

        Raises:
            OverloadedError: There is none.
        """
        self._admission.take(pictures, held)
        self._pictures += pictures
        self._held += held

    def check(self, *, held: int) -> None:
        """Whether there is room for so many bytes more, which may never come; takes none.

        Raises:
            OverloadedError: There is none.
        """
        self._admission.check(0, held)

    def hold(self) -> None:
        """One more needs the room: work that goes on although its client has gone."""
        with self._lock:
            self._holders += 1

    def let_go(self) -> None:
        """One less needs it."""
        with self._lock:
            self._holders -= 1
            is_last = self._holders == 0
        if is_last:
            self._admission.release(self._pictures, self._held)
