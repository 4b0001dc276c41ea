"""The recipe of the model files: softened labels, joined sets, the habit of ages taken back, the list of files."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agelens.align import CropGeometry
from agelens.errors import TrainingError
from agelens.training.calibrate import softmax
from agelens.training.crops import CropSet
from agelens.training.labels import balance, blur_exact, join_crops
from agelens.training.networks import FaceNetwork, NetworkConfig, normalise
from agelens.training.recipe.courses import Kind
from agelens.training.recipe.make import ASIDE, MODELS, main, ship
from agelens.training.recipe.patterns import LONGER, SMALL
from agelens.training.recipe.prior import Expected, expect, median_logits
from agelens.training.recipe.recipes import RECIPES
from agelens.training.recipe.school import RECOGNITION, YEARS
from agelens.training.recipe.shorten import regress, shorten
from agelens.training.recipe.sights import EMBEDDING, FREE, GENDERS, SIGHTS, VGGFACE2, parts_of
from agelens.training.recipe.starts import RECOGNITION_CONFIG

FAIRFACE_RACES = {
    "White",
    "Black",
    "Indian",
    "East Asian",
    "Southeast Asian",
    "Middle Eastern",
    "Latino_Hispanic",
}
TINY = NetworkConfig(size=32, widths=(8, 16), blocks=(1, 1), last_inner=16)


def faces(low: list[float], high: list[float], female: list[float], dataset: str = "made") -> CropSet:
    count = len(low)
    return CropSet(
        pixels=np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3),
        geometry=CropGeometry(1),
        age_low=np.array(low, np.float32),
        age_high=np.array(high, np.float32),
        female=np.array(female, np.float32),
        race=np.array([""] * count),
        split=np.array(["train"] * count),
        group=np.arange(count) % 2 - 1,
        path=np.array([f"{index}.jpg" for index in range(count)]),
        dataset=np.array([dataset] * count),
        row=np.arange(count),
        fingerprint=dataset,
        lost={"no_face": 1},
    )


@given(st.lists(st.integers(0, 100), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_an_exact_age_becomes_a_distribution_around_it(ages: list[int]) -> None:
    exact = [float(age) for age in ages]
    crops = faces(exact, exact, [1.0] * len(ages))
    blurred, target = blur_exact(crops, np.zeros((len(ages), 101), np.float32))
    assert target.sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert target.argmax(axis=1).tolist() == ages
    assert (blurred.age_low <= crops.age_low).all()
    assert blurred.age_high - crops.age_high == pytest.approx([1 + 0.04 * age for age in exact], abs=1e-4)


def test_bands_and_unknown_ages_stay_as_they_are() -> None:
    crops = faces([20, float("nan")], [29, float("nan")], [1, 0])
    target = np.full((2, 101), 1 / 101, np.float32)
    blurred, kept = blur_exact(crops, target)
    np.testing.assert_array_equal(blurred.age_low, crops.age_low)
    np.testing.assert_array_equal(blurred.age_high, crops.age_high)
    np.testing.assert_array_equal(kept, target)


def test_rare_kinds_are_drawn_more_often() -> None:
    crops = faces([20.0] * 16 + [70.0], [29.0] * 16 + [120.0], [1.0] * 17)
    weights = balance(crops, np.arange(17), 0.25)
    assert weights[16] / weights[0] == pytest.approx(2)
    assert weights.mean() == pytest.approx(1)


def test_exact_ages_are_balanced_by_decade() -> None:
    ages = [20.0, 21.0, 29.0, 20.0, 71.0]
    weights = balance(faces(ages, ages, [1.0] * 5), np.arange(5), 0.5)
    assert weights[:4] == pytest.approx(weights[0])
    assert weights[4] / weights[0] == pytest.approx(2)


def test_joined_sets_keep_their_faces_apart() -> None:
    first, second = faces([1, 2, 3], [1, 2, 3], [1, 0, 1], "one"), faces([4, 5], [4, 5], [0, 0], "two")
    joined = join_crops([first, second])
    assert joined.age_low.tolist() == [1, 2, 3, 4, 5]
    assert joined.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1]
    assert joined.dataset.tolist() == ["one"] * 3 + ["two"] * 2
    assert joined.lost == {"no_face": 2}
    grouped = joined.group >= 0
    assert not set(joined.group[:3][grouped[:3]]) & set(joined.group[3:][grouped[3:]])
    assert joined.fingerprint == hashlib.sha256(b"onetwo").hexdigest()


def test_expected_old_and_young_people_are_so_many_times_as_likely() -> None:
    torch.manual_seed(0)
    network = FaceNetwork(TINY).eval()
    with torch.no_grad():
        network.age.weight.zero_()
        network.age.bias.copy_(-((torch.arange(101.0) - 30) ** 2) / 800)

    def ages() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        with torch.no_grad():
            return softmax(network(normalise(torch.rand(1, 3, 32, 32) * 255))[0].double().numpy())[0]

    before = ages()
    expect(network, Expected())
    np.testing.assert_allclose(ages(), before, rtol=1e-5)
    expect(network, Expected(elders=6.0, youth=1.5))
    times = (ages() / before) / (ages()[40] / before[40])
    np.testing.assert_allclose(times[28:60], 1.0, rtol=0.04)
    np.testing.assert_allclose(times[76:], 6.0, rtol=0.04)
    np.testing.assert_allclose(times[:12], 1.5, rtol=0.02)
    before = ages()
    expect(network, Expected(grown=2.0))
    times = (ages() / before) / (ages()[0] / before[0])
    np.testing.assert_allclose(times[:26], 1.0, rtol=0.02)
    np.testing.assert_allclose(times[41:], 2.0, rtol=0.02)


def test_women_are_expected_to_be_over_33_so_many_times_as_often_as_men() -> None:
    torch.manual_seed(0)
    network = FaceNetwork(TINY).eval()
    with torch.no_grad():
        network.gender.weight.mul_(100.0)
    crops = normalise(torch.rand(16, 3, 32, 32) * 255)

    def ask() -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], ...]:
        with torch.no_grad():
            ages, genders = network(crops)[:2]
        return softmax(ages.double().numpy()), genders.double().numpy()

    before, genders = ask()
    assert np.ptp(genders) > 1.0
    expect(network, Expected(women=1.65), (-3.0, 1.0))
    after, same = ask()
    np.testing.assert_array_equal(same, genders)
    times = (after / before) / (after[:, 10] / before[:, 10])[:, None]
    np.testing.assert_allclose(times[:, :22], 1.0, rtol=0.01)
    np.testing.assert_allclose(times[:, 45:].mean(axis=1), 1.65 ** ((genders + 1) / 4.0), rtol=0.01)


def test_the_middle_man_and_the_middle_woman_tell_how_far_genders_lie_apart() -> None:
    logits = np.array([3.0, 4.0, 50.0, -2.0, -1.0, -60.0, 9.0], np.float32)
    female = np.array([1, 1, 1, 0, 0, 0, np.nan])
    assert median_logits(logits, female) == (-2.0, 4.0)
    for unfit in (1 - female, np.full(7, 1.0), np.full(7, np.nan)):
        with pytest.raises(TrainingError, match="let it learn longer"):
            median_logits(logits, unfit)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("effort", [0.001, 0.05, 1.0])
def test_with_less_effort_a_recipe_is_the_same_but_shorter(name: str, effort: float) -> None:
    recipe = RECIPES[name]
    eased = recipe.ease(effort)
    for short, course in zip(eased.courses, recipe.courses, strict=True):
        assert short.train.steps == math.ceil(course.train.steps * effort) >= 1
        assert short.train.warmup <= max(short.train.steps, 1)
        assert [each.views for each in short.kinds] == [math.ceil(each.views * effort) for each in course.kinds]
        same = replace(short.train, steps=course.train.steps, warmup=course.train.warmup)
        assert replace(short, kinds=course.kinds, train=same) == course
    assert replace(eased, courses=recipe.courses) == recipe


@pytest.mark.parametrize("effort", ["0", "1.01", "-1", "much", "nan"])
def test_an_effort_is_a_share(effort: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["recipe", "--data", ".", "--work", ".", "--downloads", ".", "--effort", effort])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"{effort!r} is no share" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "wanted"),
    [([], MODELS), (["research"], ASIDE), (["--effort", "0.05"], "work/tried"), (["--models", "mine"], "mine")],
)
def test_a_model_of_little_effort_takes_nobodys_place(
    options: list[str], wanted: str | Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, Path]] = []
    monkeypatch.setattr(
        "agelens.training.recipe.make.make_model",
        lambda recipe, places: made.append((recipe.own.train.steps, places.models)),
    )
    monkeypatch.setattr("sys.argv", ["recipe", *options, "--data", "data", "--work", "work", "--downloads", "got"])
    main()
    own = RECIPES["research" if "research" in options else "base"].own
    assert made == [(own.train.steps if "--effort" not in options else own.ease(0.05).train.steps, Path(wanted))]


def test_a_model_is_listed_with_its_digest(tmp_path: Path) -> None:
    ship(RECIPES["base"], b"first", tmp_path)
    ship(RECIPES["nano"], b"small", tmp_path)
    ship(RECIPES["base"], b"second", tmp_path)
    entries = json.loads((tmp_path / "models.json").read_text())
    assert [entry["name"] for entry in entries] == ["agelens-base", "agelens-nano"]
    assert entries[0]["sha256"] == hashlib.sha256(b"second").hexdigest()
    assert (tmp_path / "agelens-base.onnx").read_bytes() == b"second"


def test_only_weights_free_for_commercial_use_ship() -> None:
    for recipe in RECIPES.values():
        research = any("research" in source.about["licence"] for source in recipe.sources)
        assert recipe.ships != research
        assert ("research" in recipe.licence) == research


def test_every_course_hears_and_begins_with_those_before_it() -> None:
    for recipe in RECIPES.values():
        sights = FREE if recipe.ships else SIGHTS
        known = {YEARS, RECOGNITION, *sights}
        sets = {source.kind for source in recipe.sources}
        for course in recipe.courses:
            assert course.begins in known - {YEARS, *sights}
            assert course.sights <= sights
            for kind in course.kinds:
                assert {name for name in kind.teachers if not parts_of(name)} <= known - {RECOGNITION}
                assert set(kind.races) <= FAIRFACE_RACES
                assert set(kind.datasets) <= sets
            known.add(course.name)


def test_what_ships_neither_heard_nor_was_told_what_research_only_pictures_taught() -> None:
    assert all(recipe.is_free or not recipe.ships for recipe in RECIPES.values())
    research = RECIPES["research"]
    taught = next(course for course in reversed(research.courses) if course.hints)
    deaf = replace(taught, kinds=(Kind(("fairface",), 10, {}),), hints=VGGFACE2, hidden="")
    told = replace(research, courses=(deaf,))
    heard = replace(research, courses=(replace(taught, hints=EMBEDDING),))
    for recipe in (told, heard):
        assert not recipe.is_free
        assert any("VGGFace2" in each["name"] for each in recipe.data)
    assert replace(research, courses=(replace(deaf, hints=EMBEDDING),)).is_free


def test_a_file_says_whom_its_network_heard() -> None:
    for recipe in RECIPES.values():
        told = [each["name"] for each in recipe.data]
        assert any("VGGFace2" in name for name in told) == (not recipe.ships)
        heard = any(GENDERS in course.sights for course in recipe.courses)
        assert ("dlib gender network: teacher" in told) == heard == (recipe.name == "agelens-nano")
        assert len(set(told)) == len(told)


def test_every_network_is_the_beginning_of_the_recognition_network() -> None:
    for course in (course for recipe in RECIPES.values() for course in recipe.courses):
        network = course.train.network
        stages = len(network.widths)
        assert network.widths == RECOGNITION_CONFIG.widths[:stages]
        blocks = SMALL.blocks if replace(network, dropout=LONGER.dropout) == LONGER else network.blocks
        assert blocks[:-1] == RECOGNITION_CONFIG.blocks[: stages - 1]
        assert network.blocks[-1] <= RECOGNITION_CONFIG.blocks[stages - 1]


def test_courses_of_one_name_are_the_same() -> None:
    courses = {course.name: course for recipe in RECIPES.values() for course in recipe.courses}
    assert all(courses[course.name] == course for recipe in RECIPES.values() for course in recipe.courses)


def test_weights_that_ship_heard_only_what_learned_from_data_for_commercial_use() -> None:
    for recipe in RECIPES.values():
        free = {source.kind for source in recipe.sources if "research" not in source.about["licence"]}
        learned = {name for course in recipe.courses for kind in course.kinds for name in kind.datasets}
        assert not recipe.ships or learned <= free


def test_a_feature_that_hardly_moves_is_hardly_believed() -> None:
    rng = np.random.default_rng(1)
    features, matrix = rng.normal(size=(400, 6)), rng.normal(size=(6, 3))
    features[:, 5] *= 1e-5  # a rectified feature that is all but dead on the faces that are fitted to
    matrix[5] = 0
    weights, offsets = regress(features, features @ matrix + rng.normal(size=(400, 3)) + 7)
    assert abs(weights[5]).max() < 0.01
    np.testing.assert_allclose(weights[:5], matrix[:5], atol=0.2)
    np.testing.assert_allclose(offsets, 7, atol=0.2)


def test_a_shortened_network_says_what_its_teacher_said() -> None:
    torch.manual_seed(3)
    teacher = FaceNetwork(replace(TINY, widths=(8, 16, 24), blocks=(1, 1, 1), last_inner=24)).eval()
    crops = np.random.default_rng(0).integers(0, 256, (96, 32, 32, 3), np.uint8)
    crops //= np.arange(1, 97, dtype=np.uint8)[:, None, None, None] // 12 + 1
    brightness = crops.mean(axis=(1, 2, 3)) / 255
    female = (1 / (1 + np.exp(-12 * (brightness - 0.2)))).astype(np.float32)
    years = np.exp(-((np.arange(101)[None] - 100 * brightness[:, None]) ** 2) / 800).astype(np.float32)
    years /= years.sum(axis=1, keepdims=True)
    levels = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    said = torch.from_numpy(years).clamp(min=1e-12).log(), torch.logit(torch.from_numpy(female))
    short = shorten(teacher, TINY, levels, said)
    for name, value in short.state_dict().items():
        if not name.startswith(("age.", "gender.")) and "running" not in name and "tracked" not in name:
            torch.testing.assert_close(value, teacher.state_dict()[name])
    with torch.no_grad():
        age, gender = short.predict(levels)
    answered = softmax(age.double().numpy()) @ np.arange(101)
    assert np.corrcoef(answered, years @ np.arange(101))[0, 1] > 0.9
    assert ((gender.numpy() > 0) == (female > 0.5)).mean() > 0.9
