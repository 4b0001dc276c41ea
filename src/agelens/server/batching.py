"""Crops of pictures that are under way at the same time, judged in one call of the network."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from agelens.errors import AgelensError
from agelens.estimate import Estimates, Estimator

if TYPE_CHECKING:
    from agelens.types import Pixels

OnBatch = Callable[[int, int], None]


class BatchingEstimator:
    """An estimator for many threads. While it judges one batch, the crops that come meanwhile become the next one.

    Nobody waits for company: a picture that comes alone is judged at once. Whoever finds nobody judging does it, for
    all that wait; so no thread stands by.

    Args:
        estimator: Judges the batches.
        most: Crops in one batch, if one picture alone doesn't have more.
        on_batch: Told of each batch how many pictures and how many crops it holds.
    """

    def __init__(self, estimator: Estimator, most: int, on_batch: OnBatch | None = None) -> None:
        self.spec, self.model = estimator.spec, estimator.model
        self._estimator, self._most, self._on_batch = estimator, most, on_batch
        self._waiting: deque[tuple[Pixels, Future[Estimates]]] = deque()
        self._lock = threading.Lock()
        self._judging = threading.Lock()

    def estimate(self, crops: Pixels) -> Estimates:
        """Judges crops, shape (N, size, size, 3), together with those of other callers.

        Raises:
            ModelError: The model can't be run.
        """
        mine: Future[Estimates] = Future()
        with self._lock:
            self._waiting.append((crops, mine))
        while not mine.done():
            # Until it is this thread's turn, another one may have judged its crops.
            with self._judging:
                if not mine.done():
                    self._judge(self._take())
        return mine.result()

    def _take(self) -> list[tuple[Pixels, Future[Estimates]]]:
        batch: list[tuple[Pixels, Future[Estimates]]] = []
        crops = 0
        with self._lock:
            while self._waiting and (not batch or crops + len(self._waiting[0][0]) <= self._most):
                batch.append(self._waiting.popleft())
                crops += len(batch[-1][0])
        return batch

    def _judge(self, batch: list[tuple[Pixels, Future[Estimates]]]) -> None:
        crops = [crops for crops, _ in batch]
        with suppress(AgelensError), _Failing([future for _, future in batch]):
            answers = self._estimator.estimate(crops[0] if len(crops) == 1 else np.concatenate(crops))
            row = 0
            for some, future in batch:
                rows = slice(row, row + len(some))
                future.set_result(Estimates(answers.ages[rows], answers.female[rows]))
                row += len(some)
        if self._on_batch is not None:
            self._on_batch(len(batch), sum(map(len, crops)))


class _Failing:
    """Gives what is raised to all who wait for an answer, so that nobody waits for ever."""

    def __init__(self, futures: list[Future[Estimates]]) -> None:
        self._futures = futures

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for future in self._futures:
            if error is not None and not future.done():
                future.set_exception(error)
