"""A run from IN to OUT: checked, planned, and taken up again where one was broken off."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from pyarrow import compute, parquet

from agelens.analyzer import DEFAULTS, Analyzer, Settings
from agelens.batch.fetched import READERS
from agelens.batch.inputs import ALL, InputOptions, Span, find_spans
from agelens.batch.output import Mode, find_whole, prepare_output, remove_left_overs, remove_tries, reserve
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
    is_own,
    pack,
    read_partitions,
    write_inputs,
)
from agelens.errors import NothingToReadError
from agelens.limits import DEFAULT_LIMITS
from agelens.zoo import DEFAULT_MODEL

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
        remove_left_overs(output)  # of a process that outlived its run for a moment
        remove_tries(output)
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
    options = replace(job.options, root=job.options.root and _from_anywhere(job.options.root))
    plan = Plan(
        _whereabouts(job.source),
        _results(settings) | _reading(options),
        model.to_dict(),
        job.options.size,
    )
    work = Work(
        job.source if job.source == "-" else _from_anywhere(job.source),
        _from_anywhere(job.output),
        options,
        _from_anywhere(job.model) if job.model.lower().endswith(".onnx") else job.model,
        model.sha256,
        settings,
        job.strict,
    )
    with reserve(output):
        before = prepare_output(output, plan, job.mode)
        work = replace(work, begun=(before or plan).begun)
        skipped = _list_inputs(output, job, before=before is not None, names=names, seen=seen or _nothing)
        run = PlannedRun(work, device, read_partitions(output), find_whole(output), skipped)
        if run.todo:
            output.join(SUCCESS).remove()
        yield run


def _nothing(_: int) -> None:
    """Tells nobody."""


def _from_anywhere(text: str) -> str:
    """The same place for a process that runs in another folder, as a cluster's do."""
    place = open_place(text)
    return place.path if place.is_local else text


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


def _list_inputs(
    output: Place, job: BatchJob, *, before: bool, names: Iterable[str] | None, seen: Callable[[int], None]
) -> int:
    """Writes down what was not before; how many files were passed over."""
    skipped: list[None] = []
    spans = find_spans(
        job.source,
        job.options,
        names=names,
        on_skip=lambda _: skipped.append(None),
        is_own=lambda place: is_own(place, output),
    )
    planned = read_partitions(output) if before else []
    if planned:
        known = Known(output)
        spans = (span for span in spans if span not in known)
    first = planned[-1].number + 1 if planned else 0
    try:
        added = write_inputs(output, _unfinish(output, pack(spans, job.options.size)), first, seen)
    except BaseException:
        if not planned:
            _forget_plan(output)
        raise
    if not added and not planned:
        _forget_plan(output)
        found = f"; {len(skipped):,} other files were passed over" if skipped else ""
        raise NothingToReadError(f"nothing to read: there is no picture in {job.source}{found}")
    return len(skipped)


def _forget_plan(output: Place) -> None:
    """Nothing has begun: another try may ask for something else."""
    output.join(STATE).join(PLAN).remove()


def _unfinish(output: Place, partitions: Iterator[list[Span]]) -> Iterator[list[Span]]:
    """The same; once there is one, the output is complete no more, and says so before it is written down."""
    for number, partition in enumerate(partitions):
        if number == 0:
            output.join(SUCCESS).remove()
        yield partition


def _count(place: Place, number: int) -> Outcome:
    with place.typed_errors(), place.open() as file:
        table = parquet.read_table(file, columns=["face", "error_code"])
    faces = table.num_rows - table["face"].null_count
    first = compute.sum(compute.equal(table["face"], 0)).as_py() or 0
    codes = Counter(code for code in table["error_code"].to_pylist() if code is not None)
    return Outcome(number, table["face"].null_count + first, faces, dict(codes))
