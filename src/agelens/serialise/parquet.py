"""Rows of records as a Parquet file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TextIO

from agelens.advice import how_to_install
from agelens.errors import MissingPackageError, UsageError
from agelens.outfile import Closing, Target
from agelens.serialise.record import Row, encode_text, to_record, to_rows
from agelens.types import SCHEMA, Report

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
        types = {str: pa.string(), int: pa.int32(), float: pa.float64()}
        fields = [pa.field(name, types[kind]) for name, kind in columns.items()]
        self._schema = pa.schema(fields, metadata={"agelens.schema": SCHEMA})
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
        columns = {name: [_arrow_cell(row[name]) for row in self._rows] for name in self._schema.names}
        table = self._arrow.table(columns, schema=self._schema)
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


def _arrow_cell(value: object) -> object:
    return encode_text(value).decode() if isinstance(value, str) else value
