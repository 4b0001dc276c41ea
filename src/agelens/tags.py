"""Directories of tags as TIFF defines them: they hold TIFF pictures, EXIF blocks and the index of multi-picture JPEGs.

Read here and not by Pillow, which answers damaged metadata with warnings: those are global to the process and cannot be
silenced for one thread alone, and the metadata of a good picture is no reason to lose it.
Source: TIFF 6.0 section 2; BigTIFF as libtiff documents it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, Literal

from agelens.errors import CorruptImageError

NEW_SUBFILE_TYPE, PHOTOMETRIC, SUB_IFDS = 254, 262, 330
TYPE_SIZES: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_WHOLE_NUMBERS: Final = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_MOST_ENTRIES: Final = 4096
_MOST_VALUES: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag: its 12 (BigTIFF: 20) raw bytes, and where in the file its `count` values of type `kind` lie."""

    tag: int
    kind: int
    count: int
    offset: int
    raw: bytes = field(repr=False)

    @property
    def end(self) -> int:
        return self.offset + self.count * TYPE_SIZES.get(self.kind, 1)


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory: its entries, in file order, and the offset of the next directory (0 = there is none)."""

    order: Literal["<", ">"]
    big: bool
    entries: tuple[Entry, ...]
    next: int

    def numbers(self, data: bytes, tag: int) -> tuple[int, ...]:
        """The whole numbers of `tag`; empty where it is absent, of another type, or outside `data`."""
        for entry in self.entries:
            known = entry.kind in _WHOLE_NUMBERS and entry.count <= _MOST_VALUES
            if entry.tag == tag and known and entry.end <= len(data):
                return struct.unpack_from(f"{self.order}{entry.count}{_WHOLE_NUMBERS[entry.kind]}", data, entry.offset)
        return ()

    def block(self, data: bytes, tag: int) -> bytes:
        """The raw bytes of `tag`; empty where it is absent or outside `data`."""
        for entry in self.entries:
            if entry.tag == tag and entry.end <= len(data):
                return data[entry.offset : entry.end]
        return b""


def read_header(data: bytes) -> tuple[Literal["<", ">"], bool, int]:
    """Byte order, whether it is BigTIFF, and the offset of the first directory.

    Raises:
        struct.error: `data` is too short.
        CorruptImageError: It is no TIFF header.
    """
    order: Literal["<", ">"] = "<" if data[:2] == b"II" else ">"
    version = struct.unpack_from(f"{order}H", data, 2)[0]
    if data[:2] not in {b"II", b"MM"} or version not in {42, 43}:
        raise CorruptImageError("the header of the TIFF data is broken")
    big = version == 43
    return order, big, struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)[0]


def read_directory(data: bytes, order: Literal["<", ">"], start: int, *, big: bool) -> Directory:
    """Read the directory at `start`.

    Raises:
        struct.error: It reaches beyond `data`.
        CorruptImageError: It has more entries than any writer makes.
    """
    if start > len(data):  # what BigTIFF can state, `struct` may not take for a place
        raise struct.error("the directory lies beyond the data")
    count = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, start)[0]
    if count > _MOST_ENTRIES:
        raise CorruptImageError(f"a directory claims {count} entries")
    position, size, layout = start + (8 if big else 2), 20 if big else 12, "HHQ" if big else "HHI"
    inline, pointer = (8, "Q") if big else (4, "I")
    entries = []
    for _ in range(count):
        tag, kind, values = struct.unpack_from(order + layout, data, position)
        offset = position + size - inline
        if values * TYPE_SIZES.get(kind, 1) > inline:
            offset = struct.unpack_from(order + pointer, data, offset)[0]
        entries.append(Entry(tag, kind, values, offset, data[position : position + size]))
        position += size
    following = struct.unpack_from(order + pointer, data, position)[0]
    return Directory(order, big, tuple(entries), following)


def read_first(data: bytes) -> Directory | None:
    """The first directory of an EXIF or MPF block, or None where it is damaged: nobody loses a picture over that."""
    try:
        order, big, start = read_header(data)
        return read_directory(data, order, start, big=big)
    except (struct.error, CorruptImageError):
        return None
