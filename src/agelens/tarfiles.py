"""Tars, of which Python reads a damaged one short without a word."""

from __future__ import annotations

import tarfile
from typing import IO, Final, Self

_CHUNK: Final = 1 << 20


class CheckedHeader(tarfile.TarInfo):
    """A member's header, of which a damaged one is damage: tarfile by itself takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if bytes(buf).strip(b"\0"):
                raise tarfile.ReadError(str(error)) from error
            raise  # the end


def check_end(file: IO[bytes], end: int) -> None:
    """Reads on to the end of an archive all of whose members were read, and checks that it is one.

    Tars end with zeros. One that ends with a member has mostly been cut there; several that were put one behind the
    other are refused as well, since only the first would be read.

    Args:
        file: The archive, unpacked as it is read.
        end: Where its last member ends.

    Raises:
        ReadError: There are no zeros, or something stands behind them.
    """
    file.seek(end)
    chunk = file.read(_CHUNK)
    if not chunk:
        raise tarfile.ReadError(
            "it ends where another file may follow, so it was probably cut (if it is whole, "
            "`truncate -s +1024` gives a .tar its end)"
        )
    while chunk:
        if chunk.strip(b"\0"):
            raise tarfile.ReadError("something stands behind its end: zeros inside it, or several archives in one file")
        chunk = file.read(_CHUNK)
