"""Generated pictures and files for tests: nothing is read from disk, no real person is shown.

face_like(w, h)        an array that looks like a face, with no symmetry
encode(picture, kind)  an array or Pillow image as the bytes of a file
oriented(kind, n)      the same upright picture stored in EXIF orientation n
every_kind()           one small valid file of each format and variant, by name
matrix_profile(...)    an ICC profile of given primaries and gamma
"""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

Pixels = NDArray[np.uint8]

ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
"""XYZ under D50 of the red, green and blue primaries."""


def face_like(width: int = 96, height: int = 128) -> Pixels:
    """RGB of shape (height, width, 3): a skin-coloured oval with eyes, nose and mouth, dark hair on one side only."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    x, y = (x + 0.5) / width, (y + 0.5) / height
    picture = np.stack([90 + 60 * x, 120 + 40 * y, 160 - 50 * x * y], axis=-1)

    def paint(cx: float, cy: float, rx: float, ry: float, colour: tuple[int, int, int]) -> None:
        picture[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1] = colour

    paint(0.50, 0.52, 0.34, 0.42, (222, 176, 150))
    paint(0.34, 0.22, 0.24, 0.16, (48, 32, 24))
    for cx in (0.37, 0.63):
        paint(cx, 0.45, 0.07, 0.035, (245, 245, 245))
        paint(cx, 0.45, 0.03, 0.032, (40, 60, 90))
    paint(0.51, 0.58, 0.045, 0.07, (196, 146, 122))
    paint(0.49, 0.74, 0.13, 0.035, (170, 70, 76))
    paint(0.70, 0.64, 0.02, 0.015, (90, 50, 40))
    return picture.round().clip(0, 255).astype(np.uint8)


def encode(picture: Pixels | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The bytes of a file of `kind` (as Pillow names it, or HEIC); `options` go to Pillow."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    if kind == "HEIC":
        import pillow_heif

        # Not `from_pillow`, which turns the pixels upright and then writes the orientation all the same.
        file = pillow_heif.HeifFile()
        file.add_frombytes(image.mode, image.size, image.tobytes())
        file.info.update({key: options.pop(key) for key in ("exif", "icc_profile") if key in options})
        file.save(buffer, **{"quality": 90, **options})
    else:
        image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif_block(orientation: int, *, prefix: bool = True) -> bytes:
    """An EXIF block that says nothing but the orientation."""
    return b"Exif\0\0" * prefix + struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def stored(upright: Pixels, orientation: int) -> Pixels:
    """How a camera that writes `orientation` stores the picture that is `upright`."""
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    return np.ascontiguousarray(turned[orientation])


def oriented(kind: str, orientation: int, upright: Pixels | None = None, **options: Any) -> bytes:
    """A file of `kind` whose upright picture is `upright` (default: `face_like()`), stored in `orientation`."""
    pixels = stored(face_like() if upright is None else upright, orientation)
    if kind == "TIFF":
        directory = TiffImagePlugin.ImageFileDirectory_v2()
        directory[0x0112] = orientation
        return encode(pixels, kind, tiffinfo=directory, **options)
    return encode(pixels, kind, exif=exif_block(orientation), **options)


def matrix_profile(primaries: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    """An ICC version 2 display profile of these primaries (XYZ under D50) and a plain power curve."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(4 + 4 + 2 + 1 + 67)
    blocks = [
        (b"desc", text + bytes(-len(text) % 4)),
        (b"cprt", b"text\0\0\0\0none\0\0\0\0"),
        (b"wtpt", xyz((0.9642, 1.0, 0.8249))),
        *((name, xyz(p)) for name, p in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)),
        *((name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")),
    ]
    position = 128 + 4 + 12 * len(blocks)
    table, body = struct.pack(">I", len(blocks)), b""
    for name, block in blocks:
        table += name + struct.pack(">II", position + len(body), len(block))
        body += block
    head = struct.pack(">I4sI4s4s4s", position + len(body), b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", round(0.9642 * 65536), 65536, round(0.8249 * 65536))
    return head.ljust(128, b"\0") + table + body


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file with further chunks behind its header."""
    return data[:33] + b"".join(png_chunk(kind, body) for kind, body in chunks) + data[33:]


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file from raw rows, each of them preceded by its filter byte: for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


def jpeg_with(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG file with further segments (second marker byte, content) behind its start."""
    extra = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return data[:2] + extra + data[2:]


def ycck_jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (32, 24)) -> bytes:
    """An Adobe YCCK JPEG of one colour, without black.

    Pillow writes CMYK only: its four channels are filled with what YCCK stores for the colour, inverted as Pillow will
    invert them back, and the transform byte of the Adobe segment is set from 0 (CMYK) to 2 (YCCK).
    """
    cyan_magenta_yellow = Image.new("RGB", size, tuple(255 - c for c in colour))
    planes = [p.point(lambda v: 255 - v) for p in cyan_magenta_yellow.convert("YCbCr").split()]
    data = bytearray(encode(Image.merge("CMYK", [*planes, Image.new("L", size, 0)]), "JPEG", quality=95))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def plain_tiff(rows: bytes, width: int, height: int, bits: int, photometric: int, **tags: int) -> bytes:
    """Uncompressed grey rows; `tags` as `t254=1` are added, each one whole number."""
    entries = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: photometric,
        273: 0,
        277: 1,
        278: height,
        279: len(rows),
    }
    entries |= {int(name[1:]): value for name, value in tags.items()}
    entries[273] = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + rows


def animation(kind: str, frames: int = 3, size: tuple[int, int] = (40, 30)) -> bytes:
    """Frames of one colour each: red, green, blue, red, ..."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    images = [Image.new("RGB", size, colours[i % 3]) for i in range(frames)]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    return encode(images[0], kind, save_all=True, append_images=images[1:], **options)


@functools.cache
def every_kind() -> dict[str, bytes]:
    """One small valid file of each format and variant (HEIC only where pillow-heif is there), by name."""
    rgb = Image.fromarray(face_like(48, 64))
    rgba = rgb.copy()
    rgba.putalpha(Image.linear_gradient("L").resize(rgb.size))
    grey, palette = rgb.convert("L"), rgb.quantize(32)
    deep = Image.fromarray(np.linspace(0, 65535, 64 * 48).round().astype(np.uint16).reshape(64, 48))
    profile = matrix_profile(ADOBE_RGB, 2.2)
    files = {
        "jpeg": encode(rgb, "JPEG", icc_profile=profile, exif=exif_block(6)),
        "jpeg grey": encode(grey, "JPEG"),
        "jpeg progressive": encode(rgb, "JPEG", progressive=True),
        "jpeg cmyk": encode(rgb.convert("CMYK"), "JPEG"),
        "jpeg ycck": ycck_jpeg((200, 60, 40)),
        "mpo": encode(rgb, "MPO", save_all=True, append_images=[rgb]),
        "png": encode(rgb, "PNG", icc_profile=profile, exif=exif_block(3)),
        "png rgba": encode(rgba, "PNG"),
        "png palette": encode(palette, "PNG", transparency=3),
        "png 16": encode(deep, "PNG"),
        "png 1": encode(rgb.convert("1"), "PNG"),
        "apng": animation("PNG"),
        "webp": encode(rgb, "WEBP", quality=80, exif=exif_block(8), icc_profile=profile),
        "webp lossless": encode(rgba, "WEBP", lossless=True),
        "webp animated": animation("WEBP"),
        "avif": encode(rgb, "AVIF", exif=exif_block(6)),
        "tiff": encode(rgb, "TIFF", icc_profile=profile),
        "tiff lzw": encode(rgb, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": encode(rgb, "TIFF", compression="jpeg"),
        "tiff deflate": encode(rgba, "TIFF", compression="tiff_adobe_deflate"),
        "tiff fax": encode(rgb.convert("1"), "TIFF", compression="group4"),
        "tiff lab": encode(Image.new("LAB", (20, 20), (140, 160, 150)), "TIFF"),
        "tiff float": encode(Image.fromarray(np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)), "TIFF"),
        "tiff pages": encode(rgb, "TIFF", save_all=True, append_images=[rgb.rotate(90), rgb]),
        "bmp": encode(rgb, "BMP"),
        "bmp palette": encode(palette, "BMP"),
        "gif": encode(palette, "GIF", transparency=2),
        "gif animated": animation("GIF"),
    }
    with contextlib.suppress(ImportError):
        files["heic"] = encode(rgb, "HEIC")
    return files
