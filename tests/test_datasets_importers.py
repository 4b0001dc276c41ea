"""Every importer, on small sets made up by its set's own rules, odd cases included."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agelens.datasets.imdb_wiki import age_at
from agelens.datasets.importing import Imported, ImportOptions
from agelens.datasets.kinds import KINDS, find_importer
from agelens.datasets.pictures import open_pictures
from agelens.datasets.prepare import prepare
from agelens.datasets.rows import Row
from agelens.errors import MissingPicturesError, UnreadableLabelsError, UsageError, WrongLayoutError
from dataset_makers import real_data, tar_of, write_pictures


def read(kind: str, folder: Path, **options: Any) -> Imported:
    imported = find_importer(kind)(open_pictures(folder), ImportOptions(**options))
    assert imported.tally.kept == len(imported.rows)
    return imported


def by_path(imported: Imported) -> dict[str, Row]:
    return {row.path: row for row in imported.rows}


def test_every_kind_has_its_importer() -> None:
    assert all(callable(find_importer(kind)) for kind in KINDS)
    assert find_importer("appa-real") is find_importer("appa_real")
    with pytest.raises(UsageError, match="Did you mean utkface"):
        find_importer("utkfaces")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("adience", "table")])
def test_a_wrong_folder_says_what_belongs_there(kind: str, tmp_path: Path) -> None:
    for names in ([], ["notes.txt"], ["holiday.jpg"]):
        write_pictures(tmp_path, names)
        with pytest.raises(WrongLayoutError, match=tmp_path.name):
            read(kind, tmp_path)


def test_utkface_reads_whole_and_broken_names(tmp_path: Path) -> None:
    names = {
        "UTKFace/25_0_1_20170116221224609.jpg.chip.jpg": (25, "male", "Black"),
        "UTKFace/116_1_3_20170120134921760.jpg.chip.webp": (116, "female", "Indian"),
        "UTKFace/1_1_4_20161219140623097 .jpg": (1, "female", "Other"),
        "UTKFace/44_1_4_20170116235150272jpg": (44, "female", "Other"),
        "UTKFace/61_3_20170109150557335.jpg.chip.jpg": (61, None, None),  # which field is missing?
        "UTKFace/39_1_20170116174525125.jpg.chip.jpg": (39, None, None),
        "UTKFace/53__0_20170116184028385.jpg.chip.jpg": (53, None, "White"),
    }
    write_pictures(
        tmp_path, [*names, "UTKFace/portrait.jpg", "UTKFace/150_0_0_20170116221224609.jpg", "UTKFace/Thumbs.db"]
    )
    imported = read("utkface", tmp_path)
    assert {path: (row.age_low, row.gender, row.race) for path, row in by_path(imported).items()} == names
    assert all(row.exact_age == row.age_low for row in imported.rows)
    assert imported.tally.rows == 9
    assert dict(imported.tally.dropped) == {"the name is not age_gender_race_date": 1, "age over 120": 1}
    assert imported.tally.unlabelled.total() == 3


FAIRFACE_PUBLISHED = """file,age,gender,race,service_test
train/1.jpg,50-59,Male,East Asian,True
train/2.jpg,03-Sep,Female,Black,False
train/3.jpg,Oct-19,Female,Latino_Hispanic,False
train/4.jpg,more than 70,Male,White,False
train/5.jpg,0-2,,Indian,False
train/6.jpg,21-23,Male,Indian,False
train/7.jpg,20-29,Male,Indian,False
"""


def test_fairface_reads_the_published_list(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"train/{number}.jpg" for number in range(1, 7)] + ["val/1.jpg"])
    (tmp_path / "fairface_label_train.csv").write_text(FAIRFACE_PUBLISHED)
    (tmp_path / "fairface_label_val.csv").write_text(
        "file,age,gender,race,service_test\nval/1.jpg,3-9,Male,Black,True\n"
    )
    imported = read("fairface", tmp_path)
    found = {path: (row.age_low, row.age_high, row.gender, row.split) for path, row in by_path(imported).items()}
    assert found == {
        "train/1.jpg": (50, 59, "male", "train"),
        "train/2.jpg": (3, 9, "female", "train"),
        "train/3.jpg": (10, 19, "female", "train"),
        "train/4.jpg": (70, 120, "male", "train"),
        "train/5.jpg": (0, 2, None, "train"),
        "val/1.jpg": (3, 9, "male", "test"),
    }
    assert dict(imported.tally.remapped) == {"03-Sep -> 3-9": 1, "Oct-19 -> 10-19": 1}
    assert dict(imported.tally.dropped) == {"age '21-23' is none of the nine bands": 1, "picture missing": 1}
    assert imported.groups[-1] == by_path(imported)["train/4.jpg"].age_group == "70+"
    assert by_path(imported)["train/3.jpg"].race == "Latino_Hispanic"


def test_fairface_reads_a_list_of_several_packs(tmp_path: Path) -> None:
    folder = tmp_path / "fairface-train"
    write_pictures(folder, ["train/1.webp", "train/2.webp", "train/3.webp"])
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "dataset,split,path,age,gender,race,identity\n"
        "fairface,train,fairface-train/train/1.webp,3-9,F,Black,\n"
        "fairface,train,fairface-train/train/2.webp,70+,M,White,\n"
        "fairface,test,fairface-test/val/1.webp,20-29,M,White,\n"
        "utkface,train,utkface-train/train/3.webp,20,M,White,\n"
    )
    for place in (folder, tar_of(folder, tmp_path / "fairface-train.tar")):
        imported = read("fairface", place, labels=labels)
        assert [(row.age_low, row.gender, row.split) for row in imported.rows] == [
            (3, "female", "train"),
            (70, "male", "train"),
        ]
        assert imported.tally.to_dict()["dropped"] == {"no label": 1}
        assert imported.tally.rows == 3


def test_fairface_splits_are_read_or_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pack", [f"train/{number}.webp" for number in (1, 2, 3)])
    labels = tmp_path / "labels.csv"
    rows = "path,age,gender,race,split\ntrain/1.webp,3-9,F,None,valid\ntrain/2.webp,3-9,F,Black,NaN\n"
    labels.write_text(rows)
    imported = read("fairface", tmp_path / "pack", labels=labels)
    assert [(row.split, row.race) for row in imported.rows] == [("val", None), ("train", "Black")]
    labels.write_text(f"{rows}train/3.webp,3-9,F,Black,eval\n")
    with pytest.raises(UnreadableLabelsError, match="the split 'eval'"):
        read("fairface", tmp_path / "pack", labels=labels)


def test_fairface_lists_with_other_columns_are_counted(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["train/1.jpg"])
    (tmp_path / "fairface_label_train.csv").write_text("file,age,gender\ntrain/1.jpg,0-2,Male\n")
    (tmp_path / "other_labels.csv").write_text("name,years\nx.jpg,3\n")
    imported = read("fairface", tmp_path)
    assert (len(imported.rows), dict(imported.tally.dropped)) == (1, {"picture missing": 1})


def test_fairface_without_labels_says_what_to_do(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["train/1.jpg"])
    with pytest.raises(WrongLayoutError, match="--labels"):
        read("fairface", tmp_path)
    (tmp_path / "fairface_label_train.csv").write_text("file,ages,gender\ntrain/1.jpg,0-2,Male\n")
    with pytest.raises(UnreadableLabelsError, match="Did you mean 'ages'"):
        read("fairface", tmp_path)


def test_aaf_takes_genders_from_serials_and_its_own_lists(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["aglined faces/00000A02.jpg", "aglined faces/07380A80.jpg", "aglined faces/07381A30.jpg"])
    write_pictures(tmp_path, ["original images/00000A02.jpg", "aglined faces/note.png"])
    imported = read("aaf", tmp_path)
    assert [(row.age_low, row.gender, row.split, row.subject) for row in imported.rows] == [
        (2, "female", None, None),
        (80, "female", None, None),
        (30, "male", None, None),
    ]
    assert imported.tally.rows == 4
    (tmp_path / "image sets").mkdir()
    (tmp_path / "image sets" / "train.txt").write_text("00000A02.jpg 0\n07380A80.jpg 1\n")
    (tmp_path / "image sets" / "val.txt").write_text("07381A30.jpg 1\n")
    listed = read("aaf", tmp_path)
    assert [(row.gender, row.split) for row in listed.rows] == [
        ("female", "train"),
        ("male", "train"),
        ("male", "test"),
    ]


def test_the_two_conventions_of_zero_are_not_mixed_up(tmp_path: Path) -> None:
    write_pictures(tmp_path / "utk", ["30_0_0_20170116221224609.jpg", "30_1_0_20170116221224610.jpg"])
    assert [row.gender for row in read("utkface", tmp_path / "utk").rows] == ["male", "female"]
    write_pictures(tmp_path / "aaf", ["00001A30.jpg"])
    (tmp_path / "aaf" / "train.txt").write_text("00001A30.jpg 0\n")
    assert [row.gender for row in read("aaf", tmp_path / "aaf").rows] == ["female"]


def test_fgnet_and_genders_by_person(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["images/001A02.JPG", "images/001A43a.JPG", "images/082A00.JPG", "images/readme.png"])
    plain = read("fgnet", tmp_path)
    assert [(row.subject, row.age_low, row.gender) for row in plain.rows] == [
        ("001", 2, None),
        ("001", 43, None),
        ("082", 0, None),
    ]
    assert dict(plain.tally.dropped) == {"the name is not person-A-age": 1}
    (tmp_path / "people.csv").write_text("subject,gender\n1,F\n82.0,male\n")  # a data frame's 82
    assert [row.gender for row in read("fgnet", tmp_path, labels=tmp_path / "people.csv").rows] == [
        *("female", "female", "male"),
    ]


def test_agedb(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["0_MariaCallas_35_f.jpg", "12_De_Niro_7_m.jpg", "x_35_f.jpg"])
    imported = read("agedb", tmp_path)
    assert [(row.subject, row.age_low, row.gender) for row in imported.rows] == [
        ("MariaCallas", 35, "female"),
        ("De_Niro", 7, "male"),
    ]
    assert imported.tally.dropped.total() == 1


def make_appa_real(folder: Path) -> None:
    write_pictures(folder, ["train/000000.jpg", "train/000000.jpg_face.jpg", "train/000001.jpg", "valid/004113.jpg"])
    head = "file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age\n"
    (folder / "gt_avg_train.csv").write_text(
        head + "000000.jpg,36,5.05,1.5,4\n000001.jpg,36,24.7,3,23\n000002.jpg,3,4,3,5\n"
    )
    (folder / "gt_avg_valid.csv").write_text(head + "004113.jpg,36,61.5,1.5,\n")
    (folder / "allcategories_train.csv").write_text(
        "file,gender,race,makeup,time,happiness\n000000.jpg,male,caucasian,nomakeup,modernphoto,happy\n"
    )


def test_appa_real_has_two_ages(tmp_path: Path) -> None:
    make_appa_real(tmp_path)
    apparent = read("appa_real", tmp_path)
    assert [(row.path, row.exact_age, row.gender, row.split) for row in apparent.rows] == [
        ("train/000000.jpg_face.jpg", 5.05, "male", "train"),
        ("train/000001.jpg", 24.7, None, "train"),
        ("valid/004113.jpg", 61.5, None, "val"),
    ]
    assert dict(apparent.tally.dropped) == {"picture missing": 1}
    real = read("appa_real", tmp_path, age="real")
    assert [row.exact_age for row in real.rows] == [4, 23]
    assert dict(real.tally.dropped) == {"picture missing": 1, "age missing or impossible": 1}


def datenum(day: date) -> int:
    return day.toordinal() + 366


def make_wiki(folder: Path) -> None:
    savemat = pytest.importorskip("scipy.io", reason="SciPy reads .mat files").savemat
    nan = float("nan")
    entries = [
        # name, born, taken, gender, score, second score
        ("Ann", datenum(date(1980, 3, 1)), 2010, 0.0, 4.0, nan),  # had her birthday by July: 30
        ("Bob", datenum(date(1980, 9, 1)), 2010, 1.0, 4.0, nan),  # had not: 29
        ("Cay", datenum(date(1980, 3, 1)), 2010, nan, 4.0, nan),  # no gender
        ("Dan", datenum(date(2012, 3, 1)), 2010, 1.0, 4.0, nan),  # not born yet
        ("Eve", datenum(date(1800, 3, 1)), 2010, 0.0, 4.0, nan),  # 210 years old
        ("Fay", 5, 2010, 0.0, 4.0, nan),  # no date
        ("Gus", datenum(date(1980, 3, 1)), 2010, 1.0, -np.inf, nan),  # no face
        ("Hal", datenum(date(1980, 3, 1)), 2010, 1.0, 0.5, nan),  # weak
        ("Ida", datenum(date(1980, 3, 1)), 2010, 0.0, 4.0, 3.0),  # two faces
        ("", datenum(date(1980, 3, 1)), 2010, 1.0, 4.0, nan),  # nobody knows who
        ("Jon", datenum(date(1980, 3, 1)), 2010, 1.0, 4.0, nan),  # no picture
    ]
    names, born, taken, gender, score, second = zip(*entries, strict=True)
    paths = [f"{number:02d}/{name or 'nobody'}.jpg" for number, name in enumerate(names)]
    field = {
        "dob": np.array(born, dtype=np.int32),
        "photo_taken": np.array(taken, dtype=np.uint16),
        "full_path": np.array(paths, dtype=object),
        "gender": np.array(gender),
        "name": np.array(names, dtype=object),
        "face_location": np.array([np.zeros((1, 4))] * len(names), dtype=object),
        "face_score": np.array(score),
        "second_face_score": np.array(second),
    }
    folder.mkdir()
    savemat(folder / "wiki.mat", {"wiki": field})
    write_pictures(folder, paths[:-1])


def test_imdb_wiki_refuses_the_impossible(tmp_path: Path) -> None:
    make_wiki(tmp_path / "wiki_crop")
    imported = read("imdb_wiki", tmp_path / "wiki_crop")
    assert [(row.subject, row.exact_age, row.gender) for row in imported.rows] == [
        ("Ann", 30, "female"),
        ("Bob", 29, "male"),
        ("Cay", 30, None),
        (None, 30, "male"),
    ]
    assert dict(imported.tally.dropped) == {
        **{"age below 0": 1, "age above 100": 1, "no date of birth": 1, "no face found": 1},
        **{"face score below 1": 1, "a second face": 1, "picture missing": 1},
    }
    assert len(read("imdb_wiki", tmp_path / "wiki_crop", min_face_score=0.1).rows) == 5


def test_imdb_wiki_with_a_damaged_list(tmp_path: Path) -> None:
    make_wiki(tmp_path / "wiki_crop")
    path = tmp_path / "wiki_crop" / "wiki.mat"
    for content in (b"no mat file", path.read_bytes()[:500], b""):
        path.write_bytes(content)
        with pytest.raises(UnreadableLabelsError, match="damaged"):
            read("imdb_wiki", tmp_path / "wiki_crop")


def test_ages_without_a_date_are_none() -> None:
    assert age_at(float("nan"), 2010) is None
    assert age_at(0, 2010) is None
    assert age_at(1e12, 2010) is None
    assert age_at(datenum(date(2000, 6, 30)), 2010) == 10
    assert age_at(datenum(date(2000, 7, 1)), 2010) == 9


def test_folder_names_are_labels(tmp_path: Path) -> None:
    names = {
        "18-25/x.jpg": (18, 25, None, None),
        "male/y.jpg": (None, None, "male", None),
        "train/Women/70+/a.jpg": (70, 120, "female", "train"),
        "Validation/35/holiday 2019/b.jpg": (35, 35, None, "val"),
        "dev/36/e.jpg": (36, 36, None, "val"),
    }
    write_pictures(tmp_path, [*names, "20-29/30-39/c.jpg", "holiday/d.jpg"])
    imported = read("folder", tmp_path)
    assert {
        path: (row.age_low, row.age_high, row.gender, row.split) for path, row in by_path(imported).items()
    } == names
    assert dict(imported.tally.dropped) == {
        "two of its folders disagree": 1,
        "none of its folders is an age or a gender": 1,
    }


TABLE = """Image;Age;Sex;Person;Split;Fold
a.jpg;35;f;ann;train;0
b.jpg;20-29;M;bob;valid;1
c.jpg;;female;;;
d.jpg;Oct-19;;;;
e.jpg;;;;;
f.jpg;250;m;;;
g.jpg;40;m;;;
"""


def test_a_table_with_named_columns(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"{letter}.jpg" for letter in "abcdef"])
    path = tmp_path / "people.csv"
    path.write_text("\ufeff" + TABLE, encoding="utf-8")
    imported = read("table", tmp_path, labels=path)
    found = [(r.path, r.age_low, r.age_high, r.gender, r.subject, r.split, r.fold) for r in imported.rows]
    assert found == [
        ("a.jpg", 35, 35, "female", "ann", "train", 0),
        ("b.jpg", 20, 29, "male", "bob", "val", 1),
        ("c.jpg", None, None, "female", None, None, None),
        ("d.jpg", 10, 19, None, None, None, None),
    ]
    assert dict(imported.tally.dropped) == {
        **{"neither age nor gender": 1, "age unreadable or impossible": 1, "picture missing": 1},
    }
    assert dict(imported.tally.remapped) == {"Oct-19 -> 10-19": 1}


def test_a_table_says_its_own_column_names_and_codes(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a.jpg", "b.jpg"])
    path = tmp_path / "people.tsv"
    path.write_text("Bild\tvon\tbis\tgender\na.jpg\t20\t29\t0\nb.jpg\t30\t39\t1\n")
    columns = {"path": "Bild", "age_low": "von", "age_high": "bis"}
    with pytest.raises(UnreadableLabelsError, match="--gender-code 0=female"):
        read("table", tmp_path, labels=path, columns=columns)
    imported = read("table", tmp_path, labels=path, columns=columns, gender_codes={"0": "female", "1": "male"})
    assert [(row.age_low, row.age_high, row.gender) for row in imported.rows] == [(20, 29, "female"), (30, 39, "male")]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("age,gender\n30,f\n", {}, "no column for the picture's path"),
        ("path,name\na.jpg,x\n", {}, "no column for the age or the gender"),
        ("path,age_low\na.jpg,3\n", {}, "only one of the two"),
        ("path,age\na.jpg,30,40\n", {}, "more values than the header"),
        ("path,age\n", {}, "no rows"),
        ("", {}, "is empty"),
        ("path,age\na.jpg,3\n", {"columns": {"age": "years"}}, "no column for the age"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path: Path, text: str, options: dict[str, Any], message: str) -> None:
    path = tmp_path / "people.csv"
    path.write_text(text)
    with pytest.raises(UnreadableLabelsError, match=message):
        read("table", tmp_path, labels=path, **options)
    path.write_text("path,age\na.jpg,3\n")
    with pytest.raises(UsageError, match="no role"):
        read("table", tmp_path, labels=path, columns={"years": "age"})


def test_a_table_in_parquet_and_json_lines(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    write_pictures(tmp_path, ["a.jpg", "b.jpg"])
    columns = {"path": ["a.jpg", "b.jpg"], "age": [30.0, None], "gender": ["f", "m"]}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text(
        '{"path": "a.jpg", "age": 30, "gender": "f"}\n\n{"path": "b.jpg", "age": null, "gender": "m"}\n'
    )
    for name in ("t.parquet", "t.jsonl"):
        imported = read("table", tmp_path, labels=tmp_path / name)
        assert [(row.age_low, row.gender) for row in imported.rows] == [(30, "female"), (None, "male")]
    (tmp_path / "t.jsonl").write_text('{"path": "a.jpg"\n')
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    for name in ("t.parquet", "t.jsonl"):
        with pytest.raises(UnreadableLabelsError):
            read("table", tmp_path, labels=tmp_path / name)


@pytest.mark.data
@pytest.mark.parametrize(
    ("pack", "count"),
    [
        ("fairface-train", 28000),
        ("fairface-test", 2491),
        ("utkface-test", 2250),
        ("aaf-train", 6492),
        ("aaf-test", 1600),
    ],
)
def test_the_real_packs_say_what_their_label_list_says(pack: str, count: int) -> None:
    data = real_data()
    if data is None:
        pytest.skip("needs the labelled faces: set AGELENS_DATA to their folder")
    kind = pack.split("-")[0]
    imported = read(kind, data / f"{pack}.tar", labels=data / "labels.csv" if kind == "fairface" else None)
    as_table = read("table", data / f"{pack}.tar", labels=data / "labels.csv")
    assert len(imported.rows) == count
    listed = by_path(as_table)
    assert all(
        (row.age_low, row.age_high, row.gender)
        == (listed[row.path].age_low, listed[row.path].age_high, listed[row.path].gender)
        for row in imported.rows
    )
    assert Counter(imported.tally.dropped) == {}


def test_a_table_names_pictures_by_absolute_paths_and_outside_its_folder(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a" / "one", ["1.png", "2.png"])
    write_pictures(tmp_path / "b" / "one", ["1.png"], first_seed=10)
    write_pictures(tmp_path / "tables" / ".hidden", ["3.png"], first_seed=20)
    table = tmp_path / "tables" / "t.csv"
    paths = [str(tmp_path / "a" / "one" / "1.png"), "../a/one/2.png", "../b/./one/1.png", ".hidden/3.png"]
    table.write_text("path,age\n" + "".join(f"{path},{20 + number}\n" for number, path in enumerate(paths)))
    manifest = prepare("table", table, ImportOptions())
    assert manifest.root == tmp_path
    assert manifest.columns.path.tolist() == ["a/one/1.png", "a/one/2.png", "b/one/1.png", "tables/.hidden/3.png"]
    assert manifest.columns.age_low.tolist() == [20, 21, 22, 23]
    pictures = manifest.open_pictures()
    assert pictures.read("b/one/1.png") == (tmp_path / "b" / "one" / "1.png").read_bytes()


def test_a_table_within_its_own_folder_keeps_it_as_root(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["x/1.png", "y/2.png"])
    table = tmp_path / "t.csv"
    table.write_text(f"path,age\n{tmp_path}/x/1.png,20\nsomewhere/y/2.jpg,30\n")  # the second as another folder has it
    manifest = prepare("table", table, ImportOptions())
    assert manifest.root == tmp_path
    assert manifest.columns.path.tolist() == ["x/1.png", "y/2.png"]


def test_pictures_of_a_table_that_are_missing_name_the_option(tmp_path: Path) -> None:
    write_pictures(tmp_path / "x", ["1.png"])
    names = ["x/1.png", "/no/such/2.png", "x/" + "y" * 300 + ".png", "x/0.png"]
    (tmp_path / "t.csv").write_text("path,age\n" + "".join(f"{name},20\n" for name in names))
    with pytest.raises(MissingPicturesError, match=r"3 of 4 .*--root FOLDER.*--max-missing"):
        prepare("table", tmp_path / "t.csv", ImportOptions())
