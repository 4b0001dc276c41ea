r"""Reports become files and streams: JSON Lines, JSON, CSV, Parquet, and a table for people.

Every writer is a context manager with `write(report)`. To a path, the file has its name only once it is closed, and
then it is valid: also when the `with` block is left by an exception or Ctrl-C, with all that was written until then.
Where the disk itself refuses, there is an OutputError and no new file of that name; the whole records that a JSON Lines
or CSV file already held stay beside it under a hidden name that the message tells.

To a stream, each record is written and flushed at once. A reader that goes away (`| head`) shows as BrokenPipeError,
which is left to the caller: it is no failure of the output.

Names of files are written as they are. Undecodable bytes in them, lone surrogates in Python, become `\udcXX`: in JSON
that is an escape, so they come back as they were; in CSV, Parquet and the table it is six plain characters. A name that
starts with `=`, `+`, `-` or `@` is not altered either, as that would break joins: when a spreadsheet opens a CSV with
names that you do not trust, import the column as text. CSV is UTF-8 without a byte order mark, with `\n` after each
row, quoted where it holds a comma, a quote or a line break.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Literal, Protocol, Self, TextIO, get_args

from agelens.errors import UsageError
from agelens.outfile import Closing, PartFile
from agelens.serialise.parquet import ParquetWriter
from agelens.serialise.record import COLUMNS, VIDEO_COLUMNS, encode_text, to_record, to_rows
from agelens.serialise.table import TableText
from agelens.types import Report

if TYPE_CHECKING:
    from collections.abc import Iterable

Format = Literal["jsonl", "json", "csv", "parquet", "table"]
_BY_EXTENSION: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}


class Writer(Protocol):
    """Takes reports one by one.

    A class of this protocol is also a context manager that closes itself.
    """

    def write(self, report: Report) -> None:
        """Takes one report.

        Raises:
            RecordError: The report holds what no record may hold; nothing of it was written.
            OutputError: It could not be written; the writer takes no more.
            BrokenPipeError: Nobody reads the stream any more.
        """
        ...

    def close(self) -> None:
        """Completes the output; a file gets its name. Closing twice does nothing.

        Raises:
            OutputError: It could not be completed; there is no file of that name.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def format_of(path: str | os.PathLike[str]) -> Format | None:
    """The format of records that the ending of a name stands for, or None."""
    return _BY_EXTENSION.get(Path(path).suffix.lower())


def open_writer(
    target: str | os.PathLike[str] | TextIO, file_format: Format | None = None, *, video: bool = False
) -> Writer:
    """Opens a writer.

    Args:
        target: The path of a file, or a text stream such as `sys.stdout`.
        file_format: By default that of the path's ending, and JSON Lines for a stream.
        video: Whether the reports are of frames, which have more columns.

    Raises:
        UsageError: The format is unknown.
        MissingPackageError: The format needs an optional package.
        OutputError: The file cannot be created.
    """
    path = Path(target) if isinstance(target, str | os.PathLike) else None
    stream = None if isinstance(target, str | os.PathLike) else target
    chosen = file_format or (format_of(path) if path else "jsonl")
    if chosen is None or chosen not in get_args(Format):
        what = f"unknown format {file_format}" if file_format else f"the name {path} stands for no format of records"
        raise UsageError(
            f"{what}; end it with one of {' '.join(_BY_EXTENSION)}, or choose {', '.join(get_args(Format))}"
        )
    if chosen == "parquet":
        return ParquetWriter(path, stream, VIDEO_COLUMNS if video else COLUMNS)
    text = _make_text(chosen, stream, video=video)
    if isinstance(target, str | os.PathLike):
        return _TextWriter(_FileSink(Path(target)), text)
    encoding = target.encoding if chosen == "table" else None  # None for a stream in memory
    return _TextWriter(_StreamSink(target, encoding or "utf-8"), text)


# --- formats of text -----------------------------------------------------------------------------------------------


class _Text(Protocol):
    """How reports become text.

    Attributes:
        opening: Comes first, even without any record.
        separator: Comes between two records.
        closing: Comes last.
        keepable: What a full disk cut off after a whole record is still of use.
    """

    opening: str
    separator: str
    closing: str
    keepable: bool

    def body(self, report: Report) -> str: ...


class _JsonLines:
    opening = separator = closing = ""
    keepable = True

    def body(self, report: Report) -> str:
        return _to_json(report) + "\n"


class _JsonArray:
    opening, separator, closing = "[\n", ",\n", "\n]\n"
    keepable = False

    def body(self, report: Report) -> str:
        return _to_json(report)


class _CsvRows:
    separator = closing = ""
    keepable = True

    def __init__(self, columns: Iterable[str]) -> None:
        self.opening = _csv_line(columns)

    def body(self, report: Report) -> str:
        return "".join(_csv_line(row.values()) for row in to_rows(to_record(report)))


def _make_text(chosen: Format, stream: TextIO | None, *, video: bool) -> _Text:
    if chosen == "table":
        return TableText(stream)
    if chosen == "csv":
        return _CsvRows(VIDEO_COLUMNS if video else COLUMNS)
    return _JsonArray() if chosen == "json" else _JsonLines()


def _to_json(report: Report) -> str:
    # allow_nan stays a second guard behind to_record.
    return json.dumps(to_record(report), ensure_ascii=False, allow_nan=False)


def _csv_line(cells: Iterable[object]) -> str:
    # With this terminator the csv module quotes a carriage return as well as a line feed.
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


# --- where text goes -----------------------------------------------------------------------------------------------


class _Sink(Protocol):
    name: str

    @property
    def size(self) -> int: ...

    def write(self, text: str) -> None: ...

    def finish(self) -> None: ...

    def abandon(self, *, keep: bool) -> Path | None: ...


class _FileSink:
    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._file = PartFile(path)

    @property
    def size(self) -> int:
        return self._file.size

    def write(self, text: str) -> None:
        self._file.write(encode_text(text))
        if self._file.target.direct:
            self._file.flush()

    def finish(self) -> None:
        self._file.commit()

    def abandon(self, *, keep: bool) -> Path | None:
        return self._file.abandon(keep=keep)


class _StreamSink:
    """A stream of the caller's: flushed after each record, never closed. Its bytes are used where it has any."""

    def __init__(self, stream: TextIO, encoding: str) -> None:
        self.name = str(getattr(stream, "name", "the stream"))
        self.size = 0
        self._stream = stream
        self._bytes: IO[bytes] | None = getattr(stream, "buffer", None)
        self._encoding = encoding

    def write(self, text: str) -> None:
        data = encode_text(text, self._encoding)
        if self._bytes is None:
            self._stream.write(data.decode(self._encoding))
            self._stream.flush()
        else:
            self._stream.flush()
            self._bytes.write(data)
            self._bytes.flush()
        self.size += len(data)

    def finish(self) -> None:
        self._stream.flush()

    def abandon(self, *, keep: bool) -> Path | None:
        del keep  # what a reader has got cannot be taken back
        return None


class _TextWriter(Closing):
    def __init__(self, sink: _Sink, text: _Text) -> None:
        super().__init__(sink.name)
        self._sink = sink
        self._text = text
        with self._typed_errors():
            sink.write(text.opening)
        self._opened = sink.size

    def write(self, report: Report) -> None:
        self._check_open()
        body = self._text.body(report)
        with self._typed_errors():
            self._sink.write(body if self._sink.size == self._opened else self._text.separator + body)

    def _complete(self) -> None:
        self._sink.write(self._text.closing)
        self._sink.finish()

    def _abandon(self) -> Path | None:
        return self._sink.abandon(keep=self._text.keepable)
