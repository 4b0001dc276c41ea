"""What Ray costs: `agelens batch` beside a plain pool of processes on the same pictures, its memory, what survives.

    python benchmarks/batch.py [--pictures 10000] [--workload chips|web|phone|crowd] [--actors N] [--rounds N]
    python benchmarks/batch.py --scale     one process, two, and two local nodes of a cluster with one each
    python benchmarks/batch.py --cost      what a picture of each workload costs
    python benchmarks/batch.py --plan      what a run costs but for its pictures
    python benchmarks/batch.py --kill      kill -9 of a worker, then of the driver, and what is there after --resume

The pictures are those of `workloads.py` under as many names as asked for. The pool is `multiprocessing` with as many
processes, each with an `Analyzer` of one thread, which write the same partitions; it has neither a plan nor retries.
Both run in turns. `whole` counts from nothing to the last file, with the start of Python, of Ray and of the models;
`steady` from the first finished partition to the last. `processor` is what all processes of either side used
together, Ray's own too, in milliseconds a picture; `processor_steady` from the first finished partition to the last,
and `processor_steady_of_workers` what of that is not Ray's own. Where the machine does other things beside, their
ratios are the ones to trust. Memory is what all processes but the first hold for themselves, at most, in each quarter
of the run, in MB; `driver` is that of the first.

`--root DIR` is where the pictures and results go (by default a temporary folder that is removed). Needs the extras
`batch` and `train`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
from watch import Watch, name_of, read_processes

from agelens.analyzer import Analyzer, count_cores
from agelens.batch import BatchJob, plan_run
from agelens.batch.engine import Pool, run_partitions, start_ray
from agelens.batch.inputs import InputOptions
from agelens.serialise import open_writer

COSTS = {"chips": 1000, "web": 200, "phone": 60, "crowd": 40}
"""Pictures of each workload whose cost is measured."""
LISTED = 100_000
"""Files that are listed."""

_analyzer: Analyzer | None = None


def make_names(workload: str, count: int, data: Path, root: Path) -> Path:
    """A folder with so many names of the pictures of a workload."""
    from workloads import make_pictures  # imports torch, which the pool's processes shall not

    originals = make_pictures(workload, data, root / "originals")
    folder = root / "pictures"
    for index in range(count):
        if index % 1000 == 0:
            part = folder / f"{index // 1000:04d}"
            part.mkdir(parents=True)
        original = originals[index % len(originals)]
        os.link(original, part / f"{index:07d}{original.suffix}")
    return folder


def open_pool_analyzer() -> None:
    """What each process of the pool does first."""
    global _analyzer
    _analyzer = Analyzer(threads=1)


def do_chunk(task: tuple[int, list[str], str]) -> int:
    """What each process of the pool does with each chunk: a partition of its own."""
    number, paths, out = task
    assert _analyzer is not None
    with open_writer(Path(out) / f"part-{number:05d}.parquet") as writer:
        for report in _analyzer.stream(paths):
            writer.write(report)
    return len(paths)


def run_pool(folder: Path, out: Path, size: int, processes: int) -> Watch:
    """The plain pool."""
    with Watch() as watch:
        out.mkdir()
        paths = sorted(str(path) for path in folder.glob("*/*"))
        chunks = [(at // size, paths[at : at + size], str(out)) for at in range(0, len(paths), size)]
        with multiprocessing.get_context("spawn").Pool(processes, open_pool_analyzer) as pool:
            for count in pool.imap_unordered(do_chunk, chunks):
                watch.mark(count)
            watch.look()
    return watch


def run_ray(folder: Path, out: Path, size: int, pool: Pool) -> Watch:
    """The room `batch`, as the command runs it."""
    with Watch() as watch, plan_run(BatchJob(str(folder), str(out), InputOptions(size))) as planned, start_ray(pool):
        for outcome in run_partitions(planned.work, planned.todo, pool):
            watch.mark(outcome.pictures)
        watch.look()
        planned.complete()
    return watch


def compare(folder: Path, root: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Both in turns, and the ratios."""
    sides: dict[str, list[Watch]] = {"pool": [], "ray": []}
    for turn in range(arguments.rounds):
        order = list(sides) if turn % 2 == 0 else list(sides)[::-1]
        for side in order:
            out = root / f"{side}{turn}"
            if side == "pool":
                sides[side].append(run_pool(folder, out, arguments.partition_size, arguments.actors))
            else:
                sides[side].append(run_ray(folder, out, arguments.partition_size, Pool(arguments.actors)))
    for turn in range(arguments.rounds):
        pool, ray = (pq.read_table(root / f"{side}{turn}") for side in sides)
        if not pool.equals(ray):
            raise SystemExit("the two sides gave different rows")
    figures: dict[str, object] = {side: [watch.figures() for watch in watches] for side, watches in sides.items()}
    pairs = list(zip(sides["pool"], sides["ray"], strict=True))
    for name in ("whole", "steady", "processor", "processor_steady", "processor_steady_of_workers"):
        ratios = [_ratio(name, pool.figures(), ray.figures()) for pool, ray in pairs]
        figures[f"ray_to_pool_{name}"] = round(statistics.median(ratios), 3)
    return figures


def _ratio(name: str, pool: dict[str, object], ray: dict[str, object]) -> float:
    one, other = float(str(pool[name])), float(str(ray[name]))
    return one / other if name.startswith("processor") else other / one


def scale(folder: Path, root: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """One process, two, and two nodes with one each, from fresh processes, as Ray keeps what it started with."""
    figures = {}
    names = ("1 process", "2 processes", "2 nodes")
    for name in names:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
            figures[name] = child.submit(run_side, name, folder, root / name, arguments.partition_size).result()
    tables = [pq.read_table(root / name) for name in names]
    if not tables[0].equals(tables[1]) or not tables[0].equals(tables[2]):
        raise SystemExit("the sides gave different rows")
    return dict(figures)


def cost(root: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Each workload in turn: processor time, bytes that are read and bytes that are written, for each picture."""
    figures: dict[str, object] = {}
    pool = Pool(arguments.actors)
    folders = {
        workload: make_names(workload, count, arguments.data, root / workload) for workload, count in COSTS.items()
    }
    with start_ray(pool):
        for workload, count in COSTS.items():
            out = root / workload / "out"
            job = BatchJob(str(folders[workload]), str(out), InputOptions(count // 20))
            with Watch() as watch, plan_run(job) as planned:
                for outcome in run_partitions(planned.work, planned.todo, pool):
                    watch.mark(outcome.pictures)
                watch.look()
            rows = pq.read_table(out, columns=["face"]).num_rows
            read = sum(path.stat().st_size for path in folders[workload].glob("*/*")) / count
            written = sum(path.stat().st_size for path in out.glob("part-*")) / count
            figures[workload] = {
                "pictures": count,
                "rows": round(rows / count, 2),
                "bytes_read": round(read),
                "bytes_written": round(written),
                "milliseconds": watch.figures()["processor_steady_of_workers"],
            }
    return figures


def planning(root: Path) -> dict[str, object]:
    """What a run costs but for its pictures: listing, listing again, and what the driver does for each partition."""
    source, out = root / "in", root / "out"
    for index in range(LISTED):
        if index % 1000 == 0:
            (source / f"{index // 1000:04d}").mkdir(parents=True)
        (source / f"{index // 1000:04d}" / f"{index:07d}.jpg").touch()
    start = time.process_time()
    with plan_run(BatchJob(str(source), str(out), InputOptions(1000))) as planned:
        listed = time.process_time() - start
    listing = out / "_agelens" / planned.partitions[0].listing
    start = time.process_time()
    with plan_run(BatchJob(str(source), str(out), InputOptions(1000), mode="resume")):
        again = time.process_time() - start
    small = BatchJob(str(source / "0000"), str(root / "small"), InputOptions(2))
    with plan_run(small) as planned, start_ray(Pool(1)):
        outcomes = run_partitions(planned.work, planned.todo, Pool(1))
        next(outcomes)
        start = time.process_time()
        count = sum(1 for _ in outcomes)
        driver = time.process_time() - start
    metadata = pq.read_metadata(listing)
    return {
        "listing_microseconds_a_picture": round(1e6 * listed / LISTED, 1),
        "listing_bytes_a_picture": round(listing.stat().st_size / LISTED, 2),
        "footer_bytes_a_partition": round(metadata.serialized_size / metadata.num_row_groups),
        "resume_microseconds_a_picture": round(1e6 * again / LISTED, 1),
        "driver_milliseconds_a_partition": round(1000 * driver / count, 2),
    }


def run_side(name: str, folder: Path, out: Path, size: int) -> dict[str, object]:
    """One of the sides of `scale`."""
    if name == "2 nodes":
        with two_nodes() as address:
            return run_ray(folder, out, size, Pool(2, address=address)).figures()
    return run_ray(folder, out, size, Pool(1 if name == "1 process" else 2)).figures()


@contextmanager
def two_nodes() -> Iterator[str]:
    """A cluster of two nodes on this machine, with one core each."""
    os.environ.update({"RAY_worker_niceness": "0"})  # as `start_ray` does; Ray reads it in lower case
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


def kill(folder: Path, root: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Kill -9 of a worker after a fifth, of the driver after two fifths, and `--resume`."""
    out = root / "killed"
    size = arguments.partition_size
    command = [sys.executable, "-m", "agelens", "batch", str(folder), str(out), "--partition-size", str(size), "-q"]
    command += ["--actors", str(arguments.actors)]
    partitions = -(-arguments.pictures // size)
    first = subprocess.Popen(command)
    wait_for(lambda: len(list(out.glob("part-*"))) >= max(partitions // 5, 1) or first.poll() is not None)
    workers = [process for process in read_processes(first.pid) if "MapWorker" in name_of(process)]
    os.kill(workers[0], signal.SIGKILL)
    wait_for(lambda: len(list(out.glob("part-*"))) >= 2 * partitions // 5 or first.poll() is not None)
    first.kill()
    first.wait()
    left = len(list(out.glob("part-*")))
    status = subprocess.run([*command, "--resume"], check=False).returncode
    rows = pq.read_table(out, columns=["source", "face", "error_code"]).to_pylist()
    pictures = [row["source"] for row in rows if not row["face"]]
    expected = sorted(str(path) for path in folder.glob("*/*"))
    return {
        "pictures": len(expected),
        "partitions": partitions,
        "partitions_before_resume": left,
        "status": status,
        "lost": len(set(expected) - set(pictures)),
        "twice": len(pictures) - len(set(pictures)),
        "errors": sum(row["error_code"] is not None for row in rows),
    }


def wait_for(what: Callable[[], bool]) -> None:
    """Waits."""
    while not what():
        time.sleep(0.05)


def main() -> None:
    """Measures and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AGELENS_DATA", "../shared/data")))
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--workload", default="chips", choices=("chips", "web", "phone", "crowd"))
    parser.add_argument("--actors", type=int, default=count_cores())
    parser.add_argument("--partition-size", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--kill", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.root) as temporary:
        root = Path(temporary)
        if arguments.cost:
            figures = cost(root, arguments)
        elif arguments.plan:
            figures = planning(root)
        else:
            folder = make_names(arguments.workload, arguments.pictures, arguments.data, root)
            measure = scale if arguments.scale else kill if arguments.kill else compare
            figures = measure(folder, root, arguments)
    about = {"workload": arguments.workload, "actors": arguments.actors, "partition_size": arguments.partition_size}
    sys.stdout.write(json.dumps({**about, "cores": count_cores(), **figures}) + "\n")


if __name__ == "__main__":
    main()
