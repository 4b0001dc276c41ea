"""Rows, manifests and their files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agelens.datasets.manifest import Columns, Manifest
from agelens.datasets.manifest_file import read_manifest, write_manifest
from agelens.datasets.rows import Row, Tally
from agelens.errors import DamagedDatasetError, NotFoundError, OutputUnwritableError, UsageError

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
maybe = st.none() | texts
tenths = st.integers(0, 1200).map(lambda tenth: tenth / 10)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    low, high = sorted((draw(tenths), draw(tenths)))
    aged, hashed = draw(st.booleans()), draw(st.booleans())
    return Row(
        dataset=draw(texts),
        path=draw(texts),
        age_low=low if aged else None,
        age_high=high if aged else None,
        gender=draw(st.sampled_from([None, "female", "male"])),
        subject=draw(maybe),
        fold=draw(st.none() | st.integers(0, 99)),
        race=draw(maybe),
        split=draw(st.sampled_from([None, "train", "val", "test"])),
        age_group=draw(maybe),
        face=draw(maybe),
        box=draw(st.none() | st.tuples(tenths, tenths, tenths, tenths)),
        group=draw(st.integers(0, 10**6)) if hashed else None,
        dhash=draw(st.binary(min_size=40, max_size=40)).hex() if hashed else None,
    )


def manifest_of(found: list[Row], root: Path = Path("/somewhere"), **details: object) -> Manifest:
    return Manifest("table", root, Columns.of(found), **details)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@settings(max_examples=40, deadline=None)
@given(found=st.lists(rows(), max_size=6))
def test_what_is_written_is_read(found: list[Row], suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("manifest") / f"m{suffix}"
    manifest = manifest_of(
        found, groups=("0-2", "3-9"), provenance={"a": 1, "ü": [1.5]}, leaky=True, versions={"x": "1"}
    )
    write_manifest(manifest, path)
    read = read_manifest(path)
    assert list(read) == found
    for name in ("kind", "root", "groups", "provenance", "leaky", "versions", "fingerprint"):
        assert getattr(read, name) == getattr(manifest, name)
    assert sorted(path.parent.iterdir()) == [path]


@given(st.lists(rows(), max_size=8), st.randoms())
def test_the_fingerprint_knows_content_only(found: list[Row], random: object) -> None:
    shuffled = found.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    here, there = manifest_of(found, Path("/here")), manifest_of(shuffled, Path("/there"), leaky=True)
    assert here.fingerprint == there.fingerprint
    assert manifest_of([*found, Row("x", "one more")]).fingerprint != here.fingerprint


@pytest.mark.parametrize(
    "change",
    [{"age_low": 31.0}, {"gender": "male"}, {"path": "b"}, {"split": "test"}, {"dhash": "01" * 40, "group": 0}],
)
def test_every_label_counts_for_the_fingerprint(change: dict[str, object]) -> None:
    known: dict[str, object] = {"dataset": "d", "path": "a", "age_low": 30.0, "age_high": 35.0, "gender": "female"}
    known |= {"split": "train", "dhash": "00" * 40, "group": 0}
    before, after = (manifest_of([Row(**values)]) for values in (known, known | change))  # type: ignore[arg-type]
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize(
    ("low", "high", "gender"), [(1, None, None), (5, 4, None), (-1, 4, None), (3, 121, None), (1, 1, "f")]
)
def test_a_row_holds_no_nonsense(low: float, high: float | None, gender: str | None) -> None:
    with pytest.raises(ValueError, match=r"age band|gender"):
        Row("d", "p", age_low=low, age_high=high, gender=gender)  # type: ignore[arg-type]


def test_columns_say_unknown_in_one_way() -> None:
    columns = manifest_of([Row("d", "p"), Row("d", "q", 20, 29, "female", "s", fold=3)]).columns
    assert np.isnan(columns.age_low[0])
    assert columns.age_high[1] == 29
    assert columns.gender.tolist() == [-1, 1]
    assert columns.fold.tolist() == [-1, 3]
    assert columns.subject.tolist() == [None, "s"]
    assert columns.dhash.shape == (2, 5)
    assert columns.box.shape == (2, 4)


def test_masks_and_ages() -> None:
    manifest = manifest_of([Row("d", "a", 30, 30, split="train"), Row("d", "b", 60, 100, split="val"), Row("d", "c")])
    assert manifest.in_split("val").tolist() == [False, True, False]
    np.testing.assert_array_equal(manifest.exact_age, [30, np.nan, np.nan])
    np.testing.assert_array_equal(manifest.typical_age, [30, 65, np.nan])
    assert [row.path for row in manifest.take(np.array([2, 0]))] == ["c", "a"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_cut_file_is_never_taken_for_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    write_manifest(manifest_of([Row("d", f"{number}.jpg", number, number) for number in range(50)]), path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1, whole.rfind(b"\n", 0, -1) + 1 or 20):
        path.write_bytes(whole[:length])
        if suffix == ".jsonl" and length == len(whole) - 1:  # only the last line break is gone
            assert len(read_manifest(path)) == 50
            continue
        with pytest.raises(DamagedDatasetError):
            read_manifest(path)


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(manifest_of([Row("d", "a.jpg", 30, 30), Row("d", "b.jpg", 40, 40)]), path)
    path.write_text(path.read_text().replace('"age_low":40.0', '"age_low":39.0'))
    with pytest.raises(DamagedDatasetError, match=r"not what was written"):
        read_manifest(path)


@pytest.mark.parametrize(
    "content", ["", "[]", "null\n", '{"format": "agelens.manifest/9"}', "text", '{"format": 1}\n{}']
)
def test_other_files_are_no_manifests(tmp_path: Path, content: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(content)
    with pytest.raises(DamagedDatasetError):
        read_manifest(path)


@pytest.mark.parametrize("line", ['{"dataset": "d", "path": "p", "age_low": 5}', '{"nonsense": 1}', "[1]"])
def test_a_line_that_is_no_row_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(manifest_of([Row("d", "a.jpg")]), path)
    path.write_text(path.read_text().splitlines()[0] + "\n" + line + "\n")
    with pytest.raises(DamagedDatasetError):
        read_manifest(path)


def test_a_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="agelens prepare"):
        read_manifest(tmp_path / "none.jsonl")


def test_the_ending_says_the_format(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.parquet or \.jsonl"):
        write_manifest(manifest_of([]), tmp_path / "m.csv")
    with pytest.raises(OutputUnwritableError):
        write_manifest(manifest_of([]), tmp_path / "no folder" / "m.jsonl")


def test_the_root_may_move(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(manifest_of([Row("d", "a.jpg")]), path)
    moved = read_manifest(path, root=tmp_path)
    assert moved.root == tmp_path
    assert moved.fingerprint == read_manifest(path).fingerprint
    assert json.loads(path.read_text().splitlines()[0])["rows"] == 1


def test_a_tally_accounts_for_every_row() -> None:
    tally = Tally(rows=10)
    for number in range(4):
        tally.drop("no age", f"picture {number}")
    tally.drop("broken", "x")
    tally.remap("3 -> (0, 2)", "y")
    report = tally.to_dict()
    assert report["rows"] == report["kept"] + sum(report["dropped"].values()) == 10
    assert report["remapped"] == {"3 -> (0, 2)": 1}
    assert report["examples"]["no age"] == ["picture 0", "picture 1", "picture 2"]
