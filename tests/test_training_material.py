"""What a data set becomes for a training: its age groups, which of its labels teach, and what it is made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agelens.datasets.manifest_file import read_manifest, write_manifest
from agelens.errors import EmptyDatasetError
from agelens.groups import NAMED
from agelens.training.batches import label_ages
from agelens.training.build import build_network
from agelens.training.config_file import make_config, merge
from agelens.training.heritage import list_data
from agelens.training.listeners import Listeners
from agelens.training.material import Material, open_material
from agelens.training.plan import make_lessons
from agelens.training.team import Team
from training_makers import SETTINGS, make_manifest

LEVI = {"network": {"name": "levi-hassner"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces labelled by FairFace's groups, every other one of the data set `aaf`."""
    folder = tmp_path_factory.mktemp("fairface")
    path = make_manifest(folder, 80)
    manifest = read_manifest(path)
    columns, groups = manifest.columns, NAMED["fairface"]
    number = np.array([groups.member[int(age)] for age in columns.age_low])
    bands = np.array(groups.close(120), np.float32)[number]
    labelled = replace(
        columns,
        age_low=bands[:, 0],
        age_high=bands[:, 1],
        age_group=np.array([groups.labels[index] for index in number], dtype=object),
        dataset=np.where(np.arange(80) % 2, "aaf", "utkface").astype(object),
    )
    write_manifest(replace(manifest, columns=labelled, groups=groups.labels), path)
    return path


def open_it(data: Path, *settings: dict[str, Any]) -> tuple[Material, Any, list[str]]:
    """The material, its configuration, and what was said."""
    told: list[str] = []
    where = {"data": {"file": str(data), "output_dir": str(data.parent / "output")}}
    config = make_config(merge(SETTINGS, where, *settings))
    return open_material(config, "both", None, Team(), Listeners(told.append)), config, told


def test_a_set_is_learned_by_its_own_groups(data: Path) -> None:
    material, config, told = open_it(data, LEVI)
    assert material.groups.name == "fairface"
    assert not any("WARNING" in line for line in told)
    lessons = make_lessons(config, material, build_network(config, "both", material))
    inside, _ = label_ages(lessons, material.train)
    assert (inside.sum(dim=1) == 1).all()


def test_labels_that_teach_nothing_are_told_of(data: Path) -> None:
    material, config, told = open_it(data, LEVI, {"data": {"groups": "adience"}})
    lessons = make_lessons(config, material, build_network(config, "both", material))
    mute = int((label_ages(lessons, material.train)[0].sum(dim=1) == 0).sum())
    assert mute > len(material.train) / 2
    (line,) = (line for line in told if "WARNING" in line)
    assert f"of {len(material.train)} age labels in train {mute} reach over several of the groups adience" in line
    assert "--groups" in line
    assert not any("WARNING" in line for line in open_it(data)[2])  # the mass inside a band teaches


def test_ages_of_which_nothing_would_be_learned_are_refused(data: Path) -> None:
    with pytest.raises(EmptyDatasetError, match=r"tell of 0 of the network's classes.*several years.*another --loss"):
        open_it(data, {"hyperparameters": {"loss": "cross_entropy"}, "network": {"name": "face"}})
    with pytest.raises(EmptyDatasetError, match=r"tell of 1 of .*several of the groups 0-75,76\+"):
        open_it(data, LEVI, {"data": {"groups": "0-75,76+"}, "hyperparameters": {"loss": "cross_entropy"}})


def test_the_data_sets_inside_are_named(data: Path) -> None:
    about = open_it(data)[0].about
    assert about["datasets"] == ["aaf", "utkface"]
    (entry,) = list_data({"data": about})
    assert entry["name"] == f"made: aaf, utkface ({about['fingerprint'][:12]})"
    (own,) = list_data({"data": {**about, "datasets": ["made"]}})
    assert own["name"] == f"made ({about['fingerprint'][:12]})"


def test_rows_in_another_order_keep_their_parts(tmp_path: Path) -> None:
    data = make_manifest(tmp_path, 64)
    manifest = read_manifest(data)
    known = dict(zip(manifest.columns.path, manifest.columns.subject, strict=True))
    first, _, _ = open_it(data)
    shuffled = manifest.take(np.random.default_rng(1).permutation(64))
    assert (shuffled.fingerprint, shuffled.order != manifest.order) == (manifest.fingerprint, True)
    size = data.stat().st_size
    write_manifest(shuffled, data)
    assert data.stat().st_size == size
    second, _, _ = open_it(data)
    assert set(second.crops.path[second.test]) == set(first.crops.path[first.test])
    assert second.crops.path.tolist() == shuffled.columns.path.tolist()
    parts = [{known[path] for path in second.crops.path[rows]} for rows in (second.train, second.val, second.test)]
    assert [len(first & other) for first, other in zip(parts, parts[1:] + parts[:1], strict=True)] == [0, 0, 0]


def test_crops_are_cut_once(tmp_path: Path) -> None:
    data = make_manifest(tmp_path, 64)
    for _ in range(2):
        open_it(data)
    assert len(list((tmp_path / "output" / "crops").iterdir())) == 1
