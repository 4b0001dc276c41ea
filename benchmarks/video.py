"""What video reaches: speed, tracks, fusion, memory. On made-up clips of real faces, which need the packs' folder.

    python benchmarks/video.py speed       720p, three faces, with encoding, and with one look in three
    python benchmarks/video.py between     how far off faces are in frames that are not looked at
    python benchmarks/video.py fusion      errors, intervals and flicker of 30-frame tracks, against single frames
    python benchmarks/video.py crossings   identity switches where two faces meet
    python benchmarks/video.py live        from the browser's frame to the drawn label; needs Chromium and playwright
    python benchmarks/video.py memory      resident memory over a 30-minute clip of 25 frames a second

AGELENS_DATA is the folder of labels.csv, AGELENS_UNPACKED that of the unpacked packs. The margin by
which labels settle was chosen, by `video_margin.py`, on other packs.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from memory import read_resident
from PIL import Image
from video_between import measure_between
from video_fusion import measure_fusion
from video_material import CAMERAS, Pixels
from video_meetings import measure_meetings
from video_scenes import three_faces, write_clip


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


# --- memory --------------------------------------------------------------------------------------------------------


def repeat_clip(short: Path, path: Path, times: int, seconds: float) -> None:
    """The same pictures again and again, without coding them anew."""
    with av.open(str(path), "w") as out:
        stream = None
        for turn in range(times):
            with av.open(str(short)) as source:
                stream = stream or out.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(source.streams.video[0]):
                    if packet.dts is None:
                        continue
                    shift = round(Fraction(seconds).limit_denominator() * turn / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    out.mux(packet)


def measure_memory(options: argparse.Namespace) -> None:
    """Resident memory of a long run, and its growth after the first fifth."""
    width, height = (int(part) for part in options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        short, clip = Path(folder) / "minute.mp4", Path(folder) / "clip.mp4"
        write_clip(short, three_faces(60 * options.rate, size=(width, height)), options.rate, (width, height))
        repeat_clip(short, clip, options.minutes, 60.0)
        out = Path(folder) / "out.mp4"
        every = ["--every", str(options.every)]
        begin = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "agelens", "predict", str(clip), "-o", str(out), "--quiet", *every]
        )
        sizes = []
        while process.poll() is None:
            time.sleep(1)
            sizes += [size for size in [read_resident(process.pid)] if size]
        wall = time.monotonic() - begin
        with av.open(str(out)) as written:
            frames, rate = written.streams.video[0].frames, options.rate
        rest = np.asarray(sizes[len(sizes) // 5 : -1])
        slope = np.polyfit(np.linspace(0.2, 1, len(rest)), rest, 1)[0]
        tenths = ", ".join(f"{np.mean(part):.0f}" for part in np.array_split(np.asarray(sizes[:-1]), 10))
        print(
            f"{options.minutes} minutes, {width} x {height}, {frames} frames at {rate} a second written, one look in"
            f" {options.every}, {wall:.0f} s: most {max(sizes):.0f} MiB; mean of each tenth {tenths} MiB; growth after"
            f" the first fifth {slope:+.1f} MiB for the whole clip"
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
            page.wait_for_function("window.agelens?.last?.faces.length > 0", timeout=180_000)
            begin, parts, sizes = time.monotonic(), [], []
            frames = -page.evaluate("window.agelens.frames")
            while time.monotonic() - begin < options.seconds:
                page.evaluate("window.agelens.latencies.length = 0")
                page.wait_for_timeout(options.seconds * 1000 / 6)
                parts.append(page.evaluate("window.agelens.latencies"))
                sizes.append(read_resident(process.pid))
            frames += page.evaluate("window.agelens.frames")
            spent = time.monotonic() - begin
            browser.close()
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.stderr.close()
    every = np.concatenate([np.asarray(part) for part in parts])
    print(
        f"live, 720p with 3 faces, {options.seconds:.0f} s: median {np.median(every):.0f} ms from frame to label,"
        f" 95% within {np.percentile(every, 95):.0f} ms, {frames / spent:.1f} frames/s;"
        " medians of six parts:"
        f" {', '.join(f'{np.median(part):.0f}' for part in parts)}; memory of the server after each"
        f" {', '.join(f'{size:.0f}' for size in sizes)} MiB"
    )


def main() -> None:
    """Reads the command line."""
    measures: dict[str, Callable[[argparse.Namespace], None]] = {
        "speed": measure_speed,
        "between": lambda given: measure_between(given.frames, given.threads),
        "fusion": lambda given: measure_fusion(
            given.model, given.packs, given.cameras, given.tracks, given.threads, given.keep
        ),
        "crossings": lambda given: measure_meetings("utkface-test", given.crossings, 9, given.threads),
        "memory": measure_memory,
        "live": measure_live,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=measures)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--model", default="agelens-base")
    parser.add_argument("--tracks", type=int, default=60, help="of each pack")
    parser.add_argument("--packs", nargs="+", default=["utkface-test", "aaf-test"])
    parser.add_argument("--cameras", nargs="+", default=list(CAMERAS), choices=list(CAMERAS))
    parser.add_argument("--keep", type=Path, help="folder in which the looks of tracks are kept, and found again")
    parser.add_argument("--crossings", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=600.0, help="of the live page")
    parser.add_argument("--minutes", type=int, default=30, help="of the long clip")
    parser.add_argument("--rate", type=int, default=25, help="its frames a second")
    parser.add_argument("--size", default="320x240", help="its size")
    parser.add_argument("--every", type=int, default=10, help="it is looked at in one frame of so many")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    measures[options.what](options)


if __name__ == "__main__":
    main()
