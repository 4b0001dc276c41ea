"""What a server counts, for Prometheus: one row of numbers for each process, in memory that all of them see.

Whichever process is asked gives the sums over all. A process that takes the place of a dead one goes on in its row, so
no counter falls. Nothing is counted by client, by name or by picture.
"""

from __future__ import annotations

import bisect
import os
import threading
from collections.abc import Iterator, MutableSequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from agelens import __version__, errors

if TYPE_CHECKING:
    from agelens.types import Report

PATHS: Final = (
    *("/v1/predict", "/v1/annotate", "/v1/models", "/healthz", "/readyz", "/metrics", "/openapi.json"),
    *("page", "other"),
)
STATUSES: Final = (200, 304, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 429, 499, 500, 502, 503)
TIMED: Final = ("/v1/predict", "/v1/annotate")
SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCHES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
OTHER: Final = "other"


def _list_codes() -> tuple[str, ...]:
    kinds = [errors.InputError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    return tuple(dict.fromkeys(kind.code for kind in kinds))


OUTCOMES: Final = ("ok", "no_face", *_list_codes(), OTHER)

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """Numbers of one name: counters, gauges, or a histogram with its buckets, sum and count."""

    name: str
    kind: str
    help: str
    labels: tuple[Labels, ...] = ((),)
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Cells for one set of labels."""
        return len(self.bounds) + 2 if self.bounds else 1


FAMILIES: Final = (
    Family(
        "agelens_requests_total",
        "counter",
        "Requests answered, by path and status.",
        tuple((("path", path), ("status", str(status))) for path in PATHS for status in STATUSES),
    ),
    Family(
        "agelens_request_seconds",
        "histogram",
        "Seconds from the head of a request to the end of its answer.",
        tuple((("path", path),) for path in TIMED),
        SECONDS,
    ),
    Family(
        "agelens_pictures_total",
        "counter",
        "Pictures worked on, by outcome: ok, no_face, or the code of the error.",
        tuple((("outcome", outcome),) for outcome in OUTCOMES),
    ),
    Family("agelens_faces_total", "counter", "Faces found."),
    Family("agelens_received_bytes_total", "counter", "Bytes of pictures received."),
    Family("agelens_batch_pictures", "histogram", "Pictures judged in one call of the network.", bounds=BATCHES),
    Family("agelens_batch_faces", "histogram", "Faces judged in one call of the network.", bounds=BATCHES),
    Family("agelens_queue_pictures", "gauge", "Pictures that arrive, wait, or are worked on."),
    Family("agelens_queue_bytes", "gauge", "Bytes that they hold."),
    Family("agelens_ready", "gauge", "Processes that take requests on."),
)
GAUGES: Final = tuple(family.name for family in FAMILIES if family.kind == "gauge")

_CELLS: dict[tuple[str, Labels], int] = {}
_WIDTH = 1  # the first cell of a row holds the process id
for _family in FAMILIES:
    for _labels in _family.labels:
        _CELLS[_family.name, _labels] = _WIDTH
        _WIDTH += _family.width


@dataclass(slots=True)
class Board:
    """The rows of all processes.

    Attributes:
        cells: Row by row.
        rows: How many there are.
    """

    cells: MutableSequence[float]
    rows: int

    @classmethod
    def shared(cls, processes: int) -> Board:
        """One that is handed to processes as they are started."""
        return cls(cast("MutableSequence[float]", get_context("spawn").RawArray("d", processes * _WIDTH)), processes)

    def claim(self, row: int) -> None:
        """Takes a row over: what was counted stays, what stood at a level is zero."""
        self.cells[row * _WIDTH] = os.getpid()
        for name in GAUGES:
            self.cells[row * _WIDTH + _CELLS[name, ()]] = 0.0

    def is_ready(self, row: int) -> bool:
        """Whether the process of a row took requests on when it was last heard of."""
        return self.cells[row * _WIDTH + _CELLS["agelens_ready", ()]] > 0

    def clear_ready(self, row: int) -> None:
        """Notes that the process of a row is gone."""
        self.cells[row * _WIDTH + _CELLS["agelens_ready", ()]] = 0.0

    def pids(self) -> Iterator[int]:
        """The process of each row that was taken."""
        for row in range(self.rows):
            if self.cells[row * _WIDTH]:
                yield int(self.cells[row * _WIDTH])

    def total(self, cell: int) -> float:
        """The sum of one cell over all rows."""
        return sum(self.cells[row * _WIDTH + cell] for row in range(self.rows))


def _one_board() -> Board:
    return Board([0.0] * _WIDTH, 1)


@dataclass(slots=True)
class Metrics:
    """Counts in one process's row; safe to use from any thread."""

    board: Board = field(default_factory=_one_board)
    row: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.board.claim(self.row)

    def add(self, name: str, labels: Labels = (), amount: float = 1.0) -> None:
        """Raises a counter."""
        cell = self.row * _WIDTH + _CELLS[name, labels]
        with self._lock:
            self.board.cells[cell] += amount

    def set(self, name: str, value: float) -> None:
        """Sets a gauge."""
        self.board.cells[self.row * _WIDTH + _CELLS[name, ()]] = value

    def set_queue(self, pictures: int, held: int) -> None:
        """Sets what is under way."""
        self.set("agelens_queue_pictures", float(pictures))
        self.set("agelens_queue_bytes", float(held))

    def observe(self, name: str, bounds: tuple[float, ...], value: float, labels: Labels = ()) -> None:
        """Adds a value to a histogram."""
        first = self.row * _WIDTH + _CELLS[name, labels]
        bucket = bisect.bisect_left(bounds, value)
        with self._lock:
            if bucket < len(bounds):
                self.board.cells[first + bucket] += 1
            self.board.cells[first + len(bounds)] += value
            self.board.cells[first + len(bounds) + 1] += 1

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Counts an answer."""
        known = status if status in STATUSES else 500 if status >= 500 else 400
        self.add("agelens_requests_total", (("path", path), ("status", str(known))))
        if path in TIMED:
            self.observe("agelens_request_seconds", SECONDS, seconds, (("path", path),))

    def count_report(self, report: Report, received: int) -> None:
        """Counts a picture and the bytes it came in."""
        outcome = report.error.code if report.error else "ok" if report.faces else "no_face"
        self.add("agelens_pictures_total", (("outcome", outcome if outcome in OUTCOMES else OTHER),))
        self.add("agelens_received_bytes_total", amount=float(received))
        if report.faces:
            self.add("agelens_faces_total", amount=float(len(report.faces)))

    def count_batch(self, pictures: int, faces: int) -> None:
        """Counts a call of the network."""
        self.observe("agelens_batch_pictures", BATCHES, float(pictures))
        self.observe("agelens_batch_faces", BATCHES, float(faces))

    def write(self, model: str, device: str) -> str:
        """All numbers, summed over the processes, in Prometheus's text format 0.0.4."""
        lines = [
            "# HELP agelens_build_info What runs.",
            "# TYPE agelens_build_info gauge",
            f"agelens_build_info{_write_labels((('version', __version__), ('model', model), ('device', device)))} 1",
        ]
        for family in FAMILIES:
            lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
            for labels in family.labels:
                lines += self._write_cells(family, labels)
        lines += [
            "# HELP agelens_resident_bytes Memory of each process.",
            "# TYPE agelens_resident_bytes gauge",
            *_write_memory(self.board),
        ]
        return "\n".join(lines) + "\n"

    def _write_cells(self, family: Family, labels: Labels) -> Iterator[str]:
        first = _CELLS[family.name, labels]
        if not family.bounds:
            value = self.board.total(first)
            if value or not labels:
                yield f"{family.name}{_write_labels(labels)} {value:.17g}"
            return
        seen = 0.0
        for offset, bound in enumerate(family.bounds):
            seen += self.board.total(first + offset)
            yield f"{family.name}_bucket{_write_labels((*labels, ('le', f'{bound:g}')))} {seen:.17g}"
        count = self.board.total(first + len(family.bounds) + 1)
        yield f"{family.name}_bucket{_write_labels((*labels, ('le', '+Inf')))} {count:.17g}"
        yield f"{family.name}_sum{_write_labels(labels)} {self.board.total(first + len(family.bounds)):.17g}"
        yield f"{family.name}_count{_write_labels(labels)} {count:.17g}"


def _write_labels(labels: Labels) -> str:
    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    inner = ",".join(f'{name}="{escape(value)}"' for name, value in labels)
    return f"{{{inner}}}" if inner else ""


def _write_memory(board: Board) -> Iterator[str]:
    """Only where the system tells it as Linux does."""
    for number, pid in enumerate(board.pids()):
        with suppress(OSError, ValueError, IndexError):
            pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
            yield f'agelens_resident_bytes{{process="{number}"}} {pages * os.sysconf("SC_PAGE_SIZE")}'
