"""Spoiled pictures: damages do what they say, and nano is not led astray by grain."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import DAMAGES, blur, covered, faded, grain, grey, jpeg, night, old_print, small
from PIL import Image

from agelens import Analyzer
from agelens.decode import decode
from faces import sample

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
SIDE = 120


def level(value: int) -> Pixels:
    return np.full((SIDE, SIDE, 3), value, np.uint8)


def picture() -> Pixels:
    rough = np.random.default_rng(1).integers(0, 256, (12, 12, 3), np.uint8)
    return np.asarray(Image.fromarray(rough).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_gives_a_picture_and_leaves_the_given_one_alone(name: str) -> None:
    given = picture()
    before = given.copy()
    spoiled, again = (DAMAGES[name](given, rng()) for _ in range(2))
    assert np.array_equal(given, before)
    assert spoiled.dtype == np.uint8
    assert spoiled.ndim == 3
    assert np.array_equal(spoiled, again)
    assert np.array_equal(spoiled, given) == (name == "as it is")


def test_grain_is_half_of_brightness_and_half_of_colours() -> None:
    noise = grain(16)(level(128), rng()).astype(float) - 128
    assert noise.std() == pytest.approx(16, rel=0.03)
    assert np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1] == pytest.approx(0.5, abs=0.05)


def test_night_is_dark_and_grainy() -> None:
    dark = night(0.35, 5)(level(200), rng()).astype(float)
    assert dark.mean() == pytest.approx(70, abs=0.5)
    assert dark.std() == pytest.approx(5, rel=0.05)


def test_blur_goes_with_the_width() -> None:
    # The same face at twice the size is as blurred, seen at the same size.
    once = Image.fromarray(picture())
    twice = np.asarray(once.resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC))
    small_one, large_one = blur(4)(picture(), rng()), blur(4)(twice, rng())
    reduced = np.asarray(Image.fromarray(large_one).resize((SIDE, SIDE), Image.Resampling.BOX))
    assert np.abs(reduced.astype(float) - small_one).mean() < 1.5


def test_the_others_do_what_they_say() -> None:
    assert small(40)(picture(), rng()).shape == (40, 40, 3)
    assert len(jpeg(10)(picture(), rng())) == SIDE
    colourless = grey(picture(), rng())
    assert (np.ptp(colourless, axis=2) == 0).all()
    assert faded(level(0), rng()).max() == 60
    assert faded(level(255), rng()).min() == 213
    print_ = old_print(level(180), rng()).reshape(-1, 3).mean(axis=0)
    assert print_[0] > print_[1] > print_[2]
    half_hidden = covered(picture(), rng())
    assert np.array_equal(half_hidden[: round(0.64 * SIDE)], picture()[: round(0.64 * SIDE)])
    assert np.ptp(half_hidden[round(0.64 * SIDE) :]) == 0


@pytest.fixture(scope="module")
def labelled_faces() -> tuple[list[Pixels], np.ndarray[Any, Any]]:
    """150 faces of UTKFace's test part, and the labelled ages."""
    chosen = sample("utkface-test", 150)
    ages = np.array([float(Path(name).name.split("_")[0]) for name, _ in chosen])
    return [decode(data).pixels for _, data in chosen], ages


def find_error(model: str, shown: Iterable[Pixels], ages: np.ndarray[Any, Any]) -> float:
    analyzer = Analyzer(model, threads=1)
    judged = [face.age.years for face in analyzer.predict_crops(shown) if face.age is not None]
    return float(np.abs(np.array(judged) - ages).mean())


@pytest.mark.data
@pytest.mark.parametrize(
    ("model", "damage", "years"),
    [
        ("agelens-base", "100 pixels, grain of 24 levels", 1.0),
        ("agelens-base", "100 pixels, old print: soft, faded, sepia, grain of 8 levels", 2.0),
        ("agelens-nano", "100 pixels, grain of 24 levels", 1.0),
    ],
)
def test_what_ships_is_not_led_astray_by_grain(
    labelled_faces: tuple[list[Pixels], np.ndarray[Any, Any]], model: str, damage: str, years: float
) -> None:
    # A network that has not learned what grain is takes it for wrinkles.
    faces, ages = labelled_faces
    spoiled = [DAMAGES[damage](face, np.random.default_rng(place)) for place, face in enumerate(faces)]
    assert find_error(model, spoiled, ages) - find_error(model, faces, ages) < years
