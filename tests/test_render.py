"""Pictures of reports: the layout as geometry, then what is drawn and saved."""

from __future__ import annotations

import errno
import io
import itertools
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageFont

import agelens.render.encoding
from agelens.errors import DiskFullError, OutputError, OutputUnwritableError, UsageError
from agelens.render import LONGEST_SIDE, annotate, crop_face, draw_on, encode_picture, picture_extensions, save_picture
from agelens.render.layout import Level, Plate, place_labels
from agelens.types import Age, Box, Face, Gender, Image
from agelens.wording import NO_FACE, describe_age, describe_briefly, describe_gender, describe_group

LANDMARKS = ((0.0, 0.0),) * 5
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FULL_LEVELS = ((120, 16), (60, 30)), ((84, 12), (44, 22)), ((30, 10),)


def make_face(x, y, width, height, *, age=True, gender="female"):
    return Face(
        Box(x, y, width, height),
        0.9,
        LANDMARKS,
        Age(31.4, 24.0, 39.5, 0.9, "(25, 32)", 0.61) if age else None,
        Gender(gender, 0.97, 0.97) if gender else None,
    )


def make_image(width, height, value=128) -> Image:
    return Image(np.full((height, width, 3), value, np.uint8), width, height)


def make_crowd(count, width, height, side, seed=0):
    rng = random.Random(seed)
    return [
        make_face(rng.uniform(0, width - side), rng.uniform(0, height - side), side, side * 1.2) for _ in range(count)
    ]


def levels_for(count) -> list[Level]:
    return [Level([forms] * count, 0.3 * i) for i, forms in enumerate(FULL_LEVELS)]


def area_shared(plate: Plate, box: Box | Plate) -> float:
    across = min(plate.x + plate.width, box.x + box.width) - max(plate.x, box.x)
    down = min(plate.y + plate.height, box.y + box.height) - max(plate.y, box.y)
    return max(across, 0) * max(down, 0)


frames = st.tuples(st.integers(8, 900), st.integers(8, 700))
any_box = st.builds(Box, st.floats(-80, 900), st.floats(-80, 700), st.floats(0, 400), st.floats(0, 400))


# --- layout --------------------------------------------------------------------------------------------------------


@FEW
@given(frames, st.lists(any_box, max_size=25), st.integers(0, 6))
@example((8, 8), [Box(0, 0, 8, 8)], 2)
@example((300, 300), [Box(0, 0, 300, 300)] * 4, 2)
@example((30, 10), [Box(0, 0, 1.9e-112, 2.0e-248)], 2)  # an area too small for a number
def test_plates_stay_in_the_frame_and_apart(frame, boxes, gap):
    placements = place_labels(boxes, levels_for(len(boxes)), frame, gap=gap)
    assert len(placements) == len(boxes)
    plates = [p.plate for p in placements if p.plate]
    for plate in plates:
        assert plate.x >= 0
        assert plate.y >= 0
        assert plate.x + plate.width <= frame[0]
        assert plate.y + plate.height <= frame[1]
    for one, other in itertools.combinations(plates, 2):
        assert area_shared(one, other) == 0


@FEW
@given(frames, st.lists(any_box, max_size=25))
@example((30, 10), [Box(0, 0, 30, 10), Box(15, 5, 0, 0)])  # a box without area within the plate of another
@example((40, 16), [Box(0, 0, 40, 16), Box(20, 8, 0, 0)])
@example((30, 10), [Box(0, 0, 30, 10), Box(15, 5, 3, 0)])
@example((20, 8), [Box(0, 0, 20, 8), Box(0, 0, 1e-170, 1e-170)])  # an area too small for a number
def test_a_placement_says_truly_what_it_is(frame, boxes):
    placements = place_labels(boxes, levels_for(len(boxes)), frame)
    assert len({p.level for p in placements}) <= 1
    for i, placement in enumerate(placements):
        assert (placement.plate is None) == (placement.where == "nowhere")
        assert (placement.leader is not None) == (placement.where == "near")
        if placement.plate is None:
            continue
        assert (placement.plate.width, placement.plate.height) == FULL_LEVELS[placement.level][placement.form]
        visible = [clip(box, frame) for box in boxes]
        assert placement.covers == any(area_shared(placement.plate, b) for k, b in enumerate(visible) if k != i)
        assert placement.where == "inside" or area_shared(placement.plate, visible[i]) == 0


def clip(box: Box, frame) -> Box:
    x, y = min(max(box.x, 0), frame[0]), min(max(box.y, 0), frame[1])
    right, bottom = min(max(box.x + box.width, 0), frame[0]), min(max(box.y + box.height, 0), frame[1])
    return Box(x, y, right - x, bottom - y)


@FEW
@given(frames, st.lists(any_box, max_size=12))
def test_no_other_face_is_covered_where_a_place_below_or_above_is_free(frame, boxes):
    placements = place_labels(boxes, levels_for(len(boxes)), frame)
    visible = [clip(box, frame) for box in boxes]
    for i, placement in enumerate(placements):
        if not placement.covers and placement.plate is not None:
            continue
        if visible[i].width == 0 or visible[i].height == 0:
            assert placement.where == "nowhere"
            continue
        # The places straight below and above, centred, at the size of the level, must all be taken.
        for width, height in FULL_LEVELS[placement.level]:
            middle = int(visible[i].x) + (visible[i].x + visible[i].width - int(visible[i].x)) / 2
            bottom = int(-(-(visible[i].y + visible[i].height) // 1)) + 2
            for y in (bottom, int(visible[i].y) - 2 - height):
                tried = Plate(int(min(max(middle - width / 2, 0), frame[0] - width)), y, width, height)
                free = tried.x >= 0 and y >= 0 and y + height <= frame[1]
                free &= not any(area_shared(tried, b) for k, b in enumerate(visible) if k != i)
                # One pixel of slack: the layout rounds a box outwards to whole pixels.
                grown = Plate(tried.x - 3, y - 3, width + 6, height + 6)
                free &= not any(area_shared(grown, p.plate) for k, p in enumerate(placements) if k != i and p.plate)
                assert not free


@FEW
@given(frames, st.lists(any_box, max_size=15))
def test_the_layout_is_deterministic(frame, boxes):
    levels = levels_for(len(boxes))
    assert place_labels(boxes, levels, frame) == place_labels(boxes, levels, frame)


FACE = Box(100, 100, 60, 60)
WIDE = [Level([[(120, 16)]])]


def place_one(box: Box, *others: Box, frame=(300, 300)):
    levels = [Level([[(120, 16)], *([[]] * len(others))])]
    return place_labels([box, *others], levels, frame, gap=2)[0]


def test_a_label_is_centred_below_then_above_then_beside_then_near_then_inside():
    below, above = Box(0, 161, 300, 20), Box(0, 80, 300, 19)
    left, right = Box(0, 100, 98, 60), Box(165, 100, 135, 60)
    assert place_one(FACE).plate == Plate(70, 162, 120, 16)
    assert place_one(FACE, below).plate == Plate(70, 82, 120, 16)
    assert (place_one(FACE, below, above).where, place_one(FACE, below, above).plate.x) == ("beside", 162)
    near = place_one(FACE, below, above, left, right)
    assert near.where == "near"
    (x0, y0), (x1, y1) = near.leader
    assert 100 <= x0 <= 160
    assert 100 <= y0 <= 160
    assert near.plate.x <= x1 <= near.plate.x + near.plate.width
    assert near.plate.y <= y1 <= near.plate.y + near.plate.height
    walls = [Box(0, 161, 300, 139), Box(0, 0, 300, 99), left, right]
    inside = place_one(Box(100, 100, 140, 60), *walls[:3], Box(241, 100, 59, 60))
    assert (inside.where, inside.covers, inside.plate) == ("inside", False, Plate(100, 142, 120, 16))


def test_a_label_narrower_than_its_face_starts_where_the_face_does():
    assert place_one(Box(50, 50, 200, 100)).plate == Plate(50, 152, 120, 16)


@pytest.mark.parametrize(("x", "left"), [(-40, 0), (280, 180)])
def test_at_an_edge_the_label_slides_into_the_frame(x, left):
    assert place_one(Box(x, 100, 60, 60)).plate == Plate(left, 162, 120, 16)


def test_at_the_lower_edge_it_stands_above_and_in_a_full_frame_inside():
    assert place_one(Box(100, 250, 60, 60)).plate == Plate(70, 232, 120, 16)
    assert place_one(Box(0, 0, 300, 300)).plate == Plate(0, 282, 120, 16)
    assert place_one(Box(-50, -50, 900, 900)).where == "inside"


def test_a_face_outside_or_without_area_or_smaller_than_any_label_has_none():
    for box in (Box(400, 10, 20, 20), Box(10, -30, 20, 20), Box(50, 50, 0, 9)):
        assert place_one(box).where == "nowhere"
    assert place_one(Box(2, 2, 10, 10), frame=(100, 14)).where == "nowhere"


def test_a_crowd_takes_a_cheaper_level_together():
    boxes = [Box(10 + 40 * (i % 20), 10 + 55 * (i // 20), 30, 36) for i in range(200)]
    placements = place_labels(boxes, levels_for(200), (820, 570))
    assert {p.level for p in placements} == {2}
    assert {p.where for p in placements} == {"below"}
    assert {p.level for p in place_labels(boxes[::40], levels_for(5), (820, 570))} == {0}


# --- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("years", "low", "high", "text"),
    [
        (31.4, 24.0, 39.5, "31 (24–40)"),
        (0.2, 0.0, 1.9, "0 (0–2)"),
        (31.9, 31.2, 31.95, "32 (31–32)"),
        (2.5, 2, 3, "3 (2–3)"),
        (31.496, 24.494, 40.4951, "32 (24–41)"),  # 31.5, 24.49 and 40.5 in the record
    ],
)
def test_an_age_is_said_in_the_nearest_whole_years_of_its_record(years, low, high, text):
    assert describe_age(Age(years, low, high, 0.9, "x", 0.5)) == text


@given(st.floats(0, 100), st.floats(0, 20), st.floats(0, 20))
def test_the_interval_always_holds_the_year(years, below, above):
    said = describe_age(Age(years, max(years - below, 0), years + above, 0.9, "x", 0.5))
    year, low, high = (int(part) for part in said.replace("(", "").replace(")", "").replace("–", " ").split())
    assert low <= year <= high


def test_certainty_is_said_only_where_it_is_certain():
    assert describe_gender(Gender("female", 0.97, 0.97)) == "female 97%"
    assert describe_gender(Gender("male", 0.9971, 0.0029)) == "male 99%"
    assert describe_gender(Gender("male", 0.99994, 0.00006)) == "male 99%"
    assert describe_gender(Gender("male", 0.99996, 0.00004)) == "male 100%", "which the record gives as 1"
    assert describe_gender(Gender("male", 0.285, 0.715)) == "male 29%", "though 100 * 0.285 is less than 28.5"
    assert describe_gender(Gender("unknown", 0.55, 0.45)) == "unknown"
    assert describe_group(Age(1, 1, 1, 0.9, "(0, 2)", 0.613)) == "(0, 2) 61%"


def test_the_short_form_says_what_is_known():
    face = make_face(0, 0, 9, 9)
    assert describe_briefly(face) == "31 F"
    assert describe_briefly(replace(face, gender=Gender("unknown", 0.5, 0.5))) == "31 ?"
    assert describe_briefly(replace(face, gender=None)) == "31"
    assert describe_briefly(replace(face, age=None, gender=Gender("male", 0.9, 0.1))) == "M"
    assert describe_briefly(replace(face, age=None, gender=None)) == ""


def test_the_font_has_every_character_that_is_drawn():
    font = ImageFont.load_default(20)
    missing = bytes(font.getmask("\ue000"))
    for character in "0123456789()-,%+? FMabcdefghijklmnopqrstuvwxyz" + NO_FACE:
        assert character == " " or bytes(font.getmask(character)) != missing, character


# --- drawing -------------------------------------------------------------------------------------------------------


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=2)


@pytest.mark.parametrize("width", [8, 31, 60, 300, 1200, 6000])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_every_size_and_count_works_and_the_input_stays(width, count):
    height = max(8, width * 2 // 3)
    side = max(width / 12, 4)
    image = make_image(width, height)
    before = image.pixels.copy()
    image.pixels.flags.writeable = False
    drawn = annotate(image, make_crowd(count, width, height, side), group=count == 1)
    assert drawn.shape == (height, width, 3)
    assert drawn.dtype == np.uint8
    assert changed(before, drawn).any()
    assert (image.pixels == before).all()


@FEW
@given(frames, st.lists(any_box, min_size=1, max_size=6), st.booleans(), st.sampled_from(["female", "unknown", None]))
def test_boxes_anywhere_can_be_drawn(frame, boxes, age, gender):
    faces = [replace(make_face(0, 0, 1, 1, age=age, gender=gender), box=box) for box in boxes]
    assert annotate(make_image(*frame), faces).shape == (frame[1], frame[0], 3)


@pytest.mark.parametrize(("x", "y"), list(itertools.product((-30, 0, 150, 250, 270), repeat=2)))
def test_a_box_at_or_beyond_an_edge_is_drawn_as_far_as_it_is_seen(x, y):
    image = make_image(300, 300)
    drawn = changed(image.pixels, annotate(image, [make_face(x, y, 50, 50, age=False, gender=None)]))
    inner = drawn[max(y + 8, 0) : y + 42, max(x + 8, 0) : x + 42]
    assert not inner.any()
    rows, columns = np.nonzero(drawn)
    assert rows.min() >= max(y - 5, 0)
    assert rows.max() <= min(y + 55, 299)
    assert columns.min() >= max(x - 5, 0)
    assert columns.max() <= min(x + 55, 299)


def test_only_the_box_and_its_label_are_touched():
    image = make_image(1200, 800)
    drawn = changed(image.pixels, annotate(image, [make_face(500, 300, 100, 120)]))
    rows, columns = np.nonzero(drawn)
    assert 290 <= rows.min() <= rows.max() <= 460
    assert 420 <= columns.min() <= columns.max() <= 680
    assert not drawn[315:405, 515:585].any()


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("gender", ["female", "male", "unknown", None])
def test_labels_and_boxes_stand_out_from_any_ground(value, gender):
    drawn = annotate(make_image(600, 400, value), [make_face(250, 150, 80, 90, gender=gender)])
    plate = drawn[244:256, 255:330].reshape(-1, 3).astype(float)
    light = 0.2126 * linear(plate[:, 0]) + 0.7152 * linear(plate[:, 1]) + 0.0722 * linear(plate[:, 2])
    assert (light.max() + 0.05) / (light.min() + 0.05) > 7  # WCAG AAA
    outline = drawn[195, 240:262].astype(int)
    assert np.abs(outline - value).max() > 60


def linear(channel: np.ndarray) -> np.ndarray:
    share = channel / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(
    ("width", "height"), [(8, 8), (8, 200), (200, 8), (24, 24), (300, 200), (1200, 800), (4000, 400)]
)
def test_no_face_detected_is_said_in_the_middle(width, height):
    image = make_image(width, height, 200)
    drawn = changed(image.pixels, annotate(image, []))
    rows, columns = np.nonzero(drawn)
    assert drawn[height // 3 : height - height // 3, width // 3 : width - width // 3].any()
    assert abs((rows.min() + rows.max() + 1) - height) <= 2
    assert abs((columns.min() + columns.max() + 1) - width) <= 2
    if min(width, height) >= 200:
        assert np.ptp(columns) > width * 0.2 or np.ptp(rows) > height * 0.08


def test_letters_grow_with_the_picture_and_stay_legible():
    heights = []
    for width in (300, 1200, 6000):
        image = make_image(width, width * 2 // 3)
        face = make_face(width * 0.4, width * 0.2, width * 0.08, width * 0.1)
        rows = np.nonzero(changed(image.pixels, annotate(image, [face]))[:, int(width * 0.44)])[0]
        heights.append(rows.max() - round(width * 0.3))
    assert heights[0] >= 12
    assert 15 <= heights[1] <= 45
    assert 75 <= heights[2] <= 225


def test_group_is_written_on_request():
    image, faces = make_image(600, 400), [make_face(250, 150, 80, 90)]
    plain, more = (changed(image.pixels, annotate(image, faces, group=g)) for g in (False, True))
    assert np.nonzero(more)[0].max() > np.nonzero(plain)[0].max() + 8


def test_twenty_pixel_faces_in_a_large_picture_are_not_painted_over():
    image = make_image(4000, 3000)
    drawn = changed(image.pixels, annotate(image, [make_face(2000, 1500, 20, 24), make_face(2100, 1500, 20, 24)]))
    assert not drawn[1504:1520, 2004:2016].any()
    assert not drawn[1504:1520, 2104:2116].any()


def test_full_resolution_is_drawn_on_even_if_a_reduced_copy_is_held():
    full = make_image(800, 600)
    reduced = Image(full.pixels[::4, ::4], 800, 600, finer=lambda _scale: full)
    faces = [make_face(300, 200, 80, 90)]
    assert (annotate(reduced, faces) == annotate(full, faces)).all()
    coarse = Image(full.pixels[::4, ::4], 800, 600)
    bare = make_face(300, 200, 80, 90, age=False, gender=None)
    rows, columns = np.nonzero(changed(coarse.pixels, annotate(coarse, [bare])))
    assert (columns.min(), rows.min()) == (pytest.approx(75, abs=2), pytest.approx(50, abs=2))
    assert (columns.max(), rows.max()) == (pytest.approx(95, abs=2), pytest.approx(72, abs=2))


def test_drawing_is_deterministic_and_can_be_done_in_place():
    faces = make_crowd(50, 1024, 559, 30)
    image = make_image(1024, 559)
    drawn = annotate(image, faces)
    assert (drawn == annotate(image, faces)).all()
    draw_on(image.pixels, faces)
    assert (drawn == image.pixels).all()


# --- crops ---------------------------------------------------------------------------------------------------------


def make_ramp(width, height) -> Image:
    y, x = np.mgrid[:height, :width]
    return Image(np.stack([x % 256, y % 256, (x + y) % 256], axis=2).astype(np.uint8), width, height)


def test_a_crop_is_a_square_around_the_face_with_its_margin():
    image = make_ramp(400, 300)
    crop = crop_face(image, make_face(100, 100, 40, 50), margin=0.2)
    assert crop.shape == (70, 70, 3)
    assert (crop == image.pixels[90:160, 85:155]).all()
    assert crop_face(image, make_face(100, 100, 40, 50), margin=0).shape == (50, 50, 3)
    crop[:] = 0
    assert image.pixels[95, 90].tolist() == [90, 95, 185]


@given(any_box, frames, st.floats(-1, 3))
def test_a_crop_is_never_empty_and_never_larger_than_the_picture(box, frame, margin):
    crop = crop_face(make_ramp(*frame), replace(make_face(0, 0, 1, 1), box=box), margin=margin)
    assert 1 <= crop.shape[0] <= frame[1]
    assert 1 <= crop.shape[1] <= frame[0]


def test_a_crop_comes_from_the_best_resolution():
    full = make_ramp(800, 600)
    reduced = Image(full.pixels[::8, ::8], 800, 600, finer=lambda _scale: full)
    assert (crop_face(reduced, make_face(300, 200, 80, 90)) == crop_face(full, make_face(300, 200, 80, 90))).all()


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", picture_extensions())
def test_every_extension_gives_its_format_and_nearly_the_same_picture(tmp_path, extension):
    pixels = annotate(make_image(320, 240, 90), [make_face(100, 80, 60, 70)])
    path = tmp_path / f"Out{extension.upper()}"
    save_picture(pixels, path)
    with Pillow.open(path) as opened:
        kinds = {".png": "PNG", ".webp": "WEBP", ".avif": "AVIF", ".bmp": "BMP", ".ppm": "PPM"}
        assert opened.format == kinds.get(extension, "TIFF" if extension.startswith(".tif") else "JPEG")
        back = np.asarray(opened.convert("RGB")).astype(int)
    assert np.abs(back - pixels).mean() < 1.5
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if extension in (".png", ".bmp", ".ppm", ".tif", ".tiff"):
        assert (back == pixels).all()


def test_quality_changes_the_size(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    save_picture(noise, tmp_path / "a.jpg", quality=30)
    save_picture(noise, tmp_path / "b.jpg", quality=95)
    assert (tmp_path / "a.jpg").stat().st_size * 2 < (tmp_path / "b.jpg").stat().st_size


@pytest.mark.parametrize("name", ["out.xyz", "out", "out.gif", "out.jsonl"])
def test_an_unknown_extension_names_those_that_work(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.jpg .*\.png"):
        save_picture(make_image(20, 20).pixels, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_typed(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none" / "a.png", tmp_path / "folder.png", tmp_path / "file" / "a.png"):
        with pytest.raises(OutputUnwritableError) as caught:
            save_picture(make_image(20, 20).pixels, path)
        assert str(path) in caught.value.message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device_is_a_disk_full_error(tmp_path):
    (tmp_path / "out.png").symlink_to("/dev/full")
    with pytest.raises(DiskFullError):
        save_picture(make_image(20, 20).pixels, tmp_path / "out.png")


def test_a_failed_write_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "out.png"
    save_picture(make_image(20, 20).pixels, path)
    old = path.read_bytes()

    def refuse(self, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(DiskFullError):
        save_picture(make_image(30, 30).pixels, path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_a_picture_too_large_for_its_format_is_told_so(tmp_path):
    wide = np.zeros((1, 70_000, 3), np.uint8)
    for name in ("a.jpg", "a.webp"):
        with pytest.raises(OutputUnwritableError, match=r"use \.png"):
            save_picture(wide, tmp_path / name)
    save_picture(wide, tmp_path / "a.png")


@pytest.mark.parametrize("kind", [kind for kind in LONGEST_SIDE if f".{kind.lower()}" in picture_extensions()])
def test_the_longest_side_of_a_format_can_be_written_and_read(kind):
    side = LONGEST_SIDE[kind]
    data = encode_picture(np.zeros((8, side, 3), np.uint8), kind)
    assert Pillow.open(io.BytesIO(data)).size == (side, 8)
    with pytest.raises(OutputUnwritableError, match=f"at most {side} pixels"):
        encode_picture(np.zeros((side + 1, 8, 3), np.uint8), kind)


@pytest.mark.parametrize("refusal", [OSError("broken data stream"), ValueError("error 6"), RuntimeError("no")])
def test_a_picture_that_an_encoder_refuses_is_a_typed_error(tmp_path, monkeypatch, refusal):
    def refuse(self, *_arguments, **_options):
        raise refusal

    monkeypatch.setattr(Pillow.Image, "save", refuse)
    with pytest.raises(OutputError, match=rf"a\.jpg: .*{refusal}.*use \.png"):
        save_picture(make_image(20, 20).pixels, tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_cannot_be_written_where_the_codec_is_absent(tmp_path, monkeypatch):
    monkeypatch.setattr(agelens.render.encoding.features, "check", lambda _name: False)
    assert ".webp" not in picture_extensions()
    with pytest.raises(UsageError):
        save_picture(make_image(20, 20).pixels, tmp_path / "a.webp")
