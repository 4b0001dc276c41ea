"""Faces of successive frames -> people: who is who, and what all looks at each say together.

A face is the same person's if it is where that person's movement leads, looks like that person, and is judged alike;
all pairs are weighed at once and assigned exactly. A person who is hidden is waited for; a cut ends all tracks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from agelens.estimate import EstimateOptions, read_face
from agelens.types import Age, Box, Face, Gender
from agelens.video.assignment import FORBIDDEN, assign
from agelens.video.cuts import CutDetector
from agelens.video.fusion import Fusion, settle_group
from agelens.video.looks import describe_look, measure_sharpness
from agelens.video.motion import Motion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.modelspec import ModelSpec
    from agelens.types import Pixels

    Floats = NDArray[np.float64]

PATIENCE: Final = 1.5
"""Seconds that a hidden person is waited for."""

PATIENCE_LOOKS: Final = 3.0
"""But at least so many looks, where looks are rare."""

FARTHEST: Final = 4.0
"""Standard deviations, beyond a third of the face, at which a face may be found from where it was expected."""

MOST_GROWTH: Final = 2.0
"""The side of a face may change by this factor between two looks."""

UNLIKELY: Final = 1.0
"""Cost of a pair above which two tracks are likelier than one."""

PLACE_WEIGHT, OVERLAP_WEIGHT, LOOK_WEIGHT, JUDGEMENT_WEIGHT = 0.35, 0.35, 1.6, 0.3
LOOK_SETTLING: Final = 0.15
CLEAR: Final = 0.05
"""Overlap of two boxes up to which a look is taken as a description of its face alone."""


@dataclass(frozen=True, slots=True)
class BestLook:
    """The best look at a person.

    Attributes:
        quality: Higher is better: the face is sure, large and sharp.
        frame: Number of the frame.
        time_seconds: Its time.
        box: Where the face is.
        crop: The face, RGB uint8, shape (h, w, 3).
    """

    quality: float
    frame: int
    time_seconds: float
    box: Box
    crop: Pixels


@dataclass(frozen=True, slots=True)
class Track:
    """One person in one scene, once nobody waits for them any more.

    Attributes:
        number: From 1, in the order of appearance.
        first_frame: Number of the first frame.
        first_seconds: Its time.
        last_frame: Number of the last frame in which the face was found.
        last_seconds: Its time.
        frames: In how many of the frames that were looked at.
        independent_looks: How many independent looks they are worth.
        age: Fused.
        gender: Fused.
        best: The best look.
    """

    number: int
    first_frame: int
    first_seconds: float
    last_frame: int
    last_seconds: float
    frames: int
    independent_looks: float
    age: Age | None
    gender: Gender | None
    best: BestLook


class _Person:
    """A track that still goes on."""

    def __init__(self, number: int, face: Face, frame: int, time: float) -> None:
        self.number = number
        self.motion = Motion.begin(face.box, time)
        self.first = self.last = (frame, time)
        self.fusion = Fusion()
        self.look: Floats | None = None
        self.best: BestLook | None = None
        self.face = face
        self.group: str | None = None

    def take(self, face: Face, frame: int, time: float) -> None:
        if (frame, time) != self.first:
            self.motion.correct(face.box, time)
        self.last = (frame, time)
        self.fusion.add(
            face.age.distribution if face.age else None,
            face.gender.female_probability if face.gender else None,
            face.detection_score,
        )

    def take_look(self, look: Floats, *, clear: bool) -> None:
        """Learns how the person looks; from a face that another one overlaps only where nothing is known yet."""
        if self.look is None:
            self.look = look
        elif clear:
            mixed = self.look + LOOK_SETTLING * (look - self.look)
            self.look = mixed / max(float(np.linalg.norm(mixed)), 1e-9)

    def take_best(self, pixels: Pixels, frame: int, time: float) -> None:
        face = self.face
        side = math.sqrt(face.box.width * face.box.height)
        if self.best is not None and face.detection_score * side < 0.5 * self.best.quality:
            return
        sharpness = measure_sharpness(pixels, face.box)
        quality = face.detection_score**4 * math.sqrt(side) * math.sqrt(sharpness + 0.1)
        if self.best is None or quality > self.best.quality:
            self.best = BestLook(quality, frame, time, face.box, _cut(pixels, face.box))


class Tracker:
    """Takes the faces of one frame after another. Memory doesn't grow but for the tracks that ended.

    Args:
        spec: Of the model that judged the faces.
        options: As of the analyzer.
        fuse: Whether a face is told what all looks at its track say; otherwise what the one look says.
    """

    def __init__(self, spec: ModelSpec, options: EstimateOptions, *, fuse: bool = True) -> None:
        self._spec, self._options, self._fuse = spec, options, fuse
        self._people: list[_Person] = []
        self._cuts = CutDetector()
        self._count = 0
        self._step = 0.0  # seconds between looks, settling
        self._time: float | None = None
        self._ended: list[Track] = []
        self.cuts = 0

    def update(self, faces: Sequence[Face], pixels: Pixels, frame: int, time: float) -> tuple[Face, ...]:
        """The same faces with their tracks, and with what is known of these by now.

        Args:
            faces: What was found and judged in a frame.
            pixels: The frame, RGB uint8, shape (H, W, 3), in whose pixels the boxes are.
            frame: Its number.
            time: Its time in seconds, later than the one before.
        """
        if self._cuts.is_cut(pixels):
            self.cuts += 1
            self._end(self._people)
        if self._time is not None:
            step = max(time - self._time, 0.0)
            self._step = step if not self._step else 0.8 * self._step + 0.2 * step
        self._time = time
        patience = max(PATIENCE, PATIENCE_LOOKS * self._step)
        self._end([person for person in self._people if time - person.last[1] > patience])
        looks = [describe_look(pixels, face.box) for face in faces]
        known = list(self._people)
        matches = dict(assign(self._weigh(known, faces, looks, time)))
        person_of = {column: known[row] for row, column in matches.items()}
        result = []
        for i, face in enumerate(faces):
            person = person_of.get(i) or self._begin(face, frame, time)
            person.face = face
            person.take(face, frame, time)
            others = (other.box for j, other in enumerate(faces) if j != i)
            person.take_look(looks[i], clear=_is_clear(face.box, others))
            person.take_best(pixels, frame, time)
            result.append(self._told(person, face))
        return tuple(result)

    def finish(self) -> None:
        """Ends all tracks."""
        self._end(self._people)

    def take_ended(self) -> list[Track]:
        """The tracks that ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def _begin(self, face: Face, frame: int, time: float) -> _Person:
        self._count += 1
        person = _Person(self._count, face, frame, time)
        self._people.append(person)
        return person

    def _end(self, people: Iterable[_Person]) -> None:
        for person in list(people):
            self._people.remove(person)
            age, gender = self._read(person)
            assert person.best is not None
            self._ended.append(
                Track(
                    person.number,
                    *person.first,
                    *person.last,
                    person.fusion.looks,
                    person.fusion.independent_looks,
                    age,
                    gender,
                    person.best,
                )
            )

    def _read(self, person: _Person) -> tuple[Age | None, Gender | None]:
        face = person.face
        ages, female = person.fusion.read_ages(), person.fusion.read_female()
        if ages is None:
            ages = np.full(101, 1 / 101)
        age, gender = read_face(ages.astype(np.float32), 0.5 if female is None else female, self._spec, self._options)
        if age is None or not face.age:
            return None, gender if face.gender else None
        age = settle_group(age, person.group, self._options.groups)
        person.group = age.group
        return age, gender if face.gender else None

    def _told(self, person: _Person, face: Face) -> Face:
        if not self._fuse:
            return replace(face, track=person.number)
        age, gender = self._read(person)
        return replace(face, age=age, gender=gender, track=person.number)

    def _weigh(self, people: Sequence[_Person], faces: Sequence[Face], looks: Sequence[Floats], time: float) -> Floats:
        costs = np.full((len(people), len(faces)), FORBIDDEN)
        for row, person in enumerate(people):
            expected = person.motion.predicted_box(time)
            reach = person.motion.reach(time)
            side = person.motion.side
            for column, face in enumerate(faces):
                cost = _cost(person, face, looks[column], (expected, reach, side))
                if cost < UNLIKELY:
                    costs[row, column] = cost
        return costs


def _cost(person: _Person, face: Face, look: Floats, expected: tuple[Box, float, float]) -> float:
    box, reach, side = expected
    found = math.sqrt(max(face.box.width * face.box.height, 1.0))
    if max(found / side, side / found) > MOST_GROWTH:
        return FORBIDDEN
    x = face.box.x + face.box.width / 2 - box.x - box.width / 2
    y = face.box.y + face.box.height / 2 - box.y - box.height / 2
    off = math.hypot(x, y) / (side / 3 + FARTHEST * reach)
    if off > 1:
        return FORBIDDEN
    unlike = 0.0 if person.look is None else (1 - float(look @ person.look)) / 2
    return (
        PLACE_WEIGHT * off
        + OVERLAP_WEIGHT * (1 - overlap(face.box, box))
        + LOOK_WEIGHT * unlike
        + JUDGEMENT_WEIGHT * _disagreement(person, face)
    )


def _disagreement(person: _Person, face: Face) -> float:
    """How differently a face and a person are judged, 0 to 1."""
    parts = []
    female = person.fusion.read_female()
    if face.gender is not None and female is not None:
        parts.append(abs(face.gender.female_probability - female))
    ages = person.fusion.read_ages()
    if face.age is not None and face.age.distribution and ages is not None:
        shared = float(np.sqrt(np.asarray(face.age.distribution) * ages).sum())  # Bhattacharyya
        parts.append(1 - min(shared, 1.0))
    return sum(parts) / len(parts) if parts else 0.0


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a.width * a.height + b.width * b.height - shared)


def _is_clear(box: Box, others: Iterable[Box]) -> bool:
    return all(overlap(box, other) <= CLEAR for other in others)


def _cut(pixels: Pixels, box: Box) -> Pixels:
    """A face with some of what is around it, as `agelens.render.crop_face` cuts it; a copy."""
    height, width = pixels.shape[:2]
    half = max(box.width, box.height) * 0.8
    x, y = box.x + box.width / 2, box.y + box.height / 2
    left, top = min(max(round(x - half), 0), width - 1), min(max(round(y - half), 0), height - 1)
    right, bottom = min(max(round(x + half), left + 1), width), min(max(round(y + half), top + 1), height)
    return pixels[top:bottom, left:right].copy()
