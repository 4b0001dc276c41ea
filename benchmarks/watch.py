"""What this process and all below it use while something runs: processor time and memory, by quarters. Linux only."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LOOK = 0.5  # seconds between two looks at the processes


@dataclass
class Watch:
    """Looks at this process and all below it, as long as it is entered."""

    processor: dict[int, float] = field(default_factory=dict)
    memory: list[tuple[float, float]] = field(default_factory=list)
    marks: list[tuple[float, int]] = field(default_factory=list)
    used: list[tuple[float, float]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    driver: int = 0
    start: float = 0.0
    seconds: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self.start = time.perf_counter()
        self._before = read_processes(os.getpid())
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.start
        self._ended.set()
        self._thread.join()

    def mark(self, pictures: int) -> None:
        """Notes that so many more pictures are done, as long as their processes are still there to be looked at."""
        self.look()
        self.marks.append((time.perf_counter(), pictures))
        workers = sum(used for process, used in self.processor.items() if self._is_worker(process))
        self.used.append((sum(self.processor.values()), workers))

    def _is_worker(self, process: int) -> bool:
        name = self.names.setdefault(process, name_of(process))
        if "ray::IDLE" in name:  # which may become one
            del self.names[process]
        return "MapWorker" in name or "spawn_main" in name

    def look(self) -> None:
        found = read_processes(os.getpid())
        for process, (used, _) in found.items():
            self.processor[process] = used - self._before.get(process, (0.0, 0))[0]
        held = sum(memory for process, (_, memory) in found.items() if process != os.getpid())
        self.driver = max(self.driver, found[os.getpid()][1])
        self.memory.append((time.perf_counter(), held / 2**20))

    def _look(self) -> None:
        while not self._ended.wait(LOOK):
            self.look()

    def figures(self) -> dict[str, object]:
        """Rates in pictures a second, milliseconds of processor time a picture, and megabytes."""
        count = sum(pictures for _, pictures in self.marks)
        first, last = self.marks[0], self.marks[-1]
        quarters: list[list[float]] = [[], [], [], []]
        for at, held in self.memory:
            share = (at - first[0]) / max(last[0] - first[0], 1e-9)
            if 0 <= share <= 1:
                quarters[min(int(4 * share), 3)].append(held)
        steady = max(last[0] - first[0], 1e-9)
        return {
            "pictures": count,
            "whole": round(count / self.seconds, 2),
            "steady": round((count - first[1]) / steady, 2),
            "seconds": round(self.seconds, 1),
            "until_first": round(first[0] - self.start, 1),
            "processor": round(1000 * sum(self.processor.values()) / count, 3),
            "processor_steady": self._steady(0),
            "processor_steady_of_workers": self._steady(1),
            "driver": round(self.driver / 2**20),
            "memory": [round(max(part)) if part else None for part in quarters],
        }

    def _steady(self, which: int) -> float:
        pictures = sum(count for _, count in self.marks[1:])
        return round(1000 * (self.used[-1][which] - self.used[0][which]) / max(pictures, 1), 3)


def read_processes(root: int) -> dict[int, tuple[float, int]]:
    """Seconds of processor time and bytes held for itself, of a process and all below it."""
    found: dict[int, tuple[int, float, int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            memory = (folder / "statm").read_text().split()
        except OSError:
            continue
        used = (int(fields[11]) + int(fields[12])) / TICK
        found[int(folder.name)] = (int(fields[1]), used, (int(memory[1]) - int(memory[2])) * PAGE)
    wanted, grown = {root}, True
    while grown:
        more = {process for process, (parent, _, _) in found.items() if parent in wanted} | wanted
        grown, wanted = len(more) > len(wanted), more
    return {process: found[process][1:] for process in wanted if process in found}


def name_of(process: int) -> str:
    """The command line of a process."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
