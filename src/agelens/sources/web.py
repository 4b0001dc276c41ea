"""Fetching a picture from a web address: bounded in time, bytes and redirects, and never anything but http(s)."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Final

from agelens.errors import UrlFetchError
from agelens.limits import Limits, check_bytes
from agelens.sources.address import is_web_address

TIMEOUT: Final = 30.0
"""Seconds: for each wait on the network, and for the body of one answer."""

_MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CHUNK: Final = 1 << 16


def fetch(url: str, limits: Limits, *, timeout: float = TIMEOUT) -> bytes:
    """The bytes behind an http(s) address.

    Args:
        url: It may hold spaces and any letters; they are quoted.
        limits: `max_bytes` holds for the stated length and for what really comes.
        timeout: In seconds.

    Raises:
        UrlFetchError: There is no such host or page, it leads elsewhere than to http(s), or it takes too long.
        EmptyFileError: The answer has no bytes.
        TooManyBytesError: It has more than allowed.
    """
    opener = _build_opener()
    deadline = time.monotonic() + timeout
    target = url
    try:
        for _ in range(_MOST_REDIRECTS + 1):
            with opener.open(_quote(target), timeout=timeout) as answer:
                if answer.status in _REDIRECTS and answer.headers["Location"]:
                    target = urllib.parse.urljoin(target, answer.headers["Location"])
                    if not is_web_address(target):
                        raise UrlFetchError(f"{url!r} leads to {target!r}, which is no http(s) address")
                    continue
                if answer.status != http.client.OK:
                    raise UrlFetchError(f"{url!r} answers {answer.status} {answer.reason}; check the address")
                return _read_body(answer, url, limits, deadline)
    except TimeoutError:
        raise UrlFetchError(f"{url!r} did not answer within {timeout:.0f} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UrlFetchError(f"{url!r} could not be fetched: {getattr(error, 'reason', None) or error}") from error
    raise UrlFetchError(f"{url!r} is redirected more than {_MOST_REDIRECTS} times")


def _build_opener() -> urllib.request.OpenerDirector:
    # Only these handlers: the ready-made opener would also serve file:, ftp: and data: and follow redirects unchecked.
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", "agelens"), ("Accept", "image/*")]
    return opener


def _quote(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~")
    query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~?[]")
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))


def _read_body(answer: http.client.HTTPResponse, url: str, limits: Limits, deadline: float) -> bytes:
    stated = answer.headers["Content-Length"]
    expected = int(stated) if stated is not None and stated.isdecimal() else None
    if expected:
        check_bytes(expected, limits)
    blocks, total = [], 0
    # `read1` comes back after one piece of data, so that a server that drips bytes cannot outlast the time limit.
    while block := answer.read1(_CHUNK):
        blocks.append(block)
        total += len(block)
        if total > limits.max_bytes:
            check_bytes(total, limits)
        if time.monotonic() > deadline:
            raise TimeoutError
    if expected is not None and total < expected:
        raise UrlFetchError(f"{url!r} ended after {total:,} of {expected:,} bytes; try again")
    check_bytes(total, limits)
    return b"".join(blocks)
