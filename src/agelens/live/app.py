"""The page and what it asks for: a frame of the browser's camera judged, or the newest frame of the machine's."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI, Query, Request
from PIL import Image as PillowImage
from starlette.responses import JSONResponse, Response

from agelens.decode import decode
from agelens.errors import AgelensError
from agelens.limits import Limits
from agelens.live.watching import Seen, Watcher

if TYPE_CHECKING:
    from agelens.live.cameras import Camera

MOST_BYTES: Final = 8 * 2**20
MOST_WATCHERS: Final = 8
"""Pages at once; who comes later takes the place of who has been silent for longest."""

WAIT: Final = 2.0
"""Seconds that a page waits for the next frame of a camera before it is told that there is none."""

QUALITY: Final = 80
_TYPES: Final = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css"}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Live:
    """What all pages share.

    Args:
        make_watcher: Makes a watcher for one more page.
        camera: The machine's camera; None: each page brings the browser's.
        hosts: Names by which the server may be called.
        recorded: Where everything that is watched goes, or "".
    """

    def __init__(
        self, make_watcher: Callable[[], Watcher], camera: Camera | None, hosts: frozenset[str], recorded: str = ""
    ) -> None:
        self._make_watcher = make_watcher
        self.camera, self.hosts, self.recorded = camera, hosts, recorded
        self._watchers: OrderedDict[str, Watcher] = OrderedDict()
        self.newest: Seen | None = None
        self.failure: AgelensError | None = None

    def watcher_of(self, page: str) -> Watcher:
        """The watcher of a page, by the word that the page made up."""
        watcher = self._watchers.pop(page, None) or self._make_watcher()
        self._watchers[page] = watcher
        while len(self._watchers) > MOST_WATCHERS:
            self._watchers.popitem(last=False)
        return watcher

    def watch_camera(self, is_over: Callable[[], bool]) -> None:
        """Looks at the camera's newest frame, again and again, until it is over."""
        assert self.camera is not None
        watcher, number = self._make_watcher(), 0
        while not is_over():
            taken = self.camera.take(number, 0.5)
            if taken is None:
                continue
            number, pixels = taken
            try:
                self.newest = watcher.look(pixels)
            except AgelensError as error:
                self.failure = error
                return


def create_app(live: Live) -> FastAPI:
    """The application."""
    app = FastAPI(title="agelens live", docs_url=None, redoc_url=None, openapi_url=None)

    _add_guard(app, live)
    _add_browser(app, live)
    _add_machine(app, live)
    _add_page(app)
    return app


def _add_guard(app: FastAPI, live: Live) -> None:
    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        called = (request.headers.get("host") or "").lower()
        name, _, port = called.rpartition(":")
        host = (name if port.isdigit() else called).strip("[]")  # an IPv6 address has colons of its own
        if live.hosts and host not in live.hosts:
            return _refuse(421, "wrong_host", f"this page is not called {host!r}; allow the name with --allow-host")
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return _refuse(403, "cross_site", "another site's page may not watch")
        response = await call_next(request)
        response.headers.update(_HEADERS)
        return response

    @app.exception_handler(AgelensError)
    async def explain(request: Request, error: Exception) -> Response:
        del request
        assert isinstance(error, AgelensError)
        return _refuse(error.http_status, error.code, error.message)


def _add_browser(app: FastAPI, live: Live) -> None:
    @app.get("/settings")
    async def settings() -> Response:
        return JSONResponse({"camera": live.camera is not None, "recorded": live.recorded})

    @app.post("/look")
    async def look(request: Request, page: str = Query(min_length=1, max_length=64)) -> Response:
        """Judges one frame, any picture as the body; the page sends the next one once it has the answer."""
        began = time.monotonic()
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > MOST_BYTES:
                return _refuse(413, "body_too_large", f"a frame has at most {MOST_BYTES:,} bytes")
        watcher = live.watcher_of(page)
        seen = await asyncio.to_thread(_look, watcher, bytes(data))
        return JSONResponse(seen.to_dict() | {"server_milliseconds": round((time.monotonic() - began) * 1000, 1)})


def _add_machine(app: FastAPI, live: Live) -> None:
    @app.get("/next")
    async def next_frame(after: int = 0) -> Response:
        """The machine's camera: the newest frame that was looked at, and as a header what was found in it."""
        deadline = time.monotonic() + WAIT
        while live.newest is None or live.newest.number <= after:
            if live.failure is not None:
                raise live.failure.with_traceback(None)  # which would grow with each request
            if time.monotonic() > deadline:
                trouble = live.camera.trouble if live.camera else "this page has no camera of the machine"
                return _refuse(503, "no_camera", trouble or "the camera gives no picture")
            await asyncio.sleep(0.005)
        seen = live.newest
        picture = await asyncio.to_thread(_encode, seen)
        return Response(picture, media_type="image/jpeg", headers={"X-Agelens-Seen": json.dumps(seen.to_dict())})


def _add_page(app: FastAPI) -> None:
    @app.get("/{name:path}")
    async def page_file(name: str) -> Response:
        """A file of the page."""
        place = resources.files("agelens.live") / "page" / (name or "index.html")
        ending = "." + place.name.rpartition(".")[2]
        if "/" in name or ending not in _TYPES or not place.is_file():
            return _refuse(404, "unknown_path", f"there is nothing at /{name}")
        return Response(place.read_bytes(), media_type=_TYPES[ending])


def _look(watcher: Watcher, data: bytes) -> Seen:
    image = decode(data, limits=Limits(MOST_BYTES, 20_000_000))
    return watcher.look(image.at_scale(1.0).pixels)


def _encode(seen: Seen) -> bytes:
    coded = io.BytesIO()
    PillowImage.fromarray(seen.pixels).save(coded, "JPEG", quality=QUALITY)
    return coded.getvalue()


def _refuse(status: int, code: str, message: str) -> Response:
    return JSONResponse({"code": code, "detail": message}, status)
