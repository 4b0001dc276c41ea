"""The corridor, picture by picture: the same answer whichever way a picture comes in, and settings."""

from __future__ import annotations

import io
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

import agelens
from agelens import analyzer as room
from agelens.align import assume_landmarks
from agelens.analyzer import Analyzer, Settings, check_settings
from agelens.decode import decoder
from agelens.errors import InputError, NotFoundError, TruncatedImageError, UnknownModelError, UsageError
from agelens.estimate import Estimates, OnnxEstimator
from agelens.sources import Source
from agelens.types import Box, Detection, Face, Image
from agelens.zoo import find_shipped
from faces import EXAMPLE, background, overlap, portrait, resized
from pictures import exif_block
from stand_in import make_spec, model_bytes


@pytest.fixture(scope="module")
def analyzer(stand_in: Path) -> Analyzer:
    return Analyzer(str(stand_in), threads=2)


@pytest.fixture(scope="module")
def shipped() -> Analyzer:
    try:
        find_shipped("agelens-base")
    except UnknownModelError:
        pytest.skip("needs the model that ships: train and export it with `make model`")
    return Analyzer(threads=1)


def encode(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def large_jpeg(width: int = 4000, height: int = 3000) -> bytes:
    """12 megapixels with faces of several sizes, small and doubtful ones among them."""
    pixels = background(width // 4, height // 4)
    pixels = np.array(PillowImage.fromarray(pixels).resize((width, height), PillowImage.Resampling.BILINEAR))
    for side, x, y in ((900, 200, 300), (300, 1700, 200), (120, 2700, 300), (60, 3200, 900), (40, 3500, 1500)):
        head = resized(portrait()[:300, 80:360], side * 280 // 100, side * 3)
        part = pixels[y : y + head.shape[0], x : x + head.shape[1]]
        part[:] = head[: part.shape[0], : part.shape[1]]
    turned = np.rot90(resized(portrait()[:300, 80:360], 280, 300), 1)
    pixels[2400 : 2400 + turned.shape[0], 3200 : 3200 + turned.shape[1]] = turned
    return encode(pixels, "JPEG", quality=88)


# One picture, many ways in ------------------------------------------------------------------------------------------


def test_path_bytes_pillow_array_and_source_give_the_same_faces(analyzer: Analyzer) -> None:
    by_path = analyzer.predict(str(EXAMPLE))
    assert len(by_path) == 1
    assert by_path[0].age is not None
    with PillowImage.open(EXAMPLE) as picture:
        array = np.asarray(picture.convert("RGB"))
        assert analyzer.predict(picture) == by_path
    assert analyzer.predict(EXAMPLE) == by_path
    assert analyzer.predict(EXAMPLE.read_bytes()) == by_path
    assert analyzer.predict(bytearray(EXAMPLE.read_bytes())) == by_path
    assert analyzer.predict(array) == by_path
    assert analyzer.predict(Source("any name", str(EXAMPLE))) == by_path


def test_every_lossless_container_of_the_same_pixels_gives_the_same_faces(analyzer: Analyzer) -> None:
    pixels = np.asarray(PillowImage.open(io.BytesIO(encode(portrait(), "JPEG", quality=90))))
    by_array = analyzer.predict(pixels)
    assert len(by_array) == 1
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {})):
        assert analyzer.predict(encode(pixels, kind, **options)) == by_array
    assert analyzer.predict(encode(portrait(), "JPEG", quality=90)) == by_array


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_picture_stored_on_its_side_gives_the_same_faces(analyzer: Analyzer, orientation: int) -> None:
    stored = np.rot90(portrait(), {3: 2, 6: 1, 8: 3}[orientation])
    turned = encode(np.ascontiguousarray(stored), "PNG", exif=exif_block(orientation, prefix=False))
    assert analyzer.predict(turned) == analyzer.predict(np.array(portrait()))


def test_a_large_jpeg_and_its_pixels_agree(analyzer: Analyzer) -> None:
    # The JPEG is first decoded at a reduced scale, the array is not: nearly the same, not bit by bit.
    data = encode(resized(portrait(), 3000, 3000), "JPEG", quality=90)
    (reduced,), (full,) = analyzer.predict(data), analyzer.predict(np.asarray(PillowImage.open(io.BytesIO(data))))
    assert np.allclose(reduced.landmarks, full.landmarks, atol=12)  # of faces 530 pixels wide
    assert abs(reduced.age.years - full.age.years) < 0.5
    assert reduced.box.width == pytest.approx(full.box.width, rel=0.02)


def test_a_picture_without_a_face_has_none(analyzer: Analyzer) -> None:
    assert analyzer.predict(background(300, 200)) == []


def test_boxes_are_in_pixels_of_the_full_picture(analyzer: Analyzer) -> None:
    (small,) = analyzer.predict(np.array(portrait()))
    (large,) = analyzer.predict(encode(resized(portrait(), 3072, 3072), "JPEG", quality=90))
    box = small.box
    assert overlap(large.box, Box(6 * box.x, 6 * box.y, 6 * box.width, 6 * box.height)) > 0.8


@pytest.mark.parametrize(
    ("picture", "error"),
    [
        ("no such file.jpg", NotFoundError),
        (b"", InputError),
        (b"no picture at all", InputError),
        (np.zeros((4, 4, 3), np.uint8), InputError),
        (np.zeros((20, 20, 3), np.float32), InputError),
        (None, InputError),
        (3, InputError),
        ("https://example.org/a.jpg", InputError),
    ],
)
def test_what_is_no_picture_raises_an_input_error(analyzer: Analyzer, picture: Any, error: type[InputError]) -> None:
    with pytest.raises(error) as caught:
        analyzer.predict(picture)
    assert caught.value.code != "input_error"
    (report,) = analyzer.stream([picture])
    assert (report.width, report.height, report.faces) == (None, None, ())
    assert report.error == caught.value.to_failure()


def test_names_of_reports_are_the_same_whether_they_failed_or_not(analyzer: Analyzer, tmp_path: Path) -> None:
    copy = tmp_path / "ä b.jpg"
    shutil.copy(EXAMPLE, copy)
    good = [str(copy), copy, EXAMPLE.read_bytes(), np.array(portrait()), PillowImage.fromarray(portrait())]
    closed = PillowImage.open(copy)
    closed.close()
    bad = [str(copy) + "x", Path(f"{copy}x"), b"x", np.zeros((2, 2, 3), np.uint8), PillowImage.new("RGB", (2, 2))]
    names = [report.source for report in analyzer.stream(good)]
    assert names == [str(copy), str(copy), "bytes", "array", "image"]
    failed = list(analyzer.stream(bad))
    assert all(report.error for report in failed)
    assert [report.source for report in failed] == [f"{copy}x", f"{copy}x", "bytes", "array", "image"]
    (report,) = analyzer.stream([closed])
    assert report.source == str(copy)


# Decoding no more than needed ---------------------------------------------------------------------------------------


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sizes of what the decoder gave, one each time."""
    seen: list[tuple[int, int]] = []
    load = decoder._load

    def counted(opened: Any, divisor: int) -> Image:
        image = load(opened, divisor)
        seen.append(image.pixels.shape[:2])
        return image

    monkeypatch.setattr(decoder, "_load", counted)
    return seen


def test_a_large_jpeg_is_decoded_at_most_twice(analyzer: Analyzer, decodings: list[tuple[int, int]]) -> None:
    data = large_jpeg()
    (report,) = analyzer.stream([data])
    assert len(report.faces) >= 5
    assert decodings == [(1500, 2000), (3000, 4000)]


def test_a_large_jpeg_with_one_large_face_is_decoded_once(analyzer: Analyzer, decodings: list[tuple[int, int]]) -> None:
    assert len(analyzer.predict(encode(resized(portrait(), 4000, 4000), "JPEG"))) == 1
    assert decodings == [(2000, 2000)]


def test_a_kept_picture_is_not_decoded_again_for_each_use(analyzer: Analyzer, decodings: list[tuple[int, int]]) -> None:
    (report,) = analyzer.stream([encode(resized(portrait(), 4000, 4000), "JPEG")], keep_images=True)
    for _ in range(3):
        assert report.image.at_scale(1.0).pixels.shape == (4000, 4000, 3)
    assert report.image.at_scale(0.7) is report.image.at_scale(1.0)
    assert decodings == [(2000, 2000), (4000, 4000)]


def test_a_picture_that_breaks_at_the_second_decoding_is_an_error_of_that_picture(
    analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(scale: float) -> Image:
        raise TruncatedImageError("the file ends before the picture does; copy or download it again")

    data = encode(resized(portrait(), 4000, 4000), "JPEG")
    decode = decoder.decode

    def decode_reduced(*args: Any, **options: Any) -> Image:
        image = decode(*args, **options)
        small = resized(image.pixels, 100, 100)
        return Image(small, image.width, image.height, "JPEG", 1, broken)

    monkeypatch.setattr(decoder, "decode", decode_reduced)
    reports = list(analyzer.stream([data, np.array(portrait())]))
    assert reports[0].error.code == "truncated_image"
    assert (reports[0].source, len(reports[1].faces)) == ("bytes", 1)


def test_pictures_are_dropped_as_soon_as_their_crops_are_cut(analyzer: Analyzer) -> None:
    assert next(analyzer.stream([str(EXAMPLE)])).image is None
    prepared = analyzer.prepare(str(EXAMPLE))
    assert prepared.image is None
    assert prepared.crops.nbytes == 32 * 32 * 3


# Crops of one's own -------------------------------------------------------------------------------------------------


def test_crops_give_one_face_each_in_order(analyzer: Analyzer) -> None:
    head = portrait()[40:220, 140:320]
    grey = np.full((50, 40, 3), 200, np.uint8)
    crops = [head, grey, encode(head, "PNG"), EXAMPLE, PillowImage.fromarray(grey)]
    faces = analyzer.predict_crops(crops)
    assert len(faces) == 5
    assert faces[0] == faces[2]
    assert faces[1] == faces[4]
    assert [face.detection_score > 0 for face in faces] == [True, False, True, True, False]
    assert faces[1].box == Box(0.0, 0.0, 40.0, 50.0)
    assert analyzer.predict_crops([]) == []
    assert analyzer.predict_crops(iter([head])) == [faces[0]]


def test_of_a_crop_with_two_faces_the_central_one_counts(analyzer: Analyzer) -> None:
    head = resized(portrait()[40:220, 140:320], 120, 120)
    crop = background(500, 300)
    crop[90:210, 190:310] = head
    crop[5:125, 5:125] = head
    (face,) = analyzer.predict_crops([crop])
    assert face.box.x > 150


def test_a_crop_that_cannot_be_read_is_an_error(analyzer: Analyzer) -> None:
    with pytest.raises(InputError):
        analyzer.predict_crops([portrait(), b"nothing"])


# Settings -----------------------------------------------------------------------------------------------------------


def test_the_task_groups_and_threshold_reach_the_faces(stand_in: Path) -> None:
    (face,) = Analyzer(str(stand_in), task="age", groups="0-12,13+").predict(EXAMPLE)
    assert face.gender is None
    assert face.age.group in ("0-12", "13+")
    (face,) = Analyzer(str(stand_in), task="gender", gender_threshold=1.0).predict(EXAMPLE)
    assert face.age is None
    assert face.gender.label == "unknown"
    assert Analyzer(str(stand_in), min_face=200).predict(EXAMPLE) == []
    assert Analyzer(str(stand_in), min_score=0.99).predict(EXAMPLE) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"task": "ages"}, "task 'ages' is not one of age, gender, both"),
        ({"task": ""}, "task"),
        ({"groups": "0-12,14+"}, "14 where 13 is due"),
        ({"gender_threshold": 1.2}, "gender_threshold is a number from 0 to 1, not 1.2"),
        ({"gender_threshold": float("nan")}, "gender_threshold"),
        ({"min_score": -0.1}, "min_score"),
        ({"min_face": -1}, "min_face"),
        ({"min_face": float("nan")}, "min_face"),
        ({"max_faces": 0}, "max_faces is a whole number of at least 1, not 0"),
        ({"max_faces": 2.5}, "max_faces"),
        ({"threads": 0}, "threads"),
        ({"threads": -2}, "threads"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": None}, "batch_size"),
        ({"min_score": "0.5"}, "min_score is a number from 0 to 1, not '0.5'"),
        ({"gender_threshold": None}, "gender_threshold"),
        ({"min_face": "12"}, "min_face"),
        ({"threads": "2"}, "threads"),
        ({"groups": ["0-12", "13+"]}, "groups is a text"),
        ({"limits": 5}, "limits is an agelens.Limits, not 5"),
        ({"batchsize": 8}, "there is no setting 'batchsize'; did you mean 'batch_size'?"),
        ({"colour": "bgr"}, "there is no setting 'colour'; there are: task, groups"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(stand_in: Path, settings: Any, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        Analyzer(str(stand_in), **settings)
    assert told in caught.value.message
    with pytest.raises(UsageError) as caught:
        agelens.predict(EXAMPLE, str(stand_in), **settings)
    assert told in caught.value.message


def test_what_a_model_cannot_tell_is_not_asked_of_it(tmp_path: Path) -> None:
    path = tmp_path / "age.onnx"
    path.write_bytes(model_bytes(make_spec(tasks=("age",))))
    with pytest.raises(UsageError, match="stand-in tells age and no gender"):
        Analyzer(path, task="gender")
    for task in ("age", "both"):
        (face,) = Analyzer(path, task=task).predict(EXAMPLE)
        assert face.age is not None
        assert face.gender is None


def test_another_file_of_the_same_name_is_another_model(tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    found = []
    for gain in (0.5, 1.0):
        path.write_bytes(model_bytes(gain=gain))
        (face,) = agelens.predict(EXAMPLE, str(path))
        assert face.age is not None
        found.append(face.age.years)
    assert found[1] == pytest.approx(2 * found[0], abs=1)


def test_a_model_is_a_name_or_a_path(stand_in: Path) -> None:
    assert len(Analyzer(stand_in).predict(EXAMPLE)) == 1
    with pytest.raises(UsageError, match="model is the name"):
        Analyzer(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("one", [str(EXAMPLE), EXAMPLE, EXAMPLE.read_bytes(), np.zeros((20, 20, 3), np.uint8), None])
def test_one_picture_is_not_taken_for_several(analyzer: Analyzer, one: Any) -> None:
    for call in (analyzer.predict_crops, lambda pictures: list(analyzer.stream(pictures))):
        with pytest.raises(UsageError, match="put it into a list"):
            call(one)
    assert len(list(analyzer.stream(np.zeros((2, 20, 20, 3), np.uint8)))) == 2


def test_a_picture_that_does_not_fit_the_memory_is_an_error_of_that_picture(analyzer: Analyzer) -> None:
    endless = np.broadcast_to(np.uint8(0), (1 << 24, 1 << 24, 3))  # more than can be addressed
    first, second = analyzer.stream([endless, EXAMPLE])
    assert first.error is not None
    assert first.error.code == "too_many_pixels"
    assert len(second.faces) == 1


def test_a_thread_that_the_system_refuses_is_told(analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(UsageError, match="--threads 1"):
        list(analyzer.stream([EXAMPLE]))


@pytest.mark.parametrize("granted", [1, 2, 3])
def test_fewer_threads_than_asked_for_are_enough_if_the_system_gives_one(
    analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch, granted: int
) -> None:
    start, left = threading.Thread.start, iter(range(granted))

    def grant(thread: threading.Thread) -> None:
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    many = Analyzer(threads=4, detector=analyzer._detector, estimator=analyzer._estimator)
    monkeypatch.setattr(threading.Thread, "start", grant)
    if granted == 1:  # which is for the pictures to come
        with pytest.raises(UsageError, match="--threads 1"):
            list(many.stream([EXAMPLE] * 20))
    else:
        assert [len(report.faces) for report in many.stream([EXAMPLE] * 20)] == [1] * 20


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "task": st.sampled_from(["age", "gender", "both"]),
            "gender_threshold": st.floats(0, 1),
            "min_score": st.floats(0, 1),
            "min_face": st.none() | st.floats(0, 1e4),
            "max_faces": st.none() | st.integers(1, 99),
            "threads": st.none() | st.integers(1, 99),
            "batch_size": st.integers(1, 999),
        },
    )
)
def test_sensible_settings_pass(settings: Settings) -> None:
    check_settings(settings)


def test_threads_default_to_the_cores_of_the_process(stand_in: Path) -> None:
    assert Analyzer(str(stand_in)).threads == room.count_cores()
    if hasattr(os, "sched_getaffinity"):
        assert room.count_cores() == len(os.sched_getaffinity(0))
    assert Analyzer(str(stand_in), threads=3).threads == 3


def test_an_unknown_model_is_told() -> None:
    with pytest.raises(UnknownModelError):
        Analyzer("agelens-giant-9000.onnx")


class EveryCorner:
    """A detector that finds a face in each corner of any picture."""

    def detect(self, image: Image) -> list[Detection]:
        side = min(image.width, image.height) / 3
        boxes = [Box(x, y, side, side) for x in (0.0, image.width - side) for y in (0.0, image.height - side)]
        return [Detection(box, 0.7, assume_landmarks(box)) for box in boxes]


def test_another_detector_and_estimator_can_take_their_places(stand_in: Path) -> None:
    class Constant:
        spec = OnnxEstimator(model_bytes(), name="m").spec
        model = OnnxEstimator(model_bytes(), name="m").model

        def estimate(self, crops: np.ndarray) -> Estimates:
            ages = np.zeros((len(crops), 101), np.float32)
            ages[:, 42] = 1
            return Estimates(ages, np.full(len(crops), 0.25, np.float32))

    faces = Analyzer(detector=EveryCorner(), estimator=Constant()).predict(background(300, 200))
    assert [face.age.years for face in faces] == [42.0] * 4
    assert [face.gender.label for face in faces] == ["male"] * 4
    # And the crops are those of the faces: bright corners are older for the stand-in.
    pixels = np.zeros((300, 300, 3), np.uint8)
    pixels[:150, 150:] = 120
    pixels[150:, 150:] = 240
    faces = Analyzer(str(stand_in), detector=EveryCorner()).predict(pixels)
    years = [face.age.years for face in faces]
    assert years == pytest.approx([4.8, 4.8, 47.0, 94.0], abs=1.5)


def test_many_threads_share_one_analyzer(analyzer: Analyzer) -> None:
    pictures = [np.array(portrait()), resized(portrait(), 300, 300), background(200, 200), EXAMPLE.read_bytes()] * 6
    alone = [analyzer.predict(picture) for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(analyzer.predict, pictures)) == alone


# The model that ships -----------------------------------------------------------------------------------------------


def jpeg(quality: int) -> bytes:
    return encode(portrait(), "JPEG", quality=quality)


def grey() -> np.ndarray:
    return np.repeat(np.asarray(PillowImage.fromarray(portrait()).convert("L"))[:, :, None], 3, axis=2)


CHANGES = {
    "mirrored": lambda: np.ascontiguousarray(portrait()[:, ::-1]),
    "jpeg 60": lambda: jpeg(60),
    "jpeg 30": lambda: jpeg(30),
    "grey": grey,
    "cut by a tenth": lambda: np.ascontiguousarray(portrait()[26:-26, 26:-26]),
    "with a border of a tenth": lambda: np.pad(portrait(), ((26, 26), (26, 26), (0, 0)), mode="edge"),
    "smaller": lambda: resized(portrait(), 360, 360),
    "larger": lambda: resized(portrait(), 1024, 1024),
    "twelve megapixels": lambda: encode(resized(portrait(), 3500, 3500), "JPEG", quality=92),
    "darker": lambda: (portrait() * 0.7).astype(np.uint8),
    "redder": lambda: (portrait() * [1.1, 1.0, 0.9]).clip(0, 255).astype(np.uint8),
    "on its side": lambda: np.ascontiguousarray(np.rot90(portrait(), 1)),
    "upside down": lambda: np.ascontiguousarray(np.rot90(portrait(), 2)),
}


def only_face(analyzer: Analyzer, picture: Any) -> Face:
    (face,) = analyzer.predict(picture)
    return face


@pytest.mark.parametrize("change", CHANGES)
def test_benign_changes_change_little(shipped: Analyzer, change: str) -> None:
    before, after = only_face(shipped, np.array(portrait())), only_face(shipped, CHANGES[change]())
    assert abs(after.age.years - before.age.years) < 4
    assert after.age.low < before.age.years < after.age.high
    assert abs(after.gender.female_probability - before.gender.female_probability) < 0.45
    assert after.gender.label == before.gender.label == "female"


def test_the_shipped_model_knows_the_portrait(shipped: Analyzer) -> None:
    """Eileen Collins was born in November 1956; the picture was taken in 1992 or 1993."""
    face = only_face(shipped, EXAMPLE)
    assert face.age.low <= 36 <= face.age.high
    assert 25 < face.age.years < 45
    assert face.gender.female_probability > 0.8


def test_the_shipped_model_does_not_say_the_same_of_everything(shipped: Analyzer) -> None:
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    pictures = [resized(crop, 64, 64) for crop in crops] + [np.ascontiguousarray(portrait()[40:220, 140:320])]
    years = [face.age.years for face in shipped.predict_crops(pictures)]
    assert np.std(years) > 1
