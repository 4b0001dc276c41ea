"""Where labels go: pure geometry, no pixels.

A label stands below or above its box, else beside it, else a little away with a leader line, else inside the lower
edge of its own box, which hides a chin rather than a neighbour. It never leaves the frame and never covers another
label. It covers another face's box only where nothing else is free. Where even that is impossible (a face smaller than
the smallest label, in a crowd) the label is left out. The same input always gives the same layout.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agelens.types import Box, Point

Size = tuple[int, int]
"""Width and height of a plate in pixels."""
Rectangles = NDArray[np.float64]
"""Shape (N, 4): left, top, right, bottom; right and bottom are just outside."""
Where = Literal["below", "above", "beside", "near", "inside", "nowhere"]

_COST: dict[Where, float] = {"below": 0.0, "above": 0.0, "beside": 0.0, "near": 1.0, "inside": 0.3, "nowhere": 8.0}
_HIDING = 2.0  # for a label that hides all of its own face
_COVERING = 4.0
_ALIGNMENTS = (0.5, 0.0, 1.0, 0.25, 0.75)
# Distance from the box in heights of the plate; shift along its side in widths (or heights) of the plate.
_NEAR = tuple(itertools.product((0.7, 1.4, 2.2, 3.2, 4.4), (0.0, -0.4, 0.4, -0.8, 0.8, -1.3, 1.3)))


@dataclass(frozen=True, slots=True)
class Plate:
    """A rectangle of whole pixels that a label fills."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Level:
    """One way to write all the labels of a picture.

    Attributes:
        forms: For each face the plate sizes it may take, the better ones first; none for a face without a label.
        cost: What is lost by writing one label this way, against 1.0 for one label that stands away from its box.
    """

    forms: Sequence[Sequence[Size]]
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one label goes.

    Attributes:
        plate: The place; None where there is none.
        where: On which side of the box it stands.
        level: Index of the level chosen; the same one for all labels of a picture.
        form: Index of the plate size chosen among those of the level.
        leader: A line from the box to the plate, only where they do not touch.
        covers: Whether it covers a part of another face's box.
    """

    plate: Plate | None
    where: Where
    level: int
    form: int = 0
    leader: tuple[Point, Point] | None = None
    covers: bool = False


def place_labels(boxes: Sequence[Box], levels: Sequence[Level], frame: Size, *, gap: int = 2) -> list[Placement]:
    """Finds a place for the label of each box.

    Args:
        boxes: The faces, in pixels of the frame; what lies outside the frame is ignored.
        levels: Ways to write the labels; the one of least cost, all labels together, is chosen.
        frame: Width and height of the picture.
        gap: Pixels between a box and its plate, and at least between any two plates.

    Returns:
        One placement a box, in the order of the boxes.
    """
    clipped = _clip(boxes, frame)
    best: list[Placement] = []
    least = float("inf")
    for number, level in enumerate(levels):
        labels = sum(1 for forms in level.forms if forms)
        if level.cost * labels >= least:
            continue
        placements = _Layout(clipped, level, number, frame, gap).place()
        cost = level.cost * labels
        cost += sum(_cost(p, b) for p, b, forms in zip(placements, clipped, level.forms, strict=True) if forms)
        if cost < least:
            best, least = placements, cost
    return best


def _cost(placement: Placement, box: NDArray[np.float64]) -> float:
    cost = _COST[placement.where] + _COVERING * placement.covers
    if placement.where == "inside" and placement.plate:
        area = float((box[2] - box[0]) * (box[3] - box[1]))
        hidden = placement.plate.width * placement.plate.height
        cost += _HIDING * hidden / max(hidden, area)
    return cost


def _clip(boxes: Sequence[Box], frame: Size) -> Rectangles:
    corners = np.array([(b.x, b.y, b.x + b.width, b.y + b.height) for b in boxes], dtype=np.float64).reshape(-1, 4)
    return np.clip(corners, 0, np.array([frame[0], frame[1], frame[0], frame[1]], dtype=np.float64))


def _hits(candidates: Rectangles, obstacles: Rectangles) -> NDArray[np.bool_]:
    """Which candidates (K, 4) share area with any obstacle (M, 4): shape (K,)."""
    c, o = candidates[:, None, :], obstacles[None, :, :]
    met = (c[..., 0] < o[..., 2]) & (o[..., 0] < c[..., 2]) & (c[..., 1] < o[..., 3]) & (o[..., 1] < c[..., 3])
    # An obstacle without area, or with one too small for a number, can lie between all four edges.
    rows, columns = np.nonzero(met)
    sides = np.minimum(candidates[rows, 2:], obstacles[columns, 2:])
    sides -= np.maximum(candidates[rows, :2], obstacles[columns, :2])
    hit = np.zeros(len(candidates), dtype=np.bool_)
    hit[rows[sides[:, 0] * sides[:, 1] > 0]] = True
    return hit


class _Candidates:
    """Places for one label, the better ones first; those that leave the frame are not taken in."""

    def __init__(self, frame: Size) -> None:
        self.frame = frame
        self._corners: list[tuple[int, int, int, int]] = []
        self.where: list[Where] = []
        self.form: list[int] = []

    def add(self, where: Where, form: int, size: Size, corner: tuple[float, float]) -> None:
        left, top = int(corner[0]), int(corner[1])
        right, bottom = left + size[0], top + size[1]
        if left >= 0 and top >= 0 and right <= self.frame[0] and bottom <= self.frame[1]:
            self._corners.append((left, top, right, bottom))
            self.where.append(where)
            self.form.append(form)

    @property
    def rectangles(self) -> Rectangles:
        return np.array(self._corners, dtype=np.float64).reshape(-1, 4)


class _Layout:
    """The state of one level while its labels are placed one by one."""

    def __init__(self, boxes: Rectangles, level: Level, number: int, frame: Size, gap: int) -> None:
        self.boxes = boxes
        self.level = level
        self.number = number
        self.frame = frame
        self.gap = gap
        self.plates = np.empty((0, 4), dtype=np.float64)

    def place(self) -> list[Placement]:
        adjacent = [self._adjacent(i) for i in range(len(self.boxes))]
        free = [~_hits(c.rectangles, self._others(i)) for i, c in enumerate(adjacent)]
        placements = [Placement(None, "nowhere", self.number)] * len(self.boxes)
        # Who has the fewest places chooses first.
        for i in sorted(range(len(self.boxes)), key=lambda i: (int(free[i].sum()), i)):
            placements[i] = self._place_one(i, adjacent[i], free[i])
        return placements

    def _place_one(self, index: int, adjacent: _Candidates, free: NDArray[np.bool_]) -> Placement:
        chosen = self._take(index, adjacent, free)
        if chosen is None:
            near = self._near(index)
            chosen = self._take(index, near, ~_hits(near.rectangles, self.boxes))
        if chosen is None:
            inside = self._inside(index)
            uncovering = ~_hits(inside.rectangles, self._others(index))
            chosen = self._take(index, inside, uncovering) or self._take(index, inside, ~uncovering, covers=True)
        return chosen or Placement(None, "nowhere", self.number)

    def _take(
        self, index: int, candidates: _Candidates, free: NDArray[np.bool_], *, covers: bool = False
    ) -> Placement | None:
        rectangles = candidates.rectangles
        spread = rectangles + np.array([-self.gap, -self.gap, self.gap, self.gap])
        allowed = np.flatnonzero(free & ~_hits(spread, self.plates))
        if not len(allowed):
            return None
        first = int(allowed[0])
        self.plates = np.vstack([self.plates, rectangles[first]])
        left, top, right, bottom = (int(edge) for edge in rectangles[first])
        where = candidates.where[first]
        leader = self._leader(index, rectangles[first]) if where == "near" else None
        plate = Plate(left, top, right - left, bottom - top)
        return Placement(plate, where, self.number, candidates.form[first], leader, covers)

    def _leader(self, index: int, rectangle: NDArray[np.float64]) -> tuple[Point, Point]:
        left, top, right, bottom = self.boxes[index]
        start = np.clip((rectangle[:2] + rectangle[2:]) / 2, (left, top), (right, bottom))
        end = np.clip(start, rectangle[:2], rectangle[2:])
        return (float(start[0]), float(start[1])), (float(end[0]), float(end[1]))

    def _others(self, index: int) -> Rectangles:
        return np.delete(self.boxes, index, axis=0)

    def _edges(self, index: int) -> tuple[int, int, int, int] | None:
        left, top, right, bottom = self.boxes[index]
        if left >= right or top >= bottom:
            return None
        return int(left), int(top), int(-(-right // 1)), int(-(-bottom // 1))

    def _along(self, edges: tuple[int, int, int, int], width: int) -> list[float]:
        """Left ends of a plate above or below a box: a narrow one starts where the box does, a wide one is centred."""
        left, _, right, _ = edges
        room = right - left - width
        first = 0.0 if room >= 0 else 0.5
        alignments = (first, *(a for a in _ALIGNMENTS if a != first))
        return [min(max(left + a * room, 0), self.frame[0] - width) for a in alignments]

    def _adjacent(self, index: int) -> _Candidates:
        candidates, edges = _Candidates(self.frame), self._edges(index)
        if edges is None:
            return candidates
        left, top, right, bottom = edges
        for form, (width, height) in enumerate(self.level.forms[index]):
            along = self._along(edges, width)
            for x in along:
                candidates.add("below", form, (width, height), (x, bottom + self.gap))
            for x in along:
                candidates.add("above", form, (width, height), (x, top - self.gap - height))
        for form, (width, height) in enumerate(self.level.forms[index]):
            room = bottom - top - height
            for x, a in itertools.product((right + self.gap, left - self.gap - width), (0.0, 0.5, 1.0)):
                y = min(max(top + a * room, 0), self.frame[1] - height)
                candidates.add("beside", form, (width, height), (x, y))
        return candidates

    def _near(self, index: int) -> _Candidates:
        candidates, edges = _Candidates(self.frame), self._edges(index)
        if edges is None:
            return candidates
        left, top, right, bottom = edges
        for away, shift in _NEAR:
            for form, (width, height) in enumerate(self.level.forms[index]):
                size, distance = (width, height), self.gap + away * height
                x, y = (left + right - width) / 2 + shift * width, (top + bottom - height) / 2 + shift * height
                candidates.add("near", form, size, (x, bottom + distance))
                candidates.add("near", form, size, (x, top - distance - height))
                candidates.add("near", form, size, (right + distance, y))
                candidates.add("near", form, size, (left - distance - width, y))
        return candidates

    def _inside(self, index: int) -> _Candidates:
        candidates, edges = _Candidates(self.frame), self._edges(index)
        if edges is None:
            return candidates
        _, top, _, bottom = edges
        forms = self.level.forms[index]
        for y_of, (form, (width, height)) in itertools.product(("bottom", "top"), enumerate(forms)):
            y = bottom - self.gap - height if y_of == "bottom" else top + self.gap
            for x in self._along(edges, width):
                candidates.add("inside", form, (width, height), (x, min(max(y, 0), self.frame[1] - height)))
        return candidates
