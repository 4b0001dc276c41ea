"""Bytes -> upright RGB pixels. The only place that decodes.

Whatever the bytes are, either an `agelens.types.Image` comes out or an `agelens.errors.InputError`; a file that ends
early is an error and never a picture with a grey half. The format is told by content. Nothing global of Pillow is set.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from agelens.decode.colour import BACKGROUND, to_srgb
from agelens.decode.containers import Container, misses_restarts, open_container, prolong_scan, read_orientation
from agelens.decode.readers import BREAKAGE, Opened, open_picture, typed_errors
from agelens.errors import InvalidArrayError, TruncatedImageError, UnsupportedFormatError
from agelens.formats import SUPPORTED, describe, sniff
from agelens.limits import DEFAULT_LIMITS, Limits, check_bytes, check_size
from agelens.sources import as_source
from agelens.types import Image

if TYPE_CHECKING:
    from agelens.types import Pixels

_DIVISORS: Final = (8, 4, 2, 1)
"""The reductions that a JPEG decoder does for free, in the cosine domain."""

_TURNS: Final = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the stored picture upright (EXIF 3.0, 4.6.5.1.6)."""

_ANY: Final = 2**63
_UNDECODED: Final = (128, (128, 128, 128), (127, 127, 127, 127), (128, 128, 128, 127))
"""What a JPEG decoder leaves where data is missing: in grey, colour, CMYK and YCCK (both inverted by Pillow)."""


def decode_any(
    value: str | os.PathLike[str] | bytes | PillowImage.Image | NDArray[Any],
    *,
    limits: Limits = DEFAULT_LIMITS,
    detail: int | None = None,
) -> tuple[str, Image]:
    """Decode whatever holds one picture: a path, the bytes of a file, a Pillow image, or an array of pixels.

    The same picture gives the same pixels in each of these ways.

    Args:
        value: See `decode`, `from_pil` and `from_array`. Objects that NumPy can view, such as tensors, count as arrays.
        limits: For paths and bytes.
        detail: For paths and bytes, see `decode`.

    Returns:
        A name for the picture, see `name_of`, and the picture.

    Raises:
        InputError: It cannot be read; the subclass tells why.
    """
    name = name_of(value)
    if isinstance(value, (str, os.PathLike)):
        return name, decode(as_source(value).read(limits), limits=limits, detail=detail)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return name, decode(value, limits=limits, detail=detail)
    if isinstance(value, PillowImage.Image):
        return name, from_pil(value)
    if hasattr(value, "__array__"):
        return name, from_array(value)
    raise InvalidArrayError(
        f"found a {type(value).__name__}; expected a path, the bytes of a file, a Pillow image, or an RGB uint8 array"
    )


def name_of(value: object) -> str:
    """What reports call a picture: its path, "bytes", "image" (or its file's name) or "array"."""
    if isinstance(value, (str, os.PathLike)):
        return os.fsdecode(value)
    if isinstance(value, PillowImage.Image):
        return os.fsdecode(getattr(value, "filename", "") or "image")
    return "bytes" if isinstance(value, (bytes, bytearray, memoryview)) else "array"


def decode(
    data: bytes | bytearray | memoryview, *, limits: Limits = DEFAULT_LIMITS, detail: int | None = None
) -> Image:
    """Decode the first picture of a file.

    Args:
        data: The file's bytes: JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, or HEIC with the extra `heif`.
        limits: Checked before anything is decoded.
        detail: The longest side in pixels that the caller needs. A JPEG is then decoded at the smallest of the scales
            1/8, 1/4, 1/2, 1 whose longer side has at least so many; `finer` of the result gives more. None: always
            decode in full.

    Returns:
        Upright and in sRGB. Transparent parts show a neutral grey.

    Raises:
        EmptyFileError: There are no bytes.
        TooManyBytesError: More bytes than `limits` allows.
        TooManyPixelsError: More pixels than `limits` allows.
        ImageTooSmallError: The shorter side has fewer than 8 pixels.
        UnsupportedFormatError: It is no picture of a known format.
        MissingExtraError: A HEIC picture, and the extra `heif` is not installed.
        TruncatedImageError: The file ends early.
        CorruptImageError: It is broken otherwise.
    """
    check_bytes(memoryview(data).nbytes, limits)
    data = bytes(data)
    kind = sniff(data)
    if kind is None:
        known = ", ".join(SUPPORTED)
        raise UnsupportedFormatError(f"this is {describe(data)}, not a picture that can be read ({known})")
    with typed_errors(kind):
        container = open_container(kind, data)
        if container.size:
            check_size(*container.size, limits)
        opened = open_picture(container)
    check_size(*opened.size, limits)
    if container.needed > len(container.data):
        raise TruncatedImageError("the file ends before the picture does; copy or download it again")
    divisor = 1
    if kind == "JPEG" and detail is not None:
        divisor = next(d for d in _DIVISORS if d == 1 or -(-max(opened.size) // d) >= detail)
    return _load(opened, divisor)


def from_pil(image: PillowImage.Image) -> Image:
    """Take a Pillow image, as `decode` would take its file: EXIF orientation and colour profile are honoured.

    The image is left as it is, but loaded where it was not yet.

    Raises:
        ImageTooSmallError: The shorter side has fewer than 8 pixels.
        TruncatedImageError: Its file ends early.
        CorruptImageError: Its file is broken otherwise, or it was closed.
    """
    kind = image.format or "image"
    with typed_errors(kind):
        frames = _count_frames(image)
        image.load()
        check_size(*image.size, Limits(max_pixels=_ANY))
        rgb = to_srgb(image, image.info.get("icc_profile"))
        exif = image.info.get("exif")
        # Pillow turns TIFF pictures itself while it loads them.
        orientation = read_orientation(exif) if isinstance(exif, bytes) and kind != "TIFF" else 1
        upright = _turn(rgb, orientation)
        if upright is image:  # which belongs to the caller, who may go on to draw on it
            upright = image.copy()
    return Image(upright, upright.width, upright.height, kind, frames)


def _count_frames(image: PillowImage.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except BREAKAGE:  # Its file is closed, or broken behind the frame that is used.
        return 1


def from_array(array: NDArray[Any]) -> Image:
    """Take pixels from memory.

    Args:
        array: uint8; RGB of shape (H, W, 3), grey of shape (H, W) or (H, W, 1), or RGBA of shape (H, W, 4). It is
            neither changed nor, where it is contiguous RGB, copied.

    Raises:
        InvalidArrayError: Another dtype or shape.
        ImageTooSmallError: The shorter side has fewer than 8 pixels.
    """
    try:
        array = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:  # such as a tensor on a GPU
        raise InvalidArrayError(f"NumPy cannot view the {type(array).__name__} as an array: {error}") from error
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if array.dtype != np.uint8 or channels not in {1, 3, 4}:
        raise InvalidArrayError(
            f"found an array of dtype {array.dtype} and shape {array.shape}; expected RGB uint8 of shape (H, W, 3), "
            f"or uint8 of shape (H, W), (H, W, 1) or (H, W, 4){_advise(array)}"
        )
    height, width = array.shape[:2]
    check_size(width, height, Limits(max_pixels=_ANY))
    if channels == 1:
        array = np.repeat(array.reshape(height, width, 1), 3, axis=2)
    elif channels == 4:
        array = _composite(array)
    pixels = np.ascontiguousarray(array).view()
    pixels.flags.writeable = False
    return Image(pixels, width, height)


def _advise(array: NDArray[Any]) -> str:
    if array.ndim == 3 and array.dtype == np.uint8 and array.shape[0] in {1, 3, 4}:
        return "; channels come last: array.transpose(1, 2, 0)"
    if array.ndim == 4:
        return "; pass one picture at a time"
    if np.issubdtype(array.dtype, np.floating):
        return "; for values 0 to 1: (array * 255).round().astype(np.uint8)"
    return ""


def _composite(rgba: NDArray[np.uint8]) -> Pixels:
    alpha = rgba[:, :, 3:].astype(np.uint16)
    blended = rgba[:, :, :3] * alpha + BACKGROUND * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)


def _load(opened: Opened, divisor: int) -> Image:
    """Decode at 1 / `divisor` of the full scale, convert to sRGB and turn upright."""
    container = opened.container
    width, height = opened.size
    with typed_errors(container.format):
        image = opened.load(divisor)
        if divisor == 1 and image.size != opened.size:  # HEIC can state another size than it holds
            width, height = image.size
            check_size(width, height, Limits(max_pixels=_ANY))
        if container.format in {"JPEG", "MPO"} and _ends_undecoded(image, container, divisor):
            raise TruncatedImageError("the picture's data ends early and was closed there; copy or download it again")
        upright = _turn(to_srgb(image, container.profile, container.grey), container.orientation)
    if container.orientation >= 5:
        width, height = height, width
    finer = partial(_decode_again, container) if divisor > 1 else None
    return Image(upright, width, height, container.format, container.frames, finer)


def _decode_again(container: Container, scale: float) -> Image:
    """The picture at least at `scale`; `Image.at_scale` keeps what it gets."""
    with typed_errors(container.format):
        opened = open_picture(container)
    return _load(opened, next(d for d in _DIVISORS if d == 1 or 1 / d >= scale - 1e-9))


def _turn(image: PillowImage.Image, orientation: int) -> PillowImage.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _ends_undecoded(image: PillowImage.Image, container: Container, divisor: int) -> bool:
    """Whether a JPEG scan stopped before the last pixel, though an end marker follows.

    The decoder then leaves coefficients zero, which shows as exact mid-grey in the last corner. That alone may be a
    grey picture; what settles it is to decode once more with the scan prolonged, or that restart markers are missing.
    """
    if not container.unclosed and image.getpixel((image.width - 1, image.height - 1)) not in _UNDECODED:
        return False
    if misses_restarts(container.data):
        return True
    again = open_picture(replace(container, data=prolong_scan(container.data))).load(divisor)
    return again.size == image.size and again.tobytes() != image.tobytes()
