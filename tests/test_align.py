"""The crop of a face: geometry, antialiasing, edges."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from agelens.align import CropGeometry, Similarity, align, assume_landmarks, fit_crop, fit_similarity, sample
from agelens.decode import decode
from agelens.detect import FaceDetector
from agelens.types import Box
from faces import PORTRAIT_FACE, as_image, overlap, portrait

GOLDEN = Path(__file__).parent / "golden"
GEOMETRY = CropGeometry(64)

finite = st.floats(-1000, 1000)


def similarity(scale: float, degrees: float, x: float, y: float) -> Similarity:
    angle = math.radians(degrees)
    return Similarity(scale * math.cos(angle), scale * math.sin(angle), x, y)


def marked(back: Similarity, side: int, mark: float) -> np.ndarray:
    """A picture with a soft spot, `mark` pixels wide, wherever `back` puts one of the crop's targets."""
    y, x = np.mgrid[0:side, 0:side] + 0.5
    light = np.zeros((side, side))
    for px, py in back.apply(GEOMETRY.targets):
        light = np.maximum(light, np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * mark**2)))
    return np.repeat((light * 255).round().astype(np.uint8)[:, :, None], 3, axis=2)


def spots(crop: np.ndarray) -> np.ndarray:
    """Centre of mass around each target, shape (5, 2)."""
    found = []
    for px, py in GEOMETRY.targets:
        y, x = np.mgrid[0 : crop.shape[0], 0 : crop.shape[1]] + 0.5
        near = (abs(x - px) < 5) & (abs(y - py) < 5)
        weight = crop[..., 0].astype(float) * near
        found.append([(x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()])
    return np.array(found)


# The fit ------------------------------------------------------------------------------------------------------------


@given(st.floats(0.01, 100), st.floats(-180, 180), finite, finite)
def test_a_similarity_is_recovered(scale: float, degrees: float, x: float, y: float) -> None:
    true = similarity(scale, degrees, x, y)
    points = GEOMETRY.targets
    fitted = fit_similarity(points, true.apply(points))
    assert fitted.scale == pytest.approx(scale, rel=1e-6)
    assert math.cos(math.radians(fitted.rotation - degrees)) == pytest.approx(1.0, abs=1e-9)
    assert np.allclose(fitted.apply(points), true.apply(points), atol=1e-6 * max(1.0, scale * 64))


@given(st.lists(st.tuples(finite, finite), min_size=5, max_size=5), st.lists(finite, min_size=4, max_size=4))
def test_no_other_similarity_is_nearer(target: list[tuple[float, float]], nudges: list[float]) -> None:
    source, wanted = GEOMETRY.targets, np.array(target)
    fitted = fit_similarity(source, wanted)

    def miss(s: Similarity) -> float:
        return float(((s.apply(source) - wanted) ** 2).sum())

    n = np.array(nudges) / 1000
    other = Similarity(fitted.a + n[0], fitted.b + n[1], fitted.tx + n[2], fitted.ty + n[3])
    assert miss(fitted) <= miss(other) + 1e-6 * max(1.0, miss(other))


def test_mirrored_points_are_not_reflected() -> None:
    mirrored = GEOMETRY.targets * [-1, 1]
    fitted = fit_similarity(GEOMETRY.targets, mirrored)
    # The determinant of the matrix is a * a + b * b: never negative; a mirror image can only be met badly.
    corners = fitted.apply(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    (ax, ay), (bx, by) = corners[1] - corners[0], corners[2] - corners[0]
    assert ax * by - ay * bx >= 0
    assert np.abs(fitted.apply(GEOMETRY.targets) - mirrored).max() > 1


def test_points_that_coincide_only_move() -> None:
    fitted = fit_similarity(np.full((5, 2), 3.0), GEOMETRY.targets)
    assert (fitted.a, fitted.b) == (1.0, 0.0)
    assert fitted.apply(np.array([3.0, 3.0])) == pytest.approx(GEOMETRY.targets.mean(axis=0))


@pytest.mark.parametrize("at", [(0.0, 0.0), (20.0, 20.0), (-500.0, 900.0)])
def test_landmarks_in_one_place_still_give_a_crop(at: tuple[float, float]) -> None:
    crop = align(as_image(portrait()[:40, :40]), [at] * 5, GEOMETRY)
    assert crop.shape == (64, 64, 3)
    assert crop.std(axis=(0, 1)).max() < 1


@given(st.floats(0.01, 100), st.floats(-180, 180), finite, finite)
def test_a_face_seen_from_the_front_is_met_exactly(scale: float, degrees: float, x: float, y: float) -> None:
    true, targets = similarity(scale, degrees, x, y), GEOMETRY.targets
    fitted = fit_crop(true.apply(targets), targets)
    assert np.allclose(fitted.apply(targets), true.apply(targets), atol=1e-6 * max(1.0, scale * 64))


@pytest.mark.parametrize(("degrees", "least"), [(0, 1.0), (30, 0.93), (60, 0.85), (90, 0.99)])
@given(turn=st.floats(-180, 180), scale=st.floats(0.1, 10))
def test_a_head_that_is_turned_away_is_not_enlarged(degrees: float, least: float, turn: float, scale: float) -> None:
    # Seen from the side the eyes lie on one another; from the forehead to the chin the head is as long as before.
    targets, place = GEOMETRY.targets, similarity(scale, turn, 5.0, -3.0)
    turned = (targets - targets.mean(axis=0)) * [math.cos(math.radians(degrees)), 1.0]
    fitted = fit_crop(place.apply(turned), targets)
    assert least - 1e-6 <= fitted.scale / scale <= 1 + 1e-6
    assert math.cos(math.radians(fitted.rotation - turn)) == pytest.approx(1.0, abs=1e-9)


@given(st.lists(st.tuples(finite, finite), min_size=5, max_size=5))
def test_no_landmarks_show_more_than_twice_what_they_span(points: list[tuple[float, float]]) -> None:
    landmarks, targets = np.array(points), GEOMETRY.targets
    fitted, other = fit_crop(landmarks, targets), fit_similarity(targets, landmarks)
    assert other.scale * (1 - 1e-6) <= fitted.scale <= other.scale * 2 * (1 + 1e-6)
    middle = fitted.apply(targets.mean(axis=0))
    assert np.allclose(middle, landmarks.mean(axis=0), atol=1e-6 * max(1.0, float(np.abs(landmarks).max())))


@given(st.floats(0.1, 10), st.floats(-180, 180), finite, finite)
def test_scale_and_rotation_are_those_of_the_matrix(scale: float, degrees: float, x: float, y: float) -> None:
    s = similarity(scale, degrees, x, y)
    assert s.scale == pytest.approx(scale)
    moved = s.apply(np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert np.hypot(*(moved[1] - moved[0])) == pytest.approx(scale)


# Geometry -----------------------------------------------------------------------------------------------------------


def test_the_eyes_are_level_and_where_the_geometry_says() -> None:
    right, left, nose, right_mouth, left_mouth = CropGeometry(100, 0.4, 0.3).targets
    assert right.tolist() == pytest.approx([30, 30])
    assert left.tolist() == pytest.approx([70, 30])
    assert nose[0] == 50
    assert right_mouth[1] == left_mouth[1] > nose[1] > 30


@given(st.floats(1.0, 2.0), st.integers(16, 300), st.floats(0.2, 0.5), st.floats(0.2, 0.6))
def test_a_wider_crop_shows_the_same_in_its_middle(factor: float, size: int, distance: float, height: float) -> None:
    geometry = CropGeometry(64, distance, height)
    wide = geometry.widen(factor, size)
    # The middle part of the wide crop, enlarged to the size of the narrow one, has the targets of the narrow one.
    middle = (wide.targets / size - 0.5) * factor + 0.5
    assert middle == pytest.approx(geometry.targets / 64)
    assert wide.size == size


@pytest.mark.parametrize(
    "wrong", [(0,), (-4,), (64.0,), ("64",), (64, 0.0), (64, 1.0), (64, 0.3, -1.0), (64, math.nan)]
)
def test_a_geometry_that_makes_no_sense_is_refused(wrong: tuple[object, ...]) -> None:
    with pytest.raises((ValueError, TypeError)):
        CropGeometry(*wrong)


def test_a_geometry_survives_its_dictionary() -> None:
    geometry = CropGeometry(72, 0.31, 0.4)
    assert CropGeometry(**geometry.to_dict()) == geometry


# Drawing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.15, 0.4, 0.9, 1.0, 1.1, 1.7, 3.0, 6.5, 13.0])
@pytest.mark.parametrize("degrees", [0, 17, 90, 135, 180, -90, -171])
def test_landmarks_land_on_their_targets(scale: float, degrees: float) -> None:
    side = max(round(64 * scale * 2.2), 40)
    middle = similarity(scale, degrees, 0, 0).apply(np.array([32.0, 32.0]))
    back = similarity(scale, degrees, side / 2 - middle[0], side / 2 - middle[1])
    crop = sample(marked(back, side, max(1.3 * scale, 0.8)), back, 64)
    assert crop.max() > 100
    # A spot that is smaller than a crop pixel times its size still has its centre of mass where it was.
    assert np.abs(spots(crop) - GEOMETRY.targets).max() < 0.5


@settings(deadline=None, max_examples=60)
@given(st.floats(0.5, 4), st.floats(-180, 180), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_align_and_its_picture_at_half_size_agree(scale: float, degrees: float, dx: float, dy: float) -> None:
    middle = similarity(scale, degrees, 0, 0).apply(np.array([32.0, 32.0]))
    back = similarity(scale, degrees, 200 - middle[0] + dx, 200 - middle[1] + dy)
    pixels = marked(back, 400, 2.0 * scale)
    landmarks = [tuple(point) for point in back.apply(GEOMETRY.targets)]
    crop = align(as_image(pixels), landmarks, GEOMETRY)
    assert np.abs(spots(crop) - GEOMETRY.targets).max() < 0.5


@pytest.mark.parametrize("cell", [1, 2, 3])
@pytest.mark.parametrize("degrees", [0, 30])
def test_a_checkerboard_beyond_resolution_becomes_flat_grey(cell: int, degrees: float) -> None:
    y, x = np.mgrid[0:700, 0:700] // cell
    board = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    middle = similarity(8, degrees, 0, 0).apply(np.array([32.0, 32.0]))
    crop = sample(board, similarity(8, degrees, 350 - middle[0], 350 - middle[1]), 64)
    assert abs(crop.mean() - 127.5) < 2
    assert crop.std() < 4


@pytest.mark.parametrize("scale", [0.5, 1.0, 5.0])
def test_beyond_an_edge_the_edge_is_repeated(scale: float) -> None:
    side = round(64 * scale)
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[:, : side // 2] = (200, 100, 50)
    pixels[:, side // 2 :] = (10, 20, 250)
    crop = sample(pixels, Similarity(scale, 0.0, 0.75 * side, 0.0), 64)  # starts in the right half, leaves it
    assert np.abs(crop.astype(int) - [10, 20, 250]).max() <= 2
    crop = sample(pixels, Similarity(scale, 0.0, -1.2 * side, 0.5 * side), 64)  # wholly beside it
    assert np.abs(crop.astype(int) - [200, 100, 50]).max() <= 2


def test_what_sticks_out_does_not_darken_the_crop() -> None:
    pixels = np.full((50, 50, 3), 180, np.uint8)
    for x, y in ((-30, -30), (30, -30), (-30, 30), (30, 30), (0, 0)):
        for degrees in (0, 45, 200):
            crop = sample(pixels, similarity(1.0, degrees, x, y), 64)
            assert np.abs(crop.astype(int) - 180).max() <= 1


@settings(deadline=None, max_examples=80)
@given(
    st.integers(8, 60),
    st.integers(8, 60),
    st.floats(0.02, 20),
    st.floats(-180, 180),
    st.floats(-150, 150),
    st.floats(-150, 150),
)
def test_any_place_and_size_gives_a_crop(
    width: int, height: int, scale: float, degrees: float, x: float, y: float
) -> None:
    pixels = np.random.default_rng(0).integers(40, 200, (height, width, 3), dtype=np.uint8)
    crop = sample(pixels, similarity(scale, degrees, x, y), 64)
    assert crop.shape == (64, 64, 3)
    assert crop.dtype == np.uint8
    # Nothing but the picture's own pixels: neither black nor white came in (bicubic overshoots a little).
    assert crop.min() >= 0
    assert crop.mean() > 40


def test_a_portrait_turned_upright_is_the_same_crop() -> None:
    face = FaceDetector().detect(as_image(portrait()))[0]
    crop = align(as_image(portrait()), face.landmarks, GEOMETRY)
    width = portrait().shape[1]
    turned = np.rot90(portrait(), 1)
    landmarks = [(y, width - x) for x, y in face.landmarks]
    again = align(as_image(turned), landmarks, GEOMETRY)
    assert np.abs(crop.astype(int) - again).mean() < 1.0


@pytest.mark.parametrize("detail", [1280, 700])
def test_a_crop_hardly_depends_on_where_decoding_began(detail: int) -> None:
    large = PillowImage.fromarray(portrait()).resize((3000, 4000), PillowImage.Resampling.BICUBIC, (0, 0, 384, 512))
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", quality=92)
    scale = 3000 / 384
    landmarks = [(x * scale, y * scale) for x, y in FaceDetector().detect(as_image(portrait()))[0].landmarks]
    reduced, full = decode(buffer.getvalue(), detail=detail), decode(buffer.getvalue())
    assert reduced.scale < 0.51
    a, b = align(reduced, landmarks, GEOMETRY).astype(int), align(full, landmarks, GEOMETRY)
    assert np.abs(a - b).mean() < 3.0
    assert abs(a.mean() - b.mean()) < 0.2


def test_landmarks_assumed_for_a_box_are_those_of_a_face_in_it() -> None:
    face = FaceDetector().detect(as_image(portrait()))[0]
    assumed = np.array(assume_landmarks(face.box))
    assert np.abs(assumed - np.array(face.landmarks)).max() < 0.15 * face.box.width
    assert assumed[0, 0] < assumed[1, 0]


@given(st.floats(1, 1000), st.floats(1, 1000), finite, finite)
def test_assumed_landmarks_lie_in_the_box(width: float, height: float, x: float, y: float) -> None:
    points = np.array(assume_landmarks(Box(x, y, width, height)))
    inside = (points >= [x - 1e-6, y - 1e-6]) & (points <= [x + width + 1e-6, y + height + 1e-6])
    assert inside.all()


def test_the_portrait_has_its_golden_crop() -> None:
    golden = json.loads((GOLDEN / "portrait.json").read_text())
    face = FaceDetector().detect(as_image(portrait()))[0]
    assert overlap(face.box, PORTRAIT_FACE) > 0.6
    assert np.array(face.landmarks) == pytest.approx(np.array(golden["landmarks"]), abs=0.05)
    crop = align(as_image(portrait()), golden["landmarks"], GEOMETRY)
    with np.load(GOLDEN / "portrait_crop.npz") as stored:
        difference = np.abs(crop.astype(int) - stored["crop"])
    assert difference.max() <= 2
    assert difference.mean() < 0.1
