"""The pictures of a request: read with limits, before anything of them is decoded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agelens.errors import (
    BadRequestError,
    BodyTooLargeError,
    NothingToReadError,
    SlowUploadError,
    TooManyFilesError,
    UnsupportedFormatError,
    UrlNotAllowedError,
    UsageError,
)
from agelens.server.engine import Picture
from agelens.server.multipart import Part, find_boundary, parse_multipart

if TYPE_CHECKING:
    from starlette.requests import Request

    from agelens.server.admission import Lease
    from agelens.server.fetch import Fetcher
    from agelens.server.settings import ServerSettings

FILE_FIELDS = frozenset({"file", "files", "files[]", "image", "images", "picture", "pictures"})
"""Fields of a form that hold a picture even where the client gives no file name."""

UNNAMED = "bytes"
"""What records call a picture without a name, as `agelens.predict` does."""

BOUNDARY_ROOM = 1024
"""Parts that hold no picture, such as the empty field of a form, count, too."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What a request brought.

    Attributes:
        pictures: In order.
        is_form: Whether they came as files of a form, which may hold several.
    """

    pictures: Sequence[Picture]
    is_form: bool


async def read_upload(
    request: Request, lease: Lease, settings: ServerSettings, *, name: str | None = None, most: int | None = None
) -> Upload:
    """The pictures in the body of a request.

    Args:
        request: Whose body has not been read.
        lease: Takes room for what has come.
        settings: The limits.
        name: What to call the picture of a raw body.
        most: Pictures that are wanted at most; by default as many as the settings allow.

    Raises:
        BadRequestError: The body isn't what its content type promises.
        BodyTooLargeError: It is larger than allowed.
        SlowUploadError: It doesn't arrive in time.
        TooManyFilesError: It holds more pictures than allowed.
        UnsupportedFormatError: Its content type is none that holds pictures.
        NothingToReadError: It is a form without a file.
        OverloadedError: There is no room for it.
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    is_form = kind == "multipart/form-data"
    if kind.startswith("multipart/") and not is_form:
        raise UnsupportedFormatError(f"the content type {kind[:60]!r} is none of a form: use multipart/form-data")
    boundary = find_boundary(content_type) if is_form else b""
    body = await _read_body(request, lease, settings)
    if not is_form:
        return Upload([Picture(name or UNNAMED, body)], is_form=False)
    if name is not None:
        raise UsageError("`source` names the picture of a raw body; in a form each file has its own name")
    allowed = min(most or settings.max_files, settings.max_files)
    parts = parse_multipart(body, boundary, settings.max_files + BOUNDARY_ROOM)
    pictures = list(_take_files(parts))
    if len(pictures) > allowed:
        raise TooManyFilesError(f"the request holds {len(pictures)} pictures, the limit is {allowed}; split it up")
    if not pictures:
        raise NothingToReadError("the form holds no file; send one with: curl -F file=@photo.jpg ...")
    lease.take(pictures=len(pictures) - 1)
    return Upload(pictures, is_form=True)


async def fetch_upload(
    request: Request, lease: Lease, settings: ServerSettings, url: str, fetcher: Fetcher | None
) -> Upload:
    """The picture behind a web address.

    Raises:
        UrlNotAllowedError: The server was started without leave to fetch, or the address is none of the public web.
        UrlFetchError: It can't be fetched.
        BadRequestError: The request also has a body.
        SlowUploadError: It promises one, and doesn't end.
    """
    if fetcher is None:
        raise UrlNotAllowedError(
            "this server fetches no addresses: send the picture itself, or start it with --allow-url"
        )
    both = BadRequestError("send either the parameter `url` or a body, not both")
    if _stated_length(request):
        raise both
    async with _arriving(settings):
        async for block in request.stream():
            if block:
                raise both
    return Upload([Picture(url, await fetcher.fetch(url, lease))], is_form=False)


async def _read_body(request: Request, lease: Lease, settings: ServerSettings) -> bytes:
    stated = _stated_length(request)
    _check_length(stated, settings)
    lease.check(held=stated)  # what can't fit is told before it comes; room is taken by what did come
    blocks: list[bytes] = []
    arrived = 0
    async with _arriving(settings):
        async for block in request.stream():
            arrived += len(block)
            lease.take(held=len(block))
            blocks.append(block)
            _check_length(arrived, settings)
    return b"".join(blocks)


def _stated_length(request: Request) -> int:
    """As the head of a request states it; 0 where it doesn't."""
    stated = request.headers.get("content-length", "")
    return int(stated) if stated.isascii() and stated.isdigit() and len(stated) <= 18 else 0


@asynccontextmanager
async def _arriving(settings: ServerSettings) -> AsyncIterator[None]:
    """The time in which a request must have arrived.

    Raises:
        SlowUploadError: It is over.
    """
    try:
        async with asyncio.timeout(settings.upload_limit):
            yield
    except TimeoutError:
        raise SlowUploadError(
            f"the picture did not arrive within {settings.upload_limit:g} s; send it again, or send a smaller one"
        ) from None


def _check_length(count: int, settings: ServerSettings) -> None:
    if count > settings.max_body:
        raise BodyTooLargeError(
            f"the body has more than {settings.max_body:,} bytes, the limit; send fewer or smaller pictures"
        )


def _take_files(parts: Sequence[Part]) -> list[Picture]:
    pictures = []
    for part in parts:
        if part.filename == "" and not part.data:  # what a browser sends of a file field that was left empty
            continue
        if part.filename is None and part.field not in FILE_FIELDS:
            raise BadRequestError(f"the form field {part.field[:60]!r} is no file; options belong into the query")
        pictures.append(Picture(part.filename or UNNAMED, part.data))
    return pictures
