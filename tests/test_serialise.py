"""Records, their files, and what is left when writing goes wrong."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import stat
import subprocess
import sys
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import agelens.outfile
import agelens.serialise.parquet
from agelens.errors import (
    DiskFullError,
    MissingPackageError,
    NotFoundError,
    OutputError,
    OutputUnwritableError,
    RecordError,
    UnknownSchemaError,
    UsageError,
)
from agelens.serialise import (
    COLUMNS,
    VIDEO_COLUMNS,
    format_of,
    open_writer,
    read_jsonl,
    report_from_dict,
    to_record,
    to_rows,
)
from agelens.serialise import record as record_module
from agelens.types import SCHEMA, Age, Box, Face, Failure, Gender, ModelId, Report
from agelens.wording import describe_age, describe_briefly, describe_gender, describe_group

MODEL = ModelId("agelens-base", "ab" * 32)
FILES = ("jsonl", "json", "csv", "parquet")
TMP = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCHEMA_PATH = Path(record_module.__file__).with_name("prediction.schema.json")

lengths = st.floats(-500, 20_000)
probabilities = st.floats(0, 1)
points = st.tuples(lengths, lengths)
# Everything a file name may hold, undecodable bytes included.
names = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0") | st.sampled_from("\udc80\udcff,\"'\n\r=+@-\t "),
    min_size=1,
    max_size=30,
)
ages = st.builds(Age, *[st.floats(0, 110)] * 3, st.just(0.9), st.sampled_from(["(25, 32)", "60+"]), probabilities)
genders = st.builds(Gender, st.sampled_from(["female", "male", "unknown"]), st.floats(0.5, 1), probabilities)
boxes = st.builds(Box, lengths, lengths, st.floats(0, 9000), st.floats(0, 9000))
faces = st.builds(Face, boxes, probabilities, st.tuples(*[points] * 5), st.none() | ages, st.none() | genders)
found = st.builds(
    Report,
    names,
    st.integers(1, 60_000),
    st.integers(1, 60_000),
    st.lists(faces, max_size=4).map(tuple),
    st.just(MODEL),
)
failed = st.builds(
    Report, names, st.none(), st.none(), st.just(()), st.just(MODEL), st.builds(Failure, st.just("empty_file"), names)
)
reports = st.lists(found | failed, max_size=5)


def make_face(x: float = 10.0) -> Face:
    landmarks = tuple((x + i, 20.5 + i) for i in range(5))
    age = Age(31.4, 24.0, 39.5, 0.9, "(25, 32)", 0.61)
    return Face(Box(x, 20.9, 96.0, 121.5), 0.98, landmarks, age, Gender("female", 0.97, 0.97))


def make_report(source: str = "family.jpg", count: int = 1) -> Report:
    return Report(source, 1200, 800, tuple(make_face(100.0 * i) for i in range(count)), MODEL)


FAILED = Report("bad.jpg", None, None, (), MODEL, Failure("empty_file", "the file has no bytes; get it again"))


def write_all(path: Path, items: list[Report]) -> None:
    with open_writer(path) as writer:
        for item in items:
            writer.write(item)


def write_numbered(target: object, count: int, name: str | None = None) -> None:
    """Writes reports whose sources are 0, 1, ..."""
    with open_writer(target, name) as writer:
        for i in range(count):
            writer.write(make_report(str(i)))


def read_rows(path: Path) -> list[dict[str, object]]:
    """Rows of any format as plain values, None where empty, lone surrogates as six characters."""
    if path.suffix == ".parquet":
        return pq.read_table(io.BytesIO(path.read_bytes())).to_pylist()
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
        return [{k: COLUMNS[k](v) if v != "" else None for k, v in row.items()} for row in table]
    if path.suffix == ".json":
        records = json.loads(path.read_text("utf-8"))
    else:
        records = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    return [
        {k: v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for k, v in row.items()}
        for record in records
        for row in to_rows(record)
    ]


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# --- the record ----------------------------------------------------------------------------------------------------


def test_the_record_of_the_contract_is_written_as_it_stands_there():
    landmarks = ((430.1, 160.2), (471.9, 158.8), (452.0, 184.4), (434.6, 209.1), (469.3, 207.7))
    face = replace(make_face(), box=Box(410.2, 120.9, 96.0, 121.5), landmarks=landmarks)
    out = io.StringIO()
    open_writer(out).write(Report("family.jpg", 1200, 800, (face,), ModelId("agelens-base", "...")))
    assert out.getvalue() == (
        '{"schema": "agelens.prediction/1", "source": "family.jpg", "width": 1200, "height": 800, "faces": [{"box": '
        '{"x": 410.2, "y": 120.9, "width": 96.0, "height": 121.5}, "detection_score": 0.98, "landmarks": '
        "[[430.1, 160.2], [471.9, 158.8], [452.0, 184.4], [434.6, 209.1], [469.3, 207.7]], "
        '"age": {"years": 31.4, "low": 24.0, "high": 39.5, "coverage": 0.9, "group": "(25, 32)", '
        '"group_probability": 0.61}, "gender": {"label": "female", "probability": 0.97, "female_probability": 0.97}}], '
        '"model": {"name": "agelens-base", "sha256": "..."}, "error": null}\n'
    )


@TMP
@given(found | failed)
def test_report_to_record_and_back_is_equal_up_to_rounding(report):
    record = to_record(report)
    back = report_from_dict(json.loads(json.dumps(record)))
    assert back.to_dict() == record
    assert report_from_dict(back.to_dict()) == back
    for one, other in zip(report.faces, back.faces, strict=True):
        assert abs(one.box.x - other.box.x) <= 0.00501
        assert abs(one.detection_score - other.detection_score) <= 0.0000501


@TMP
@given(found | failed)
def test_every_record_fits_the_json_schema(report):
    Draft202012Validator(json.loads(SCHEMA_PATH.read_text("utf-8"))).validate(to_record(report))


def test_the_json_schema_names_exactly_the_members_of_a_record():
    schema = json.loads(SCHEMA_PATH.read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    record, face, parts = to_record(make_report()), to_record(make_report())["faces"][0], schema["$defs"]
    assert schema["required"] == list(record)
    assert parts["face"]["required"] == list(face)
    frame = make_report()
    frame = replace(frame, frame=3, time_seconds=0.1, faces=(replace(frame.faces[0], track=1),))
    assert list(schema["properties"]) == list(to_record(frame))
    assert list(parts["face"]["properties"]) == list(to_record(frame)["faces"][0])
    assert list(parts["age"]["properties"]) == list(face["age"])
    assert list(parts["gender"]["properties"]) == list(face["gender"])
    assert schema["properties"]["schema"]["const"] == SCHEMA


@pytest.mark.parametrize(
    "change",
    [
        {"width": 1.5},
        {"schema": "agelens.prediction/2"},
        {"faces": [{}]},
        {"error": {"code": "x", "message": "m"}},
        {"error": {"code": "Bad Code", "message": "m"}, "faces": []},
        {"height": None},
    ],
)
def test_the_json_schema_refuses_what_is_no_record(change):
    validator = Draft202012Validator(json.loads(SCHEMA_PATH.read_text("utf-8")))
    record = to_record(make_report())
    assert validator.is_valid(record)
    assert not validator.is_valid(record | change)


@pytest.mark.parametrize(
    ("face", "where"),
    [
        (replace(make_face(), detection_score=math.nan), "detection_score"),
        (replace(make_face(), detection_score=np.float64(0.5)), "numpy.float64"),
        (replace(make_face(), box=Box(np.float32(1.0), 0.0, 1.0, 1.0)), "numpy.float32"),
        (replace(make_face(), age=Age(math.inf, 1.0, 2.0, 0.9, "x", 0.5)), "age.years"),
        (replace(make_face(), landmarks=((math.nan, 1.0),)), "landmarks[0][0]"),
    ],
)
def test_a_value_that_json_has_no_place_for_is_refused_and_the_rest_goes_on(tmp_path, face, where):
    path = tmp_path / "out.jsonl"
    with open_writer(path) as writer:
        writer.write(make_report("a"))
        with pytest.raises(RecordError) as caught:
            writer.write(replace(make_report("b"), faces=(face,)))
        writer.write(make_report("c"))
    assert where in caught.value.message
    assert [r.source for r in read_jsonl(path)] == ["a", "c"]


@pytest.mark.parametrize("schema", ["agelens.prediction/2", None, 1])
def test_an_unknown_schema_is_refused_by_name(schema):
    with pytest.raises(UnknownSchemaError, match=r"agelens\.prediction/1") as caught:
        report_from_dict(make_report().to_dict() | {"schema": schema})
    assert caught.value.code == "unknown_schema"


def _without(path: str) -> dict[str, object]:
    record = json.loads(json.dumps(make_report().to_dict()))
    *way, last = path.split(".")
    inner = record
    for step in way:
        inner = inner[int(step) if step.isdigit() else step]
    del inner[last]
    return record


@pytest.mark.parametrize(
    "missing", ["source", "faces", "model", "model.sha256", "faces.0.box", "faces.0.box.x", "faces.0.age.group"]
)
def test_a_missing_member_is_named(missing):
    with pytest.raises(RecordError, match=missing.rsplit(".", maxsplit=1)[-1]):
        report_from_dict(_without(missing))


@pytest.mark.parametrize(
    "change",
    [
        {"source": 3},
        {"width": "1200"},
        {"width": True},
        {"faces": {}},
        {"faces": [3]},
        {"faces": [make_face().to_dict() | {"landmarks": [[1, 2, 3]]}]},
        {"faces": [make_face().to_dict() | {"detection_score": math.nan}]},
        {"faces": [make_face().to_dict() | {"box": {"x": 0, "y": 0, "width": -1, "height": 1}}]},
        {"faces": [make_face().to_dict() | {"gender": {"label": "f", "probability": 1, "female_probability": 1}}]},
    ],
)
def test_a_member_of_the_wrong_kind_is_refused(change):
    with pytest.raises(RecordError):
        report_from_dict(make_report().to_dict() | change)


def test_members_of_later_versions_are_ignored():
    record = make_report().to_dict() | {"weather": 3, "mood": 0.1}
    assert report_from_dict(record) == make_report()


def test_a_frame_of_a_video_comes_back_with_its_number_time_and_tracks(tmp_path):
    report = make_report()
    frame = replace(report, frame=3, time_seconds=0.12, faces=(replace(report.faces[0], track=7),))
    again = report_from_dict(json.loads(json.dumps(to_record(frame))))
    assert (again.frame, again.time_seconds, again.faces[0].track) == (3, 0.12, 7)
    with open_writer(tmp_path / "out.csv", video=True) as writer:
        writer.write(frame)
        writer.write(replace(frame, frame=4, time_seconds=0.16, faces=()))
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(VIDEO_COLUMNS)
    assert [(row["frame"], row["time_seconds"], row["track"]) for row in rows] == [
        ("3", "0.12", "7"),
        ("4", "0.16", ""),
    ]


@pytest.mark.parametrize("line", [b'{"schema": "agelens', b'{"a": NaN}', b"[1]", b"\xff\xfe"])
def test_a_broken_line_is_told_by_number_after_the_good_ones(tmp_path, line):
    path = tmp_path / "in.jsonl"
    good = json.dumps(make_report().to_dict()).encode()
    path.write_bytes(b"\xef\xbb\xbf" + good + b"\n\n" + line + b"\n")
    reader = read_jsonl(path)
    assert next(reader) == make_report()
    with pytest.raises(RecordError, match="line 3"):
        next(reader)


def test_reading_a_missing_file_is_typed(tmp_path):
    with pytest.raises(NotFoundError):
        list(read_jsonl(tmp_path / "none.jsonl"))


# --- rows ----------------------------------------------------------------------------------------------------------


def test_columns_are_those_of_the_contract():
    points = [f"landmarks_{i}_{axis}" for i in range(5) for axis in "xy"]
    assert list(COLUMNS) == [
        *("schema", "source", "width", "height", "face", "box_x", "box_y", "box_width", "box_height"),
        *("detection_score", *points, "age_years", "age_low", "age_high", "age_coverage", "age_group"),
        *("age_group_probability", "gender_label", "gender_probability", "gender_female_probability"),
        *("model_name", "model_sha256", "error_code", "error_message"),
    ]


def test_rows_hold_one_face_each_and_one_row_stands_for_none():
    rows = to_rows(to_record(make_report(count=2)))
    assert [(r["face"], r["box_x"], r["age_years"], r["gender_label"]) for r in rows] == [
        (0, 0.0, 31.4, "female"),
        (1, 100.0, 31.4, "female"),
    ]
    assert rows[1]["landmarks_4_y"] == 24.5
    (empty,) = to_rows(to_record(make_report(count=0)))
    assert empty["width"] == 1200
    assert {name for name, cell in empty.items() if cell is not None} == {
        *("schema", "source", "width", "height", "model_name", "model_sha256"),
    }
    (error,) = to_rows(to_record(FAILED))
    assert (error["error_code"], error["width"], error["face"]) == ("empty_file", None, None)


@TMP
@given(reports)
def test_all_formats_hold_the_same_rows(tmp_path, items):
    rows = []
    for name in FILES:
        write_all(tmp_path / f"out.{name}", items)
        rows.append(read_rows(tmp_path / f"out.{name}"))
    assert rows[0] == rows[1] == rows[2] == rows[3]
    assert len(rows[0]) == sum(max(len(item.faces), 1) for item in items)
    assert leftovers(tmp_path) == sorted(f"out.{name}" for name in FILES)


@TMP
@given(reports)
def test_jsonl_gives_back_every_report_even_undecodable_names(tmp_path, items):
    write_all(tmp_path / "out.jsonl", items)
    back = list(read_jsonl(tmp_path / "out.jsonl"))
    assert [b.to_dict() for b in back] == [i.to_dict() for i in items]
    assert [b.source for b in back] == [i.source for i in items]


def test_csv_quotes_what_must_be_and_alters_nothing(tmp_path):
    name = '=cmd|"x",\r\n@é日.jpg'
    write_all(tmp_path / "out.csv", [make_report(name)])
    assert read_rows(tmp_path / "out.csv")[0]["source"] == name
    assert b'"=cmd|""x"",\r\n@' in (tmp_path / "out.csv").read_bytes()
    write_all(tmp_path / "out.csv", [make_report("a\rb")])
    assert b'"a\rb"' in (tmp_path / "out.csv").read_bytes()


@pytest.mark.parametrize(
    ("name", "content"), [("jsonl", b""), ("json", b"[\n\n]\n"), ("csv", ",".join(COLUMNS).encode() + b"\n")]
)
def test_nothing_written_is_still_a_valid_file(tmp_path, name, content):
    write_all(tmp_path / f"out.{name}", [])
    assert (tmp_path / f"out.{name}").read_bytes() == content


def test_parquet_has_types_even_where_all_is_empty_and_bounded_row_groups(tmp_path, monkeypatch):
    write_all(tmp_path / "none.parquet", [FAILED])
    schema = pq.read_schema(tmp_path / "none.parquet")
    kinds = {str: "string", int: "int32", float: "double"}
    assert {f.name: str(f.type) for f in schema} == {name: kinds[kind] for name, kind in COLUMNS.items()}
    assert schema.metadata[b"agelens.schema"] == SCHEMA.encode()
    monkeypatch.setattr(agelens.serialise.parquet, "_ROWS_IN_GROUP", 10)
    write_all(tmp_path / "many.parquet", [make_report(str(i), 3) for i in range(11)])
    assert pq.ParquetFile(tmp_path / "many.parquet").metadata.num_row_groups == 3
    assert [row["source"] for row in read_rows(tmp_path / "many.parquet")] == [str(i // 3) for i in range(33)]


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"pip install pyarrow, or .* pip install '\.\[parquet\]'"):
        open_writer(tmp_path / "out.parquet")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", FILES)
def test_a_folder_with_an_undecodable_name_works(tmp_path, name):
    folder = tmp_path / os.fsdecode(b"f\xff\xe9")
    folder.mkdir()
    write_all(folder / f"out.{name}", [make_report()])
    assert read_rows(folder / f"out.{name}")[0]["source"] == "family.jpg"


def test_importing_costs_neither_pyarrow_nor_rich():
    code = "import sys, agelens.serialise; print(sorted({'pyarrow', 'rich', 'PIL', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- formats and names ---------------------------------------------------------------------------------------------


def test_the_format_follows_the_name_unless_told(tmp_path):
    assert [format_of(f"a.{e}") for e in ("JSONL", "ndjson", "json", "csv", "parquet", "png", "")] == [
        "jsonl", "jsonl", "json", "csv", "parquet", None, None,
    ]  # fmt: skip
    with open_writer(tmp_path / "odd.name", "csv") as writer:
        writer.write(make_report())
    assert (tmp_path / "odd.name").read_text().startswith("schema,source")
    for target, chosen in ((tmp_path / "out.xyz", None), (tmp_path / "out.json", "yaml")):
        with pytest.raises(UsageError, match=r"\.jsonl .*parquet"):
            open_writer(target, chosen)
    assert leftovers(tmp_path) == ["odd.name"]


# --- interrupted, refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_block_leaves_a_valid_file(tmp_path, name, error):
    path = tmp_path / f"out.{name}"

    def interrupted() -> None:
        with open_writer(path) as writer:
            writer.write(make_report("a", 2))
            writer.write(FAILED)
            assert not path.exists()
            raise error

    with pytest.raises(error):
        interrupted()
    assert [row["source"] for row in read_rows(path)] == ["a", "a", "bad.jpg"]
    assert leftovers(tmp_path) == [path.name]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_there_stays_until_the_new_one_is_whole(tmp_path, name):
    path = tmp_path / f"out.{name}"
    path.write_text("old")
    path.chmod(0o640)
    with open_writer(path) as writer:
        writer.write(make_report())
        assert path.read_text() == "old"
    assert len(read_rows(path)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(make_report())


def test_new_files_have_the_mode_that_the_user_asks_for(tmp_path):
    before = os.umask(0o027)
    try:
        write_all(tmp_path / "out.jsonl", [])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o640


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out.jsonl").symlink_to(tmp_path / "real" / "there.jsonl")
    write_all(tmp_path / "out.jsonl", [make_report()])
    assert (tmp_path / "out.jsonl").is_symlink()
    assert len(list(read_jsonl(tmp_path / "real" / "there.jsonl"))) == 1
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    with pytest.raises(OutputUnwritableError):
        open_writer(tmp_path / "loop.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", [*FILES, "table"])
def test_a_full_device_is_a_disk_full_error_and_stays_a_device(name):
    with pytest.raises(DiskFullError) as caught:
        write_numbered("/dev/full", 50, name)
    assert (caught.value.code, caught.value.exit_status) == ("disk_full", 1)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


class FullFile(io.FileIO):
    """A file on a disk that has `room` bytes left, and then fails as `number` says."""

    room = 3000
    number = errno.ENOSPC

    def write(self, data):
        taken = bytes(data)[: max(self.room - self.tell(), 0)]
        if not taken:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(taken)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, DiskFullError), (errno.EIO, OutputError), (errno.EACCES, OutputUnwritableError)],
)
@pytest.mark.parametrize("name", ["jsonl", "json", "csv"])
def test_no_half_file_passes_as_whole_and_whole_records_are_kept(tmp_path, monkeypatch, name, number, expected):
    monkeypatch.setattr(FullFile, "number", number)
    monkeypatch.setattr(agelens.outfile, "_FLUSH_BYTES", 1)
    monkeypatch.setattr(Path, "open", lambda self, mode, buffering: FullFile(self, mode))
    path = tmp_path / f"out.{name}"
    with pytest.raises(expected) as caught:
        write_numbered(path, 50)
    monkeypatch.undo()
    assert not path.exists()
    if name == "json":
        assert leftovers(tmp_path) == []
        return
    (kept,) = leftovers(tmp_path)
    assert kept in caught.value.message
    whole = (tmp_path / kept).rename(tmp_path / f"kept.{name}")
    assert [row["source"] for row in read_rows(whole)] == [str(i) for i in range(len(read_rows(whole)))]
    assert len(read_rows(whole)) > 2


def test_a_full_disk_leaves_no_parquet_file(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "no space")

    import pyarrow as pa

    monkeypatch.setattr(agelens.serialise.parquet.ParquetWriter, "_open", lambda self: pa.PythonFile(Full(), mode="w"))
    with pytest.raises(DiskFullError):
        write_numbered(tmp_path / "out.parquet", 1)
    assert leftovers(tmp_path) == []


class InterruptedFile(io.FileIO):
    """Ctrl-C arrives when half of the third write is on disk."""

    calls = 0

    def write(self, data):
        type(self).calls += 1
        if self.calls == 3:
            super().write(bytes(data)[:100])
            raise KeyboardInterrupt
        return super().write(data)


@pytest.mark.parametrize("name", ["jsonl", "json", "csv"])
def test_ctrl_c_in_the_middle_of_a_write_loses_and_repeats_nothing(tmp_path, monkeypatch, name):
    monkeypatch.setattr(InterruptedFile, "calls", 0)
    monkeypatch.setattr(agelens.outfile, "_FLUSH_BYTES", 1)
    monkeypatch.setattr(Path, "open", lambda self, mode, buffering: InterruptedFile(self, mode))
    path = tmp_path / f"out.{name}"
    with pytest.raises(KeyboardInterrupt):
        write_numbered(path, 10)
    monkeypatch.undo()
    # The third write is that of record 2, or of record 1 after the first lines of a CSV or a JSON array.
    assert [row["source"] for row in read_rows(path)] == list("012" if name == "jsonl" else "01")


@pytest.mark.parametrize("after", [False, True])
def test_ctrl_c_around_a_row_group_loses_and_repeats_nothing(tmp_path, monkeypatch, after):
    real, calls = pq.ParquetWriter.write_table, []

    def interrupted(self, table):
        calls.append(table)
        if len(calls) != 2:
            return real(self, table)
        if after:
            real(self, table)
        raise KeyboardInterrupt

    monkeypatch.setattr(agelens.serialise.parquet, "_ROWS_IN_GROUP", 2)
    monkeypatch.setattr(pq.ParquetWriter, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_numbered(tmp_path / "out.parquet", 10)
    assert [row["source"] for row in read_rows(tmp_path / "out.parquet")] == list("0123")


def test_a_killed_process_leaves_no_file_of_that_name_but_what_it_flushed(tmp_path):
    writer = open_writer(tmp_path / "out.jsonl")
    for i in range(300):
        writer.write(make_report(str(i)))
    (part,) = tmp_path.iterdir()
    assert part.name.startswith(".out.jsonl.")
    assert part.stat().st_size > 100_000
    writer.close()


@pytest.mark.parametrize("name", FILES)
def test_places_that_cannot_be_written_are_typed(tmp_path, name):
    (tmp_path / f"folder.{name}").mkdir()
    (tmp_path / "file").write_text("")
    long_name = tmp_path / f"{'x' * 300}.{name}"
    for path in (
        tmp_path / "none" / f"o.{name}",
        tmp_path / f"folder.{name}",
        tmp_path / "file" / f"o.{name}",
        long_name,
    ):
        with pytest.raises(OutputUnwritableError) as caught:
            open_writer(path)
        assert str(path) in caught.value.message
    assert leftovers(tmp_path) == ["file", f"folder.{name}"]


def test_a_read_only_file_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    path.chmod(0o444)
    monkeypatch.setattr(agelens.outfile.os, "access", lambda _path, mode: mode != os.W_OK)  # as for all but root
    with pytest.raises(OutputUnwritableError, match="permission denied"):
        open_writer(path)
    assert path.read_text() == "old"


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("by_path", [True, False])
def test_a_pipe_is_written_to_directly(name, by_path):
    reader, pipe = os.pipe()
    with os.fdopen(pipe, "w") as stream:
        write_numbered(f"/dev/fd/{pipe}" if by_path else stream, 2, name)
    with os.fdopen(reader, "rb") as file:
        content = file.read()
    assert content.startswith({"jsonl": b'{"schema"', "json": b'[\n{"', "csv": b"schema,", "parquet": b"PAR1"}[name])
    assert content.endswith({"jsonl": b"}\n", "json": b"}\n]\n", "csv": b"\n", "parquet": b"PAR1"}[name])


def test_the_longest_file_name_works(tmp_path):
    path = tmp_path / ("é" * 124 + ".jsonl")
    write_all(path, [make_report()])
    assert leftovers(tmp_path) == [path.name]


# --- streams -------------------------------------------------------------------------------------------------------


class CountingStream(io.TextIOWrapper):
    def __init__(self, encoding="ascii"):
        super().__init__(io.BytesIO(), encoding=encoding)

    def content(self) -> bytes:
        return self.buffer.getvalue()


def test_a_stream_gets_each_record_at_once_in_utf_8_and_stays_open():
    stream = CountingStream("ascii")
    with open_writer(stream) as writer:
        for i in range(1, 4):
            writer.write(make_report("日\udcff"))
            assert stream.content().count(b"\n") == i
    assert not stream.closed
    assert "日\\udcff".encode() in stream.content()


@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "table"])
def test_text_in_memory_works_too(name):
    stream = io.StringIO()
    with open_writer(stream, name) as writer:
        writer.write(make_report("日\udcff.jpg"))
    assert "\\udcff.jpg" in stream.getvalue()


def test_parquet_goes_to_a_stream_of_bytes_only():
    stream = CountingStream()
    with open_writer(stream, "parquet") as writer:
        writer.write(make_report(count=2))
    assert pq.read_table(io.BytesIO(stream.content())).num_rows == 2
    raw = io.BytesIO()
    raw.close = lambda: None
    with open_writer(io.TextIOWrapper(raw), "parquet") as writer:  # the stream is the writer's alone
        writer.write(make_report(count=3))
    assert pq.read_table(io.BytesIO(raw.getvalue())).num_rows == 3
    with pytest.raises(UsageError):
        open_writer(io.StringIO(), "parquet")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
@pytest.mark.parametrize("name", [*FILES, "table"])
def test_a_reader_that_goes_away_is_a_broken_pipe_and_nothing_else(name):
    reader, pipe = os.pipe()
    os.close(reader)
    stream = os.fdopen(pipe, "w")
    with pytest.raises(BrokenPipeError):
        write_numbered(stream, 3, name)
    with contextlib.suppress(BrokenPipeError):
        stream.close()


# --- the table -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def table(items, stream=None) -> list[str]:
    stream = stream or io.StringIO()
    with open_writer(stream, "table") as writer:
        for item in items:
            writer.write(item)
    return stream.getvalue().split("\n")


def test_the_table_says_all_that_people_ask():
    unknown = replace(make_face(), gender=Gender("unknown", 0.55, 0.45))
    lines = table([make_report(count=2), make_report("empty.jpg", 0), FAILED, replace(make_report(), faces=(unknown,))])
    assert lines[0].split() == ["source", "face", "age", "gender", "box", "score", "group"]
    assert lines[1].split("  ")[0] == "family.jpg"
    for said in ("  0  ", "31 (24–40)", "female 97%", "0,21 96×122", "0.98", "(25, 32) 61%"):
        assert said in lines[1]
    assert "  1  " in lines[2]
    assert "100,21" in lines[2]
    assert lines[3].split(maxsplit=1) == ["empty.jpg", "no face detected"]
    assert lines[4].split(maxsplit=1) == ["bad.jpg", "empty_file: the file has no bytes; get it again"]
    assert "unknown  " in lines[5]
    assert "55%" not in lines[5]


def nearest(value: float, places: int = 0) -> int:
    """What somebody makes of a number of the record who takes it to the nearest whole one, by decimal arithmetic."""
    return int(Decimal(repr(float(value))).scaleb(places).quantize(Decimal(1), ROUND_HALF_UP))


@TMP
@given(reports)
def test_table_picture_and_record_say_the_same_numbers(tmp_path, items):
    write_all(tmp_path / "out.jsonl", items)
    lines = iter(table(items)[1:])
    for fresh, back in zip(items, read_jsonl(tmp_path / "out.jsonl"), strict=True):
        said = [next(lines) for _ in range(max(len(fresh.faces), 1))]
        record = to_record(fresh)
        for number, (line, one, other) in enumerate(zip(said, fresh.faces, back.faces, strict=False)):
            face = record["faces"][number]
            assert f"  {number}  " in line
            assert face_texts(one) == face_texts(other), "a picture drawn again from the records is the same"
            for part in face_texts(one):
                assert part in line
            if face["age"]:
                age = face["age"]
                years, low, high = (nearest(age[name]) for name in ("years", "low", "high"))
                assert f"{years} ({low}–{high})" in face_texts(one)
                assert describe_briefly(one).split()[0] == str(years)
            if face["gender"] and face["gender"]["label"] != "unknown":
                stated = face["gender"]["probability"]
                percent = 100 if stated == 1 else min(nearest(stated, 2), 99)
                assert f"{face['gender']['label']} {percent}%" in face_texts(one)
            box = face["box"]
            corner, size = (nearest(box["x"]), nearest(box["y"])), (nearest(box["width"]), nearest(box["height"]))
            if all(value >= 0 for value in corner):  # below zero, "half up" is another half
                assert "{},{} {}×{}".format(*corner, *size) in line


def face_texts(face: Face) -> tuple[str, ...]:
    """What a picture's label says, line by line."""
    texts = [describe_age(face.age), describe_group(face.age)] if face.age else []
    return (*texts, describe_gender(face.gender)) if face.gender else tuple(texts)


def test_the_table_takes_no_more_than_a_record_does():
    broken = replace(make_report(), faces=(replace(make_face(), detection_score=math.nan),))
    with pytest.raises(RecordError, match="not a finite number"):
        table([broken])


def test_columns_line_up_also_for_wide_characters():
    lines = table([make_report("日本.jpg"), make_report("a.jpg")])
    assert lines[2].index("31 (24") - lines[1].index("31 (24") == 2


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_gets_colours_and_lines_that_fit(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    lines = table([make_report("/very/long/" * 20 + "family.jpg")], Terminal())
    assert "\x1b[" in lines[1]
    plain = "".join(part.split("m", 1)[-1] for part in ("m" + lines[1]).split("\x1b["))
    assert "family.jpg" in plain
    assert len(plain) <= width


def test_a_name_cannot_move_the_cursor_or_break_a_line():
    lines = table([make_report("\x1b[2J\r\nx[bold].jpg")])
    assert "\\x1b[2J\\r\\nx[bold].jpg" in lines[1]
    assert len(lines) == 3


def test_a_terminal_without_unicode_gets_ascii():
    stream = CountingStream("ascii")
    with open_writer(stream, "table") as writer:
        writer.write(make_report("é.jpg"))
    assert b"31 (24-40)" in stream.content()
    assert b"96x122" in stream.content()
    assert b"\\xe9.jpg" in stream.content()
