"""The application: every path of the API, and the page."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Coroutine
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from agelens import __version__
from agelens.errors import (
    AgelensError,
    BadRequestError,
    BodyTooLargeError,
    OverloadedError,
    ServerError,
    StoppingError,
    TimeLimitError,
    TooManyPixelsError,
    UnknownPathError,
    WrongMethodError,
)
from agelens.groups import NAMED
from agelens.server import openapi
from agelens.server.answers import answer_records, draw
from agelens.server.bodies import Upload, fetch_upload, read_upload
from agelens.server.fetch import Fetcher
from agelens.server.guard import CLIENT_GONE, Guard
from agelens.server.options import AnnotateQuery, FaceQuery, PredictQuery, read_queries
from agelens.server.problems import answer_problem
from agelens.zoo import list_shipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from agelens.server.admission import Lease
    from agelens.server.engine import Engine
    from agelens.types import Report

Result = TypeVar("Result")

PAGE_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".webmanifest": "application/manifest+json",
}


def create_app(engine: Engine) -> ASGIApp:
    """The whole application around an engine that is open."""
    app = FastAPI(
        title="agelens",
        version=__version__,
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        docs_url=None,  # both load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    _add_pictures(app, engine)
    _add_server(app, engine)
    _add_page(app)
    _add_errors(app, engine)
    _complete_openapi(app, needs_key=engine.settings.api_key is not None)
    return Guard(app, engine)


def _add_pictures(app: FastAPI, engine: Engine) -> None:
    fetcher = Fetcher(engine.settings.limits.max_bytes) if engine.settings.allow_url else None

    read_predict, read_annotate = read_queries(PredictQuery), read_queries(AnnotateQuery)

    async def take(request: Request, lease: Lease, query: FaceQuery, most: int | None = None) -> Upload:
        if query.url is not None:
            return await fetch_upload(request, lease, engine.settings, query.url, fetcher)
        name = query.source if isinstance(query, PredictQuery) else None
        return await read_upload(request, lease, engine.settings, name=name, most=most)

    @app.post(
        "/v1/predict",
        tags=["pictures"],
        summary="Age and gender of every face",
        response_class=Response,
        responses={200: openapi.describe_records(), **openapi.describe_problems(openapi.BODY_CODES)},
        openapi_extra=openapi.describe_query(PredictQuery) | openapi.describe_body(several=True),
    )
    async def predict(request: Request) -> Response:
        """Takes one picture as the body, or several as files of a form.

        A picture that can't be read never stops the others: its record carries the `error`. Where no picture could be
        read, the answer is the problem of the first, with its status.
        """
        query = read_predict(request.scope["query_string"])
        with engine.admission.admit() as lease:
            upload = await take(request, lease, query)
            options = query.options()
            judged = [engine.start(picture, options, lease, _as_it_is) for picture in upload.pictures]
            reports = await _in_time(request, engine, asyncio.gather(*judged))
        return answer_records(reports, query, is_form=upload.is_form)

    @app.post(
        "/v1/annotate",
        tags=["pictures"],
        summary="The picture with boxes and labels",
        response_class=Response,
        responses={200: openapi.describe_picture(), **openapi.describe_problems(openapi.BODY_CODES)},
        openapi_extra=openapi.describe_query(AnnotateQuery) | openapi.describe_body(several=False),
    )
    async def annotate(request: Request) -> Response:
        """Takes one picture and gives it back upright, drawn as `agelens predict -o annotated.jpg` draws it."""
        query = read_annotate(request.scope["query_string"])

        def answer(report: Report) -> Response:
            if report.error:
                return answer_problem(report.error)
            return Response(draw(report, query), media_type=f"image/{query.format}")

        with engine.admission.admit() as lease:
            upload = await take(request, lease, query, most=1)
            picture, options = upload.pictures[0], query.options()
            return await _in_time(request, engine, engine.start(picture, options, lease, answer, keep_image=True))


def _as_it_is(report: Report) -> Report:
    return report


async def _in_time(request: Request, engine: Engine, work: asyncio.Future[Result]) -> Result:
    """Waits for work as long as the time limit and its client allow; then what isn't begun is given up.

    Raises:
        TimeLimitError: It took too long.
        ClientDisconnect: Nobody waits for it any more.
    """
    gone = asyncio.create_task(_wait_for_disconnect(request))
    work.add_done_callback(_note_failure)
    try:
        await asyncio.wait((work, gone), timeout=engine.settings.time_limit, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if gone.done():
            raise ClientDisconnect
        raise engine.time_limit_error()
    finally:
        work.cancel()
        gone.cancel()


def _note_failure(work: asyncio.Future[Any]) -> None:
    """Or asyncio would complain of work that was given up, which nobody asks for its result."""
    if not work.cancelled():
        work.exception()


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_server(app: FastAPI, engine: Engine) -> None:
    settings = engine.settings
    about = {
        "version": __version__,
        "model": {"sha256": engine.model.sha256, **json.loads(engine.spec.to_json()), "name": engine.model.name},
        "device": engine.device,
        "shipped": [
            {"name": m.name, "role": m.role, "licence": m.licence, "about": m.about, "sha256": m.sha256}
            for m in list_shipped()
        ],
        "groups": {name: list(groups.labels) for name, groups in NAMED.items()},
        "limits": {
            "max_bytes": settings.limits.max_bytes,
            "max_pixels": settings.max_pixels,
            "max_files": settings.max_files,
            "max_body": settings.max_body,
            "queue": settings.queue,
            "time_limit": settings.time_limit,
        },
        "allow_url": settings.allow_url,
    }

    @app.get(
        "/v1/models",
        tags=["server"],
        summary="The model that answers, its card, and the limits",
        response_class=JSONResponse,
        responses={
            200: {"content": {"application/json": {"schema": {"type": "object"}, "example": about}}},
            **openapi.describe_problems(openapi.PLAIN_CODES),
        },
    )
    async def models() -> Response:
        return JSONResponse(about)

    @app.get("/healthz", tags=["server"], summary="Whether the process runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["server"],
        summary="Whether it takes requests on",
        responses=openapi.describe_problems(("stopping",)),
    )
    async def readyz() -> dict[str, str]:
        if engine.admission.stopping:
            raise StoppingError("the server is stopping; send requests to another one")
        return {"status": "ready"}

    @app.get(
        "/metrics",
        tags=["server"],
        summary="Counters for Prometheus",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **openapi.describe_problems(openapi.PLAIN_CODES),
        },
    )
    async def metrics() -> Response:
        text = engine.metrics.write(engine.model.name, engine.device)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app: FastAPI) -> None:
    folder = resources.files("agelens.server").joinpath("page")
    files = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(tuple(PAGE_TYPES))}
    files["example.jpg"] = resources.files("agelens").joinpath("examples", "astronaut.jpg").read_bytes()
    for name, data in files.items():
        path = "/" if name == "index.html" else f"/page/{name}"
        app.add_route(path, _serve_file(name, data), methods=["GET"], include_in_schema=False)


def _serve_file(name: str, data: bytes) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    media_type = next(kind for ending, kind in PAGE_TYPES.items() if name.endswith(ending))

    async def serve(request: Request) -> Response:
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=media_type, headers=headers)

    return serve


def _add_errors(app: FastAPI, engine: Engine) -> None:
    def answer(error: AgelensError) -> Response:
        headers = {}
        if isinstance(error, OverloadedError | TimeLimitError | StoppingError):
            headers["Retry-After"] = str(engine.admission.wait_seconds())
        return answer_problem(error, headers=headers)

    @app.exception_handler(AgelensError)
    async def answer_typed(_: Request, error: AgelensError) -> Response:
        return answer(error)

    @app.exception_handler(HTTPException)
    async def answer_http(_: Request, error: HTTPException) -> Response:
        typed = _type_http_error(error)
        return answer_problem(typed, headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def answer_nobody(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(MemoryError)
    async def answer_full(_request: Request, _error: MemoryError) -> Response:
        return answer(TooManyPixelsError("the picture needs more memory than there is; send a smaller copy"))

    @app.exception_handler(Exception)
    async def answer_mistake(_request: Request, _error: Exception) -> Response:
        return answer(ServerError("the server made a mistake, which its log describes; other requests go on"))


def _type_http_error(error: HTTPException) -> AgelensError:
    if error.status_code == 404:
        return UnknownPathError("there is nothing at this path; the API is described in /openapi.json")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return WrongMethodError(f"this path takes {allowed}")
    if error.status_code == 413:
        return BodyTooLargeError("the request is too large")
    return BadRequestError("the request can't be understood")


def _complete_openapi(app: FastAPI, *, needs_key: bool) -> None:
    """Adds what FastAPI doesn't know: the contract's schemas, and the key."""
    made = app.openapi()
    # FastAPI drops what is null from its description, and in an example null has a meaning.
    made["paths"]["/v1/predict"]["post"]["responses"]["200"] = openapi.describe_records()
    components = made.setdefault("components", {})
    unused = ("HTTPValidationError", "ValidationError")
    known = {name: schema for name, schema in components.get("schemas", {}).items() if name not in unused}
    components["schemas"] = known | openapi.schemas()
    if needs_key:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        for path, item in made["paths"].items():
            if path.startswith("/v1/") or path == "/metrics":
                for operation in item.values():
                    operation["security"] = [{"bearer": []}, {"header": []}]
    app.openapi_schema = made
