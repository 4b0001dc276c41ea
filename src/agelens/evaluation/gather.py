"""Pictures -> what the model says of each, in order, in bounded memory.

A row of a manifest is about one face: the one that meets the row's box best where the set gives boxes, else the
central one. What is kept of a picture is some numbers, rounded as in the records that users get.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.align import CropGeometry, align
from agelens.datasets.faces import find_in_box
from agelens.decode import decode_any
from agelens.detect import central_face
from agelens.errors import InputError
from agelens.evaluation.predictions import Predictions
from agelens.limits import DEFAULT_LIMITS, Limits, check_bytes
from agelens.sources import Source
from agelens.types import Face, Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.analyzer import Analyzer, Input
    from agelens.datasets.manifest import Manifest
    from agelens.datasets.pictures import Pictures
    from agelens.evaluation.protocol import Protocol
    from agelens.types import Age, Pixels, Report

    Floats = NDArray[np.float64]

SHARPNESS_CROP = CropGeometry(64)
"""The part of a face whose sharpness is measured: the same for every model, so that their slices are the same."""
CHUNK = 32
LEAST_MASS = 1e-6  # as calibration has it: a band that the model thinks impossible is not divided by nothing


@dataclass(frozen=True, slots=True)
class ManifestPicture(Source):
    """A picture of a manifest, read when its turn comes."""

    pictures: Pictures | None = None

    def read(self, limits: Limits = DEFAULT_LIMITS) -> bytes:
        assert self.pictures is not None
        data = self.pictures.read(self.name)
        check_bytes(len(data), limits)
        return data


Answer = dict[str, Any]
PixelsOf = Callable[[int], "Pixels"]


def list_pictures(manifest: Manifest, rows: NDArray[np.int64], pixels_of: PixelsOf | None) -> Iterator[Input]:
    """The pictures of some rows, as the analyzer takes them.

    Args:
        manifest: Whose rows they are.
        rows: Indices.
        pixels_of: Gives the pixels of a row where they lie in a pack; None: they are files.
    """
    pictures = None if pixels_of else manifest.open_pictures()
    for row in rows.tolist():
        yield pixels_of(row) if pixels_of else ManifestPicture(manifest.columns.path[row], pictures=pictures)


def gather(
    analyzer: Analyzer,
    manifest: Manifest,
    rows: NDArray[np.int64],
    protocol: Protocol,
    *,
    pixels_of: PixelsOf | None = None,
    crops: bool = False,
) -> Iterator[Answer]:
    """What the model says of each row, in order: the columns of `Predictions` that are not labels.

    Args:
        analyzer: With the protocol's age groups.
        manifest: The data set.
        rows: Indices of the rows to judge.
        protocol: What is asked.
        pixels_of: See `list_pictures`.
        crops: The pictures are crops of faces already: each counts as a face, whether or not the detector finds it.
    """
    pictures = list_pictures(manifest, rows, pixels_of)
    boxes = manifest.columns.box[rows]
    judged = judge_crops(analyzer, pictures) if crops else judge_pictures(analyzer, pictures, boxes)
    labels = analyzer.options.groups.labels
    bands = label_bands(manifest, protocol)[rows]
    low, high = labelled_range(manifest, protocol, rows, bands)
    for place, (face, image, error) in enumerate(judged):
        answer: Answer = {"error": error}
        if face is not None and image is not None:
            answer |= {
                "score": face.detection_score,
                "face_size": max(face.box.width, face.box.height),
                "sharpness": measure_sharpness(image, face),
            }
            if face.gender is not None:
                answer["female_probability"] = face.gender.to_dict()["female_probability"]
            if face.age is not None:
                said = face.age.to_dict()
                answer |= {
                    **{name: said[name] for name in ("years", "low", "high")},
                    "inside": chance_inside(face.age, low[place], high[place]),
                    "group": labels.index(face.age.group),
                }
        yield answer


Judged = tuple[Face | None, Image | None, str]


def judge_pictures(analyzer: Analyzer, pictures: Iterable[Input], boxes: NDArray[np.float32]) -> Iterator[Judged]:
    """End to end: detection, choice of the face, estimate."""
    for report, box in zip(analyzer.stream(pictures, keep_images=True), boxes, strict=True):
        if report.error is not None:
            yield None, None, report.error.code
        else:
            yield choose_face(report, box), report.image, ""


def judge_crops(analyzer: Analyzer, pictures: Iterable[Input]) -> Iterator[Judged]:
    """Every picture is a face."""
    chunk: list[Image | str] = []
    for picture in pictures:
        chunk.append(_decode(picture, analyzer.limits))
        if len(chunk) == CHUNK:
            yield from _judge_chunk(analyzer, chunk)
            chunk = []
    yield from _judge_chunk(analyzer, chunk)


def _decode(picture: Input, limits: Limits) -> Image | str:
    try:
        content = picture.read(limits) if isinstance(picture, Source) else picture
        return decode_any(content, limits=limits)[1]
    except InputError as error:
        return error.code


def _judge_chunk(analyzer: Analyzer, chunk: Sequence[Image | str]) -> Iterator[Judged]:
    faces = iter(analyzer.predict_crops([image.pixels for image in chunk if isinstance(image, Image)]))
    for image in chunk:
        if isinstance(image, Image):
            yield next(faces), image, ""
        else:
            yield None, None, image


def choose_face(report: Report, box: NDArray[np.float32] | None = None) -> Face | None:
    """The face that a row is about; None where there is none.

    Args:
        report: Of the row's picture.
        box: Where the set says that the face is: x, y, width, height; NaN or None where it doesn't say. Without it, the
            central one counts.
    """
    if not report.faces:
        return None
    if box is not None and not np.isnan(box[0]):
        return find_in_box(report.faces, box)
    return central_face(report.faces, report.width or 1, report.height or 1)


def measure_sharpness(image: Image, face: Face) -> float:
    """Variance of the Laplacian of the aligned face in grey."""
    crop = align(image, face.landmarks, SHARPNESS_CROP).astype(np.float64)
    grey = crop @ np.array([0.299, 0.587, 0.114])
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * grey[1:-1, 1:-1]).var())


def chance_inside(age: Age, low: float, high: float) -> float:
    """Whether a labelled age lies in the interval; for a band, the model's own probability of that, given the band.

    A band says no exact age. The same rule calibrates the intervals on bands: the age is distributed as the model says,
    inside the band.
    """
    if math.isnan(low):
        return math.nan
    if low == high:
        said = age.to_dict()
        return float(said["low"] <= low <= said["high"])
    years = np.arange(len(age.distribution))
    of_band = (years >= min(low, len(years) - 1)) & (years <= high)
    mass = (np.asarray(age.distribution) + LEAST_MASS) * of_band
    return float(mass[(years >= age.low) & (years <= age.high)].sum() / mass.sum())


def label_bands(manifest: Manifest, protocol: Protocol) -> NDArray[np.int64]:
    """Index of the protocol's age group of every row, shape (N,); -1 where the label lies in none.

    An exact age belongs to the group that holds it, except where the protocol counts only labels that are groups.
    """
    low, high = manifest.columns.age_low.astype(float), manifest.columns.age_high.astype(float)
    found = np.full(len(manifest), -1, np.int64)
    for index, (first, last) in enumerate(protocol.bands):
        is_open = last >= 100
        same = (low == first) & ((high == last) | (is_open & (high >= 100)))
        within = (low >= first) & ((high < last + 1) | is_open)
        found[within if protocol.ages == "years" else same] = index
    return found


def labelled_range(
    manifest: Manifest, protocol: Protocol, rows: NDArray[np.int64], bands: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """First and last year of the labels that intervals are held against, shape (R,); NaN where the label counts not."""
    low, high = (column[rows].astype(float) for column in (manifest.columns.age_low, manifest.columns.age_high))
    counts = bands >= 0 if protocol.ages == "bands" else low == high
    return np.where(counts, low, np.nan), np.where(counts, high, np.nan)


def collect(manifest: Manifest, rows: NDArray[np.int64], protocol: Protocol, answers: Sequence[Answer]) -> Predictions:
    """Labels and answers of some rows, side by side."""
    columns = manifest.columns.take(rows)

    def texts(values: NDArray[Any]) -> NDArray[np.str_]:
        return np.array(["" if value is None else str(value) for value in values], dtype=np.str_)

    def numbers(name: str) -> Floats:
        return np.array([answer.get(name, math.nan) for answer in answers], dtype=float)

    return Predictions(
        dataset=texts(columns.dataset),
        path=texts(columns.path),
        face=texts(columns.face),
        subject=texts(columns.subject),
        race=texts(columns.race),
        fold=columns.fold.astype(np.int64),
        age_low=columns.age_low.astype(float),
        age_high=columns.age_high.astype(float),
        band=label_bands(manifest, protocol)[rows],
        female=np.where(columns.gender < 0, np.nan, columns.gender.astype(float)),
        years=numbers("years"),
        low=numbers("low"),
        high=numbers("high"),
        inside=numbers("inside"),
        group=np.array([answer.get("group", -1) for answer in answers], dtype=np.int64),
        female_probability=numbers("female_probability"),
        score=numbers("score"),
        face_size=numbers("face_size"),
        sharpness=numbers("sharpness"),
        error=texts(np.array([answer["error"] for answer in answers], dtype=object)),
    )
