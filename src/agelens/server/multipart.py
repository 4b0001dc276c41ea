"""The parts of a multipart/form-data body that is already in memory (RFC 7578, RFC 2046 section 5.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from agelens.errors import BadRequestError, TooManyFilesError

LONGEST_HEAD: Final = 8192
"""Bytes of the headers of one part."""

_BOUNDARY: Final = re.compile(r'(?:^|;)\s*boundary\s*=\s*(?:"([^"]*)"|([^\s;"]+))', re.IGNORECASE)
_PARAMETER: Final = re.compile(rb';\s*([A-Za-z0-9*_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Part:
    """One part.

    Attributes:
        field: Of the form.
        filename: As the client gave it, undecodable bytes as lone surrogates; None where it gave none.
        data: Its bytes.
    """

    field: str
    filename: str | None
    data: bytes


def find_boundary(content_type: str) -> bytes:
    """The boundary that a content type states.

    Raises:
        BadRequestError: It states none.
    """
    match = _BOUNDARY.search(content_type.partition(";")[2])
    boundary = (match.group(1) or match.group(2) or "") if match else ""
    if not 1 <= len(boundary) <= 70 or not boundary.isascii():
        raise BadRequestError("the content type multipart/form-data states no boundary; let your HTTP library set it")
    return boundary.encode()


def parse_multipart(body: bytes | bytearray, boundary: bytes, most_parts: int) -> list[Part]:
    """All parts, in order.

    Raises:
        BadRequestError: The body isn't what its content type promises.
        TooManyFilesError: There are more parts than `most_parts`.
    """
    delimiter = b"--" + boundary
    start = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if start == 1:
        raise BadRequestError("the body holds no part: its boundary isn't the one that the content type states")
    position = start + len(delimiter)
    parts: list[Part] = []
    while True:
        line_end = body.find(b"\r\n", position)
        rest = bytes(body[position : line_end if line_end >= 0 else min(len(body), position + 80)])
        if rest.startswith(b"--"):
            return parts
        if line_end < 0 or rest.strip(b" \t"):
            raise BadRequestError("the body is cut off or broken between two parts; send it again")
        if len(parts) >= most_parts:
            raise TooManyFilesError(f"the request holds more than {most_parts} parts; split it up")
        end = body.find(b"\r\n" + delimiter, line_end)
        if end < 0:
            raise BadRequestError("the body ends before its last part does; send it again")
        parts.append(_parse_part(body, line_end + 2, end))
        position = end + 2 + len(delimiter)


def _parse_part(body: bytes | bytearray, start: int, end: int) -> Part:
    if body.startswith(b"\r\n", start) or start >= end:
        head, data_start = b"", min(start + 2, end)
    else:
        head_end = body.find(b"\r\n\r\n", start, end)
        if head_end < 0 or head_end - start > LONGEST_HEAD:
            raise BadRequestError("a part of the body has no end of its headers, or too many of them")
        head, data_start = bytes(body[start:head_end]), head_end + 4
    headers = dict(_split_header(line) for line in head.split(b"\r\n"))
    disposition = headers.get(b"content-disposition", b"")
    if not disposition.lower().startswith(b"form-data"):
        raise BadRequestError("a part of the body is no form field: its Content-Disposition isn't form-data")
    parameters = {name.lower(): _unquote(quoted, plain) for name, quoted, plain in _PARAMETER.findall(disposition)}
    filename = parameters.get(b"filename")
    if b"filename*" in parameters:
        filename = _read_extended(parameters[b"filename*"]) or filename
    return Part(
        _decode(parameters.get(b"name", b"")),
        None if filename is None else _decode(filename),
        bytes(body[data_start:end]),
    )


def _split_header(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value.strip()


def _unquote(quoted: bytes, plain: bytes) -> bytes:
    if not quoted:
        return plain
    # Browsers write a quote and line breaks as %22, %0D and %0A (WHATWG HTML, multipart/form-data), others as \".
    for written, meant in ((rb"\"", b'"'), (rb"\\", b"\\"), (b"%22", b'"'), (b"%0D", b"\r"), (b"%0A", b"\n")):
        quoted = quoted.replace(written, meant)
    return quoted


def _read_extended(value: bytes) -> bytes | None:
    """`UTF-8''na%C3%AFve.jpg` (RFC 8187)."""
    charset, _, rest = value.partition(b"'")
    _, mark, encoded = rest.partition(b"'")
    return unquote_to_bytes(encoded) if mark and charset.lower() in (b"utf-8", b"") else None


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")
