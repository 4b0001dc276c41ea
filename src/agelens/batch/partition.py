"""One partition, in whatever process: its pictures are read, judged and written as one file, or not at all."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Final, cast

from pyarrow import ArrowException, parquet

from agelens.analyzer import Analyzer, Settings
from agelens.batch.columns import find_columns, open_source, read_rows
from agelens.batch.fetched import Fetched, Remote, fetch_ahead
from agelens.batch.inputs import ALL, InputOptions, Span, place_in
from agelens.batch.places import Place, is_url, open_place
from agelens.batch.plan import STATE, Listing, Partition, read_plan
from agelens.batch.tars import read_tar
from agelens.batch.tries import Tries, stream_carefully
from agelens.errors import (
    AgelensError,
    InputError,
    OutputInUseError,
    UnfitModelError,
    UnreadableError,
    UsageError,
)
from agelens.limits import DEFAULT_LIMITS
from agelens.serialise import open_writer
from agelens.sources import Source, as_source
from agelens.sources.address import is_web_address

if TYPE_CHECKING:
    from collections.abc import Generator

    from agelens.types import Report

TOLD: Final = 5
"""Errors of one partition that are told one by one."""

_ROWS: Final = 16
"""Rows of a Parquet file that are held at once: pictures may be large."""


@dataclass(frozen=True, slots=True)
class Work:
    """What every worker of a run is told; it can be pickled, and names what the worker opens itself.

    Attributes:
        source: IN.
        output: OUT.
        options: How IN is read.
        model: Name or path of the model.
        sha256: Of the model's file, which must be the same everywhere.
        settings: See `agelens.analyzer.Settings`.
        strict: Whether the first picture that can't be read ends the run.
        begun: The word of the plan that this is part of, see `Plan`.
    """

    source: str
    output: str
    options: InputOptions
    model: str
    sha256: str
    settings: Settings
    strict: bool = False
    begun: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one partition.

    Attributes:
        number: Of the partition.
        pictures: How many were read, or could not be.
        faces: How many were found.
        errors: Codes, and how many pictures had each.
        told: Names and messages of the first few of these.
        failure: None, or the class and the message of what ended the run; then nothing was written.
    """

    number: int
    pictures: int = 0
    faces: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    told: list[tuple[str, str]] = field(default_factory=list)
    failure: tuple[str, str] | None = None


class PartitionWorker:
    """Does partitions one after the other, with one analyzer.

    Args:
        work: What it is told.
        successor_of: None, or the name of a worker that died and that this one replaces; it may have died of the model.
    """

    def __init__(self, work: Work, successor_of: str | None = None) -> None:
        self._work, self._successor_of = work, successor_of
        self._source = open_place("." if work.source == "-" else work.source)
        self._output = open_place(work.output)
        self._limits = work.settings.get("limits", DEFAULT_LIMITS)
        self._analyzer: Analyzer | None = None
        self._listings: dict[str, Listing] = {}

    def close(self) -> None:
        """Closes the listings that it opened."""
        for listing in self._listings.values():
            listing.close()

    def run(self, partition: Partition, *, careful: bool = False) -> Outcome:
        """Reads, judges and writes; an error of ours becomes part of the outcome.

        Args:
            partition: Which.
            careful: Whether a process died at it before.
        """
        try:
            return self._run(partition, careful=careful)
        except AgelensError as error:
            return Outcome(partition.number, failure=(type(error).__name__, error.message))

    def _run(self, partition: Partition, *, careful: bool) -> Outcome:
        analyzer = self._open()
        tries = Tries(self._tries(str(partition.number))) if careful else None
        buffer = io.BytesIO()
        pictures = faces = 0
        errors: Counter[str] = Counter()
        told: list[tuple[str, str]] = []
        sources = fetch_ahead(self._pictures(self._spans(partition)), self._limits)
        reports = cast(
            "Generator[Report]", stream_carefully(analyzer, sources, tries) if tries else analyzer.stream(sources)
        )
        with closing(reports), open_writer(io.TextIOWrapper(buffer), "parquet") as writer:
            for report in reports:
                writer.write(report)
                pictures += 1
                faces += len(report.faces)
                if report.error is None:
                    continue
                if self._work.strict:
                    message = f"{report.source!r}: {report.error.message}"
                    return Outcome(partition.number, failure=(InputError.__name__, message))
                errors[report.error.code] += 1
                if len(told) < TOLD:
                    told.append((report.source, report.error.message))
        self._check_not_overtaken()
        self._output.join(partition.file).write(buffer.getvalue())
        if tries:
            tries.forget()
        return Outcome(partition.number, pictures, faces, dict(errors), told)

    def _open(self) -> Analyzer:
        if self._analyzer is None:
            with self._opening_carefully():
                self._analyzer = Analyzer(self._work.model, **self._work.settings)
            found = self._analyzer.model.sha256
            if found != self._work.sha256:
                raise UnfitModelError(
                    f"the model {self._work.model!r} has the SHA-256 {found} on a worker and {self._work.sha256} where"
                    " the run was started; install the same agelens, and the same file, everywhere"
                )
        return self._analyzer

    @contextlib.contextmanager
    def _opening_carefully(self) -> Iterator[None]:
        if self._successor_of is None:
            yield
            return
        tries = Tries(self._tries(f"opening-{self._successor_of}"))
        if tries.is_deadly(0):
            raise UnfitModelError(
                f"a worker died each time that it opened the model {self._work.model!r}; it may need more memory than"
                " there is: try fewer --actors, or another model"
            )
        tries.begin(0)
        try:
            yield
        except AgelensError:  # nobody died
            tries.forget()
            raise
        tries.forget()

    def _tries(self, name: str) -> Place:
        return self._output.join(STATE).join("tries").join(f"{name}.json")

    def _check_not_overtaken(self) -> None:
        plan = read_plan(self._output)
        if plan is None or plan.begun != self._work.begun:
            raise OutputInUseError(f"another run has begun in {self._output.text} since; this one writes no more")

    def _spans(self, partition: Partition) -> list[Span]:
        if partition.listing not in self._listings:
            place = self._output.join(STATE).join(partition.listing)
            try:
                with place.typed_errors():
                    self._listings[partition.listing] = Listing(place)
            except InputError as error:
                hint = f"{error.message}; OUT must be a place that every worker sees, under the same name"
                raise UsageError(hint) from error
        return self._listings[partition.listing].read(partition.group)

    def _pictures(self, spans: list[Span]) -> Iterator[Source]:
        for span in spans:
            if span.kind == "file":
                yield self._picture(span)
                continue
            place = place_in(self._source, span.path)
            try:
                with place.typed_errors(), place.open() as file:
                    if span.kind == "tar":
                        yield from read_tar(file, span.name, span.start, span.count, self._limits)
                    else:
                        yield from _read_parquet(file, span, place, self._work.options)
            except InputError as error:
                yield Fetched(span.name, content=error)

    def _picture(self, span: Span) -> Source:
        if is_web_address(span.name):
            return as_source(span.name, allow_url=self._work.options.allow_url)
        if is_url(span.path):
            return open_source(span.path, span.name)
        place = self._source.at(span.path)
        return Source(span.name, place.path) if place.is_local else Remote(span.name, place=place)


def _read_parquet(file: IO[bytes], span: Span, place: Place, options: InputOptions) -> Iterator[Source]:
    """The pictures of some rows; a damaged file gives a picture that can't be read after those that can."""
    try:
        table = parquet.ParquetFile(file, buffer_size=1 << 20)
        columns = find_columns(table.schema_arrow, options.column, options.name_column)
        wanted = [name for name in (columns.pictures, columns.name) if name]
        root = open_place(options.root) if options.root else _folder_of(place)
        opener = partial(open_source, root=root, allow_url=options.allow_url)
        skip, groups = _locate(table.metadata, span)
        row = span.start - skip
        end = row + skip + span.count if span.count != ALL else table.metadata.num_rows
        for batch in table.iter_batches(_ROWS, row_groups=groups, columns=wanted):
            first, last = max(span.start - row, 0), min(end - row, batch.num_rows)
            if first < last:
                part = batch.slice(first, last - first)
                yield from read_rows(part, columns, partial(_name_row, span.name, row + first), opener)
            row += batch.num_rows
    except (ArrowException, OSError, UsageError) as error:
        why = str(error).partition("\n")[0]
        damage = UnreadableError(f"the Parquet file {span.name!r} can't be read ({why}); copy or make it again")
        yield Fetched(span.name, content=damage)


def _name_row(file: str, before: int, row: int) -> str:
    return f"{file}#{before + row}"


def _locate(metadata: parquet.FileMetaData, span: Span) -> tuple[int, list[int]]:
    """How many rows of the first row group that matters come before the span, and which row groups matter."""
    groups: list[int] = []
    before = skip = 0
    end = span.start + span.count if span.count != ALL else metadata.num_rows
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if before < end and before + rows > span.start:
            if not groups:
                skip = max(span.start - before, 0)
            groups.append(group)
        before += rows
    return skip, groups


def _folder_of(place: Place) -> Place:
    return place.at(place.path.rpartition("/")[0] or "/")
