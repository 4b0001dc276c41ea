"""On real faces: the same figures as the acceptance check finds for `agelens predict`."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from agelens.datasets.importing import ImportOptions
from agelens.datasets.prepare import PrepareOptions, prepare
from agelens.evaluation.run import EvaluateOptions, evaluate
from command import ROOT, environment
from faces import DATA
from stand_in import write_model

CHECK = ROOT.parent / "shared" / "acceptance" / "check.py"
COUNT = 60


def cut_pack(pack: str, target: Path) -> Path:
    """Every n-th picture of a pack, and its labels, as a small pack."""
    source, labels = DATA / f"{pack}.tar", DATA / "labels.csv"
    if not (source.is_file() and labels.is_file()):
        pytest.skip(f"{pack}.tar and labels.csv are not in {DATA} (AGELENS_DATA)")
    with tarfile.open(source) as archive, tarfile.open(target / f"{pack}.tar", "w") as small:
        members = [member for member in archive.getmembers() if member.isfile()]
        for member in members[:: max(1, len(members) // COUNT)][:COUNT]:
            file = archive.extractfile(member)
            assert file is not None
            small.addfile(member, io.BytesIO(file.read()))
        names = set(small.getnames())
    with labels.open(newline="") as file, (target / "labels.csv").open("w", newline="") as out:
        reader = csv.DictReader(file)
        writer = csv.DictWriter(out, reader.fieldnames or [])
        writer.writeheader()
        writer.writerows(row for row in reader if row["path"] in names)
    return target / f"{pack}.tar"


@pytest.mark.data
@pytest.mark.parametrize(("kind", "pack"), [("utkface", "utkface-test"), ("fairface", "fairface-test")])
def test_figures_agree_with_the_acceptance_check(kind: str, pack: str, tmp_path: Path) -> None:
    if not CHECK.is_file():
        pytest.skip(f"{CHECK} is not here")
    model = write_model(tmp_path / "m.onnx")
    tar = cut_pack(pack, tmp_path)
    command = f"{sys.executable} -m agelens predict --model {model} --threads 1"
    done = subprocess.run(
        [sys.executable, str(CHECK), str(tar), str(tmp_path / "labels.csv"), "--json", "--command", command],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=200,
        check=True,
    )
    wanted = json.loads(done.stdout)
    importing = ImportOptions(labels=tmp_path / "labels.csv" if kind == "fairface" else None)
    manifest = prepare(kind, tar, importing, PrepareOptions(workers=1, allow_leak=True))
    found = evaluate(str(model), manifest, options=EvaluateOptions(rounds=200, threads=1, allow_leak=True))
    assert found.data.pictures == wanted["n"] == COUNT
    assert found.data.failed / found.data.pictures == pytest.approx(wanted["fta"])
    names = ("mae", "cs5", "bias", "coverage", "width") if kind == "utkface" else ("exact", "one_off")
    for name in (*names, "gender"):
        assert found.figures[name].value == pytest.approx(wanted[name], abs=1e-9), name
