"""Pixels -> the bytes of a picture, in memory or on the disk."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image as Pillow
from PIL import features

from agelens.errors import OutputError, OutputUnwritableError, UsageError
from agelens.outfile import write_whole

if TYPE_CHECKING:
    from agelens.types import Pixels

QUALITY: Final = 92

LONGEST_SIDE: Final = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 32_768}
"""Pixels a side: what libjpeg and libwebp write, and what libavif reads (it would write twice as many)."""

_FORMATS: Final = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".ppm": "PPM",
}
_REFUSALS: Final = (OSError, ValueError, RuntimeError, OverflowError, struct.error)
"""What Pillow's encoders raise where a picture doesn't suit them."""


def picture_extensions() -> tuple[str, ...]:
    """The endings of file names that `save_picture` can write here, with their dots."""
    return tuple(e for e, name in _FORMATS.items() if name not in ("WEBP", "AVIF") or features.check(name.lower()))


def save_picture(pixels: Pixels, path: str | os.PathLike[str], *, quality: int = QUALITY) -> None:
    """Writes a picture in the format that the ending of its name says.

    Args:
        pixels: RGB uint8, shape (H, W, 3).
        path: The file; it has this name only once it is whole. Its folder must exist.
        quality: 1 to 100, for JPEG, WebP and AVIF.

    Raises:
        UsageError: No format is known for the ending.
        OutputUnwritableError: The folder is missing, writing is not allowed, or the picture is too large for it.
        DiskFullError: No space is left.
        OutputError: It can't be encoded or written for another reason.
    """
    path = Path(path)
    extension = path.suffix.lower()
    if extension not in picture_extensions():
        known = " ".join(picture_extensions())
        given = f"the ending {path.suffix}" if path.suffix else "a name without an ending"
        raise UsageError(f"cannot write {path}: no picture format for {given}; use one of {known}")
    try:
        data = encode_picture(pixels, _FORMATS[extension], quality=quality)
    except OutputError as error:
        raise type(error)(f"cannot write {path}: {error.message}; use .png or .tiff") from error
    write_whole(path, data)


def encode_picture(pixels: Pixels, kind: str, *, quality: int = QUALITY) -> bytes:
    """A picture as the bytes of a file.

    Args:
        pixels: RGB uint8, shape (H, W, 3).
        kind: The format, as Pillow calls it: `JPEG`, `PNG`, ...
        quality: 1 to 100, for JPEG, WebP and AVIF.

    Raises:
        OutputUnwritableError: The picture is too large for it.
        OutputError: Its encoder refuses the picture.
    """
    limit = LONGEST_SIDE.get(kind)
    if limit and max(pixels.shape[:2]) > limit:
        raise OutputUnwritableError(f"{kind} holds at most {limit} pixels a side")
    options: dict[str, dict[str, int | str]] = {
        # Full colour resolution: halved, coloured letters and thin lines blur.
        "JPEG": {"quality": quality, "subsampling": 0},
        "PNG": {"compress_level": 4},
        "WEBP": {"quality": quality, "method": 3},
        "AVIF": {"quality": quality, "speed": 8},
        "TIFF": {"compression": "tiff_lzw"},
    }
    encoded = io.BytesIO()
    try:
        Pillow.fromarray(pixels).save(encoded, format=kind, **options.get(kind, {}))
    except _REFUSALS as error:
        raise OutputError(f"the picture can't be made a {kind} ({error})") from error
    return encoded.getvalue()
