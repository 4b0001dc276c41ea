"""The picture as a value: what it holds, what it makes when asked, and what it keeps."""

from __future__ import annotations

import io
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from PIL import Image as PillowImage

from agelens.decode import decode, from_array, from_pil
from agelens.types import Image
from pictures import face_like


def as_jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(params=["decoded", "Pillow", "array"])
def image(request: pytest.FixtureRequest) -> Image:
    if request.param == "decoded":
        return decode(as_jpeg(face_like()))
    return from_array(face_like()) if request.param == "array" else from_pil(PillowImage.fromarray(face_like()))


def test_array_picture_and_parts_are_the_same_pixels(image: Image) -> None:
    pixels = image.pixels
    height, width = pixels.shape[:2]
    assert (image.width, image.height) == image.size == (width, height)
    assert (pixels.dtype, pixels.shape[2], image.scale) == (np.uint8, 3, 1.0)
    assert image.pixels is pixels
    assert np.array_equal(np.asarray(image.picture), pixels)
    assert np.array_equal(np.asarray(image.cut(3, 5, width - 7, height)), pixels[5:, 3 : width - 7])
    assert np.array_equal(np.asarray(image.cut(0, 0, width, height)), pixels)
    assert image.picture.mode == "RGB"


def test_nobody_writes_into_it(image: Image) -> None:
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0] = 0
    with pytest.raises(FrozenInstanceError):
        image.width = 3


def test_it_travels_to_another_process(image: Image) -> None:
    wanted = image.pixels.copy()
    back = pickle.loads(pickle.dumps(image))
    assert np.array_equal(back.pixels, wanted)
    assert (back.width, back.height, back.format, back.frames) == (
        image.width,
        image.height,
        image.format,
        image.frames,
    )


def test_its_array_is_made_only_when_it_is_asked_for() -> None:
    image = decode(as_jpeg(face_like()))
    assert image._pixels is None
    assert image.cut(0, 0, 8, 8).size == (8, 8)
    assert image._pixels is None
    assert image.pixels is image.pixels


def test_the_callers_picture_may_change_afterwards() -> None:
    mine = PillowImage.fromarray(face_like())
    image = from_pil(mine)
    mine.paste((0, 0, 0), (0, 0, *mine.size))
    assert np.array_equal(image.pixels, face_like())


def test_a_reduced_picture_travels_with_what_makes_it_finer() -> None:
    large = np.asarray(PillowImage.fromarray(face_like()).resize((2600, 1300)))
    image = decode(as_jpeg(large), detail=600)
    assert image.scale == pytest.approx(0.25)
    back = pickle.loads(pickle.dumps(image))
    finer = back.at_scale(0.5)
    assert finer.size == (1300, 650)
    assert back.at_scale(0.4) is finer
    assert back.at_scale(0.2) is back
    assert back.at_scale(0.9).size == (2600, 1300)
