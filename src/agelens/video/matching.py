"""What speaks for it that a face is a known person's: place, looks, and how both are judged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from agelens.video.assignment import FORBIDDEN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.types import Box, Face
    from agelens.video.people import Person

    Floats = NDArray[np.float64]

FARTHEST: Final = 4.0
"""Standard deviations, beyond a third of the face, at which a face may be found from where it was expected."""

MOST_GROWTH: Final = 2.0
"""The side of a face may change by this factor between two looks."""

UNLIKELY: Final = 1.0
"""Cost of a pair above which two tracks are likelier than one."""

PLACE_WEIGHT, OVERLAP_WEIGHT, LOOK_WEIGHT, JUDGEMENT_WEIGHT = 0.35, 0.35, 1.6, 0.3
HIDDEN_DISCOUNT: Final = 0.3
"""What place and overlap still count where one person may hide another: who turns back there is not where they went.
Chosen, as `HIDING` was, on made-up meetings of utkface-train."""

HIDING: Final = 1.0
"""Distance of two people, in mean sides of their faces, up to which one may hide the other."""

CLEAR: Final = 0.05
"""Overlap of two boxes up to which a look is taken as a description of its face alone."""


def find_muddled(people: Sequence[Person], time: float) -> frozenset[int]:
    """The numbers of those of whom one may be hidden behind another, so that movement doesn't tell who is who."""
    found: set[int] = set()
    for i, one in enumerate(people):
        for other in people[i + 1 :]:
            if not (one.hidden or other.hidden):
                continue
            (x, y), _ = one.motion.predict(time)
            (u, v), _ = other.motion.predict(time)
            if math.hypot(x - u, y - v) < HIDING * (one.motion.side + other.motion.side) / 2:
                found |= {one.number, other.number}
    return frozenset(found)


def weigh(
    people: Sequence[Person], faces: Sequence[Face], looks: Sequence[Floats], time: float, muddled: frozenset[int]
) -> Floats:
    """What it would cost that each face were each person, shape (people, faces); `FORBIDDEN` where it can't be.

    Args:
        people: Who is known.
        faces: What was found.
        looks: How each of them looks.
        time: In seconds.
        muddled: Numbers of the people who may hide one another.
    """
    costs = np.full((len(people), len(faces)), FORBIDDEN)
    for row, person in enumerate(people):
        expected = person.motion.predicted_box(time)
        reach = person.motion.reach(time)
        side = person.motion.side
        for column, face in enumerate(faces):
            trust = HIDDEN_DISCOUNT if person.number in muddled else 1.0
            cost = _cost(person, face, looks[column], (expected, reach, side), trust)
            if cost < UNLIKELY:
                costs[row, column] = cost
    return costs


def _cost(person: Person, face: Face, look: Floats, expected: tuple[Box, float, float], trust: float) -> float:
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
        trust * (PLACE_WEIGHT * off + OVERLAP_WEIGHT * (1 - overlap(face.box, box)))
        + LOOK_WEIGHT * unlike
        + JUDGEMENT_WEIGHT * _disagreement(person, face)
    )


def _disagreement(person: Person, face: Face) -> float:
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


def is_clear(box: Box, others: Iterable[Box]) -> bool:
    """Whether no other box hides a part of a face."""
    return all(overlap(box, other) <= CLEAR for other in others)
