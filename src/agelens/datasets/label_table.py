"""Label files: CSV, TSV, JSON Lines or Parquet, read as rows of text by column name."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from agelens.advice import how_to_install
from agelens.errors import MissingPackageError, NotFoundError, UnreadableLabelsError

TextRow = Mapping[str, str]

csv.field_size_limit(1 << 24)


def read_table(path: Path) -> Iterator[TextRow]:
    """The rows of a label file, each a mapping from column name to stripped text ("" where a value is missing).

    Raises:
        NotFoundError: There is no such file.
        UnreadableLabelsError: It is empty, not UTF-8, or not of the form that its ending says.
        MissingPackageError: It is Parquet and pyarrow is not installed.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no label file {path}")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _read_parquet(path)
    elif suffix in (".jsonl", ".ndjson"):
        yield from _parse_lines(path.read_bytes(), str(path))
    else:
        yield from parse_table(path.read_bytes(), str(path))


def parse_table(content: bytes, name: str, *, delimiter: str = "") -> Iterator[TextRow]:
    """The rows of a delimited text with a header line; by default the header tells comma, semicolon and tab apart.

    Raises:
        UnreadableLabelsError: It is empty, not UTF-8, or a row is longer than the header.
    """
    lines = _decode(content, name).splitlines()
    if not lines:
        raise UnreadableLabelsError(f"{name} is empty")
    reader = csv.DictReader(lines, delimiter=delimiter or max("\t;,", key=lines[0].count), restkey="")
    for row in reader:
        if "" in row and isinstance(row[""], list):
            raise UnreadableLabelsError(
                f"{name}, line {reader.line_num}: more values than the header has columns. Quote values with a comma"
            )
        yield {(key or "").strip(): (value or "").strip() for key, value in row.items()}


def find_column(columns: Iterable[str], names: Sequence[str], what: str, source: str) -> str:
    """The first of `names` among `columns`, capitals aside.

    Raises:
        UnreadableLabelsError: None is there; the message names what is, and the nearest.
    """
    present = {column.lower(): column for column in columns}
    for name in names:
        if name.lower() in present:
            return present[name.lower()]
    near = difflib.get_close_matches(names[0].lower(), present, n=1)
    hint = f" Did you mean {present[near[0]]!r}?" if near else ""
    raise UnreadableLabelsError(
        f"{source} has no column for the {what} (looked for {', '.join(names)}); it has {', '.join(present.values())}."
        f"{hint}"
    )


def _parse_lines(content: bytes, name: str) -> Iterator[TextRow]:
    """Rows of JSON objects. What one leaves out is missing there: the columns are those of all rows together."""
    rows: list[TextRow] = []
    for number, line in enumerate(_decode(content, name).split("\n"), 1):
        if not line.strip():
            continue
        try:
            parsed = json.loads(line)
        except ValueError as error:
            raise UnreadableLabelsError(f"{name}, line {number}: not JSON ({error})") from error
        if not isinstance(parsed, dict):
            raise UnreadableLabelsError(f"{name}, line {number}: not a JSON object")
        rows.append({str(key): _text(value) for key, value in parsed.items()})
    blank = dict.fromkeys((column for row in rows for column in row), "")
    return ({**blank, **row} for row in rows)


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableLabelsError(f"{name} is not UTF-8 text: {error}. Save it as UTF-8") from error


def _read_parquet(path: Path) -> Iterator[TextRow]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackageError(
            f"a Parquet label file needs pyarrow: {how_to_install('parquet', 'pyarrow')}"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    yield {str(key): _text(value) for key, value in row.items()}
    except (pyarrow.ArrowException, OSError) as error:
        raise UnreadableLabelsError(f"{path} is no readable Parquet file: {error}") from error


def _text(value: object) -> str:
    if value is None or value != value:  # NaN, the missing number of data frames
        return ""
    # A number that a data frame made a decimal one, because another cell is empty, is still the number that it was.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
