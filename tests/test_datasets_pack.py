"""The `.h5`: its names and parts, resuming after a kill, and nothing half-written taken for whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agelens.datasets import pack
from agelens.datasets.importing import ImportOptions
from agelens.datasets.manifest_file import read_manifest, write_manifest
from agelens.datasets.pack import check_pack, is_test, open_pixels, prepare_pack, read_pack, scale_picture
from agelens.datasets.prepare import PrepareOptions, prepare
from agelens.datasets.splits import find_leaks
from agelens.errors import DamagedDatasetError, LeakError, NotFoundError, OutputUnwritableError, UsageError
from dataset_makers import make_adience, pattern, write_pictures

h5py = pytest.importorskip("h5py", reason="an .h5 needs h5py (extra: train)")

LABELS = ("y_{}_age", "y_{}_gender", "mask_{}_age", "mask_{}_gender", "age_low_{}", "fold_{}", "subject_{}", "path_{}")


@pytest.fixture
def adience(tmp_path: Path) -> Path:
    folder = tmp_path / "adience"
    folder.mkdir()
    make_adience(folder, people=20, each=5)
    return folder


def content(path: Path) -> dict[str, Any]:
    with h5py.File(path, "r") as file:
        values = {name: str(dataset[()].tolist()) for name, dataset in file.items() if not name.startswith("x_")}
        pictures = {name: file[name][()].tobytes() for name in ("x_train", "x_test")}
        return values | pictures | dict(file.attrs)


def test_a_pack_has_the_originals_names_by_subject(adience: Path, tmp_path: Path) -> None:
    target = tmp_path / "adience.h5"
    summary = prepare_pack("adience", adience, target)
    manifest = read_pack(target)
    assert list(manifest) == list(summary.manifest)
    assert manifest.fingerprint == summary.fingerprint
    assert not find_leaks(manifest)
    assert 0.05 <= summary.test / (summary.train + summary.test) <= 0.2
    with h5py.File(target, "r") as file:
        for part, count in (("train", summary.train), ("test", summary.test)):
            pictures = file[f"x_{part}"]
            assert pictures.shape == (count, 227, 227, 3)
            assert (pictures.dtype, pictures.chunks, pictures.compression) == (np.uint8, (1, 227, 227, 3), "gzip")
            assert {len(file[name.format(part)]) for name in LABELS} == {count}
            age, gender = file[f"y_{part}_age"][()], file[f"y_{part}_gender"][()]
            np.testing.assert_array_equal(file[f"mask_{part}_age"][()], age >= 0)
            np.testing.assert_array_equal(file[f"mask_{part}_gender"][()], gender >= 0)
            rows = manifest.take(is_test(manifest.columns) == (part == "test"))
            assert [manifest.groups[index] if index >= 0 else None for index in age] == list(rows.columns.age_group)
            np.testing.assert_array_equal(gender, rows.columns.gender)
            assert file[f"subject_{part}"].asstr()[()].tolist() == list(rows.columns.subject)
        subjects = [set(file[f"subject_{part}"].asstr()[()]) for part in ("train", "test")]
        assert not subjects[0] & subjects[1]
    attributes = check_pack(target)
    assert attributes["age_target"] == "group"
    assert attributes["provenance"]["report"]["rows"] == 100
    assert not list(tmp_path.glob(".*"))


def test_pictures_are_the_scaled_ones_of_their_rows(adience: Path, tmp_path: Path) -> None:
    target = tmp_path / "adience.h5"
    prepare_pack("adience", adience, target, options=PrepareOptions(size=64))
    manifest, pixels_of = read_pack(target), open_pixels(target)
    for row in range(0, len(manifest), 7):
        with Image.open(adience / manifest[row].path) as picture:
            np.testing.assert_array_equal(pixels_of(row), np.asarray(scale_picture(picture, 64)))


@pytest.mark.parametrize("size", [64, 227, 300, 600])
def test_large_jpegs_give_what_the_whole_pictures_would(tmp_path: Path, size: int) -> None:
    folder = tmp_path / "men" / "male"
    folder.mkdir(parents=True)
    for seed, (width, height) in enumerate([(816, 816), (1632, 1224), (1500, 1500)]):
        smooth = Image.fromarray(pattern(seed, 24)).resize((width, height), Image.Resampling.BICUBIC)
        smooth.save(folder / f"{seed}.jpg", quality=92)
    options = PrepareOptions(size=size, shares={"train": 1.0})
    packed = prepare_pack("folder", folder.parent, tmp_path / "men.h5", options=options)
    assert packed.fingerprint == prepare("folder", folder.parent, options=options).fingerprint
    pixels_of = open_pixels(tmp_path / "men.h5")
    for row in range(len(packed.manifest)):
        with Image.open(folder.parent / packed.manifest[row].path) as picture:
            whole = np.asarray(scale_picture(picture.convert("RGB"), size)).astype(float)
        assert np.abs(pixels_of(row) - whole).mean() < 0.8


def test_scaling_averages_areas_and_pads_to_a_square() -> None:
    halves = np.zeros((100, 100, 3), np.uint8)
    halves[:, ::2] = 200
    assert np.asarray(scale_picture(Image.fromarray(halves), 50)).mean() == 100
    wide = np.asarray(scale_picture(Image.fromarray(np.full((50, 100, 3), 255, np.uint8)), 100))
    assert wide.shape == (100, 100, 3)
    assert (wide[:24].max(), wide[30:70].min()) == (128, 255)


def test_a_pack_and_a_manifest_of_one_set_agree(adience: Path, tmp_path: Path) -> None:
    packed = prepare_pack(
        "adience", adience, tmp_path / "a.h5", options=PrepareOptions(shares={"train": 0.9, "test": 0.1})
    )
    listed = prepare("adience", adience, options=PrepareOptions(shares={"train": 0.9, "test": 0.1}))
    assert packed.fingerprint == listed.fingerprint
    write_manifest(packed.manifest, tmp_path / "a.jsonl")
    assert read_manifest(tmp_path / "a.jsonl").fingerprint == listed.fingerprint


def test_a_set_without_groups_has_years_and_keeps_its_own_test(tmp_path: Path) -> None:
    names = [f"{split}/{age}/{number}.png" for split in ("train", "test") for age in (20, 31) for number in range(3)]
    write_pictures(tmp_path / "set", [*names, "train/20-29/band.png"])
    summary = prepare_pack("folder", tmp_path / "set", tmp_path / "set.h5", options=PrepareOptions(size=32))
    assert (summary.train, summary.test) == (7, 6)
    with h5py.File(tmp_path / "set.h5", "r") as file:
        assert Counter(file["y_train_age"][()].tolist()) == {20: 3, 31: 3, -1: 1}
        assert file["age_high_train"][()].max() == 31
    assert check_pack(tmp_path / "set.h5")["age_target"] == "years"


KILLED = """
import os, signal, sys
from pathlib import Path
from agelens.datasets.pack import prepare_pack
def progress(done, total):
    if done == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
prepare_pack("adience", Path({folder!r}), Path({target!r}), progress=progress)
"""


def killed_after(count: int, folder: Path, target: Path) -> None:
    code = textwrap.dedent(KILLED.format(after=count, folder=str(folder), target=str(target)))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()


def test_a_killed_preparation_goes_on_where_it_stopped(
    adience: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "killed.h5"
    killed_after(60, adience, target)
    assert not target.exists()
    with pytest.raises(NotFoundError):
        check_pack(target)
    stage = tmp_path / ".killed.h5.stage" / "pictures.bin"
    with stage.open("r+b") as file:  # and the last record was not whole
        file.truncate(stage.stat().st_size - 1000)
    decoded = []
    original = pack.read_picture
    monkeypatch.setattr(pack, "read_picture", lambda pictures, path: decoded.append(path) or original(pictures, path))
    seen: list[int] = []
    prepare_pack("adience", adience, target, progress=lambda done, total: seen.append(done))
    total = len(read_pack(target))
    assert 30 < len(decoded) <= total - 58
    assert seen == list(range(total - len(decoded) + 1, total + 1))
    prepare_pack("adience", adience, tmp_path / "whole.h5")
    assert content(target) == content(tmp_path / "whole.h5")
    assert not list(tmp_path.glob(".*"))


def test_a_stage_of_another_job_is_begun_anew(adience: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.h5"
    killed_after(30, adience, target)
    seen: list[int] = []
    prepare_pack(
        "adience", adience, target, options=PrepareOptions(size=100), progress=lambda done, total: seen.append(done)
    )
    assert seen[0] == 1
    with h5py.File(target, "r") as file:
        assert file["x_train"].shape[1:] == (100, 100, 3)


def test_an_older_pack_stays_until_the_new_one_is_whole(adience: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.h5"
    prepare_pack("adience", adience, target)
    before = target.read_bytes()
    killed_after(30, adience, target)
    assert target.read_bytes() == before


def test_two_preparations_of_one_pack_do_not_mix(adience: Path, tmp_path: Path) -> None:
    def other(done: int, total: int) -> None:
        if done == 10:
            prepare_pack("adience", adience, tmp_path / "a.h5")

    with pytest.raises(OutputUnwritableError, match="another preparation"):
        prepare_pack("adience", adience, tmp_path / "a.h5", progress=other)


def test_broken_pictures_are_dropped_and_counted(adience: Path, tmp_path: Path) -> None:
    paths = sorted((adience / "faces").rglob("*.jpg"))
    paths[0].write_bytes(b"")
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    paths[2].write_bytes(b"no picture")
    summary = prepare_pack("adience", adience, tmp_path / "a.h5", options=PrepareOptions(report=tmp_path / "r.json"))
    listed = prepare("adience", adience)
    for manifest in (summary.manifest, listed):
        report = manifest.provenance["report"]
        dropped = {reason: n for reason, n in report["dropped"].items() if reason.startswith("picture unreadable")}
        assert dropped == {
            "picture unreadable (empty_file)": 1,
            "picture unreadable (truncated_image)": 1,
            "picture unreadable (unsupported_format)": 1,
        }
        assert report["kept"] + sum(report["dropped"].values()) == report["rows"] == 100


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_pack_is_refused(adience: Path, tmp_path: Path, share: float) -> None:
    target = tmp_path / "a.h5"
    prepare_pack("adience", adience, target, options=PrepareOptions(size=32))
    whole = target.read_bytes()
    target.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DamagedDatasetError, match="Prepare it again"):
        check_pack(target)


def test_another_hdf5_file_is_no_pack(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x_train"] = np.zeros((2, 4, 4, 3))
    with pytest.raises(DamagedDatasetError):
        read_pack(tmp_path / "a.h5")


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file size are POSIX's")
@pytest.mark.parametrize("limit", [200_000, 14_000_000])
def test_no_space_is_one_typed_error_and_no_file(adience: Path, tmp_path: Path, limit: int) -> None:
    code = textwrap.dedent(f"""
        import resource, signal, sys
        from pathlib import Path
        from agelens.datasets.pack import prepare_pack
        from agelens.errors import DiskFullError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            prepare_pack("adience", Path({str(adience)!r}), Path({str(tmp_path / "a.h5")!r}))
        except DiskFullError as error:
            sys.exit(7)
    """)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True)
    assert process.returncode == 7, process.stderr.decode()
    assert not (tmp_path / "a.h5").exists()
    summary = prepare_pack("adience", adience, tmp_path / "a.h5")  # with space again, it goes on
    assert summary.train + summary.test > 80


def test_near_duplicates_count_as_one_across_the_cut(tmp_path: Path) -> None:
    """Two copies of each of 40 photographs, without subjects: every pair stays on one side."""
    folder = tmp_path / "set"
    for seed in range(40):
        for copy, side in enumerate((90, 120)):
            path = folder / "30" / f"{seed}_{copy}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pattern(seed, side)).save(path)
    summary = prepare_pack("folder", folder, tmp_path / "a.h5", options=PrepareOptions(size=32))
    assert summary.test == 8
    assert not find_leaks(summary.manifest)
    assert summary.manifest.provenance["near_duplicates"] == {"groups": 40, "pictures": 80}


def test_a_sets_own_leaking_split_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_pictures(folder, ["train/30/a.png"])
    write_pictures(folder, ["test/30/b.png"])
    write_pictures(folder, ["train/30/c.png"], first_seed=5)
    for make in (
        lambda options: prepare("folder", folder, options=options),
        lambda options: prepare_pack("folder", folder, tmp_path / "a.h5", options=options).manifest,
    ):
        with pytest.raises(LeakError, match="near-duplicate"):
            make(PrepareOptions())
        assert make(PrepareOptions(allow_leak=True)).leaky
        clean = make(PrepareOptions(drop_leaks=True))
        assert [row.path for row in clean] == ["test/30/b.png", "train/30/c.png"]
        assert not clean.leaky


def test_sizes_out_of_reason(adience: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="16 to 1024"):
        prepare_pack("adience", adience, tmp_path / "a.h5", ImportOptions(), PrepareOptions(size=5000))
