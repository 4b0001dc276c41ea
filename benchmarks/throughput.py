"""How much of the machine's floor the whole corridor reaches, and whether its memory stays flat.

The floors are those of `floor.py`. All run in turn in one process, several times; the ratios count, of the time by the
clock and, for machines that do other things beside, of processor time. Memory is that of separate processes over 500
and over 5,000 pictures.

Needs the `train` extra for `onnx`. Run: `python benchmarks/throughput.py [--pictures 2000] [--data ../shared/data]`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from floor import FLOORS, Floor, Spent, median_share, record_work, run_floor, run_ours
from memory import read_peak
from photos import read_photos, scale_to

from agelens.analyzer import count_cores

DISTINCT = 60  # photos made; the others are links to them


def make_photos(archive: Path, folder: Path, count: int) -> list[Path]:
    """JPEG photos of 1 to 2 megapixels with one to seven faces, scaled from the counted ones of the pack."""
    folder.mkdir(parents=True)
    photos = [photo.open() for photo in read_photos(archive) if photo.faces]
    photos = [photo for photo in photos if max(photo.size) >= 1024]
    rng = random.Random(1)
    paths: list[Path] = []
    for index in range(count):
        path = folder / f"{index:05d}.jpg"
        if index < DISTINCT:
            photo = photos[index % len(photos)]
            scale_to(photo, rng.uniform(1e6, 2e6)).save(path, quality=90)
        else:
            os.link(paths[index % DISTINCT], path)
        paths.append(path)
    return paths


def measure_memory(folder: Path, count: int) -> float:
    """Peak resident memory in MB of a process of its own over so many pictures."""
    command = [sys.executable, __file__, "--only-memory", str(folder), "--pictures", str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measures and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AGELENS_DATA", "../shared/data")))
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-memory", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only_memory:
        run_ours(sorted(arguments.only_memory.iterdir())[: arguments.pictures], count_cores())
        sys.stdout.write(f"{read_peak():.1f}\n")
        return
    threads = count_cores()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        paths = make_photos(arguments.data / "photos.tar", folder, max(arguments.pictures, 5000))
        work = record_work(paths[:DISTINCT])
        chosen = paths[: arguments.pictures]
        ours, floors = [], dict[Floor, list[Spent]]({kind: [] for kind in FLOORS})
        for _ in range(arguments.rounds):
            ours.append(run_ours(chosen, threads))
            for kind, spent in floors.items():
                spent.append(run_floor(chosen, work, threads, kind))
        memory = {count: measure_memory(folder, count) for count in (500, 5000)}
    figures = {
        "pictures": len(chosen),
        "threads": threads,
        "pictures_per_second": round(statistics.median(len(chosen) / each.clock for each in ours), 1),
        "milliseconds_of_processor": round(statistics.median(1000 * each.processor / len(chosen) for each in ours), 2),
        "share_of": {
            kind: {
                "clock": median_share([each.clock for each in spent], [each.clock for each in ours]),
                "processor": median_share([each.processor for each in spent], [each.processor for each in ours]),
            }
            for kind, spent in floors.items()
        },
        "faces_per_picture": round(statistics.mean(each.faces for each in work), 1),
        "memory_mb": memory,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
