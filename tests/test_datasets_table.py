"""Tables as people and data frames write them: missing values, decimal commas, splits, folds, boxes, repeated rows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agelens.align import CropGeometry, align
from agelens.datasets.importing import ImportOptions
from agelens.datasets.inspect import inspect_manifest, open_prepared_pixels
from agelens.datasets.manifest import Manifest
from agelens.datasets.manifest_file import read_manifest, write_manifest
from agelens.datasets.prepare import PrepareOptions, prepare
from agelens.datasets.rows import Row
from agelens.detect import FaceDetector
from agelens.errors import EmptyDatasetError, MissingPicturesError, UnreadableLabelsError, WrongLayoutError
from agelens.training.crops import cut_crops
from dataset_makers import write_pictures
from faces import as_image, portrait


def table_of(folder: Path, text: str, name: str = "t.csv") -> Path:
    """A table beside the pictures a.png, b.png, ... f.png."""
    write_pictures(folder, [f"{letter}.png" for letter in "abcdef"])
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def read(folder: Path, text: str, name: str = "t.csv", **options: Any) -> Manifest:
    return prepare("table", table_of(folder, text, name), ImportOptions(**options))


def dropped(manifest: Manifest) -> dict[str, int]:
    return dict(manifest.provenance["report"]["dropped"])


def test_a_decimal_comma_is_no_band(tmp_path: Path) -> None:
    manifest = read(
        tmp_path, "path;age\na.png;35,0\nb.png;24,5\nc.png;(25, 32)\nd.png;20 - 29\ne.png;25, 32\nf.png;7,x\n"
    )
    assert [(row.age_low, row.age_high) for row in manifest] == [(35, 35), (24.5, 24.5), (25, 32), (20, 29), (25, 32)]
    assert dropped(manifest) == {"age unreadable or impossible": 1}
    assert manifest.provenance["report"]["remapped"] == {"a decimal comma -> a point": 2}


def test_a_decimal_comma_in_either_end_of_a_band(tmp_path: Path) -> None:
    manifest = read(tmp_path, "path;age_low;age_high\na.png;20,0;29,5\nb.png;30;39\nc.png;;\nd.png;;39\n", columns={})
    assert [(row.age_low, row.age_high) for row in manifest] == [(20, 29.5), (30, 39)]
    assert dropped(manifest) == {"neither age nor gender": 1, "age unreadable or impossible": 1}


@pytest.mark.parametrize("missing", ["unknown", "nan", "NaN", "None", "-1", "<NA>", "N/A", "?"])
def test_what_is_missing_is_none_in_every_column(tmp_path: Path, missing: str) -> None:
    header = "path,age,gender,subject,race,split,fold,dataset,face,box_x,box_y,box_width,box_height"
    manifest = read(tmp_path, f"{header}\na.png,30,f{f',{missing}' * 10}\nb.png,30,f,ann,A,test,3,x,2,-1,-1,40,40\n")
    assert manifest[0] == Row("table", "a.png", 30, 30, "female", group=0, dhash=manifest[0].dhash)
    known = manifest[1]
    assert (known.subject, known.race, known.split, known.fold, known.dataset, known.face) == (
        *("ann", "A", "test", 3, "x", "2"),
    )
    assert known.box == (-1, -1, 40, 40)


def test_minus_one_may_be_the_code_of_a_gender(tmp_path: Path) -> None:
    codes = {"-1": "female", "1": "male"}
    manifest = read(tmp_path, "path,sex\na.png,-1.0\nb.png,1.0\nc.png,-1\nd.png,1\n", gender_codes=codes)
    assert [row.gender for row in manifest] == ["female", "male", "female", "male"]
    with pytest.raises(UnreadableLabelsError, match="--gender-code 1=female"):
        read(tmp_path, "path,sex\na.png,-1\nb.png,1.0\n")


def test_words_that_are_no_known_genders_are_named(tmp_path: Path) -> None:
    text = "path,sex,age\na.png,weiblich,30\nb.png,F.,30\nc.png,,30\nd.png,u,30\ne.png,m,30\nf.png,weiblich,\n"
    report = read(tmp_path, text).provenance["report"]
    unknown = "gender: 'weiblich' not understood (--gender-code weiblich=female or =male says it)"
    assert report["unlabelled"] == {
        unknown: 1,
        "gender: 'F.' not understood (--gender-code F.=female or =male says it)": 1,
        "gender: not given": 2,
    }
    assert report["dropped"] == {unknown: 1}
    manifest = read(tmp_path, text, gender_codes={"weiblich": "female", "F.": "female"})
    assert [row.gender for row in manifest] == ["female", "female", None, None, "male", "female"]


def test_folds_as_data_frames_write_them(tmp_path: Path) -> None:
    text = "path,age,fold\na.png,30,0.0\nb.png,30,1.0\nc.png,30,\nd.png,30,2\ne.png,30,1.5\nf.png,30,100000\n"
    manifest = read(tmp_path, text)
    assert [row.fold for row in manifest] == [0, 1, None, 2]
    assert dropped(manifest) == {"its fold is not a whole number": 2}
    with pytest.raises(EmptyDatasetError, match="its fold is not a whole number: 1"):
        read(tmp_path, "path,age,fold\na.png,30,first\n")


def test_splits_by_their_usual_names_and_no_others(tmp_path: Path) -> None:
    text = "path,age,split\na.png,30,Training\nb.png,30,dev\nc.png,30,valid\nd.png,30,test\ne.png,30,NaN\n"
    assert [row.split for row in read(tmp_path, text)] == ["train", "val", "val", "test", None]
    with pytest.raises(UnreadableLabelsError, match=r"t\.csv has the split 'holdout', .*train, val and test"):
        read(tmp_path, text + "f.png,30,holdout\n")


def test_numbers_that_name_people_stay_apart(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    subjects = [1234567.0, 1234568.0, None, 0.5, 1e-7, 1e6]
    columns = {"path": [f"{letter}.png" for letter in "abcdef"], "age": [30.0] * 6, "subject": subjects}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    lines = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    expected = ["1234567", "1234568", None, "0.5", "1e-07", "1000000"]
    assert [row.subject for row in read(tmp_path, "\n".join(map(json.dumps, lines)), "t.jsonl")] == expected
    assert [row.subject for row in prepare("table", tmp_path / "t.parquet")] == expected


def test_json_lines_may_leave_out_what_they_do_not_know(tmp_path: Path) -> None:
    lines = [
        {"path": "a.png", "age": 30},
        {"path": "b.png", "gender": "m", "subject": "bob"},
        {"age": 20, "path": "c.png", "gender": "f"},
        {"age": 20},
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n"
    manifest = read(tmp_path, text, "t.jsonl", max_missing=1)
    assert [(row.age_low, row.gender, row.subject) for row in manifest] == [
        *((30, None, None), (None, "male", "bob"), (20, "female", None)),
    ]
    assert dropped(manifest) == {"picture missing": 1}
    (tmp_path / "t.jsonl").write_bytes(b'{"path": "M\xfcller.png", "age": 3}\n')
    with pytest.raises(UnreadableLabelsError, match="is not UTF-8 text"):
        prepare("table", tmp_path / "t.jsonl")


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX only")
def test_a_name_that_is_not_utf8_is_dropped_and_counted(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write_pictures(tmp_path / "male", ["a.png", "b.png"])
    (tmp_path / "male" / "b.png").rename(tmp_path / "male" / os.fsdecode(b"M\xfcller.png"))
    report = tmp_path / "report.json"
    manifest = prepare("folder", tmp_path, options=PrepareOptions(report=report))
    assert manifest.columns.path.tolist() == ["male/a.png"]
    assert dropped(manifest) == {"its name is not UTF-8: rename it": 1}
    assert json.loads(report.read_text())["examples"]["its name is not UTF-8: rename it"] == ["male/M\\udcfcller.png"]
    for name in ("m.jsonl", "m.parquet"):
        write_manifest(manifest, tmp_path / name)
        assert read_manifest(tmp_path / name).fingerprint == manifest.fingerprint
    renamed = (tmp_path / "male").rename(tmp_path / os.fsdecode(b"M\xe4nner"))
    with pytest.raises(WrongLayoutError, match="not UTF-8"):
        prepare("folder", renamed)


def test_a_text_that_is_no_unicode_is_dropped_and_counted(tmp_path: Path) -> None:
    lines = '{"path": "a.png", "age": 30, "subject": "\\ud800"}\n{"path": "b.png", "age": 30}\n'
    assert dropped(read(tmp_path, lines, "t.jsonl")) == {"its subject is not UTF-8": 1}


def test_rows_of_one_picture_without_a_box_are_no_faces_of_their_own(tmp_path: Path) -> None:
    text = """path,face,age,gender,split
a.png,1,35,m,train
a.png,2,8,f,train
b.png,,35,m,train
b.png,,35,m,train
c.png,,35,m,train
"""
    manifest = read(tmp_path, text)
    assert manifest.columns.path.tolist() == ["b.png", "c.png"]
    assert dropped(manifest) == {"one of several faces of its picture, without a box": 2, "repeats a row": 1}


def test_what_one_folder_lacks_is_missing_though_another_has_it(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"a/faces/{number}.png" for number in range(4)])
    write_pictures(tmp_path, [f"b/faces/{number}.png" for number in range(2)], first_seed=4)
    text = "path,age\n" + "".join(f"{site}/faces/{number}.png,30\n" for site in "ab" for number in range(4))
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(MissingPicturesError, match="2 of 8"):
        prepare("table", tmp_path / "t.csv")
    for root in (None, tmp_path):
        options = PrepareOptions(root=root)
        manifest = prepare("table", tmp_path / "t.csv", ImportOptions(max_missing=0.3), options)
        assert dropped(manifest) == {"picture missing": 2}
        assert [row.path for row in manifest] == [row.split(",")[0] for row in text.split()[1:7]]


@pytest.mark.parametrize(
    ("names", "options"),
    [
        ("box_x,box_y,box_width,box_height", {}),
        ("X,Y,Width,Height", {}),
        ("x,y,w,h", {}),
        ("links,oben,box_width,box_height", {"columns": {"box_x": "links", "box_y": "oben"}}),
    ],
)
def test_boxes_tell_the_faces_of_a_picture_apart(tmp_path: Path, names: str, options: dict[str, Any]) -> None:
    text = f"""path,age,gender,{names}
a.png,35,m,20,4,16,16
a.png,8,f,"2,5",4,16,16
a.png,8,f,"2,5",4,16,16
a.png,60,f,,,,
b.png,20,f,2,2,20,20
b.png,50,m,2,2,20,20
c.png,20,f,0.1,0.1,0.5,0.5
d.png,20,f,100,100,20,20
e.png,20,f,2,2,,20
f.png,20,f,,,,
"""
    manifest = read(tmp_path, text, **options)
    assert [(row.path, row.face, row.age_low, row.box) for row in manifest] == [
        ("a.png", "2", 35, (20, 4, 16, 16)),
        ("a.png", "1", 8, (2.5, 4, 16, 16)),
        ("f.png", None, 20, None),
    ]
    assert dropped(manifest) == {
        "its box is not x, y, width, height in pixels": 2,
        "repeats a row with another label": 2,
        "repeats a row": 1,
        "one of several faces of its picture, without a box": 1,
        "its box lies outside the picture": 1,
    }
    assert manifest.provenance["conflicts"]["groups"] == 0  # two people, not one with two labels
    assert inspect_manifest(manifest).duplicates == (0, 0)


def test_the_size_of_a_picture_is_no_box_and_a_part_of_a_box_is_refused(tmp_path: Path) -> None:
    assert read(tmp_path, "path,age,width,height\na.png,30,48,48\n")[0].box is None
    with pytest.raises(UnreadableLabelsError, match="missing: box_height"):
        read(tmp_path, "path,age,box_x,box_y,box_width\na.png,30,1,1,20\n")


@pytest.fixture(scope="module")
def couple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of one woman twice, mirrored at the right, and a table that makes them a man and a girl."""
    folder = tmp_path_factory.mktemp("couple")
    head = portrait()[:300, 80:360]
    Image.fromarray(np.hstack([head, head[:, ::-1]])).save(folder / "couple.png")
    left, right = sorted(FaceDetector().detect(as_image(np.hstack([head, head[:, ::-1]]))), key=lambda face: face.box.x)
    text = "path,age,gender,x,y,width,height\n"
    for face, label in ((right, "8,f"), (left, "35,m")):
        text += f"couple.png,{label},{face.box.x + 4},{face.box.y - 6},{face.box.width},{face.box.height}\n"
    (folder / "t.csv").write_text(text)
    return folder


def test_crops_are_of_the_faces_in_the_boxes(couple: Path, tmp_path: Path) -> None:
    manifest = prepare("table", couple / "t.csv")
    crops = cut_crops(manifest, tmp_path / "crops", CropGeometry(64))
    assert crops.age_low.tolist() == [8, 35]
    picture = as_image(np.asarray(Image.open(couple / "couple.png")))
    faces = sorted(FaceDetector().detect(picture), key=lambda face: -face.box.x)
    for pixels, face in zip(crops.pixels, faces, strict=True):
        np.testing.assert_array_equal(pixels, align(picture, face.landmarks, CropGeometry(64)))
    moved = manifest.columns.box + np.float32([0, 150, 0, 0])
    manifest.columns.box[0] = moved[0]
    crops = cut_crops(manifest, tmp_path / "fewer", CropGeometry(64))
    assert (crops.age_low.tolist(), crops.lost) == ([35], {"no_face_in_box": 1})


def test_an_h5_shows_each_face_in_its_box(couple: Path, tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="an .h5 needs h5py (extra: train)")
    from agelens.datasets.pack import prepare_pack
    from agelens.training.crops import aligned_cut
    from agelens.training.pictures_h5 import open_h5

    options = PrepareOptions(shares={"train": 1.0}, size=128)
    prepare_pack("table", couple / "t.csv", tmp_path / "t.h5", options=options)
    packed, read_packed = open_h5(tmp_path / "t.h5")
    whole = prepare("table", couple / "t.csv")
    cut, whole_cut = aligned_cut(packed, CropGeometry(48), read_packed), aligned_cut(whole, CropGeometry(48))
    assert packed.columns.age_low.tolist() == whole.columns.age_low.tolist() == [8, 35]
    pictures = np.stack([np.asarray(cut(row)) for row in (0, 1)]).astype(float)
    expected = np.stack([np.asarray(whole_cut(row)) for row in (0, 1)]).astype(float)
    assert np.abs(pictures - expected).mean() < 0.6 * np.abs(pictures - expected[::-1]).mean()
    box = packed[0].box
    assert box is not None
    assert (box[0] + box[2] / 2, box[1] + box[3] / 2, max(box)) == (64, 64, 64)
    shown = open_prepared_pixels(couple / "t.csv", whole)(0)  # the samples' sheet shows the face as well
    assert shown.shape[0] == shown.shape[1] < 300
