"""Pictures under way: read in one thread, prepared in several, taken out in order."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from agelens.runtime import typed_thread_errors

if TYPE_CHECKING:
    from types import TracebackType

    from agelens.errors import InputError
    from agelens.types import Detection, Image, Pixels

LINGER: Final = 0.05  # seconds that a batch waits for more faces, or a job for a thread, while pictures are under way
AHEAD: Final = 4  # pictures under way for each thread
Picture = TypeVar("Picture")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A picture that is ready to be estimated.

    Attributes:
        name: Of the picture.
        width: Of the upright picture in pixels; None where it could not be read.
        height: Likewise.
        faces: What was found.
        crops: Of the faces, shape (N, size, size, 3).
        image: The picture, where it is to be kept; until it is estimated, many would fill the memory.
        error: Why it could not be read.
    """

    name: str
    width: int | None
    height: int | None
    faces: Sequence[Detection]
    crops: Pixels
    image: Image | None = None
    error: InputError | None = None


class _HandingOver:
    """Tells whoever waits how something ended: with None, or with what it raised."""

    def __init__(self, put: Callable[[BaseException | None], None]) -> None:
        self._put = put

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._put(error)
        return True


class Line(Generic[Picture]):
    """Pictures under way, and whoever takes them out; that one may let the line's threads work for it."""

    def __init__(self, work: Callable[[Picture], Prepared], pictures: Iterable[Picture], threads: int) -> None:
        self._work, self._pictures = work, pictures
        self._room = threading.Semaphore(AHEAD * threads)
        self._pending: deque[Future[Prepared] | BaseException | None] = deque()
        self._there = threading.Semaphore(0)  # entries of `_pending`
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="agelens")
        self._jobs: deque[Callable[[], None]] = deque()
        self._stopped = False

    def __enter__(self) -> Self:
        # Daemonic: the source may be a pipe that never ends, and must not keep the process alive.
        with typed_thread_errors():
            threading.Thread(target=self._feed, name="agelens-feed", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._room.release()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _feed(self) -> None:
        with _HandingOver(self._put):
            for picture in self._pictures:
                self._room.acquire()
                if self._stopped:
                    return
                with typed_thread_errors():
                    self._put(self._pool.submit(self._prepare, picture))

    def _put(self, entry: Future[Prepared] | BaseException | None) -> None:
        self._pending.append(entry)
        self._there.release()

    def _prepare(self, picture: Picture) -> Prepared:
        self._do_next_job()
        return self._work(picture)

    def _do_next_job(self) -> None:
        try:
            job = self._jobs.popleft()
        except IndexError:
            return
        job()

    def run(self, job: Callable[[], Answer]) -> Answer:
        """Runs a job in the first of the line's threads that is free, before it takes the next picture, and waits.

        Were it run in the caller's thread, one more thread than asked for would be at work, and they would take each
        other's core and caches. Only where all threads are held up, as by slow sources, the caller does it itself.
        """
        answers: list[Answer] = []
        done: Future[None] = Future()

        def end(error: BaseException | None) -> None:
            if error:
                done.set_exception(error)
            else:
                done.set_result(None)

        def do() -> None:
            with _HandingOver(end):
                answers.append(job())

        self._jobs.append(do)
        with typed_thread_errors():
            self._pool.submit(self._do_next_job)
        concurrent.futures.wait([done], LINGER)
        self._do_next_job()
        done.result()
        return answers[0]

    def batches(self, size: int) -> Iterator[list[Prepared]]:
        """Consecutive pictures with about `size` faces together; fewer where more would keep the consumer waiting.

        A picture makes room for the next one as soon as it is taken out, so that the threads go on while the consumer
        works.
        """
        batch: list[Prepared] = []
        faces, due = 0, 0.0
        while True:
            self._there.acquire()
            entry = self._pending.popleft()
            if not isinstance(entry, Future):
                break
            taken = entry.result()
            self._room.release()
            due = due if batch else time.monotonic() + LINGER
            batch.append(taken)
            faces += len(taken.faces)
            if faces >= size or len(batch) >= size or not self._comes(due):
                yield batch
                batch, faces = [], 0
        if entry is not None:
            raise entry

    def _comes(self, due: float) -> bool:
        """Waits for the next picture, if one is under way; whether it is ready by then."""
        following = self._pending[0] if self._pending else None
        if not isinstance(following, Future):
            return False
        if not following.done():
            concurrent.futures.wait([following], timeout=max(due - time.monotonic(), 0.0))
        return following.done()
