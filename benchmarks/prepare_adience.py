"""How long does `agelens prepare adience` take at Adience's own size, and how much memory?

Makes up a set of 19,370 pictures in Adience's layout (the true fold files; the pictures from the packs of the data
folder), then compares decoding and scaling every picture alone, on as many threads as `prepare` uses, with `prepare`
to a manifest and to an `.h5`. Everything runs in a process of its own and is measured by clock and processor: on
a machine that does other things too, believe the latter. Memory is the most that the process had resident.

    AGELENS_DATA=../shared/data python benchmarks/prepare_adience.py [--pictures N] [--outputs parquet h5]
    python benchmarks/prepare_adience.py --keep /tmp/made  # makes the set up once, to measure on it again later
    python benchmarks/prepare_adience.py --side 0          # the packs' own pictures, as small as they are
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from memory import read_peak

from agelens.cores import count_cores

PACKS = ("utkface-train.tar", "fairface-train.tar")
SIZE = 227
WHOLE = 19_370


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of the clock and of the processors, and MB of resident memory at most, of a process."""

    clock: float
    processor: float
    megabytes: float


def make_up(data: Path, folder: Path, most: int, side: int = 0) -> None:
    """Write the set, as JPEGs of so many pixels where `side` says so.

    No two pictures are equal, so nothing is cheaper than in a real set.
    """
    folder.mkdir(parents=True)
    pictures = _pictures(data)
    left = most
    for fold in range(5):
        source = data / "adience-folds" / f"fold_{fold}_data.txt"
        head, *lines = source.read_text().splitlines()
        # A smaller set takes its share of every fold.
        lines = lines[: max(round(len(lines) * most / WHOLE), 1)][: max(left, 0)]
        left -= len(lines)
        (folder / source.name).write_text("\n".join([head, *lines]) + "\n")
        for line in lines:
            user, image, face = line.split("\t")[:3]
            place = folder / "faces" / user / f"coarse_tilt_aligned_face.{face}.{image}"
            place.parent.mkdir(parents=True, exist_ok=True)
            content = next(pictures)
            place.write_bytes(enlarge(content, side) if side else content)


def _pictures(data: Path) -> Iterator[bytes]:
    for pack in PACKS:
        with tarfile.open(data / pack) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None and member.name.endswith(".webp"):
                    yield file.read()


def enlarge(content: bytes, side: int) -> bytes:
    """A picture as a JPEG of another size."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def decode_and_scale(path: Path) -> None:
    """What no preparation can do without; by the filters that `prepare` takes, of which one costs twice the other."""
    from PIL import Image

    with Image.open(path) as image:
        method = Image.Resampling.BOX if max(image.size) > SIZE else Image.Resampling.BILINEAR
        image.convert("RGB").resize((SIZE, SIZE), method)


def work_alone(folder: Path, _: Path | None) -> None:
    """Decodes and scales all pictures."""
    paths = sorted((folder / "faces").rglob("*.jpg"))
    with ThreadPoolExecutor(min(count_cores(), 8)) as pool:
        for _done in pool.map(decode_and_scale, paths, chunksize=1):
            pass


def work_prepare(folder: Path, output: Path | None) -> None:
    """`agelens prepare adience`, all of it."""
    from agelens.cli.prepare import app

    app(["adience", str(folder), "-o", str(output), "--allow-leak", "--quiet"], standalone_mode=False)


def measure(work: Callable[[Path, Path | None], None], folder: Path, output: Path | None = None) -> Cost:
    """What some work costs in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(work, folder, output, sender))
    process.start()
    cost: Cost = receiver.recv()
    process.join()
    return cost


def _report(work: Callable[[Path, Path | None], None], folder: Path, output: Path | None, sender: Connection) -> None:
    began = time.perf_counter()
    work(folder, output)
    clock = time.perf_counter() - began
    sender.send(Cost(clock, time.process_time(), read_peak()))


def main() -> None:
    """Run and write a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=WHOLE)
    parser.add_argument("--side", type=int, default=816, help="JPEGs of so many pixels; 0: the packs' own, about 200")
    parser.add_argument("--outputs", nargs="+", default=["parquet", "jsonl", "h5"], choices=["parquet", "jsonl", "h5"])
    parser.add_argument("--keep", type=Path, help="folder of the made-up set, which stays")
    options = parser.parse_args()
    data = Path(os.environ.get("AGELENS_DATA", "../shared/data"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)) / f"adience-{options.pictures}-{options.side}"
        if not folder.is_dir():
            make_up(data, folder, options.pictures, options.side)
        count = sum(1 for _ in (folder / "faces").rglob("*.jpg"))
        before = measure(work_alone, folder)
        rows = [(name, measure(work_prepare, folder, Path(temporary) / f"out.{name}")) for name in options.outputs]
        after = measure(work_alone, folder)
    # The mean of before and after: what the machine does beside it may grow or shrink meanwhile.
    clock, processor = (before.clock + after.clock) / 2, (before.processor + after.processor) / 2
    lines = [
        f"| {count:,} pictures, {min(count_cores(), 8)} threads | s | x alone | s of processor | x alone | MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        f"| decode and scale alone | {clock:.1f} | 1 | {processor:.1f} | 1 | {after.megabytes:.0f} |",
    ]
    for name, cost in rows:
        shares = (
            f"{cost.clock:.1f} | {cost.clock / clock:.2f} | {cost.processor:.1f} | {cost.processor / processor:.2f}"
        )
        lines.append(f"| prepare to .{name} | {shares} | {cost.megabytes:.0f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
