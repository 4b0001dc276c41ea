"""Which column of a table holds pictures, and the pictures of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import pyarrow as pa
from pyarrow import types

from agelens.batch.fetched import Fetched, Remote
from agelens.batch.places import Place, is_url, open_place
from agelens.errors import EmptyFileError, UnreadableError, UsageError
from agelens.sources import Source, as_source
from agelens.sources.address import is_web_address, local_path

PICTURE_NAMES: Final = ("image", "bytes", "image_bytes", "picture", "photo", "content", "data", "jpg", "jpeg", "png")
PATH_NAMES: Final = (
    *("path", "file", "file_name", "filename", "file_path", "filepath", "image_path", "image", "picture", "photo"),
    *("source", "uri", "url", "key"),
)
NAME_NAMES: Final = (
    *("source", "path", "name", "file_name", "filename", "file", "image_path", "key", "__key__", "uri", "url"),
    *("id", "image_id"),
)
"""What such columns are called, best first, as `find_columns` looks for them."""


@dataclass(frozen=True, slots=True)
class PictureColumns:
    """Where the pictures of a table stand.

    Attributes:
        pictures: The column.
        kind: "bytes": encoded pictures. "path": paths or URLs. "struct": both, as Hugging Face's data sets hold them
            (`bytes` and `path`).
        name: The column that names each picture; None: the path, or the number of the row.
    """

    pictures: str
    kind: Literal["bytes", "path", "struct"]
    name: str | None = None


def find_columns(schema: pa.Schema, column: str | None = None, name_column: str | None = None) -> PictureColumns:
    """Finds the column of pictures: the one of bytes, or else of paths, that is alone or has a usual name.

    Args:
        schema: Of the table.
        column: The column of pictures, where it is known.
        name_column: The column that names them, where it is known.

    Raises:
        UsageError: There is none, or it isn't clear which.
    """
    for wanted in (column, name_column):
        if wanted is not None and wanted not in schema.names:
            raise UsageError(f"there is no column {wanted!r}; there are: {', '.join(schema.names)}")
    kinds = {field.name: _kind_of(field.type) for field in schema}
    chosen = column or _choose(kinds)
    if chosen is None:
        raise UsageError(
            f"it isn't clear which column holds pictures (there are: {', '.join(schema.names)}); name it: --column NAME"
            " on the command line, column='NAME' in Python"
        )
    for used in (chosen, name_column):
        if schema.names.count(used) > 1:
            raise UsageError(f"{schema.names.count(used)} columns are called {used!r}; rename them")
    kind = kinds[chosen]
    if kind is None:
        raise UsageError(f"the column {chosen!r} holds {schema.field(chosen).type}, neither bytes nor paths")
    name = name_column
    if name is None and kind == "bytes":
        usable = [field.name for field in schema if kinds[field.name] == "path" or types.is_integer(field.type)]
        name = next((usual for usual in NAME_NAMES if usable.count(usual) == schema.names.count(usual) == 1), None)
    return PictureColumns(chosen, kind, name)


def _kind_of(kind: pa.DataType) -> Literal["bytes", "path", "struct"] | None:
    if types.is_dictionary(kind):
        kind = kind.value_type
    if any(test(kind) for test in (types.is_binary, types.is_large_binary, types.is_binary_view)):
        return "bytes"
    if any(test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view)):
        return "path"
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _kind_of(kind.field("bytes").type) == "bytes":
        return "struct"
    return None


def _choose(kinds: dict[str, Literal["bytes", "path", "struct"] | None]) -> str | None:
    for kind, usual in (("bytes", PICTURE_NAMES), ("struct", PICTURE_NAMES), ("path", PATH_NAMES)):
        there = [name for name, found in kinds.items() if found == kind]
        if len(there) == 1:
            return there[0]
        named = next((name for name in usual if name in there), None)
        if there:
            return named
    return None


def read_rows(
    batch: pa.RecordBatch | pa.Table,
    columns: PictureColumns,
    name_row: Callable[[int], str],
    opener: Callable[[str, str | None], Source],
) -> Iterator[Source]:
    """The pictures of a table's rows, one by one, so that no more than one is copied out of it at once.

    Args:
        batch: The rows.
        columns: Where the pictures stand.
        name_row: The name of a picture that has none, by the number of its row in `batch`.
        opener: Gives the picture behind a path or a URL, and a name if it has one of its own; see `open_source`.
    """
    values = batch.column(columns.pictures)
    names = batch.column(columns.name) if columns.name else None
    for row in range(batch.num_rows):
        value = values[row].as_py()
        name = names[row].as_py() if names is not None else None
        yield _to_source(value, None if name is None else str(name), partial(name_row, row), opener)


def _to_source(
    value: object, name: str | None, name_row: Callable[[], str], opener: Callable[[str, str | None], Source]
) -> Source:
    if isinstance(value, dict):
        name = name or value.get("path")
        value = value["bytes"] if value["bytes"] is not None else value.get("path")
    if isinstance(value, bytes):
        return Fetched(name or name_row(), content=value)
    if isinstance(value, str) and value:
        return opener(value, name)
    return Fetched(name or name_row(), content=EmptyFileError("the row holds no picture; fill it, or leave it out"))


def open_source(path: str, name: str | None = None, *, root: Place | None = None, allow_url: bool = False) -> Source:
    """The picture behind a path or a URL.

    Args:
        path: Relative ones start from `root`.
        name: How it is called; by default as `path` says.
        root: A folder. A URL of the same store is opened as it was, with what its query said.
        allow_url: Whether a web address may be fetched.
    """
    if is_web_address(path):
        return as_source(path, allow_url=allow_url)  # its address is its name
    plain = local_path(path)
    try:
        if root is not None and root.prefix and plain.startswith(root.prefix):
            place = root.at(plain.removeprefix(root.prefix))
        elif is_url(plain):
            place = open_file(plain)
        else:
            place = root.join(plain) if root is not None else open_place(plain)
    except UsageError as error:
        return Fetched(name or path, content=UnreadableError(error.message))
    return Source(name or path, place.path) if place.is_local else Remote(name or path, place=place)


def open_file(url: str) -> Place:
    """The place of a file behind a URL that is written plainly, as object stores list them, and not percent-encoded."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    root = open_place(f"{scheme}://{host}/")
    return root.at(f"{root.path.rstrip('/')}/{path}")
