"""What video reaches: speed, tracks, fusion, memory. On made-up clips of real faces, which need the packs' folder.

    python benchmarks/video.py speed       720p, three faces, with encoding, and with one look in three
    python benchmarks/video.py fusion      errors, intervals and flicker of 30-frame tracks, against single frames
    python benchmarks/video.py crossings   identity switches where two faces pass each other
    python benchmarks/video.py live        from the browser's frame to the drawn label; needs Chromium and playwright
    python benchmarks/video.py memory      resident memory over a 30-minute clip

AGELENS_DATA is the folder of labels.csv, AGELENS_UNPACKED that of the unpacked packs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from video_material import CAMERAS, Pixels, film, read_chips

from agelens.analyzer import Analyzer
from agelens.estimate import read_face
from agelens.types import Age, Face, Gender
from agelens.video.analysis import least_face
from agelens.video.fusion import Fusion, settle_group
from agelens.video.tracks import Tracker
from agelens.video.writer import VideoWriter

FRAMES = 30


def ground(width: int, height: int, seed: int) -> Pixels:
    """Soft blobs of colour."""
    coarse = np.random.default_rng(seed).integers(40, 200, (9, 16, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@dataclass(frozen=True, slots=True)
class Sprite:
    """A head with a soft, oval edge: RGB and opacity, both of shape (side, side, ...)."""

    pixels: Pixels
    opacity: Pixels

    @staticmethod
    def make(picture: Image.Image, side: int, blur: float = 0.0) -> Sprite:
        head = picture.resize((side, side), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(blur))
        y, x = (np.mgrid[0:side, 0:side] + 0.5) / side * 2 - 1
        opacity = np.clip((1 - np.hypot(x / 0.95, y)) * 12, 0, 1) * 255
        return Sprite(np.asarray(head), opacity.astype(np.uint8))

    def paste(self, canvas: Image.Image, x: float, y: float) -> None:
        canvas.paste(Image.fromarray(self.pixels), (round(x), round(y)), Image.fromarray(self.opacity))


def three_faces(frames: int, seed: int = 0) -> Iterator[Pixels]:
    """720p: three heads that wander over a ground, coming nearer and going away."""
    chips = [chip.read() for chip in read_chips("utkface-test", 3, seed)]
    plain = Image.fromarray(ground(1280, 720, seed))
    for i in range(frames):
        canvas = plain.copy()
        for number, chip in enumerate(chips):
            side = round(230 + 50 * math.sin(i / 40 + number))
            x = 130 + 380 * number + 60 * math.sin(i / 25 + 2 * number)
            Sprite.make(chip, side).paste(canvas, x, 220 + 90 * math.cos(i / 33 + number))
        yield np.asarray(canvas)


def write_clip(path: Path, frames: Iterator[Pixels], rate: float) -> None:
    """Encodes frames."""
    with VideoWriter(path, (1280, 720), Fraction(rate).limit_denominator()) as video:
        for i, frame in enumerate(frames):
            video.write(frame, i / rate)


def measure_speed(options: argparse.Namespace) -> None:
    """Frames a second of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, three_faces(options.frames), 25)
        for extra in ([], ["--every", "3"]):
            out = Path(folder) / "out.mp4"
            command = [sys.executable, "-m", "agelens", "predict", str(clip), "-o", str(out), "--quiet", *extra]
            before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(command, check=True)
            wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            records = [json.loads(line) for line in Path(f"{out}.jsonl").read_text("utf-8").splitlines()]
            faces = sum(len(record["faces"]) for record in records) / len(records)
            print(
                f"720p, 3 faces, {options.frames} frames {' '.join(extra) or 'each looked at'}: "
                f"{options.frames / wall:.1f} frames/s wall with start; {cpu / options.frames * 1000:.1f} ms of"
                " processor"
                f" a frame = {2 * options.frames / cpu:.1f} frames/s on two free cores; {faces:.2f} faces a look"
            )


# --- fusion --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Look:
    """One judged frame."""

    distribution: np.ndarray
    female: float
    score: float


def look_at(analyzer: Analyzer, pack: str, camera: str, tracks: int) -> list[tuple[float, bool | None, list[Look]]]:
    """Age, gender and looks of each made-up track in which the face was found in ten frames at least."""
    rng = np.random.default_rng(23)
    chips = read_chips(pack, tracks, seed=3)
    frames = (frame for chip in chips for frame in film(chip.read(), CAMERAS[camera], FRAMES, rng))
    found: list[list[Look]] = [[] for _ in chips]
    for number, report in enumerate(analyzer.stream(frames)):
        if report.faces:
            face = max(report.faces, key=lambda face: face.box.width * face.box.height)
            assert face.age is not None
            assert face.gender is not None
            look = Look(np.asarray(face.age.distribution), face.gender.female_probability, face.detection_score)
            found[number // FRAMES].append(look)
    return [(chip.age, chip.female, looks) for chip, looks in zip(chips, found, strict=True) if len(looks) >= 10]


def read(analyzer: Analyzer, ages: np.ndarray, female: float) -> tuple[Age, Gender]:
    """Reads raw answers as an age and a gender."""
    age, gender = read_face(ages.astype(np.float32), female, analyzer.spec, analyzer.options)
    assert age is not None
    assert gender is not None
    return age, gender


def tell_ages(name: str, truth: Sequence[float], ages: Sequence[Age]) -> tuple[float, float, float]:
    """Mean absolute error, coverage and width, printed."""
    mae = float(np.mean([abs(age.years - years) for age, years in zip(ages, truth, strict=True)]))
    held = float(np.mean([age.low <= years <= age.high for age, years in zip(ages, truth, strict=True)]))
    width = float(np.mean([age.high - age.low for age in ages]))
    print(f"  {name:32} MAE {mae:5.2f}   coverage {held:5.1%}   interval {width:5.1f} years")
    return mae, held, width


def count_changes(labels: Sequence[str]) -> int:
    """How often a label changes."""
    return sum(a != b for a, b in itertools.pairwise(labels))


def measure_fusion(options: argparse.Namespace) -> None:
    """Fused ages and genders against those of single frames."""
    analyzer = Analyzer(threads=options.threads)
    for camera in options.cameras:
        tracks = [track for pack in options.packs for track in look_at(analyzer, pack, camera, options.tracks)]
        print(f"camera {camera!r}, {', '.join(options.packs)}: {len(tracks)} tracks of {FRAMES} frames")
        singles: list[tuple[float, Age]] = []
        best, fused = [], []
        changes, likeness, worth, shares = [0, 0], [], [], []
        hits = [0, 0, 0]
        for years, is_female, looks in tracks:
            judged = [read(analyzer, look.distribution, look.female) for look in looks]
            singles += [(years, age) for age, _ in judged]
            best.append(judged[max(range(len(looks)), key=lambda i: looks[i].score)][0])
            fusion, steps = Fusion(), []
            for look in looks:
                fusion.add(look.distribution, look.female, look.score)
                ages, female = fusion.read_ages(), fusion.read_female()
                assert ages is not None
                assert female is not None
                age, gender = read(analyzer, ages, female)
                before = steps[-1][0].group if steps else None
                steps.append((settle_group(age, before, analyzer.options.groups), gender))
            fused.append(steps[-1][0])
            for i, told in enumerate((judged, steps)):
                changes[i] += count_changes([age.group for age, _ in told])
                changes[i] += count_changes([gender.label for _, gender in told])
            if is_female is not None:
                word = "female" if is_female else "male"
                hits[0] += sum(gender.label == word for _, gender in judged)
                hits[1] += len(judged)
                hits[2] += steps[-1][1].label == word
            likeness.append(fusion.likeness)
            worth.append(fusion.independent_looks)
            shares.append(fusion.remaining)
        truth = [years for years, _, _ in tracks]
        single = tell_ages("each frame by itself", [years for years, _ in singles], [age for _, age in singles])
        one = tell_ages("the frame of the best score", truth, best)
        all_ = tell_ages("fused", truth, fused)
        print(
            f"  fused interval against each frame {all_[2] / single[2] - 1:+.1%},"
            f" against the best {all_[2] / one[2] - 1:+.1%}; variance left {np.mean(shares):.2f},"
            f" autocorrelation {np.mean(likeness):.2f}, worth {np.mean(worth):.1f} looks"
        )
        print(f"  gender right: {hits[0] / hits[1]:.1%} of frames, {hits[2] / len(tracks):.1%} of tracks")
        rates = [count / (len(tracks) * (FRAMES - 1) / 30) for count in changes]
        print(
            f"  changes of group or gender a second: {rates[0]:.2f} by frame,"
            f" {rates[1]:.2f} fused ({rates[1] / rates[0]:.3f})"
        )


# --- crossings -----------------------------------------------------------------------------------------------------


def measure_crossings(options: argparse.Namespace) -> None:
    """Identity switches of two who meet."""
    analyzer = Analyzer(threads=options.threads, min_face=least_face(640, 360))
    for kind in ("cross", "turn back"):
        rng = np.random.default_rng(31)
        chips = [chip.read() for chip in read_chips("utkface-test", 2 * options.crossings, seed=9)]
        switches, lost, unseen = 0, 0, 0
        for number in range(options.crossings):
            outcome = cross(analyzer, chips[2 * number], chips[2 * number + 1], kind, rng)
            switches += outcome == "switch"
            lost += outcome == "lost"
            unseen += outcome == "unseen"
        judged = options.crossings - unseen
        print(
            f"{kind}: {switches} identity switches in {judged} meetings ({switches / max(judged, 1):.1%});"
            f" {lost} times a new number; {unseen} where a face wasn't found at both ends"
        )


def cross(analyzer: Analyzer, one: Image.Image, two: Image.Image, kind: str, rng: np.random.Generator) -> str:
    """One meeting of two heads, the second behind the first; how it ended."""
    sides = rng.integers(110, 150, 2)
    heads = [Sprite.make(chip, int(side), 0.6) for chip, side in zip((one, two), sides, strict=True)]
    plain = Image.fromarray(ground(640, 360, int(rng.integers(1 << 30))))
    speed, wave = rng.uniform(6, 12), rng.uniform(0, 25, 2)
    heights = 110 + rng.uniform(-25, 25, 2)
    steps = int(450 / speed)
    tracker = Tracker(analyzer.spec, analyzer.options)

    def places() -> Iterator[tuple[Pixels, list[tuple[float, float]]]]:
        for i in range(steps):
            share = i / (steps - 1)
            if kind == "turn back":
                share = min(share, 1 - share) * 1.02
            canvas, centres = plain.copy(), []
            for number in (1, 0):
                x = 30 + 450 * share if number == 0 else 480 - 450 * share
                y = heights[number] + wave[number] * math.sin(6 * share)
                heads[number].paste(canvas, x, y)
                centres.append((x + sides[number] / 2, y + sides[number] / 2))
            yield np.asarray(canvas), centres[::-1]

    known: list[list[tuple[float, float]]] = []

    def frames() -> Iterator[Pixels]:
        for pixels, centres in places():
            known.append(centres)
            pictures.append(pixels)
            yield pixels

    pictures: list[Pixels] = []
    numbers: list[dict[int, int]] = []
    for i, report in enumerate(analyzer.stream(frames())):
        told = tracker.update(report.faces, pictures[i], i, i / 30)
        here = {who: find_track(told, *centre) for who, centre in enumerate(known[i])}
        numbers.append({who: track for who, track in here.items() if track is not None})
    return judge_meeting(numbers)


def find_track(faces: Sequence[Face], x: float, y: float) -> int | None:
    """The track of the face around a place."""
    for face in faces:
        if abs(face.box.x + face.box.width / 2 - x) < 35 and abs(face.box.y + face.box.height / 2 - y) < 40:
            return face.track
    return None


def judge_meeting(numbers: Sequence[dict[int, int]]) -> str:
    """How a meeting ended, by who had which track in each frame."""
    first = {who: next((here[who] for here in numbers[:8] if who in here), None) for who in (0, 1)}
    last = {who: next((here[who] for here in numbers[:-9:-1] if who in here), None) for who in (0, 1)}
    if None in first.values() or None in last.values() or first[0] == first[1]:
        return "unseen"
    if first == last:
        return "kept"
    return "switch" if last[0] == first[1] or last[1] == first[0] else "lost"


# --- memory --------------------------------------------------------------------------------------------------------


def measure_memory(options: argparse.Namespace) -> None:
    """Resident memory of a long run."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        count = options.minutes * 60 * options.rate
        some = list(three_faces(60))
        write_clip(clip, (some[i % 60] for i in range(count)), options.rate)
        process = subprocess.Popen(
            [sys.executable, "-m", "agelens", "predict", str(clip), "-o", f"{folder}/out.mp4", "--quiet"]
        )
        sizes = []
        while process.poll() is None:
            time.sleep(1)
            status = Path(f"/proc/{process.pid}/status").read_text() if process.poll() is None else ""
            sizes += [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")]
        tenth = max(len(sizes) // 10, 1)
        print(
            f"{options.minutes} minutes, {count} frames of 720p: most {max(sizes):.0f} MiB; mean of the second tenth"
            f" {np.mean(sizes[tenth : 2 * tenth]):.0f} MiB, of the last {np.mean(sizes[-tenth - 1 : -1]):.0f} MiB"
        )


# --- live ----------------------------------------------------------------------------------------------------------


def write_camera(path: Path, frames: Iterator[Pixels]) -> None:
    """Motion JPEG as Chromium takes it for a camera."""
    with path.open("wb") as file:
        for frame in frames:
            Image.fromarray(frame).save(file, "JPEG", quality=85)


def measure_live(options: argparse.Namespace) -> None:
    """Milliseconds from the grabbed frame to the drawn label, in a headless Chromium on the same machine."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        camera = Path(folder) / "camera.mjpeg"
        write_camera(camera, three_faces(60))
        command = [sys.executable, "-m", "agelens", "live", "--port", "0", "--no-browser"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        address = process.stderr.readline().split()[2]
        flags = [
            *("--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
            f"--use-file-for-fake-video-capture={camera}",
        ]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
            page = browser.new_context(permissions=["camera"], bypass_csp=True).new_page()
            page.goto(address)
            page.wait_for_function("window.agelens?.last?.faces.length > 0", timeout=60_000)
            begin, parts = time.monotonic(), []
            while time.monotonic() - begin < options.seconds:
                page.evaluate("window.agelens.latencies.length = 0")
                page.wait_for_timeout(options.seconds * 1000 / 6)
                parts.append(page.evaluate("window.agelens.latencies"))
            browser.close()
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.stderr.close()
    every = np.concatenate([np.asarray(part) for part in parts])
    print(
        f"live, 720p with 3 faces, {options.seconds:.0f} s: median {np.median(every):.0f} ms from frame to label,"
        f" 95% within {np.percentile(every, 95):.0f} ms, {len(every) / options.seconds:.1f} frames/s;"
        " medians of six parts:"
        f" {', '.join(f'{np.median(part):.0f}' for part in parts)}"
    )


def main() -> None:
    """Reads the command line."""
    measures: dict[str, Callable[[argparse.Namespace], None]] = {
        "speed": measure_speed,
        "fusion": measure_fusion,
        "crossings": measure_crossings,
        "memory": measure_memory,
        "live": measure_live,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=measures)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--tracks", type=int, default=150, help="of each pack")
    parser.add_argument("--packs", nargs="+", default=["utkface-test", "aaf-test"])
    parser.add_argument("--cameras", nargs="+", default=list(CAMERAS), choices=list(CAMERAS))
    parser.add_argument("--crossings", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=600.0, help="of the live page")
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--rate", type=int, default=2, help="frames a second of the long clip")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    measures[options.what](options)


if __name__ == "__main__":
    main()
