"""What the face detector finds: the detection figures, from the labelled pictures of the data folder.

Prints a table to standard error and the same figures as JSON to standard output:

- counted photos: recall (found, at most as many as counted) and surplus (found beyond the count), pictures of nobody;
- failure to acquire: the share of each pack's pictures in which no face is found;
- turned: of the faces found upright on a canvas, how many are found turned by 90, 180 and 270 degrees, how many with
  the right roll, and by how many years the age changes on median.

    AGELENS_DATA=../shared/data python benchmarks/detection.py [--limit N] [--turned N] [--only photos,packs,turned]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from photos import read_photos

from agelens.analyzer import DETAIL, Analyzer, count_cores
from agelens.decode import decode
from agelens.detect import FaceDetector
from agelens.types import Face

PACKS = ("utkface-test", "aaf-test", "adience-test", "fairface-test")
CANVAS = (800, 600)
CHIP = 200
ROLL_TOLERANCE = 30.0
"""Degrees by which the eyes' line may differ from the turn: faces lean their heads by themselves."""


def read_pictures(tar: Path, limit: int | None = None) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the pictures of a tar, by name; with a limit, the same random ones each time."""
    with tarfile.open(tar) as archive:
        members = sorted((m for m in archive.getmembers() if m.isfile() and not m.name.endswith(".csv")), key=_name)
        if limit is not None and limit < len(members):
            rows = np.random.default_rng(0).choice(len(members), limit, replace=False)
            members = [members[row] for row in sorted(rows)]
        for member in members:
            file = archive.extractfile(member)
            assert file is not None
            yield member.name, file.read()


def _name(member: tarfile.TarInfo) -> str:
    return member.name


def count_photos(detector: FaceDetector, data: Path) -> dict[str, Any]:
    """Recall and surplus over the counted photos."""
    total = found = surplus = on_nobody = 0
    wrong = {}
    for photo in read_photos(data / "photos.tar"):
        wanted = photo.faces
        if wanted is None:
            continue
        seen = len(detector.detect(decode(photo.content, detail=DETAIL)))
        total += wanted
        found += min(seen, wanted)
        surplus += max(seen - wanted, 0)
        on_nobody += seen if not wanted else 0
        if seen != wanted:
            wrong[photo.name] = {"counted": wanted, "found": seen}
    return {
        "faces": total,
        "recall": found / total,
        "surplus": surplus / total,
        "on_pictures_of_nobody": on_nobody,
        "not_as_counted": wrong,
    }


def fail_to_acquire(detector: FaceDetector, data: Path, pack: str, limit: int | None) -> dict[str, Any]:
    """The share of a pack's pictures, each of which shows one face, in which none is found."""

    def look(picture: tuple[str, bytes]) -> tuple[str, int]:
        return picture[0], len(detector.detect(decode(picture[1], detail=DETAIL)))

    start = time.perf_counter()
    with ThreadPoolExecutor(count_cores()) as pool:
        counts = list(pool.map(look, read_pictures(data / f"{pack}.tar", limit)))
    missed = [name for name, count in counts if not count]
    return {
        "pictures": len(counts),
        "failure_to_acquire": len(missed) / len(counts),
        "more_than_one_face": sum(count > 1 for _, count in counts) / len(counts),
        "pictures_per_second": len(counts) / (time.perf_counter() - start),
        "missed": missed[:20],
    }


def paste_turned(chip: NDArray[np.uint8], turns: int, canvas: tuple[int, int] = CANVAS) -> NDArray[np.uint8]:
    """A chip, turned counter-clockwise by quarter turns, in the middle of a grey canvas (width, height)."""
    turned = np.rot90(chip, turns)
    pixels = np.full((canvas[1], canvas[0], 3), 127, np.uint8)
    top, left = (canvas[1] - turned.shape[0]) // 2, (canvas[0] - turned.shape[1]) // 2
    pixels[top : top + turned.shape[0], left : left + turned.shape[1]] = turned
    return pixels


def roll_of(face: Face) -> float:
    """Degrees by which the eyes' line is turned, counter-clockwise as seen."""
    (right_x, right_y), (left_x, left_y) = face.landmarks[:2]
    return -math.degrees(math.atan2(left_y - right_y, left_x - right_x))


def find_turned(analyzer: Analyzer, data: Path, pack: str, count: int) -> dict[str, Any]:
    """Of the faces found upright, the share found turned, the share with the right roll, and the change of age."""
    upright = 0
    found = dict.fromkeys((90, 180, 270), 0)
    rolled = dict.fromkeys(found, 0)
    aged: dict[int, list[float]] = {degrees: [] for degrees in found}
    for _, blob in read_pictures(data / f"{pack}.tar", count):
        chip = decode(blob).pixels
        straight = analyzer.predict(paste_turned(chip, 0))
        if not straight:
            continue
        upright += 1
        for degrees in found:
            faces = analyzer.predict(paste_turned(chip, degrees // 90))
            found[degrees] += bool(faces)
            rolled[degrees] += any(abs(wrap(roll_of(face) - degrees)) <= ROLL_TOLERANCE for face in faces)
            aged[degrees] += [abs(years_of(faces[0]) - years_of(straight[0]))] if faces else []
    return {
        "chips": count,
        "upright": upright,
        **{f"found_{degrees}": n / upright for degrees, n in found.items()},
        **{f"right_roll_{degrees}": n / upright for degrees, n in rolled.items()},
        **{f"median_change_of_age_{degrees}": float(np.median(changes)) for degrees, changes in aged.items()},
    }


def years_of(face: Face) -> float:
    """The estimated age."""
    assert face.age is not None
    return face.age.years


def wrap(degrees: float) -> float:
    """The same angle in [-180, 180)."""
    return (degrees + 180.0) % 360.0 - 180.0


def print_table(figures: dict[str, dict[str, Any]]) -> None:
    """One line a figure, on standard error."""
    for title, values in figures.items():
        for key, value in values.items():
            if isinstance(value, int | float):
                shown = f"{value:.4f}" if isinstance(value, float) else str(value)
                sys.stderr.write(f"{title:<16}{key:<26}{shown:>10}\n")


def main() -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="pictures of each pack (default: all)")
    parser.add_argument("--turned", type=int, default=200, help="chips of each kind that are turned")
    parser.add_argument("--only", default="photos,packs,turned", help="what to measure")
    arguments = parser.parse_args()
    data = Path(os.environ.get("AGELENS_DATA", "../shared/data"))
    if not (data / "photos.tar").is_file():
        parser.error(f"there is no {data / 'photos.tar'}; set AGELENS_DATA to the folder of the labelled pictures")
    parts = arguments.only.split(",")
    detector = FaceDetector()
    figures: dict[str, dict[str, Any]] = {}
    if "photos" in parts:
        figures["photos"] = count_photos(detector, data)
    if "packs" in parts:
        for pack in PACKS:
            figures[pack] = fail_to_acquire(detector, data, pack, arguments.limit)
    if "turned" in parts:
        analyzer = Analyzer(threads=1)
        for pack in ("utkface-test", "fairface-test"):
            figures[f"turned {pack.split('-')[0]}"] = find_turned(analyzer, data, pack, arguments.turned)
    print_table(figures)
    json.dump(figures, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
