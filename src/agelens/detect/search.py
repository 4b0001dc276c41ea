"""Finds faces at every size and every quarter turn, at the least cost.

The detector network sees upright faces of about 10 to 300 pixels. So a picture is looked at twice, at 640 pixels and at
256 (a small picture only at 256): that is all that the common photo needs. What was found without certainty is looked
at again from near, upright and turned, which also mends the landmarks of tiny and of turned faces; what does not stand
up to that is dropped. Only where nothing was found, or where faces are at the limit of what 640 pixels show, is the
picture searched more closely, in tiles. A grainy picture is searched once more without its grain, see `grain`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from agelens.detect.boxes import intersect, measure, suppress
from agelens.detect.canvas import Frame, lay_out, shrink, turn
from agelens.detect.grain import GRAINY, measure_grain, smooth
from agelens.detect.yunet import NOTHING, Candidates, YuNet, join
from agelens.types import Box, Detection, Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agelens.detect.boxes import Floats
    from agelens.types import AnyFace, Point

NEAR = 256  # canvas side for faces that fill the frame
FAR = 640  # canvas side for the faces of a common photo
FAR_LEAST, FAR_MOST = 560, 820  # a picture reduced by a whole number costs less than one resized; so much may differ
SMALL_PICTURE = 400  # up to this longer side, NEAR shows all there is
FLOOR = 0.35  # least score of a candidate that is worth a second look
CERTAIN = 0.91  # from this score on, a face is upright and needs no second look
TINY = 28.0  # canvas pixels; faces of this size announce others that are too small to be seen
SEEN = 10.0  # canvas pixels; the smallest face that the network finds
TILE = 1024
TILE_OVERLAP = 96  # more than the largest face that a tile has to show whole
LARGEST_IN_TILE = 80.0
CLOSE_UP = 160  # canvas side of the second look
CLOSE_UP_MARGIN = 1.6  # side of the second look's region, in box sides
CLOSE_UP_STRETCH = 2.0  # a face of 50 pixels tells as much as one of 100, and to decode 12 megapixels again takes long
AFAR = 40  # canvas pixels of an uncertain face in the third look
AFAR_MARGINS = (1.6, 2.0)
AFAR_SCORE = 0.5
UNDOUBTED = 0.87  # from this score on, the third look is spared
PORTRAIT = 0.25  # from this share of the shorter side on, too
UPRIGHT_BONUS = 0.01  # a turned reading must be better than the upright one by this much
PLAUSIBLE = 0.7  # from this score on, the first look counts even if the second sees nothing
SURE = 0.8  # a face that the first look doubted must reach this in the second
SURE_TURNED = 0.85  # and one that is turned this: turned, much looks like a face
CROWD = 4  # from so many certain faces on, what else is found needs less proof
CERTAIN_IN_CROWD = 0.8
DOUBTFUL_IN_CROWD = 0.4
AGREEMENT = 0.5  # intersection over union of two readings of one face
AGREEMENT_TURNED = 0.3  # of an upright and a turned one: whoever reads a turned face as upright misplaces its box
SAME_FACE = 0.4  # intersection over union
INSIDE = 0.7


class Detector(Protocol):
    """Finds faces. A second detector needs no more than this."""

    def detect(self, image: Image) -> list[Detection]:
        """The faces of a picture, from left to right, in full-resolution pixels."""
        ...


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How hard to look, and what counts as a face.

    Attributes:
        min_score: 0 to 1; less certain findings are left out.
        min_face: Least box side in full-resolution pixels. None searches adaptively; a number makes the search go as
            deep as faces of that size need, at the cost of time on large pictures, and leaves out smaller ones.
        max_faces: The largest faces are kept, up to this many. None keeps all.
    """

    min_score: float = 0.6
    min_face: float | None = None
    max_faces: int | None = None


class FaceDetector:
    """YuNet with the search around it. Safe to call from many threads at once."""

    def __init__(self, options: SearchOptions | None = None, *, device: str = "cpu", threads: int = 1) -> None:
        self.options = options or SearchOptions()
        self.network = YuNet(device=device, threads=threads)

    def detect(self, image: Image) -> list[Detection]:
        """Finds the faces of a picture.

        Returns:
            From left to right, then from top to bottom; boxes are clipped to the picture.
        """
        seen = self._show(image)
        found = self._find(image, self._views(seen))
        if (grain := measure_grain(seen)) >= GRAINY:
            smoothed = smooth(seen, grain)
            clear = self._find(smoothed, self._views(smoothed))
            found = self._merge(join([clear, _unlike(found, clear)]))
        return self._select(image, found)

    def _find(self, image: Image, views: list[Image]) -> Candidates:
        """The faces of a picture, by looking at all of it in some views, largest first, and more closely after that."""
        found = self._merge(join(self._look_whole(view) for view in views))
        scale = views[0].scale
        confirmed = self._confirm(image, found, scale)
        confirmed = self._search_deeper(image, confirmed, scale)
        if not len(confirmed):
            turned = join(self._look_whole(view, turns) for view in views for turns in (1, 2, 3))
            confirmed = self._confirm(image, self._merge(turned), scale)
            confirmed = confirmed.take(np.flatnonzero(confirmed.scores >= CERTAIN))
        return confirmed

    @staticmethod
    def _show(image: Image) -> Image:
        """The whole picture as finely as it is looked at first; a small one as it is."""
        longer = max(image.width, image.height)
        return image if longer <= SMALL_PICTURE else shrink(image, choose_scale(longer))

    @staticmethod
    def _views(shown: Image) -> list[Image]:
        """What `_show` gives, at the sizes at which it is looked at, largest first."""
        longer = max(shown.width, shown.height)
        if longer <= SMALL_PICTURE:
            return [shrink(shown, NEAR / longer)]
        return [shown, shrink(shown, shown.scale / max(round(max(shown.size) / NEAR), 1))]

    def _look_whole(self, view: Image, turns: int = 0) -> Candidates:
        return self._look(view, Frame(Box(0.0, 0.0, view.width, view.height), view.scale, turns))

    def _look(self, image: Image, frame: Frame) -> Candidates:
        return frame.carry_back(self.network.look(lay_out(image, frame), FLOOR))

    @staticmethod
    def _merge(found: Candidates) -> Candidates:
        if len(found) < 2:
            return found
        return found.take(suppress(found.boxes, found.scores, overlap=SAME_FACE, containment=INSIDE))

    def _confirm(self, image: Image, found: Candidates, scale: float, known: Candidates = NOTHING) -> Candidates:
        """Looks again, from near, at what is not certain, and drops what does not stand up to it.

        Args:
            image: The picture.
            found: What to confirm.
            scale: Of the finest look in which it was found, in canvas pixels per pixel.
            known: What was confirmed before.
        """
        certain = int((known.scores >= CERTAIN).sum())
        kept = []
        for row in np.argsort(-found.scores, kind="stable"):
            candidate, score = found.take([int(row)]), float(found.scores[row])
            # Where many are certain and upright, nobody lies on the side, and less certainty is enough.
            crowd = certain >= CROWD
            if score >= (CERTAIN_IN_CROWD if crowd else CERTAIN):
                kept.append(candidate)
            elif score >= (DOUBTFUL_IN_CROWD if crowd else FLOOR):
                reading = self._look_close(image, candidate, scale, turned_too=not crowd)
                if not len(reading) or not self._stands_up_from_afar(image, reading):
                    continue
                kept.append(reading)
            certain += bool(len(kept)) and kept[-1].scores[0] >= CERTAIN
        return self._merge(join(kept))

    def _look_close(self, image: Image, candidate: Candidates, scale: float, *, turned_too: bool) -> Candidates:
        """The best reading of one candidate, upright or turned; empty where there is none."""
        region = _square(candidate, CLOSE_UP_MARGIN)
        upright = Frame(region, CLOSE_UP / region.width)
        canvas = lay_out(image, upright, stretch=self._choose_stretch(candidate, scale))
        best = _agreeing(upright.carry_back(self.network.look(canvas, FLOOR)), candidate, AGREEMENT)
        best_score = _best_score(best)
        if turned_too and best_score < CERTAIN:
            frames = [replace(upright, turns=turns) for turns in (1, 2, 3)]
            looks = self.network.look_at_all(np.stack([turn(canvas, frame.turns) for frame in frames]), FLOOR)
            for frame, readings in zip(frames, looks, strict=True):
                reading = _agreeing(frame.carry_back(readings), candidate, AGREEMENT_TURNED)
                score = _best_score(reading)
                if score >= max(SURE_TURNED, best_score + UPRIGHT_BONUS):
                    best, best_score = reading, score
        first_score, least = float(candidate.scores[0]), self.options.min_score
        if best_score >= (least if first_score >= least else max(least, SURE)):
            return best
        return candidate if first_score >= max(least, PLAUSIBLE) else NOTHING

    def _choose_stretch(self, candidate: Candidates, scale: float) -> float:
        """How far a close-up may enlarge what is held before the picture is decoded again.

        For a doubtful finding that was smaller on its canvas than any face that the network finds, it never is: nearly
        all of them are nothing, and to decode 12 megapixels takes longer than all else.
        """
        shown = _square(candidate, 1.0).width * scale
        is_nothing = shown < SEEN and candidate.scores[0] < self.options.min_score
        return math.inf if is_nothing else CLOSE_UP_STRETCH

    def _stands_up_from_afar(self, image: Image, reading: Candidates) -> bool:
        """Whether an uncertain face of good size is still one at a fraction of its size: an animal's usually is not.

        A face that takes up much of the picture is not asked: somebody took or cut the picture because of it.
        """
        side = _square(reading, 1.0).width
        if reading.scores[0] >= UNDOUBTED or not 2.5 * AFAR <= side <= PORTRAIT * min(image.width, image.height):
            return True
        looks = (self._look(image, Frame(_square(reading, margin), AFAR / side)) for margin in AFAR_MARGINS)
        return all((_agreeing(look, reading).scores >= AFAR_SCORE).any() for look in looks)

    def _search_deeper(self, image: Image, found: Candidates, scale: float) -> Candidates:
        """Searches in tiles at growing scales for as long as that promises more faces."""
        deepest = self._deepest_scale(image)
        while scale < deepest and self._promises_more(found, scale):
            scale = min(scale * 2, deepest)
            tiles = join(self._look(image, Frame(tile, scale)) for tile in cut_tiles(image, scale))
            sides = (tiles.boxes[:, 2:] - tiles.boxes[:, :2]).max(axis=1, initial=0.0) * scale
            new = _unlike(self._merge(tiles.take(np.flatnonzero(sides <= LARGEST_IN_TILE))), found)
            new = self._confirm(image, new, scale, found)
            found = self._merge(join([found, new.take(np.flatnonzero(new.scores >= SURE))]))
        return found

    def _promises_more(self, found: Candidates, scale: float) -> bool:
        if self.options.min_face is not None:
            return self.options.min_face * scale < SEEN
        if not len(found):
            return True
        sides = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1)
        return bool((sides * scale < TINY).any())

    @staticmethod
    def _deepest_scale(image: Image) -> float:
        """Full resolution, or what is held where there is nothing finer; a small picture is enlarged."""
        longer = max(image.width, image.height)
        if longer >= FAR:
            return image.scale if image.finer is None else 1.0
        return min(FAR / longer, 2.0)

    def _select(self, image: Image, found: Candidates) -> list[Detection]:
        options = self.options
        faces = [
            Detection(box, float(found.scores[row]), _points(found, row))
            for row in range(len(found))
            if found.scores[row] >= options.min_score and (box := _clip(found, row, image)) is not None
        ]
        if options.min_face is not None:
            faces = [face for face in faces if max(face.box.width, face.box.height) >= options.min_face]
        if options.max_faces is not None:
            faces.sort(key=lambda face: -face.box.width * face.box.height)
            del faces[options.max_faces :]
        return sorted(faces, key=lambda face: (face.box.x, face.box.y))


def central_face(faces: Sequence[AnyFace], width: int, height: int) -> AnyFace:
    """The face that a picture with one label is about: nearest to the centre, larger ones preferred.

    Args:
        faces: At least one.
        width: Of the picture, in pixels.
        height: Of the picture.
    """

    def distance(face: AnyFace) -> float:
        x, y = face.box.x + face.box.width / 2 - width / 2, face.box.y + face.box.height / 2 - height / 2
        return math.hypot(x, y) / max(width, height) - 0.5 * min(1.0, face.box.width / width)

    return min(faces, key=distance)


def choose_scale(longer: int) -> float:
    """At what scale a photo of so many pixels is looked at: about FAR, by a whole number where that comes near."""
    if longer <= FAR_MOST:
        return 1.0
    for divisor in range(2, longer // FAR_LEAST + 1):
        if FAR_LEAST <= longer / divisor <= FAR_MOST:
            return 1 / divisor
    return FAR / longer


def cut_tiles(image: Image, scale: float) -> Iterator[Box]:
    """Overlapping regions that cover the picture, each of at most TILE canvas pixels a side at `scale`."""
    spans = []
    for length in (image.width, image.height):
        shown = length * scale
        count = 1 if shown <= TILE + TILE_OVERLAP else math.ceil((shown - TILE_OVERLAP) / (TILE - TILE_OVERLAP))
        side = (length + (count - 1) * TILE_OVERLAP / scale) / count
        spans.append([(index * (side - TILE_OVERLAP / scale), side) for index in range(count)])
    for y, height in spans[1]:
        for x, width in spans[0]:
            yield Box(x, y, width, height)


def _unlike(new: Candidates, known: Candidates) -> Candidates:
    """Those of the new candidates that aren't among the known ones."""
    known_there = [_overlaps(box, known.boxes) for box in new.boxes]
    return new.take(np.flatnonzero(~np.array(known_there, dtype=bool)))


def _overlaps(box: Floats, boxes: Floats) -> bool:
    shared = intersect(box, boxes)
    return bool((shared > SAME_FACE * (measure(box[None])[0] + measure(boxes) - shared)).any())


def _square(face: Candidates, margin: float) -> Box:
    """The square around a single candidate, `margin` box sides wide."""
    x0, y0, x1, y1 = (float(value) for value in face.boxes[0])
    side = max(x1 - x0, y1 - y0) * margin
    return Box((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side, side)


def _agreeing(readings: Candidates, candidate: Candidates, agreement: float = AGREEMENT) -> Candidates:
    """The best of the readings whose box agrees with that of a single candidate; empty where none does."""
    box = candidate.boxes[0]
    shared = intersect(box, readings.boxes)
    union = measure(candidate.boxes)[0] + measure(readings.boxes) - shared
    agrees = np.flatnonzero(shared > agreement * union)
    return readings.take(agrees[[int(np.argmax(readings.scores[agrees]))]]) if agrees.size else NOTHING


def _best_score(found: Candidates) -> float:
    return float(found.scores[0]) if len(found) else 0.0


def _clip(found: Candidates, row: int, image: Image) -> Box | None:
    """The box inside the picture; None where nothing of it is."""
    x0, y0, x1, y1 = (float(value) for value in found.boxes[row])
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(image.width)), min(y1, float(image.height))
    return Box(x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None


def _points(found: Candidates, row: int) -> tuple[Point, Point, Point, Point, Point]:
    right_eye, left_eye, nose, right_mouth, left_mouth = ((float(x), float(y)) for x, y in found.points[row])
    return right_eye, left_eye, nose, right_mouth, left_mouth
