"""How long does `agelens prepare adience` take at Adience's own size, and how much memory?

Makes up a set of 19,370 pictures in Adience's layout (the true fold files; the pictures from the packs of the data
folder), then compares, on this machine: decoding and scaling every picture alone, on one thread and on as many as
`prepare` uses, with `prepare` to a manifest and to an `.h5`, each in a process of its own.

    AGELENS_DATA=../shared/data python benchmarks/prepare_adience.py
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

PACKS = ("utkface-train.tar", "fairface-train.tar")
SIZE = 227


def make_up(data: Path, folder: Path) -> int:
    """Write the set and return how many pictures it has; no two are equal, so nothing is cheaper than in a real set."""
    folder.mkdir()
    pictures = _pictures(data)
    count = 0
    for fold in range(5):
        source = data / "adience-folds" / f"fold_{fold}_data.txt"
        (folder / source.name).write_bytes(source.read_bytes())
        for line in source.read_text().splitlines()[1:]:
            user, image, face = line.split("\t")[:3]
            place = folder / "faces" / user / f"coarse_tilt_aligned_face.{face}.{image}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(next(pictures))
            count += 1
    return count


def _pictures(data: Path) -> Iterator[bytes]:
    for pack in PACKS:
        with tarfile.open(data / pack) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None and member.name.endswith(".webp"):
                    yield file.read()


def decode_and_scale(path: Path) -> None:
    """What no preparation can do without."""
    from PIL import Image

    with Image.open(path) as image:
        image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)


def time_alone(folder: Path, threads: int) -> float:
    """Seconds to decode and scale all pictures on so many threads."""
    paths = sorted((folder / "faces").rglob("*.jpg"))
    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode_and_scale, paths):
            pass
    return time.perf_counter() - begun


def time_prepare(folder: Path, output: Path) -> tuple[float, float]:
    """Seconds and MB of resident memory at most, of `agelens prepare` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_prepare, args=(folder, output, sender))
    begun = time.perf_counter()
    process.start()
    megabytes: float = receiver.recv()
    seconds = time.perf_counter() - begun
    process.join()
    return seconds, megabytes


def _prepare(folder: Path, output: Path, sender: Connection) -> None:
    from agelens.cli.prepare import app

    app(["adience", str(folder), "-o", str(output), "--allow-leak", "--quiet"], standalone_mode=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sender.send(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def main() -> None:
    """Run and write a Markdown table."""
    data = Path(os.environ.get("AGELENS_DATA", "../shared/data"))
    threads = min(len(os.sched_getaffinity(0)), 8)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "adience"
        count = make_up(data, folder)
        time_alone(folder, threads)  # once for the disk's cache
        one, several = time_alone(folder, 1), time_alone(folder, threads)
        rows = [("decode and scale alone, 1 thread", one, ""), (f"the same, {threads} threads", several, "")]
        for name in ("adience.parquet", "adience.jsonl", "adience.h5"):
            seconds, megabytes = time_prepare(folder, Path(temporary) / name)
            rows.append((f"prepare to {name}", seconds, f"{megabytes:.0f}"))
    lines = [f"| {count:,} pictures | s | x 1 thread alone | x {threads} threads alone | MB |", "|---|---|---|---|---|"]
    for name, seconds, memory in rows:
        lines.append(f"| {name} | {seconds:.1f} | {seconds / one:.2f} | {seconds / several:.2f} | {memory} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
