"""Looks at made-up tracks, judged once and kept: what fusion is tuned and measured on.

Each face of a pack becomes one track of one camera, the same one for the same draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from video_material import CAMERAS, Chip, Pixels, film, read_chips

from agelens.analyzer import Analyzer
from agelens.estimate import Estimator, OnnxEstimator
from agelens.video.looks import measure_sharpness
from agelens.zoo import read_model

Floats = NDArray[np.float32]

FRAMES = 30
"""Of a track."""

PACKS = ("utkface", "aaf")
LEAST_LOOKS = 10
"""A track in which the face was found in fewer frames is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """The looks at N tracks; NaN where a face wasn't found.

    Attributes:
        truth: The age of each, shape (N,).
        truly_female: 1, 0 or NaN, shape (N,).
        ages: Probability of each year, shape (N, FRAMES, 101).
        female: Probability of "female", shape (N, FRAMES).
        score: Of the detection, shape (N, FRAMES).
        side: Of the face in pixels, shape (N, FRAMES).
        sharpness: Mean step between neighbouring pixels of the face, shape (N, FRAMES).
    """

    truth: Floats
    truly_female: Floats
    ages: Floats
    female: Floats
    score: Floats
    side: Floats
    sharpness: Floats

    def save(self, path: Path) -> None:
        whole = path.with_name(f".{path.name}.part.npz")
        np.savez(whole, **{part.name: getattr(self, part.name) for part in fields(self)})
        whole.replace(path)

    @staticmethod
    def load(path: Path) -> Looks:
        with np.load(path) as stored:
            return Looks(**{part.name: stored[part.name] for part in fields(Looks)})

    @staticmethod
    def join(parts: list[Looks]) -> Looks:
        return Looks(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Looks)})


def judge_track(analyzer: Analyzer, estimator: Estimator, chip: Chip, frames: list[Pixels]) -> Looks | None:
    """The looks at one track; None where the face was found too seldom."""
    prepared = [analyzer.prepare(frame) for frame in frames]
    found = [i for i, one in enumerate(prepared) if one.faces]
    if len(found) < LEAST_LOOKS:
        return None
    crops = []
    score, side, sharpness = (np.full((1, FRAMES), np.nan, np.float32) for _ in range(3))
    for i in found:
        faces = prepared[i].faces
        row = max(range(len(faces)), key=lambda row: faces[row].box.width * faces[row].box.height)
        crops.append(prepared[i].crops[row])
        score[0, i] = faces[row].score
        side[0, i] = np.sqrt(faces[row].box.width * faces[row].box.height)
        sharpness[0, i] = measure_sharpness(frames[i], faces[row].box)
    answers = estimator.estimate(np.stack(crops))
    ages, female = np.full((1, FRAMES, 101), np.nan, np.float32), np.full((1, FRAMES), np.nan, np.float32)
    ages[0, found], female[0, found] = answers.ages, answers.female
    truth = np.asarray([chip.age], np.float32)
    gender = np.asarray([np.nan if chip.female is None else float(chip.female)], np.float32)
    return Looks(truth, gender, ages, female, score, side, sharpness)


@dataclass(frozen=True, slots=True)
class Draw:
    """Which tracks.

    Attributes:
        pack: Of the faces.
        camera: That sees them.
        tracks: How many.
        seed: Of which people are drawn.
        shared: The seed of one generator for the movement of all tracks, one after the other; None: each track has its
            own, so that it is the same one however many are drawn.
    """

    pack: str
    camera: str
    tracks: int
    seed: int
    shared: int | None = None

    def film(self) -> Iterator[tuple[Chip, list[Pixels]]]:
        """Each face and its frames."""
        one = None if self.shared is None else np.random.default_rng(self.shared)
        place = 10 * PACKS.index(self.pack.split("-")[0]) + list(CAMERAS).index(self.camera)
        for number, chip in enumerate(read_chips(self.pack, self.tracks, self.seed)):
            rng = one or np.random.default_rng([self.seed, 1000 * number + place])
            yield chip, list(film(chip.read(), CAMERAS[self.camera], FRAMES, rng))


def judge_draw(model: str, draw: Draw, keep: Path | None) -> Looks:
    """The looks at all tracks of a draw; read again where they were kept."""
    shared = "" if draw.shared is None else f"-{draw.shared}"
    place = keep / f"{draw.pack}-{draw.camera}-{draw.seed}{shared}-{draw.tracks}-{model}.npz" if keep else None
    if place is not None and place.exists():
        return Looks.load(place)
    analyzer = Analyzer(model, threads=1)
    estimator = OnnxEstimator(read_model(model), name=model)
    parts = [judge_track(analyzer, estimator, chip, frames) for chip, frames in draw.film()]
    looks = Looks.join([part for part in parts if part is not None])
    if place is not None:
        looks.save(place)
    return looks
