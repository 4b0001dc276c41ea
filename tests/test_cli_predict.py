"""`agelens predict` as a process: records, order, errors, exit status."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command import COMMAND, EXAMPLE, environment, on_terminal, records, run
from stand_in import make_spec, model_bytes, with_metadata, write_model

NAMES = ["a.jpg", "a.png", "empty.jpg", "nobody.webp", "sub folder/ü #1 100%.jpg"]


def test_a_folder_gives_one_record_a_picture_in_natural_order(photos: Path, stand_in: Path) -> None:
    done = run("predict", photos, "--model", stand_in)
    found = records(done.stdout)
    assert [Path(record["source"]).relative_to(photos).as_posix() for record in found] == NAMES
    assert [len(record["faces"]) for record in found] == [1, 1, 0, 0, 1]
    assert [record["error"] and record["error"]["code"] for record in found] == [None, None, "empty_file", None, None]
    assert done.returncode == 1
    assert "5 pictures, 3 faces, 1 error (empty_file 1), 1 other file skipped" in done.stderr
    assert f"{str(photos / 'empty.jpg')!r}: the file is empty" in done.stderr


def test_a_record_is_that_of_the_contract(stand_in: Path) -> None:
    done = run("predict", EXAMPLE, "--model", stand_in)
    assert done.returncode == 0
    (record,) = records(done.stdout)
    assert list(record) == ["schema", "source", "width", "height", "faces", "model", "error"]
    assert (record["schema"], record["width"], record["height"]) == ("agelens.prediction/1", 512, 512)
    (face,) = record["faces"]
    assert list(face) == ["box", "detection_score", "landmarks", "age", "gender"]
    assert face["box"]["x"] == pytest.approx(180, abs=4)
    assert face["box"]["y"] == pytest.approx(70, abs=4)
    assert list(face["age"]) == ["years", "low", "high", "coverage", "group", "group_probability"]
    assert face["age"]["low"] < face["age"]["years"] < face["age"]["high"]
    assert list(face["gender"]) == ["label", "probability", "female_probability"]
    assert record["model"]["name"] == "stand-in"


def test_quiet_is_quiet(photos: Path, stand_in: Path) -> None:
    done = run("predict", photos, "--model", stand_in, "--quiet")
    assert done.stderr == ""
    assert len(records(done.stdout)) == 5


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("text.jpg", b"hello, I am a text", "unsupported_format"),
        ("empty.png", b"", "empty_file"),
        ("cut.jpg", EXAMPLE.read_bytes()[:30_000], "truncated_image"),
        ("missing.jpg", None, "not_found"),
    ],
)
def test_a_bad_picture_has_a_record_and_the_rest_is_done(
    tmp_path: Path, stand_in: Path, name: str, data: bytes | None, code: str
) -> None:
    bad = tmp_path / name
    if data is not None:
        bad.write_bytes(data)
    done = run("predict", EXAMPLE, bad, EXAMPLE, "--model", stand_in)
    found = records(done.stdout)
    assert done.returncode == 1
    assert [len(record["faces"]) for record in found] == [1, 0, 1]
    assert found[1]["error"]["code"] == code
    assert found[1]["width"] is None
    assert "Traceback" not in done.stderr


def test_strict_stops_at_the_first_bad_picture_and_keeps_what_was_done(tmp_path: Path, stand_in: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = run("predict", EXAMPLE, tmp_path / "none.jpg", EXAMPLE, "--model", stand_in, "--strict", "-o", out)
    assert done.returncode == 1
    found = records(out.read_text("utf-8"))
    assert [record["error"] is None for record in found] == [True, False]


@pytest.mark.parametrize("name", ["-dash.jpg", "http_x.png", "it's 5%.jpg", "[1].jpg", "日本 🙂.jpg", "no ending"])
def test_unusual_names(tmp_path: Path, stand_in: Path, name: str) -> None:
    shutil.copy(EXAMPLE, tmp_path / name)
    done = run("predict", "--model", stand_in, "--", name, cwd=tmp_path)
    (record,) = records(done.stdout)
    assert (record["source"], len(record["faces"]), done.returncode) == (name, 1, 0)


def test_names_on_standard_input(photos: Path, stand_in: Path) -> None:
    names = [str(photos / name) for name in reversed(NAMES)]
    for separator in ("\n", "\0"):
        done = run("predict", "-", "--model", stand_in, "--quiet", stdin=separator.join(names))
        assert [record["source"] for record in records(done.stdout)] == names
        assert done.returncode == 1


def test_a_carriage_return_inside_a_line_belongs_to_the_name(tmp_path: Path, stand_in: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / "a\rb.jpg")
    done = run("predict", "-", "--model", stand_in, stdin=b"a\rb.jpg\r\n", cwd=tmp_path)
    assert [(record["source"], len(record["faces"])) for record in records(done.stdout)] == [("a\rb.jpg", 1)]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, stand_in: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / "a.jpg")
    done = run("predict", "-", "--model", stand_in, stdin="a.jpg\r\n".encode("utf-8-sig"), cwd=tmp_path)
    assert [(record["source"], len(record["faces"])) for record in records(done.stdout)] == [("a.jpg", 1)]


@pytest.mark.parametrize("out", ["/dev/stdout", "/dev/fd/1", "-"])
def test_standard_output_by_its_name_is_standard_output(stand_in: Path, tmp_path: Path, out: str) -> None:
    command = [*COMMAND, "predict", str(EXAMPLE), "--model", str(stand_in), "--format", "csv", "-o", out]
    with (tmp_path / "records").open("wb") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 0
    assert len((tmp_path / "records").read_text().splitlines()) == 2


def test_quiet_says_nothing_of_a_model_s_terms(stand_in: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "mine.onnx", licence="research only (made up)")
    done = run("predict", EXAMPLE, "--model", tmp_path / "mine.onnx")
    assert "for research and not for commercial use" in done.stderr
    done = run("predict", EXAMPLE, "--model", tmp_path / "mine.onnx", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (EXAMPLE.read_bytes(), "standard input holds a picture in the format JPEG"),
        (b"x" * 1_000_000, "standard input holds no names: there is no line break"),
        ("a.jpg\n".encode("utf-16"), "standard input is UTF-16"),
    ],
)
def test_standard_input_that_holds_no_names_is_told(stand_in: Path, stdin: bytes, said: str) -> None:
    done = run("predict", "-", "--model", stand_in, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_undecodable_names_come_back_as_they_were(tmp_path: Path, stand_in: Path) -> None:
    raw = bytes(tmp_path) + b"/\xff\xfe.jpg"
    Path(raw.decode("utf-8", "surrogateescape")).write_bytes(EXAMPLE.read_bytes())
    done = run("predict", "-", "--model", stand_in, stdin=raw + b"\n")
    (record,) = records(done.stdout)
    assert record["source"].encode("utf-8", "surrogateescape") == raw
    assert len(record["faces"]) == 1


def test_web_addresses_need_leave(stand_in: Path) -> None:
    done = run("predict", "http://127.0.0.1:9/x.jpg", "--model", stand_in)
    assert records(done.stdout)[0]["error"]["code"] == "url_not_allowed"
    done = run("predict", "http://127.0.0.1:9/x.jpg", "--model", stand_in, "--allow-url")
    assert records(done.stdout)[0]["error"]["code"] == "url_failed"


def test_options_reach_the_rooms(stand_in: Path) -> None:
    def face(*options: str) -> dict[str, object]:
        return records(run("predict", EXAMPLE, "--model", stand_in, *options).stdout)[0]["faces"][0]

    assert face("--task", "age")["gender"] is None
    assert face("--task", "gender")["age"] is None
    assert face("--groups", "0-17,18+")["age"]["group"] == "18+"  # type: ignore[index]
    assert face("--gender-threshold", "0.9999")["gender"]["label"] == "unknown"  # type: ignore[index]
    for options in (("--min-score", "0.99"), ("--min-face", "300")):
        assert records(run("predict", EXAMPLE, "--model", stand_in, *options).stdout)[0]["faces"] == []
    for options, code in ((("--max-bytes", "100"), "too_many_bytes"), (("--max-pixels", "100"), "too_many_pixels")):
        done = run("predict", EXAMPLE, "--model", stand_in, *options)
        assert records(done.stdout)[0]["error"]["code"] == code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predct"], "did you mean 'predict'?"),
        (["photo.jpg"], "did you mean `agelens predict photo.jpg`?"),
        (["predict"], "Missing argument 'SOURCE"),
        (["predict", "x.jpg", "--task", "ages"], "'ages' is not a choice; did you mean 'age'?"),
        (["predict", "x.jpg", "--format", "xml"], "choose one of table, jsonl, json, csv, parquet"),
        (["predict", "x.jpg", "--tsk", "age"], "--task"),
        (["predict", "x.jpg", "--min-score", "2"], "'2' is not a number from 0 to 1"),
        (["predict", "x.jpg", "--batch-size", "0"], "'0' is not a whole number of at least 1"),
        (["predict", "x.jpg", "--groups", "0-12,14+"], "14 where 13 is due"),
        (["predict", "x.jpg", "--device", "gpu"], "is not a choice"),
        (["predict", "-", "--quiet"], "nothing to read"),
        (["predict", ""], "a SOURCE is empty"),
        (["predict", "x.jpg", "-o", "y.pdf"], "what should 'y.pdf' be?"),
        (["predict", "x.jpg", "-o", "y.mp4"], "is a video's name, and a photo gives a picture"),
        (["models", "shw"], "Did you mean 'show'?"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_to_do(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_pictures_is_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    done = run("predict", tmp_path, "-o", tmp_path / "out.jsonl")
    assert done.returncode == 2
    assert "there is no picture in" in done.stderr
    assert "1 other file" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("kind", ["damaged", "foreign", "future", "broken", "absent", "unknown"])
def test_a_bad_model_exits_with_3_and_leaves_the_output_alone(tmp_path: Path, kind: str) -> None:
    model = tmp_path / "model.onnx"
    data = {
        "damaged": model_bytes()[:-200],
        "foreign": with_metadata(None),
        "future": with_metadata(json.dumps({"schema": "agelens.model/9"})),
        "broken": model_bytes(make_spec(), gain=float("nan")),
    }
    if kind in data:
        model.write_bytes(data[kind])
    out = tmp_path / "out.jsonl"
    out.write_text("from before\n")
    done = run("predict", EXAMPLE, "--model", "agelens-bse" if kind == "unknown" else model, "-o", out)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("agelens predict: ")
    assert "Traceback" not in done.stderr
    if kind != "broken":  # which only shows once it runs
        assert out.read_text() == "from before\n"


def test_a_table_on_a_terminal_and_no_bar_between_its_lines(photos: Path, stand_in: Path) -> None:
    status, shown, said = on_terminal("predict", photos, "--model", stand_in)
    assert status == 1
    lines = shown.splitlines()
    assert len(lines) == 1 + 5
    assert "no face detected" in shown
    assert "empty_file: the file is empty" in shown
    assert said.count("\n") == 1, "the summary alone: the errors stand in the table"


def test_a_bar_on_a_terminal_while_results_go_to_a_file(tmp_path: Path, stand_in: Path) -> None:
    for number in range(150):
        shutil.copy(EXAMPLE, tmp_path / f"{number}.jpg")
    out = tmp_path / "out.jsonl"
    status, shown, _ = on_terminal("predict", tmp_path, "--model", stand_in, "-o", out, stderr_too=True)
    assert status == 0
    assert "/150" in shown, "the total was found out"
    assert "/s" in shown
    assert [json.loads(line)["source"] for line in out.read_text().splitlines()] == [
        str(tmp_path / f"{number}.jpg") for number in range(150)
    ]


def test_garbage_is_collected_while_pictures_stream_and_after_any_end(stand_in: Path) -> None:
    code = f"""
import gc
from agelens.analyzer import Analyzer
from agelens.cli import run

real, seen = Analyzer.stream, []

def stream(self, *arguments, **options):
    seen.append(gc.isenabled())
    return real(self, *arguments, **options)

Analyzer.stream = stream
for source, model, status in (({str(EXAMPLE)!r}, {str(stand_in)!r}, 0), ({str(EXAMPLE)!r}, "none", 3)):
    assert run(["predict", source, "--model", model, "--quiet"]) == status
    assert gc.isenabled()
assert seen == [True]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_detector_is_no_model_to_estimate_with(tmp_path: Path) -> None:
    for name, said in (
        ("yunet", "'yunet' is a detector and no estimator"),
        ("yunett", "there are: agelens-base, agelens-nano."),
    ):
        done = run("predict", EXAMPLE, "--model", name, "-o", tmp_path / "out.jsonl")
        assert done.returncode == 3
        assert said in done.stderr
        assert list(tmp_path.iterdir()) == []


def test_same_face_by_any_way_in(stand_in: Path) -> None:
    import agelens

    (record,) = records(run("predict", EXAMPLE, "--model", stand_in).stdout)
    (face,) = agelens.predict(EXAMPLE, model=str(stand_in))
    assert face.to_dict() == record["faces"][0]
    assert agelens.predict(EXAMPLE.read_bytes(), model=str(stand_in)) == [face]
