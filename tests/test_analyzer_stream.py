"""The corridor as a stream: order, laziness, errors, ends, memory."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agelens.align import assume_landmarks
from agelens.analyzer import AHEAD, Analyzer
from agelens.analyzer.line import CROWD, Line
from agelens.errors import InputError, UnfitModelError, UsageError
from agelens.estimate import Estimates, OnnxEstimator
from agelens.types import Box, Detection, Image, Report
from faces import EXAMPLE, ROOT, background, portrait, resized
from stand_in import model_bytes


class OneFace:
    """A detector that takes every picture for one face, after a while."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def detect(self, image: Image) -> list[Detection]:
        time.sleep(self.seconds)
        box = Box(0.0, 0.0, float(image.width), float(image.height))
        return [Detection(box, 0.9, assume_landmarks(box))]


@pytest.fixture(scope="module")
def analyzer(stand_in: Path) -> Analyzer:
    return Analyzer(str(stand_in), threads=2, batch_size=8)


@pytest.fixture
def quick(stand_in: Path) -> Analyzer:
    """Finds one face in anything, so that a stream costs nothing."""
    return Analyzer(str(stand_in), threads=2, batch_size=4, detector=OneFace())


def shade(level: int) -> np.ndarray:
    return np.full((12, 12, 3), level, np.uint8)


def threads_of_ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("agelens")]


def settle(what: Any, seconds: float = 5.0) -> None:
    """Waits until something holds; a test that waits in vain fails."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Order and sameness -------------------------------------------------------------------------------------------------


def test_reports_come_in_the_order_of_pictures_with_errors_between(quick: Analyzer) -> None:
    pictures: list[Any] = []
    for n in range(120):
        pictures.append(shade(50 + n) if n % 5 else (b"broken" if n % 2 else f"missing {n}.jpg"))
    reports = list(quick.stream(pictures))
    assert len(reports) == 120
    for n, report in enumerate(reports):
        assert (report.error is None) == bool(n % 5)
        if n % 5:
            assert report.faces[0].age.years == pytest.approx((50 + n) * 100 / 255, abs=0.2)
        else:
            assert report.faces == ()


def test_pictures_that_take_longer_do_not_change_places(stand_in: Path) -> None:
    class Uneven(OneFace):
        def detect(self, image: Image) -> list[Detection]:
            time.sleep(0.02 if image.pixels[0, 0, 0] % 3 == 0 else 0)
            return super().detect(image)

    analyzer = Analyzer(str(stand_in), threads=4, batch_size=3, detector=Uneven())
    years = [report.faces[0].age.years for report in analyzer.stream(shade(n) for n in range(60))]
    assert years == sorted(years)
    assert len(years) == 60


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("threads", [1, 3])
def test_stream_and_batches_say_what_single_calls_say(stand_in: Path, batch_size: int, threads: int) -> None:
    pictures = [
        np.array(portrait()),
        background(300, 200),
        resized(portrait(), 300, 300),
        np.ascontiguousarray(np.hstack([portrait()[:, 60:400], portrait()[:, 60:400]])),
        EXAMPLE.read_bytes(),
        np.ascontiguousarray(np.rot90(portrait(), 1)),
    ]
    alone = [Analyzer(str(stand_in)).predict(picture) for picture in pictures]
    assert [len(faces) for faces in alone] == [1, 0, 1, 2, 1, 1]
    analyzer = Analyzer(str(stand_in), threads=threads, batch_size=batch_size)
    for faces, report in zip(alone, analyzer.stream(pictures), strict=True):
        assert report.error is None
        for one, other in zip(faces, report.faces, strict=True):
            assert one.box == other.box
            assert one.landmarks == other.landmarks
            assert one.age.years == pytest.approx(other.age.years, abs=0.05)
            assert one.gender.female_probability == pytest.approx(other.gender.female_probability, abs=1e-3)
            assert one.age.group == other.age.group


def test_a_stream_of_nothing_ends_at_once(quick: Analyzer) -> None:
    assert list(quick.stream([])) == []
    assert list(quick.stream(iter(()))) == []
    settle(lambda: not threads_of_ours())


def test_two_streams_of_one_analyzer_run_side_by_side(quick: Analyzer) -> None:
    one, other = quick.stream(shade(n) for n in range(50)), quick.stream(shade(255 - n) for n in range(50))
    pairs = [(a.faces[0].age.years, b.faces[0].age.years) for a, b in zip(one, other, strict=True)]
    assert [a for a, _ in pairs] == sorted(a for a, _ in pairs)
    assert [b for _, b in pairs] == sorted((b for _, b in pairs), reverse=True)


def test_kept_images_are_those_of_their_reports(quick: Analyzer) -> None:
    for n, report in enumerate(quick.stream((shade(n) for n in range(40)), keep_images=True)):
        assert (report.image.pixels == n).all()
    assert all(report.image is None for report in quick.stream([shade(1)]))


# Laziness -----------------------------------------------------------------------------------------------------------


def test_an_endless_source_is_read_a_few_pictures_ahead(quick: Analyzer) -> None:
    pulled = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal pulled
        while True:
            pulled += 1
            yield shade(pulled % 200)

    # Under way, ready, taken out and not yet estimated, and one in the feeding thread's hand.
    bound = AHEAD * quick.threads + 3 * quick.batch_size + 1
    stream = quick.stream(endless())
    for taken in range(1, 200):
        next(stream)
        assert pulled <= taken + bound
    time.sleep(0.2)  # whoever pauses is not run away from
    assert pulled <= 199 + bound
    stream.close()
    after = pulled
    settle(lambda: not threads_of_ours())
    assert pulled <= after + 1


def test_nothing_is_read_before_it_is_asked_for(quick: Analyzer) -> None:
    pulled = []
    stream = quick.stream(pulled.append(n) or shade(n) for n in range(5))
    time.sleep(0.05)
    assert pulled == []
    assert threads_of_ours() == []
    stream.close()


def test_each_picture_of_a_slow_source_is_answered_before_the_next_comes(quick: Analyzer) -> None:
    answered = threading.Semaphore(0)

    def slow() -> Iterator[np.ndarray]:
        for n in range(6):
            yield shade(n)
            # The source goes on only once the answer is there: were it held back for a fuller batch, this would fail.
            assert answered.acquire(timeout=10)

    count = 0
    for report in quick.stream(slow()):
        assert report.error is None
        count += 1
        answered.release()
    assert count == 6


def test_faces_of_several_pictures_go_through_the_network_together(stand_in: Path) -> None:
    sizes: list[int] = []
    estimator = OnnxEstimator(model_bytes(), name="m")

    class Counted:
        spec, model = estimator.spec, estimator.model

        def estimate(self, crops: np.ndarray) -> Estimates:
            sizes.append(len(crops))
            return estimator.estimate(crops)

    analyzer = Analyzer(threads=2, batch_size=8, detector=OneFace(), estimator=Counted())
    assert len(list(analyzer.stream(shade(n % 200) for n in range(200)))) == 200
    assert sum(sizes) == 200
    assert max(sizes) <= 8
    assert len(sizes) < 100


def test_one_thread_prepares_while_another_estimates() -> None:
    """No picture waits for the batch before it."""
    during = []
    estimating: list[None] = []

    class Watched(OneFace):
        def detect(self, image: Image) -> list[Detection]:
            during.append(bool(estimating))
            return super().detect(image)

    estimator = OnnxEstimator(model_bytes(), name="m")

    class Slow:
        spec, model = estimator.spec, estimator.model

        def estimate(self, crops: np.ndarray) -> Estimates:
            estimating.append(None)
            time.sleep(0.05)
            estimating.pop()
            return estimator.estimate(crops)

    analyzer = Analyzer(threads=2, batch_size=4, detector=Watched(0.01), estimator=Slow())
    list(analyzer.stream(shade(n) for n in range(60)))
    assert sum(during) > 5  # about 20


def test_pictures_that_hold_up_all_threads_do_not_hold_back_an_answer(stand_in: Path) -> None:
    """The caller estimates itself where no thread gets free."""
    answered = threading.Event()

    class HeldUp(OneFace):
        def detect(self, image: Image) -> list[Detection]:
            if image.pixels[0, 0, 0] > 1:  # were the first answer to wait for these, they would wait for it in vain
                assert answered.wait(20)
            return super().detect(image)

    stream = Analyzer(str(stand_in), threads=2, detector=HeldUp()).stream(shade(n) for n in (1, 2, 3, 4))
    assert next(stream).error is None
    answered.set()
    assert [report.error for report in stream] == [None] * 3


def test_estimation_runs_in_the_threads_that_were_asked_for(stand_in: Path) -> None:
    names = set()
    estimator = OnnxEstimator(model_bytes(), name="m")

    class Named:
        spec, model = estimator.spec, estimator.model

        def estimate(self, crops: np.ndarray) -> Estimates:
            names.add(threading.current_thread().name.partition("_")[0])
            return estimator.estimate(crops)

    analyzer = Analyzer(threads=2, batch_size=4, detector=OneFace(), estimator=Named())
    assert len(list(analyzer.stream(shade(n) for n in range(60)))) == 60
    assert "agelens-line" in names


# Errors and ends ----------------------------------------------------------------------------------------------------


def test_strict_ends_at_the_first_bad_picture_after_all_before_it(quick: Analyzer) -> None:
    stream = quick.stream([shade(1), shade(2), b"broken", shade(3)], strict=True)
    assert next(stream).error is None
    assert next(stream).error is None
    with pytest.raises(InputError):
        next(stream)
    assert list(stream) == []
    settle(lambda: not threads_of_ours())


@pytest.mark.parametrize("error", [RuntimeError("the source broke"), KeyError("x"), OSError("gone")])
def test_what_the_source_raises_reaches_the_caller_after_all_before_it(quick: Analyzer, error: Exception) -> None:
    def source() -> Iterator[np.ndarray]:
        for n in range(7):
            yield shade(n)
        raise error

    stream = quick.stream(source())
    assert [next(stream).error for _ in range(7)] == [None] * 7
    with pytest.raises(type(error)) as caught:
        next(stream)
    assert caught.value is error
    settle(lambda: not threads_of_ours())


def test_a_source_that_fails_at_once_is_told(quick: Analyzer) -> None:
    with pytest.raises(UsageError, match="several pictures"):
        list(quick.stream(3))
    settle(lambda: not threads_of_ours())


def test_a_fault_in_a_detector_is_not_swallowed(stand_in: Path) -> None:
    class Faulty:
        def detect(self, image: Image) -> list[Detection]:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        list(Analyzer(str(stand_in), detector=Faulty()).stream([shade(1)] * 5))
    settle(lambda: not threads_of_ours())


class FalsyError(Exception):
    """An error that counts as false, as some that hold a list of reasons do."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("where", ["source", "detector", "estimator"])
@pytest.mark.parametrize("kind", [FalsyError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_error_of_any_kind_from_anywhere_ends_the_stream(where: str, kind: type[BaseException]) -> None:
    raised = kind("told")

    class Faulty(OneFace):
        def detect(self, image: Image) -> list[Detection]:
            if where == "detector" and image.pixels[0, 0, 0] == 5:
                raise raised
            return super().detect(image)

    estimator = OnnxEstimator(model_bytes(), name="m")

    class Failing:
        spec, model = estimator.spec, estimator.model

        def estimate(self, crops: np.ndarray) -> Estimates:
            if where == "estimator":
                raise raised
            return estimator.estimate(crops)

    def source() -> Iterator[np.ndarray]:
        yield from (shade(n) for n in range(5))
        if where == "source":
            raise raised
        yield shade(5)

    reports: list[Report] = []
    stream = Analyzer(threads=2, batch_size=2, detector=Faulty(), estimator=Failing()).stream(source())
    with pytest.raises(kind) as caught:
        reports.extend(stream)
    assert caught.value is raised
    assert len(reports) == (0 if where == "estimator" else 5)
    settle(lambda: not threads_of_ours())


def test_broken_weights_end_the_stream(tmp_path: Path) -> None:
    file = tmp_path / "broken.onnx"
    file.write_bytes(model_bytes(gain=float("nan")))
    with pytest.raises(UnfitModelError):
        list(Analyzer(str(file), detector=OneFace()).stream([shade(1)]))
    settle(lambda: not threads_of_ours())


def test_closing_early_ends_all_threads(quick: Analyzer) -> None:
    for taken in (1, 2, 5):
        stream = quick.stream(shade(n % 200) for n in itertools.count())
        for _ in range(taken):
            next(stream)
        stream.close()
        settle(lambda: not threads_of_ours())


def test_a_forgotten_stream_ends_all_threads(quick: Analyzer) -> None:
    stream = quick.stream(shade(n % 200) for n in itertools.count())
    next(stream)
    del stream
    gc.collect()
    settle(lambda: not threads_of_ours())


@pytest.mark.parametrize("where", ["source", "detector"])
def test_a_stream_that_is_collected_in_its_own_thread_ends_all_threads(stand_in: Path, where: str) -> None:
    """Garbage is collected in whichever thread comes to it; one can't wait for its own end."""
    forgotten, collected = threading.Event(), threading.Event()

    def collect() -> None:
        if forgotten.is_set() and not collected.is_set():
            gc.collect()
            collected.set()

    class Collecting(OneFace):
        def detect(self, image: Image) -> list[Detection]:
            if where == "detector":
                collect()
            return super().detect(image)

    def source() -> Iterator[np.ndarray]:
        for n in itertools.count():
            if where == "source":
                collect()
            time.sleep(0.001)
            yield shade(n % 200)

    gc.disable()
    try:
        stream = Analyzer(str(stand_in), threads=2, batch_size=64, detector=Collecting()).stream(source())
        next(stream)
        circle: list[Any] = [stream]
        circle.append(circle)
        del stream, circle
        forgotten.set()
        assert collected.wait(5)
    finally:
        gc.enable()
    settle(lambda: not threads_of_ours())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_process_drops_a_stream_while_a_thread_of_its_parent_has_the_lock(quick: Analyzer) -> None:
    line = Line([], quick.prepare, len, threads=1, size=1, shelf=1)
    with line:
        assert list(line.results()) == []
        with line._lock:
            child = os.fork()
            if not child:
                signal.alarm(20)  # whose default action ends the process
                line.__exit__(None, None, None)
                os._exit(0)
            assert os.waitpid(child, 0) == (child, 0)


def test_closing_does_not_wait_for_a_source_that_never_comes(quick: Analyzer) -> None:
    never = threading.Event()

    def stuck() -> Iterator[np.ndarray]:
        yield shade(1)
        never.wait(30)

    stream = quick.stream(stuck())
    assert next(stream).error is None
    start = time.monotonic()
    stream.close()
    assert time.monotonic() - start < 5
    never.set()
    settle(lambda: not threads_of_ours())


def test_closing_does_not_wait_for_ever_for_a_thread_that_waits_for_the_one_that_closes(stand_in: Path) -> None:
    """That one may be in the middle of anything when it comes to collect a forgotten stream."""
    lock, begun = threading.Lock(), threading.Event()

    class Locking(OneFace):
        def detect(self, image: Image) -> list[Detection]:
            if image.pixels[0, 0, 0] > 1:
                begun.set()
                assert lock.acquire(timeout=20)
                lock.release()
            return super().detect(image)

    stream = Analyzer(str(stand_in), threads=1, batch_size=1, detector=Locking()).stream(map(shade, range(1, 9)))
    with lock:
        next(stream)
        assert begun.wait(5)
        start = time.monotonic()
        stream.close()
        assert time.monotonic() - start < 10
    settle(lambda: not threads_of_ours())


def test_a_source_is_closed_when_the_stream_is(quick: Analyzer) -> None:
    ended = threading.Event()

    def source() -> Iterator[np.ndarray]:
        try:
            while True:
                yield shade(3)
        finally:
            ended.set()

    stream = quick.stream(source())
    next(stream)
    stream.close()
    assert ended.wait(5)


INTERRUPTED = """
import itertools, os, sys
import numpy as np
from agelens.analyzer import Analyzer
stream = Analyzer(sys.argv[1], threads=2).stream(np.full((64, 64, 3), n % 200, np.uint8) for n in itertools.count())
try:
    for n, report in enumerate(stream):
        if n == 5:
            print("ready", flush=True)
except KeyboardInterrupt:
    print("stopped", flush=True)
    raise SystemExit(130)
"""

WAITING = """
import sys, threading
from agelens.analyzer import Analyzer
def source():
    print("ready", flush=True)
    threading.Event().wait(60)
    yield b""
try:
    list(Analyzer(sys.argv[1], threads=2).stream(source()))
except KeyboardInterrupt:
    print("stopped", flush=True)
    raise SystemExit(130)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize("program", [INTERRUPTED, WAITING], ids=["at work", "waiting for its source"])
def test_ctrl_c_ends_the_process_soon(stand_in: Path, program: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(stand_in)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "stopped\n", "")


START = """
HOLD = '''
import threading, time
from agelens.analyzer.line import Line
def hold(self):
    if self._has_threads and threading.current_thread().daemon:
        time.sleep(10)
    start(self)
start, Line._start_thread = Line._start_thread, hold
def rest(seconds):
    time.sleep(seconds)
'''
import sys, threading, time
import numpy as np
from agelens.analyzer import Analyzer
def source(count, seconds):
    for n in range(count):
        time.sleep(seconds)
        yield np.full((64, 64, 3), n % 200, np.uint8)
analyzer = Analyzer(sys.argv[1], threads=2)
"""

ENDS = {
    "a stream is left in a variable": """
stream = analyzer.stream(source(10**6, 0))
print(next(stream).error)
""",
    "a source never comes": """
def stuck():
    yield from source(1, 0)
    threading.Event().wait()
stream = analyzer.stream(stuck())
print(next(stream).error)
""",
    # A thread that holds the line's lock is stopped for good when the interpreter ends.
    "a thread has the lock": """
import itertools
names = {}
exec(HOLD, names)  # with names of its own: those of a thread that was stopped are kept, and so were the stream
picture = np.zeros((64, 64, 3), np.uint8)
stream = analyzer.stream(itertools.chain([picture], filter(None, map(names["rest"], [0.3])), [picture]))
print(next(stream).error)
time.sleep(0.6)
""",
    "another thread goes on": """
def work():
    assert [report.error for report in analyzer.stream(source(20, 0.02))] == [None] * 20
    print(None)
threading.Thread(target=work).start()
time.sleep(0.1)
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_process_ends_and_pictures_under_way_do_not_hang(stand_in: Path, end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START + ENDS[end], str(stand_in)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "None\n", "")


# Memory -------------------------------------------------------------------------------------------------------------


def kept_by(stream: Iterator[Report]) -> Callable[[], int]:
    """How many of the pictures that the reports of a stream carried are still in memory."""
    pictures = [weakref.ref(report.image.pixels) for report in itertools.islice(stream, 3)]
    return lambda: sum(picture() is not None for picture in pictures)


def test_pictures_are_let_go_while_the_next_one_does_not_come(quick: Analyzer) -> None:
    never = threading.Event()
    given: list[weakref.ref[np.ndarray]] = []

    def stuck() -> Iterator[np.ndarray]:
        for n in range(3):
            picture = shade(n)
            given.append(weakref.ref(picture))
            yield picture
            del picture
        never.wait(30)

    stream = quick.stream(stuck(), keep_images=True)
    kept = kept_by(stream)
    settle(lambda: not kept() and not any(picture() is not None for picture in given))
    stream.close()
    never.set()


def test_pictures_are_let_go_when_a_stream_is_closed_whose_source_does_not_come(stand_in: Path) -> None:
    never, refs = threading.Event(), list[Any]()

    class Noted(OneFace):
        def detect(self, image: Image) -> list[Detection]:
            refs.append(weakref.ref(image.pixels))
            return super().detect(image)

    def stuck() -> Iterator[np.ndarray]:
        yield from map(shade, range(6))
        never.wait(30)

    analyzer = Analyzer(str(stand_in), threads=1, batch_size=8, detector=Noted(0.03))
    stream = analyzer.stream(stuck(), keep_images=True)
    next(stream)
    settle(lambda: len(refs) == 6)  # the last of which wait for the caller
    assert any(ref() is not None for ref in refs)
    stream.close()
    settle(lambda: all(ref() is None for ref in refs))
    never.set()


def test_pictures_of_crowds_do_not_pile_up(stand_in: Path) -> None:
    """Their crops would fill the memory: 300 faces take 15 MB."""

    class Crowd(OneFace):
        seen = 0

        def detect(self, image: Image) -> list[Detection]:
            self.seen += 1
            return super().detect(image) * 100

    def is_still() -> bool:
        before = crowd.seen
        time.sleep(0.3)
        return crowd.seen == before

    crowd = Crowd()
    stream = Analyzer(str(stand_in), threads=1, batch_size=16, detector=crowd).stream(map(shade, range(40)))
    assert len(next(stream).faces) == 100
    settle(is_still)
    # One given out, those that fill the line by their faces, and those that were fed by then.
    filling = -(-CROWD * (AHEAD + 2 * 16) // 100)
    assert crowd.seen <= 1 + filling + AHEAD + 1 < AHEAD + 2 * 16
    assert [len(report.faces) for report in stream] == [100] * 39


def test_large_pictures_that_are_kept_do_not_pile_up(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.asarray(portrait())
    monkeypatch.setattr("agelens.analyzer.line.MOST_BYTES", 3 * picture.nbytes)
    analyzer = Analyzer(str(stand_in), threads=2, batch_size=16)
    seen: list[int] = []
    detect = analyzer._detector.detect

    def counting(image: Image) -> list[Detection]:
        seen.append(1)
        return detect(image)

    monkeypatch.setattr(analyzer._detector, "detect", counting)
    stream = analyzer.stream([picture] * 30, keep_images=True)
    first = next(stream)
    assert first.image is not None
    before = -1
    while before != len(seen):
        before = len(seen)
        time.sleep(0.3)
    # Those of the batch that was given out, those that fill the line, and one that each thread was at by then.
    assert len(seen) <= 16 < 30
    assert sum(len(report.faces) for report in stream) == 29
    assert len(seen) == 30


FLAT = """
import io, sys
from PIL import Image
from agelens.analyzer import Analyzer

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

files = [b"broken"]
for n in range(16):
    buffer = io.BytesIO()
    with Image.open(sys.argv[2]) as picture:
        picture.convert("RGB").resize((900 + 30 * n, 1200 - 25 * n)).save(buffer, "PNG" if n % 4 == 0 else "JPEG")
    files.append(buffer.getvalue())

def pictures(count):
    return (files[n % len(files)] for n in range(count))

analyzer = Analyzer(sys.argv[1], threads=2)
after = []
for _ in range(3):
    assert sum(len(report.faces) for report in analyzer.stream(pictures(int(sys.argv[3])))) > 0
    after.append(resident())
print(*after)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_pictures(stand_in: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FLAT, str(stand_in), str(EXAMPLE), "100"],
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    first, _, last = (float(word) for word in done.stdout.split())
    assert last < 500
    # After 200 further pictures of 3 MB each; the allocator alone moves this by up to 40 MB.
    assert last - first < 80
