"""How long a command takes from nothing to its last line, against a bare Python that loads the same libraries.

    python benchmarks/startup.py [--runs N] [--require]

- `import agelens`: at most 30 ms more than a Python that does nothing;
- `agelens --version`: at most 0.15 s;
- `agelens predict` of the photo that ships: at most 1.6 times a Python that imports numpy, PIL and onnxruntime and
  opens the two model files, and at most 0.6 s.

Runs take turns, so that what else the machine does falls on all alike; medians are compared. The figures come as JSON
on standard output. `--require`: exit status 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import resources

from agelens.zoo import list_shipped

IMPORT_SECONDS = 0.03
VERSION_SECONDS = 0.15
PREDICT_SECONDS = 0.6
PREDICT_RATIO = 1.6


def measure(commands: dict[str, Sequence[str]], runs: int) -> dict[str, list[float]]:
    """Wall-clock seconds of each run of each command, taken in turns after one run that warms the disk's cache."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--require", action="store_true")
    arguments = parser.parse_args()
    files = [str(resources.files("agelens.models").joinpath(model.file)) for model in list_shipped()]
    photo = str(resources.files("agelens").joinpath("examples", "astronaut.jpg"))
    bare = f"import numpy, PIL.Image, onnxruntime; [onnxruntime.InferenceSession(file) for file in {files!r}]"
    seconds = measure(
        {
            "python": ["-c", "pass"],
            "import": ["-c", "import agelens"],
            "version": ["-m", "agelens", "--version"],
            "bare": ["-c", bare],
            "predict": ["-m", "agelens", "predict", photo],
        },
        arguments.runs,
    )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    # Neighbours in time are compared, so that a slow minute counts on both sides.
    ratio = statistics.median(one / two for one, two in zip(seconds["predict"], seconds["bare"], strict=True))
    importing = statistics.median(one - two for one, two in zip(seconds["import"], seconds["python"], strict=True))
    figures = {
        "import_over_python": round(importing, 4),
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "fastest": {name: round(min(values), 4) for name, values in seconds.items()},
        "predict_to_bare": round(ratio, 3),
        "fastest_predict_to_bare": round(min(seconds["predict"]) / min(seconds["bare"]), 3),
        "runs": arguments.runs,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    print(json.dumps(figures, indent=2))
    missed = {
        f"import {importing:.3f} s over Python, at most {IMPORT_SECONDS}": importing > IMPORT_SECONDS,
        f"version {medians['version']:.2f} s, at most {VERSION_SECONDS}": medians["version"] > VERSION_SECONDS,
        f"predict {medians['predict']:.2f} s, at most {PREDICT_SECONDS}": medians["predict"] > PREDICT_SECONDS,
        f"predict {ratio:.2f} times bare, at most {PREDICT_RATIO}": ratio > PREDICT_RATIO,
    }
    if arguments.require and any(missed.values()):
        sys.exit("missed: " + "; ".join(what for what, is_missed in missed.items() if is_missed))


if __name__ == "__main__":
    main()
