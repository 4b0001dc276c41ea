"""Pixels of any mode and colour space -> sRGB, 8 bits, no transparency."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageCms

from agelens.errors import CorruptImageError

BACKGROUND: Final = 128
"""Mid-grey, 0 to 255, put under transparent parts: against it both dark and white hair keep their outline, which white
or black would swallow, and it adds no brightness that the person's skin could be compared with."""

_LARGEST_PROFILE: Final = 4 * 2**20
_SRGB_TOLERANCE: Final = 3
_DEEP_GREY: Final = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
_WITH_ALPHA: Final = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def to_srgb(image: PillowImage.Image, profile: bytes | None, grey: tuple[int, int] = (0, 65535)) -> PillowImage.Image:
    """Convert any picture to mode "RGB" in the sRGB colour space; `image` is left as it is.

    Args:
        image: Loaded, of any mode.
        profile: The ICC profile that came with it; a broken or unfit one is ignored.
        grey: The values of black and white where its pixels are grey and of 16 bits.

    Raises:
        CorruptImageError: The mode is unknown, or no pixel has a finite value.
    """
    mode = image.mode
    if mode in _DEEP_GREY:
        return _apply_profile(_to_eight_bits(image, grey), profile)
    if mode in _WITH_ALPHA or _transparency(image):
        return _flatten(image, profile)
    if mode in {"RGB", "L", "CMYK"}:
        return _apply_profile(image, profile)
    if mode == "1":
        return image.convert("RGB")
    if mode == "LAB":
        return _from_lab(image)
    if mode in {"P", "RGBX", "YCbCr", "HSV"}:
        return _apply_profile(image.convert("RGB"), profile)
    raise CorruptImageError(f"pixels of mode {mode!r} cannot be converted to RGB; save the picture as PNG or JPEG")


def _transparency(image: PillowImage.Image) -> bool:
    if image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A"):
        return True
    key = image.info.get("transparency")
    if key is None or image.mode not in {"1", "L", "P", "RGB"}:
        return False
    # A 16-bit picture has a 16-bit key but was reduced to 8 bits, where the key no longer means one single colour.
    values = key if isinstance(key, (tuple, bytes)) else (key,)
    return all(isinstance(value, int) and 0 <= value <= 255 for value in values)


def _flatten(image: PillowImage.Image, profile: bytes | None) -> PillowImage.Image:
    if image.mode == "La":
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    # A profile of a grey picture fits its one channel only.
    opaque = image.convert("L") if image.mode in {"L", "LA"} else rgba.convert("RGB")
    opaque = _apply_profile(opaque, profile)
    if alpha.getextrema() == (255, 255):
        return opaque
    canvas = PillowImage.new("RGB", image.size, (BACKGROUND,) * 3)
    canvas.paste(opaque, mask=alpha)
    return canvas


def _to_eight_bits(image: PillowImage.Image, grey: tuple[int, int]) -> PillowImage.Image:
    values = np.asarray(image)
    if image.mode not in {"I", "F"}:
        low, high = map(float, grey)
    else:
        finite = values[np.isfinite(values)] if image.mode == "F" else values
        if finite.size == 0:
            raise CorruptImageError("no pixel has a finite value")
        low, high = _range(float(finite.min()), float(finite.max()), whole=image.mode == "I")
    return PillowImage.fromarray(_rescale(values, low, high))


def _range(low: float, high: float, *, whole: bool) -> tuple[float, float]:
    """Which values stand for black and white, where the file does not say so.

    The usual ranges 0..1, 0..255 and 0..65535 are taken as they are, so that a dark picture stays dark; anything else
    is stretched from its lowest to its highest value.
    """
    if low >= 0:
        for white in (255.0, 65535.0) if whole else (1.0, 255.0, 65535.0):
            if high <= white:
                return 0.0, white
    return low, max(high, low + 1.0)


def _rescale(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    scaled = values.astype(np.float32)
    with np.errstate(all="ignore"):  # of this thread alone; what is not finite is replaced below
        scaled -= np.float32(low)
        scaled *= np.float32(255.0 / (high - low))
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    np.clip(scaled, 0.0, 255.0, out=scaled)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _from_lab(image: PillowImage.Image) -> PillowImage.Image:
    converted = ImageCms.applyTransform(image, _lab_transform())
    if converted is None:
        raise CorruptImageError("the CIELAB colours cannot be converted")
    return converted


def _apply_profile(image: PillowImage.Image, profile: bytes | None) -> PillowImage.Image:
    transform = find_transform(profile, image.mode) if profile and len(profile) <= _LARGEST_PROFILE else None
    if transform is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    return image.convert("RGB") if converted is None else converted


# The same few profiles come with nearly every picture: building a transform takes longer than decoding a small picture.
# Transforms may be shared by threads, as lcms2 works on a copy of its one-pixel cache.
@lru_cache(maxsize=16)
def find_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from `profile` to sRGB, or None where it is broken, unfit for `mode`, or would change nothing."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            _srgb_profile(),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        probe = _probe(mode)
        changed = ImageCms.applyTransform(probe, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if changed is None:
        return None
    difference = np.asarray(changed).astype(np.int16) - np.asarray(probe.convert("RGB"))
    return None if mode != "CMYK" and np.abs(difference).max() <= _SRGB_TOLERANCE else transform


@lru_cache(maxsize=1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb_profile(), "LAB", "RGB")


@lru_cache(maxsize=1)
def _srgb_profile() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _probe(mode: str) -> PillowImage.Image:
    """A few hundred colours spread over the whole space; shape (n, n * n) for colour, (1, 256) for grey."""
    if mode == "L":
        return PillowImage.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(9, 81, 3)
    probe = PillowImage.fromarray(np.ascontiguousarray(cube))
    return probe if mode == "RGB" else probe.convert(mode)
