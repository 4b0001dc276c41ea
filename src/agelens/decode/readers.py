"""Pillow and pillow-heif, used so that they leave nothing behind: one reader a format, and one kind of error.

Pillow's format classes are used directly and never `PIL.Image.open`: that one compares the size with the global
`PIL.Image.MAX_IMAGE_PIXELS` and then warns or raises. Changing the global, or `warnings.catch_warnings`, would affect
other threads and other users of Pillow in the process. Our own limit is checked on the size that the class read from
the header; no pixel is decoded before `load`. The few classes that compare by themselves get round it as said there.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from PIL import Image as PillowImage
from PIL import ImageFile

from agelens.advice import how_to_install
from agelens.decode.containers import Container, read_orientation
from agelens.errors import (
    CorruptImageError,
    MissingExtraError,
    TooManyPixelsError,
    TruncatedImageError,
    UnsupportedFormatError,
)

BREAKAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    BufferError,
    RuntimeError,
    struct.error,
    zlib.error,
    PillowImage.DecompressionBombError,
    Warning,
)
"""What Pillow's readers raise on broken data. `Warning`: where a program turns warnings into errors."""


@contextmanager
def typed_errors(kind: str) -> Iterator[None]:
    """Turn what readers raise on broken data into `InputError`s; those pass through as they are."""
    try:
        yield
    except MemoryError:
        raise TooManyPixelsError("the picture needs more memory than there is; reduce it first") from None
    except BREAKAGE as error:
        reason = str(error).strip() or type(error).__name__
        if any(word in reason.lower() for word in ("truncated", "not enough image data", "end of file", "eof")):
            raise TruncatedImageError("the file ends before the picture does; copy or download it again") from error
        if any(word in reason.lower() for word in ("unsupported", "unknown pixel mode", "cannot handle")):
            message = f"this kind of {kind} cannot be read ({reason}); save the picture as PNG or JPEG"
            raise UnsupportedFormatError(message) from error
        raise CorruptImageError(f"the {kind} picture is broken: {reason}; copy or save it again") from error


class _SmallReads(io.BytesIO):
    """Gives at most 16 bytes to a read of a stated size.

    Too few for Pillow's WebP reader to find the size and compare it with the global limit; it reads the rest at once.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None or size < 0 else min(size, 16))


# Each reader is imported when its first picture comes: together they cost more than a prediction.


def _read_jpeg(data: bytes) -> ImageFile.ImageFile:
    from PIL import JpegImagePlugin

    return JpegImagePlugin.JpegImageFile(io.BytesIO(data))


def _read_png(data: bytes) -> ImageFile.ImageFile:
    from PIL import PngImagePlugin

    return PngImagePlugin.PngImageFile(io.BytesIO(data))


def _read_gif(data: bytes) -> ImageFile.ImageFile:
    from PIL import GifImagePlugin

    return GifImagePlugin.GifImageFile(io.BytesIO(data))


def _read_bmp(data: bytes) -> ImageFile.ImageFile:
    from PIL import BmpImagePlugin

    return BmpImagePlugin.BmpImageFile(io.BytesIO(data))


def _read_avif(data: bytes) -> ImageFile.ImageFile:
    from PIL import AvifImagePlugin

    if not AvifImagePlugin.SUPPORTED:
        raise UnsupportedFormatError("the installed Pillow was built without AVIF; install the one from PyPI")
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))


def _read_webp(data: bytes) -> ImageFile.ImageFile:
    from PIL import WebPImagePlugin

    return WebPImagePlugin.WebPImageFile(_SmallReads(data))


def _read_tiff(data: bytes) -> ImageFile.ImageFile:
    from agelens.decode.tiff_file import UnboundedTiffFile

    return UnboundedTiffFile(io.BytesIO(data))


_READERS: Final[dict[str, Callable[[bytes], ImageFile.ImageFile]]] = {
    "JPEG": _read_jpeg,
    "MPO": _read_jpeg,
    "PNG": _read_png,
    "GIF": _read_gif,
    "BMP": _read_bmp,
    "AVIF": _read_avif,
    "TIFF": _read_tiff,
    "WEBP": _read_webp,
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A picture whose header was read: its stored size, and what decodes it at 1 / divisor of the full scale."""

    container: Container
    size: tuple[int, int]
    load: Callable[[int], PillowImage.Image]


def open_picture(container: Container) -> Opened:
    """Read the header of the picture in `container`; to be used within `typed_errors`.

    Raises:
        UnsupportedFormatError: This Pillow cannot read the format.
        MissingExtraError: The format needs an optional package.
    """
    if container.format == "HEIC":
        return _open_heic(container)
    image = _READERS[container.format](container.data)
    if container.format in {"WEBP", "AVIF"}:
        exif = image.info.get("exif")
        container = replace(
            container,
            frames=int(getattr(image, "n_frames", 1)),
            orientation=read_orientation(exif) if isinstance(exif, bytes) else 1,
            profile=image.info.get("icc_profile"),
        )
    return Opened(container, image.size, partial(_load_pillow, image))


def _load_pillow(image: ImageFile.ImageFile, divisor: int) -> PillowImage.Image:
    if divisor > 1:
        image.draft(None, (image.width // divisor, image.height // divisor))
    image.load()
    return image


def _open_heic(container: Container) -> Opened:
    # Imported here as it is optional, and used directly: registering it with Pillow would change `PIL.Image.open` for
    # the whole process.
    try:
        import pillow_heif
    except ImportError:
        raise MissingExtraError(f"HEIC pictures need pillow-heif: {how_to_install('heif', 'pillow-heif')}") from None
    opened = pillow_heif.open_heif(container.data, convert_hdr_to_8bit=True)
    # libheif turns the picture as the container's boxes say; the EXIF orientation beside them must not turn it twice.
    container = replace(container, frames=max(1, len(opened)), profile=opened.info.get("icc_profile"))
    return Opened(container, opened.size, lambda _: opened.to_pillow())
