"""Tar shards: archives whose members are pictures, read from one end to the other or from a member on."""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO, Any, Final, cast

from agelens.batch.fetched import Fetched
from agelens.errors import InputError, UnreadableError
from agelens.formats import EXTENSIONS, SNIFF_BYTES, sniff
from agelens.limits import Limits, check_bytes
from agelens.tarfiles import CheckedHeader

TAR: Final = (".tar",)
PACKED: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""Archives in which nothing can be found without unpacking all that stands before."""

_BREAKAGE: Final = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)
_UNPACKERS: Final[Sequence[tuple[bytes, Callable[[IO[bytes]], Any]]]] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ", lzma.LZMAFile),
)
"""What compressed files begin with. They may be several, one behind the other; tarfile by itself reads the first."""


def is_tar(name: str) -> bool:
    """Whether a name promises a tar archive."""
    return name.lower().endswith((*TAR, *PACKED))


def is_packed(name: str) -> bool:
    """Whether a name promises a compressed one."""
    return name.lower().endswith(PACKED)


def index_tar(file: IO[bytes], size: int) -> Iterator[tuple[int, int]]:
    """Where each `size` pictures of an archive begin: offsets of their first header in bytes, and how many they are.

    An archive that is damaged gives its last piece with a count of -1, so that who reads it finds the damage.
    """
    start, count = 0, 0
    try:
        for archive, info in _members(file, packed=False):
            if not _is_picture(archive, info):
                continue
            if count == size:
                yield start, count
                start, count = info.offset, 0
            count += 1
    except _BREAKAGE:
        count = -1
    if count:
        yield start, count


def read_tar(file: IO[bytes], name: str, start: int, count: int, limits: Limits) -> Iterator[Fetched]:
    """The pictures of an archive, from the member whose header begins at byte `start`; `count` of them, or -1: all.

    A damaged archive gives a picture that can't be read, after those that can.
    """
    pictures = _pictures(file, name, start, limits)
    try:
        yield from pictures if count < 0 else itertools.islice(pictures, count)
    except _BREAKAGE as error:
        why = str(error) or type(error).__name__
        damage = UnreadableError(f"the archive {name!r} is damaged ({why}); copy or make it again")
        yield Fetched(name, content=damage)


def _pictures(file: IO[bytes], name: str, start: int, limits: Limits) -> Iterator[Fetched]:
    if start:
        file.seek(start)
    for archive, info in _members(file, packed=is_packed(name)):
        if not info.isreg() or _is_hidden(info.name):
            continue
        content: bytes | InputError
        try:
            check_bytes(info.size, limits)
            content = _read(archive, info)
            head = content[:SNIFF_BYTES]
        except InputError as error:
            content, head = error, _read_head(archive, info)
        if _promises(info.name) or sniff(head):  # just what `index_tar` counts
            yield Fetched(f"{name}/{info.name}", content=content)


def _members(file: IO[bytes], *, packed: bool) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of an archive, and of those that were written behind it."""
    stream = _unpack(file) if packed else file
    mode: Any = "r|" if packed else "r:"
    with tarfile.open(fileobj=stream, mode=mode, tarinfo=CheckedHeader, ignore_zeros=True) as archive:
        while (info := archive.next()) is not None:
            yield archive, info
            cast("Any", archive).members = []  # it would remember all


def _unpack(file: IO[bytes]) -> IO[bytes]:
    head = file.read(SNIFF_BYTES)
    file.seek(0)
    unpacker = next((unpacker for magic, unpacker in _UNPACKERS if head.startswith(magic)), None)
    return cast("IO[bytes]", unpacker(file)) if unpacker else file


def _read(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    member = archive.extractfile(info)
    assert member is not None  # a regular file
    data = member.read()
    if len(data) < info.size:
        raise EOFError("it ends early")
    return data


def _is_picture(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bool:
    if not info.isreg() or _is_hidden(info.name):
        return False
    if _promises(info.name):
        return True
    return sniff(_read_head(archive, info)) is not None


def _read_head(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    member = archive.extractfile(info)
    assert member is not None  # a regular file
    return member.read(SNIFF_BYTES)


def _promises(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part != "." for part in PurePosixPath(name).parts)
