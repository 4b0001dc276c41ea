"""The corridor: streams sources through decode, detect, align and estimate, in order, in bounded memory.

Threads decode, detect and align one picture each; all of that runs outside Python's lock. Whoever consumes the stream
estimates, with the faces of several pictures in one batch.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import numpy as np
from PIL import Image as PillowImage

from agelens.align import align, assume_landmarks
from agelens.decode import decode, decode_any
from agelens.detect import FAR, Detector, FaceDetector, SearchOptions, central_face
from agelens.errors import InputError
from agelens.estimate import EstimateOptions, Estimator, OnnxEstimator, describe_face
from agelens.groups import AgeGroups, parse_groups
from agelens.limits import DEFAULT_LIMITS, Limits
from agelens.runtime import resolve_device
from agelens.sources import Source
from agelens.types import Box, Detection, Face, Image, Report, Task
from agelens.zoo import DEFAULT_MODEL, read_model

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from agelens.types import Pixels

    Input = str | os.PathLike[str] | bytes | PillowImage.Image | NDArray[Any] | Source
    """One picture: a path, the bytes of a file, a Pillow image, an RGB uint8 array (H, W, 3), or a source."""

LINGER = 0.02  # seconds that a batch waits for more faces while pictures are still under way
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


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A picture that is ready to be estimated: its faces and their crops (N, size, size, 3), or why there are none."""

    name: str
    image: Image | None
    faces: Sequence[Detection]
    crops: Pixels
    error: InputError | None = None


class Analyzer:
    """Finds and judges faces. Opened once, used for any number of pictures, from any thread."""

    def __init__(self, model: str = DEFAULT_MODEL, **settings: Unpack[Settings]) -> None:
        """Opens the models.

        Args:
            model: Name of a model that ships, or path of an ONNX file.
            **settings: See `Settings`.

        Raises:
            ModelError: A model is unknown, damaged or unfit, or the device isn't there.
            UsageError: A setting makes no sense.
        """
        groups = settings.get("groups", "adience")
        self.options = EstimateOptions(
            settings.get("task", "both"),
            parse_groups(groups) if isinstance(groups, str) else groups,
            settings.get("gender_threshold", 0.5),
        )
        self.limits = settings.get("limits", DEFAULT_LIMITS)
        self.threads = settings.get("threads") or count_cores()
        self.batch_size = settings.get("batch_size", 32)
        self.device = resolve_device(settings.get("device", "auto"))
        search = SearchOptions(settings.get("min_score", 0.6), settings.get("min_face"), settings.get("max_faces"))
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
        return list(self._finish([prepared], keep_images=False)[0].faces)

    def predict_crops(self, crops: Iterable[Input]) -> list[Face]:
        """Judges pictures that each show one face, cut by somebody else; one result each, in order.

        The face inside is found and aligned as always. Where none is found the whole crop counts as a face that looks
        straight ahead, with a detection score of 0.

        Raises:
            InputError: A crop can't be read.
        """
        prepared = []
        for crop in crops:
            name, image = self._read(crop)
            found = self._detector.detect(image)
            face = central_face(image, found) if found else self._assume_face(image)
            prepared.append(Prepared(name, image, [face], self._align(image, [face])))
        return [report.faces[0] for report in self._finish(prepared, keep_images=False)]

    def stream(self, pictures: Iterable[Input], *, keep_images: bool = False, strict: bool = False) -> Iterator[Report]:
        """One report for each picture, in order, lazily and in bounded memory.

        Args:
            pictures: May be endless. It is read in a thread of its own, a few pictures ahead.
            keep_images: Whether reports carry the decoded picture.
            strict: Whether the first picture that can't be read ends the stream.

        Raises:
            InputError: A picture can't be read and `strict` is set; otherwise its report says so.
        """
        with _Line(self._prepare, pictures, self.threads) as line:
            for batch in line.batches(self.batch_size):
                for prepared, report in zip(batch, self._finish(batch, keep_images=keep_images), strict=True):
                    if strict and prepared.error:
                        raise prepared.error
                    yield report
                    line.release()

    def _read(self, picture: Input) -> tuple[str, Image]:
        if isinstance(picture, Source):
            return picture.name, decode(picture.read(self.limits), limits=self.limits, detail=DETAIL)
        return decode_any(picture, limits=self.limits, detail=DETAIL)

    def _prepare(self, picture: Input) -> Prepared:
        try:
            name, image = self._read(picture)
        except InputError as error:
            return Prepared(_name_of(picture), None, (), self._no_crops(), error)
        faces = self._detector.detect(image)
        return Prepared(name, image, faces, self._align(image, faces))

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

    def _finish(self, batch: Sequence[Prepared], *, keep_images: bool) -> list[Report]:
        """Estimates the faces of several pictures together."""
        crops = [prepared.crops for prepared in batch if len(prepared.crops)]
        answers = self._estimator.estimate(np.concatenate(crops)) if crops else None
        reports, row = [], 0
        for prepared in batch:
            faces = []
            for face in prepared.faces:
                assert answers is not None
                age, gender = describe_face(answers.ages[row], float(answers.female[row]), self.spec, self.options)
                faces.append(Face(face.box, face.score, face.landmarks, age, gender))
                row += 1
            image = prepared.image
            reports.append(
                Report(
                    prepared.name,
                    image.width if image else None,
                    image.height if image else None,
                    tuple(faces),
                    self.model,
                    prepared.error.to_failure() if prepared.error else None,
                    image if keep_images else None,
                )
            )
        return reports


class _HandingOver:
    """Tells the consumer how the source ended: with None, or with what it raised."""

    def __init__(self, pending: queue.SimpleQueue[Future[Prepared] | BaseException | None]) -> None:
        self._pending = pending

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._pending.put(error)
        return True


class _Line:
    """Pictures under way: read in one thread, prepared in several, taken out in order."""

    def __init__(self, work: Callable[[Input], Prepared], pictures: Iterable[Input], threads: int) -> None:
        self._work, self._pictures = work, pictures
        self._room = threading.Semaphore(AHEAD * threads)
        self._pending: queue.SimpleQueue[Future[Prepared] | BaseException | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="agelens")
        self._stopped = False

    def __enter__(self) -> Self:
        # Daemonic: the source may be a pipe that never ends, and must not keep the process alive.
        threading.Thread(target=self._feed, name="agelens-feed", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._room.release()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def release(self) -> None:
        """Makes room for one more picture."""
        self._room.release()

    def _feed(self) -> None:
        with _HandingOver(self._pending):
            for picture in self._pictures:
                self._room.acquire()
                if self._stopped:
                    return
                self._pending.put(self._pool.submit(self._work, picture))

    def batches(self, size: int) -> Iterator[list[Prepared]]:
        """Consecutive pictures with about `size` faces together; fewer where more would keep the consumer waiting."""
        batch: list[Prepared] = []
        faces = 0
        while True:
            try:
                entry = self._pending.get(timeout=LINGER if batch else None)
            except queue.Empty:
                yield batch
                batch, faces = [], 0
                continue
            if not isinstance(entry, Future):
                if batch:
                    yield batch
                if entry is not None:
                    raise entry
                return
            batch.append(entry.result())
            faces += len(batch[-1].faces)
            if faces >= size or len(batch) >= size:
                yield batch
                batch, faces = [], 0


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _name_of(picture: Input) -> str:
    if isinstance(picture, Source):
        return picture.name
    if isinstance(picture, str | os.PathLike):
        return os.fspath(picture)
    return type(picture).__name__
