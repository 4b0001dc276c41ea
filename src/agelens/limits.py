"""How large an input may be, checked before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from agelens.advice import either_way
from agelens.errors import EmptyFileError, ImageTooSmallError, TooManyBytesError, TooManyPixelsError

SMALLEST_SIDE = 8
"""Pixels: below this no face can be told from noise, and detectors divide by zero."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds that one picture must keep.

    Attributes:
        max_bytes: Length of the encoded file.
        max_pixels: Width times height as the header states them.
    """

    max_bytes: int = 256 * 2**20
    max_pixels: int = 200_000_000


DEFAULT_LIMITS = Limits()


def check_bytes(count: int, limits: Limits) -> None:
    """Refuse a file by its length in bytes.

    Raises:
        EmptyFileError: There are none.
        TooManyBytesError: There are more than `limits.max_bytes`.
    """
    if count == 0:
        raise EmptyFileError("the file is empty (0 bytes); copy or download it again")
    if count > limits.max_bytes:
        how = either_way(f"--max-bytes {count}", f"limits=agelens.Limits(max_bytes={count})")
        raise TooManyBytesError(f"the file has {count:,} bytes, the limit is {limits.max_bytes:,}; raise it ({how})")


def check_size(width: int, height: int, limits: Limits) -> None:
    """Refuse a picture by its width and height in pixels.

    Raises:
        ImageTooSmallError: The shorter side has fewer than `SMALLEST_SIDE` pixels.
        TooManyPixelsError: There are more than `limits.max_pixels`.
    """
    if width * height > limits.max_pixels:
        count = width * height
        how = either_way(f"--max-pixels {count}", f"limits=agelens.Limits(max_pixels={count})")
        raise TooManyPixelsError(
            f"the picture is {width} x {height} = {count:,} pixels, the limit is {limits.max_pixels:,};"
            f" raise it ({how})"
        )
    if min(width, height) < SMALLEST_SIDE:
        raise ImageTooSmallError(
            f"the picture is {width} x {height} pixels; the shorter side must have at least {SMALLEST_SIDE}"
        )
