"""`-o OUT` by what OUT is, and which name each copy gets."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from agelens.cli.copies import Copies
from agelens.cli.outputs import Outputs, Places
from agelens.serialise import COLUMNS, read_jsonl
from agelens.types import Image as Picture
from agelens.types import ModelId, Report
from agelens.wording import to_whole
from command import COMMAND, EXAMPLE, ROOT, environment, records, run, start

ENDINGS = (".jpg", ".png", ".webp")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_records_by_ending(photos: Path, stand_in: Path, tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.json", "out.csv", "out.parquet"):
        done = run("predict", photos, "--model", stand_in, "-o", tmp_path / name)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.rstrip().endswith(f"-> {tmp_path / name}")
    lines = records((tmp_path / "out.jsonl").read_text("utf-8"))
    assert json.loads((tmp_path / "out.json").read_text("utf-8")) == lines
    assert [len(report.faces) for report in read_jsonl(tmp_path / "out.jsonl")] == [1, 1, 0, 0, 1]
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["error_code"] for row in rows] == ["", "", "empty_file", "", ""]
    assert float(rows[0]["age_years"]) == lines[0]["faces"][0]["age"]["years"]


def test_format_overrides_the_ending(stand_in: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    assert run("predict", EXAMPLE, "--model", stand_in, "-o", out, "--format", "csv").returncode == 0
    assert out.read_text().startswith("schema,source,width")
    for dash in ((), ("-o", "-")):
        assert run("predict", EXAMPLE, "--model", stand_in, "--format", "json", *dash).stdout.startswith("[\n{")
    assert run("predict", EXAMPLE, "--model", stand_in, "--format", "table").stdout.startswith("source ")


def test_a_picture_of_a_single_input(stand_in: Path, tmp_path: Path) -> None:
    out = tmp_path / "annotated.png"
    done = run("predict", EXAMPLE, "--model", stand_in, "-o", out)
    assert done.returncode == 0
    assert len(records(done.stdout)) == 1
    assert str(out) in done.stderr
    with Image.open(out) as copy, Image.open(EXAMPLE) as original:
        assert copy.size == original.size
        changed = np.abs(np.asarray(copy, int) - np.asarray(original, int)).max(axis=2) > 40
    assert changed[100:150, 175:186].any(), "the left side of the box"
    assert not changed[100:150, 200:250].any(), "the face itself"
    assert files(tmp_path) == {"annotated.png"}


def test_a_picture_of_nobody_says_so(photos: Path, stand_in: Path, tmp_path: Path) -> None:
    out = tmp_path / "annotated.png"
    done = run("predict", photos / "nobody.webp", "--model", stand_in, "-o", out)
    assert done.returncode == 0
    assert records(done.stdout)[0]["faces"] == []
    assert np.asarray(Image.open(out)).max() == 255, "white letters on a blue picture"


def test_a_picture_that_could_not_be_made_is_not_told(stand_in: Path, tmp_path: Path) -> None:
    done = run("predict", tmp_path / "none.jpg", "--model", stand_in, "-o", tmp_path / "annotated.jpg")
    assert done.returncode == 1
    assert records(done.stdout)[0]["error"]["code"] == "not_found"
    assert "annotated.jpg" not in done.stderr
    assert files(tmp_path) == set()


def test_a_picture_of_several_inputs_is_refused(photos: Path, stand_in: Path, tmp_path: Path) -> None:
    done = run("predict", photos, "--model", stand_in, "-o", tmp_path / "all.jpg")
    assert done.returncode == 2
    assert "-o all/" in done.stderr
    assert not (tmp_path / "all.jpg").exists()


def test_the_input_is_never_overwritten(photos: Path, stand_in: Path) -> None:
    before = (photos / "a.jpg").read_bytes()
    done = run("predict", photos / "a.jpg", "--model", stand_in, "-o", photos / "sub folder" / ".." / "a.jpg")
    assert done.returncode == 2
    assert "would overwrite the input" in done.stderr
    assert (photos / "a.jpg").read_bytes() == before


def test_records_never_overwrite_an_input(stand_in: Path, tmp_path: Path) -> None:
    photo = shutil.copy(EXAMPLE, tmp_path / "photo.csv")
    done = run("predict", EXAMPLE, photo, "--model", stand_in, "-o", photo)
    assert done.returncode == 2
    assert "would overwrite the input" in done.stderr
    assert photo.read_bytes() == EXAMPLE.read_bytes()


@pytest.mark.parametrize("ending", ["", "/", ".jsonl", ".jpg"])
def test_names_that_the_system_refuses_to_look_up(stand_in: Path, tmp_path: Path, ending: str) -> None:
    name = f"{tmp_path}/{'x' * 5000}{ending}"
    done = run("predict", EXAMPLE, "--model", stand_in, "-o", name)
    assert done.returncode == 1
    assert "the name is too long" in done.stderr
    done = run("predict", name, EXAMPLE, "--model", stand_in, "--crops", tmp_path / "crops")
    assert done.returncode == 1
    assert [record["error"] is None for record in records(done.stdout)] == [False, True]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("out", ["out", "out.jsonl", "out.jpg"])
def test_a_current_folder_that_is_gone(stand_in: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "gone").mkdir()
    inside = ["/bin/sh", "-c", f'cd {tmp_path}/gone && rmdir ../gone && exec "$@"', "sh"]
    command = [*inside, *COMMAND, "predict", str(EXAMPLE), "--model", str(stand_in), "-o", out]
    # With a relative path in PYTHONPATH, Python itself wouldn't start there.
    there = environment(PYTHONPATH=str(ROOT / "src"))
    done = subprocess.run(command, capture_output=True, text=True, env=there, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"agelens predict: cannot write {out}: the folder does not exist; create it first\n"


def test_a_folder_keeps_the_structure(photos: Path, stand_in: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("predict", photos, "--model", stand_in, "-o", out, "--crops", out / "faces")
    assert (done.returncode, done.stdout) == (1, "")
    copies = {"a.jpg", "a.png", "nobody.webp", "sub folder/ü #1 100%.jpg"}
    crops = {"faces/a_0.jpg", "faces/a_0.png", "faces/sub folder/ü #1 100%_0.jpg"}
    assert files(out) == {"predictions.jsonl"} | copies | crops
    assert len(records((out / "predictions.jsonl").read_text("utf-8"))) == 5
    with Image.open(out / "faces" / "a_0.jpg") as crop:
        assert 100 < crop.width < 200


def test_parquet_in_a_pipe(photos: Path, stand_in: Path) -> None:
    process = start("predict", photos, "--model", stand_in, "--format", "parquet", "--quiet")
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, b"")
    assert pq.read_table(io.BytesIO(out)).column("face").to_pylist() == [0, 0, None, None, 0]


def test_a_face_has_one_number_everywhere(stand_in: Path, tmp_path: Path) -> None:
    with Image.open(EXAMPLE) as portrait:
        pair = Image.new("RGB", (2 * portrait.width, portrait.height))
        pair.paste(portrait, (0, 0))
        pair.paste(portrait.convert("L"), (portrait.width, 0))
    pair.save(tmp_path / "pair.png")
    arguments = ("predict", tmp_path / "pair.png", "--model", stand_in, "--quiet")
    (record,) = records(run(*arguments, "--crops", tmp_path / "faces").stdout)
    rows = list(csv.DictReader(run(*arguments, "--format", "csv").stdout.splitlines()))
    table = run(*arguments, "--format", "table").stdout.splitlines()[1:]
    assert files(tmp_path / "faces") == {"pair_0.png", "pair_1.png"}
    assert len(record["faces"]) == len(rows) == len(table) == 2
    for number, (face, row, line) in enumerate(zip(record["faces"], rows, table, strict=True)):
        assert number * 512 <= face["box"]["x"] < (number + 1) * 512
        assert (int(row["face"]), float(row["box_x"])) == (number, face["box"]["x"])
        assert f"  {number}  " in line
        assert f"  {to_whole(face['box']['x'])}," in line
        with Image.open(tmp_path / "faces" / f"pair_{number}.png") as crop:
            pixels = np.asarray(crop)
            assert bool((pixels[..., 0] == pixels[..., 2]).all()) == (number == 1), "the right one is grey"


def test_copies_and_crops_in_one_folder_do_not_collide(stand_in: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "a_0.jpg"):
        shutil.copy(EXAMPLE, tmp_path / name)
    out = tmp_path / "out"
    done = run("predict", tmp_path, "--model", stand_in, "-o", out, "--crops", out)
    assert done.returncode == 0
    assert files(out) == {".agelens", "predictions.jsonl", "a.jpg", "a_0.jpg", "a_0.agelens.jpg", "a_0_0.jpg"}


def test_a_crop_does_not_take_the_place_of_the_copy(stand_in: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / "a.jpg")
    out = tmp_path / "out"
    done = run("predict", tmp_path / "a.jpg", "--model", stand_in, "-o", out / "a_0.jpg", "--crops", out)
    assert done.returncode == 0
    assert files(out) == {"a_0.jpg", "a_0.agelens.jpg"}
    with Image.open(out / "a_0.jpg") as copy, Image.open(EXAMPLE) as whole:
        assert copy.size == whole.size


@pytest.mark.parametrize("option", ["-o", "--crops"])
def test_photos_in_the_folder_of_the_results_are_inputs_and_stay(stand_in: Path, tmp_path: Path, option: str) -> None:
    for name in ("a.jpg", "b/a.jpg", "b/a_0.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(EXAMPLE, tmp_path / name)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    for _ in range(2):
        done = run("predict", tmp_path, "--model", stand_in, option, tmp_path / "b")
        assert "3 pictures, 3 faces" in done.stderr
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_folder_inside_the_input_is_no_input_the_second_time(photos: Path, stand_in: Path) -> None:
    for _ in range(2):
        done = run("predict", ".", "--model", stand_in, "-o", "out", cwd=photos)
        assert "5 pictures, 3 faces" in done.stderr
        assert "1 other file skipped" in done.stderr


def test_copies_beside_their_originals_are_marked(photos: Path, stand_in: Path) -> None:
    before = {name: (photos / name).read_bytes() for name in files(photos)}
    for _ in range(2):
        done = run("predict", photos, "--model", stand_in, "-o", photos)
        assert "5 pictures, 3 faces" in done.stderr
    marked = {"a.agelens.jpg", "a.agelens.png", "nobody.agelens.webp", "sub folder/ü #1 100%.agelens.jpg"}
    assert files(photos) == set(before) | marked | {"predictions.jsonl"}
    assert {name: (photos / name).read_bytes() for name in before} == before


def test_copies_of_names_that_differ_in_capitals_are_no_inputs_the_second_time(stand_in: Path, tmp_path: Path) -> None:
    for name in ("IMG_1.jpg", "IMG_1.JPG"):
        shutil.copy(EXAMPLE, tmp_path / name)
    for _ in range(2):
        done = run("predict", ".", "--model", stand_in, "-o", ".", "--crops", ".", cwd=tmp_path)
        assert done.stderr.startswith("2 pictures, 2 faces")
        copies = {"IMG_1.agelens.JPG", "IMG_1.agelens-2.jpg"}
        crops = {"IMG_1_0.agelens.JPG", "IMG_1_0.agelens-2.jpg"}
        assert files(tmp_path) == {"IMG_1.jpg", "IMG_1.JPG", "predictions.jsonl"} | copies | crops


@pytest.mark.parametrize("names", [["p.jpg"], ["a/p.jpg", "p.jpg"]])
def test_what_a_link_leads_to_is_never_overwritten(stand_in: Path, tmp_path: Path, names: list[str]) -> None:
    """`a/p.jpg` lies in the folder itself, and its copy comes before the link is met."""
    original = tmp_path / "orig" / names[0]
    original.parent.mkdir(parents=True)
    shutil.copy(EXAMPLE, original)
    for name in names[:-1]:
        (tmp_path / "sel" / name).parent.mkdir(parents=True)
        shutil.copy(EXAMPLE, tmp_path / "sel" / name)
    (tmp_path / "sel").mkdir(exist_ok=True)
    (tmp_path / "sel" / names[-1]).symlink_to(original)
    for _ in range(2):
        done = run("predict", tmp_path / "sel", "--model", stand_in, "-o", tmp_path / "orig")
        assert done.stderr.startswith(f"{len(names)} picture")
        assert original.read_bytes() == EXAMPLE.read_bytes()
        copies = {name.replace(".jpg", ".agelens.jpg") if name == names[0] else name for name in names}
        assert files(tmp_path / "orig") == {names[0], "predictions.jsonl"} | copies


def test_unwritable_places_are_told_before_any_work(stand_in: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "none" / "out.jsonl", tmp_path / "file" / "out.csv", tmp_path / "file" / "copies"):
        done = run("predict", EXAMPLE, "--model", "agelens-unknown", "-o", out)
        assert done.returncode == 1, done.stderr
        assert "cannot write" in done.stderr
    assert files(tmp_path) == {"file"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(stand_in: Path) -> None:
    done = run("predict", EXAMPLE, "--model", stand_in, "-o", "/dev/full", "--format", "jsonl")
    assert done.returncode == 1
    assert "no space is left" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_copy_that_cannot_be_written_stops_nothing(photos: Path, stand_in: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "a.png").mkdir(parents=True)
    done = run("predict", photos, "--model", stand_in, "-o", out)
    assert done.returncode == 1
    assert "copies of 1 not written" in done.stderr
    assert len(records((out / "predictions.jsonl").read_text("utf-8"))) == 5
    assert {"a.jpg", "nobody.webp"} <= files(out)


def test_a_picture_that_its_format_cannot_hold_stops_nothing(photos: Path, stand_in: Path, tmp_path: Path) -> None:
    Image.new("RGB", (65_501, 8)).save(photos / "wide.png")
    (photos / "wide.png").rename(photos / "b.jpg")
    out = tmp_path / "out"
    done = run("predict", photos, "--model", stand_in, "-o", out)
    assert done.returncode == 1
    assert "JPEG holds at most 65500 pixels a side; use .png or .tiff" in done.stderr
    assert "copies of 1 not written" in done.stderr
    assert len(records((out / "predictions.jsonl").read_text("utf-8"))) == 6
    assert files(out) >= {"a.jpg", "a.png", "nobody.webp", "sub folder/ü #1 100%.jpg"}


def test_a_copy_that_needs_too_much_memory_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("agelens.cli.copies.annotate", refuse)
    told: list[tuple[str, str]] = []
    copies = Copies(Outputs(None, "jsonl", folder=tmp_path), ["a.jpg"], 1, lambda *failure: told.append(failure))
    pixels = np.zeros((8, 8, 3), np.uint8)
    report = Report("a.jpg", 8, 8, (), ModelId("m", "0"), image=Picture(pixels, 8, 8))
    copies.add(report)
    assert list(copies.stop()) == [report]
    assert told == [("a.jpg", "the copy needs more memory than there is")]


class TestPlaces:
    def test_structure_from_the_common_folder_on(self, tmp_path: Path) -> None:
        for name in ("a/1.jpg", "b/1.jpg", "b/c/2.jpg"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        out = tmp_path / "elsewhere"
        two = Places(out, [str(tmp_path / "a"), str(tmp_path / "b")], ENDINGS)
        assert two.choose(str(tmp_path / "a/1.jpg")) == out / "a/1.jpg"
        assert two.choose(str(tmp_path / "b/1.jpg")) == out / "b/1.jpg"
        one = Places(out, [str(tmp_path / "b")], ENDINGS)
        assert one.choose(str(tmp_path / "b/c/2.jpg")) == out / "c/2.jpg"
        pattern = Places(out, [str(tmp_path / "b" / "**" / "*.jpg")], ENDINGS)
        assert pattern.choose(str(tmp_path / "b/c/2.jpg")) == out / "c/2.jpg"

    def test_no_name_twice(self, tmp_path: Path) -> None:
        places = Places(tmp_path / "out", [str(tmp_path)], ENDINGS)
        chosen = [
            places.choose(str(tmp_path / name)).name for name in ("a.jpg", "a.jpg", "A.JPG", "a.heic", "a.heic.jpg")
        ]
        assert chosen == ["a.jpg", "a.agelens.jpg", "A.agelens-2.JPG", "a.heic.jpg", "a.heic.agelens.jpg"]

    def test_names_without_an_ending(self, tmp_path: Path) -> None:
        places = Places(tmp_path / "out", [str(tmp_path)], ENDINGS)
        assert places.choose(str(tmp_path / "IMG_1"), "_2") == tmp_path / "out" / "IMG_1_2.jpg"

    def test_names_from_standard_input_spare_whatever_exists(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        shutil.copy(EXAMPLE, tmp_path / "a.jpg")
        places = Places(tmp_path, ["-"], ENDINGS)
        assert places.choose("a.jpg") == tmp_path / "a.agelens.jpg"
        assert places.choose(os.fspath(tmp_path / "sub" / "b.jpg")) == tmp_path / "sub" / "b.jpg"
        assert not places.is_own("a.jpg")

    def test_a_named_file_in_the_folder_is_an_input(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        assert Places(out, [str(tmp_path)], ENDINGS).is_own(str(out / "a.jpg")), "it held nothing yet"
        shutil.copy(EXAMPLE, out / "a.jpg")
        places = Places(out, [str(tmp_path), str(out / "a.jpg")], ENDINGS)
        assert not places.is_own(str(out / "a.jpg"))
        assert places.is_own(str(out / "b.jpg"))
        assert places.choose(str(tmp_path / "a.jpg")) == out / "a.agelens.jpg", "out/a.jpg is an input"

    def test_what_has_a_mark_in_the_folder_itself_is_no_input(self, tmp_path: Path) -> None:
        places = Places(tmp_path, [str(tmp_path)], ENDINGS)
        own = ("a.agelens.jpg", "a.agelens-2.jpg", "a_0.agelens-13.jpg", "a.heic.agelens.jpg")
        assert all(places.is_own(str(tmp_path / name)) for name in own)
        assert not any(places.is_own(str(tmp_path / name)) for name in ("a.jpg", "agelens.jpg", "a.agelens-b.jpg"))

    def test_links_lead_to_inputs_wherever_they_are_met(self, tmp_path: Path) -> None:
        for name in ("out/p.jpg", "out/q.jpg", "out/r.jpg", "in/p.jpg", "in/r.jpg"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            shutil.copy(EXAMPLE, tmp_path / name)
        (tmp_path / "in/z").symlink_to(tmp_path / "out")
        (tmp_path / "in/q.jpg").symlink_to(tmp_path / "out/q.jpg")
        for argument in (tmp_path / "in", tmp_path / "in" / "**"):
            places = Places(tmp_path / "out", [str(argument)], ENDINGS)
            chosen = [places.choose(str(tmp_path / "in" / name)).name for name in ("p.jpg", "q.jpg", "s.jpg")]
            assert chosen == ["p.agelens.jpg", "q.agelens.jpg", "s.jpg"]
        (tmp_path / "in/z").unlink()
        places = Places(tmp_path / "out", [str(tmp_path / "in")], ENDINGS)
        assert places.choose(str(tmp_path / "in/p.jpg")).name == "p.jpg", "which no input leads to"

    def test_file_addresses_are_paths(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        shutil.copy(EXAMPLE, tmp_path / "out" / "a b.jpg")
        address = (tmp_path / "out" / "a b.jpg").as_uri()
        places = Places(tmp_path / "out", [address], ENDINGS)
        assert not places.is_own(str(tmp_path / "out" / "a b.jpg"))
        assert places.choose(address) == tmp_path / "out" / "a b.agelens.jpg"

    def test_web_addresses(self, tmp_path: Path) -> None:
        places = Places(tmp_path, ["https://example.org/x/../a.png?size=2"], ENDINGS)
        assert places.choose("https://example.org/x/../a.png?size=2") == tmp_path / "example.org" / "x" / "a.png"
