"""Laying a region of a picture on a canvas, and carrying points back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from agelens.detect.canvas import GREY, Frame, lay_out, shrink, turn
from agelens.detect.words import read_words
from agelens.detect.yunet import NOTHING, Candidates
from agelens.types import Box, Image

MARKER = np.array([255, 0, 0])


def draw(pixels: np.ndarray, held: float, frame: Frame, *, as_picture: bool = True) -> np.ndarray:
    """The canvas as RGB, shape (H, W, 3), of a picture of which `pixels` is a copy at the scale `held`."""
    size = (round(pixels.shape[1] / held), round(pixels.shape[0] / held))
    image = Image(PillowImage.fromarray(pixels) if as_picture else pixels, *size)
    return lay_out(image, frame)[::-1].transpose(1, 2, 0)


def with_marker(width: int, height: int, x: int, y: int, radius: int) -> np.ndarray:
    """A black picture with a red square whose centre is (x, y)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y - radius : y + radius, x - radius : x + radius] = MARKER
    return pixels


def centre_of_marker(canvas: np.ndarray) -> tuple[float, float]:
    """In canvas pixels; a pixel's middle is half a pixel from its corner."""
    weight = canvas[..., 0].astype(float) - canvas[..., 1]
    y, x = np.mgrid[0 : canvas.shape[0], 0 : canvas.shape[1]] + 0.5
    return float((x * weight).sum() / weight.sum()), float((y * weight).sum() / weight.sum())


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 3),
    st.integers(60, 500),
    st.integers(60, 500),
    st.floats(0.15, 3.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
    st.sampled_from([1.0, 0.5, 0.25]),
    st.tuples(*[st.floats(-0.4, 0.3)] * 2),
    st.tuples(*[st.floats(0.7, 1.4)] * 2),
)
def test_a_marker_is_found_where_it_was_drawn(
    turns: int,
    width: int,
    height: int,
    scale: float,
    across: float,
    down: float,
    held: float,
    start: tuple[float, float],
    size: tuple[float, float],
) -> None:
    radius = max(round(3 / scale), 4)
    x, y = (round(radius + at * (length - 2 * radius)) for at, length in ((across, width), (down, height)))
    region = Box(start[0] * width, start[1] * height, size[0] * width, size[1] * height)
    beyond = (
        x - radius < region.x or x + radius > region.x + region.width,
        y - radius < region.y or y + radius > region.y + region.height,
    )
    if any(beyond):
        region = Box(start[0] * width, start[1] * height, 1.5 * width, 1.5 * height)
        region = Box(min(region.x, 0.0), min(region.y, 0.0), region.width, region.height)
    full = with_marker(width, height, x, y, radius)
    # A picture held at half the size, as the decoder gives it.
    step = round(1 / held)
    pixels = full[: height // step * step, : width // step * step].reshape(height // step, step, width // step, step, 3)
    pixels = pixels.mean(axis=(1, 3)).round().astype(np.uint8)
    frame = Frame(region, scale, turns)
    canvas = draw(pixels, held, frame)
    assert canvas.shape[0] % 32 == 0
    assert canvas.shape[1] % 32 == 0
    seen = np.array([[centre_of_marker(canvas)]], np.float32)
    found_x, found_y = frame.carry_points(seen)[0, 0]
    # One canvas pixel, and what a marker that reaches over the held picture's cut edge loses.
    slack = 1.0 / scale + (step if step > 1 else 0)
    assert abs(found_x - x) <= slack
    assert abs(found_y - y) <= slack


@pytest.mark.parametrize("turns", range(4))
def test_a_turned_canvas_is_the_turned_picture(turns: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    canvas = draw(pixels, 1.0, Frame(Box(0, 0, 96, 64), 1.0, turns))
    assert np.array_equal(canvas, np.rot90(pixels, turns))


@given(st.integers(0, 3), st.floats(0.05, 4), st.floats(-50, 50), st.floats(-50, 50))
def test_boxes_come_back_with_their_points_inside(turns: int, scale: float, x: float, y: float) -> None:
    region = Box(x, y, 320.0, 160.0)
    boxes = np.array([[10, 20, 30, 60]], np.float32) * np.float32(scale)
    points = (boxes.reshape(1, 2, 2).mean(axis=1, keepdims=True) + np.zeros((1, 5, 1))).astype(np.float32)
    back = Frame(region, scale, turns).carry_back(Candidates(boxes, np.ones(1, np.float32), points))
    x0, y0, x1, y1 = back.boxes[0]
    width, height = (40, 20) if turns % 2 else (20, 40)
    assert x1 - x0 == pytest.approx(width, abs=1e-2)
    assert y1 - y0 == pytest.approx(height, abs=1e-2)
    assert back.points[0].mean(axis=0) == pytest.approx([(x0 + x1) / 2, (y0 + y1) / 2], abs=1e-2)


def test_nothing_comes_back_as_nothing() -> None:
    assert len(Frame(Box(0, 0, 10, 10), 1.0, 2).carry_back(NOTHING)) == 0


def test_beyond_the_picture_the_canvas_is_grey() -> None:
    pixels = np.full((40, 60, 3), 200, np.uint8)
    canvas = draw(pixels, 1.0, Frame(Box(-20, -10, 100, 70), 1.0))
    assert canvas.shape == (96, 128, 3)
    assert (canvas[10:50, 20:80] == 200).all()
    canvas = canvas.copy()
    canvas[10:50, 20:80] = GREY
    assert (canvas == GREY).all()


def test_a_region_beside_the_picture_is_all_grey() -> None:
    pixels = np.full((40, 60, 3), 200, np.uint8)
    for region in (Box(100, 0, 50, 50), Box(0, -90, 50, 50), Box(-51, -51, 50, 50)):
        assert (draw(pixels, 1.0, Frame(region, 1.0)) == GREY).all()


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("size", [(1, 1), (8, 5000), (5000, 8), (33, 31)])
def test_the_thinnest_pictures_have_a_canvas(turns: int, size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.full((height, width, 3), 10, np.uint8)
    canvas = draw(pixels, 1.0, Frame(Box(0, 0, width, height), 256 / max(size), turns))
    assert all(side % 32 == 0 and 32 <= side <= 256 for side in canvas.shape[:2])
    assert canvas.dtype == np.uint8


@pytest.mark.parametrize("turns", range(4))
def test_a_picture_and_its_array_are_drawn_alike(turns: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    for region in (Box(0, 0, 70, 90), Box(-13.3, 8.2, 60.5, 60.5), Box(20, 20, 31, 30)):
        for scale in (0.4, 1.0, 2.3):
            frame = Frame(region, scale, turns)
            one, other = (draw(pixels, 1.0, frame, as_picture=kind) for kind in (True, False))
            assert np.array_equal(one, other)


@pytest.mark.parametrize("turns", range(4))
def test_a_square_canvas_may_be_turned_instead_of_drawn_anew(turns: int) -> None:
    image = Image(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8), 400, 300)
    region = Box(310.4, -20.7, 133.0, 133.0)
    upright, turned = (lay_out(image, Frame(region, 160 / 133.0, by)) for by in (0, turns))
    assert np.array_equal(turn(upright, turns), turned)


# A picture made smaller ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 6), st.integers(100, 400), st.integers(100, 400))
def test_averages_of_whole_pixels_keep_their_places(divisor: int, width: int, height: int) -> None:
    """A point near the far corner comes back to where it was, also where the size is no multiple of the divisor."""
    pixels = np.zeros((height, width, 3), np.uint8)
    x, y = (width // divisor - 2) * divisor, (height // divisor - 2) * divisor
    pixels[y : y + divisor, x : x + divisor] = MARKER
    view = shrink(Image(PillowImage.fromarray(pixels), width, height), 1 / divisor)
    assert view.scale == pytest.approx(1 / divisor, rel=1e-9)
    assert view.size == (-(-width // divisor), -(-height // divisor))
    frame = Frame(Box(0.0, 0.0, view.width, view.height), view.scale)
    seen = np.array([[centre_of_marker(lay_out(view, frame)[::-1].transpose(1, 2, 0))]], np.float32)
    assert frame.carry_points(seen)[0, 0] == pytest.approx([x + divisor / 2, y + divisor / 2], abs=0.01)


@pytest.mark.parametrize(("scale", "size"), [(0.4, (500, 361)), (1.28, (1599, 1156)), (1.0, (1249, 903))])
def test_other_scales_are_resized_to(scale: float, size: tuple[int, int]) -> None:
    view = shrink(Image(np.full((903, 1249, 3), 77, np.uint8), 1249, 903), scale)
    assert view.size == size
    assert (view.width, view.height) == (1249, 903)
    assert (view.pixels == 77).all()


# Pillow's memory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (33, 7), (2300, 2000)], ids=["a pixel", "small", "in several blocks"])
def test_words_are_the_pixels(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    words = read_words(PillowImage.fromarray(pixels))
    assert words.shape == pixels.shape[:2]
    for shift, channel in zip((0, 8, 16), range(3), strict=True):
        assert np.array_equal((words >> shift) & 255, pixels[..., channel])


def test_words_are_no_copy_and_outlive_their_picture() -> None:
    picture = PillowImage.new("RGB", (64, 64), (1, 2, 3))
    words = read_words(picture)
    picture.paste((9, 8, 7), (0, 0, 32, 64))
    assert words[0, 0] & 0xFFFFFF == 0x070809
    del picture
    rubbish = [PillowImage.new("RGB", (64, 64), (255, 255, 255)) for _ in range(50)]
    assert (words[:, 32:] & 0xFFFFFF == 0x030201).all()
    assert len(rubbish) == 50
    with pytest.raises(ValueError, match="read-only"):
        words[0, 0] = 0
