"""Errors as HTTP answers: application/problem+json (RFC 9457) with the codes of `agelens.errors`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from agelens import errors
from agelens.errors import AgelensError
from agelens.serialise.record import encode_text
from agelens.types import Failure

MEDIA_TYPE: Final = "application/problem+json"


def _list_kinds() -> dict[str, type[AgelensError]]:
    kinds: list[type[AgelensError]] = [AgelensError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    return {kind.code: kind for kind in kinds}


KINDS: Final[Mapping[str, type[AgelensError]]] = _list_kinds()
"""Code -> class."""


def title_of(code: str) -> str:
    """What a code means, in one sentence."""
    return (KINDS[code].__doc__ or "").strip().splitlines()[0]


def describe_problem(code: str, detail: str) -> dict[str, Any]:
    """The members of a problem."""
    kind = KINDS[code]
    return {
        "type": f"urn:agelens:error:{code}",
        "title": title_of(code),
        "status": kind.http_status,
        "detail": detail,
        "code": code,
    }


def answer_problem(
    problem: AgelensError | Failure,
    *,
    headers: Mapping[str, str] | None = None,
    records: Sequence[Mapping[str, Any]] | None = None,
) -> Response:
    """The answer to a request that failed.

    Args:
        problem: What went wrong.
        headers: Further headers.
        records: The records of its pictures, if it was of several and none could be read.
    """
    members = describe_problem(problem.code, problem.message)
    if records is not None:
        members["records"] = list(records)
    extra = dict(headers or {})
    if isinstance(problem, errors.UnauthorizedError):
        extra["WWW-Authenticate"] = 'Bearer realm="agelens"'
    body = encode_text(json.dumps(members, ensure_ascii=False))
    return Response(body, status_code=members["status"], media_type=MEDIA_TYPE, headers=extra)
