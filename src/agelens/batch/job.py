"""A run from IN to OUT: checked, planned, and taken up again where one was broken off."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pyarrow import compute, parquet

from agelens.analyzer import DEFAULTS, Analyzer, Settings
from agelens.batch.fetched import READERS
from agelens.batch.inputs import ALL, InputOptions, find_spans
from agelens.batch.partition import Outcome, Work
from agelens.batch.places import Place, open_place
from agelens.batch.plan import (
    PLAN,
    STATE,
    SUCCESS,
    Known,
    Partition,
    Plan,
    find_done,
    pack,
    read_partitions,
    read_plan,
    write_inputs,
)
from agelens.errors import NothingToReadError, OutputInUseError, OutputNotEmptyError
from agelens.limits import DEFAULT_LIMITS
from agelens.outfile import typed_output_errors
from agelens.zoo import DEFAULT_MODEL

Mode = Literal["new", "resume", "overwrite"]
LOCK: Final = "lock"
_LEFT_OVER: Final = re.compile(r"\.part-\d+\.parquet\.[0-9a-f]+\.part")
_RESULTS: Final = ("task", "groups", "gender_threshold", "min_score", "min_face", "max_faces", "device")
"""Settings that change what a picture gives; `threads` and `batch_size` only change how long it takes."""


@dataclass(frozen=True, slots=True)
class BatchJob:
    """What is asked for.

    Attributes:
        source: A folder, a file, a pattern, a URL, or `-`.
        output: The folder, or the URL of one, that the partitions go to.
        model: Name of a model that ships, or path of an ONNX file that every worker can read.
        settings: See `agelens.analyzer.Settings`; `threads` is that of one worker.
        options: How the input is read, and the size of a partition.
        mode: "new": the output must be empty. "resume": what is there is completed. "overwrite": it is replaced.
        strict: Whether the first picture that can't be read ends the run.
    """

    source: str
    output: str
    options: InputOptions
    model: str = DEFAULT_MODEL
    settings: Settings = field(default_factory=Settings)
    mode: Mode = "new"
    strict: bool = False


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """What is to be done.

    Attributes:
        work: What workers are told.
        device: Where the networks run.
        partitions: All.
        done: The numbers of those that were whole before.
        skipped: Files of the input that are no pictures.
    """

    work: Work
    device: str
    partitions: list[Partition]
    done: set[int]
    skipped: int

    @property
    def todo(self) -> list[Partition]:
        """What is left to do, in order."""
        return [partition for partition in self.partitions if partition.number not in self.done]

    @property
    def pictures(self) -> int | None:
        """How many pictures are left to do; None where nobody knows."""
        counts = [partition.pictures for partition in self.todo]
        return None if ALL in counts else sum(counts)

    def count_done(self) -> Iterator[Outcome]:
        """What the partitions that were whole before hold, read from the files.

        Raises:
            InputError: One can't be read.
        """
        output = open_place(self.work.output)
        there = [partition for partition in self.partitions if partition.number in self.done]
        with ThreadPoolExecutor(READERS) as pool:
            yield from pool.map(lambda each: _count(output.join(each.file), each.number), there)

    def complete(self) -> bool:
        """Leaves `_SUCCESS` where every partition is there; whether it is so.

        Raises:
            OutputError: The output can't be listed or written.
        """
        output = open_place(self.work.output)
        if {partition.number for partition in self.partitions} - find_done(output):
            return False
        _remove_left_overs(output)  # of a process that outlived its run for a moment
        output.join(SUCCESS).write(b"")
        return True


@contextlib.contextmanager
def plan_run(
    job: BatchJob, *, names: Iterable[str] | None = None, seen: Callable[[int], None] | None = None
) -> Iterator[PlannedRun]:
    """Checks a job, and writes down or reads what has to be done; the output is this run's alone inside the block.

    Args:
        job: What is asked for.
        names: The lines of standard input, where the input is `-`.
        seen: Told how many pictures were found so far.

    Raises:
        UsageError: A setting makes no sense, the output holds something else, another run is at it, or there is nothing
            to read.
        ModelError: The model is unknown, damaged or unfit.
        InputError: The input can't be read at all.
        OutputError: The output can't be written.
    """
    settings: Settings = {**job.settings, "threads": job.settings.get("threads") or 1}
    analyzer = Analyzer(job.model, **settings)
    model, device = analyzer.model, analyzer.device
    del analyzer  # it has shown that it opens; its memory is the workers'
    output = open_place(job.output)
    plan = Plan(
        _whereabouts(job.source),
        _results(settings) | _reading(job.options),
        model.to_dict(),
        job.options.size,
    )
    work = Work(job.source, job.output, job.options, job.model, model.sha256, settings, job.strict)
    with _reserve(output):
        before = _prepare_output(output, plan, job.mode)
        skipped = _list_inputs(output, job, before=before, names=names, seen=seen or _nothing)
        yield PlannedRun(work, device, read_partitions(output), find_done(output), skipped)


def _nothing(_: int) -> None:
    """Tells nobody."""


def _whereabouts(source: str) -> str:
    """The same for each way to write the same local path, wherever the command is run."""
    place = open_place("." if source == "-" else source)
    return source if source == "-" else place.path if place.is_local else place.text


def _results(settings: Settings) -> dict[str, Any]:
    chosen: dict[str, Any] = {**DEFAULTS, **settings}
    values = {name: chosen[name] for name in _RESULTS}
    values["groups"] = getattr(chosen["groups"], "name", chosen["groups"])
    return values | asdict(chosen.get("limits", DEFAULT_LIMITS))


def _reading(options: InputOptions) -> dict[str, Any]:
    return {name: value for name, value in asdict(options).items() if name != "size"}


@contextlib.contextmanager
def _reserve(output: Place) -> Iterator[None]:
    """Keeps other runs of this machine, or of a shared disk, away; an object store offers nothing of the kind.

    Raises:
        OutputInUseError: Another run is at it.
    """
    if not output.is_local:
        yield
        return
    path = Path(output.path, STATE, LOCK)
    created = not path.parent.parent.exists()
    with contextlib.ExitStack() as stack:
        with typed_output_errors(output.text):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("ab"))
        if not _lock(file.fileno()):
            raise OutputInUseError(f"another run writes to {output.text} now; wait for it, or choose another OUT")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a run that wrote nothing leaves nothing
                path.parent.rmdir()
                if created:
                    path.parent.parent.rmdir()


def _lock(descriptor: int) -> bool:
    """Locks a file until this process ends, however that may be; whether nobody else has."""
    try:
        import fcntl
    except ImportError:  # Windows, where Ray runs for trials only
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _prepare_output(output: Place, plan: Plan, mode: Mode) -> bool:
    """Makes the output ready; whether there is a run to go on with.

    Raises:
        UsageError: It holds something else, or the beginning of another run.
    """
    before = read_plan(output)
    names = output.list_names()
    parts = [name for name in names if name.startswith("part-")]
    if before is None and (foreign := [name for name in names if not _LEFT_OVER.fullmatch(name)]):
        raise OutputNotEmptyError(
            f"{output.text} holds files that `agelens batch` did not write ({foreign[0]}); choose another OUT"
        )
    state = output.join(STATE)
    if before is not None and mode == "new":
        raise OutputNotEmptyError(f"{output.text} holds a run already; --resume completes it, --overwrite begins anew")
    _remove_left_overs(output)
    if before is not None and mode == "resume":
        before.check_same(plan)
        return True
    for name in (*parts, SUCCESS):
        output.join(name).remove()
    # Inputs without a plan are those of a run that died before it had begun.
    for name in state.list_names():
        if name != LOCK:
            state.join(name).remove()
    for name in state.join("tries").list_names():
        state.join("tries").join(name).remove()
    state.join(PLAN).write(plan.to_json())
    return False


def _remove_left_overs(output: Place) -> None:
    for name in output.list_names():
        if _LEFT_OVER.fullmatch(name):
            output.join(name).remove()


def _list_inputs(
    output: Place, job: BatchJob, *, before: bool, names: Iterable[str] | None, seen: Callable[[int], None]
) -> int:
    """Writes down what was not before; how many files were passed over."""
    skipped: list[None] = []
    spans = find_spans(job.source, job.options, names=names, on_skip=lambda _: skipped.append(None))
    own = f"{output.path.rstrip('/')}/"  # results of an earlier run, where OUT lies in IN
    spans = (span for span in spans if not span.path.startswith(own))
    planned = read_partitions(output) if before else []
    if planned:
        known = Known(output)
        spans = (span for span in spans if span not in known)
    first = planned[-1].number + 1 if planned else 0
    added = write_inputs(output, pack(spans, job.options.size), first, seen)
    if not added and not planned:
        for name in (PLAN, LOCK):
            output.join(STATE).join(name).remove()
        found = f"; {len(skipped):,} other files were passed over" if skipped else ""
        raise NothingToReadError(f"nothing to read: there is no picture in {job.source}{found}")
    if added:
        output.join(SUCCESS).remove()
    return len(skipped)


def _count(place: Place, number: int) -> Outcome:
    with place.typed_errors(), place.open() as file:
        table = parquet.read_table(file, columns=["face", "error_code"])
    faces = table.num_rows - table["face"].null_count
    first = compute.sum(compute.equal(table["face"], 0)).as_py() or 0
    codes = Counter(code for code in table["error_code"].to_pylist() if code is not None)
    return Outcome(number, table["face"].null_count + first, faces, dict(codes))
