"""Pictures in, reports out: threads that take pictures from one queue, and one estimator that they share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, TypeVar

from agelens.analyzer import DEFAULTS, Analyzer
from agelens.errors import InputError, TimeLimitError, TooManyBytesError, TooManyPixelsError
from agelens.estimate import OnnxEstimator
from agelens.runtime import resolve_device, typed_thread_errors
from agelens.server.admission import Admission, Lease
from agelens.server.batching import BatchingEstimator
from agelens.server.metrics import Metrics
from agelens.types import Report, Task
from agelens.zoo import read_model

if TYPE_CHECKING:
    from agelens.server.settings import ServerSettings

Result = TypeVar("Result")

ANALYZERS_KEPT = 8
"""Each has a detector of its own; options that were not asked for lately open one anew, which takes milliseconds."""


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """What is asked of one picture; as in `agelens predict`."""

    task: Task = DEFAULTS["task"]
    groups: str = str(DEFAULTS["groups"])
    gender_threshold: float = DEFAULTS["gender_threshold"]
    min_score: float = DEFAULTS["min_score"]
    min_face: float | None = DEFAULTS["min_face"]
    max_faces: int | None = DEFAULTS["max_faces"]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a request: what records call it, and the bytes of the file."""

    name: str
    data: bytes


class Engine:
    """Opened once for each process. Every picture goes through an `agelens.Analyzer`, as those of the command do.

    Attributes:
        admission: What is taken on.
        device: Where the networks run.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        """Opens the models and starts the threads.

        Raises:
            ModelError: A model is unknown, damaged or unfit.
            UsageError: The device isn't there, or the system starts no thread.
        """
        self.settings, self.metrics = settings, metrics
        self.admission = Admission(settings.queue, settings.max_held, metrics.set_queue)
        self.device = resolve_device(settings.device)
        estimator = OnnxEstimator(
            read_model(settings.model), name=settings.model, device=self.device, batch_size=settings.batch_size
        )
        self.spec, self.model = estimator.spec, estimator.model
        self._estimator = BatchingEstimator(estimator, settings.batch_size, metrics.count_batch)
        self._open_analyzer = lru_cache(maxsize=ANALYZERS_KEPT)(self._make_analyzer)
        # One more than are to work at once: whose crops are being judged by another thread only waits.
        threads = settings.threads_each + 1
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="agelens-serve")
        everybody = threading.Barrier(threads, timeout=10)
        with typed_thread_errors():  # all are started now, so that no request finds that one can't be
            wait([self._pool.submit(everybody.wait) for _ in range(threads)])

    def _make_analyzer(self, options: PictureOptions) -> Analyzer:
        return Analyzer(
            self.settings.model,
            task=options.task,
            groups=options.groups,
            gender_threshold=options.gender_threshold,
            min_score=options.min_score,
            min_face=options.min_face,
            max_faces=options.max_faces,
            device=self.device,
            threads=1,
            limits=self.settings.limits,
            estimator=self._estimator,
        )

    def warm_up(self) -> None:
        """Works on one picture, so that the first request isn't the slow one.

        Raises:
            ModelError: The model can't be run.
        """
        example = resources.files("agelens").joinpath("examples", "astronaut.jpg").read_bytes()
        self.analyse(Picture("example", example), PictureOptions(), keep_image=True)

    def close(self) -> None:
        """Ends the threads; what waits is given up."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def analyse(self, picture: Picture, options: PictureOptions, *, keep_image: bool = False) -> Report:
        """The report of one picture; one that can't be read gives a report that says so.

        Raises:
            ModelError: The model can't be run.
            UsageError: An option makes no sense.
        """
        try:
            report = self._open_analyzer(options).analyse(picture.data, keep_image=keep_image)
        except InputError as error:
            return Report(picture.name, None, None, (), self.model, self._advise(error).to_failure())
        except MemoryError:
            refusal = TooManyPixelsError("the picture needs more memory than there is; send a smaller copy")
            return Report(picture.name, None, None, (), self.model, refusal.to_failure())
        return replace(report, source=picture.name)

    def _advise(self, error: InputError) -> InputError:
        """The same error in words for a client, who can't raise limits."""
        limits = self.settings.limits
        if isinstance(error, TooManyBytesError):
            return TooManyBytesError(f"the picture has more than {limits.max_bytes:,} bytes; send a smaller copy")
        if isinstance(error, TooManyPixelsError):
            return TooManyPixelsError(f"the picture has more than {limits.max_pixels:,} pixels; send a smaller copy")
        return error

    async def run(self, work: Callable[[], Result], lease: Lease) -> Result:
        """Does something in a thread, when it is its turn. Given up while it waits, it is never begun."""
        future = self._pool.submit(work)
        lease.hold()
        future.add_done_callback(lambda _: lease.let_go())
        future.add_done_callback(self._note)
        return await asyncio.wrap_future(future)

    def _note(self, future: Future[Result]) -> None:
        if not future.cancelled():
            self.admission.note_finished()

    def time_limit_error(self) -> TimeLimitError:
        """What is told to a client whose answer takes too long."""
        return TimeLimitError(
            f"there was no answer within {self.settings.time_limit:g} s; try again later, or send a smaller picture"
        )
