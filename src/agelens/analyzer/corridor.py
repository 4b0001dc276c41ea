"""The corridor: streams sources through decode, detect, align and estimate, in order, in bounded memory.

Threads decode, detect and align one picture each; all of that runs outside Python's lock. Whichever of them is free
first estimates the faces of several pictures in one batch.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from PIL import Image as PillowImage

from agelens.advice import either_way
from agelens.align import align, assume_landmarks
from agelens.analyzer.line import Line
from agelens.analyzer.prepared import Prepared
from agelens.analyzer.settings import DEFAULTS, Settings, check_settings
from agelens.cores import count_cores
from agelens.decode import decode, decode_any, name_of
from agelens.detect import FAR, Detector, FaceDetector, SearchOptions, central_face
from agelens.errors import InputError, TooManyPixelsError, UsageError
from agelens.estimate import NO_ESTIMATES, EstimateOptions, Estimates, Estimator, OnnxEstimator, read_face
from agelens.groups import parse_groups
from agelens.runtime import resolve_device
from agelens.sources import Source
from agelens.types import Box, Detection, Face, Image, Report
from agelens.zoo import DEFAULT_MODEL, read_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.types import Pixels

    Input = str | os.PathLike[str] | bytes | PillowImage.Image | NDArray[Any] | Source
    """One picture: a path, the bytes of a file, a Pillow image, an RGB uint8 array (H, W, 3), or a source."""

DETAIL = 2 * FAR
"""Pixels of the longer side at which a large JPEG is decoded first: what detection needs, and enough for the crops of
all but small faces, for which the picture is decoded again."""


class Analyzer:
    """Finds and judges faces. Opened once, used for any number of pictures, from any thread."""

    def __init__(self, model: str | os.PathLike[str] = DEFAULT_MODEL, **settings: Unpack[Settings]) -> None:
        """Opens the models.

        Args:
            model: Name of a model that ships, or path of an ONNX file.
            **settings: See `Settings`.

        Raises:
            ModelError: A model is unknown, damaged or unfit.
            UsageError: A setting makes no sense, or the device isn't there.
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
        if self.options.task not in ("both", *self.spec.tasks):
            both = either_way("--task both", "task='both'")
            raise UsageError(
                f"{self.spec.name} tells {' and '.join(self.spec.tasks)} and no {self.options.task}; choose another"
                f" model, or {both}"
            )

    def predict(self, picture: Input) -> list[Face]:
        """The faces of one picture, from left to right.

        Raises:
            InputError: The picture can't be read.
        """
        return list(self.analyse(picture).faces)

    def analyse(self, picture: Input, *, keep_image: bool = False) -> Report:
        """The report of one picture.

        Args:
            picture: Which.
            keep_image: Whether the report carries the decoded picture.

        Raises:
            InputError: The picture can't be read.
        """
        prepared = self.prepare(picture, keep_image=keep_image)
        if prepared.error:
            raise prepared.error
        return self._finish([prepared])[0]

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
            face = central_face(found, image.width, image.height) if found else self._assume_face(image)
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
        line = Line(
            _check_several(pictures),
            partial(self.prepare, keep_image=keep_images),
            self._finish_with_errors,
            threads=self.threads,
            size=self.batch_size,
            shelf=self.batch_size if keep_images else 2 * self.batch_size,
        )
        with line:
            for reports in line.results():
                while reports:
                    if strict and (error := reports[0][1]):
                        raise error
                    yield reports.popleft()[0]  # under no name here: what was yielded belongs to the caller alone

    def prepare(self, picture: Input, *, keep_image: bool = False) -> Prepared:
        """All that comes before the estimator, of one picture: for whoever judges the crops of several together.

        What can't be read raises nothing: `error` says why.
        """
        try:
            name, image = self._read(picture)
            faces = self._detector.detect(image)  # which may decode the picture again, as alignment may
            crops = self._align(image, faces)
        except InputError as error:
            return self._refuse(picture, error)
        except MemoryError:
            return self._refuse(picture, TooManyPixelsError("the picture needs more memory than there is; reduce it"))
        return Prepared(name, image.width, image.height, faces, crops, image if keep_image else None)

    def report(self, prepared: Prepared, answers: Estimates) -> Report:
        """The report of a prepared picture.

        Args:
            prepared: The picture.
            answers: What an estimator of this model says of its crops.
        """
        faces = []
        for row, face in enumerate(prepared.faces):
            age, gender = read_face(answers.ages[row], float(answers.female[row]), self.spec, self.options)
            faces.append(Face(face.box, face.score, face.landmarks, age, gender))
        failure = prepared.error.to_failure() if prepared.error else None
        return Report(prepared.name, prepared.width, prepared.height, tuple(faces), self.model, failure, prepared.image)

    def _read(self, picture: Input) -> tuple[str, Image]:
        if isinstance(picture, Source):
            return picture.name, decode(picture.read(self.limits), limits=self.limits, detail=DETAIL)
        return decode_any(picture, limits=self.limits, detail=DETAIL)

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

    def _finish_with_errors(self, batch: Sequence[Prepared]) -> deque[tuple[Report, InputError | None]]:
        return deque(zip(self._finish(batch), (prepared.error for prepared in batch), strict=True))

    def _finish(self, batch: Sequence[Prepared]) -> list[Report]:
        """Estimates the faces of several pictures together."""
        crops = np.concatenate([self._no_crops(), *(prepared.crops for prepared in batch)])
        answers = self._estimator.estimate(crops) if len(crops) else NO_ESTIMATES
        reports, row = [], 0
        for prepared in batch:
            rows = slice(row, row + len(prepared.faces))
            reports.append(self.report(prepared, Estimates(answers.ages[rows], answers.female[rows])))
            row = rows.stop
        return reports


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
