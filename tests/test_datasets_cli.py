"""`agelens prepare`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agelens.cli.prepare import app
from agelens.datasets.kinds import KINDS
from agelens.datasets.manifest_file import read_manifest
from dataset_makers import encoded, make_adience, tar_of, write_pictures


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_kind_is_a_command_with_its_own_options() -> None:
    for kind in KINDS:
        result = run(kind.replace("_", "-"), "--help")
        assert result.exit_code == 0
        assert ("--frontal" in result.output) == (kind == "adience")
        assert ("--gender-code" in result.output) == (kind == "table")
        assert ("--labels" in result.output) == (kind in ("adience", "fairface", "fgnet"))


def test_adience_to_a_manifest_with_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "adience"
    folder.mkdir()
    count = make_adience(folder)
    output, report = tmp_path / "a.jsonl", tmp_path / "r.json"
    result = run("adience", folder, "-o", output, "--report", report, "--groups", "adience12", "--val", 0.2)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "kept" in result.stderr
    assert "remapped: 35 -> (33, 37)" in result.stderr
    counts = json.loads(report.read_text())
    manifest = read_manifest(output)
    assert counts["rows"] == count == counts["kept"] + sum(counts["dropped"].values())
    assert counts["kept"] == len(manifest)
    assert manifest.provenance["report"] == counts
    assert manifest.provenance["options"]["groups"] == "adience12"
    assert set(manifest.columns.split) == {"train", "val"}
    assert len(manifest.groups) == 12


def test_nothing_is_written_over_what_is_read(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a.png"])
    table = tmp_path / "people.jsonl"
    table.write_text('{"path": "a.png", "age": 31}\n')
    out = tmp_path / "m.jsonl"
    for output, report in ((table, tmp_path / "r.json"), (out, table), (out, out)):
        result = run("table", table, "-o", output, "--report", report)
        assert (result.exit_code, "would overwrite" in result.stderr) == (2, True)
    assert table.read_text() == '{"path": "a.png", "age": 31}\n'
    assert not out.exists()
    assert run("table", table, "-o", out, "--report", tmp_path / "r.json").exit_code == 0


def test_fairface_out_of_a_tar_reads_its_pictures_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "fairface-train"
    write_pictures(folder, [f"train/{number}.webp" for number in range(20)])
    labels = tmp_path / "labels.csv"
    lines = [f"fairface,train,fairface-train/train/{number}.webp,20-29,F,Black," for number in range(20)]
    labels.write_text("\n".join(["dataset,split,path,age,gender,race,identity", *lines]) + "\n")
    tar = tar_of(folder, tmp_path / "fairface-train.tar")
    result = run("fairface", tar, "--labels", labels, "--val", 0.1, "-q", "-o", tmp_path / "f.parquet")
    assert (result.exit_code, result.output) == (0, "")
    manifest = read_manifest(tmp_path / "f.parquet")
    assert manifest.in_split("val").sum() == 2
    pictures = manifest.open_pictures()
    assert pictures.read(manifest[0].path) == (tmp_path / manifest[0].path).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("f.parquet", "fairface-train", "fairface-train.tar", "labels.csv"),
    ]


def test_a_compressed_archive_is_unpacked_where_told(tmp_path: Path) -> None:
    write_pictures(tmp_path / "set", ["30/a.jpg", "31/b.jpg"])
    archive = tar_of(tmp_path / "set", tmp_path / "set.tgz", "w:gz")
    refused = run("folder", archive, "-o", tmp_path / "s.jsonl")
    assert refused.exit_code == 1
    assert "--work" in refused.stderr
    assert run("folder", archive, "-o", tmp_path / "s.jsonl", "--work", tmp_path / "w", "-q").exit_code == 0
    assert read_manifest(tmp_path / "s.jsonl").root == tmp_path / "w"


def test_a_table_with_its_own_words(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", ["a.jpg", "b.jpg"])
    (tmp_path / "people.csv").write_text("Bild,Alter,sex\na.jpg,30,0\nb.jpg,40,1\n")
    arguments = ["table", tmp_path / "people.csv", "--root", tmp_path / "pictures", "-o", tmp_path / "t.jsonl"]
    named = ["--column", "path=Bild", "--column", "age=Alter"]
    refused = run(*arguments, *named)
    assert refused.exit_code == 1
    assert "--gender-code" in refused.stderr
    assert run(*arguments, *named, "--gender-code", "0=female", "--gender-code", "1=male").exit_code == 0
    assert [row.gender for row in read_manifest(tmp_path / "t.jsonl")] == ["female", "male"]
    assert run(*arguments, "--column", "path").exit_code == 2
    assert run(*arguments, *named, "--gender-code", "0=x").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["utkface", "nowhere", "-o", "x.jsonl"], 1, "there is no"),
        (["table", "nowhere.csv", "-o", "x.jsonl"], 1, "there is no table"),
        (["folder", ".", "-o", "x.csv"], 2, ".parquet or .jsonl"),
        (["folder", ".", "-o", "x.jsonl", "--val", "0.7", "--test", "0.4"], 2, "must leave some"),
        (["folder", ".", "-o", "no/such/x.jsonl"], 1, "cannot write"),
        (["inspect", "nowhere.jsonl"], 1, "no manifest"),
    ],
)
def test_what_cannot_be_done_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path, ["30/a.jpg"])
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert not list(tmp_path.glob(".x*"))


def test_nothing_usable_is_an_error_that_counts_the_reasons(tmp_path: Path) -> None:
    (tmp_path / "30").mkdir()
    (tmp_path / "30" / "a.jpg").write_bytes(b"")
    result = run("folder", tmp_path, "-o", tmp_path / "x.jsonl")
    assert result.exit_code == 1
    assert "0 of 1 rows" in result.stderr
    assert "empty_file" in result.stderr


def test_conflicting_copies_may_be_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path / "set", ["30/a.png", "31/b.png", "60/c.png"])
    (tmp_path / "set" / "50" / "male").mkdir(parents=True)
    (tmp_path / "set" / "50" / "male" / "a.jpg").write_bytes(encoded(0, 90, "JPEG", quality=90))
    assert run("folder", tmp_path / "set", "-o", tmp_path / "x.jsonl", "--drop-conflicts", 5, "-q").exit_code == 0
    manifest = read_manifest(tmp_path / "x.jsonl")
    assert sorted(row.path for row in manifest) == ["31/b.png", "60/c.png"]
    assert manifest.provenance["conflicts"] == {"groups": 1, "age": 1, "gender": 0}
    assert manifest.provenance["report"]["dropped"] == {"labels conflict": 2}


@pytest.mark.parametrize("suffix", [".jsonl", ".h5"])
def test_inspect_counts_plots_and_samples(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib (extra: train)")
    pytest.importorskip("h5py", reason="an .h5 needs h5py (extra: train)")
    folder = tmp_path / "adience"
    folder.mkdir()
    make_adience(folder)
    file = tmp_path / f"a{suffix}"
    assert run("adience", folder, "-o", file, "-q").exit_code == 0
    result = run("inspect", file, "--json", "-o", tmp_path / "look")
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)
    assert counts["kind"] == "adience"
    assert counts["subjects"] == 10
    assert counts["rows"] == counts["report"]["kept"]
    assert counts["rows"] == sum(counts["genders"].values()) == sum(counts["folds"].values())
    assert counts["leaks"] == {"subjects": 0, "groups": 0, "rows": {}}
    drawn = {path.name: path.stat().st_size for path in (tmp_path / "look").iterdir()}
    assert drawn.keys() == {"conflicts.jsonl", "labels.png", "samples.png"}
    assert min(drawn["labels.png"], drawn["samples.png"]) > 5000
    table = run("inspect", file)
    assert "subjects" in table.stdout
    assert "fingerprint" in table.stdout


def test_inspect_lists_conflicts_with_their_labels(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib (extra: train)")
    write_pictures(tmp_path / "set", ["30/a.png"])
    write_pictures(tmp_path / "set", ["50/b.png"])
    assert run("folder", tmp_path / "set", "-o", tmp_path / "x.jsonl", "-q").exit_code == 0
    assert run("inspect", tmp_path / "x.jsonl", "-o", tmp_path / "look").exit_code == 0
    conflict = json.loads((tmp_path / "look" / "conflicts.jsonl").read_text())
    assert conflict["years_apart"] == 20
    assert {picture["path"]: picture["age"] for picture in conflict["pictures"]} == {"30/a.png": "30", "50/b.png": "50"}


@pytest.mark.parametrize(
    "options",
    [
        ("--seed", -1),
        ("--val", "nan"),
        ("--test", "nan"),
        ("--val", "inf"),
        ("--test", -0.1),
        ("--max-missing", "nan"),
        ("--drop-conflicts", "nan"),
        ("--size", 0),
    ],
)
def test_numbers_out_of_bounds_are_wrong_usage(tmp_path: Path, options: tuple[str, object]) -> None:
    write_pictures(tmp_path / "30", ["a.png", "b.png"])
    result = run("folder", tmp_path, "-o", tmp_path / "m.jsonl", *options)
    assert result.exit_code == 2, result.output
    assert not (tmp_path / "m.jsonl").exists()
