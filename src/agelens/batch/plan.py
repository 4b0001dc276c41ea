"""What a run has to do, written down before anything is done: `OUT/_agelens/`.

    plan.json              what was asked for: settings, the model and its SHA-256, how the input is read
    inputs-00000.parquet   the pictures, a row group a partition; partitions are numbered on from the file's number
    inputs-00041.parquet   what a later `--resume` found besides
    tries/                 what a process was at that took the place of one that died

Partition 17 is `part-00017.parquet`. Which pictures it holds is fixed once the inputs are written, and the file has its
name only once it is whole. So a partition is done if and only if its file is there, and each picture is in exactly one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from agelens.batch.inputs import ALL, Kind, Span
from agelens.batch.places import Place
from agelens.errors import OutputError, PlanChangedError, UnreadableError
from agelens.outfile import Target, typed_output_errors

STATE: Final = "_agelens"
PLAN: Final = "plan.json"
SUCCESS: Final = "_SUCCESS"
"""An empty file in OUT once all is done, as Hadoop and Spark leave it."""

_SCHEMA: Final = "agelens.batch/1"
_COLUMNS: Final = pa.schema(
    [
        ("kind", pa.string()),
        ("path", pa.binary()),  # of a local file: bytes, which need not be text
        ("name", pa.binary()),
        ("start", pa.int64()),
        ("count", pa.int64()),
    ]
)
_INPUTS: Final = re.compile(r"inputs-(\d{5,})\.parquet")
_PART: Final = re.compile(r"part-(\d{5,})\.parquet")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run was asked for; another run in the same place must be asked for the same.

    Attributes:
        source: IN.
        settings: What changes results, by the names of the options.
        model: Name and SHA-256 of the model file.
        size: Pictures of a partition.
        begun: A word that no other beginning has: a worker that outlived a killed run finds another one there once
            somebody has begun anew, and writes nothing.
    """

    source: str
    settings: dict[str, Any]
    model: dict[str, str]
    size: int
    begun: str = field(default_factory=lambda: secrets.token_hex(8))

    def to_json(self) -> bytes:
        return json.dumps({"schema": _SCHEMA, **asdict(self)}, indent=1, ensure_ascii=True).encode()

    def check_same(self, other: Plan) -> None:
        """Refuses to go on with another plan in the same place.

        Raises:
            PlanChangedError: Something differs; the message says what.
        """
        mine, theirs = ({**asdict(plan), **plan.settings} for plan in (self, other))
        named = [
            f"{name} was {mine.get(name)!r} and is now {theirs.get(name)!r}"
            for name in sorted((mine.keys() | theirs.keys()) - {"settings", "begun"})
            if mine.get(name) != theirs.get(name)
        ]
        if named:
            raise PlanChangedError(
                f"this run differs from the one that began there: {'; '.join(named)}. Ask for the same as before,"
                " choose another OUT, or begin anew with --overwrite"
            )


@dataclass(frozen=True, slots=True)
class Partition:
    """One file of the output and where its pictures are listed.

    Attributes:
        number: From 0.
        listing: The file of inputs that lists them.
        group: The row group there.
        pictures: How many, or `ALL` where nobody knows.
    """

    number: int
    listing: str
    group: int
    pictures: int

    @property
    def file(self) -> str:
        """Its name in the output."""
        return part_name(self.number)


def part_name(number: int) -> str:
    """The file of a partition."""
    return f"part-{number:05d}.parquet"


def inputs_name(first: int) -> str:
    """The file of inputs whose first partition has a number."""
    return f"inputs-{first:05d}.parquet"


def find_done(output: Place) -> set[int]:
    """The partitions that are whole.

    Raises:
        OutputError: The output can't be listed.
    """
    return {int(match[1]) for name in output.list_names() if (match := _PART.fullmatch(name))}


def is_own(place: Place, output: Place) -> bool:
    """Whether a file is one that runs into `output` write: no input, where OUT lies in IN."""
    if place.prefix != output.prefix:
        return False
    path, folder = (PurePath(os.path.realpath(each.path) if each.is_local else each.path) for each in (place, output))
    inside = path.relative_to(folder).parts if path.is_relative_to(folder) else ()
    return bool(inside) and (inside[0] == STATE or (len(inside) == 1 and _PART.fullmatch(inside[0]) is not None))


def read_plan(output: Place) -> Plan | None:
    """The plan that is there, if any.

    Raises:
        OutputError: It can't be read.
    """
    state = output.join(STATE)
    if PLAN not in state.list_names():
        return None
    try:
        values = json.loads(state.join(PLAN).read())
        known = values.pop("schema") == _SCHEMA
        plan = Plan(**{"begun": "", **values})
    except (UnreadableError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise OutputError(f"the plan in {state.join(PLAN).text} can't be read ({error}); use --overwrite") from error
    if not known:
        raise OutputError(f"another version of agelens wrote the plan in {state.join(PLAN).text}; use --overwrite")
    return plan


def pack(spans: Iterable[Span], size: int) -> Iterator[list[Span]]:
    """Spans -> partitions of about `size` pictures; a span of unknown length has one of its own."""
    gathered: list[Span] = []
    count = 0
    for span in spans:
        weight = size if span.count == ALL else span.count
        if gathered and count + weight > size:
            yield gathered
            gathered, count = [], 0
        gathered.append(span)
        count += weight
    if gathered:
        yield gathered


def write_inputs(output: Place, partitions: Iterable[list[Span]], first: int, seen: Callable[[int], None]) -> int:
    """Writes a file of inputs, no more than one partition of which is held at once.

    Args:
        output: OUT.
        partitions: Their spans.
        first: The number of the first partition.
        seen: Told how many pictures were found so far, after each partition.

    Returns:
        How many partitions there are; where there are none, nothing is written.

    Raises:
        OutputError: It can't be written.
    """
    place = output.join(STATE).join(inputs_name(first))
    sizes: list[int] = []
    total = 0
    with _open_whole(place) as sink, parquet.ParquetWriter(sink.file, _COLUMNS, compression="zstd") as writer:
        for spans in partitions:
            writer.write_table(_to_table(spans), row_group_size=len(spans))
            counts = [span.count for span in spans]
            sizes.append(ALL if ALL in counts else sum(counts))
            total += sum(max(count, 0) for count in counts)
            seen(total)
        writer.add_key_value_metadata({"agelens.partitions": json.dumps(sizes)})
        sink.wanted = bool(sizes)
    return len(sizes)


def _to_table(spans: list[Span]) -> pa.Table:
    rows = {
        "kind": [span.kind for span in spans],
        "path": [os.fsencode(span.path) for span in spans],
        "name": [os.fsencode(span.name) for span in spans],
        "start": [span.start for span in spans],
        "count": [span.count for span in spans],
    }
    return pa.table(rows, schema=_COLUMNS)


@dataclass(slots=True)
class _Sink:
    file: Any
    wanted: bool = False


@contextlib.contextmanager
def _open_whole(place: Place) -> Iterator[_Sink]:
    """A file that has its name once the block has ended well and it is `wanted`; an object store gets it in one piece.

    Raises:
        OutputError: It can't be written.
    """
    if not place.is_local:
        buffer = io.BytesIO()
        yield (sink := _Sink(buffer))
        if sink.wanted:
            place.write(buffer.getvalue())
        return
    with typed_output_errors(place.text):
        Path(place.path).parent.mkdir(parents=True, exist_ok=True)
        target = Target(place.path)
        try:
            with target.part.open("wb") as file:
                yield (sink := _Sink(file))
                file.flush()
                os.fsync(file.fileno())
            if sink.wanted:
                target.commit()
        finally:
            target.discard()


def read_partitions(output: Place) -> list[Partition]:
    """All partitions that were planned, in order; without the spans.

    Raises:
        InputError: A file of inputs can't be read.
    """
    found: list[Partition] = []
    for first, place in _find_inputs(output):
        with place.typed_errors(), place.open() as source:
            metadata = parquet.ParquetFile(source).metadata.metadata or {}
        sizes = json.loads(metadata[b"agelens.partitions"])
        name = inputs_name(first)
        found.extend(Partition(first + i, name, i, size) for i, size in enumerate(sizes))
    return found


def _find_inputs(output: Place) -> list[tuple[int, Place]]:
    """The files of inputs in the order of their numbers, which may have more digits than five."""
    state = output.join(STATE)
    matches = (_INPUTS.fullmatch(name) for name in state.list_names())
    return sorted(
        ((int(match[1]), state.join(match[0])) for match in matches if match), key=lambda numbered: numbered[0]
    )


class Listing:
    """A file of inputs, opened once by whoever reads several of its partitions."""

    def __init__(self, place: Place) -> None:
        self._source = place.open()
        self._file = parquet.ParquetFile(self._source)

    def close(self) -> None:
        """Closes the file."""
        self._source.close()

    @property
    def groups(self) -> int:
        """How many partitions it lists."""
        return int(self._file.num_row_groups)

    def read(self, group: int) -> list[Span]:
        """The spans of one partition."""
        rows = self._file.read_row_group(group).to_pylist()
        return [
            Span(
                cast("Kind", row["kind"]),
                os.fsdecode(row["path"]),
                os.fsdecode(row["name"]),
                row["start"],
                row["count"],
            )
            for row in rows
        ]


class Known:
    """The files that were planned before, 8 bytes a span, so that forty million take 320 MB."""

    def __init__(self, output: Place) -> None:
        digests: list[NDArray[np.uint64]] = []
        for _, place in _find_inputs(output):
            with contextlib.closing(Listing(place)) as listing:
                for group in range(listing.groups):
                    spans = listing.read(group)
                    digests.append(np.fromiter((_digest(span) for span in spans), np.uint64, len(spans)))
        self._digests = np.unique(np.concatenate(digests)) if digests else np.zeros(0, np.uint64)

    def __contains__(self, span: Span) -> bool:
        digest = np.uint64(_digest(span))
        index = int(np.searchsorted(self._digests, digest))
        return index < len(self._digests) and bool(self._digests[index] == digest)


def _digest(span: Span) -> int:
    # By its file alone: of a shard that has grown since, the first pictures are done, and must not be done twice.
    text = os.fsencode(f"{span.kind}\0{span.path}")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
