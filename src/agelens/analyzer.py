"""The corridor: streams sources through decode, detect, align and estimate, in order, in bounded memory.

Threads decode, detect and align one picture each; all of that runs outside Python's lock. Whoever consumes the stream
estimates, with the faces of several pictures in one batch.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict, Unpack, get_args

import numpy as np
from PIL import Image as PillowImage

from agelens.align import align, assume_landmarks
from agelens.decode import decode, decode_any, name_of
from agelens.detect import FAR, Detector, FaceDetector, SearchOptions, central_face
from agelens.errors import InputError, TooManyPixelsError, UsageError
from agelens.estimate import EstimateOptions, Estimator, OnnxEstimator, read_face
from agelens.groups import AgeGroups, parse_groups
from agelens.limits import DEFAULT_LIMITS, Limits
from agelens.runtime import resolve_device, typed_thread_errors
from agelens.sources import Source
from agelens.types import Box, Detection, Face, Image, Report, Task
from agelens.zoo import DEFAULT_MODEL, read_model

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from agelens.types import Pixels

    Input = str | os.PathLike[str] | bytes | PillowImage.Image | NDArray[Any] | Source
    """One picture: a path, the bytes of a file, a Pillow image, an RGB uint8 array (H, W, 3), or a source."""

LINGER = 0.05  # seconds that a batch waits for more faces while pictures are under way
AHEAD = 4  # pictures under way for each thread
DETAIL = 2 * FAR
"""Pixels of the longer side at which a large JPEG is decoded first: what detection needs, and enough for the crops of
all but small faces, for which the picture is decoded again."""


class Settings(TypedDict, total=False):
    """What an `Analyzer` can be told.

    Attributes:
        task: "age", "gender" or "both".
        groups: A named set of age groups, or one's own such as "0-12,13-17,18+".
        gender_threshold: Below this probability a gender is "unknown".
        min_score: Least certainty of a face, 0 to 1.
        min_face: Least side of a face in pixels; the search goes as deep as such faces need.
        max_faces: Only the largest faces, up to this many.
        device: "auto", "cpu", "cuda", ...
        threads: Pictures worked on at once; by default one for each core.
        batch_size: Most faces in one call of the network.
        limits: Bounds on bytes and pixels of one picture.
        detector: Another detector.
        estimator: Another estimator.
    """

    task: Task
    groups: str | AgeGroups
    gender_threshold: float
    min_score: float
    min_face: float | None
    max_faces: int | None
    device: str
    threads: int | None
    batch_size: int
    limits: Limits
    detector: Detector
    estimator: Estimator


DEFAULTS: Final[Settings] = {
    "task": "both",
    "groups": "adience",
    "gender_threshold": 0.5,
    "min_score": 0.6,
    "min_face": None,
    "max_faces": None,
    "device": "auto",
    "threads": None,
    "batch_size": 32,
    "limits": DEFAULT_LIMITS,
}
"""What holds where a setting isn't given."""


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


class Analyzer:
    """Finds and judges faces. Opened once, used for any number of pictures, from any thread."""

    def __init__(self, model: str | os.PathLike[str] = DEFAULT_MODEL, **settings: Unpack[Settings]) -> None:
        """Opens the models.

        Args:
            model: Name of a model that ships, or path of an ONNX file.
            **settings: See `Settings`.

        Raises:
            ModelError: A model is unknown, damaged or unfit, or the device isn't there.
            UsageError: A setting makes no sense.
        """
        check_settings(settings)
        if not isinstance(model, str | os.PathLike):
            raise UsageError(f"model is the name of a model that ships or the path of an ONNX file, not {model!r}")
        model = os.fsdecode(model)
        chosen = DEFAULTS | settings
        groups = chosen["groups"]
        self.options = EstimateOptions(
            chosen["task"], parse_groups(groups) if isinstance(groups, str) else groups, chosen["gender_threshold"]
        )
        self.limits = chosen["limits"]
        self.threads = count_cores() if chosen["threads"] is None else chosen["threads"]
        self.batch_size = chosen["batch_size"]
        self.device = resolve_device(chosen["device"])
        search = SearchOptions(chosen["min_score"], chosen["min_face"], chosen["max_faces"])
        self._detector: Detector = settings.get("detector") or FaceDetector(search, device=self.device)
        self._estimator: Estimator = settings.get("estimator") or OnnxEstimator(
            read_model(model), name=model, device=self.device, batch_size=self.batch_size
        )
        self.model = self._estimator.model
        self.spec = self._estimator.spec

    def predict(self, picture: Input) -> list[Face]:
        """The faces of one picture, from left to right.

        Raises:
            InputError: The picture can't be read.
        """
        prepared = self._prepare(picture)
        if prepared.error:
            raise prepared.error
        return list(self._finish([prepared])[0].faces)

    def predict_crops(self, crops: Iterable[Input]) -> list[Face]:
        """Judges pictures that each show one face, cut by somebody else; one result each, in order.

        The face inside is found and aligned as always. Where none is found the whole crop counts as a face that looks
        straight ahead, with a detection score of 0.

        Raises:
            InputError: A crop can't be read.
            UsageError: It is one picture and not several.
        """
        prepared = []
        for crop in _check_several(crops):
            name, image = self._read(crop)
            found = self._detector.detect(image)
            face = central_face(image, found) if found else self._assume_face(image)
            prepared.append(Prepared(name, image.width, image.height, [face], self._align(image, [face])))
        return [report.faces[0] for report in self._finish(prepared)]

    def stream(self, pictures: Iterable[Input], *, keep_images: bool = False, strict: bool = False) -> Iterator[Report]:
        """One report for each picture, in order, lazily and in bounded memory.

        Args:
            pictures: May be endless. It is read in a thread of its own, a few pictures ahead.
            keep_images: Whether reports carry the decoded picture.
            strict: Whether the first picture that can't be read ends the stream.

        Raises:
            InputError: A picture can't be read and `strict` is set; otherwise its report says so.
            UsageError: It is one picture and not several, or the system starts no thread.
        """
        work = partial(self._prepare, keep_image=keep_images)
        with _Line(work, _check_several(pictures), self.threads) as line:
            for batch in line.batches(self.batch_size):
                reports = deque(self._finish(batch))
                errors = deque(prepared.error for prepared in batch)
                batch.clear()  # what was yielded belongs to the caller alone: a kept picture is large
                while reports:
                    error = errors.popleft()
                    if strict and error:
                        raise error
                    yield reports.popleft()

    def _read(self, picture: Input) -> tuple[str, Image]:
        if isinstance(picture, Source):
            return picture.name, decode(picture.read(self.limits), limits=self.limits, detail=DETAIL)
        return decode_any(picture, limits=self.limits, detail=DETAIL)

    def _prepare(self, picture: Input, *, keep_image: bool = False) -> Prepared:
        try:
            name, image = self._read(picture)
            faces = self._detector.detect(image)  # which may decode the picture again, as alignment may
            crops = self._align(image, faces)
        except InputError as error:
            return self._refuse(picture, error)
        except MemoryError:
            return self._refuse(picture, TooManyPixelsError("the picture needs more memory than there is; reduce it"))
        return Prepared(name, image.width, image.height, faces, crops, image if keep_image else None)

    def _refuse(self, picture: Input, error: InputError) -> Prepared:
        name = picture.name if isinstance(picture, Source) else name_of(picture)
        return Prepared(name, None, None, (), self._no_crops(), error=error)

    def _align(self, image: Image, faces: Sequence[Detection]) -> Pixels:
        if not faces:
            return self._no_crops()
        return np.stack([align(image, face.landmarks, self.spec.crop) for face in faces])

    def _no_crops(self) -> Pixels:
        return np.zeros((0, self.spec.crop.size, self.spec.crop.size, 3), np.uint8)

    @staticmethod
    def _assume_face(image: Image) -> Detection:
        box = Box(0.0, 0.0, float(image.width), float(image.height))
        return Detection(box, 0.0, assume_landmarks(box))

    def _finish(self, batch: Sequence[Prepared]) -> list[Report]:
        """Estimates the faces of several pictures together."""
        crops = [prepared.crops for prepared in batch if len(prepared.crops)]
        answers = self._estimator.estimate(np.concatenate(crops)) if crops else None
        reports, row = [], 0
        for prepared in batch:
            faces = []
            for face in prepared.faces:
                assert answers is not None
                age, gender = read_face(answers.ages[row], float(answers.female[row]), self.spec, self.options)
                faces.append(Face(face.box, face.score, face.landmarks, age, gender))
                row += 1
            reports.append(
                Report(
                    prepared.name,
                    prepared.width,
                    prepared.height,
                    tuple(faces),
                    self.model,
                    prepared.error.to_failure() if prepared.error else None,
                    prepared.image,
                )
            )
        return reports


class _HandingOver:
    """Tells the consumer how the source ended: with None, or with what it raised."""

    def __init__(self, put: Callable[[BaseException | None], None]) -> None:
        self._put = put

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._put(error)
        return True


class _Line:
    """Pictures under way: read in one thread, prepared in several, taken out in order."""

    def __init__(self, work: Callable[[Input], Prepared], pictures: Iterable[Input], threads: int) -> None:
        self._work, self._pictures = work, pictures
        self._room = threading.Semaphore(AHEAD * threads)
        self._pending: deque[Future[Prepared] | BaseException | None] = deque()
        self._there = threading.Semaphore(0)  # entries of `_pending`
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="agelens")
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
                    self._put(self._pool.submit(self._work, picture))

    def _put(self, entry: Future[Prepared] | BaseException | None) -> None:
        self._pending.append(entry)
        self._there.release()

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
        concurrent.futures.wait([following], timeout=max(due - time.monotonic(), 0.0))
        return following.done()


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_settings(settings: Settings) -> None:
    """Refuses what makes no sense.

    Raises:
        UsageError: A setting is unknown, or has a value that it can't have.
    """
    for name in settings.keys() - Settings.__annotations__.keys():
        near = get_close_matches(name, Settings.__annotations__, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(Settings.__annotations__)}"
        raise UsageError(f"there is no setting {name!r}; {hint}")
    chosen = DEFAULTS | settings
    task = chosen["task"]
    if task not in get_args(Task):
        raise UsageError(f"task {task!r} is not one of {', '.join(get_args(Task))}")
    for name, share in (("gender_threshold", chosen["gender_threshold"]), ("min_score", chosen["min_score"])):
        if not (_is_number(share) and 0 <= share <= 1):
            raise UsageError(f"{name} is a number from 0 to 1, not {share!r}")
    min_face = chosen["min_face"]
    if min_face is not None and not (_is_number(min_face) and min_face >= 0):
        raise UsageError(f"min_face is a number of pixels, not {min_face!r}")
    counts = {name: settings.get(name) for name in ("threads", "max_faces")}
    given = {name: count for name, count in counts.items() if count is not None}
    for name, count in (given | {"batch_size": chosen["batch_size"]}).items():
        if not (isinstance(count, int) and count >= 1):
            raise UsageError(f"{name} is a whole number of at least 1, not {count!r}")
    if not isinstance(chosen["groups"], str | AgeGroups):
        raise UsageError(f"groups is a text, or what agelens.parse_groups gives, not {chosen['groups']!r}")
    if not isinstance(chosen["limits"], Limits):
        raise UsageError(f"limits is an agelens.Limits, not {chosen['limits']!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real)


def _check_several(pictures: Iterable[Input]) -> Iterable[Input]:
    """Refuses one picture where several are expected: a name would be taken for many of one letter each.

    Raises:
        UsageError: It is one picture, or nothing that can be gone through.
    """
    is_one = isinstance(pictures, str | bytes | bytearray | memoryview | os.PathLike | PillowImage.Image | Source)
    is_one = is_one or (isinstance(pictures, np.ndarray) and pictures.ndim != 4)
    if is_one or not (hasattr(pictures, "__iter__") or hasattr(pictures, "__getitem__")):
        raise UsageError(f"several pictures are expected and this is one {type(pictures).__name__}; put it into a list")
    return pictures
