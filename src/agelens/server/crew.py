"""Threads that take pictures from one queue, and judge the faces of several requests in one call of the network."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import numpy as np

from agelens.estimate import NO_ESTIMATES, Estimates
from agelens.runtime import typed_thread_errors

if TYPE_CHECKING:
    from agelens.analyzer import Prepared
    from agelens.estimate import Estimator

Result = TypeVar("Result")
OnBatch = Callable[[int, int], None]

LINGER: Final = 0.1
"""Seconds that a picture which is ready waits for others, while there are others to get ready."""


@dataclass(frozen=True, slots=True, eq=False)
class Job(Generic[Result]):
    """What is to be done with one picture.

    Attributes:
        prepare: Everything up to the crops of its faces.
        finish: Makes the result of what was prepared and what the network says of its crops.
        done: Where the result goes. Cancelled before its turn, the job is never begun.
    """

    prepare: Callable[[], Prepared]
    finish: Callable[[Prepared, Estimates], Result]
    done: Future[Result] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """A picture whose crops are to be judged."""

    job: Job[Any]
    prepared: Prepared
    since: float


class Crew:
    """So many threads as pictures are to be worked on at once, and no more: each other's caches are worth much.

    Whoever is free begins the next picture, as long as there is one, and leaves the crops of the last one to be judged
    with those that come. They are judged once they fill a batch, once the first of them has waited for `LINGER`, and at
    once where no picture is left to begin: a picture that comes alone waits for nobody.

    Args:
        threads: How many.
        estimator: Judges the batches.
        most: Crops in one batch, if one picture alone doesn't have more.
        on_batch: Told of each batch how many pictures and how many crops it holds.
    """

    def __init__(self, threads: int, estimator: Estimator, most: int, on_batch: OnBatch | None = None) -> None:
        """Starts all threads, so that no request finds that one can't be.

        Raises:
            UsageError: The system starts no further thread.
        """
        self._estimator, self._most, self._on_batch = estimator, most, on_batch
        self._waiting: deque[Job[Any]] = deque()
        self._ready: deque[_Ready] = deque()
        self._crops = 0  # of `_ready`
        self._change = threading.Condition()
        self._is_closed = False
        self._threads: list[threading.Thread] = []
        try:
            for number in range(threads):
                thread = threading.Thread(target=self._work, name=f"agelens-serve-{number}", daemon=True)
                with typed_thread_errors():
                    thread.start()
                self._threads.append(thread)
        finally:
            if len(self._threads) < threads:
                self.close()

    def submit(self, job: Job[Result]) -> Future[Result]:
        """Puts a job into the queue; once the crew is closed, it is given up at once."""
        with self._change:
            is_closed = self._is_closed
            if not is_closed:
                self._waiting.append(job)
                self._change.notify()
        if is_closed:
            job.done.cancel()
        else:
            job.done.add_done_callback(self._drop)
        return job.done

    def _drop(self, done: Future[Any]) -> None:
        """Takes a job that was given up out of the queue, or its bytes would stay until somebody is free."""
        if not done.cancelled():
            return
        with self._change:
            self._waiting = deque(job for job in self._waiting if job.done is not done)
            if self._ready and not self._waiting:
                self._change.notify()  # what is ready became due by this

    def close(self) -> None:
        """Ends the threads: what is under way is finished, what waits is given up."""
        with self._change:
            self._is_closed = True
            given_up = list(self._waiting)
            self._waiting.clear()
            self._change.notify_all()
        for job in given_up:
            job.done.cancel()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while self._take_a_step():
            pass

    def _take_a_step(self) -> bool:
        # Of what was done, a thread that waits for the next picture holds nothing: pictures are large.
        step = self._choose()
        if step is not None:
            step()
        return step is not None

    def _choose(self) -> Callable[[], None] | None:
        """The next step of the thread that asks; None ends it."""
        with self._change:
            while True:
                if self._ready and self._is_due():
                    return partial(self._judge, self._take())
                if self._waiting:
                    job = self._waiting.popleft()
                    if self._ready and not self._waiting:
                        self._change.notify()  # what is ready became due by this
                    return partial(self._prepare, job)
                if self._is_closed:
                    return None
                self._change.wait()

    def _is_due(self) -> bool:
        is_full = self._crops >= self._most
        return is_full or not self._waiting or time.monotonic() - self._ready[0].since >= LINGER

    def _take(self) -> list[_Ready]:
        batch: list[_Ready] = []
        crops = 0
        while self._ready and (not batch or crops + len(self._ready[0].prepared.crops) <= self._most):
            batch.append(self._ready.popleft())
            crops += len(batch[-1].prepared.crops)
        self._crops -= crops
        return batch

    def _prepare(self, job: Job[Any]) -> None:
        if not job.done.set_running_or_notify_cancel():
            return
        with _Failing(job.done):
            prepared = job.prepare()
            if not len(prepared.crops):
                job.done.set_result(job.finish(prepared, NO_ESTIMATES))
                return
            ready = _Ready(job, prepared, time.monotonic())
            if prepared.image is None:
                with self._change:
                    self._ready.append(ready)
                    self._crops += len(prepared.crops)
                return
            # A kept picture is large: as many as there are threads are enough at once.
            with self._change:
                self._ready.appendleft(ready)
                self._crops += len(prepared.crops)
                batch = self._take()
            self._judge(batch)

    def _judge(self, batch: list[_Ready]) -> None:
        with _Failing(*(ready.job.done for ready in batch)):
            crops = [ready.prepared.crops for ready in batch]
            answers = self._estimator.estimate(crops[0] if len(crops) == 1 else np.concatenate(crops))
            if self._on_batch is not None:
                self._on_batch(len(batch), len(answers.female))
            row = 0
            for ready in batch:
                rows = slice(row, row + len(ready.prepared.crops))
                row = rows.stop
                with _Failing(ready.job.done):
                    theirs = Estimates(answers.ages[rows], answers.female[rows])
                    ready.job.done.set_result(ready.job.finish(ready.prepared, theirs))


class _Failing:
    """Gives what is raised to all who wait for an answer, so that nobody waits for ever and the thread goes on."""

    def __init__(self, *futures: Future[object]) -> None:
        self._futures = futures

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        for future in self._futures:
            if error is not None and not future.done():
                future.set_exception(error)
        return True
