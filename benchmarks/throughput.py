"""How much of the machine's floor the whole corridor reaches, and whether its memory stays flat.

The floor is the same work without our code around it, back to back in as many threads. It is measured twice: `networks`
decodes each picture in the same way and calls both networks on canvases of the very sizes that the search used, ready
made; `kernels` also makes those inputs, by the plain Pillow and NumPy calls that nobody can do without (whole views and
close-ups resized, crops warped, bytes turned into floats). All run in turn in one process, several times; the ratios
count. Memory is that of separate processes over 500 and over 5,000 pictures.

Run: `python benchmarks/throughput.py [--pictures 2000] [--data ../shared/data]`.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PillowImage

from agelens.analyzer import DETAIL, Analyzer, count_cores
from agelens.decode import decode
from agelens.detect import FaceDetector
from agelens.detect.search import CLOSE_UP
from agelens.detect.yunet import Candidates, YuNet
from agelens.estimate import OnnxEstimator
from agelens.zoo import DEFAULT_MODEL, read_model

if TYPE_CHECKING:
    from agelens.types import Pixels

DISTINCT = 60  # photos made; the others are links to them


@dataclass
class Recorder(YuNet):
    """The detection network, noting the size of every canvas that it is shown."""

    seen: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def look(self, canvas: Pixels, floor: float) -> Candidates:
        self.seen.append((canvas.shape[0], canvas.shape[1]))
        return super().look(canvas, floor)


def make_photos(archive: Path, folder: Path, count: int) -> list[Path]:
    """JPEG photos of 1 to 2 megapixels with one to seven faces, scaled from the counted ones of the pack."""
    folder.mkdir(parents=True)
    with tarfile.open(archive) as pack:
        table = pack.extractfile("photos/faces.csv")
        rows = csv.DictReader(io.TextIOWrapper(table, "utf-8")) if table else []
        counted = [row["path"] for row in rows if row["n_faces"] not in ("", "0")]
        files = [pack.extractfile(f"photos/{name}") for name in counted]
        photos = [PillowImage.open(io.BytesIO(file.read())).convert("RGB") for file in files if file]
    photos = [photo for photo in photos if max(photo.size) >= 1024]
    rng = random.Random(1)
    paths: list[Path] = []
    for index in range(count):
        path = folder / f"{index:05d}.jpg"
        if index < DISTINCT:
            photo = photos[index % len(photos)]
            scale = (rng.uniform(1e6, 2e6) / (photo.width * photo.height)) ** 0.5
            photo.resize((round(photo.width * scale), round(photo.height * scale))).save(path, quality=90)
        else:
            os.link(paths[index % DISTINCT], path)
        paths.append(path)
    return paths


def record_work(paths: list[Path]) -> list[tuple[list[tuple[int, int]], int]]:
    """For each distinct photo the canvases that the search looked at, and how many faces it found."""
    detector = FaceDetector()
    recorder = Recorder()
    detector.network = recorder
    work = []
    for path in paths[:DISTINCT]:
        recorder.seen = []
        faces = detector.detect(decode(path.read_bytes(), detail=DETAIL))
        work.append((recorder.seen, len(faces)))
    return work


def make_input(photo: PillowImage.Image, shape: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A photo, or a part of it where the canvas is a close-up, as the detection network's input."""
    height, width = shape
    source = photo if max(shape) > CLOSE_UP else photo.crop((0, 0, 2 * width, 2 * height))
    small = source.resize((width, height), PillowImage.Resampling.BOX, reducing_gap=1.0)
    return np.asarray(small)[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32, order="C")


def run_floor(
    paths: list[Path], work: list[tuple[list[tuple[int, int]], int]], threads: int, *, kernels: bool
) -> float:
    """Seconds for decoding and the calls of both networks, and with `kernels` also for making their inputs."""
    network = YuNet()
    estimator = OnnxEstimator(read_model(DEFAULT_MODEL), name=DEFAULT_MODEL)
    size = estimator.spec.crop.size
    planes = {shape: np.zeros((1, 3, *shape), np.float32) for canvases, _ in work for shape in canvases}
    crops = np.zeros((64, size, size, 3), np.uint8)

    def do(index: int) -> None:
        pixels = decode(paths[index].read_bytes(), detail=DETAIL).pixels
        canvases, faces = work[index % DISTINCT]
        photo = PillowImage.fromarray(pixels) if kernels else None
        for shape in canvases:
            network.forward(make_input(photo, shape) if photo else planes[shape])
        if faces and photo:
            part = photo.crop((0, 0, 2 * size, 2 * size)).resize((size, size), PillowImage.Resampling.BILINEAR)
            warp = ((size, size), PillowImage.Transform.AFFINE, (1, 0, 0, 0, 1, 0), PillowImage.Resampling.BICUBIC)
            estimator.estimate(np.stack([np.asarray(part.transform(*warp)) for _ in range(faces)]))
        elif faces:
            estimator.estimate(crops[:faces])

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(do, range(len(paths))):
            pass
    return time.perf_counter() - began


def run_ours(paths: list[Path], threads: int) -> float:
    """Seconds for the whole corridor."""
    analyzer = Analyzer(threads=threads)
    began = time.perf_counter()
    for report in analyzer.stream(paths):
        if report.error:
            raise SystemExit(f"{report.source}: {report.error.message}")
    return time.perf_counter() - began


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
        sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f}\n")
        return
    threads = count_cores()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        paths = make_photos(arguments.data / "photos.tar", folder, max(arguments.pictures, 5000))
        work = record_work(paths)
        chosen = paths[: arguments.pictures]
        networks, kernels, rates = [], [], []
        for _ in range(arguments.rounds):
            ours = run_ours(chosen, threads)
            networks.append(run_floor(chosen, work, threads, kernels=False) / ours)
            kernels.append(run_floor(chosen, work, threads, kernels=True) / ours)
            rates.append(len(chosen) / ours)
        memory = {count: measure_memory(folder, count) for count in (500, 5000)}
    figures = {
        "pictures": len(chosen),
        "threads": threads,
        "pictures_per_second": round(statistics.median(rates), 1),
        "share_of_networks": round(statistics.median(networks), 3),
        "share_of_kernels": round(statistics.median(kernels), 3),
        "faces_per_picture": round(statistics.mean(faces for _, faces in work), 1),
        "memory_mb": memory,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
