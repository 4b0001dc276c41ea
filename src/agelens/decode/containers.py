"""Container files -> the bytes of their first picture, without all that a decoder might stumble over.

Pillow reads text, EXIF, animations and colour profiles while it opens a file: what is broken there raises, or warns for
the whole process. So each container is taken apart here first, cheaply and without decoding: what the pixels depend on
goes to the decoder; orientation, profile and the number of frames are read from the rest, and damage there is ignored.
"""

from __future__ import annotations

import itertools
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from agelens.decode import tiff
from agelens.errors import CorruptImageError, TruncatedImageError
from agelens.tags import read_first

_LARGEST_PROFILE: Final = 4 * 2**20
_MOST_PARTS: Final = 1 << 16
"""Segments, chunks or boxes: a file made of more, and empty ones, only means to keep the reader busy."""


@dataclass(frozen=True, slots=True)
class Container:
    """One picture, ready to be decoded.

    Attributes:
        format: As `agelens.formats.sniff` names it; "MPO" for a JPEG with further pictures behind the first.
        data: The file, reduced to its first picture.
        frames: How many pictures the file holds.
        orientation: EXIF orientation, 1 to 8.
        profile: ICC profile, or None.
        size: Width and height in pixels as stored, where the decoder would allocate before it tells them; else None.
        needed: How many bytes the file must have by its header, where a decoder may fill up what is missing.
        unclosed: A JPEG whose end marker was missing and was added.
        grey: The values of black and white where pixels are grey and deeper than 8 bits.
    """

    format: str
    data: bytes
    frames: int = 1
    orientation: int = 1
    profile: bytes | None = None
    size: tuple[int, int] | None = None
    needed: int = 0
    unclosed: bool = False
    grey: tuple[int, int] = (0, 65535)


def open_container(kind: str, data: bytes) -> Container:
    """Take the file `data` of the format `kind` (of `agelens.formats.sniff`) apart.

    Raises:
        TruncatedImageError: It ends early.
        CorruptImageError: Its structure is broken.
        struct.error: Its structure is broken within a header.
    """
    return _READERS[kind](data)


def read_orientation(exif: bytes) -> int:
    """EXIF orientation 1 to 8 of an EXIF block, with or without its "Exif" prefix; 1 where it says none."""
    while exif.startswith(b"Exif\x00\x00"):
        exif = exif[6:]
    return tiff.find_orientation(read_first(exif), exif)


def _cut_off() -> NoReturn:
    raise TruncatedImageError("the file ends before the picture does; copy or download it again")


def _check_parts(count: int) -> None:
    if count > _MOST_PARTS:
        raise CorruptImageError(f"the file consists of more than {_MOST_PARTS:,} parts")


# JPEG ---------------------------------------------------------------------------------------------------------------

_EOI: Final = b"\xff\xd9"
_SCAN: Final = 0xDA
_RESTART_INTERVAL: Final = 0xDD
_RESTART: Final = re.compile(rb"\xff[\xd0-\xd7]")
_MARKER: Final = re.compile(rb"\xff[^\xff]", re.DOTALL)
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
# JFIF (0) and Adobe (14) tell the decoder the colour space; no other application segment nor a comment (FE) matters.
_DROPPED: Final = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})


def _read_jpeg(data: bytes) -> Container:
    *segments, (_, scan, _) = _segments(data)
    bodies = [(marker, data[start + 4 : end]) for marker, start, end in segments]
    kept = [data[start:end] for marker, start, end in segments if marker not in _DROPPED]
    tail: list[bytes | memoryview] = [memoryview(data)[scan:]]
    if data.rfind(_EOI, scan) < 0:
        # Some cameras leave the end marker out after a complete picture. Where all of it is in one scan, whether it is
        # complete shows once it is decoded; but the zeros of a file that was never filled would be taken for pixels.
        components = next((body[5] for marker, body in bodies if marker in _SEQUENTIAL and len(body) > 5), None)
        if data[scan + 4] != components or data.endswith(bytes(32)):
            _cut_off()
        tail.append(_EOI)
    exif = next((body for marker, body in bodies if marker == 0xE1 and body.startswith(b"Exif\x00\x00")), b"")
    icc = {b[12]: b[14:] for marker, b in bodies if marker == 0xE2 and len(b) > 14 and b[:12] == b"ICC_PROFILE\x00"}
    frames = _count_jpeg_pictures(bodies)
    return Container(
        "MPO" if frames > 1 else "JPEG",
        b"".join((b"\xff\xd8", *kept, *tail)),
        frames,
        read_orientation(exif),
        b"".join(icc[index] for index in sorted(icc)) or None,
        unclosed=len(tail) > 1,
    )


def _count_jpeg_pictures(bodies: list[tuple[int, bytes]]) -> int:
    """From the index of a multi-picture file (CIPA DC-007, 5.2.3.1), which is a directory of tags."""
    index = next((body[4:] for marker, body in bodies if marker == 0xE2 and body.startswith(b"MPF\x00")), b"")
    directory = read_first(index)
    counts = directory.numbers(index, tiff.MP_NUMBER_OF_IMAGES) if directory else ()
    return counts[0] if counts and 1 <= counts[0] <= 65535 else 1


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of every segment up to the header of the first scan (T.81 B.1.1)."""
    position = 2
    for count in itertools.count():
        _check_parts(count)
        # Bytes between segments, and repeated FF, are padding that decoders skip.
        found = _MARKER.search(data, position)
        if found is None or found.start() + 4 > len(data):
            _cut_off()
        start = found.start()
        marker = data[start + 1]
        if marker == 0xD9:
            raise CorruptImageError("the JPEG file holds no picture data")
        if marker == 0 or marker in _STANDALONE:
            position = start + 2
            continue
        end = start + 2 + max(2, struct.unpack_from(">H", data, start + 2)[0])
        if end > len(data):
            _cut_off()
        yield marker, start, end
        if marker == _SCAN:
            return
        position = end


def prolong_scan(data: bytes) -> bytes:
    """A JPEG file with further entropy-coded bytes before its end marker.

    A decoder skips them where the scan is complete, and takes them for pixels where it is not: the only outward sign
    of a picture that was cut off and then closed properly, as proxies and cameras that lose power do.
    """
    end = data.find(_EOI, data.find(b"\xff\xda"))
    head, tail = (data[:end], data[end:]) if end >= 0 else (data, _EOI)
    return b"".join((head, bytes(range(0x21, 0xFB)) * 4, tail))


def misses_restarts(data: bytes) -> bool:
    """Whether a JPEG file of one sequential scan holds fewer restart markers than its intervals need (T.81 E.1.4).

    Such a scan may have been cut off between two of them, or lack some in its middle: further bytes are skipped there
    as they are after a complete one.
    """
    *segments, (_, scan, _) = _segments(data)
    bodies = {marker: data[start + 4 : end] for marker, start, end in segments}
    interval = int.from_bytes(bodies.get(_RESTART_INTERVAL, b"")[:2], "big")
    frame = next((bodies[marker] for marker in _SEQUENTIAL if marker in bodies), b"")
    if not interval or len(frame) < 6 or len(frame) < 6 + 3 * frame[5] or data[scan + 4] != frame[5]:
        return False
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    sampling = frame[7 : 6 + 3 * frame[5] : 3]
    # One component alone comes in blocks, whatever its sampling factors (A.2.2).
    across, down = (max(s >> 4 for s in sampling), max(s & 15 for s in sampling)) if len(sampling) > 1 else (1, 1)
    units = -(-width // (8 * max(across, 1))) * -(-height // (8 * max(down, 1)))
    end = data.find(_EOI, scan)
    found = sum(1 for _ in _RESTART.finditer(data, scan, len(data) if end < 0 else end))
    return found < (units - 1) // interval


# PNG ----------------------------------------------------------------------------------------------------------------

_PIXEL_CHUNKS: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


def _read_png(data: bytes) -> Container:
    kept, frames, orientation = [data[:8]], 1, 1
    profile = None
    position = 8
    for count in itertools.count():
        _check_parts(count)
        if position + 12 > len(data):
            _cut_off()
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            _cut_off()
        if kind in _PIXEL_CHUNKS:
            kept.append(data[position:end])
        if kind == b"acTL" and length >= 4:
            frames = max(1, struct.unpack_from(">I", data, position + 8)[0])
        elif kind == b"eXIf":
            orientation = read_orientation(data[position + 8 : end - 4])
        elif kind == b"iCCP":
            profile = _inflate_profile(data[position + 8 : end - 4])
        elif kind == b"IEND":
            break
        position = end
    return Container("PNG", b"".join(kept), frames, orientation, profile)


def _inflate_profile(chunk: bytes) -> bytes | None:
    _, _, packed = chunk.partition(b"\x00")
    try:
        return zlib.decompressobj().decompress(packed[1:], _LARGEST_PROFILE) or None
    except zlib.error:
        return None


# GIF ----------------------------------------------------------------------------------------------------------------


_GIF_BLOCK: Final = re.compile(rb"[\x21\x2c\x3b]")


def _read_gif(data: bytes) -> Container:
    """Keep the first frame: its size, palettes, transparency and pixels (GIF89a, sections 17 to 23)."""
    screen_width, screen_height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    colours, control, first = data[10:position], b"", b""
    width, height, frames = screen_width, screen_height, 0
    while position < len(data) and data[position] != 0x3B:
        if data[position] == 0x21:
            end = _skip_blocks(data, position + 2)
            if data[position + 1 : position + 3] == b"\xf9\x04" and not first:
                control = data[position:end]
        elif data[position] == 0x2C:
            if position + 11 > len(data):
                break
            left, top, frame_width, frame_height, frame_flags = struct.unpack_from("<HHHHB", data, position + 1)
            end = _skip_blocks(data, position + 11 + (3 << (frame_flags & 7) + 1 if frame_flags & 128 else 0))
            if end:
                frames += 1
            if end and not first:
                first = data[position:end]
                width, height = max(width, left + frame_width), max(height, top + frame_height)
        else:
            # Stray bytes between blocks are passed over, as browsers do.
            block = _GIF_BLOCK.search(data, position)
            end = block.start() if block else 0
        if not end:
            break
        position = end
    if not first:
        _cut_off()
    # The way of disposal (bits 2 to 4) only concerns the frame after this one.
    control = control[:3] + bytes([control[3] & 0x01]) + control[4:] if len(control) == 8 else b""
    head = data[:6] + struct.pack("<HH", width, height)
    return Container("GIF", b"".join((head, colours, control, first, b";")), frames, size=(width, height))


def _skip_blocks(data: bytes, position: int) -> int:
    """The position after a chain of data sub-blocks; 0 where the file ends within it."""
    while position < len(data):
        length = data[position]
        position += 1 + length
        if length == 0:
            return position
    return 0


# WebP, BMP, TIFF, AVIF, HEIC ----------------------------------------------------------------------------------------


def _read_webp(data: bytes) -> Container:
    """Check the length and read the canvas size (WebP container specification, RFC 9649)."""
    if len(data) < 30 or struct.unpack_from("<I", data, 4)[0] + 8 > len(data) + 1:
        _cut_off()
    kind = data[12:16]
    if kind == b"VP8X":
        size = int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = struct.unpack_from("<HH", data, 26)
        size = width & 0x3FFF, height & 0x3FFF
    return Container("WEBP", data, size=size)


def _read_bmp(data: bytes) -> Container:
    """Read how long the file must be: exactly for plain pixels, at least for run lengths (255 pixels in two bytes)."""
    offset, header = struct.unpack_from("<II", data, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression in {1, 2}:
        return Container("BMP", data, needed=offset + width * abs(height) // 255 * 2)
    return Container("BMP", data, needed=offset + (width * bits + 31) // 32 * 4 * abs(height))


def _read_tiff(data: bytes) -> Container:
    reduced, directory, pages = tiff.isolate_first_page(data)
    profile = directory.block(data, tiff.ICC_PROFILE) or None
    orientation = tiff.find_orientation(directory, data)
    return Container("TIFF", reduced, pages, orientation, profile, grey=tiff.find_grey(directory, data))


_EXIF_ITEM: Final = re.compile(rb"(infe[\x02\x03].{7}(?:.{2})?)Exif", re.DOTALL)


def _read_avif(data: bytes) -> Container:
    """Check the length of all boxes, and hide EXIF: the container's own boxes `irot` and `imir` turn the picture."""
    for kind, start, end in _boxes(data):
        if kind == b"meta":
            meta = _EXIF_ITEM.sub(rb"\1Xxif", data[start:end])
            return Container("AVIF", data[:start] + meta + data[end:])
    raise CorruptImageError("the AVIF file holds no description of its picture")


def _read_heic(data: bytes) -> Container:
    if not any(kind in {b"meta", b"moov"} for kind, _, _ in _boxes(data)):
        raise CorruptImageError("the HEIC file holds no description of its picture")
    return Container("HEIC", data)


def _boxes(data: bytes) -> list[tuple[bytes, int, int]]:
    """Type, start and end of every top-level box (ISO/IEC 14496-12, section 4.2)."""
    boxes, position = [], 0
    while position < len(data):
        if position + 8 > len(data):
            _cut_off()
        length, kind = struct.unpack_from(">I4s", data, position)
        if length == 1 and position + 16 <= len(data):
            length = struct.unpack_from(">Q", data, position + 8)[0]
        end = len(data) if length == 0 else position + length
        if end > len(data):
            _cut_off()
        if end < position + 8:
            raise CorruptImageError("a box of the file has an impossible length")
        boxes.append((kind, position, end))
        _check_parts(len(boxes))
        position = end
    return boxes


_READERS: Final[dict[str, Callable[[bytes], Container]]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "GIF": _read_gif,
    "WEBP": _read_webp,
    "BMP": _read_bmp,
    "TIFF": _read_tiff,
    "AVIF": _read_avif,
    "HEIC": _read_heic,
}
