"""Video files through `agelens predict`, as users run it, and the reader and the writer by themselves."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from fractions import Fraction
from pathlib import Path
from subprocess import CompletedProcess
from typing import Protocol

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: the extra `video`")

from agelens import cli
from agelens.cli.video_names import find_videos
from agelens.errors import (
    MissingCodecError,
    NoFramesError,
    NotFoundError,
    TruncatedVideoError,
    UnsupportedFormatError,
    UsageError,
)
from agelens.serialise import VIDEO_COLUMNS, read_jsonl
from agelens.video.reader import VideoReader
from agelens.video.writer import VideoWriter
from clips import make_clip, portrait_frames, read_clip
from command import on_terminal, records, run, start
from faces import background

FASTSTART = {"movflags": "faststart"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", portrait_frames(30), sound="aac")


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 seconds: long enough to be stopped in the middle."""
    frames = portrait_frames(250, (640, 360), step=0.5)
    return make_clip(tmp_path_factory.mktemp("clips") / "a.mp4", frames, sound="aac")


class Predict(Protocol):
    def __call__(self, *arguments: str | Path) -> CompletedProcess[str]: ...


@pytest.fixture
def predict(stand_in: Path, capfd: pytest.CaptureFixture[str]) -> Predict:
    """The command in this process, which saves the start of one; `run` is the command as users have it."""

    def call(*arguments: str | Path) -> CompletedProcess[str]:
        capfd.readouterr()
        status = cli.run(["predict", "--model", str(stand_in), "--threads", "2", *map(os.fspath, arguments)])
        return CompletedProcess(arguments, status, *capfd.readouterr())

    return call


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def lines(path: Path) -> list[dict]:
    return records(path.read_text("utf-8"))


# --- the command ---------------------------------------------------------------------------------------------------


def test_an_annotated_copy_records_and_a_row_a_person(stand_in: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = run("predict", "--model", stand_in, "--threads", "2", clip, "-o", out, "--crops", tmp_path / "crops")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("30 frames, 1 track;")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "crops",
        "out.mp4",
        "out.mp4.jsonl",
        "out.mp4.tracks.csv",
    ]
    found = lines(tmp_path / "out.mp4.jsonl")
    assert [record["frame"] for record in found] == list(range(30))
    assert [record["time_seconds"] for record in found] == pytest.approx([i / 25 for i in range(30)], abs=1e-3)
    assert {face["track"] for record in found for face in record["faces"]} == {1}
    xs = [record["faces"][0]["box"]["x"] for record in found]
    assert xs[-1] - xs[0] == pytest.approx(29 * 1.5, abs=5)
    before, after = read_clip(clip), read_clip(out)
    assert after.times == pytest.approx(before.times, abs=1e-3)
    assert (after.sound_codec, after.samples) == ("aac", before.samples)
    assert after.loudness == pytest.approx(before.loudness, rel=0.01)
    changes = [np.abs(a.astype(int) - b).mean() for a, b in zip(after.frames, before.frames, strict=True)]
    assert min(changes) > 0.5
    assert max(changes) < 20
    (row,) = rows_of(tmp_path / "out.mp4.tracks.csv")
    assert (row["track"], row["first_frame"], row["last_frame"], row["frames"]) == ("1", "0", "29", "30")
    assert float(row["age_low"]) <= float(row["age_years"]) <= float(row["age_high"])
    assert row["crop"] == str(tmp_path / "crops" / "clip_1.jpg")
    assert Path(row["crop"]).stat().st_size > 500
    assert len(list(read_jsonl(tmp_path / "out.mp4.jsonl"))) == 30


def test_every_format_of_records_and_summaries(predict: Predict, clip: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = {}
    for ending in ("csv", "parquet", "json"):
        done = predict(clip, "-o", tmp_path / f"r.{ending}", "--tracks", tmp_path / f"t.{ending}", "--every", "5")
        assert done.returncode == 0, done.stderr
    rows["csv"] = rows_of(tmp_path / "r.csv")
    rows["parquet"] = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert list(rows["csv"][0]) == list(rows["parquet"][0]) == list(VIDEO_COLUMNS)
    assert (
        [int(row["frame"]) for row in rows["csv"]]
        == [row["frame"] for row in rows["parquet"]]
        == [0, 5, 10, 15, 20, 25]
    )
    assert {row["track"] for row in rows["parquet"]} == {1}
    tracks = [
        json.loads((tmp_path / "t.json").read_text()),
        parquet.read_table(tmp_path / "t.parquet").to_pylist(),
    ]
    assert tracks[0] == tracks[1]
    assert tracks[0][0]["frames"] == 6


def test_rotation_is_honoured(predict: Predict, tmp_path: Path) -> None:
    upright = predict(make_clip(tmp_path / "up.mp4", portrait_frames(5)))
    boxes = [record["faces"][0]["box"] for record in records(upright.stdout)]
    for degrees in (90, 180, 270):
        turned = [np.ascontiguousarray(np.rot90(f, -degrees // 90)) for f in portrait_frames(5)]
        clip = make_clip(tmp_path / f"{degrees}.mp4", turned, rotation=degrees)
        assert read_clip(clip).rotation % 360 == degrees % 360 or degrees == 180
        done = predict(clip, "-o", tmp_path / "out.mp4")
        found = lines(tmp_path / "out.mp4.jsonl")
        assert done.returncode == 0
        for record, box in zip(found, boxes, strict=True):
            assert (record["width"], record["height"]) == (320, 240)
            assert record["faces"][0]["box"]["x"] == pytest.approx(box["x"], abs=4)
        out = read_clip(tmp_path / "out.mp4")
        assert out.frames[0].shape == (240, 320, 3)
        assert out.rotation == 0


@pytest.mark.parametrize(
    ("name", "codec", "out"),
    [
        ("a.mkv", "libx264", "o.mkv"),
        ("a.avi", "mpeg4", "o.webm"),
        ("a.webm", "libvpx", "o.mov"),
        ("a.avi", "mjpeg", "o.avi"),
    ],
)
def test_containers_codecs_odd_sizes_and_uneven_times(
    predict: Predict, tmp_path: Path, name: str, codec: str, out: str
) -> None:
    odd = codec == "libx264"
    times = [0.0, 0.04, 0.08, 0.4, 0.44, 1.2, 1.24, 1.28] if odd else None
    frames = portrait_frames(8, (321, 241) if odd else (320, 240))
    clip = make_clip(tmp_path / name, frames, codec=codec, times=times)
    done = predict(clip, "-o", tmp_path / out)
    assert done.returncode == 0, done.stderr
    written = read_clip(tmp_path / out)
    assert len(written.frames) == 8
    assert written.frames[0].shape == ((242, 322, 3) if odd else (240, 320, 3))
    assert written.times == pytest.approx(read_clip(clip).times, abs=0.002)
    assert all(len(record["faces"]) == 1 for record in lines(tmp_path / f"{out}.jsonl"))


def test_sound_that_the_container_does_not_take_is_coded_again(predict: Predict, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", portrait_frames(25), sound="pcm_s16le")
    assert predict(clip, "-o", tmp_path / "o.mp4", "--fps", "5").returncode == 0
    before, after = read_clip(clip), read_clip(tmp_path / "o.mp4")
    assert after.sound_codec == "aac"
    assert after.samples == pytest.approx(before.samples, abs=3000)
    assert after.loudness > 0


def test_a_part_and_one_frame_in_three(predict: Predict, clip: Path, tmp_path: Path) -> None:
    done = predict(clip, "-o", tmp_path / "o.mp4", "--start", "0.4", "--end", "0:01", "--every", "3")
    assert done.returncode == 0
    assert done.stderr.startswith("15 frames (5 looked at)")
    assert [record["frame"] for record in lines(tmp_path / "o.mp4.jsonl")] == [10, 13, 16, 19, 22]
    content = read_clip(tmp_path / "o.mp4")
    assert content.times == pytest.approx([i / 25 for i in range(15)], abs=2e-3)
    assert content.samples == pytest.approx(0.6 * 48_000, abs=2100)


def test_start_counts_frames_of_long_groups(predict: Predict, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", portrait_frames(60, step=1.0), options={"g": "20", "bf": "3"})
    done = predict(clip, "--start", "1.9")
    assert [(r["frame"], r["time_seconds"]) for r in records(done.stdout)][:2] == [(48, 1.92), (49, 1.96)]


def test_a_folder_takes_several_and_no_name_twice(predict: Predict, clip: Path, tmp_path: Path) -> None:
    twin = tmp_path / "sub" / "clip.mp4"
    twin.parent.mkdir()
    twin.write_bytes(clip.read_bytes())
    done = predict(clip, twin, "-o", f"{tmp_path}/out/", "--every", "10", "--end", "0.5")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "clip.agelens.mp4",
        "clip.mp4",
        "predictions.jsonl",
        "tracks.csv",
    ]
    assert [(r["source"], r["frame"]) for r in lines(tmp_path / "out" / "predictions.jsonl")] == [
        (str(source), frame) for source in (clip, twin) for frame in (0, 10)
    ]


def test_no_input_is_overwritten_by_the_copy_of_another(predict: Predict, clip: Path, tmp_path: Path) -> None:
    inputs = [tmp_path / "trip.mpg", tmp_path / "trip.mp4"]
    for path in inputs:
        path.write_bytes(clip.read_bytes())
    for _ in range(2):
        # A pattern leaves the copies of the first run out.
        done = predict(inputs[0], tmp_path / "trip*.mp4", "-o", tmp_path, "--every", "10", "--end", "0.2")
        assert done.returncode == 0, done.stderr
        assert [path.read_bytes() == clip.read_bytes() for path in inputs] == [True, True]
        assert {record["source"] for record in lines(tmp_path / "predictions.jsonl")} == {str(path) for path in inputs}
        copies = {path.name for path in tmp_path.glob("*.agelens*")}
        assert copies == {"trip.agelens.mp4", "trip.agelens-2.mp4"}
    assert predict(tmp_path / "*.agelens.mp4", "-o", tmp_path).returncode == 2
    assert predict(tmp_path / "trip.agelens.mp4", "-o", tmp_path, "--end", "0.1").returncode == 0, (
        "what is named is meant"
    )


def test_crops_of_two_videos_of_one_name(predict: Predict, clip: Path, tmp_path: Path) -> None:
    twin = make_clip(tmp_path / "CLIP.mp4", portrait_frames(5, step=0.0, start=200.0))
    done = predict(clip, twin, "-o", tmp_path / "r.jsonl", "--crops", tmp_path, "--tracks", tmp_path / "t.csv")
    assert done.returncode == 0, done.stderr
    crops = [tmp_path / name for name in ("clip_1.jpg", "CLIP.agelens_1.jpg")]
    assert [row["crop"] for row in rows_of(tmp_path / "t.csv")] == [str(crop) for crop in crops]
    assert sorted(tmp_path.glob("*.jpg")) == sorted(crops)
    assert crops[0].read_bytes() != crops[1].read_bytes()


def test_a_video_that_was_not_written_is_not_told(predict: Predict, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "stale.mp4"
    out.write_bytes(clip.read_bytes())
    for arguments in ([clip, "--start", "5"], [tmp_path / "none.mp4"]):
        done = predict(*arguments, "-o", out)
        assert done.returncode == 1
        assert done.stderr.rstrip().endswith(f" -> {out}.jsonl, {out}.tracks.csv")
        assert out.read_bytes() == clip.read_bytes()
    assert f" -> {out}, {out}.jsonl" in predict(clip, "--end", "0.1", "-o", out).stderr


def test_patterns_of_videos(tmp_path: Path) -> None:
    for name in ("2.mp4", "10.mp4", ".3.mp4", "far/4.mp4", "5.mp4/6.mkv", "5.mp4/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("far")
    (tmp_path / "far" / "up").symlink_to(tmp_path)
    expected = [str(tmp_path / name) for name in ("2.mp4", "5.mp4/6.mkv", "10.mp4", "far/4.mp4")]
    assert find_videos([f"{tmp_path}/*.mp4"]) == expected[:3]
    assert find_videos([f"{tmp_path}/**/*.mp4"]) == expected
    assert find_videos([f"{tmp_path}/*.mkv"]) == [f"{tmp_path}/*.mkv"]
    for pattern in ("*.m*", "*.mp?", "[0-9]*", "5.mp4/*.mk*"):
        (tmp_path / "5.mp4/notes.txt").unlink(missing_ok=True)
        assert find_videos([f"{tmp_path}/{pattern}"]) == (expected[1:2] if "mk" in pattern else expected[:3])
    (tmp_path / "2.txt").touch()
    assert find_videos([f"{tmp_path}/[0-9]*"]) == [], "not all are videos"
    assert find_videos([f"{tmp_path}/*.jpg"]) == []
    with pytest.raises(UsageError, match="calls of their own"):
        find_videos([f"{tmp_path}/*.mp?", f"{tmp_path}/*.txt"])


def test_videos_where_photos_are_read_are_told(predict: Predict, clip: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mkv", "notes.txt"):
        (tmp_path / name).write_bytes(clip.read_bytes() if name != "notes.txt" else b"notes")
    for named in (f"{tmp_path}/*", tmp_path):
        done = predict(named)
        assert done.returncode == 2
        assert "3 other files were passed over, of them 2 videos: name them, or end a pattern in .mp4" in done.stderr
    (tmp_path / "notes.txt").unlink()
    done = predict(f"{tmp_path}/*", "--every", "30")
    assert [record["source"] for record in records(done.stdout)] == [f"{tmp_path}/a.mp4", f"{tmp_path}/b.mkv"]


def test_without_tracks_each_frame_stands_for_itself(predict: Predict, clip: Path) -> None:
    done = predict(clip, "--no-track", "--end", "0.3")
    found = records(done.stdout)
    assert len(found) == 8
    assert all("track" not in face for record in found for face in record["faces"])


def test_nobody_in_the_clip_is_a_success_that_says_so(predict: Predict, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", [background(320, 240, 3)] * 4)
    done = predict(clip, "-o", tmp_path / "o.mp4")
    assert done.returncode == 0
    assert [record["faces"] for record in lines(tmp_path / "o.mp4.jsonl")] == [[]] * 4
    middle = read_clip(tmp_path / "o.mp4").frames[1][100:140, 60:260]
    assert middle.min() < 60  # the plate
    assert middle.max() > 230  # the letters of NO FACE DETECTED
    assert (tmp_path / "o.mp4.tracks.csv").read_text().count("\n") == 1


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_truncated_file_keeps_what_was_decoded(predict: Predict, tmp_path: Path) -> None:
    whole = make_clip(tmp_path / "whole.mp4", portrait_frames(100), muxer=FASTSTART, options={"g": "10"})
    clip = tmp_path / "cut.mp4"
    clip.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    done = predict(clip, "-o", tmp_path / "o.mp4", "--every", "4")
    assert done.returncode == 1
    assert "truncated" in done.stderr
    *kept, last = lines(tmp_path / "o.mp4.jsonl")
    assert len(kept) >= 8
    assert all(record["error"] is None and record["faces"] for record in kept)
    assert last["error"]["code"] == "truncated_video"
    assert len(read_clip(tmp_path / "o.mp4").frames) >= 30


@pytest.mark.parametrize(("name", "out"), [("a.mp4", "o.mp4"), ("a.mkv", "o.webm"), ("a.mp4", "o.mkv")])
def test_a_last_frame_that_stays_is_no_truncation(predict: Predict, tmp_path: Path, name: str, out: str) -> None:
    clip = make_clip(tmp_path / name, portrait_frames(12), options={"bf": "0"}, stay=4.0)
    done = predict(clip, "-o", tmp_path / out, "--every", "6")
    assert done.returncode == 0, done.stderr
    assert [record["error"] for record in lines(tmp_path / f"{out}.jsonl")] == [None, None]
    written = read_clip(tmp_path / out)
    assert (written.times[-1], written.last) == pytest.approx((11 / 25, 4.0), abs=2e-3)
    assert predict(clip, "-o", tmp_path / out, "--every", "6", "--end", "1.0").returncode == 0
    assert read_clip(tmp_path / out).last == pytest.approx(1.0 - 11 / 25, abs=2e-3)


@pytest.mark.parametrize("out", ["r.jsonl", "o.mp4"])
def test_sound_that_outlasts_the_picture_is_no_truncation(predict: Predict, tmp_path: Path, out: str) -> None:
    clip = make_clip(tmp_path / "a.flv", portrait_frames(25), sound="aac", sound_seconds=4.0)
    done = predict(clip, "-o", tmp_path / out, "--every", "5")
    assert (done.returncode, "truncated" in done.stderr) == (0, False)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    done = predict(clip, "-o", tmp_path / out, "--every", "5")
    assert (done.returncode, "truncated" in done.stderr) == (1, True)


def test_a_file_without_its_index_says_so(tmp_path: Path) -> None:
    whole = make_clip(tmp_path / "whole.mp4", portrait_frames(20))
    clip = tmp_path / "cut.mp4"
    clip.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(TruncatedVideoError, match="ends before its index"):
        VideoReader(clip)


def test_a_bad_input_has_a_record_and_the_next_goes_on(predict: Predict, clip: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video at all" * 100)
    empty = tmp_path / "empty.mkv"
    empty.touch()
    done = predict(bad, empty, tmp_path / "none.mp4", clip, "--every", "15", "-o", tmp_path / "r.csv")
    assert done.returncode == 1
    rows = rows_of(tmp_path / "r.csv")
    assert [row["error_code"] for row in rows] == ["unsupported_format", "empty_file", "not_found", "", ""]
    assert [row["track"] for row in rows] == ["", "", "", "1", "1"]


def test_typed_errors_of_the_reader(tmp_path: Path) -> None:
    import av

    with pytest.raises(NotFoundError):
        VideoReader(tmp_path / "none.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("hello " * 200)
    with pytest.raises(UnsupportedFormatError, match="it holds a text"):
        VideoReader(text)
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=48_000)
        stream.codec_context.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(NoFramesError, match="only audio"):
        VideoReader(sound)
    unknown = tmp_path / "unknown.mp4"
    unknown.write_bytes(make_clip(tmp_path / "a.mp4", portrait_frames(3)).read_bytes().replace(b"avc1", b"zzz1"))
    with pytest.raises(MissingCodecError, match="doesn't decode"):
        VideoReader(unknown)
    with VideoReader(make_clip(tmp_path / "b.mp4", portrait_frames(3)), start=50.0) as reader:
        assert list(reader.read_frames()) == []
        assert isinstance(reader.failure, NoFramesError)


def spoil(clip: Path, begin: float, end: float) -> None:
    """Overwrites that part of a file with bytes of chance."""
    data = bytearray(clip.read_bytes())
    first, last = int(begin * len(data)), int(end * len(data))
    data[first:last] = np.random.default_rng(1).bytes(last - first)
    clip.write_bytes(bytes(data))


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mov", "mpeg4"), ("a.avi", "mpeg4")])
def test_damage_in_the_middle_is_an_error_at_the_end(predict: Predict, tmp_path: Path, name: str, codec: str) -> None:
    clip = make_clip(tmp_path / name, portrait_frames(50, step=1.0), codec=codec, options={"g": "12"})
    spoil(clip, 0.35, 0.6)
    done = predict(clip, "-o", tmp_path / "o.mp4", "--every", "5")
    assert done.returncode == 1
    *kept, last = lines(tmp_path / "o.mp4.jsonl")
    assert len(kept) >= 4
    assert all(record["error"] is None for record in kept)
    assert kept[-1]["time_seconds"] > 1.2, "what lies behind the damage is read"
    assert last["error"]["code"] == "corrupt_video"
    assert len(read_clip(tmp_path / "o.mp4").frames) >= 20


@pytest.mark.parametrize("ending", ["mkv", "ts"])
def test_what_is_kept_of_formats_that_tell_no_damage(tmp_path: Path, ending: str) -> None:
    clip = make_clip(tmp_path / f"a.{ending}", portrait_frames(60), options={"g": "10"})
    spoil(clip, 0.35, 0.6)
    with VideoReader(clip) as reader:
        frames = list(reader.read_frames())
    assert 20 <= len(frames) < 60
    assert frames[-1].seconds == pytest.approx(59 / 25, abs=0.01)


def test_times_go_on_where_recordings_were_joined(predict: Predict, tmp_path: Path) -> None:
    part = make_clip(tmp_path / "a.ts", portrait_frames(50, step=1.0), sound="aac")
    clip = tmp_path / "twice.ts"
    clip.write_bytes(2 * part.read_bytes())
    done = predict(clip, "-o", tmp_path / "o.mp4", "--every", "10")
    assert done.returncode == 0, done.stderr
    times = [record["time_seconds"] for record in lines(tmp_path / "o.mp4.jsonl")]
    assert times == pytest.approx([0.4 * i for i in range(10)], abs=0.1)
    before, after = read_clip(part), read_clip(tmp_path / "o.mp4")
    assert len(after.times) == 100
    assert np.diff(after.times) == pytest.approx(0.04, abs=0.1)
    assert after.times[-1] == pytest.approx(99 / 25, abs=0.1)
    assert after.samples == pytest.approx(2 * before.samples, abs=0.15 * 48_000), "but for the overlap"
    late = predict(clip, "--start", "3.0", "--every", "10")
    assert [record["frame"] for record in records(late.stdout)] == pytest.approx([75, 85, 95], abs=2)


def test_a_recording_that_begins_in_the_middle_is_not_damaged(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.ts", portrait_frames(60), options={"g": "12", "bf": "2"})
    clip.write_bytes(clip.read_bytes()[188 * 40 :])
    with VideoReader(clip) as reader:
        frames = list(reader.read_frames())
    assert 20 <= len(frames) < 60
    assert (reader.failure, reader.damaged) == (None, 0)


@pytest.mark.parametrize("ending", ["mp4", "ts", "mkv"])
def test_groups_that_build_on_those_before_are_not_damaged(tmp_path: Path, ending: str) -> None:
    options = {"g": "12", "bf": "2", "x264-params": "open-gop=1"}
    clip = make_clip(tmp_path / f"a.{ending}", portrait_frames(60), options=options)
    for begin in (0.0, 0.7, 1.1):
        with VideoReader(clip, start=begin) as reader:
            assert len(list(reader.read_frames())) == pytest.approx(60 - begin * 25, abs=1)
        assert (reader.failure, reader.damaged) == (None, 0)


@pytest.mark.parametrize("kind", ["a.mkv", "a.mp4"])
@pytest.mark.parametrize("rate", [1, 5])
def test_frames_coded_out_of_order_at_a_slow_rate_keep_their_times(tmp_path: Path, kind: str, rate: int) -> None:
    options = {"bf": "3", "b-adapt": "0", "x264-params": "bframes=3:b-adapt=0"}
    clip = make_clip(tmp_path / kind, portrait_frames(20), rate=rate, options=options)
    for begin in (0.0, 8 / rate):
        with VideoReader(clip, start=begin) as reader:
            times = np.array([frame.seconds for frame in reader.read_frames()])
            assert reader.failure is None
        np.testing.assert_allclose(times, np.arange(20)[np.arange(20) / rate >= begin - 1e-6] / rate, atol=0.002)


def test_bursts_at_a_slow_nominal_rate_keep_their_times(tmp_path: Path) -> None:
    times = [n + b / 30 for n in range(0, 8, 2) for b in range(5)]
    clip = make_clip(tmp_path / "a.mkv", portrait_frames(len(times)), rate=1, times=times)
    with VideoReader(clip) as reader:
        found = [frame.seconds for frame in reader.read_frames()]
    np.testing.assert_allclose(found, times, atol=0.002)


def test_a_missing_encoder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    def refuse(name: str, mode: str = "r") -> None:
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(av.codec, "Codec", refuse)
    with pytest.raises(MissingCodecError, match="encodes none of libx264"):
        VideoWriter(tmp_path / "o.mp4", (320, 240), Fraction(25))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{clip}", "photo.jpg"], "calls of their own"),
        (["{clip}", "-o", "out.jpg"], "is a picture's name"),
        (["{clip}", "{clip}", "-o", "out.mp4"], "one video and there are several"),
        (["{clip}", "-o", "{clip}"], "overwrite the input"),
        (["{clip}", "--start", "3", "--end", "2"], "does not lie after"),
        (["{clip}", "-o", "r.csv", "--tracks", "./r.csv"], "the tracks would overwrite the records"),
        (["{clip}", "-o", "o.mp4", "--tracks", "o.mp4.jsonl"], "the tracks would overwrite the records"),
        (["{clip}", "-o", "o/", "--tracks", "o/predictions.jsonl"], "the tracks would overwrite the records"),
        (["{clip}", "--tracks", "t.txt"], "must end in one of"),
        (["{clip}", "--tracks", "t.csv", "--no-track"], "leave one of them out"),
        (["{clip}", "--start", "x"], "is no time"),
        (["{clip}", "-o", "out.xyz"], "Records end in"),
    ],
)
def test_wrong_usage(predict: Predict, clip: Path, arguments: list[str], words: str) -> None:
    done = predict(*(argument.format(clip=clip) for argument in arguments))
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_stopped_in_the_middle(stand_in: Path, long_clip: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "o.mp4"
    process = start("predict", "--model", stand_in, long_clip, "-o", out)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        parts = [path for path in tmp_path.glob(".o.mp4.*.part") if ".jsonl" not in path.name]
        written = [path for path in tmp_path.glob(".o.mp4.jsonl.*.part") if path.stat().st_size > 50_000]
        if parts and written and parts[0].stat().st_size > 100_000:
            break
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        out, found = parts[0], written[0].read_text().splitlines()[:-1]
    else:
        assert process.returncode == 128 + number
        assert b"interrupted" in errors
        found = (tmp_path / "o.mp4.jsonl").read_text().splitlines()
        assert not list(tmp_path.glob(".o.mp4*"))
        assert (tmp_path / "o.mp4.tracks.csv").read_text().count("\n") == 2
    decoded = [json.loads(line) for line in found]
    assert 20 <= len(decoded) < 250
    content = read_clip(out)
    assert len(content.frames) >= (len(decoded) if number != signal.SIGKILL else 25)
    assert [r["frame"] for r in decoded] == list(range(len(decoded)))


@pytest.mark.parametrize("height", [240, 720])
def test_colours_come_through(tmp_path: Path, height: int) -> None:
    colours = [(200, 40, 40), (40, 180, 60), (50, 60, 200), (128, 128, 128)]
    with VideoWriter(tmp_path / "a.mp4", (320, height), Fraction(25)) as video:
        for i, colour in enumerate(colours):
            video.write(np.full((height, 320, 3), colour, np.uint8), i / 25)
    with VideoReader(tmp_path / "a.mp4") as reader:
        for frame, colour in zip(reader.read_frames(), colours, strict=True):
            np.testing.assert_allclose(frame.read_pixels()[50:80, 50:80].mean(axis=(0, 1)), colour, atol=4)


def test_colours_that_ffmpeg_does_not_convert(predict: Predict, clip: Path, tmp_path: Path) -> None:
    ycgco, constant, plain = 8, 10, 9
    frames = list(portrait_frames(10))
    means = []
    for matrix in (constant, plain):
        with VideoReader(make_clip(tmp_path / f"{matrix}.mp4", frames, colours=matrix)) as reader:
            means.append([frame.read_pixels().mean(axis=(0, 1)) for frame in reader.read_frames()])
    np.testing.assert_allclose(means[0], means[1], atol=1)
    assert len(means[0]) == 10
    strange = make_clip(tmp_path / "strange.mp4", frames, colours=ycgco)
    done = predict(strange, clip, "-o", tmp_path / "r.jsonl", "--every", "10")
    assert done.returncode == 1
    found = lines(tmp_path / "r.jsonl")
    assert [record["error"] and record["error"]["code"] for record in found] == ["missing_codec", None, None, None]
    assert "matrix 8" in found[0]["error"]["message"]


@pytest.mark.parametrize("every", [1, 4])
def test_colours_that_change_to_unknown_ones_end_with_an_error(predict: Predict, tmp_path: Path, every: int) -> None:
    frames, clip = list(portrait_frames(30, step=1.0)), tmp_path / "mix.ts"
    parts = [
        make_clip(tmp_path / "1.ts", frames[:15], options={"bf": "0"}),
        make_clip(
            tmp_path / "2.ts", frames[15:], options={"bf": "0"}, colours=8, times=[i / 25 for i in range(15, 30)]
        ),
    ]
    clip.write_bytes(b"".join(part.read_bytes() for part in parts))
    done = predict(clip, "-o", tmp_path / "o.mp4", "--every", str(every))
    assert done.returncode == 1
    *kept, last = lines(tmp_path / "o.mp4.jsonl")
    assert [record["frame"] for record in kept] == list(range(0, 15, every))
    assert last["error"]["code"] == "missing_codec"
    assert len(read_clip(tmp_path / "o.mp4").frames) == 15


def test_what_ends_the_reading_thread_is_raised(stand_in: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agelens import Analyzer
    from agelens.video import reader as module
    from agelens.video.analysis import ClipAnalysis, Pace

    read = module.Frame.read_pixels

    def fail(frame: module.Frame) -> np.ndarray:
        if frame.number == 12:
            raise MemoryError("no room")
        return read(frame)

    monkeypatch.setattr(module.Frame, "read_pixels", fail)
    shown: list[int] = []
    with VideoReader(clip) as opened:
        analysis = ClipAnalysis(Analyzer(str(stand_in), threads=1), opened, "clip", pace=Pace())
        with pytest.raises(MemoryError, match="no room"):
            shown.extend(frame.frame.number for frame in analysis.run())
    assert shown == list(range(12))


# --- the writer by itself ------------------------------------------------------------------------------------------


def test_the_writer_gives_a_plain_file_and_no_empty_one(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", (64, 48), Fraction(25)) as video:
        for i in range(120):
            video.write(np.full((48, 64, 3), 2 * i, np.uint8), i / 25)
    data = (tmp_path / "a.mp4").read_bytes()
    assert b"moov" in data
    assert len(read_clip(tmp_path / "a.mp4").frames) == 120
    with VideoWriter(tmp_path / "b.mp4", (64, 48), Fraction(25)) as video:
        assert video.is_empty
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    with pytest.raises(UsageError, match="ends in one of"):
        VideoWriter(tmp_path / "c.txt", (64, 48), Fraction(25))


def test_a_terminal_shows_people_and_the_time_left(stand_in: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", portrait_frames(60, step=1.0))
    status, shown, _ = on_terminal("predict", "--model", stand_in, "--threads", "1", clip, stderr_too=True)
    assert status == 0
    assert "frames/s" in shown
    assert "/60" in shown
    assert "track" in shown
    assert "0.0 to 2.4" in shown
    assert "60 frames, 1 track" in shown
