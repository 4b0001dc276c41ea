"""How much of the machine's floor the whole corridor reaches, and whether its memory stays flat.

The floor is the same work without our code around it, back to back in as many threads. It is measured three times:
`networks` decodes each picture in the same way and calls both networks on canvases of the very sizes that the search
used, ready made; `published` does so with the detector's graph as it was published, which wants floats and one canvas
at a time, and decodes into arrays; `kernels` is `networks` and also makes those inputs, by the plain Pillow and NumPy
calls that nobody can do without (whole views and close-ups resized, crops warped, bytes laid out in planes). All run in
turn in one process, several times; the ratios count, of the time by the clock and, for machines that do other things
beside, of processor time. Memory is that of separate processes over 500 and over 5,000 pictures.

Needs the `train` extra for `onnx`. Run: `python benchmarks/throughput.py [--pictures 2000] [--data ../shared/data]`.
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
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import onnx
from PIL import Image as PillowImage

from agelens.analyzer import DEFAULTS, DETAIL, Analyzer, count_cores
from agelens.decode import decode
from agelens.detect import FaceDetector
from agelens.detect.search import CLOSE_UP
from agelens.detect.yunet import YuNet
from agelens.estimate import OnnxEstimator
from agelens.runtime import open_session
from agelens.zoo import DEFAULT_MODEL, read_model

if TYPE_CHECKING:
    import onnxruntime as ort

    from agelens.detect.yunet import Floats, Planes

    Shape = tuple[int, ...]

Floor = Literal["networks", "published", "kernels"]
FLOORS: tuple[Floor, ...] = get_args(Floor)
PUBLISHED = Path(__file__).parents[1] / "tests" / "assets" / "face_detection_yunet_2023mar.onnx"
CHANNELS = 10  # the most numbers that an output has for one cell
DISTINCT = 60  # photos made; the others are links to them


@dataclass
class Recorder(YuNet):
    """The detection network, noting how many canvases of which size it is shown at once."""

    seen: list[Shape] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def forward(self, canvases: Planes) -> list[Floats]:
        self.seen.append(canvases.shape)
        return super().forward(canvases)


@dataclass(frozen=True)
class Work:
    """What the networks are asked about one photo: the detector's inputs, and how many faces."""

    canvases: list[Shape]
    faces: int


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and of processor time."""

    clock: float
    processor: float


@dataclass
class Stopwatch:
    """Measures from its making on."""

    clock: float = field(default_factory=time.perf_counter)
    processor: float = field(default_factory=time.process_time)

    def stop(self) -> Spent:
        return Spent(time.perf_counter() - self.clock, time.process_time() - self.processor)


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


def record_work(paths: list[Path]) -> list[Work]:
    """For each distinct photo what the search shows to the network, and how many faces it finds."""
    detector = FaceDetector()
    recorder = Recorder()
    detector.network = recorder
    work = []
    for path in paths[:DISTINCT]:
        recorder.seen = []
        faces = detector.detect(decode(path.read_bytes(), detail=DETAIL))
        work.append(Work(recorder.seen, len(faces)))
    return work


def make_input(photo: PillowImage.Image, shape: Shape) -> Planes:
    """A photo, or a part of it where the canvas is a close-up, as the detection network's input."""
    count, _, height, width = shape
    source = photo if max(height, width) > CLOSE_UP else photo.crop((0, 0, 2 * width, 2 * height))
    small = source.resize((width, height), PillowImage.Resampling.BOX, reducing_gap=1.0)
    planes = np.asarray(small)[:, :, ::-1].transpose(2, 0, 1)
    return np.ascontiguousarray(np.stack([planes] * count))


def open_published() -> ort.InferenceSession:
    """The detector as published; only the size of its input is left open."""
    model = onnx.load(str(PUBLISHED))
    del model.graph.value_info[:]
    for node in (*model.graph.input, *model.graph.output):
        for index, dimension in enumerate(node.type.tensor_type.shape.dim):
            if dimension.dim_value > CHANNELS:
                dimension.Clear()
                dimension.dim_param = f"{node.name}_{index}"
    return open_session(model.SerializeToString(), name="published")


def run_floor(paths: list[Path], work: list[Work], threads: int, kind: Floor) -> Spent:
    """The time for decoding and the calls of both networks, and for `kernels` also for making their inputs.

    The estimator's batches are as large as the analyzer's; whichever thread decodes a photo that fills one, runs it.
    """
    network, published = YuNet(), open_published()
    estimator = OnnxEstimator(read_model(DEFAULT_MODEL), name=DEFAULT_MODEL)
    size, batch = estimator.spec.crop.size, DEFAULTS["batch_size"]
    rng = np.random.default_rng(0)
    inputs = {
        shape: rng.integers(0, 256, shape, dtype=np.uint8) for shape in {s for each in work for s in each.canvases}
    }
    floats = {shape[2:]: canvases[:1].astype(np.float32) for shape, canvases in inputs.items()}
    crops = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    totals = np.cumsum([work[index % DISTINCT].faces for index in range(len(paths))])
    full = np.diff(totals // batch, prepend=0)  # batches that each photo completes

    def do(index: int) -> None:
        image = decode(paths[index].read_bytes(), detail=DETAIL)
        photo = image.picture
        asked = work[index % DISTINCT]
        if kind == "published":
            assert len(image.pixels)
            for shape in asked.canvases:
                for _ in range(shape[0]):
                    published.run(None, {"input": floats[shape[2:]]})
        else:
            for shape in asked.canvases:
                network.forward(make_input(photo, shape) if kind == "kernels" else inputs[shape])
        if asked.faces and kind == "kernels":
            part = photo.crop((0, 0, 2 * size, 2 * size)).resize((size, size), PillowImage.Resampling.BILINEAR)
            warp = ((size, size), PillowImage.Transform.AFFINE, (1, 0, 0, 0, 1, 0), PillowImage.Resampling.BICUBIC)
            np.stack([np.asarray(part.transform(*warp)) for _ in range(asked.faces)])
        for _ in range(full[index]):
            estimator.estimate(crops)

    watch = Stopwatch()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(do, range(len(paths))):
            pass
    return watch.stop()


def run_ours(paths: list[Path], threads: int) -> Spent:
    """The time for the whole corridor."""
    analyzer = Analyzer(threads=threads)
    watch = Stopwatch()
    for report in analyzer.stream(paths):
        if report.error:
            raise SystemExit(f"{report.source}: {report.error.message}")
    return watch.stop()


def median_share(floor: list[float], ours: list[float]) -> float:
    """What share of the floor's rate is reached, of the times of both in each round."""
    return round(statistics.median(one / other for one, other in zip(floor, ours, strict=True)), 3)


def read_peak() -> float:
    """Peak resident memory of this process in MB. Linux carries `ru_maxrss` over from the parent, so not that one."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


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
        work = record_work(paths)
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
