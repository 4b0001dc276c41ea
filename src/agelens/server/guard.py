"""What stands before the application: who may ask, and what every answer carries; counts and logs each request.

A line of the log holds method, path, status and time, and nothing that came from a client: no address, no query, no
name, no picture.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers

from agelens.errors import AgelensError, CrossSiteError, StoppingError, UnauthorizedError, WrongHostError
from agelens.server.metrics import PATHS
from agelens.server.problems import answer_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from agelens.server.engine import Engine

LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:;"
    " connect-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
STRICT_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
CLIENT_GONE: Final = 499

log = logging.getLogger("agelens.server")


class Guard:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app, self._engine = app, engine
        settings = engine.settings
        self._key = settings.api_key.encode() if settings.api_key else None
        named = frozenset(host.lower() for host in settings.hosts)
        own = LOCAL_HOSTS | {settings.url_host.lower()}
        self._hosts = named | own if named or settings.is_local else named
        self._best_host = settings.url_host if settings.is_local else "127.0.0.1"
        self._quiet = settings.quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = CLIENT_GONE

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *STRICT_HEADERS]
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    message["headers"].append((b"cache-control", b"no-store"))
                if self._engine.admission.stopping:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            refusal = self._refuse(scope)
            if refusal is not None:
                await answer_problem(refusal)(scope, receive, send_with_headers)
            else:
                # uvicorn leaves the body out of what is answered to HEAD.
                asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
                await self._app(asked, receive, send_with_headers)
        except asyncio.CancelledError:
            if not self._engine.admission.stopping or status != CLIENT_GONE:
                raise
            problem = StoppingError("the server stopped before it was done; send the request to another one")
            headers = {"Retry-After": str(self._engine.admission.wait_seconds())}
            await answer_problem(problem, headers=headers)(scope, receive, send_with_headers)
        finally:
            self._note(scope, status, time.perf_counter() - began)

    def _refuse(self, scope: Scope) -> AgelensError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._hosts and name not in self._hosts:
            return WrongHostError(
                "this server does not answer to that host name; start it with --allow-host NAME, or call it by"
                f" {self._best_host}"
            )
        if scope["method"] == "POST" and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return CrossSiteError("pages of other sites may not use this server; call it from your own server instead")
        if self._key is not None and _needs_key(scope["path"]) and not self._has_key(headers):
            return UnauthorizedError("this server asks for a key: send it as `Authorization: Bearer KEY`")
        return None

    def _has_key(self, headers: Headers) -> bool:
        assert self._key is not None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._key)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"]
        known = path if path in PATHS else "page" if path == "/" or path.startswith("/page/") else "other"
        self._engine.metrics.count_request(known, status, seconds)
        if not self._quiet:
            method = scope["method"] if scope["method"] in METHODS else "?"
            log.info("%s %s %d %.0f ms", method, known, status, 1000 * seconds)


def _needs_key(path: str) -> bool:
    return path.startswith("/v1/") or path == "/metrics"
