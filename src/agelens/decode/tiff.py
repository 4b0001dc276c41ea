"""TIFF pictures: the first page by itself, and what its tags say of it (TIFF 6.0)."""

from __future__ import annotations

import struct
from typing import Final

from agelens.errors import CorruptImageError, TruncatedImageError
from agelens.tags import PHOTOMETRIC, TYPE_SIZES, Directory, read_directory, read_header

ORIENTATION: Final = 0x0112
ICC_PROFILE: Final = 0x8773
MP_NUMBER_OF_IMAGES: Final = 0xB001

_WIDTH, _HEIGHT, _BITS_PER_SAMPLE = 256, 257, 258
_STRIP_OFFSETS, _STRIP_BYTE_COUNTS, _TILE_OFFSETS, _TILE_BYTE_COUNTS, _COMPRESSION = 273, 279, 324, 325, 259
_SAMPLES_PER_PIXEL, _MOST_SAMPLES = 277, 6
_SINGLE: Final = frozenset({256, 257, 259, 262, 266, 274, 277, 278, 284, 292, 293, 317, 322, 323, 332})
_NEEDED: Final = _SINGLE - {ORIENTATION} | frozenset(
    {258, 273, 279, 320, 324, 325, 338, 339, 347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532}
)
"""The tags that the pixels depend on; all others are dropped before Pillow sees the file."""

_MOST_PAGES: Final = 10_000


def find_orientation(directory: Directory | None, data: bytes) -> int:
    """The EXIF orientation 1 to 8; 1 (upright) where it is absent or nonsense."""
    values = directory.numbers(data, ORIENTATION) if directory else ()
    return values[0] if values and 1 <= values[0] <= 8 else 1


def find_grey(directory: Directory, data: bytes) -> tuple[int, int]:
    """The values of black and white of grey pixels deeper than 8 bits."""
    bits = max(directory.numbers(data, _BITS_PER_SAMPLE), default=0)
    white = 2**bits - 1 if 8 < bits < 16 else 65535
    return (white, 0) if directory.numbers(data, PHOTOMETRIC) == (0,) else (0, white)


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
        if entry.tag in _NEEDED and entry.kind in TYPE_SIZES and (entry.count == 1 or entry.tag not in _SINGLE)
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
