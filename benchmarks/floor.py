"""The machine's floor: the calls that nobody can do without, back to back, without our code around them.

It is measured three times: `networks` decodes each picture as the corridor does and calls both networks on canvases of
the very sizes that the search used, ready made; `published` does so with the detector's graph as it was published,
which wants floats and one canvas at a time, and decodes into arrays; `kernels` is `networks` and also makes those
inputs, by the very calls of Pillow that the corridor makes (cutting, reducing, resizing, warping, noted beforehand with
all their arguments), and by laying bytes out in planes with NumPy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import onnx
from PIL import Image as PillowImage

from agelens.align import align
from agelens.analyzer import DEFAULTS, DETAIL, Analyzer
from agelens.decode import decode
from agelens.detect import FaceDetector
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
METHODS = ("crop", "reduce", "resize", "transform")
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
class Call:
    """A call of Pillow: the method, the size of the picture that it was called on, and its arguments."""

    method: str
    size: tuple[int, int]
    positional: tuple[object, ...]
    named: dict[str, object]


@dataclass(frozen=True)
class Work:
    """What is done about one photo: the detector's inputs, how many faces there are, and the calls of Pillow."""

    canvases: list[Shape]
    faces: int
    calls: list[Call]


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


@contextmanager
def note_calls(calls: list[Call]) -> Iterator[None]:
    """Notes what Pillow is asked for meanwhile; what its methods ask of each other is not noted."""
    originals = {method: getattr(PillowImage.Image, method) for method in METHODS}
    depth = 0

    def note(method: str) -> Callable[..., PillowImage.Image]:
        def call(picture: PillowImage.Image, *positional: object, **named: object) -> PillowImage.Image:
            nonlocal depth
            if not depth:
                calls.append(Call(method, picture.size, positional, named))
            depth += 1
            try:
                made: PillowImage.Image = originals[method](picture, *positional, **named)
            finally:
                depth -= 1
            return made

        return call

    for method in METHODS:
        setattr(PillowImage.Image, method, note(method))
    try:
        yield
    finally:
        for method, original in originals.items():
            setattr(PillowImage.Image, method, original)


def record_work(paths: list[Path]) -> list[Work]:
    """For each picture what the search shows to the network, how many faces it finds, and what Pillow does for it."""
    detector = FaceDetector()
    recorder = Recorder()
    detector.network = recorder
    crop = OnnxEstimator(read_model(DEFAULT_MODEL), name=DEFAULT_MODEL).spec.crop
    work = []
    for path in paths:
        recorder.seen, calls = [], list[Call]()
        image = decode(path.read_bytes(), detail=DETAIL)
        with note_calls(calls):
            faces = detector.detect(image)
            for face in faces:
                align(image, face.landmarks, crop)
        work.append(Work(recorder.seen, len(faces), calls))
    return work


def lay_planes(picture: PillowImage.Image, count: int) -> Planes:
    """A picture as so many canvases of the detection network."""
    planes = np.asarray(picture)[:, :, ::-1].transpose(2, 0, 1)
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


class Machine:
    """Both networks, and inputs for them that are ready made.

    Args:
        kind: Which floor, see the module.
        work: What will be asked.
    """

    def __init__(self, kind: Floor, work: list[Work]) -> None:
        self.kind = kind
        self.network, self.published = YuNet(), open_published()
        self.estimator = OnnxEstimator(read_model(DEFAULT_MODEL), name=DEFAULT_MODEL)
        size = self.estimator.spec.crop.size
        shapes = {shape for each in work for shape in each.canvases}
        sizes = {call.size for each in work for call in each.calls} | {(shape[3], shape[2]) for shape in shapes}
        rng = np.random.default_rng(0)
        self.canvases = {shape: rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes}
        self.floats = {shape[2:]: canvases[:1].astype(np.float32) for shape, canvases in self.canvases.items()}
        self.blanks = {size: PillowImage.new("RGB", size) for size in sizes}
        self.crops = rng.integers(0, 256, (DEFAULTS["batch_size"], size, size, 3), dtype=np.uint8)

    def detect(self, path: Path, asked: Work) -> None:
        """All that comes before the estimator, of one photo."""
        image = decode(path.read_bytes(), detail=DETAIL)
        if self.kind == "kernels":
            self._replay(asked.calls, image.picture)
        elif self.kind == "published":
            assert len(image.pixels)
        for shape in asked.canvases:
            self._look(shape)

    def _replay(self, calls: list[Call], photo: PillowImage.Image) -> None:
        for call in calls:
            source = photo if call.size == photo.size else self.blanks[call.size]
            made = getattr(source, call.method)(*call.positional, **call.named)
            if call.method == "transform":
                np.asarray(made)

    def _look(self, shape: Shape) -> None:
        if self.kind == "published":
            for _ in range(shape[0]):
                self.published.run(None, {"input": self.floats[shape[2:]]})
        else:
            ready = self.kind == "networks"
            self.network.forward(
                self.canvases[shape] if ready else lay_planes(self.blanks[shape[3], shape[2]], shape[0])
            )

    def estimate(self) -> None:
        """One batch of faces."""
        self.estimator.estimate(self.crops)


def run_floor(paths: list[Path], work: list[Work], threads: int, kind: Floor) -> Spent:
    """The time for decoding and the calls of both networks, and for `kernels` also for making their inputs.

    The estimator's batches are as large as the analyzer's; whichever thread decodes a photo that fills one, runs it.

    Args:
        paths: The pictures.
        work: What is asked about each; where there are more pictures, they repeat those in the same order.
        threads: How many work side by side.
        kind: See the module.
    """
    machine = Machine(kind, work)
    totals = np.cumsum([work[index % len(work)].faces for index in range(len(paths))])
    full = np.diff(totals // len(machine.crops), prepend=0)  # batches that each photo completes

    def do(index: int) -> None:
        machine.detect(paths[index], work[index % len(work)])
        for _ in range(full[index]):
            machine.estimate()

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
