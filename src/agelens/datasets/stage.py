"""The half-way file of a pack: every picture's hash and compressed pixels, appended one by one.

A killed preparation leaves it; the next one reads it, cuts off what is not whole, and goes on behind it. It is bound
to the rows, the pictures' place and the size that it was begun for: for anything else it is begun anew. Its name is
hidden and no reader takes it for a pack.
"""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agelens.errors import OutputUnwritableError
from agelens.outfile import typed_output_errors

_HEADER = struct.Struct("<8s32s")
_RECORD = struct.Struct("<4sBII40s")
_MAGIC = b"AGESTG01"
_START = b"face"


@dataclass(frozen=True, slots=True)
class StagedPicture:
    """One picture as staged.

    Attributes:
        dhash: As `Row.dhash`; "" where the picture could not be read.
        content: The compressed pixels, or why it could not be read.
    """

    dhash: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a staged picture's content is in the file, and its hash."""

    dhash: str
    offset: int
    length: int


class Stage:
    """A stage beside the pack that it will become.

    Args:
        target: The pack's final name.
        key: 32 bytes that tell what the stage is for.

    Raises:
        OutputUnwritableError: It cannot be written there, or another preparation is at work on it.
        DiskFullError: No space is left.
    """

    def __init__(self, target: Path, key: bytes) -> None:
        self.folder = target.with_name(f".{target.name}.stage")
        self.assembled = self.folder / "assembled.h5"
        self._path = self.folder / "pictures.bin"
        self.places: list[Place] = []
        with typed_output_errors(target):
            self.folder.mkdir(exist_ok=True)
            self._file: BinaryIO = self._path.open("r+b" if self._path.exists() else "w+b")
            try:
                _lock(self._file, target)
                self._resume(key)
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, picture: StagedPicture) -> None:
        """Add the next row's picture.

        Raises:
            OutputError: It cannot be written. What was appended before stays.
        """
        known = bytes.fromhex(picture.dhash) if picture.dhash else bytes(40)
        check = zlib.crc32(picture.content, zlib.crc32(known))
        head = _RECORD.pack(_START, bool(picture.dhash), len(picture.content), check, known)
        with typed_output_errors(self._path):
            offset = self._file.tell()
            self._file.write(head + picture.content)
        self.places.append(Place(picture.dhash, offset + _RECORD.size, len(picture.content)))

    def read(self, place: Place) -> bytes:
        """The content of one staged picture."""
        self._file.seek(place.offset)
        return self._file.read(place.length)

    def finish(self, target: Path) -> None:
        """Give the assembled pack its name, and remove the stage."""
        with typed_output_errors(target):
            self.assembled.replace(target)
        self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _resume(self, key: bytes) -> None:
        end = 0
        if self._file.read(_HEADER.size) == _HEADER.pack(_MAGIC, key):
            end = _HEADER.size
            for place, stop in self._whole_records():
                self.places.append(place)
                end = stop
        self._file.seek(end)
        self._file.truncate()
        if end == 0:
            self._file.write(_HEADER.pack(_MAGIC, key))

    def _whole_records(self) -> Iterator[tuple[Place, int]]:
        while len(head := self._file.read(_RECORD.size)) == _RECORD.size:
            start, readable, length, check, known = _RECORD.unpack(head)
            content = self._file.read(length)
            if start != _START or len(content) != length or zlib.crc32(content, zlib.crc32(known)) != check:
                return
            end = self._file.tell()
            yield Place(known.hex() if readable else "", end - length, length), end


def _lock(file: BinaryIO, target: Path) -> None:
    """Keep a second preparation of the same pack off, where the system can (the lock dies with the process)."""
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputUnwritableError(
            f"another preparation is writing {target}; wait for it, or choose a name"
        ) from error
