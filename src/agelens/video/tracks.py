"""Faces of successive frames -> people: who is who, and what all looks at each say together.

A face is the same person's if it is where that person's movement leads, looks like that person, and is judged alike;
all pairs are weighed at once and assigned exactly. A person who is hidden is waited for; a cut ends all tracks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from agelens.estimate import EstimateOptions, read_face
from agelens.video.assignment import assign
from agelens.video.cuts import CutDetector
from agelens.video.fusion import settle_group
from agelens.video.looks import describe_look
from agelens.video.matching import find_muddled, is_clear, weigh
from agelens.video.people import BestLook, Person

if TYPE_CHECKING:
    from agelens.modelspec import ModelSpec
    from agelens.types import Age, Face, Gender, Pixels

PATIENCE: Final = 1.5
"""Seconds that a hidden person is waited for."""

PATIENCE_LOOKS: Final = 3.0
"""But at least so many looks, where looks are rare."""


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


class Tracker:
    """Takes the faces of one frame after another. Memory doesn't grow but for the tracks that ended.

    Args:
        spec: Of the model that judged the faces.
        options: As of the analyzer.
        fuse: Whether a face is told what all looks at its track say; otherwise what the one look says.
    """

    def __init__(self, spec: ModelSpec, options: EstimateOptions, *, fuse: bool = True) -> None:
        self._spec, self._options, self._fuse = spec, options, fuse
        self._people: list[Person] = []
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
        muddled = find_muddled(known, time)
        matches = dict(assign(weigh(known, faces, looks, time, muddled)))
        person_of = {column: known[row] for row, column in matches.items()}
        result = []
        for i, face in enumerate(faces):
            person = person_of.get(i) or self._begin(face, frame, time)
            person.face = face
            person.take(face, frame, time)
            others = (other.box for j, other in enumerate(faces) if j != i)
            person.take_look(looks[i], clear=person.number not in muddled and is_clear(face.box, others))
            person.take_best(pixels, frame, time)
            result.append(self._told(person, face))
        for person in self._people:
            person.hidden = person.last[1] < time
        return tuple(result)

    def finish(self) -> None:
        """Ends all tracks."""
        self._end(self._people)

    def take_ended(self) -> list[Track]:
        """The tracks that ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def _begin(self, face: Face, frame: int, time: float) -> Person:
        self._count += 1
        person = Person(self._count, face, frame, time)
        self._people.append(person)
        return person

    def _end(self, people: Iterable[Person]) -> None:
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

    def _read(self, person: Person) -> tuple[Age | None, Gender | None]:
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

    def _told(self, person: Person, face: Face) -> Face:
        if not self._fuse:
            return replace(face, track=person.number)
        age, gender = self._read(person)
        return replace(face, age=age, gender=gender, track=person.number)
