"""Adience: both circulating editions to the last row, both layouts, joins, refusals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agelens.datasets.adience import import_adience
from agelens.datasets.importing import Imported, ImportOptions
from agelens.datasets.manifest import Columns, Manifest
from agelens.datasets.pictures import open_pictures
from agelens.datasets.prepare import PrepareOptions, prepare
from agelens.datasets.splits import assign_splits, find_leaks
from agelens.errors import MissingPicturesError, UnreadableLabelsError, WrongLayoutError
from dataset_makers import HEADER, make_adience, real_data, write_pictures


def read(folder: Path, **options: Any) -> Imported:
    imported = import_adience(open_pictures(folder), ImportOptions(**options))
    report = imported.tally.to_dict()
    assert report["rows"] == report["kept"] + sum(report["dropped"].values())
    assert report["kept"] == len(imported.rows)
    return imported


class EveryFace:
    """Pictures of all faces that the fold files name, without their bytes: for labels alone."""

    def __init__(self, folds: Path) -> None:
        self.root = folds
        self._faces = [
            f"faces/{user}/coarse_tilt_aligned_face.{face}.{image}"
            for path in sorted(folds.glob("fold_*_data.txt"))
            for user, image, face, *_ in (line.split("\t") for line in path.read_text().splitlines()[1:])
        ]

    def names(self) -> list[str]:
        return self._faces

    def read(self, name: str) -> bytes:
        raise AssertionError("labels need no picture")


PUBLISHED = {
    "": {
        **{"(0, 2)": 2488, "(4, 6)": 2140, "(8, 12)": 2124, "(15, 20)": 1642},
        **{"(25, 32)": 5004, "(38, 43)": 2293, "(48, 53)": 830, "(60, 100)": 872},
    },
    "variant": {
        **{"(0, 2)": 2519, "(4, 6)": 2163, "(8, 12)": 2132, "(15, 20)": 1655},
        **{"(25, 32)": 4950, "(38, 43)": 2300, "(48, 53)": 830, "(60, 100)": 875},
    },
}


def true_folds(edition: str) -> Path:
    data = real_data()
    if data is None:
        pytest.skip("needs Adience's true fold files: set AGELENS_DATA to the data folder")
    return data / "adience-folds" / edition


@pytest.mark.data
@pytest.mark.parametrize(
    ("edition", "rows", "repeated", "reversed_rows"), [("", 19370, 0, 0), ("variant", 19487, 117, 72)]
)
def test_both_editions_are_accounted_for_to_the_last_row(
    edition: str, rows: int, repeated: int, reversed_rows: int
) -> None:
    folds = true_folds(edition)
    imported = import_adience(EveryFace(folds), ImportOptions(labels=folds))
    report = imported.tally.to_dict()
    assert report["rows"] == rows
    assert report["kept"] + sum(report["dropped"].values()) == rows
    assert report["dropped"] == {"neither age nor gender": 708} | ({"repeats a row": repeated} if repeated else {})
    assert report["groups"] == PUBLISHED[edition]
    assert sum(report["groups"].values()) == (17424 if edition else 17393)
    assert report["remapped"] == ({"(25, 23) -> (25, 32)": reversed_rows} if reversed_rows else {})
    # Without the rows that repeat others and with the slip mended, the editions hold the same number of grouped faces.
    assert sum(row.age_group is not None for row in imported.rows) == 17393


@pytest.mark.data
@pytest.mark.parametrize("edition", ["", "variant"])
def test_twelve_groups_leave_no_aged_row_without_one(edition: str) -> None:
    folds = true_folds(edition)
    imported = import_adience(EveryFace(folds), ImportOptions(labels=folds, groups="adience12"))
    assert len(imported.groups) == 12
    assert all((row.age_group is None) == (row.age_low is None) for row in imported.rows)
    moved = imported.tally.remapped
    assert moved["35 -> (33, 37)"] == 293
    assert moved["(27, 32) -> (25, 32)"] == 77
    assert moved["(8, 23) -> (8, 12)"] == 1


@pytest.mark.data
@pytest.mark.parametrize("edition", ["", "variant"])
def test_no_subject_is_in_two_folds_nor_on_both_sides_of_a_validation_cut(edition: str) -> None:
    folds = true_folds(edition)
    rows = import_adience(EveryFace(folds), ImportOptions(labels=folds)).rows
    manifest = Manifest("adience", folds, Columns.of(rows))
    assert not find_leaks(manifest, by=manifest.columns.fold)
    assert Counter(manifest.columns.fold.tolist()).keys() == {0, 1, 2, 3, 4}
    for fold in range(5):
        train = manifest.columns.fold != fold
        cut = assign_splits(manifest.take(train), {"train": 0.9, "val": 0.1}, seed=fold)
        assert not find_leaks(cut)
        assert 0.07 < cut.in_split("val").mean() < 0.13


@pytest.mark.data
@pytest.mark.parametrize("edition", ["", "variant"])
def test_the_real_album_is_joined_to_its_rows(edition: str) -> None:
    folds = true_folds(edition)
    album = folds.parent if edition else folds
    pictures = album.parent / "adience-test.tar"
    imported = read(pictures, labels=folds)
    assert (imported.tally.pictures, imported.tally.joined) == (288, 288)
    assert {(row.subject, row.fold) for row in imported.rows} == {("37303189@N08", 0)}
    manifest = prepare("adience", pictures, ImportOptions(labels=folds, max_missing=1.0))
    assert len(manifest) == len(imported.rows) == 287  # one of the 288 rows has neither age nor gender


@pytest.mark.parametrize("layout", ["faces", "aligned"])
def test_both_layouts(tmp_path: Path, layout: str) -> None:
    count = make_adience(tmp_path, layout)
    imported = read(tmp_path)
    assert imported.tally.rows == imported.tally.pictures == imported.tally.joined == count
    assert imported.notes["layout"] == layout
    assert all(row.path.startswith(layout) for row in imported.rows)


def test_a_layout_may_be_chosen(tmp_path: Path) -> None:
    make_adience(tmp_path, "faces")
    make_adience(tmp_path, "aligned")
    assert read(tmp_path).notes["layout"] == "faces"
    assert read(tmp_path, layout="aligned").rows[0].path.startswith("aligned")
    write_pictures(tmp_path / "one", ["faces/u@N00/coarse_tilt_aligned_face.1.a_o.jpg"])
    with pytest.raises(WrongLayoutError, match="aligned"):
        read(tmp_path / "one", layout="aligned", labels=tmp_path)


def lines(folder: Path, *rows: str) -> Path:
    """A set of the given rows, all in fold 0, with a picture of each."""
    for fold in range(5):
        listed = rows if fold == 0 else (f"z{fold}@N00\tz_o.jpg\t9\t(0, 2)\tm" + "\t0" * 7,)
        (folder / f"fold_{fold}_data.txt").write_text("\n".join([HEADER, *listed]) + "\n")
    faces = {tuple(row.split("\t")[:3]) for row in rows} | {(f"z{fold}@N00", "z_o.jpg", "9") for fold in range(1, 5)}
    names = [f"faces/{user}/coarse_tilt_aligned_face.{face}.{image}" for user, image, face in sorted(faces)]
    write_pictures(folder, names)
    return folder


def row(user: str, image: str, face: int, age: str, gender: str) -> str:
    return "\t".join([user, image, str(face), age, gender, *["0"] * 7])


def test_every_kind_of_row(tmp_path: Path) -> None:
    folder = lines(
        tmp_path,
        row("u@N00", "1_o.jpg", 1, "(25, 32)", "f"),
        row("u@N00", "1_o.jpg", 2, "(48, 53)", "m"),  # another face of the same picture
        row("u@N00", "1_o.jpg", 1, "(25, 32)", "f"),  # the first one again
        row("u@N00", "1_o.jpg", 2, "(48, 53)", "f"),  # again, with another gender
        row("u@N00", "2_o.jpg", 1, "35", "u"),  # an age without a group, no gender
        row("u@N00", "3_o.jpg", 1, "None", "m"),  # gender alone
        row("u@N00", "4_o.jpg", 1, "None", ""),  # nothing
        row("u@N00", "5_o.jpg", 1, "(25, 23)", "f"),
    )
    imported = read(folder)
    found = [(r.face, r.age_low, r.age_high, r.gender, r.age_group) for r in imported.rows if r.fold == 0]
    assert found == [
        ("1", 25, 32, "female", "(25, 32)"),
        ("2", 48, 53, "male", "(48, 53)"),
        ("1", 35, 35, None, None),
        ("1", None, None, "male", None),
        ("1", 25, 32, "female", "(25, 32)"),
    ]
    assert dict(imported.tally.dropped) == {
        **{"repeats a row": 1, "repeats a row with another label": 1, "neither age nor gender": 1},
    }
    assert dict(imported.tally.unlabelled) == {
        **{"age: 35 is none of the groups": 1, "gender: u": 1, "age: not given": 1},
    }
    assert dict(imported.tally.remapped) == {"(25, 23) -> (25, 32)": 1}
    assert imported.tally.groups["(25, 32)"] == 2  # as published: before repeated rows are dropped


def test_frontal_lists_narrow_the_rows(tmp_path: Path) -> None:
    folder = lines(tmp_path, row("u@N00", "1_o.jpg", 1, "(25, 32)", "f"), row("u@N00", "2_o.jpg", 1, "(25, 32)", "f"))
    with pytest.raises(WrongLayoutError, match="frontal"):
        read(folder, frontal=True)
    for fold in range(5):
        (folder / f"fold_frontal_{fold}_data.txt").write_text(
            f"{HEADER}\n{row('u@N00', '2_o.jpg', 1, '(25, 32)', 'f')}\n"
        )
    imported = read(folder, frontal=True)
    assert [found.path[-7:] for found in imported.rows] == ["2_o.jpg"]
    assert imported.tally.dropped["not in the frontal lists"] == 5


def test_a_missing_fold_file_is_named(tmp_path: Path) -> None:
    make_adience(tmp_path)
    (tmp_path / "fold_3_data.txt").unlink()
    with pytest.raises(WrongLayoutError, match=r"lacks fold_3_data\.txt"):
        read(tmp_path)


def test_two_editions_in_one_place_are_told_apart_by_depth(tmp_path: Path) -> None:
    make_adience(tmp_path)
    for fold in range(5):
        source = tmp_path / f"fold_{fold}_data.txt"
        (tmp_path / "variant").mkdir(exist_ok=True)
        (tmp_path / "variant" / source.name).write_text(source.read_text().replace("(25, 32)", "(25, 23)"))
    ours, other = read(tmp_path), read(tmp_path, labels=tmp_path / "variant")
    assert other.tally.remapped["(25, 23) -> (25, 32)"] > ours.tally.remapped["(25, 23) -> (25, 32)"]
    (tmp_path / "fold_2_data.txt").unlink()
    with pytest.raises(WrongLayoutError, match="several folders"):
        read(tmp_path)


def test_windows_line_ends_and_a_missing_column(tmp_path: Path) -> None:
    count = make_adience(tmp_path)
    for fold in range(5):
        path = tmp_path / f"fold_{fold}_data.txt"
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read(tmp_path).tally.rows == count
    (tmp_path / "fold_1_data.txt").write_text("user_id\toriginal_image\tage\tgender\na\tb\tc\td\n")
    with pytest.raises(UnreadableLabelsError, match="face_id"):
        read(tmp_path)
    (tmp_path / "fold_1_data.txt").write_text(HEADER + "\n")
    with pytest.raises(UnreadableLabelsError, match=r"fold_1_data\.txt holds no rows"):
        read(tmp_path)


def test_missing_pictures_are_an_error_with_examples_beyond_the_share(tmp_path: Path) -> None:
    make_adience(tmp_path)
    gone = sorted((tmp_path / "faces").rglob("*.jpg"))[:3]
    for path in gone:
        path.unlink()
    report = tmp_path / "report.json"
    with pytest.raises(MissingPicturesError, match=r"3 of 60 .*5\.0%.*1000@N00/0\.00000_abc_o"):
        prepare("adience", tmp_path, options=PrepareOptions(report=report))
    assert '"picture missing": 3' in report.read_text()  # the counts are there to look at
    manifest = prepare("adience", tmp_path, ImportOptions(max_missing=0.06))
    assert manifest.provenance["report"]["dropped"]["picture missing"] == 3


def test_pictures_that_were_re_encoded_still_match(tmp_path: Path) -> None:
    count = make_adience(tmp_path)
    for path in sorted((tmp_path / "faces").rglob("*.jpg")):
        path.rename(path.with_suffix(".webp"))
    assert read(tmp_path).tally.joined == count
