"""What bytes are, told by the bytes alone and never by a file's name."""

from __future__ import annotations

import struct
from typing import Final

from agelens.tags import NEW_SUBFILE_TYPE, PHOTOMETRIC, SUB_IFDS, read_first

SUPPORTED: Final = ("JPEG", "PNG", "WebP", "AVIF", "HEIC", "TIFF", "BMP", "GIF")

EXTENSIONS: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".heic", ".heif", ".hif"}
    | {".tif", ".tiff", ".bmp", ".dib", ".gif"}
)
"""Names that promise a picture: which files of a folder must not be passed over in silence. What a file holds is always
decided by `sniff`."""

SNIFF_BYTES: Final = 4096
"""So many leading bytes are enough for `sniff` and `describe`."""

_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_BMP_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

_SIGNATURES: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive or an office document"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (0, b"OggS", "an Ogg audio or video"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"\x00\x00\x01\xba", "an MPEG video"),
    (0, b"\x00\x00\x01\xb3", "an MPEG video"),
    (0, b"ID3", "an MP3 audio"),
    (0, b"fLaC", "a FLAC audio"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"gimp xcf", "a GIMP document"),
    (0, b"\x00\x00\x01\x00", "a Windows icon"),
    (0, b"v/1\x01", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance HDR picture"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a Windows program"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"\xd0\xcf\x11\xe0", "an old office document"),
    (0, b"version https://git-lfs", "a pointer to a file that Git LFS has not fetched yet"),
)
_TIFF: Final = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_SENSOR: Final = frozenset({32803, 34892})
_RIFF: Final = {b"AVI ": "an AVI video", b"WAVE": "a WAV audio"}
_NETPBM: Final = frozenset({b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7"})


def sniff(data: bytes) -> str | None:
    """The picture format of `data` by its first bytes, in capitals as in `agelens.types.Image.format`, or None.

    Sources: the signature of each format's specification (JPEG T.81 B.1, PNG 5.2, GIF89a 17, TIFF 6.0 section 2,
    RIFF container of WebP, file type box of ISO/IEC 14496-12).
    """
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(_TIFF):
        return None if is_raw(data) else "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _sniff_brands(data)
    if data[:2] == b"BM" and len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] in _BMP_HEADERS:
        return "BMP"
    return None


def is_raw(data: bytes) -> bool:
    """Whether what begins as a TIFF file is a camera's raw file: its first page is a thumbnail, or sensor values.

    Sources: DNG 1.7 (also the layout of NEF, ARW and their like), the mark of CR2.
    """
    if data[8:11] == b"CR\x02":
        return True
    first = read_first(data)
    if first is None:  # its directory lies behind what was read of it, or nowhere
        return False
    is_reduced = any(kind & 1 for kind in first.numbers(data, NEW_SUBFILE_TYPE))
    has_others = any(entry.tag == SUB_IFDS for entry in first.entries)
    return (is_reduced and has_others) or not _SENSOR.isdisjoint(first.numbers(data, PHOTOMETRIC))


def _sniff_brands(data: bytes) -> str | None:
    end = min(struct.unpack_from(">I", data)[0], SNIFF_BYTES)
    brands = {data[8:12], *(data[i : i + 4] for i in range(16, min(end, len(data)), 4))}
    if brands & _HEIC_BRANDS:
        return "HEIC"
    return "AVIF" if brands & _AVIF_BRANDS else None


def describe(data: bytes) -> str:
    """What `data` most likely is, in words with an article, for a message to somebody who took it for a picture."""
    if data.startswith(_TIFF) and is_raw(data):
        return "a camera's raw file (export it as a JPEG or TIFF picture)"
    head = data[:SNIFF_BYTES]
    known = sniff(head)
    if known is not None:
        return f"a picture in the format {known}"
    for offset, signature, words in _SIGNATURES:
        if head.startswith(signature, offset):
            return words
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free"}:
        return "an MP4 or QuickTime video"
    if head[:2] in _NETPBM and head[2:3].isspace():
        return "a Netpbm picture (PPM, PGM or PBM)"
    if not head.strip(b"\0"):
        return "a file of zero bytes only, as an interrupted download leaves it"
    return _describe_text(head) or "data of an unknown kind"


def _describe_text(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "a text"
    # A multi-byte character may be cut at the end of the excerpt, hence "ignore" and the test for control characters.
    text = head.decode("utf-8", "ignore").lstrip("\ufeff").strip()
    if not text or len(text.encode()) < 0.9 * len(head.strip()) or any(c < " " and c not in "\t\r\n\f" for c in text):
        return None
    start = text[:1024].lower()
    if "<svg" in start:
        return "an SVG drawing"
    if start.startswith(("<!doctype html", "<html")) or "<html" in start:
        return "an HTML page, as a site's error or log-in page saved under a picture's name"
    if start.startswith("<"):
        return "an XML text"
    return "a JSON text" if start.startswith(("{", "[")) else "a text"
