"""What `agelens serve` reaches, measured on real processes: load, memory, overload, and the end under load.

load      parallel clients on kept-open connections send JPEG photos of one megapixel for a while; `predict` works on
          the same pictures in a process of its own, in turns with that. Every answer is compared with the record that
          `agelens predict` gives for that picture.
memory    many requests one after another; the slope of the server's resident memory after a warm-up.
overload  four times as many pictures as the queue holds are sent at once, again and again: the surplus is told 429,
          what is accepted is answered, and afterwards a single request takes no longer than before.
drain     SIGTERM in the middle of load: every request on an accepted connection is answered.

The clients run on the same cores as the server, as it is asked for; what they burn is told. Pictures come from the
counted photos of AGELENS_DATA.

Run: `python benchmarks/server.py [--only load] [--seconds 60] [--clients 32] [--requests 10000]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from memory import read_resident
from photos import read_photos, scale_to

from agelens.analyzer import Analyzer

PARTS = ("load", "memory", "overload", "drain")


def make_photos(archive: Path, folder: Path) -> list[Path]:
    """JPEG photos of one megapixel, scaled from the counted ones of the pack."""
    photos = [photo.open() for photo in read_photos(archive) if photo.faces]
    paths = []
    for index, photo in enumerate(photo for photo in photos if max(photo.size) >= 1000):
        paths.append(folder / f"{index:03d}.jpg")
        scale_to(photo, 1e6).save(paths[-1], quality=90)
    return paths


@dataclass
class Server:
    """A server process."""

    process: subprocess.Popen[str]
    port: int

    @classmethod
    def start(cls, *arguments: str) -> Server:
        """Starts it and waits until it is ready."""
        command = [sys.executable, "-m", "agelens", "serve", "--port", "0", "--quiet", *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        line = process.stderr.readline()
        if "http://" not in line:
            raise SystemExit(f"the server did not start: {line}{process.stderr.read()}")
        return cls(process, int(line.split("http://127.0.0.1:")[1].split()[0]))

    def cpu(self) -> float:
        """Seconds of processor time."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> tuple[int, str]:
        """Its exit status and what else it said."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@dataclass
class Tally:
    """What clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    lost: int = 0
    refused: int = 0

    @property
    def answered(self) -> int:
        return self.statuses[200]

    def add(self, other: Tally) -> None:
        """Adds what others saw."""
        self.statuses += other.statuses
        self.seconds += other.seconds
        self.wrong += other.wrong
        self.lost += other.lost
        self.refused += other.refused

    def quantile(self, share: float) -> float:
        """Seconds."""
        return float(np.quantile(self.seconds, share)) if self.seconds else float("nan")


def make_request(data: bytes) -> bytes:
    """A whole request, ready to be sent."""
    head = ["POST /v1/predict HTTP/1.1", "Host: 127.0.0.1", "Content-Type: image/jpeg", f"Content-Length: {len(data)}"]
    return "\r\n".join([*head, "", ""]).encode() + data


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection stays open.

    Raises:
        EOFError: The connection closed without an answer.
        OSError: It broke.
    """
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    return int(head[9:12]), body, b"connection: close" not in lower


async def client(port: int, work: list[tuple[bytes, bytes]], first: int, until: list[float], tally: Tally) -> None:
    """Sends one request after another until the time `until[0]`; `work` holds requests and the right bodies."""
    number = first
    while time.perf_counter() < until[0]:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        except OSError:
            tally.refused += 1
            return
        stays = True
        while stays and time.perf_counter() < until[0]:
            request, right = work[number % len(work)]
            number += 1
            began = time.perf_counter()
            try:
                status, body, stays = await ask(reader, writer, request)
            except (EOFError, OSError):
                tally.lost += 1
                break
            tally.statuses[status] += 1
            if status == 200:
                tally.seconds.append(time.perf_counter() - began)
                tally.wrong += body != right
            elif status == 429:
                await asyncio.sleep(0.05)
        writer.close()


async def drive(port: int, work: list[tuple[bytes, bytes]], clients: int, until: list[float]) -> Tally:
    """Runs the clients to their end."""
    tally = Tally()
    await asyncio.gather(*(client(port, work, n * 7, until, tally) for n in range(clients)))
    return tally


def run(coroutine: Coroutine[None, None, Tally]) -> Tally:
    """On the fastest loop there is, so that clients cost little."""
    import uvloop

    return uvloop.run(coroutine)


def predict_rate(folder: Path, seconds: float, threads: int) -> tuple[float, float]:
    """What `agelens predict` runs, in a process of its own: pictures a second, and CPU milliseconds for each."""
    command = [sys.executable, __file__, "--stream", str(folder), "--seconds", str(seconds), "--threads", str(threads)]
    rate, cost = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(rate), float(cost)


def stream(folder: Path, seconds: float, threads: int) -> None:
    """What `predict_rate` starts."""
    paths = sorted(folder.glob("*.jpg"))
    analyzer = Analyzer(threads=threads)
    until = [float("inf")]

    def endless() -> Iterator[Path]:
        while time.perf_counter() < until[0]:
            yield from paths

    list(analyzer.stream(paths[:8]))
    began, spent = time.perf_counter(), time.process_time()
    until[0] = began + seconds
    count = sum(1 for _ in analyzer.stream(endless()))
    print(count / (time.perf_counter() - began), 1000 * (time.process_time() - spent) / count)


def records_of(paths: list[Path], threads: int) -> list[dict[str, object]]:
    """What the command says of each picture."""
    command = [sys.executable, "-m", "agelens", "predict", *map(str, paths), "--format", "jsonl", "--quiet"]
    command += ["--threads", str(threads)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line) | {"source": "bytes"} for line in lines]


async def single_time(port: int, work: list[tuple[bytes, bytes]], count: int = 24) -> float:
    """Median seconds of one request at a time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    times = []
    for number in range(count):
        began = time.perf_counter()
        await ask(reader, writer, work[number % len(work)][0])
        times.append(time.perf_counter() - began)
    writer.close()
    return statistics.median(times)


def prepare(paths: list[Path], threads: int) -> list[tuple[bytes, bytes]]:
    """Requests, and the bodies that the command's records promise."""
    records = records_of(paths, threads)
    bodies = [json.dumps(record, ensure_ascii=False).encode() for record in records]
    return [(make_request(path.read_bytes()), body) for path, body in zip(paths, bodies, strict=True)]


def measure_load(folder: Path, work: list[tuple[bytes, bytes]], chosen: argparse.Namespace) -> None:
    """Throughput, latency, and whether all answers are right; in turns with `predict`."""
    server = Server.start("--threads", str(chosen.threads))
    run(drive(server.port, work, chosen.clients, [time.perf_counter() + 1]))
    total, rates, singles = Tally(), [], []
    wall = server_cpu = own_cpu = 0.0
    for _ in range(chosen.turns):
        rates.append(predict_rate(folder, chosen.seconds / chosen.turns / 2, chosen.threads))
        singles.append(asyncio.run(single_time(server.port, work)))
        spent, own, began = server.cpu(), time.process_time(), time.perf_counter()
        tally = run(drive(server.port, work, chosen.clients, [began + chosen.seconds / chosen.turns]))
        wall += time.perf_counter() - began
        server_cpu, own_cpu = server_cpu + server.cpu() - spent, own_cpu + time.process_time() - own
        total.add(tally)
    batches = read_batches(server.port)
    server.stop()
    rate, ours, single = statistics.mean(rate for rate, _ in rates), total.answered / wall, statistics.median(singles)
    theirs, cost = statistics.mean(cost for _, cost in rates), 1000 * server_cpu / total.answered
    print(f"load: {chosen.clients} clients, {wall:.0f} s, {total.answered:,} answers, {dict(total.statuses)}")
    shown = ", ".join(f"{rate:.1f}" for rate, _ in rates)
    print(f"  throughput      {ours:.1f}/s; predict {shown}/s -> {ours / rate:.1%}")
    print(
        f"  CPU a picture   {cost:.1f} ms; predict {theirs:.1f} ms -> {theirs / cost:.1%}; clients {own_cpu / wall:.1%}"
    )
    print(f"  single request  {1000 * single:.1f} ms (median)")
    print(f"  latency         p50 {total.quantile(0.5):.3f} s, p99 {total.quantile(0.99):.3f} s")
    print(f"  p99 / single    {total.quantile(0.99) / single:.1f} (at most {chosen.clients})")
    print(f"  wrong {total.wrong}, lost {total.lost}; {batches}")


def read_batches(port: int) -> str:
    """How many pictures and faces went into one call of the network."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#"))
    calls = float(lines["agelens_batch_pictures_count"])
    means = [float(lines[f"agelens_batch_{what}_sum"]) / calls for what in ("pictures", "faces")]
    return f"a call of the network judges {means[1]:.1f} faces of {means[0]:.2f} pictures"


def measure_memory(work: list[tuple[bytes, bytes]], chosen: argparse.Namespace) -> None:
    """The slope of the resident memory over many requests."""
    server = Server.start("--threads", str(chosen.threads))
    points: list[tuple[int, float]] = []
    done = 0
    step = max(chosen.requests // 40, 1)

    async def work_on() -> Tally:
        nonlocal done
        total = Tally()
        while done < chosen.requests:
            counted = Tally()
            await asyncio.gather(*(some(counted, n) for n in range(8)))
            done += step
            points.append((done, read_resident(server.process.pid)))
            total.statuses += counted.statuses
            total.wrong += counted.wrong
        return total

    async def some(tally: Tally, first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 20)
        for number in range(first, step, 8):
            request, right = work[(done + number) % len(work)]
            status, body, _ = await ask(reader, writer, request)
            tally.statuses[status] += 1
            tally.wrong += body != right
        writer.close()

    tally = run(work_on())
    server.stop()
    counts, sizes = np.array(points[len(points) // 4 :], dtype=float).T
    slope = float(np.polyfit(counts, sizes, 1)[0]) * 1000
    print(f"memory: {tally.answered:,} answers, {tally.wrong} wrong")
    print(
        f"  resident        {sizes[0]:.0f} MB after a quarter, {sizes[-1]:.0f} MB at the end, most {sizes.max():.0f} MB"
    )
    print(f"  slope           {slope:+.3f} MB for 1,000 requests after the first quarter")


def measure_overload(work: list[tuple[bytes, bytes]], chosen: argparse.Namespace) -> None:
    """Four times as many clients as the queue has places."""
    queue = 32
    server = Server.start("--threads", str(chosen.threads), "--queue", str(queue))
    before = asyncio.run(single_time(server.port, work))
    usual = run(drive(server.port, work, queue, [time.perf_counter() + chosen.seconds / 4]))
    tally = run(drive(server.port, work, 4 * queue, [time.perf_counter() + chosen.seconds / 2]))
    began = time.perf_counter()
    after_first = asyncio.run(single_time(server.port, work, 1))
    recovery = time.perf_counter() - began
    after = asyncio.run(single_time(server.port, work))
    server.stop()
    print(f"overload: {4 * queue} clients on a queue of {queue}, {dict(tally.statuses)}")
    print(f"  accepted        {tally.answered:,} answered, {tally.wrong} wrong, {tally.lost} lost")
    print(f"  p99 of accepted {tally.quantile(0.99):.3f} s ({usual.quantile(0.99):.3f} s with {queue} clients)")
    print(
        f"  single request  {1000 * before:.0f} ms before, {1000 * after_first:.0f} ms the first after"
        f" (answered {recovery:.2f} s later), {1000 * after:.0f} ms then"
    )


def measure_drain(work: list[tuple[bytes, bytes]], chosen: argparse.Namespace) -> None:
    """SIGTERM while all clients are busy."""
    total = Tally()
    for number in range(chosen.rounds):
        workers = 1 + number % 2
        server = Server.start("--threads", "1", "--workers", str(workers))
        until = [float("inf")]

        async def stop_in_between(server: Server = server, until: list[float] = until) -> Tally:
            async def strike() -> None:
                await asyncio.sleep(1.5)
                server.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(20)
                until[0] = 0

            striking = asyncio.ensure_future(strike())
            tally = await drive(server.port, work, chosen.clients, until)
            striking.cancel()
            return tally

        tally = run(stop_in_between())
        status, said = server.stop()
        total.add(tally)
        if status:
            print(f"  exit status {status}: {said}")
    print(f"drain: {chosen.rounds} times SIGTERM under {chosen.clients} clients, one and two processes in turn")
    print(f"  {dict(total.statuses)}, {total.wrong} wrong, {total.lost} connections closed without an answer")


def main() -> None:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AGELENS_DATA", "../shared/data")))
    parser.add_argument("--stream", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.stream:
        stream(chosen.stream, chosen.seconds, chosen.threads)
        return
    with tempfile.TemporaryDirectory() as place:
        paths = make_photos(chosen.data / "photos.tar", Path(place))
        work = prepare(paths, chosen.threads)
        print(
            f"{len(paths)} photos, {sum(path.stat().st_size for path in paths) / len(paths) / 1000:.0f} kB on average"
        )
        if "load" in chosen.only:
            measure_load(Path(place), work, chosen)
        if "memory" in chosen.only:
            measure_memory(work, chosen)
        if "overload" in chosen.only:
            measure_overload(work, chosen)
        if "drain" in chosen.only:
            measure_drain(work, chosen)


if __name__ == "__main__":
    main()
