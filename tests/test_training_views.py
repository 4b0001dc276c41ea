"""Views: they follow from their number, show what they say, and match what the other way of changing faces does."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from agelens.training.augment import COARSE, DRAWS, STILL, AugmentConfig, change_light, draw_crop
from agelens.training.batches import still_crops
from agelens.training.crops import CropSet
from agelens.training.recipe.jpeg import pass_through_jpeg
from agelens.training.recipe.views import Showing, Views, change, draw_views
from training_makers import faces_of_two_sets

SIZE = 32


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def some_views(crops: CropSet, count: int = 200) -> Views:
    rows = np.flatnonzero(crops.split == "train")
    return draw_views(crops, [(rows, count)], 0.25, seed=3)[0]


def pixels_of(crops: CropSet) -> Tensor:
    return torch.from_numpy(np.array(crops.pixels))


def test_a_view_shows_training_faces_of_one_data_set() -> None:
    crops = faces_of_two_sets()
    views = some_views(crops, 2000)
    assert (crops.split[views.first] == "train").all()
    assert (crops.split[views.second] == "train").all()
    assert (crops.dataset[views.first] == crops.dataset[views.second]).all()
    assert (views.first[~views.mixed] == views.second[~views.mixed]).all()
    assert views.mixed.mean() == pytest.approx(0.6, abs=0.05)
    assert views.share.min() >= 0.5
    assert (views.share[~views.mixed] == 1).all()


@pytest.mark.parametrize("mixed", [0.0, 0.3, 1.0])
def test_as_many_views_show_two_faces_as_is_said(mixed: float) -> None:
    crops = faces_of_two_sets()
    views = draw_views(crops, [(np.flatnonzero(crops.split == "train"), 2000)], 0.25, 3, mixed)[0]
    assert views.mixed.mean() == pytest.approx(mixed, abs=0.03)


def test_faces_of_a_race_come_as_often_as_is_said() -> None:
    crops = faces_of_two_sets()
    race = np.where(np.arange(len(crops)) % 3 == 0, "one", "other")
    crops, rows = replace(crops, race=race), np.flatnonzero(crops.split == "train")
    shares = []
    for races in ({}, {"one": 2.0}, {"nobody": 9.0}):
        views = draw_views(crops, [(rows, 6000)], 0.0, 3, races=[races])[0]
        shares.append([(race[faces] == "one").mean() for faces in (views.first, views.second)])
    known = (race[rows] == "one").mean()
    assert shares[0] == pytest.approx([known] * 2, abs=0.03)
    assert shares[1] == pytest.approx([2 * known / (1 + known)] * 2, abs=0.03)
    assert shares[2] == shares[0]


def test_kinds_of_views_come_one_after_the_other() -> None:
    crops = faces_of_two_sets()
    kinds = [(np.flatnonzero(crops.dataset == name), count) for name, count in (("odd", 30), ("even", 50))]
    views, (odd, even) = draw_views(crops, kinds, 0.25, seed=3)
    assert (odd.tolist(), even.tolist()) == (list(range(30)), list(range(30, 80)))
    assert set(crops.dataset[views.first[odd]]) == {"odd"}
    assert set(crops.dataset[views.first[even]]) == {"even"}


def test_a_view_follows_from_its_number_alone() -> None:
    crops = faces_of_two_sets()
    views = some_views(crops, 600)
    numbers = np.array([599, 3, 256, 255, 3])
    still_noise = AugmentConfig(noise=0)
    at_once = Showing(pixels_of(crops), views, 1.0, SIZE, still_noise)(numbers)
    alone = Showing(pixels_of(crops), views, 1.0, SIZE, still_noise)
    for place, number in reversed(list(enumerate(numbers))):
        torch.testing.assert_close(alone(np.array([number]))[0], at_once[place], atol=0.05, rtol=0)
    assert torch.equal(at_once[1], at_once[4])
    assert not torch.equal(at_once[0], at_once[2])


def test_the_same_views_with_noise_come_again() -> None:
    crops = faces_of_two_sets()
    shows = [Showing(pixels_of(crops), some_views(crops), 1.0, SIZE, AugmentConfig()) for _ in range(2)]
    numbers = np.arange(50, 90)
    assert torch.equal(shows[0](numbers), shows[1](numbers))


def test_an_unchanged_view_is_what_prediction_sees_and_a_mixed_one_lies_between() -> None:
    crops = faces_of_two_sets()
    views = some_views(crops)
    side = crops.pixels.shape[1]
    shown = Showing(pixels_of(crops), views, 1.0, side, STILL)(np.arange(len(views))).permute(0, 2, 3, 1).numpy()
    first, second = (still_crops(crops, rows, 1.0, side).astype(np.float32) for rows in (views.first, views.second))
    share = views.share[:, None, None, None]
    assert np.abs(shown - (share * first + (1 - share) * second)).max() < 0.05


CHANGES = {
    "moved": replace(STILL, rotate=10, zoom=0.08, shift=0.04, flip=0.5),
    "lit": replace(STILL, light=0.25, grey=0.3),
    "covered": replace(STILL, erase=0.5),
    "coarse": replace(STILL, shrink=0.5),
    "packed": replace(STILL, jpeg=1),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(("size", "widening"), [(96, 1.35), (64, 1.35), (128, 1.1)])
def test_changes_are_those_of_the_other_way(name: str, size: int, widening: float) -> None:
    # Of smooth pictures: both ways resample with other filters.
    rng = np.random.default_rng(1)
    rough = rng.integers(0, 256, (6, 10, 10, 3), np.uint8)
    wide = np.stack([np.asarray(Image.fromarray(each).resize((160, 160), Image.Resampling.BICUBIC)) for each in rough])
    draws = rng.random((6, DRAWS)).astype(np.float32)
    config = CHANGES[name]
    ours = change(torch.from_numpy(wide), draws, widening, size, config).permute(0, 2, 3, 1).numpy()
    exact = draws.astype(np.float64)
    cut = np.stack([draw_crop(face, widening, size, config, row) for face, row in zip(wide, exact, strict=True)])
    theirs = change_light(cut, config, exact, np.empty(cut.shape, np.float32))
    assert np.abs(ours - theirs).mean() < 2.5
    unchanged = still(wide, widening, size)
    assert np.abs(ours - theirs).mean() < 0.6 * np.abs(theirs - unchanged).mean() or name in ("coarse", "packed")


def still(wide: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], widening: float, size: int) -> np.ndarray:
    middle = np.full(DRAWS, 0.5)
    return np.stack([draw_crop(face, widening, size, STILL, middle) for face in wide]).astype(np.float32)


def test_noise_is_as_strong_as_said() -> None:
    grey = torch.full((4, SIZE, SIZE, 3), 128, dtype=torch.uint8)
    draws = np.full((4, DRAWS), 0.5, np.float32)
    draws[:, 18] = [0, 0.5, 0.8, 1]
    noisy = change(grey, draws, 1.0, SIZE, replace(STILL, noise=8))
    assert noisy.std(dim=(1, 2, 3)).tolist() == pytest.approx([0, 2, 5.12, 8], rel=0.05, abs=0.01)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("colour", [0.0, 0.6, 1.0])
def test_grain_is_as_strong_as_coarse_and_as_coloured_as_drawn(coarse: bool, colour: float) -> None:
    grey = np.full((4, 63, 64, 3), 128, np.uint8)
    draws = np.full((4, DRAWS), 0.5)
    draws[:, 26] = [0, 0.5, 0.8, 1]
    draws[:, 27] = COARSE - 0.01 if coarse else COARSE
    draws[:, 28] = colour
    config = replace(STILL, grain=16)
    both = {
        "one by one": change_light(grey, config, draws, np.empty(grey.shape, np.float32)),
        "all at once": change(torch.from_numpy(grey), draws.astype(np.float32), 1.0, 64, config)
        .permute(0, 2, 3, 1)[:, :63]
        .numpy(),
    }
    for way, grainy in both.items():
        assert grainy.std(axis=(1, 2, 3)) == pytest.approx([0, 2, 8.19, 16], rel=0.05, abs=0.01), way
        red, green, _ = (grainy[3] - 128).reshape(-1, 3).T
        assert np.corrcoef(red, green)[0, 1] == pytest.approx(1 - colour**2, abs=0.06), way
        beside = np.corrcoef(grainy[3, :, 0:-1:2, 0].ravel(), grainy[3, :, 1::2, 0].ravel())[0, 1]
        assert beside == pytest.approx(1.0 if coarse else 0.0, abs=0.06), way


@pytest.mark.parametrize("quality", [30, 50, 78])
@pytest.mark.parametrize("side", [32, 72])
def test_jpeg_is_jpeg(quality: int, side: int) -> None:
    rng = np.random.default_rng(quality)
    rough = rng.integers(0, 256, (side // 4, side // 4, 3), np.uint8)
    picture = np.asarray(Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC))
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    theirs = np.asarray(Image.open(buffer)).astype(np.float32)
    levels = torch.from_numpy(picture.copy()).permute(2, 0, 1).float()[None]
    ours = pass_through_jpeg(levels, torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).mean() < 0.35 * np.abs(theirs - picture).mean()
