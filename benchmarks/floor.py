"""The machine's floor: the calls that nobody can do without, back to back, without our code around them.

It is measured three times: `networks` decodes each picture as the corridor does and calls both networks on canvases of
the very sizes that the search used, ready made; `published` does so with the detector's graph as it was published,
which wants floats and one canvas at a time, and decodes into arrays; `kernels` is `networks` and also makes those
inputs, by the plain Pillow and NumPy calls (whole views and close-ups resized, crops warped, bytes laid out in planes).
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import onnx
from PIL import Image as PillowImage

from agelens.analyzer import DEFAULTS, DETAIL, Analyzer
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


def record_work(paths: list[Path]) -> list[Work]:
    """For each picture what the search shows to the network, and how many faces it finds."""
    detector = FaceDetector()
    recorder = Recorder()
    detector.network = recorder
    work = []
    for path in paths:
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

    Args:
        paths: The pictures.
        work: What is asked about each; where there are more pictures, they repeat those in the same order.
        threads: How many work side by side.
        kind: See the module.
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
    totals = np.cumsum([work[index % len(work)].faces for index in range(len(paths))])
    full = np.diff(totals // batch, prepend=0)  # batches that each photo completes

    def do(index: int) -> None:
        image = decode(paths[index].read_bytes(), detail=DETAIL)
        photo = image.picture
        asked = work[index % len(work)]
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
