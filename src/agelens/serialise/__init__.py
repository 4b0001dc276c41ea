"""Report -> JSON, JSON Lines, CSV, Parquet, or a table for people; and back."""

from agelens.serialise.parquet import arrow_schema, to_arrow
from agelens.serialise.record import COLUMNS, VIDEO_COLUMNS, read_jsonl, report_from_dict, to_record, to_rows
from agelens.serialise.writers import Format, Writer, format_of, open_writer

__all__ = [
    "COLUMNS",
    "VIDEO_COLUMNS",
    "Format",
    "Writer",
    "arrow_schema",
    "format_of",
    "open_writer",
    "read_jsonl",
    "report_from_dict",
    "to_arrow",
    "to_record",
    "to_rows",
]
