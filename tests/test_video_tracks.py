"""Tracks, their assignment, cuts, and the fusion of many looks."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agelens.estimate import EstimateOptions
from agelens.types import Age, Box, Face, Gender, ModelId
from agelens.video.analysis import Pace, pass_between
from agelens.video.assignment import FORBIDDEN, assign
from agelens.video.cuts import CutDetector
from agelens.video.frames import Frame
from agelens.video.fusion import Fusion, settle_group
from agelens.video.matching import find_muddled, overlap
from agelens.video.motion import Motion
from agelens.video.people import Person
from agelens.video.tracks import Tracker
from faces import background
from stand_in import make_spec

YEARS = np.arange(101)
LANDMARKS = ((0.0, 0.0),) * 5


def bell(mean: float, spread: float) -> np.ndarray:
    values = np.exp(-0.5 * ((YEARS - mean) / spread) ** 2)
    return values / values.sum()


def face_at(x: float, y: float, side: float = 60.0, years: float = 30.0, female: float = 0.9) -> Face:
    distribution = tuple(bell(years, 6).tolist())
    age = Age(years, years - 9, years + 9, 0.9, "(25, 32)", 0.5, distribution)
    return Face(Box(x, y, side, side), 0.93, LANDMARKS, age, Gender("female", female, female))


def colour(frame: np.ndarray, face: Face, seed: int) -> None:
    """Paints a face that no other seed's looks like."""
    side = int(face.box.width)
    cells = np.random.default_rng(seed).integers(0, 255, (6, 6, 3))
    picture = np.repeat(np.repeat(cells, side // 6 + 1, 0), side // 6 + 1, 1)[:side, :side].astype(np.uint8)
    x, y = int(face.box.x), int(face.box.y)
    part = frame[max(y, 0) : y + side, max(x, 0) : x + side]
    part[:] = picture[: part.shape[0], : part.shape[1]]


# --- assignment ----------------------------------------------------------------------------------------------------


def brute(costs: np.ndarray) -> tuple[int, float]:
    """Most pairs, and the least cost of so many."""
    rows, columns = costs.shape
    if rows > columns:
        return brute(costs.T)
    best = (0, 0.0)
    for chosen in itertools.permutations(range(columns), rows):
        allowed = [costs[row, column] for row, column in enumerate(chosen) if costs[row, column] < FORBIDDEN]
        best = min(best, (-len(allowed), sum(allowed)))
    return -best[0], best[1]


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
        lambda shape: arrays(
            np.float64, shape, elements=st.one_of(st.floats(0, 10, width=32), st.just(FORBIDDEN), st.integers(0, 3))
        )
    )
)
def test_assignment_is_the_best_of_all(costs: np.ndarray) -> None:
    pairs = assign(costs)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(costs[pair] < FORBIDDEN for pair in pairs)
    count, cost = brute(costs)
    assert len(pairs) == count
    assert sum(costs[pair] for pair in pairs) == pytest.approx(cost, abs=1e-6)


def test_assignment_of_nothing() -> None:
    assert assign(np.zeros((0, 3))) == assign(np.zeros((3, 0))) == []
    assert assign(np.full((2, 2), FORBIDDEN)) == []


@given(st.integers(2, 30), st.integers(0, 10_000))
def test_assignment_finds_a_hidden_permutation(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(count)
    costs = rng.uniform(1, 2, (count, count))
    costs[np.arange(count), order] = 0.1
    assert assign(costs) == [(row, int(column)) for row, column in enumerate(order)]


# --- fusion --------------------------------------------------------------------------------------------------------


def width_of(ages: np.ndarray) -> float:
    mean = ages @ YEARS
    return float(np.sqrt(ages @ (YEARS - mean) ** 2))


def test_a_still_picture_does_not_become_surer() -> None:
    fusion = Fusion()
    for _ in range(300):
        fusion.add(bell(31, 6), 0.7, 0.92)
    assert fusion.remaining == pytest.approx(1.0)
    np.testing.assert_allclose(fusion.read_ages(), bell(31, 6), atol=1e-5)
    assert fusion.read_female() == pytest.approx(0.7)


def test_independent_errors_narrow_by_what_they_are_worth_and_no_more() -> None:
    rng = np.random.default_rng(1)
    fusion = Fusion()
    for _ in range(200):  # each look errs by 4 years of a stated 8: a quarter of the variance goes
        fusion.add(bell(40 + rng.normal(0, 4), 8), 0.9, 0.92)
    assert fusion.remaining == pytest.approx(0.75, abs=0.06)
    assert width_of(fusion.read_ages()) == pytest.approx(8 * np.sqrt(0.75), abs=0.5)
    assert fusion.read_ages() @ YEARS == pytest.approx(40, abs=1.0)


def test_alike_errors_of_successive_frames_count_for_fewer_looks() -> None:
    rng = np.random.default_rng(2)
    looks = {}
    for still in (0.0, 0.95):
        fusion, error = Fusion(), 0.0
        for _ in range(60):
            error = still * error + np.sqrt(1 - still**2) * rng.normal(0, 4)
            fusion.add(bell(40 + error, 8), None, 0.92)
        looks[still] = fusion.independent_looks
        assert fusion.read_female() is None
    assert looks[0.0] > 25
    assert looks[0.95] < looks[0.0] / 4


def test_a_blurred_look_counts_little() -> None:
    fusion = Fusion()
    fusion.add(bell(20, 5), 0.9, 0.90)
    fusion.add(bell(60, 5), 0.1, 0.70)
    assert abs(fusion.read_ages() @ YEARS - 20) < 1
    assert fusion.read_female() == pytest.approx(0.9, abs=0.01)
    late = Fusion()  # whichever comes first
    late.add(bell(60, 5), 0.1, 0.70)
    late.add(bell(20, 5), 0.9, 0.90)
    np.testing.assert_allclose(late.read_ages(), fusion.read_ages(), atol=1e-6)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(1, 20), st.floats(0, 1), st.floats(0.6, 1)), min_size=1))
def test_whatever_comes_fusion_gives_probabilities(looks: list[tuple[float, float, float, float]]) -> None:
    fusion = Fusion()
    for mean, spread, female, score in looks:
        fusion.add(bell(mean, spread), female, score)
    ages, female = fusion.read_ages(), fusion.read_female()
    assert ages.sum() == pytest.approx(1)
    assert (ages >= 0).all()
    assert 0 <= female <= 1
    assert 0 < fusion.remaining <= 1
    assert fusion.independent_looks >= 1


def test_the_group_settles() -> None:
    groups = EstimateOptions().groups
    near, far = (share * bell(28, 1) + (1 - share) * bell(18, 1) for share in (0.52, 0.6))
    for distribution, margin, kept in ((near, 0.05, True), (near, 0.0, False), (far, 0.05, False)):
        group, probability = groups.choose(tuple(distribution.tolist()))
        assert group == "(25, 32)"
        age = Age(23.0, 15.0, 32.0, 0.9, group, probability, tuple(distribution.tolist()))
        other = "(15, 20)"
        settled = settle_group(age, other, groups, margin)
        assert settled.group == (other if kept else group)
        assert (settled is age) == (not kept)


# --- motion and cuts -----------------------------------------------------------------------------------------------


def test_motion_learns_a_constant_speed() -> None:
    motion = Motion.begin(Box(0, 0, 60, 60), 0.0)
    for i in range(1, 20):
        motion.correct(Box(i * 6.0, i * 3.0, 60, 60), i / 25)
    assert motion.speed == pytest.approx((150.0, 75.0), rel=0.05)
    box = motion.predicted_box(19 / 25 + 0.4)
    assert (box.x, box.y) == pytest.approx((114 + 60, 57 + 30), abs=6)
    assert motion.reach(2.0) > motion.reach(0.8)


def test_cuts_are_found_and_movement_is_none() -> None:
    cuts = CutDetector()
    first, second = background(320, 240), np.flip(background(320, 240, 1) // 2, axis=2)
    found = []
    for i in range(30):
        scene = first if i < 15 else second
        frame = np.roll(scene, 6 * i, axis=1).copy()
        frame[60:160, 4 * i : 4 * i + 90] = (200, 170, 150)
        found.append(cuts.is_cut(frame))
    assert [i for i, cut in enumerate(found) if cut] == [15]


# --- tracks --------------------------------------------------------------------------------------------------------


def walk(tracker: Tracker, places: list[list[tuple[int, float, float]]], rate: float = 25.0) -> list[dict[int, int]]:
    """Moves painted people; for each frame, who got which track."""
    result = []
    ground = background(640, 360)
    for number, people in enumerate(places):
        frame = ground.copy()
        faces = [face_at(x, y) for _, x, y in people]
        for (who, _, _), face in zip(people, faces, strict=True):
            colour(frame, face, who)
        told = tracker.update(faces, frame, number, number / rate)
        result.append({who: face.track for (who, _, _), face in zip(people, told, strict=True)})
    return result


def make_tracker() -> Tracker:
    return Tracker(make_spec(), EstimateOptions())


def test_two_who_cross_behind_each_other_keep_their_tracks() -> None:
    places = []
    for i in range(60):
        here, there = 20 + 9 * i, 560 - 9 * i
        hidden = abs(here - there) < 45
        places.append([(1, here, 100), *([] if hidden else [(2, there, 104)])])
    tracks = walk(make_tracker(), places)
    assert {found[1] for found in tracks} == {1}
    assert {found[2] for found in tracks if 2 in found} == {2}


def test_who_turns_back_while_hidden_is_known_by_the_look() -> None:
    places = []
    for i in range(50):
        here = 100 + 6 * i if i < 25 else 250 - 6 * (i - 25)
        there = 420 - 6 * i if i < 25 else 270 + 6 * (i - 25)
        hidden = abs(here - there) < 50
        places.append([(1, here, 100), *([] if hidden else [(2, there, 104)])])
    tracks = walk(make_tracker(), places)
    assert [tracks[-1][1], tracks[-1][2]] == [1, 2]


def colour_alike(frame: np.ndarray, face: Face, seed: int) -> None:
    """Paints a face of which half is everybody's."""
    own, shared = frame.copy(), frame
    colour(own, face, seed)
    colour(shared, face, 100)
    frame[:] = own // 2 + shared // 2


def test_who_turns_back_is_known_though_all_look_much_alike() -> None:
    # Towards each other and back, one hidden where they meet: movement says that they have passed.
    tracker, ground = make_tracker(), background(640, 360)
    told = []
    for i in range(66):
        share = min(i, 65 - i)
        here, there = 60 + 7 * share, 508 - 7 * share
        people = [(1, here), *([] if abs(here - there) < 40 else [(2, there)])]
        frame = ground.copy()
        faces = [face_at(x, 100 + 3 * who) for who, x in people]
        for (who, _), face in reversed(list(zip(people, faces, strict=True))):
            colour_alike(frame, face, who)
        found = tracker.update(faces, frame, i, i / 25)
        told.append({who: face.track for (who, _), face in zip(people, found, strict=True)})
    assert told[-1] == {1: 1, 2: 2}


def test_movement_counts_less_only_where_one_may_hide_the_other() -> None:
    def person(number: int, x: float, *, hidden: bool) -> Person:
        someone = Person(number, face_at(x, 100), 0, 0.0)
        someone.hidden = hidden
        return someone

    near, behind, far = person(1, 100, hidden=False), person(2, 130, hidden=True), person(3, 400, hidden=False)
    assert find_muddled([near, behind, far], 0.1) == {1, 2}
    behind.hidden = False
    assert find_muddled([near, behind, far], 0.1) == frozenset()
    assert find_muddled([near, person(4, 300, hidden=True)], 0.1) == frozenset()


def test_hidden_for_a_second_is_the_same_person_and_for_three_is_not() -> None:
    def after(gap: int) -> int:
        seen = [[(1, 100.0 + 2 * i, 100.0)] for i in range(20)]
        later = [[(1, 140.0 + 2 * gap + 2 * i, 100.0)] for i in range(3)]
        return walk(make_tracker(), [*seen, *([[]] * gap), *later])[-1][1]

    assert after(25) == 1
    assert after(75) == 2


def test_a_cut_ends_tracks() -> None:
    tracker = make_tracker()
    for number in range(6):
        frame = background(320, 240) if number < 3 else np.flip(background(320, 240) // 2, axis=2).copy()
        face = face_at(100, 80)
        colour(frame, face, 7)
        told = tracker.update([face], frame, number, number / 25)
        assert told[0].track == (1 if number < 3 else 2)
    (ended,) = tracker.take_ended()
    assert (ended.number, ended.first_frame, ended.last_frame, ended.frames) == (1, 0, 2, 3)
    tracker.finish()
    assert [track.number for track in tracker.take_ended()] == [2]


def test_the_label_follows_the_track_and_not_the_frame() -> None:
    rng = np.random.default_rng(5)
    tracker = make_tracker()
    single, fused = [], []
    ground = background(320, 240)
    for number in range(60):
        frame = ground.copy()
        face = face_at(100, 80, years=32.5 + rng.normal(0, 4), female=float(rng.uniform(0.3, 0.9)))
        colour(frame, face, 3)
        (told,) = tracker.update([face], frame, number, number / 25)
        single.append(face.gender.female_probability >= 0.5)
        fused.append(told.gender.label == "female")
    changes = [sum(a != b for a, b in itertools.pairwise(labels)) for labels in (single, fused)]
    assert changes[0] >= 15
    assert changes[1] <= changes[0] / 10


def test_without_fusion_the_look_itself_is_told() -> None:
    tracker = Tracker(make_spec(), EstimateOptions(), fuse=False)
    frame = background(320, 240)
    for number, years in enumerate((20.0, 50.0)):
        (told,) = tracker.update([face_at(100, 80, years=years)], frame, number, number / 25)
        assert (told.track, told.age.years) == (1, years)


def test_tasks_that_were_not_asked_for_stay_away() -> None:
    tracker = Tracker(make_spec(), EstimateOptions("gender"))
    face = Face(Box(10, 10, 50, 50), 0.9, LANDMARKS, None, Gender("male", 0.8, 0.2))
    (told,) = tracker.update([face], background(320, 240), 0, 0.0)
    assert told.age is None
    assert told.gender.female_probability == pytest.approx(0.2)


# --- which frames, and what is between -----------------------------------------------------------------------------


def frames_at(times: list[float]) -> list[Frame]:
    return [Frame(number, seconds, 0.04, None) for number, seconds in enumerate(times)]


def test_pace_by_count_and_by_time() -> None:
    even = frames_at([i / 30 for i in range(60)])
    assert [f.number for f, chosen in Pace(every=7).choose(iter(even)) if chosen] == list(range(0, 60, 7))
    chosen = [f.seconds for f, chosen in Pace(rate=10).choose(iter(even)) if chosen]
    assert len(chosen) == 20
    assert max(abs(b - a - 0.1) for a, b in itertools.pairwise(chosen)) < 1 / 30
    uneven = frames_at([0.0, 0.01, 0.02, 1.0, 1.01, 1.02, 5.0])
    assert [f.number for f, c in Pace(rate=2).choose(iter(uneven)) if c] == [0, 3, 6]
    assert sum(c for _, c in Pace(rate=1000).choose(iter(even))) == 60


def test_faces_pass_between_looks() -> None:
    from agelens.types import Report

    def report(seconds: float, *faces: Face) -> Report:
        return Report("x", 320, 240, faces, ModelId("m", "0"), frame=0, time_seconds=seconds)

    one, two = replace(face_at(0, 0), track=1), replace(face_at(40, 20, 80), track=1)
    gone = replace(face_at(200, 0), track=2)
    (moved, still) = pass_between(report(1.0, one, gone), report(2.0, two), 1.25)
    assert (moved.box.x, moved.box.y, moved.box.width) == (10, 5, 65)
    assert still.box == gone.box
    assert [f.track for f in pass_between(report(1.0, one, gone), report(2.0, two), 1.75)] == [1]
    assert overlap(one.box, one.box) == pytest.approx(1.0)
