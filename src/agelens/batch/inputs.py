"""What a user names as IN -> spans: runs of pictures that a worker reads one after the other.

Spans are small, whatever the pictures weigh: a file, some members of a tar shard, some rows of a Parquet file. Pictures
themselves never pass through the process that plans.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from pyarrow import ArrowException, fs, parquet

from agelens.batch.columns import find_columns, open_file
from agelens.batch.places import Place, check_input, is_url, open_place
from agelens.batch.tars import index_tar, is_packed, is_tar
from agelens.errors import NotFoundError, UnreadableError
from agelens.formats import EXTENSIONS
from agelens.sources import find_sources
from agelens.sources.address import is_web_address, local_path

Kind = Literal["file", "tar", "parquet"]
ALL: Final = -1
"""A count that nobody knows before the end."""

_MAGIC: Final = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive pictures of one file.

    Attributes:
        kind: What the file is.
        path: Inside of the filesystem of the input.
        name: How records call the file.
        start: Of a tar, the byte where the first member's header begins; of a Parquet file, the first row.
        count: Pictures, or `ALL` that follow.
    """

    kind: Kind
    path: str
    name: str
    start: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How an input is read.

    Attributes:
        size: Pictures of one partition, at which tar shards and Parquet files are divided.
        column: The column of pictures of Parquet files.
        name_column: The column that names them.
        root: Where relative paths of a Parquet file start: a folder or a URL. By default that file's folder.
        allow_url: Whether web addresses, of a Parquet file or standard input, may be fetched.
    """

    size: int
    column: str | None = None
    name_column: str | None = None
    root: str | None = None
    allow_url: bool = False


def find_spans(
    source: str,
    options: InputOptions,
    *,
    names: Iterable[str] | None = None,
    on_skip: Callable[[str], None],
    is_own: Callable[[Place], bool] = lambda _: False,
) -> Iterator[Span]:
    """Finds the pictures of an input, lazily and in an order that is the same each time.

    A folder or a pattern stands for its pictures; where it holds none, for its tar shards; where it holds neither, for
    its Parquet files.

    Args:
        source: A folder, a file, a pattern, a URL, or `-` for the paths of `names`.
        options: How it is read.
        names: The lines of standard input.
        on_skip: Called with each file that is passed over.
        is_own: Whether a Parquet file is what runs write themselves; it is passed over in silence.

    Raises:
        InputError: The input can't be read at all.
        UsageError: It isn't clear which column of a Parquet file holds pictures.
    """
    place = open_place("." if source == "-" else source)
    if source == "-":
        files: Iterator[tuple[str, str]] = (
            (found.path or found.name, found.name) for found in find_sources(["-"], stdin=names)
        )
    elif place.is_local:
        files = _find_local(source, on_skip)
    else:
        files = _find_remote(place, on_skip)
    later: dict[Kind, list[tuple[str, str]]] = {"tar": [], "parquet": []}
    is_empty = True
    for path, name in files:
        kind = _kind_of(path)
        if kind == "file":
            is_empty = False
            yield Span("file", path if is_url(path) else place.at(path).path, name)
        elif kind == "tar" or not is_own(place_in(place, path)):
            later[kind].append((path, name))
    chosen: Kind | None = next((kind for kind, aside in later.items() if aside), None) if is_empty else None
    for kind, aside in later.items():
        for path, name in aside:
            if kind == chosen:
                for span in _divide(kind, place_in(place, path), name, options):
                    yield replace(span, path=path) if is_url(path) else span
            else:
                on_skip(name)


def place_in(place: Place, path: str) -> Place:
    """The place of a path of an input: inside of the input's filesystem, or a URL among the names that were given."""
    return open_file(path) if is_url(path) else place.at(path)


def _kind_of(path: str) -> Kind:
    if is_web_address(path):  # which is fetched as a whole
        return "file"
    if is_tar(path):
        return "tar"
    return "parquet" if path.lower().endswith((".parquet", ".pq")) else "file"


def _find_local(source: str, on_skip: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """Path and name of each picture, tar shard and Parquet file, as `agelens predict` finds them."""
    aside: list[str] = []

    def skip(path: str) -> None:
        if _kind_of(path) == "file":
            on_skip(path)
        else:
            aside.append(path)

    for found in find_sources([source], on_skip=skip):
        assert found.path is not None
        if found.path == local_path(source) and not os.path.lexists(found.path):
            raise NotFoundError(f"there is no file or folder {source!r}, and nothing that it matches")
        yield found.path, found.name
    yield from ((path, path) for path in aside)


def _find_remote(place: Place, on_skip: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    assert place.filesystem is not None
    parts = PurePosixPath(place.path).parts
    fixed = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), None)
    base = place if fixed is None else place.at(str(PurePosixPath(*parts[:fixed])))
    check_input(base)
    with base.typed_errors():
        if fixed is None and place.filesystem.get_file_info(place.path).type == fs.FileType.File:
            yield place.path, place.text
            return
        infos = place.filesystem.get_file_info(fs.FileSelector(base.path, recursive=True))
    wanted = None if fixed is None else _to_expression(parts[fixed:])
    start = len(base.path.rstrip("/")) + 1
    for path in sorted(info.path for info in infos if info.type == fs.FileType.File):
        inside = path[start:]
        kind = _kind_of(path)
        # Cameras write _MG_0001.jpg; of tables, those that begin so are what Spark and others keep for themselves.
        hidden = (".", "_") if kind == "parquet" else "."
        if any(part.startswith(hidden) for part in inside.split("/")) or (wanted and not wanted.fullmatch(inside)):
            continue
        if PurePosixPath(path).suffix.lower() in EXTENSIONS or kind != "file":
            yield path, place.prefix + path
        else:
            on_skip(place.prefix + path)


def _to_expression(parts: tuple[str, ...]) -> re.Pattern[str]:
    """`**` stands for any number of folders, `*`, `?` and `[...]` for no `/`."""
    signs = {"*": "[^/]*", "?": "[^/]"}
    pieces = []
    for part in parts:
        tokens = re.split(r"(\*|\?|\[[^\]/]+\])", part)
        plain = [signs.get(t) or (t.replace("[!", "[^") if t.startswith("[") else re.escape(t)) for t in tokens]
        pieces.append("(?:[^/]+/)*" if part == "**" else "".join(plain) + "/")
    return re.compile("".join(pieces).removesuffix("/"))


def _divide(kind: Kind, place: Place, name: str, options: InputOptions) -> Iterator[Span]:
    """The spans of one tar shard or Parquet file, each of about one partition's size."""
    if kind == "tar":
        if is_packed(name) or not place.is_local:  # to look through it would take as long as to read it
            yield Span("tar", place.path, name, 0, ALL)
            return
        try:
            with Path(place.path).open("rb") as file:
                for start, count in index_tar(file, options.size):
                    yield Span("tar", place.path, name, start, count)
        except OSError:
            yield Span("tar", place.path, name, 0, ALL)
        return
    try:
        with place.typed_errors(), place.open() as source:
            file = parquet.ParquetFile(source)
            schema, metadata = file.schema_arrow, file.metadata
            sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    except (UnreadableError, ArrowException):
        yield Span("parquet", place.path, name, 0, ALL)
        return
    columns = find_columns(schema, options.column, options.name_column)
    if columns.kind == "path":
        sizes = [options.size] * (metadata.num_rows // options.size) + [metadata.num_rows % options.size]
    start = count = 0
    for size in sizes:  # rows of bytes are divided between row groups only, or much would be read twice
        if count and count + size > options.size:
            yield Span("parquet", place.path, name, start, count)
            start, count = start + count, 0
        count += size
    if count:
        yield Span("parquet", place.path, name, start, count)
