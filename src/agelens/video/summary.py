"""A track in one row, and all rows of a run as a file."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agelens.advice import how_to_install
from agelens.errors import MissingPackageError, UsageError
from agelens.outfile import write_whole
from agelens.serialise.record import ESTIMATE_COLUMNS, MODEL_COLUMNS, encode_text

if TYPE_CHECKING:
    from agelens.types import ModelId
    from agelens.video.tracks import Track

Row = dict[str, Any]

TRACK_SCHEMA: Final = "agelens.track/1"
COLUMNS: Final[dict[str, type]] = {
    "schema": str,
    "source": str,
    "track": int,
    "first_frame": int,
    "first_seconds": float,
    "last_frame": int,
    "last_seconds": float,
    "frames": int,
    "independent_looks": float,
    **ESTIMATE_COLUMNS,
    "best_frame": int,
    "best_seconds": float,
    "best_box_x": float,
    "best_box_y": float,
    "best_box_width": float,
    "best_box_height": float,
    "crop": str,
    **MODEL_COLUMNS,
}
"""The columns of a summary and the type of each; age, gender and crop may be empty."""

SUMMARY_ENDINGS: Final = (".csv", ".parquet", ".json", ".jsonl")


def to_row(track: Track, source: str, model: ModelId, crop: str | None = None) -> Row:
    """One track as a row; `crop` is where its best crop was saved."""
    row: Row = dict.fromkeys(COLUMNS)
    row |= {
        "schema": TRACK_SCHEMA,
        "source": source,
        "track": track.number,
        "first_frame": track.first_frame,
        "first_seconds": round(track.first_seconds, 6),
        "last_frame": track.last_frame,
        "last_seconds": round(track.last_seconds, 6),
        "frames": track.frames,
        "independent_looks": round(track.independent_looks, 1),
        "best_frame": track.best.frame,
        "best_seconds": round(track.best.time_seconds, 6),
        "crop": crop,
    }
    parts = {"age": track.age, "gender": track.gender, "best_box": track.best.box, "model": model}
    for name, part in parts.items():
        if part is not None:
            row |= {f"{name}_{key}": value for key, value in part.to_dict().items()}
    return row


def check_summary_name(path: str | os.PathLike[str]) -> None:
    """Refuses a name whose ending stands for no format of summaries.

    Raises:
        UsageError: It does not.
        MissingPackageError: The format needs an optional package.
    """
    ending = Path(path).suffix.lower()
    if ending not in SUMMARY_ENDINGS:
        raise UsageError(f"the summary of tracks {os.fspath(path)!r} must end in one of {' '.join(SUMMARY_ENDINGS)}")
    if ending == ".parquet":
        _load_arrow()


def write_summary(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Writes all rows in the format that the name's ending says; the file is whole from the moment it has its name.

    Raises:
        UsageError: The ending is unknown.
        MissingPackageError: Parquet needs pyarrow.
        OutputError: It can't be written.
    """
    check_summary_name(path)
    ending = Path(path).suffix.lower()
    if ending == ".parquet":
        write_whole(path, _to_parquet(rows))
    elif ending == ".csv":
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_whole(path, encode_text(text.getvalue()))
    else:
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows]
        whole = "".join(f"{line}\n" for line in lines) if ending == ".jsonl" else "[\n" + ",\n".join(lines) + "\n]\n"
        write_whole(path, encode_text(whole))


def _load_arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackageError(f"Parquet needs pyarrow: {how_to_install('parquet', 'pyarrow')}") from error
    return pa, parquet


def _to_parquet(rows: Sequence[Row]) -> bytes:
    pa, parquet = _load_arrow()
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([pa.field(name, types[kind]) for name, kind in COLUMNS.items()])
    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    columns = {name: [_cell(value) for value in values] for name, values in columns.items()}
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns, schema=schema), sink, compression="zstd")
    return sink.getvalue()


def _cell(value: object) -> object:
    return encode_text(value).decode() if isinstance(value, str) else value
