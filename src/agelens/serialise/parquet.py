"""Rows of records as a Parquet file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, TextIO

from agelens.advice import how_to_install
from agelens.errors import MissingPackageError, UsageError
from agelens.outfile import Closing, Target
from agelens.serialise.record import COLUMNS, Row, encode_text, to_record, to_rows
from agelens.types import SCHEMA, Report

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_IN_GROUP = 16_384


class ParquetWriter(Closing):
    """Rows gather until they fill a row group, so memory stays bounded; the footer is written at the end."""

    def __init__(self, path: Path | None, stream: TextIO | None, columns: Mapping[str, type]) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise MissingPackageError(f"Parquet needs pyarrow: {how_to_install('parquet', 'pyarrow')}") from error
        self._arrow = pa
        self._schema = arrow_schema(columns)
        super().__init__(str(path) if path else str(getattr(stream, "name", "the stream")))
        self._stream = stream  # a text stream that nobody holds closes its bytes
        self._rows: list[Row] = []
        self._target = Target(path) if path else None
        with self._typed_errors():
            self._sink = self._open()
            self._file = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")

    def _open(self) -> IO[bytes]:
        sink: IO[bytes]
        if self._target is None:
            binary = getattr(self._stream, "buffer", None)
            if binary is None:
                raise UsageError("Parquet is bytes: give the name of a file, or a stream that takes bytes")
            sink = self._arrow.PythonFile(binary, mode="w")
        elif not self._target.direct and encode_text(part := str(self._target.part)) == os.fsencode(part):
            # Arrow's own file runs no Python, so Ctrl-C cannot break a page in two.
            sink = self._arrow.OSFile(part, mode="w")
        else:  # Arrow opens neither a pipe nor a path with undecodable bytes
            sink = self._arrow.PythonFile(self._target.part.open("wb", buffering=0), mode="w")
        return sink

    def write(self, report: Report) -> None:
        self._check_open()
        self._rows += to_rows(to_record(report))
        if len(self._rows) >= _ROWS_IN_GROUP:
            with self._typed_errors():
                self._flush()

    def _flush(self) -> None:
        table = self._arrow.table(_arrow_columns(self._rows, self._schema), schema=self._schema)
        before = self._sink.tell()
        try:
            self._file.write_table(table)
        finally:
            # A Ctrl-C is raised after the call that wrote: what is in the file must not be written again at close.
            if self._sink.tell() > before:
                self._rows = []

    def _complete(self) -> None:
        if self._rows:
            self._flush()
        self._file.close()
        if self._target:
            self._sink.close()
            self._target.commit()
        else:
            self._sink.flush()

    def _abandon(self) -> None:
        self._rows = []
        for opened in ("_file", "_sink"):
            with contextlib.suppress(OSError, AttributeError):
                getattr(self, opened).close()
        if self._target:
            with contextlib.suppress(OSError):
                self._target.discard()


def arrow_schema(columns: Mapping[str, type] = COLUMNS) -> pa.Schema:
    """The `pyarrow.Schema` of the rows of records."""
    import pyarrow as pa

    types = {str: pa.string(), int: pa.int32(), float: pa.float64()}
    fields = [pa.field(name, types[kind]) for name, kind in columns.items()]
    return pa.schema(fields, metadata={"agelens.schema": SCHEMA})


def to_arrow(reports: Iterable[Report]) -> pa.RecordBatch:
    """The rows of reports as a `pyarrow.RecordBatch`.

    Raises:
        RecordError: A report holds what no record may hold.
    """
    import pyarrow as pa

    rows = [row for report in reports for row in to_rows(to_record(report))]
    schema = arrow_schema()
    return pa.RecordBatch.from_pydict(_arrow_columns(rows, schema), schema=schema)


def _arrow_columns(rows: list[Row], schema: pa.Schema) -> dict[str, list[object]]:
    return {name: [_arrow_cell(row[name]) for row in rows] for name in schema.names}


def _arrow_cell(value: object) -> object:
    return encode_text(value).decode() if isinstance(value, str) else value
