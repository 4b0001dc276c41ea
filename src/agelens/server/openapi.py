"""What the API says of itself: the contract's own schema, problems, and examples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query
from pydantic import BaseModel

from agelens.server.answers import DISTRIBUTION
from agelens.server.problems import KINDS, MEDIA_TYPE, describe_problem, title_of
from agelens.types import SCHEMA

DESCRIPTION: Final = """\
Finds the faces in pictures and estimates how old each person looks, with an interval that holds, and how they present,
with a calibrated probability. Records are those of `agelens predict`. Nothing is stored.

Errors are `application/problem+json` with a stable `code`.
"""
TAGS: Final = [
    {"name": "pictures", "description": "Pictures in, records or pictures out."},
    {"name": "server", "description": "What it runs, and how it is."},
]
RECORD: Final[dict[str, Any]] = {
    "schema": SCHEMA,
    "source": "family.jpg",
    "width": 1200,
    "height": 800,
    "faces": [
        {
            "box": {"x": 410.2, "y": 120.9, "width": 96.0, "height": 121.5},
            "detection_score": 0.98,
            "landmarks": [[430.1, 160.2], [471.9, 158.8], [452.0, 184.4], [434.6, 209.1], [469.3, 207.7]],
            "age": {
                "years": 31.0,
                "low": 24.0,
                "high": 40.0,
                "coverage": 0.9,
                "group": "(25, 32)",
                "group_probability": 0.61,
            },
            "gender": {"label": "female", "probability": 0.97, "female_probability": 0.97},
        }
    ],
    "model": {"name": "agelens-base", "sha256": "dde51db6ee55" + "0" * 52},
    "error": None,
}
BAD_RECORD: Final[dict[str, Any]] = RECORD | {
    "source": "broken.jpg",
    "width": None,
    "height": None,
    "faces": [],
    "error": {
        "code": "truncated_image",
        "message": "the file ends before the picture does; copy or download it again",
    },
}
PICTURE_TYPES: Final = ("image/jpeg", "image/png", "image/webp", "image/*", "application/octet-stream")
BODY_CODES: Final = (
    *("bad_request", "unauthorized", "cross_site", "url_not_allowed", "slow_upload", "body_too_large", "wrong_host"),
    *("unsupported_format", "usage", "overloaded", "url_failed", "time_limit"),
)
PLAIN_CODES: Final = ("unauthorized", "wrong_host")


@cache
def schemas() -> dict[str, Any]:
    """The named schemas: the record, as the package's JSON Schema has it, and what is made of it."""
    text = resources.files("agelens.serialise").joinpath("prediction.schema.json").read_text("utf-8")
    parts = json.loads(text.replace("#/$defs/", "#/components/schemas/Prediction_"))
    named = {f"Prediction_{name}": schema for name, schema in parts.pop("$defs").items()}
    for unwanted in ("$schema", "$id"):
        parts.pop(unwanted, None)
    face = named["Prediction_face"]
    face["properties"][DISTRIBUTION] = {
        "description": "Only on request: the probability of each year of age 0, 1, ... 100 (and more); rounded to 5"
        " digits. Null where age was not asked for.",
        "type": ["array", "null"],
        "items": {"type": "number", "minimum": 0, "maximum": 1},
    }
    return named | {
        "Prediction": parts | {"examples": [RECORD]},
        "Predictions": {
            "description": "One record for each file of the form, in order.",
            "type": "object",
            "required": ["records"],
            "properties": {"records": {"type": "array", "items": _ref("Prediction")}},
            "additionalProperties": False,
        },
        "Problem": {
            "description": "What went wrong (RFC 9457).",
            "type": "object",
            "required": ["type", "title", "status", "detail", "code"],
            "properties": {
                "type": {"type": "string", "format": "uri"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"description": "What is wrong and what to do.", "type": "string"},
                "code": {"description": "Stable.", "type": "string", "enum": sorted(KINDS)},
                "records": {
                    "description": "Of a form of which no picture could be read.",
                    "type": "array",
                    "items": _ref("Prediction"),
                },
            },
        },
        "Upload": {
            "type": "object",
            "properties": {
                "file": {
                    "description": "One picture or several: repeat the field.",
                    "type": "array",
                    "items": {"type": "string", "format": "binary"},
                    "minItems": 1,
                }
            },
            "required": ["file"],
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def describe_query(kind: type[BaseModel]) -> dict[str, Any]:
    """The parameters of the query, as FastAPI describes them."""

    def ask(query: object) -> None:
        del query

    ask.__annotations__["query"] = Annotated[kind, Query()]
    described = FastAPI()
    described.get("/")(ask)
    return {"parameters": described.openapi()["paths"]["/"]["get"]["parameters"]}


def describe_body(*, several: bool) -> dict[str, Any]:
    """The request body: a form, or the picture itself."""
    raw = {"schema": {"type": "string", "format": "binary"}}
    form = {"schema": _ref("Upload"), "encoding": {"file": {"contentType": "image/*"}}}
    what = "One picture or several as files of a form" if several else "One picture as the file of a form"
    return {
        "requestBody": {
            "description": f"{what}, or one picture as the body itself. Formats are told by content.",
            "required": False,
            "content": {"multipart/form-data": form, **dict.fromkeys(PICTURE_TYPES, raw)},
        }
    }


def describe_problems(codes: Sequence[str]) -> dict[int | str, dict[str, Any]]:
    """The responses for these codes, by status."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(KINDS[code].http_status, []).append(code)
    answers: dict[int | str, dict[str, Any]] = {}
    for status, some in sorted(by_status.items()):
        examples = {code: {"value": describe_problem(code, _example_detail(code))} for code in some}
        answer: dict[str, Any] = {
            "description": " ".join(title_of(code) for code in some),
            "content": {MEDIA_TYPE: {"schema": _ref("Problem"), "examples": examples}},
        }
        if status in (429, 503):
            answer["headers"] = {
                "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
            }
        answers[status] = answer
    return answers


def _example_detail(code: str) -> str:
    details = {
        "unsupported_format": "this is a PDF document, not a picture that can be read (JPEG, PNG, WebP, ...)",
        "overloaded": "64 pictures are waiting or under way, the limit is 64; try again in 1 s",
        "usage": "there is no parameter 'gender_treshold'; did you mean 'gender_threshold'?",
        "body_too_large": "the body has more than 67,108,864 bytes, the limit; send fewer or smaller pictures",
    }
    return details.get(code, title_of(code))


def describe_records() -> dict[str, Any]:
    """The answer of `predict`."""
    row = "schema,source,width,height,face,box_x,...\nagelens.prediction/1,family.jpg,1200,800,0,410.2,...\n"
    return {
        "description": "The record of a raw body; `records` of a form, where a picture that can't be read has `error`.",
        "content": {
            "application/json": {
                "schema": {"anyOf": [_ref("Prediction"), _ref("Predictions")]},
                "examples": {
                    "raw": {"summary": "A raw body", "value": RECORD},
                    "form": {"summary": "A form of two files", "value": {"records": [RECORD, BAD_RECORD]}},
                },
            },
            "application/x-ndjson": {"schema": {"type": "string"}, "example": json.dumps(RECORD) + "\n"},
            "text/csv": {"schema": {"type": "string"}, "example": row},
        },
    }


def describe_picture() -> dict[str, Any]:
    """The answer of `annotate`."""
    picture = {"schema": {"type": "string", "format": "binary"}}
    return {
        "description": "The picture with boxes and labels, upright and in full resolution.",
        "content": dict.fromkeys(("image/jpeg", "image/png", "image/webp"), picture),
    }
