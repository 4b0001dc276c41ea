"""Pictures in, reports out: for each set of options an `agelens.Analyzer`, and one crew of threads for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

from agelens.analyzer import DEFAULTS, Analyzer
from agelens.errors import InputError, TimeLimitError, TooManyBytesError, TooManyPixelsError
from agelens.estimate import OnnxEstimator
from agelens.runtime import resolve_device
from agelens.server.admission import Admission, Lease
from agelens.server.crew import Crew, Job
from agelens.server.metrics import Metrics
from agelens.types import Report, Task
from agelens.zoo import read_model

if TYPE_CHECKING:
    from agelens.analyzer import Prepared
    from agelens.estimate import Estimates
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
        self._estimator = estimator
        self._open_analyzer = lru_cache(maxsize=ANALYZERS_KEPT)(self._make_analyzer)
        self._crew = Crew(settings.threads_each, estimator, settings.batch_size, metrics.count_batch)

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
        self._submit(Picture("example", example), PictureOptions(), lambda report: report).result()

    def close(self) -> None:
        """Ends the threads; what waits is given up."""
        self._crew.close()

    def start(
        self,
        picture: Picture,
        options: PictureOptions,
        lease: Lease,
        then: Callable[[Report], Result],
        *,
        keep_image: bool = False,
    ) -> asyncio.Future[Result]:
        """Has a picture worked on when it is its turn. Given up while it waits, it is never begun.

        Args:
            picture: Which; if it can't be read, its report says so.
            options: What is asked of it.
            lease: Its room, held until it is done.
            then: Makes the result of its report, in the thread that judged it.
            keep_image: Whether the report carries the decoded picture.

        Raises:
            ModelError: The model can't be run.
            UsageError: An option makes no sense.
        """

        def count(report: Report) -> Result:
            self.metrics.count_report(report, len(picture.data))
            return then(report)

        lease.hold()
        future = self._submit(picture, options, count, keep_image=keep_image)
        future.add_done_callback(lambda _: lease.let_go())
        future.add_done_callback(self._note)
        return asyncio.wrap_future(future)

    def _submit(
        self,
        picture: Picture,
        options: PictureOptions,
        then: Callable[[Report], Result],
        *,
        keep_image: bool = False,
    ) -> Future[Result]:
        def prepare() -> Prepared:
            prepared = self._open_analyzer(options).prepare(picture.data, keep_image=keep_image)
            return replace(prepared, name=picture.name, error=prepared.error and self._advise(prepared.error))

        def finish(prepared: Prepared, answers: Estimates) -> Result:
            return then(self._open_analyzer(options).report(prepared, answers))

        return self._crew.submit(Job(prepare, finish))

    def _advise(self, error: InputError) -> InputError:
        """The same error in words for a client, who can't raise limits."""
        limits = self.settings.limits
        if isinstance(error, TooManyBytesError):
            return TooManyBytesError(f"the picture has more than {limits.max_bytes:,} bytes; send a smaller copy")
        if isinstance(error, TooManyPixelsError):
            return TooManyPixelsError(f"the picture has more than {limits.max_pixels:,} pixels; send a smaller copy")
        return error

    def _note(self, future: Future[Any]) -> None:
        if not future.cancelled():
            self.admission.note_finished()

    def time_limit_error(self) -> TimeLimitError:
        """What is told to a client whose answer takes too long."""
        return TimeLimitError(
            f"there was no answer within {self.settings.time_limit:g} s; try again later, or send a smaller picture"
        )
