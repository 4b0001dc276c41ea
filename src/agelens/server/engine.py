"""Pictures in, reports out: threads that take pictures from one queue, and one estimator that they share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, TypeVar

from agelens.analyzer import Analyzer
from agelens.detect import FaceDetector, SearchOptions
from agelens.errors import InputError, TimeLimitError, TooManyBytesError, TooManyPixelsError
from agelens.estimate import OnnxEstimator
from agelens.runtime import resolve_device, typed_thread_errors
from agelens.server.admission import Admission, Lease
from agelens.server.batching import BatchingEstimator
from agelens.server.metrics import Metrics
from agelens.types import Image, Report, Task
from agelens.zoo import read_model

if TYPE_CHECKING:
    from agelens.detect import Detector
    from agelens.server.settings import ServerSettings
    from agelens.types import Detection

Result = TypeVar("Result")

ANALYZERS_KEPT = 8
"""Each has a detector of its own; options that were not asked for lately open one anew, which takes milliseconds."""


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """What is asked of one picture; as in `agelens predict`."""

    task: Task = "both"
    groups: str = "adience"
    gender_threshold: float = 0.5
    min_score: float = 0.6
    min_face: float | None = None
    max_faces: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a request: what records call it, and the bytes of the file."""

    name: str
    data: bytes


class _Witness(threading.local):
    """Remembers, for each thread, the picture that it was shown last."""

    image: Image | None = None


class _WitnessedDetector:
    """A detector that shows a witness each picture, of which a prediction alone doesn't tell the size."""

    def __init__(self, detector: Detector, witness: _Witness) -> None:
        self._detector, self._witness = detector, witness

    def detect(self, image: Image) -> list[Detection]:
        self._witness.image = image
        return self._detector.detect(image)


class Engine:
    """Opened once for each process. Every picture goes through an `agelens.Analyzer`, as those of the command do.

    Attributes:
        admission: What is taken on.
        device: Where the networks run.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        """Opens the models and starts the threads.

        Raises:
            ModelError: A model is unknown, damaged or unfit, or the device isn't there.
            UsageError: The system starts no thread.
        """
        self.settings, self.metrics = settings, metrics
        self.admission = Admission(settings.queue, settings.max_held, metrics.set_queue)
        self.device = resolve_device(settings.device)
        estimator = OnnxEstimator(
            read_model(settings.model), name=settings.model, device=self.device, batch_size=settings.batch_size
        )
        self.spec, self.model = estimator.spec, estimator.model
        self._estimator = BatchingEstimator(estimator, settings.batch_size, metrics.count_batch)
        self._witness = _Witness()
        self._open_analyzer = lru_cache(maxsize=ANALYZERS_KEPT)(self._make_analyzer)
        # One more than are to work at once: whose crops are being judged by another thread only waits.
        threads = settings.threads_each + 1
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="agelens-serve")
        everybody = threading.Barrier(threads, timeout=10)
        with typed_thread_errors():  # all are started now, so that no request finds that one can't be
            wait([self._pool.submit(everybody.wait) for _ in range(threads)])

    def _make_analyzer(self, options: PictureOptions) -> Analyzer:
        search = SearchOptions(options.min_score, options.min_face, options.max_faces)
        return Analyzer(
            self.settings.model,
            task=options.task,
            groups=options.groups,
            gender_threshold=options.gender_threshold,
            device=self.device,
            threads=1,
            limits=self.settings.limits,
            detector=_WitnessedDetector(FaceDetector(search, device=self.device), self._witness),
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
            faces = tuple(self._open_analyzer(options).predict(picture.data))
        except InputError as error:
            return Report(picture.name, None, None, (), self.model, self._advise(error).to_failure())
        except MemoryError:
            refusal = TooManyPixelsError("the picture needs more memory than there is; send a smaller copy")
            return Report(picture.name, None, None, (), self.model, refusal.to_failure())
        finally:  # a picture that nobody needs any more would fill the memory
            image, self._witness.image = self._witness.image, None
        assert image is not None
        return Report(picture.name, image.width, image.height, faces, self.model, None, image if keep_image else None)

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
