"""A report as a record of the contract, as rows of a table, and back.

A record is what `Report.to_dict` gives. Lengths and ages come back rounded to 2 digits, probabilities and scores to 4;
`distribution` and `image` are no part of it. Numbers are finite and of plain Python types, or there is no record.

A row is one face: the names of the record joined by `_`, in the order of `COLUMNS`. A picture without faces, or with an
error, gives one row whose face columns are empty. `face` counts from 0, as the list `faces` does, so that rows, crops
and `faces[n]` join without adding one.

Years are the middle of the whole distribution of ages (its mean, its median or the whole year of that, as the model
says), the group is the one that holds most of it: where the distribution is broad or leans to one side, years may lie
outside the group.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from agelens.errors import NotFoundError, RecordError, UnknownSchemaError, UnreadableError
from agelens.types import SCHEMA, Age, Box, Face, Failure, Gender, GenderLabel, ModelId, Point, Report

LANDMARKS = 5

ESTIMATE_COLUMNS: dict[str, type] = {
    "age_years": float,
    "age_low": float,
    "age_high": float,
    "age_coverage": float,
    "age_group": str,
    "age_group_probability": float,
    "gender_label": str,
    "gender_probability": float,
    "gender_female_probability": float,
}
"""The columns of an age and a gender, wherever they stand."""

MODEL_COLUMNS: dict[str, type] = {"model_name": str, "model_sha256": str}
"""The columns of the model that judged."""

COLUMNS: dict[str, type] = {
    "schema": str,
    "source": str,
    "width": int,
    "height": int,
    "face": int,
    "box_x": float,
    "box_y": float,
    "box_width": float,
    "box_height": float,
    "detection_score": float,
    **{f"landmarks_{i}_{axis}": float for i, axis in itertools.product(range(LANDMARKS), "xy")},
    **ESTIMATE_COLUMNS,
    **MODEL_COLUMNS,
    "error_code": str,
    "error_message": str,
}
"""The columns of CSV and Parquet and the type of each; every one may be empty."""

VIDEO_COLUMNS: dict[str, type] = {
    **dict(itertools.islice(COLUMNS.items(), 2)),
    "frame": int,
    "time_seconds": float,
    **dict(itertools.islice(COLUMNS.items(), 2, 5)),
    "track": int,
    **dict(itertools.islice(COLUMNS.items(), 5, None)),
}
"""The columns of the frames of a video."""

_PLAIN = frozenset({str, int, type(None)})
_Kind = TypeVar("_Kind")
Record = dict[str, Any]
Row = dict[str, Any]


def to_record(report: Report) -> Record:
    """The record of a report.

    Raises:
        RecordError: A value is no finite number of a plain Python type (a NaN, a numpy scalar). Then an estimator is at
            fault: nothing is written rather than something that no reader takes.
    """
    record = report.to_dict()
    _check_plain(record, "record", report.source)
    return record


def to_rows(record: Mapping[str, Any]) -> list[Row]:
    """The rows of a record: one a face, or one without a face; None where there is nothing.

    Keys are as in `COLUMNS`; a frame of a video has those of `VIDEO_COLUMNS`.
    """
    shared: Row = dict.fromkeys(VIDEO_COLUMNS if "frame" in record else COLUMNS)
    shared |= {name: record[name] for name in ("schema", "source", "width", "height")}
    shared |= {name: record[name] for name in ("frame", "time_seconds") if name in record}
    shared |= _joined("model", record["model"]) | _joined("error", record["error"])
    return [shared | _face_cells(i, face) for i, face in enumerate(record["faces"])] or [shared]


def encode_text(text: str, encoding: str = "utf-8") -> bytes:
    r"""Bytes of any text: what the encoding does not have, in UTF-8 lone surrogates only, becomes an escape.

    `\udc80` is six characters of plain text, and inside a JSON string just what JSON asks for.
    """
    return text.encode(encoding, "backslashreplace")


def _face_cells(index: int, face: Mapping[str, Any]) -> Row:
    cells = {"face": index, "detection_score": face["detection_score"]}
    cells |= {"track": face["track"]} if "track" in face else {}
    cells |= _joined("box", face["box"]) | _joined("age", face["age"]) | _joined("gender", face["gender"])
    # "gender_female_probability" is gender.female_probability joined: the rule holds without exception.
    for i, (x, y) in enumerate(face["landmarks"]):
        cells |= {f"landmarks_{i}_x": x, f"landmarks_{i}_y": y}
    return cells


def _joined(name: str, values: Mapping[str, Any] | None) -> Row:
    return {f"{name}_{key}": value for key, value in (values or {}).items()}


def _check_plain(value: object, where: str, source: str) -> None:
    if _is_plain(value):
        return
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(item, f"{where}.{key}", source)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check_plain(item, f"{where}[{i}]", source)
    else:
        kind = type(value)
        what = f"{value}, not a finite number" if kind is float else f"a {kind.__module__}.{kind.__name__}"
        raise RecordError(f"the result for {source!a} cannot be written: {where} is {what}")


def _is_plain(value: object) -> bool:
    """Whether JSON can hold it as it is."""
    kind = type(value)
    if kind is float:
        return math.isfinite(cast("float", value))
    if kind is dict:
        return all(map(_is_plain, cast("dict[str, object]", value).values()))
    if kind is list:
        return all(map(_is_plain, cast("list[object]", value)))
    return kind in _PLAIN


def report_from_dict(record: Mapping[str, Any]) -> Report:
    """The report that a record was made from, up to rounding; members that this version does not know are ignored.

    Raises:
        UnknownSchemaError: The record is of another schema, or of a later version of it.
        RecordError: A member is missing or of the wrong kind.
    """
    if not isinstance(record, Mapping):
        raise RecordError(f"a record is a JSON object, not a {type(record).__name__}")
    schema = record.get("schema")
    if schema != SCHEMA:
        raise UnknownSchemaError(f"the record is of schema {schema!r}; this version reads {SCHEMA!r}: update agelens")
    reader = _Reader(record, "record")
    error = reader.optional("error")
    model = reader.member("model")
    faces = reader.get("faces", list)
    return Report(
        source=reader.get("source", str),
        width=None if record.get("width") is None else reader.get("width", int),
        height=None if record.get("height") is None else reader.get("height", int),
        faces=tuple(_face(_Reader(face, f"record.faces[{i}]")) for i, face in enumerate(faces)),
        model=ModelId(model.get("name", str), model.get("sha256", str)),
        error=Failure(error.get("code", str), error.get("message", str)) if error else None,
        frame=None if record.get("frame") is None else reader.get("frame", int),
        time_seconds=None if record.get("time_seconds") is None else reader.number("time_seconds"),
    )


def _face(reader: _Reader) -> Face:
    box, age, gender = reader.member("box"), reader.optional("age"), reader.optional("gender")
    sides = [box.number(name) for name in ("x", "y", "width", "height")]
    if sides[2] < 0 or sides[3] < 0:
        box.refuse("a box has no negative size")
    return Face(
        box=Box(*sides),
        detection_score=reader.number("detection_score"),
        landmarks=tuple(_point(reader, item) for item in reader.get("landmarks", list)),
        age=_age(age) if age else None,
        gender=_gender(gender) if gender else None,
        track=None if reader.values.get("track") is None else reader.get("track", int),
    )


def _point(reader: _Reader, item: object) -> Point:
    if not isinstance(item, list) or len(item) != 2:
        reader.refuse("a landmark is a pair of numbers")
    x, y = (_Reader({"landmarks": value}, reader.where).number("landmarks") for value in item)
    return x, y


def _age(reader: _Reader) -> Age:
    return Age(
        years=reader.number("years"),
        low=reader.number("low"),
        high=reader.number("high"),
        coverage=reader.number("coverage"),
        group=reader.get("group", str),
        group_probability=reader.number("group_probability"),
    )


def _gender(reader: _Reader) -> Gender:
    label = reader.get("label", str)
    if label not in ("female", "male", "unknown"):
        reader.refuse(f"{label!a} is none of female, male, unknown")
    return Gender(cast("GenderLabel", label), reader.number("probability"), reader.number("female_probability"))


class _Reader:
    """Typed access to one object of a record; every refusal says where it stands."""

    def __init__(self, values: object, where: str) -> None:
        self.where = where
        if not isinstance(values, Mapping):
            self.refuse("not an object")
        self.values: Mapping[str, Any] = values

    def refuse(self, why: str) -> NoReturn:
        raise RecordError(f"{self.where}: {why}")

    def get(self, name: str, kind: type[_Kind]) -> _Kind:
        if name not in self.values:
            self.refuse(f"{name} is missing")
        value = self.values[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            self.refuse(f"{name} is no {kind.__name__}")
        return value

    def number(self, name: str) -> float:
        if name not in self.values:
            self.refuse(f"{name} is missing")
        value = self.values[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.refuse(f"{name} is no finite number")
        return float(value)

    def member(self, name: str) -> _Reader:
        return _Reader(self.get(name, dict), f"{self.where}.{name}")

    def optional(self, name: str) -> _Reader | None:
        return None if self.values.get(name) is None else self.member(name)


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[Report]:
    """Reads the reports of a JSON Lines file one by one; empty lines are skipped.

    Raises:
        NotFoundError: There is no such file.
        UnreadableError: It may not, or cannot, be read.
        UnknownSchemaError: A record is of another schema.
        RecordError: A line is no record; the message names it by number.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _parse_line(line, f"{path}, line {number}")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}") from error
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror or error}") from error


def _parse_line(line: bytes, where: str) -> Report:
    try:
        record = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except ValueError as error:
        raise RecordError(f"{where}: no JSON ({error}); the file may have been cut off there") from error
    try:
        return report_from_dict(record)
    except RecordError as error:
        raise type(error)(f"{where}: {error.message}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
