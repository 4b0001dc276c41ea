"""Hashes, near-duplicate groups and conflicts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from agelens.datasets.duplicates import (
    count_sizes,
    distance,
    find_conflicts,
    group_duplicates,
    hash_picture,
    join,
    members,
    near_pairs,
)
from agelens.datasets.manifest import Columns, Manifest
from agelens.datasets.rows import Row
from dataset_makers import encoded, pattern


def hashes_of(*pictures: np.ndarray) -> np.ndarray:
    joined = b"".join(bytes.fromhex(hash_picture(Image.fromarray(picture))) for picture in pictures)
    return np.frombuffer(joined, dtype=">u8").astype(np.uint64).reshape(-1, 5)


def slow_distance(left: np.ndarray, right: np.ndarray) -> int:
    return sum((int(one) ^ int(other)).bit_count() for one, other in zip(left, right, strict=True))


@st.composite
def crowded_hashes(draw: st.DrawFn) -> np.ndarray:
    """Hashes that lie close: few originals, each with copies of which some bits are turned."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    originals = rng.integers(0, 2**64, (draw(st.integers(1, 4)), 5), dtype=np.uint64)
    copies = originals[rng.integers(0, len(originals), draw(st.integers(1, 40)))]
    for row in copies:
        for _ in range(int(rng.integers(0, 12))):
            row[0] ^= np.uint64(1) << np.uint64(rng.integers(0, 64))
        for _ in range(int(rng.integers(0, 50))):
            row[rng.integers(1, 5)] ^= np.uint64(1) << np.uint64(rng.integers(0, 64))
    return copies


@settings(max_examples=60, deadline=None)
@given(crowded_hashes(), st.integers(0, 10), st.integers(0, 60))
def test_pairs_are_exactly_those_of_a_slow_search(hashes: np.ndarray, near: int, fine: int) -> None:
    found = set(map(tuple, near_pairs(hashes, near=near, fine=fine).tolist()))
    expected = {
        (one, other)
        for one in range(len(hashes))
        for other in range(one + 1, len(hashes))
        if slow_distance(hashes[one, :1], hashes[other, :1]) <= near
        and slow_distance(hashes[one, 1:], hashes[other, 1:]) <= fine
    }
    assert found == expected


@settings(max_examples=30, deadline=None)
@given(crowded_hashes(), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order(hashes: np.ndarray, random: object) -> None:
    order = list(range(len(hashes)))
    random.shuffle(order)  # type: ignore[attr-defined]
    groups, shuffled = group_duplicates(hashes), group_duplicates(hashes[order])
    alike = groups[:, None] == groups[None, :]
    np.testing.assert_array_equal(alike[np.ix_(order, order)], shuffled[:, None] == shuffled[None, :])
    assert all(groups[group] == group for group in groups)


def test_distances_count_bits() -> None:
    left = np.array([[0, 1], [2**64 - 1, 0]], dtype=np.uint64)
    right = np.array([[0, 0], [0, 2**63]], dtype=np.uint64)
    assert distance(left, right).tolist() == [1, 65]


def test_components() -> None:
    assert join(6, np.array([[4, 5], [1, 4], [3, 2]])).tolist() == [0, 1, 2, 2, 1, 1]
    assert join(2, np.empty((0, 2), dtype=np.int64)).tolist() == [0, 1]


def test_the_hash_is_what_its_definition_says() -> None:
    ramp = np.repeat(np.linspace(0, 255, 90).astype(np.uint8)[None, :, None], 80, axis=0).repeat(3, axis=2)
    assert hash_picture(Image.fromarray(ramp))[:16] == "f" * 16
    assert hash_picture(Image.fromarray(ramp[:, ::-1].copy())) == "0" * 80
    half = ramp.copy()
    half[40:] = ramp[40:, ::-1]
    assert hash_picture(Image.fromarray(half))[:16] == "f" * 8 + "0" * 8


@pytest.mark.parametrize("seed", range(8))
def test_a_copy_stays_near_and_strangers_far(seed: int) -> None:
    original = pattern(seed, 200)
    image = Image.fromarray(original)
    jpeg = Image.open(io.BytesIO(encoded(seed, 200, "JPEG", quality=60)))
    copies = [jpeg, image.resize((130, 130)), ImageEnhance.Brightness(image).enhance(0.9)]
    strangers = [pattern(seed + 1000 + number, 200) for number in range(3)]
    hashes = hashes_of(original, *(np.asarray(copy.convert("RGB")) for copy in copies), *strangers)
    assert group_duplicates(hashes).tolist() == [0, 0, 0, 0, 4, 5, 6]


def test_thousands_of_equal_pictures_are_one_group() -> None:
    hashes = np.repeat(hashes_of(pattern(1), pattern(2)), 5000, axis=0)
    assert count_sizes(group_duplicates(hashes)) == {5000: 2}


def test_no_pictures_no_groups() -> None:
    assert group_duplicates(np.empty((0, 5), dtype=np.uint64)).tolist() == []
    assert members(np.array([-1, -1, 3], dtype=np.int32)) == []


def labelled(*labels: tuple[int | None, int | None, str | None, int]) -> Manifest:
    rows = [
        Row("d", f"{number}.jpg", low, high, gender, group=group, dhash="00" * 40)  # type: ignore[arg-type]
        for number, (low, high, gender, group) in enumerate(labels)
    ]
    return Manifest("table", Path("/"), Columns.of(rows))


def test_conflicts_are_bands_that_do_not_meet_and_other_genders() -> None:
    manifest = labelled(
        *((20, 29, "male", 0), (25, 25, "male", 0)),  # the bands meet
        *((20, 29, "male", 2), (35, 35, None, 2), (30, 39, "male", 2)),  # 29 to 35
        *((5, 5, "male", 5), (5, 5, "female", 5)),
        *((None, None, "male", 7), (80, 80, None, 7)),  # nothing to disagree on
        (1, 1, "male", 9),
    )
    found = [(conflict.rows, conflict.years, conflict.gender) for conflict in find_conflicts(manifest)]
    assert found == [((2, 3, 4), 6.0, False), ((5, 6), 0.0, True)]
