"""Splits that keep people and photographs on one side, and the detector of those that do not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agelens.datasets.manifest import Columns, Manifest
from agelens.datasets.rows import Row
from agelens.datasets.splits import assign_splits, drop_leaks, find_leaks, link_rows, refuse_leaks
from agelens.errors import LeakError, UsageError

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def manifest_of(rows: list[Row]) -> Manifest:
    return Manifest("table", Path("/"), Columns.of(rows))


@st.composite
def crowds(draw: st.DrawFn) -> list[Row]:
    """Rows of which many share a subject, a near-duplicate group, or both in chains."""
    subjects = st.none() | st.sampled_from("abcdefgh")
    groups = st.integers(0, 30)
    ages = st.none() | st.integers(0, 100)
    return [
        Row(
            "d",
            f"{number}.jpg",
            (age := draw(ages)),
            age,
            draw(st.sampled_from([None, "female", "male"])),
            draw(subjects),
            group=draw(groups),
            dhash="00" * 40,
        )
        for number in range(draw(st.integers(1, 40)))
    ]


@settings(max_examples=80, deadline=None)
@given(crowds(), st.integers(0, 5))
def test_no_split_ever_leaks(rows: list[Row], seed: int) -> None:
    split = assign_splits(manifest_of(rows), SHARES, seed=seed)
    assert set(split.columns.split) <= set(SHARES)
    assert not find_leaks(split)


@settings(max_examples=30, deadline=None)
@given(crowds(), st.randoms(use_true_random=False))
def test_the_draw_depends_on_seed_and_content_only(rows: list[Row], random: object) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (assign_splits(manifest_of(some), SHARES, seed=3) for some in (rows, shuffled))
    assert {row.path: row.split for row in one} == {row.path: row.split for row in other}
    assert one.fingerprint == other.fingerprint


def many(count: int = 4000, people: int | None = None) -> Manifest:
    rng = np.random.default_rng(0)
    ages = rng.gamma(4, 9, count).clip(0, 100).round()
    female = rng.random(count) < 0.4
    owners = rng.zipf(1.4, count) % people if people else None
    return manifest_of(
        [
            Row(
                "d",
                f"{number}.jpg",
                age := float(ages[number]),
                age,
                "female" if female[number] else "male",
                str(owners[number]) if owners is not None else None,
            )
            for number in range(count)
        ]
    )


def test_shares_ages_and_genders_keep_their_proportions() -> None:
    split = assign_splits(many(), SHARES, seed=1)
    counts = Counter(split.columns.split)
    assert abs(counts["train"] - 3200) <= 20
    assert abs(counts["val"] - 400) <= 20
    for mask in (split.in_split("val"), split.in_split("test"), split.in_split("train")):
        assert abs(split.columns.gender[mask].mean() - 0.4) < 0.025
        assert abs(split.columns.age_low[mask].mean() - split.columns.age_low.mean()) < 1.0


def test_people_with_many_pictures_spread_as_well_as_they_can() -> None:
    split = assign_splits(many(people=300), {"train": 0.9, "test": 0.1}, seed=1)
    assert not find_leaks(split)
    assert 0.07 < split.in_split("test").mean() < 0.13


def test_seeds_differ() -> None:
    one, other = (assign_splits(many(500), SHARES, seed=seed).columns.split.tolist() for seed in (0, 1))
    assert one != other


def test_only_the_rows_within_are_divided() -> None:
    rows = [Row("d", f"{number}.jpg", 30, 30, split="test" if number < 20 else "train") for number in range(100)]
    manifest = manifest_of(rows)
    split = assign_splits(manifest, {"train": 0.5, "val": 0.5}, within=manifest.in_split("train"))
    assert set(split.columns.split[:20]) == {"test"}
    assert Counter(split.columns.split[20:]) == {"train": 40, "val": 40}


def test_a_row_linked_to_one_outside_follows_it_or_stays() -> None:
    rows = [
        Row("d", "0", subject="a", split="test"),
        Row("d", "1", subject="a"),
        Row("d", "2", subject="a", split="train"),
    ]
    split = assign_splits(manifest_of(rows), {"train": 1.0}, within=np.array([False, True, True]))
    assert split.columns.split.tolist() == ["test", "test", "train"]
    assert find_leaks(split)  # left for the detector to say, not moved into the set's own test


def test_chains_link() -> None:
    rows = [
        Row("d", "0", subject="a", group=0, dhash="00" * 40),
        Row("d", "1", subject="b", group=0, dhash="00" * 40),
        Row("d", "2", subject="b", group=2, dhash="00" * 40),
        Row("e", "3", subject="b", group=3, dhash="00" * 40),  # another set's b is another person
    ]
    assert link_rows(manifest_of(rows)).tolist() == [0, 0, 0, 3]


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.2, "val": -0.2}])
def test_shares_that_make_no_whole_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="sum to 1"):
        assign_splits(many(10), shares)


def leaky() -> Manifest:
    return manifest_of(
        [
            Row("d", "0.jpg", subject="ann", split="train"),
            Row("d", "1.jpg", subject="ann", split="train"),
            Row("d", "2.jpg", subject="ann", split="val"),
            Row("d", "3.jpg", split="train", group=3, dhash="00" * 40),
            Row("d", "4.jpg", split="test", group=3, dhash="00" * 40),
            Row("d", "5.jpg", subject="bob", split="train"),
            Row("d", "6.jpg", subject="bob"),
        ]
    )


def test_leaks_are_found_and_named() -> None:
    leaks = find_leaks(leaky())
    assert dict(leaks.subjects) == {"ann": ("train", "val")}
    assert dict(leaks.groups) == {"3.jpg": ("test", "train")}
    assert leaks.to_dict() == {"subjects": 1, "groups": 1, "rows": {"train, val": 1, "test, train": 1}}


def test_leaks_are_refused_allowed_with_a_stamp_or_dropped() -> None:
    with pytest.raises(LeakError, match=r"ann in train and val.*3\.jpg.*--allow-leak"):
        refuse_leaks(leaky())
    stamped = refuse_leaks(leaky(), allow=True)
    assert stamped.leaky
    assert stamped.provenance["leaks"]["subjects"] == 1
    dropped = drop_leaks(leaky())
    assert dropped.tolist() == [0, 1, 3]  # val and test keep theirs
    clean = refuse_leaks(leaky().take(np.setdiff1d(np.arange(7), dropped)))
    assert not clean.leaky


def test_folds_are_looked_at_as_well() -> None:
    rows = [Row("d", "0", subject="a", fold=0), Row("d", "1", subject="a", fold=1), Row("d", "2", subject="b")]
    manifest = manifest_of(rows)
    assert dict(find_leaks(manifest, by=manifest.columns.fold).subjects) == {"a": ("0", "1")}
    assert not find_leaks(manifest)
