from __future__ import annotations

import io
import random
import re
import struct
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as PillowImage
from PIL import ImageFile

from agelens.decode import decode, decode_any, from_array, from_pil
from agelens.decode.colour import BACKGROUND, find_transform
from agelens.decode.containers import misses_restarts
from agelens.errors import (
    CorruptImageError,
    EmptyFileError,
    FolderGivenError,
    ImageTooSmallError,
    InputError,
    InvalidArrayError,
    MissingExtraError,
    TooManyBytesError,
    TooManyPixelsError,
    TruncatedImageError,
    UnsupportedFormatError,
    UrlNotAllowedError,
)
from agelens.formats import SUPPORTED, describe, sniff
from agelens.limits import DEFAULT_LIMITS, Limits
from pictures import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    animation,
    encode,
    every_kind,
    exif_block,
    face_like,
    jpeg_with,
    matrix_profile,
    oriented,
    plain_tiff,
    png_with,
    raw_png,
    stored,
    ycck_jpeg,
)

LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}
LOSSY = {"JPEG": {"quality": 95, "subsampling": 0}, "AVIF": {"quality": 95, "subsampling": "4:4:4"}}
# MPO and animations hold a complete first picture although the file is cut; BMP's first bytes say how long it is.
SINGLE = sorted(set(every_kind()) - {"mpo", "webp animated", "gif animated", "tiff pages"})


def grey_ramp(steps: int = 256) -> np.ndarray:
    return np.repeat(np.linspace(0, 1, steps)[None], 8, axis=0)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(int) - b.astype(int))


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_all_orientations_give_the_same_upright_pixels(kind: str, orientation: int) -> None:
    upright = face_like(96, 128)
    image = decode(oriented(kind, orientation, upright, **(LOSSLESS | LOSSY)[kind]))
    assert (image.width, image.height) == (96, 128)
    assert image.pixels.shape == (128, 96, 3)
    if kind in LOSSLESS:
        assert np.array_equal(image.pixels, upright)
    else:
        assert difference(image.pixels, upright).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_a_pillow_image_is_turned_like_its_file(kind: str, orientation: int) -> None:
    data = oriented(kind, orientation)
    assert np.array_equal(from_pil(PillowImage.open(io.BytesIO(data))).pixels, decode(data).pixels)


def test_an_image_that_pillow_turned_already_is_not_turned_twice() -> None:
    from PIL import ImageOps

    turned = ImageOps.exif_transpose(PillowImage.open(io.BytesIO(oriented("PNG", 6))))
    assert np.array_equal(from_pil(turned).pixels, face_like())


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_senseless_orientation_is_ignored(value: int) -> None:
    assert np.array_equal(decode(encode(face_like(), "PNG", exif=exif_block(value))).pixels, face_like())


def test_a_big_endian_orientation_of_a_long_is_read() -> None:
    block = b"Exif\0\0" + struct.pack(">2sHIHHHIII", b"MM", 42, 8, 1, 0x0112, 4, 1, 6, 0)
    data = jpeg_with(encode(stored(face_like(), 6), "JPEG"), (0xE1, block))
    assert decode(data).pixels.shape == face_like().shape


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01"]
)
def test_broken_exif_neither_warns_nor_kills(kind: str, block: bytes) -> None:
    plain, broken = encode(face_like(), kind), encode_with_raw_exif(kind, block)
    assert np.array_equal(decode(broken).pixels, decode(plain).pixels)


def encode_with_raw_exif(kind: str, block: bytes) -> bytes:
    if kind == "JPEG":
        return jpeg_with(encode(face_like(), kind), (0xE1, block))
    if kind == "PNG":
        return png_with(encode(face_like(), kind), (b"eXIf", block[6:]))
    # These writers copy the block: a valid one is put in and overwritten, as they would refuse a broken one.
    tags = PillowImage.Exif()
    tags[0x0131] = "software"
    bare = tags.tobytes().removeprefix(b"Exif\0\0")
    data = encode(face_like(), kind, exif=tags)
    assert bare in data
    return data.replace(bare, block[6:].ljust(len(bare), b"\xff")[: len(bare)])


# Modes and colours


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_becomes_three_equal_channels(mode: str) -> None:
    grey = PillowImage.fromarray(face_like()).convert(mode)
    pixels = decode(encode(grey, "PNG")).pixels
    assert np.array_equal(pixels, np.repeat(np.asarray(grey.convert("L"))[..., None], 3, axis=2))


def test_a_palette_gives_its_colours() -> None:
    palette = PillowImage.fromarray(face_like()).quantize(64)
    expected = np.asarray(palette.convert("RGB"))
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        assert np.array_equal(decode(encode(palette, kind)).pixels, expected), kind


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_garbage_under_full_transparency_does_not_show(kind: str) -> None:
    garbage = np.random.default_rng(1).integers(0, 256, (40, 40, 4)).astype(np.uint8)
    garbage[..., 3] = 0
    garbage[10:30, 10:30] = (200, 100, 50, 255)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encode(PillowImage.fromarray(garbage), kind, **options)
    pixels = decode(data).pixels
    assert np.all(pixels[:10] == BACKGROUND)
    assert np.all(pixels[10:30, 10:30] == (200, 100, 50))
    assert np.array_equal(from_array(garbage).pixels, pixels)


def test_half_transparency_is_mixed_with_the_background() -> None:
    pixels = decode(encode(PillowImage.new("RGBA", (20, 20), (255, 0, 0, 128)), "PNG")).pixels
    assert difference(pixels, np.full((20, 20, 3), (192, 64, 64))).max() <= 1


@pytest.mark.parametrize(("mode", "key"), [("P", 7), ("L", 7), ("RGB", (7, 7, 7))])
def test_a_transparent_colour_shows_the_background(mode: str, key: object) -> None:
    values = np.full((20, 20), 7, np.uint8)
    values[5:15, 5:15] = 250
    image = PillowImage.fromarray(values if mode != "RGB" else np.repeat(values[..., None], 3, 2))
    if mode == "P":
        image = image.copy()
        image.putpalette([c for i in range(256) for c in (i, 0, 0)])
    pixels = decode(encode(image, "PNG", transparency=key)).pixels
    assert np.all(pixels[0, 0] == BACKGROUND)
    assert tuple(pixels[10, 10]) == ((250, 0, 0) if mode == "P" else (250, 250, 250))


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = grey_ramp(1024)
    deep = (ramp * 65535).round().astype(np.uint16)
    for data in (
        encode(PillowImage.fromarray(deep), "PNG"),
        encode(PillowImage.fromarray(deep), "TIFF"),
        encode(PillowImage.frombytes("I;16B", deep.shape[::-1], deep.astype(">u2").tobytes()), "TIFF"),
    ):
        pixels = decode(data).pixels
        assert np.abs(pixels - ramp[..., None] * 255).max() <= 1
        assert np.all(np.diff(pixels[0, :, 0].astype(int)) >= 0)


@pytest.mark.parametrize("peak", [0.3, 1.0, 200.0, 255.0, 60000.0, 65535.0])
def test_float_and_32_bit_ranges_are_recognised(peak: float) -> None:
    white = next(w for w in (1.0, 255.0, 65535.0) if peak <= w)
    values = (grey_ramp() * peak).astype(np.float32)
    pixels = decode(encode(PillowImage.fromarray(values), "TIFF")).pixels
    assert np.abs(pixels - values[..., None] / white * 255).max() <= 1
    if peak > 1:
        whole = values.round().astype(np.int32)
        assert np.abs(from_pil(PillowImage.fromarray(whole)).pixels - whole[..., None] / white * 255).max() <= 1


def test_other_ranges_are_stretched() -> None:
    for low, high in ((-1.0, 1.0), (-40.0, 900.0), (0.0, 3e6)):
        values = (low + grey_ramp() * (high - low)).astype(np.float32)
        pixels = from_pil(PillowImage.fromarray(values)).pixels
        assert np.abs(pixels - grey_ramp()[..., None] * 255).max() <= 1


def test_not_finite_values() -> None:
    values = grey_ramp().astype(np.float32)
    values[0, :3] = (np.nan, np.inf, -np.inf)
    assert from_pil(PillowImage.fromarray(values)).pixels[0, :3, 0].tolist() == [0, 255, 0]
    with pytest.raises(CorruptImageError, match="finite"):
        from_pil(PillowImage.fromarray(np.full((10, 10), np.nan, np.float32)))


def test_16_bit_colour_png_and_tiff() -> None:
    colour = np.array([0x1234, 0x8000, 0xFFFF], ">u2").tobytes()
    rows = (b"\0" + colour * 16) * 16
    pixels = decode(raw_png(16, 16, 16, 2, rows)).pixels
    assert difference(pixels, np.full((16, 16, 3), (0x12, 0x80, 0xFF))).max() <= 1


def test_cmyk_and_ycck_jpeg_colours() -> None:
    red = PillowImage.new("CMYK", (32, 24), (0, 255, 255, 0))
    assert difference(decode(encode(red, "JPEG", quality=95)).pixels, np.full((24, 32, 3), (255, 0, 0))).max() <= 4
    for colour in ((255, 0, 0), (0, 200, 0), (222, 176, 150), (20, 30, 200)):
        assert difference(decode(ycck_jpeg(colour)).pixels, np.full((24, 32, 3), colour)).max() <= 6, colour


@pytest.mark.parametrize(("bits", "white_is_zero"), [(12, False), (16, False), (16, True)])
def test_deep_grey_tiffs_reach_from_black_to_white(bits: int, white_is_zero: bool) -> None:
    shares = np.linspace(0, 1, 64)[None].repeat(32, axis=0)
    values = np.rint((1 - shares if white_is_zero else shares) * (2**bits - 1)).astype("<u2")
    rows = values.tobytes()
    if bits == 12:  # two values in three bytes
        left, right = values[:, ::2], values[:, 1::2]
        packed = np.stack([left >> 4, ((left & 15) << 4) | (right >> 8), right & 255], axis=-1)
        rows = packed.astype(np.uint8).tobytes()
    pixels = decode(plain_tiff(rows, 64, 32, bits, int(not white_is_zero))).pixels
    np.testing.assert_allclose(pixels, np.rint(shares * 255)[:, :, None].repeat(3, axis=2), atol=1)


@pytest.mark.parametrize("raw", [{"photometric": 32803}, {"photometric": 1, "t254": 1, "t330": 999}])
def test_a_camera_s_raw_file_is_not_judged_by_its_thumbnail(raw: dict[str, int]) -> None:
    data = plain_tiff(bytes(64 * 32), 64, 32, 8, **raw)
    assert sniff(data) is None
    assert describe(data) == "a camera's raw file (export it as a JPEG or TIFF picture)"
    behind = data[:4] + struct.pack("<I", 8008) + bytes(8000) + data[8:]
    with pytest.raises(UnsupportedFormatError, match="a camera's raw file"):
        decode(behind)
    with pytest.raises(UnsupportedFormatError, match="a camera's raw file"):
        decode(data)
    with_smaller_copies = plain_tiff(bytes(64 * 32), 64, 32, 8, 1, t254=0, t330=999)
    assert decode(with_smaller_copies).width == 64


def test_a_big_tiff_whose_directory_is_nowhere_is_an_error() -> None:
    with pytest.raises(TruncatedImageError):
        decode(b"II+\0" + struct.pack("<HHQ", 8, 0, 2**64 - 1) + bytes(64))


def test_lab_tiff() -> None:
    # CIE L*a*b* of sRGB red under D50: 54.3, 80.8, 69.9.
    lab = PillowImage.new("LAB", (16, 16), (round(54.3 * 2.55), 128 + 81, 128 + 70))
    assert difference(decode(encode(lab, "TIFF")).pixels, np.full((16, 16, 3), (255, 0, 0))).max() <= 6


def to_srgb_by_hand(colour: tuple[int, int, int], primaries: tuple, gamma: float) -> np.ndarray:
    xyz = np.array(primaries).T @ (np.array(colour) / 255) ** gamma
    linear = np.linalg.solve(np.array(SRGB).T, xyz).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(("primaries", "gamma"), [(ADOBE_RGB, 2.19921875), (DISPLAY_P3, 2.2), (SRGB, 1.0)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP", "AVIF", "HEIC"])
def test_colour_profiles_are_honoured(kind: str, primaries: tuple, gamma: float) -> None:
    if kind == "HEIC":
        pytest.importorskip("pillow_heif")
    for colour in ((200, 120, 90), (60, 140, 70), (128, 128, 128), (222, 176, 150)):
        image = PillowImage.new("RGB", (32, 32), colour)
        data = encode(image, kind, icc_profile=matrix_profile(primaries, gamma), quality=95)
        expected = to_srgb_by_hand(colour, primaries, gamma)
        found = decode(data).pixels.mean(axis=(0, 1))
        assert np.abs(found - expected).max() <= (1.5 if kind in {"PNG", "TIFF"} else 5), (colour, found, expected)


def test_an_srgb_profile_changes_nothing() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode(encode(face_like(), "PNG", icc_profile=profile)).pixels, face_like())
    # It is passed over, and not applied: nearly all cameras write it, and applying costs as much as decoding.
    assert find_transform(profile, "RGB") is None
    assert find_transform(matrix_profile(ADOBE_RGB, 2.2), "RGB") is not None


@pytest.mark.parametrize("profile", [b"", b"x", b"\0" * 500, matrix_profile(ADOBE_RGB, 2.2)[:200]])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_broken_profile_is_ignored(kind: str, profile: bytes) -> None:
    assert np.array_equal(decode(encode(face_like(), kind, icc_profile=profile)).pixels, face_like())


def test_a_colour_profile_in_a_grey_picture_is_ignored() -> None:
    grey = PillowImage.fromarray(face_like()).convert("L")
    data = encode(grey, "PNG", icc_profile=matrix_profile(ADOBE_RGB, 2.2))
    assert np.array_equal(decode(data).pixels[..., 0], np.asarray(grey))


# Containers


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", sorted(every_kind()))
def test_every_kind_gives_what_pillow_gives(name: str) -> None:
    data = every_kind()[name]
    image = decode(data)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == (image.height, image.width, 3)
    assert image.pixels.flags.c_contiguous
    assert image.finer is None
    if name != "heic":
        opened = PillowImage.open(io.BytesIO(data))
        before = opened.mode, dict(opened.info)
        assert np.array_equal(from_pil(opened).pixels, image.pixels)
        assert opened.mode == before[0]


@pytest.mark.parametrize(("kind", "frames"), [("GIF", 4), ("WEBP", 3), ("PNG", 5), ("TIFF", 3)])
def test_the_first_frame_is_used_and_all_are_counted(kind: str, frames: int) -> None:
    image = decode(animation(kind, frames))
    assert image.frames == frames
    assert np.all(image.pixels == (255, 0, 0))


def test_mpo_is_a_jpeg_with_more_frames() -> None:
    image = decode(every_kind()["mpo"])
    assert (image.format, image.frames) == ("MPO", 2)


def test_a_gif_frame_beyond_its_screen_and_with_disposal() -> None:
    data = bytearray(encode(PillowImage.new("P", (20, 20), 1), "GIF"))
    data[6:10] = struct.pack("<HH", 10, 10)
    assert decode(bytes(data)).pixels.shape == (20, 20, 3)


@pytest.mark.filterwarnings("error")
def test_broken_metadata_does_not_kill_a_png() -> None:
    plain = encode(face_like(), "PNG")
    noise = [(b"acTL", struct.pack(">II", 0, 0)), (b"zTXt", b"k\0\0" + b"x" * 20), (b"iCCP", b"n\0\0" + b"y" * 9)]
    assert np.array_equal(decode(png_with(plain, *noise, (b"acTL", b""), (b"pHYs", b""))).pixels, face_like())


@pytest.mark.filterwarnings("error")
def test_broken_metadata_does_not_kill_a_jpeg() -> None:
    plain = encode(face_like(), "JPEG")
    noise = [(0xED, b"Photoshop 3.0\x008BIM\x04\x04"), (0xE2, b"ICC_PROFILE\0"), (0xE2, b"MPF\0II*\0\xff\xff\xff\x7f")]
    noisy = jpeg_with(plain, *noise, (0xE2, b"ICC_PROFILE\0\x05\x09x"), (0xE1, b"Exif"), (0xFE, b""))
    assert np.array_equal(decode(noisy).pixels, decode(plain).pixels)


@pytest.mark.filterwarnings("error")
def test_broken_metadata_does_not_kill_a_tiff() -> None:
    data = bytearray(encode(face_like(), "TIFF", software="a" * 40, description="b" * 40, icc_profile=b"z" * 40))
    start = struct.unpack_from("<I", data, 4)[0]
    for i in range(struct.unpack_from("<H", data, start)[0]):
        entry = start + 2 + 12 * i
        if struct.unpack_from("<H", data, entry)[0] in {270, 305, 34675}:
            struct.pack_into("<I", data, entry + 8, 2**31)
    assert np.array_equal(decode(bytes(data)).pixels, face_like())


@pytest.mark.parametrize("name", ["photo.png", "photo.txt", "photo"])
def test_the_content_decides_and_not_the_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(every_kind()["gif"])
    assert decode_any(path)[1].format == "GIF"


def test_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pillow_heif")
    upright = face_like(96, 128)
    before = dict(PillowImage.OPEN)
    image = decode(encode(upright, "HEIC", quality=95))
    assert (image.format, image.width, image.height) == ("HEIC", 96, 128)
    assert difference(image.pixels, upright).mean() < 4
    assert "HEIF" not in set(PillowImage.OPEN) - set(before)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once(orientation: int) -> None:
    pytest.importorskip("pillow_heif")
    image = decode(oriented("HEIC", orientation, quality=95))
    assert (image.width, image.height) == (96, 128)
    assert difference(image.pixels, face_like()).mean() < 4


def test_heic_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + struct.pack(">I4s", 8, b"meta")
    with pytest.raises(MissingExtraError, match=r"pip install pillow-heif, or .* pip install '\.\[heif\]'"):
        decode(data)


# Reduced decoding


@pytest.fixture(scope="module")
def large() -> bytes:
    return encode(np.asarray(PillowImage.fromarray(face_like(480, 640)).resize((2403, 3201))), "JPEG", quality=90)


@pytest.mark.parametrize(("detail", "side"), [(1, 401), (401, 401), (402, 801), (801, 801), (1000, 1601), (1602, 3201)])
def test_detail_chooses_the_smallest_scale_that_suffices(large: bytes, detail: int, side: int) -> None:
    image = decode(large, detail=detail)
    assert max(image.pixels.shape) == side >= min(detail, 3201)
    assert (image.width, image.height) == (2403, 3201)
    assert image.scale == pytest.approx(side / 3201, rel=2e-3)
    assert (image.finer is None) == (side == 3201)


def test_finer_goes_up_to_the_full_picture(large: bytes) -> None:
    full = decode(large)
    small = decode(large, detail=400)
    assert max(small.at_scale(0.2).pixels.shape) == 801
    assert max(small.at_scale(0.25).at_scale(0.3).pixels.shape) == 1601
    assert np.array_equal(small.at_scale(1.0).pixels, full.pixels)
    assert small.at_scale(0.125) is small
    resized = np.asarray(PillowImage.fromarray(full.pixels).resize((301, 401), PillowImage.Resampling.BOX))
    assert difference(resized, small.pixels).mean() < 3


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_reduced_pictures_are_turned_too(large: bytes, orientation: int) -> None:
    image = decode(jpeg_with(large, (0xE1, exif_block(orientation))), detail=700)
    sideways = orientation >= 5
    assert (image.width, image.height) == ((3201, 2403) if sideways else (2403, 3201))
    assert image.pixels.shape == ((601, 801, 3) if sideways else (801, 601, 3))
    assert image.at_scale(1.0).pixels.shape == (image.height, image.width, 3)


def test_other_formats_and_pictures_without_a_scale_that_suffices_are_decoded_whole() -> None:
    assert decode(encode(face_like(816, 40), "JPEG"), detail=409).pixels.shape == (40, 816, 3)
    assert decode(encode(face_like(816, 40), "JPEG"), detail=408).pixels.shape == (20, 408, 3)
    assert decode(encode(face_like(2600, 40), "PNG"), detail=10).pixels.shape == (40, 2600, 3)


# Errors


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", SINGLE)
def test_a_file_that_ends_early_is_an_error(name: str, share: float) -> None:
    data = every_kind()[name]
    with pytest.raises(TruncatedImageError, match="ends"):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("name", SINGLE)
def test_truncation_is_seen_even_where_another_library_made_pillow_tolerant(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = every_kind()[name]
    with pytest.raises(TruncatedImageError):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_jpeg_cut_and_filled_with_zeros_or_closed_is_an_error(share: float, progressive: bool) -> None:
    data = encode(face_like(300, 400), "JPEG", progressive=progressive)
    cut = data[: int(len(data) * share)]
    with pytest.raises(TruncatedImageError):
        decode(cut.ljust(len(data), b"\0"))
    if not progressive:
        with pytest.raises(TruncatedImageError):
            decode(cut.rstrip(b"\xff") + b"\xff\xd9")


def test_a_jpeg_cut_between_two_restart_markers_and_closed_is_an_error() -> None:
    data = encode(face_like(300, 400), "JPEG", restart_marker_rows=1)
    scan = data.index(b"\xff\xda")
    restarts = [scan + found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", data[scan:])]
    assert len(restarts) > 8
    assert decode(data).width == 300
    with pytest.raises(TruncatedImageError):
        decode(data[: restarts[-3]] + b"\xff\xd9")
    middle = restarts[2] + 20
    with pytest.raises(TruncatedImageError):
        decode(data[:middle] + bytes(len(data) - middle - 60) + data[-60:])


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(8, 8), (17, 33), (129, 8), (200, 120)])
@pytest.mark.parametrize("every", [{"restart_marker_rows": 1}, {"restart_marker_blocks": 5}])
def test_a_grey_jpeg_with_all_its_restart_markers_is_whole(
    size: tuple[int, int], subsampling: str, every: dict[str, int]
) -> None:
    grey = np.full((*size, 3), 128, np.uint8)
    for pixels, options in ((grey, {"subsampling": subsampling}), (grey[:, :, 0], {})):
        data = encode(pixels, "JPEG", **every, **options)
        assert b"\xff\xdd" in data
        assert not misses_restarts(data)
        assert decode(data).pixels.shape == (*size, 3)


def test_a_grey_jpeg_is_no_truncated_one() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    grey[:20, :20] = face_like(20, 20)
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 2}):
        assert decode(encode(grey, "JPEG", **options)).pixels[-1, -1].tolist() == [128, 128, 128]


def test_a_complete_jpeg_without_end_marker_is_read() -> None:
    data = encode(face_like(), "JPEG")
    assert np.array_equal(decode(data[:-2]).pixels, decode(data).pixels)


def test_no_bytes() -> None:
    with pytest.raises(EmptyFileError, match="0 bytes"):
        decode(b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello, this is a text\n" * 9, "a text"),
        ("Grüße aus Köln\n".encode() * 500, "a text"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b'{"error": "not found"}', "a JSON text"),
        (b"%PDF-1.7\n" + bytes(50), "a PDF document"),
        (struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + bytes(40), "an MP4 or QuickTime video"),
        (b"RIFF\x24\0\0\0AVI LIST", "an AVI video"),
        (b"\x1aE\xdf\xa3" + bytes(30), "a Matroska or WebM video"),
        (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
        (bytes(4096), "zero bytes only"),
        (b"P6 2 2 255\n" + bytes(12), "a Netpbm picture"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"BM is how this text begins", "a text"),
        (bytes(range(1, 200)), "data of an unknown kind"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, words: str) -> None:
    with pytest.raises(UnsupportedFormatError) as caught:
        decode(data)
    assert words in caught.value.message
    assert all(name in caught.value.message for name in SUPPORTED)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (7, 100), (100, 7)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        with pytest.raises(ImageTooSmallError, match=f"{size[0]} x {size[1]}"):
            decode(encode(PillowImage.new("RGB", size), kind))
    with pytest.raises(ImageTooSmallError):
        from_array(np.zeros((size[1], size[0], 3), np.uint8))
    with pytest.raises(ImageTooSmallError):
        from_pil(PillowImage.new("RGB", size))


def test_the_smallest_picture_is_read() -> None:
    assert decode(encode(PillowImage.new("RGB", (8, 8)), "PNG")).pixels.shape == (8, 8, 3)


def test_too_many_bytes() -> None:
    data = encode(face_like(), "PNG")
    assert decode(data, limits=Limits(max_bytes=len(data))).width == 96
    with pytest.raises(TooManyBytesError, match=r"--max-bytes") as caught:
        decode(data, limits=Limits(max_bytes=len(data) - 1))
    assert f"{len(data):,}" in caught.value.message
    assert f"{len(data) - 1:,}" in caught.value.message


@pytest.mark.parametrize("name", sorted(every_kind()))
def test_too_many_pixels(name: str) -> None:
    data = every_kind()[name]
    image = decode(data)
    count = image.width * image.height
    assert decode(data, limits=Limits(max_pixels=count)).width == image.width
    with pytest.raises(TooManyPixelsError, match=rf"{count:,}.*{count - 1:,}.*--max-pixels {count}"):
        decode(data, limits=Limits(max_pixels=count - 1))


@pytest.mark.filterwarnings("error")
def test_sizes_are_checked_in_the_header_and_not_by_decoding() -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    png = encode(face_like(), "PNG")
    from pictures import png_chunk

    huge = {
        "PNG": png[:8] + png_chunk(b"IHDR", header) + png[33:],
        "GIF": b"GIF89a" + struct.pack("<HH", 65535, 65535) + encode(face_like(), "GIF")[10:],
        "JPEG": patch_jpeg_size(encode(face_like(), "JPEG"), 65500, 65500),
        "BMP": encode(face_like(), "BMP")[:18] + struct.pack("<ii", 60000, 60000) + encode(face_like(), "BMP")[26:],
    }
    for kind, data in huge.items():
        with pytest.raises(TooManyPixelsError, match="--max-pixels"):
            decode(data)
        assert len(data) < DEFAULT_LIMITS.max_bytes, kind


def patch_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", sorted(set(every_kind()) - {"heic"}))
def test_pillows_own_limit_neither_fires_nor_is_changed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decode(every_kind()[name])
    for limit in (1, 100):
        monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", limit)
        assert np.array_equal(decode(every_kind()[name]).pixels, expected.pixels)
        assert limit == PillowImage.MAX_IMAGE_PIXELS
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.filterwarnings("error")
def test_a_hundred_megapixels_without_a_warning() -> None:
    image = decode(encode(PillowImage.new("L", (10000, 10000), 77), "JPEG"), detail=1250)
    assert (image.width, image.height, image.pixels.shape) == (10000, 10000, (1250, 1250, 3))
    assert np.all(image.pixels == 77)


# Fuzz


def mutations(data: bytes, random_: random.Random) -> bytes:
    changed = bytearray(data)
    # Half of the changes go to the first bytes, where headers are.
    for _ in range(random_.choice((1, 1, 2, 5, 20))):
        at = random_.randrange(len(changed) if random_.random() < 0.5 else min(len(changed), 200))
        action = random_.random()
        if action < 0.6:
            changed[at] = random_.randrange(256)
        elif action < 0.8:
            changed[at] = random_.choice((0, 0xFF, 0x7F, 0x80))
        elif action < 0.9:
            del changed[at : at + random_.randrange(1, 9)]
        else:
            changed[at:at] = random_.randbytes(random_.randrange(1, 9))
        if not changed:
            break
    return bytes(changed)


def fuzz(name: str, rounds: int) -> int:
    random_ = random.Random(f"{name} {rounds}")
    survived = 0
    limits = Limits(max_pixels=4_000_000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(rounds):
            try:
                image = decode(mutations(every_kind()[name], random_), limits=limits)
            except InputError:
                continue
            else:
                survived += 1
                assert image.pixels.shape == (image.height, image.width, 3)
    assert [str(warning.message) for warning in caught] == []
    return survived


@pytest.mark.parametrize("name", sorted(every_kind()))
def test_whatever_the_bytes_only_input_errors_come_out(name: str) -> None:
    assert fuzz(name, 150) < 150


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(every_kind()))
def test_whatever_the_bytes_only_input_errors_come_out_long(name: str) -> None:
    assert fuzz(name, 3000) < 3000


@given(st.binary(max_size=300), st.sampled_from([data[:16] for data in every_kind().values()]))
def test_random_bytes_after_a_true_signature(tail: bytes, head: bytes) -> None:
    with pytest.raises(InputError):
        decode(head + tail)


@pytest.mark.timeout(60)
def test_files_made_to_keep_a_reader_busy() -> None:
    jpeg, png = encode(face_like(), "JPEG"), encode(face_like(), "PNG")
    boxes = struct.pack(">I4s4sI", 16, b"ftyp", b"avif", 0) + struct.pack(">I4s", 8, b"free") * 2_000_000
    pages = 60_000
    tiff_chain = b"II*\0" + b"".join(struct.pack("<IH", 8 + 6 * i + 2 - 4, 0) for i in range(1, pages))
    for data in (
        jpeg[:2] + b"\xff\xfe\0\x02" * 2_000_000 + jpeg[2:],
        png_with(png, *[(b"IDAT", b"")] * 100_000),
        png_with(png, *[(b"tEXt", b"")] * 100_000),
        jpeg[:2] + b"\xff" * 30_000_000,
        boxes,
        tiff_chain,
        b"GIF89a" + struct.pack("<HHBBB", 100, 100, 0, 0, 0) + bytes(30_000_000),
        b"BM"
        + struct.pack("<IHHI", 0, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 8, 20_000_000, 1, 8, 1, 0, 0, 0, 0, 0),
    ):
        with pytest.raises((CorruptImageError, TruncatedImageError)):
            decode(data)


def test_a_kind_of_picture_that_no_reader_knows_is_told_apart_from_a_broken_one() -> None:
    data = bytearray(encode(face_like(), "BMP"))
    data[30] = 5  # PNG inside BMP
    with pytest.raises(UnsupportedFormatError, match="save the picture as PNG or JPEG"):
        decode(bytes(data))


# One picture, many ways in


def test_path_bytes_image_and_array_give_the_same_pixels(tmp_path: Path) -> None:
    pixels = face_like()
    data = encode(pixels, "PNG")
    path = tmp_path / "Grüße 人 😀.jpg"
    path.write_bytes(data)
    ways = [path, str(path), data, bytearray(data), memoryview(data), PillowImage.open(path), pixels, pixels.tolist]
    found = [decode_any(way) for way in ways[:-1]]
    assert all(np.array_equal(image.pixels, pixels) for _, image in found)
    assert [name for name, _ in found] == [str(path), str(path), "bytes", "bytes", "bytes", str(path), "array"]
    with pytest.raises(InvalidArrayError, match="expected a path"):
        decode_any(ways[-1])


def test_a_name_that_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(FolderGivenError):
        decode_any(tmp_path)
    with pytest.raises(UrlNotAllowedError, match="--allow-url"):
        decode_any("https://example.org/a.jpg")


@given(hnp.arrays(np.uint8, st.tuples(st.integers(8, 20), st.integers(8, 20), st.just(3))))
def test_png_bytes_and_array_agree(pixels: np.ndarray) -> None:
    assert np.array_equal(decode(encode(pixels, "PNG")).pixels, from_array(pixels).pixels)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(8, 20), st.integers(8, 20), st.just(4))))
def test_rgba_array_and_png_agree_within_rounding(pixels: np.ndarray) -> None:
    found = from_array(pixels).pixels
    assert difference(found, decode(encode(PillowImage.fromarray(pixels), "PNG")).pixels).max() <= 1


def test_arrays_are_neither_changed_nor_copied_without_need() -> None:
    array = face_like()
    image = from_array(array)
    assert np.shares_memory(image.pixels, array)
    assert array.flags.writeable
    assert not image.pixels.flags.writeable
    assert (image.width, image.height, image.format, image.scale) == (96, 128, "array", 1.0)
    mirrored = from_array(array[:, ::-1])
    assert mirrored.pixels.flags.c_contiguous
    assert np.array_equal(mirrored.pixels, array[:, ::-1])


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1)])
def test_grey_arrays(shape: tuple[int, ...]) -> None:
    grey = np.arange(600, dtype=np.uint16).astype(np.uint8).reshape(shape)
    pixels = from_array(grey).pixels
    assert pixels.shape == (20, 30, 3)
    assert all(np.array_equal(pixels[..., channel], grey.reshape(20, 30)) for channel in range(3))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((20, 30, 3), np.float32), r"float32 and shape \(20, 30, 3\).*255"),
        (np.zeros((20, 30, 3), np.int64), r"int64"),
        (np.zeros((3, 20, 30), np.uint8), r"\(3, 20, 30\).*transpose"),
        (np.zeros((2, 20, 30, 3), np.uint8), r"one picture at a time"),
        (np.zeros((20, 30, 2), np.uint8), r"\(20, 30, 2\)"),
        (np.zeros(20, np.uint8), r"\(20,\)"),
        (np.array(None), "object"),
    ],
)
def test_other_arrays_are_refused_with_what_was_found_and_expected(array: np.ndarray, words: str) -> None:
    with pytest.raises(InvalidArrayError, match=words) as caught:
        from_array(array)
    assert "(H, W, 3)" in caught.value.message


def test_pillow_images_of_every_mode() -> None:
    rgb = PillowImage.fromarray(face_like())
    for mode in (
        "1",
        "L",
        "LA",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBX",
        "RGBa",
        "La",
        "CMYK",
        "YCbCr",
        "HSV",
        "LAB",
        "I",
        "F",
    ):
        if mode == "LAB":
            image = PillowImage.new("LAB", rgb.size, (128, 0, 0))
        elif mode in {"RGBa", "La"}:
            image = rgb.convert(mode[:-1].replace("L", "LA").replace("RGB", "RGBA")).convert(mode)
        elif mode == "PA":
            image = rgb.convert("P").convert("PA")
        else:
            image = rgb.convert(mode)
        found = from_pil(image)
        assert found.pixels.shape == (128, 96, 3), mode
        if mode in {"RGB", "RGBA", "RGBX", "RGBa"}:
            assert np.array_equal(found.pixels, face_like()), mode
        assert image.mode == mode


def test_a_closed_or_broken_pillow_image() -> None:
    data = encode(face_like(), "PNG")
    with PillowImage.open(io.BytesIO(data)) as image:
        image.load()
    assert np.array_equal(from_pil(image).pixels, face_like())
    image = PillowImage.open(io.BytesIO(data[: len(data) // 2]))
    with pytest.raises(TruncatedImageError):
        from_pil(image)


def test_many_threads_give_what_one_gives() -> None:
    files = list(every_kind().values())
    expected = [decode(data).pixels for data in files]
    wrong: list[object] = []

    def work(offset: int) -> None:
        for i in range(len(files)):
            k = (i + offset) % len(files)
            if not np.array_equal(decode(files[k]).pixels, expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(7 * t,)) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
