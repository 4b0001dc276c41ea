"""Pictures under way: fed by one thread; prepared and, several together, finished by others; given in order.

A small picture takes a few milliseconds, of which each waking of another thread would take a part. So the threads go
from picture to picture without a queue between, the feeding thread wakes when half of what it brought is gone, and
whoever takes results out wakes when there is one, or when a batch is full.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from agelens.analyzer.prepared import Prepared
from agelens.errors import UsageError
from agelens.runtime import typed_thread_errors

if TYPE_CHECKING:
    from types import TracebackType

LINGER: Final = 0.05  # seconds that a batch waits for more faces, and then for a thread, while pictures are under way
AHEAD: Final = 4  # pictures for each thread that are fed and not begun
CROWD: Final = 16  # faces for each picture that may be in the line; more fill it, as their crops would fill the memory
MOST_BYTES: Final = 2**28  # of kept pictures in the line; where they fill it, no thread begins another one
NAME: Final = "agelens-line"  # how those of our threads begin
PATIENCE: Final = 1.0  # seconds that closing waits for what threads are at
Picture = TypeVar("Picture")
Answer = TypeVar("Answer")


class _HandingOver:
    """Tells whoever waits how something ended: with None, or with what it raised, whatever that is."""

    def __init__(self, put: Callable[[BaseException | None], None]) -> None:
        self._put = put

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._put(error)
        return True


@dataclass(slots=True, eq=False)
class _Place:
    """The place of a picture in the order; empty until it is prepared, or its preparation has failed."""

    outcome: Prepared | BaseException | None = None


@dataclass(slots=True, eq=False)
class _Batch(Generic[Answer]):
    """Pictures that are finished together.

    Attributes:
        pictures: They.
        since: When it was put together, by the monotonic clock.
        is_begun: Whether somebody is at it.
        answers: What finishing them gave, a single one, once it is done.
        error: What it raised instead.
    """

    pictures: list[Prepared]
    since: float
    is_begun: bool = False
    answers: list[Answer] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return bool(self.answers) or self.error is not None


class Line(Generic[Picture, Answer]):
    """Pictures under way, and whoever takes the results out.

    Args:
        pictures: Which.
        prepare: What is done with each.
        finish: What is done with several together that are prepared.
        threads: How many work.
        size: How many faces are finished together at best.
        shelf: How many pictures beside `AHEAD` for each thread may be in the line, fewer where there are more than
            `CROWD` faces for each. While one thread finishes a batch, which takes as long as preparing many small
            pictures, the others must not run out of work.
    """

    def __init__(
        self,
        pictures: Iterable[Picture],
        prepare: Callable[[Picture], Prepared],
        finish: Callable[[list[Prepared]], Answer],
        *,
        threads: int,
        size: int,
        shelf: int,
    ) -> None:
        self._pictures, self._prepare, self._finish = pictures, prepare, finish
        self._threads, self._size = threads, size
        self._most_fed, self._most = AHEAD * threads, AHEAD * threads + shelf
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=NAME)
        self._process = os.getpid()
        lock = threading.Lock()  # of all that follows
        self._can_feed, self._can_take = threading.Condition(lock), threading.Condition(lock)
        self._lock = lock
        self._fed: deque[tuple[_Place, Picture]] = deque()
        self._places: deque[_Place] = deque()  # of pictures in no batch yet
        self._batches: deque[_Batch[Answer]] = deque()
        self._faces = self._bytes = 0  # of all pictures that are prepared
        self._busy = 0  # threads at work, or called
        self._has_threads = self._feed_waits = self._stopped = self._ended = False
        self._awaited = 0  # faces that whoever takes results out waits for
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        # Daemonic: the source may be a pipe that never ends, and must not keep the process alive.
        with typed_thread_errors():
            threading.Thread(target=self._feed, name=f"{NAME}-feed", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if sys.is_finalizing() or os.getpid() != self._process:
            return  # there are no other threads any more, and one may have held the lock
        if kind is not GeneratorExit:
            self._stop()
            return
        # A forgotten stream is collected as garbage in any thread, wherever that one is: in one of ours, which can't
        # wait for its own end, or in one that holds a lock which ours wait for.
        stopping = threading.Thread(target=self._stop, name=f"{NAME}-stop", daemon=True)
        try:
            stopping.start()
        except RuntimeError:  # the system starts no thread
            self._stop()
            return
        if not threading.current_thread().name.startswith(NAME):
            stopping.join(PATIENCE)

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._fed.clear()
            self._places.clear()  # the feeding thread may stay for ever, and must not keep pictures
            self._batches.clear()
            self._can_feed.notify()
        self._pool.shutdown(wait=True, cancel_futures=True)

    # The feeding thread.

    def _feed(self) -> None:
        with _HandingOver(self._end):
            for picture in self._pictures:
                with self._lock:
                    if len(self._fed) >= self._most_fed or self._is_full():
                        self._feed_waits = True
                        self._can_feed.wait_for(lambda: self._stopped or self._has_room())
                        self._feed_waits = False
                    if self._stopped:
                        return
                    place = _Place()
                    self._places.append(place)
                    self._fed.append((place, picture))
                    self._call_thread()
                del place, picture  # the next one may never come

    def _end(self, failure: BaseException | None) -> None:
        with self._lock:
            self._ended, self._failure = True, failure
            self._can_take.notify()

    def _is_full(self) -> bool:
        pictures = len(self._places) + sum(len(batch.pictures) for batch in self._batches)
        return pictures >= self._most or self._faces >= CROWD * self._most or self._bytes >= MOST_BYTES

    def _has_room(self) -> bool:
        return len(self._fed) <= self._most_fed // 2 and not self._is_full()

    def _call_thread(self) -> None:
        """Lets one more thread work, if there is one that doesn't. Where the system refuses one, the others go on.

        Raises:
            UsageError: It refuses the first one.
        """
        if self._busy == self._threads:
            return
        self._busy += 1
        try:
            with typed_thread_errors():
                self._start_thread()
            self._has_threads = True
        except UsageError:
            if not self._has_threads:
                self._places.clear()  # nobody will ever prepare what is there
                raise

    def _start_thread(self) -> None:
        try:
            self._pool.submit(self._go_on)
        except RuntimeError:
            # Once the main thread has ended no pool takes work, though another thread may still take results out.
            threading.Thread(target=self._go_on, name=NAME).start()

    # The working threads.

    def _go_on(self) -> None:
        """Finishes batches and prepares pictures until there are none."""
        while True:
            with self._lock:
                batch = next((batch for batch in self._batches if not batch.is_begun), None)
                if batch:
                    batch.is_begun = True
                elif self._fed and self._bytes < MOST_BYTES:
                    place, picture = self._fed.popleft()
                    if self._feed_waits and self._has_room():
                        self._can_feed.notify()
                else:
                    self._busy -= 1
                    return
            if batch:
                self._finish_batch(batch)
            else:
                self._prepare_picture(place, picture)
                del place, picture

    def _prepare_picture(self, place: _Place, picture: Picture) -> None:
        def put(error: BaseException | None) -> None:
            with self._lock:
                place.outcome = prepared if error is None else error
                if prepared:
                    self._faces += len(prepared.faces)
                    self._bytes += prepared.held_bytes
                if self._awaited and self._is_enough(self._awaited):
                    self._can_take.notify()

        prepared: Prepared | None = None
        with _HandingOver(put):
            prepared = self._prepare(picture)

    def _finish_batch(self, batch: _Batch[Answer]) -> None:
        def put(error: BaseException | None) -> None:
            with self._lock:
                batch.error = error
                batch.answers = answers
                self._can_take.notify()

        answers: list[Answer] = []
        with _HandingOver(put):
            answers.append(self._finish(batch.pictures))

    def _is_enough(self, faces: int) -> bool:
        """Whether the pictures next in order have so many faces, or are so many, or are all that will come for now."""
        if self._bytes >= MOST_BYTES:
            faces = 1
        found = ready = 0
        for place in self._places:
            outcome = place.outcome
            if not isinstance(outcome, Prepared):
                return outcome is not None  # it failed, and will not be joined by others
            found += len(outcome.faces)
            ready += 1
            if found >= faces or ready >= faces:
                return True
        return ready > 0

    # Whoever takes results out.

    def results(self) -> Iterator[Answer]:
        """What `finish` says of consecutive pictures with about `size` faces; of fewer where more would keep waiting.

        Batches are finished in the working threads. Were it done in the caller's, one more thread than asked for would
        be at work, and they would take each other's core and caches. Only where all are held up, as by slow sources,
        the caller does it itself.

        Raises:
            BaseException: What the source, `prepare` or `finish` raised, after all results before it.
        """
        while batch := self._wait():
            if not batch.is_done:
                self._finish_batch(batch)
            elif batch.error is not None:
                raise batch.error
            else:
                yield batch.answers.pop()
        if self._failure is not None:
            raise self._failure

    def _wait(self) -> _Batch[Answer] | None:
        """The next batch in order, done and taken out; or one that nobody has begun, left to the caller; or the end."""
        due: float | None = None
        with self._lock:
            while True:
                first = self._batches[0] if self._batches else None
                if first and first.is_done:
                    self._leave(first)
                    return first
                now = time.monotonic()
                is_there = self._is_enough(1)
                due = (due or now + LINGER) if is_there else None
                if is_there and (self._is_enough(self._size) or (due and now >= due)):
                    due = None
                    if self._put_together(now):
                        continue
                elif not self._batches and not self._places and self._ended:
                    return None
                times = [due] if due else []
                if first and not first.is_begun:
                    if now >= first.since + LINGER:
                        first.is_begun = True
                        return first
                    times.append(first.since + LINGER)
                self._awaited = self._size if due else 1
                self._can_take.wait(min(times) - now if times else None)
                self._awaited = 0

    def _put_together(self, now: float) -> bool:
        """Makes a batch of the pictures next in order. False where the next one has failed and others come before it.

        Raises:
            BaseException: What preparing it raised, if it is the very next.
        """
        pictures: list[Prepared] = []
        faces = 0
        while self._places and faces < self._size and len(pictures) < self._size:
            outcome = self._places[0].outcome
            if not isinstance(outcome, Prepared):
                if outcome is not None and not pictures and not self._batches:
                    raise outcome
                break
            pictures.append(outcome)
            faces += len(outcome.faces)
            self._places.popleft()
        if not pictures:
            return False
        self._batches.append(_Batch(pictures, now))
        self._call_thread()
        return True

    def _leave(self, batch: _Batch[Answer]) -> None:
        self._batches.popleft()
        self._faces -= sum(len(prepared.faces) for prepared in batch.pictures)
        was_full = self._bytes >= MOST_BYTES
        self._bytes -= sum(prepared.held_bytes for prepared in batch.pictures)
        for _ in self._fed if was_full else ():  # which nobody began
            self._call_thread()
        batch.pictures.clear()  # what was given belongs to the caller alone: a kept picture is large
        if self._feed_waits and self._has_room():
            self._can_feed.notify()
