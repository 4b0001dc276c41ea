"""What can be IN: every kind gives the pictures of its own, each once, in the same order each time."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import os
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs the extra `batch`")

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from agelens.analyzer import Settings
from agelens.batch.columns import find_columns
from agelens.batch.inputs import ALL, InputOptions, Span, find_spans
from agelens.batch.job import BatchJob, plan_run
from agelens.batch.partition import Outcome, PartitionWorker
from agelens.batch.places import open_place
from agelens.batch.plan import Listing, pack
from agelens.errors import NotFoundError, NothingToReadError, UsageError
from agelens.limits import Limits
from command import EXAMPLE
from pictures import encode, face_like

PORTRAIT = EXAMPLE.read_bytes()
NOBODY = encode(face_like(64, 48) // 8, "PNG")


def work_off(job: BatchJob, names: list[str] | None = None) -> list[Outcome]:
    """Does a job in this process, without Ray."""
    with plan_run(job, names=names) as run:
        with closing(PartitionWorker(run.work)) as worker:
            outcomes = [worker.run(partition) for partition in run.todo]
        assert run.complete()
    return outcomes


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def rows_of(out: Path) -> list[dict[str, object]]:
    return pq.read_table(out).to_pylist()


def do(source: object, out: Path, stand_in: Path, *, names: list[str] | None = None, **options: object) -> list[dict]:
    """All rows that an input gives."""
    chosen = {"size": 2} | options
    job = BatchJob(str(source), str(out), InputOptions(**chosen), str(stand_in))
    assert all(outcome.failure is None for outcome in work_off(job, names))
    return rows_of(out)


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


MEMBERS = {
    **{f"{i:03d}.jpg": PORTRAIT for i in range(4)},
    "003.json": b"{}",
    "._003.jpg": b"a Mac's shadow",
    "unnamed": NOBODY,
    "é " + "long/" * 40 + "broken.png": NOBODY[:100],
}
PICTURES = [name for name in MEMBERS if not name.endswith("json") and not name.startswith("._")]


def test_a_folder_and_a_pattern(photos: Path, out: Path, stand_in: Path, tmp_path: Path) -> None:
    rows = do(photos, out, stand_in)
    names = ["a.jpg", "a.png", "empty.jpg", "nobody.webp", "sub folder/ü #1 100%.jpg"]
    assert [row["source"] for row in rows] == [str(photos / name) for name in names]
    assert [row["error_code"] for row in rows] == [None, None, "empty_file", None, None]
    assert [row["face"] for row in rows] == [0, 0, None, None, 0]
    matched = do(photos / "*.jpg", tmp_path / "second", stand_in)
    assert [row["source"] for row in matched] == [str(photos / "a.jpg"), str(photos / "empty.jpg")]


def test_a_folder_that_a_pattern_names_stands_for_what_is_in_it(tmp_path: Path) -> None:
    names = ("g/x/keep/1.jpg", "g/y/keep/2.jpg", "g/z/keep.jpg")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(NOBODY)
    for pattern, count in (("g/**/keep*", 3), ("g/**/keep", 2), ("g/*/keep", 2)):
        spans = find_spans(str(tmp_path / pattern), InputOptions(2), on_skip=lambda _: None)
        assert [span.path for span in spans] == [str(tmp_path / name) for name in names[:count]]


def test_names_on_standard_input(photos: Path, out: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    names = ["a.jpg\n", "missing.jpg\n", "http://example.org/x.jpg\n", "s3x://nowhere/x.jpg\n"]
    rows = do("-", out, stand_in, names=names)
    assert [row["source"] for row in rows] == [name.strip() for name in names]
    assert [row["error_code"] for row in rows] == [None, "not_found", "url_not_allowed", "unreadable"]


def test_names_that_are_no_text(out: Path, stand_in: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(PORTRAIT)
    (row,) = do(folder, out, stand_in)
    assert row["face"] == 0
    assert row["source"].endswith("\\udcff.jpg")


@pytest.mark.parametrize(("ending", "mode"), [("tar", "w"), ("tar.gz", "w:gz")])
def test_a_tar_shard(out: Path, stand_in: Path, tmp_path: Path, ending: str, mode: str) -> None:
    shard = write_tar(tmp_path / f"shard.{ending}", MEMBERS, mode)
    rows = do(shard, out, stand_in)
    assert [row["source"] for row in rows] == [f"{shard}/{name}" for name in PICTURES]
    assert [row["error_code"] for row in rows] == [None] * 5 + ["truncated_image"]
    assert len(list(out.glob("part-*"))) == (3 if ending == "tar" else 1)


def test_a_folder_of_shards_and_a_damaged_one(out: Path, stand_in: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    write_tar(folder / "0.tar", {"1.jpg": PORTRAIT})
    whole = write_tar(folder / "1.tar", dict.fromkeys(("1.jpg", "2.jpg", "3.jpg"), PORTRAIT)).read_bytes()
    (folder / "1.tar").write_bytes(whole[: len(whole) // 2])
    (folder / "2.tar").write_bytes(b"no archive at all")
    rows = do(folder, out, stand_in)
    assert [Path(row["source"]).relative_to(folder).as_posix() for row in rows] == [
        *("0.tar/1.jpg", "1.tar/1.jpg", "1.tar", "2.tar")
    ]
    assert [row["error_code"] for row in rows] == [None, None, "unreadable", "unreadable"]


@pytest.mark.parametrize("groups", [1, 3, 100])
def test_parquet_of_bytes(out: Path, stand_in: Path, tmp_path: Path, groups: int) -> None:
    table = pa.table({"id": [10, 11, 12, 13, 14], "photo": [PORTRAIT, NOBODY, b"no picture", None, PORTRAIT]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=groups)
    rows = do(tmp_path / "in.parquet", out, stand_in)
    assert [row["source"] for row in rows] == ["10", "11", "12", "13", "14"]
    assert [row["error_code"] for row in rows] == [None, None, "unsupported_format", "empty_file", None]


def test_parquet_without_names_and_as_hugging_face_writes_it(out: Path, stand_in: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [PORTRAIT] * 5}), tmp_path / "in.parquet", row_group_size=2)
    rows = do(tmp_path / "in.parquet", out, stand_in)
    assert [row["source"] for row in rows] == [f"{tmp_path / 'in.parquet'}#{i}" for i in range(5)]
    images = [{"bytes": PORTRAIT, "path": "p.jpg"}, {"bytes": None, "path": str(EXAMPLE)}]
    pq.write_table(pa.table({"image": images, "label": [1, 2]}), tmp_path / "hf.parquet")
    assert [(row["source"], row["face"]) for row in do(tmp_path / "hf.parquet", tmp_path / "o2", stand_in)] == [
        ("p.jpg", 0),
        (str(EXAMPLE), 0),
    ]


def test_parquet_of_paths(photos: Path, out: Path, stand_in: Path, tmp_path: Path) -> None:
    paths = ["a.jpg", str(photos / "a.png"), (photos / "nobody.webp").as_uri(), "gone.jpg", None]
    pq.write_table(pa.table({"file": paths, "split": ["test"] * 5}), photos / "list.parquet")
    rows = do(photos / "list.parquet", out, stand_in)
    assert [row["source"] for row in rows[:4]] == paths[:4]
    assert [row["error_code"] for row in rows] == [None, None, None, "not_found", "empty_file"]
    (photos / "list.parquet").rename(tmp_path / "list.parquet")
    moved = do(tmp_path / "list.parquet", tmp_path / "o2", stand_in, root=str(photos), column="file")
    assert moved[:4] == rows[:4]


def test_a_filesystem_of_arrow_in_and_out(photos: Path, out: Path, stand_in: Path, tmp_path: Path) -> None:
    """fsspec's view of this disk: for us as far away as any object store."""
    pytest.importorskip("fsspec")
    rows = do(f"fsspec+file://{photos}", f"fsspec+file://{out}", stand_in)
    local = do(photos, tmp_path / "local", stand_in)
    assert [row["source"] for row in rows] == [f"fsspec+file://{row['source']}" for row in local]
    assert [{**row, "source": "", "error_message": ""} for row in rows] == [
        {**row, "source": "", "error_message": ""} for row in local
    ]
    matched = do(f"fsspec+file://{photos}/**/*.jp?", tmp_path / "matched", stand_in)
    assert [Path(row["source"]).name for row in matched] == ["a.jpg", "empty.jpg", "ü #1 100%.jpg"]
    write_tar(tmp_path / "s.tar", MEMBERS)
    shards = do(f"fsspec+file://{tmp_path}/s.tar", tmp_path / "shards", stand_in)
    assert len(shards) == len(PICTURES)
    paths = [str(photos / "a.jpg"), f"fsspec+file://{photos}/a.png", "gone.jpg"]
    pq.write_table(pa.table({"path": paths}), tmp_path / "l.parquet")
    listed = do(f"fsspec+file://{tmp_path}/l.parquet", tmp_path / "listed", stand_in)
    assert [row["error_code"] for row in listed] == ["not_found", None, "not_found"]


def test_file_urls_are_local(photos: Path, out: Path, stand_in: Path) -> None:
    rows = do((photos / "sub folder").as_uri(), out.as_uri(), stand_in)
    assert [row["face"] for row in rows] == [0]


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("http://example.org/photos", UsageError, "web address"),
        ("s3x://bucket", UsageError, "pyarrow knows"),
        ("fsspec+file:///nowhere/at/all", NotFoundError, "no file or folder"),
        ("nowhere", NotFoundError, "no file or folder"),
        ("nowhere/*.jpg", NotFoundError, "nothing that it matches"),
        ("empty", NothingToReadError, "1 other files were passed over"),
        ("unclear.parquet", UsageError, "it isn't clear which column"),
    ],
)
def test_inputs_that_are_refused(
    tmp_path: Path, out: Path, stand_in: Path, source: str, error: type[Exception], words: str
) -> None:
    pytest.importorskip("fsspec")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    pq.write_table(pa.table({"a": [b"1"], "b": [b"2"]}), tmp_path / "unclear.parquet")
    place = source if "://" in source else str(tmp_path / source)
    with pytest.raises(error, match=words):
        do(place, out, stand_in)
    assert not out.exists()  # so that the next try is no other run


def test_columns_are_found_or_asked_for() -> None:
    schema = pa.schema([("id", pa.int64()), ("thumb", pa.binary()), ("image", pa.large_binary()), ("url", pa.string())])
    assert find_columns(schema).pictures == "image"
    assert find_columns(schema).name == "url"
    assert find_columns(schema, "thumb", "id") == find_columns(schema, column="thumb", name_column="id")
    assert find_columns(pa.schema([("p", pa.dictionary(pa.int32(), pa.string()))])).kind == "path"
    for column in ("nothing", "id"):
        with pytest.raises(UsageError, match="column"):
            find_columns(schema, column)


@given(st.lists(st.integers(1, 9) | st.just(ALL), max_size=40), st.integers(1, 10))
def test_packing_keeps_every_span_once_and_in_order(counts: list[int], size: int) -> None:
    spans = [Span("file", str(i), str(i), 0, count) for i, count in enumerate(counts)]
    packed = list(pack(spans, size))
    assert list(itertools.chain(*packed)) == spans
    for group in packed:
        assert len(group) == 1 or (ALL not in [s.count for s in group] and sum(s.count for s in group) <= size)


def test_listings_hold_what_was_found(photos: Path, out: Path, stand_in: Path) -> None:
    do(photos, out, stand_in)
    with closing(Listing(open_place(str(out)).join("_agelens").join("inputs-00000.parquet"))) as listing:
        spans = [span for group in range(listing.groups) for span in listing.read(group)]
    assert spans == list(find_spans(str(photos), InputOptions(2), on_skip=lambda _: None))


@pytest.mark.parametrize(("ending", "mode"), [("tar", "w"), ("tar.gz", "w:gz")])
def test_a_damaged_header_is_no_end(out: Path, stand_in: Path, tmp_path: Path, ending: str, mode: str) -> None:
    """Which tarfile by itself takes it for: what comes behind would be lost without a word."""
    names = [f"{i}.jpg" for i in range(5)]
    whole = bytearray(write_tar(tmp_path / "s.tar", dict.fromkeys(names, PORTRAIT)).read_bytes())
    whole[whole.index(b"3.jpg")] ^= 1
    shard = tmp_path / f"shard.{ending}"
    shard.write_bytes(gzip.compress(whole) if mode == "w:gz" else whole)
    rows = do(shard, out, stand_in)
    assert [row["source"] for row in rows] == [*(f"{shard}/{name}" for name in names[:3]), str(shard)]
    assert [row["error_code"] for row in rows] == [None, None, None, "unreadable"]


@pytest.mark.parametrize(("ending", "mode"), [("tar", "w"), ("tar.gz", "w:gz")])
def test_a_large_picture_without_an_ending(out: Path, stand_in: Path, tmp_path: Path, ending: str, mode: str) -> None:
    """Counted when a shard is divided, it must not be left out when it is read, or the next would be done twice."""
    members = {"a.jpg": PORTRAIT, "large": PORTRAIT + bytes(1000), "b.jpg": PORTRAIT, "c.jpg": PORTRAIT}
    shard = write_tar(tmp_path / f"shard.{ending}", members, mode)
    settings: Settings = {"limits": Limits(max_bytes=len(PORTRAIT))}
    work_off(BatchJob(str(shard), str(out), InputOptions(2), str(stand_in), settings))
    rows = rows_of(out)
    assert [row["source"] for row in rows] == [f"{shard}/{name}" for name in members]
    assert [row["error_code"] for row in rows] == [None, "too_many_bytes", None, None]


@pytest.mark.parametrize(
    ("ending", "pack_up"),
    [("tar", bytes), ("tar.gz", gzip.compress), ("tar.bz2", bz2.compress), ("tar.xz", lzma.compress)],
)
def test_archives_one_behind_the_other(
    out: Path, stand_in: Path, tmp_path: Path, ending: str, pack_up: Callable[[bytes], bytes]
) -> None:
    """As `cat` makes them: all of their pictures, and what is damaged behind the first is told."""
    parts = [write_tar(tmp_path / "s.tar", {f"{n}{i}.jpg": PORTRAIT for i in range(2)}).read_bytes() for n in "abc"]
    shard = tmp_path / f"shard.{ending}"
    shard.write_bytes(b"".join(pack_up(part) for part in parts))
    rows = do(shard, out, stand_in, size=3)
    assert [row["source"] for row in rows] == [f"{shard}/{n}{i}.jpg" for n in "abc" for i in range(2)]
    assert [row["error_code"] for row in rows] == [None] * 6
    shard.write_bytes(pack_up(parts[0]) + pack_up(b"no archive" * 100))
    rows = do(shard, tmp_path / "o2", stand_in)
    assert [row["error_code"] for row in rows] == [None, None, "unreadable"]
    shard.write_bytes(b"".join(pack_up(part) for part in parts)[:-3000])
    rows = do(shard, tmp_path / "o3", stand_in)
    assert len(rows) == 6 if ending == "tar" else rows[-1]["error_code"] == "unreadable"


def test_columns_of_one_name_are_told_or_left_alone(out: Path, stand_in: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    twice = [pa.array([PORTRAIT]), pa.array([NOBODY])]
    pq.write_table(pa.table(twice, names=["image", "image"]), path)
    for options in ({}, {"column": "image"}):
        with pytest.raises(UsageError, match="2 columns are called 'image'; rename them"):
            do(path, out, stand_in, **options)
    ids = [pa.array([PORTRAIT]), pa.array([7]), pa.array([8])]
    pq.write_table(pa.table(ids, names=["image", "id", "id"]), path)
    with pytest.raises(UsageError, match="2 columns are called 'id'"):
        do(path, out, stand_in, name_column="id")
    (row,) = do(path, out, stand_in)
    assert (row["source"], row["face"]) == (f"{path}#0", 0)


def test_shards_and_tables_on_standard_input(out: Path, stand_in: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    shard = write_tar(tmp_path / "s.tar", {"1.jpg": PORTRAIT, "2.jpg": PORTRAIT})
    rows = do("-", out, stand_in, names=[f"{shard}\n", f"fsspec+file://{shard}\n"])
    assert [row["source"] for row in rows] == [
        f"{place}{shard}/{i}.jpg" for place in ("", "fsspec+file://") for i in "12"
    ]
    pq.write_table(pa.table({"x": [PORTRAIT]}), tmp_path / "x.parquet")
    (row,) = do("-", tmp_path / "o2", stand_in, names=[f"fsspec+file://{tmp_path}/x.parquet"])
    assert row["face"] == 0


def test_names_that_cameras_give_are_found_far_away_too(out: Path, stand_in: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    (tmp_path / "in").mkdir()
    for name in ("_MG_0001.jpg", "._MG_0001.jpg"):
        (tmp_path / "in" / name).write_bytes(PORTRAIT)
    rows = do(f"fsspec+file://{tmp_path}/in", out, stand_in)
    assert [Path(row["source"]).name for row in rows] == ["_MG_0001.jpg"]


@pytest.mark.parametrize("prefix", ["", "fsspec+file://"])
def test_out_in_in_and_in_in_out(stand_in: Path, tmp_path: Path, prefix: str) -> None:
    """Its own tables are no input, and nothing else is left out."""
    pytest.importorskip("fsspec")
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"x": [PORTRAIT]}), tmp_path / "in" / "x.parquet")
    place = f"{prefix}{tmp_path}/in"
    job = BatchJob(place, f"{place}/out", InputOptions(2), str(stand_in))
    work_off(job)
    with plan_run(replace(job, mode="resume")) as planned:
        assert planned.todo == []
    (tmp_path / "project" / "photos").mkdir(parents=True)
    (tmp_path / "project" / "photos" / "a.jpg").write_bytes(PORTRAIT)
    with plan_run(BatchJob(f"{place}/../project/photos", f"{tmp_path}/project", InputOptions(2), str(stand_in))) as run:
        assert run.pictures == 1


@pytest.mark.parametrize("ending", ["tar", "parquet"])
def test_what_has_grown_is_done(out: Path, stand_in: Path, tmp_path: Path, ending: str) -> None:
    """Its first pictures must not be done twice."""
    path = tmp_path / f"in.{ending}"

    def write(count: int) -> None:
        if ending == "tar":
            write_tar(path, {f"{i}.jpg": NOBODY for i in range(count)})
        else:
            pq.write_table(pa.table({"x": [NOBODY] * count}), path, row_group_size=1)

    write(3)
    assert len(do(path, out, stand_in)) == 3
    write(6)
    with plan_run(BatchJob(str(path), str(out), InputOptions(2), str(stand_in), mode="resume")) as planned:
        assert planned.todo == []
