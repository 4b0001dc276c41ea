"""Reports as HTTP answers: records as JSON, JSON Lines and CSV, or an annotated picture."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from agelens.errors import TooManyPixelsError, UsageError
from agelens.render import LONGEST_SIDE, annotate, encode_picture
from agelens.serialise import open_writer, to_record
from agelens.serialise.record import encode_text
from agelens.server.problems import answer_problem

if TYPE_CHECKING:
    from agelens.server.options import AnnotateQuery, PredictQuery
    from agelens.types import Report

MEDIA_TYPES: Final = {"json": "application/json", "jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
DISTRIBUTION: Final = "age_distribution"
DISTRIBUTION_DIGITS: Final = 5


def make_record(report: Report, *, distribution: bool = False) -> dict[str, Any]:
    """The record of the contract; with `distribution`, each face has one more member, as the contract allows."""
    record = to_record(report)
    if distribution:
        for face, entry in zip(report.faces, record["faces"], strict=True):
            values = face.age.distribution if face.age else None
            entry[DISTRIBUTION] = [round(value, DISTRIBUTION_DIGITS) for value in values] if values else None
    return record


def answer_records(reports: Sequence[Report], query: PredictQuery, *, is_form: bool) -> Response:
    """The answer of `predict`: 200 if any picture could be read, else the problem of the first.

    A raw body gives its record; a form gives `records`, one for each file, in order.
    """
    if query.format == "csv" and query.distribution:
        raise UsageError("CSV has no room for the distribution; ask for format=json or format=jsonl")
    failures = [report.error for report in reports]
    if failures[0] is not None and all(failures):
        records = [make_record(report) for report in reports] if is_form else None
        return answer_problem(failures[0], records=records)
    return Response(_write(reports, query, is_form=is_form), media_type=MEDIA_TYPES[query.format])


def _write(reports: Sequence[Report], query: PredictQuery, *, is_form: bool) -> bytes:
    if query.format == "csv":
        text = io.StringIO()
        with open_writer(text, "csv") as writer:
            for report in reports:
                writer.write(report)
        return encode_text(text.getvalue())
    records = [make_record(report, distribution=query.distribution) for report in reports]
    if query.format == "jsonl":
        return encode_text("".join(_to_json(record) + "\n" for record in records))
    return encode_text(_to_json({"records": records} if is_form else records[0]))


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def draw(report: Report, query: AnnotateQuery) -> bytes:
    """The annotated picture as a file.

    Raises:
        TooManyPixelsError: It is larger than the format holds.
        OutputError: The format's encoder refuses it.
    """
    assert report.image is not None
    kind = query.format.upper()
    limit = LONGEST_SIDE.get(kind)
    if limit and max(report.image.width, report.image.height) > limit:
        raise TooManyPixelsError(f"{query.format} holds at most {limit} pixels a side; ask for format=png")
    return encode_picture(annotate(report.image, report.faces, group=query.label_group), kind)
