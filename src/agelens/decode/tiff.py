"""Directories of tags as TIFF defines them: they hold TIFF pictures, EXIF blocks and the index of multi-picture JPEGs.

Read here and not by Pillow, which answers damaged metadata with warnings: those are global to the process and cannot be
silenced for one thread alone, and the metadata of a good picture is no reason to lose it.
Source: TIFF 6.0 section 2; BigTIFF as libtiff documents it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, Literal

from agelens.errors import CorruptImageError, TruncatedImageError

ORIENTATION: Final = 0x0112
ICC_PROFILE: Final = 0x8773
MP_NUMBER_OF_IMAGES: Final = 0xB001

_WIDTH, _HEIGHT, _BITS_PER_SAMPLE = 256, 257, 258
_STRIP_OFFSETS, _STRIP_BYTE_COUNTS, _TILE_OFFSETS, _TILE_BYTE_COUNTS, _COMPRESSION = 273, 279, 324, 325, 259
_PHOTOMETRIC = 262
_SAMPLES_PER_PIXEL, _MOST_SAMPLES = 277, 6
_SINGLE: Final = frozenset({256, 257, 259, 262, 266, 274, 277, 278, 284, 292, 293, 317, 322, 323, 332})
_NEEDED: Final = _SINGLE - {ORIENTATION} | frozenset(
    {258, 273, 279, 320, 324, 325, 338, 339, 347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532}
)
"""The tags that the pixels depend on; all others are dropped before Pillow sees the file."""

_TYPE_SIZES: Final = {
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
_MOST_PAGES: Final = 10_000
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
        return self.offset + self.count * _TYPE_SIZES.get(self.kind, 1)


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
    count = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, start)[0]
    if count > _MOST_ENTRIES:
        raise CorruptImageError(f"a directory claims {count} entries")
    position, size, layout = start + (8 if big else 2), 20 if big else 12, "HHQ" if big else "HHI"
    inline, pointer = (8, "Q") if big else (4, "I")
    entries = []
    for _ in range(count):
        tag, kind, values = struct.unpack_from(order + layout, data, position)
        offset = position + size - inline
        if values * _TYPE_SIZES.get(kind, 1) > inline:
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


def find_orientation(directory: Directory | None, data: bytes) -> int:
    """The EXIF orientation 1 to 8; 1 (upright) where it is absent or nonsense."""
    values = directory.numbers(data, ORIENTATION) if directory else ()
    return values[0] if values and 1 <= values[0] <= 8 else 1


def find_grey(directory: Directory, data: bytes) -> tuple[int, int]:
    """The values of black and white of grey pixels deeper than 8 bits."""
    bits = max(directory.numbers(data, _BITS_PER_SAMPLE), default=0)
    white = 2**bits - 1 if 8 < bits < 16 else 65535
    return (white, 0) if directory.numbers(data, _PHOTOMETRIC) == (0,) else (0, white)


def isolate_first_page(data: bytes) -> tuple[bytes, Directory, int]:
    """Reduce a TIFF file to its first page and to the tags that its pixels depend on.

    Returns:
        The file with its first directory rewritten in place, that directory as it was, and the number of pages.

    Raises:
        TruncatedImageError: A directory or pixels lie beyond the end.
        CorruptImageError: The header or the directory is broken.
    """
    order, big, start = read_header(data)
    try:
        first = read_directory(data, order, start, big=big)
    except struct.error:
        raise TruncatedImageError("the file ends before its directory; copy or download it again") from None
    kept = {
        entry.tag: entry
        for entry in reversed(first.entries)
        if entry.tag in _NEEDED and entry.kind in _TYPE_SIZES and (entry.count == 1 or entry.tag not in _SINGLE)
    }
    if any(entry.end > len(data) for entry in kept.values()):
        raise TruncatedImageError("the file ends within its directory; copy or download it again")
    if sum(entry.end - entry.offset for entry in kept.values()) > len(data):
        raise CorruptImageError("the values of its directory overlap")
    if first.numbers(data, _SAMPLES_PER_PIXEL) > (_MOST_SAMPLES,):
        raise CorruptImageError("it claims more channels than any picture that can be shown")
    _check_pixels(data, first)
    body = b"".join(kept[tag].raw for tag in sorted(kept)) + bytes(8 if big else 4)
    rewritten = struct.pack(f"{order}Q" if big else f"{order}H", len(kept)) + body
    reduced = b"".join((data[:start], rewritten, data[start + len(rewritten) :]))
    return reduced, first, _count_pages(data, first)


def _check_pixels(data: bytes, directory: Directory) -> None:
    for offsets_tag, counts_tag in ((_STRIP_OFFSETS, _STRIP_BYTE_COUNTS), (_TILE_OFFSETS, _TILE_BYTE_COUNTS)):
        offsets, counts = directory.numbers(data, offsets_tag), directory.numbers(data, counts_tag)
        if len(offsets) == 1 and directory.numbers(data, _COMPRESSION) in {(), (1,)}:
            # Writers of one uncompressed strip are known to state no or a wrong length, but its size tells the right.
            counts = (_plain_length(data, directory),)
        if any(offset + count > len(data) for offset, count in zip(offsets, counts, strict=False)):
            raise TruncatedImageError("the file ends before its last pixels; copy or download it again")


def _plain_length(data: bytes, directory: Directory) -> int:
    """How many bytes the uncompressed pixels take."""
    width, height = (directory.numbers(data, tag)[:1] or (0,) for tag in (_WIDTH, _HEIGHT))
    bits = sum(directory.numbers(data, _BITS_PER_SAMPLE)) or 1
    return (width[0] * bits + 7) // 8 * height[0]


def _count_pages(data: bytes, first: Directory) -> int:
    pages, seen, following = 1, set[int](), first.next
    while following and following not in seen and pages < _MOST_PAGES:
        seen.add(following)
        try:
            count = struct.unpack_from(f"{first.order}Q" if first.big else f"{first.order}H", data, following)[0]
            end = following + (8 + 20 * count if first.big else 2 + 12 * count)
            following = struct.unpack_from(f"{first.order}Q" if first.big else f"{first.order}I", data, end)[0]
        except struct.error:
            break
        pages += 1
    return pages
