"""Near-duplicate pictures: a difference hash, exact grouping by Hamming distance, conflicting labels.

The hash: grey, reduced to 9 x 8 cells, one bit for each of the 64 neighbours in a row that grow brighter; then the
same over 17 x 16 cells, 256 bits. It survives re-encoding, resizing and changes of brightness. The 64 bits find
candidates quickly, but do not decide: aligned faces look alike at 9 x 8 cells (at 3 bits, 1,083 different people of
UTKFace chain into one group). The 256 bits decide: at 28, no group of UTKFace, FairFace or All-Age-Faces holds
strangers; at 36, 69 people of UTKFace chain into one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from agelens.datasets.manifest import Manifest

NEAR = 6
"""Largest distance in the 64 bits at which two pictures may be one photograph."""

FINE = 28
"""Largest distance in the 256 bits at which they are."""

Hashes = NDArray[np.uint64]
"""Shape (N, 5): 64 bits, then 256."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Near-duplicates that are labelled differently.

    Attributes:
        rows: Indices of all rows of the near-duplicate group.
        years: By how many years two of their age bands lie apart at most (0 where the ages agree).
        gender: Whether their genders differ.
    """

    rows: tuple[int, ...]
    years: float
    gender: bool


def hash_picture(picture: PillowImage.Image) -> str:
    """The difference hash of an RGB picture, as `Row.dhash` holds it."""
    grey = picture.convert("L")
    return (_differences(grey, 8) + _differences(grey, 16)).hex()


def _differences(grey: PillowImage.Image, side: int) -> bytes:
    reduced = grey.resize((side + 1, side), PillowImage.Resampling.BOX).tobytes()
    cells = np.frombuffer(reduced, np.uint8).reshape(side, side + 1)
    return np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes()


def distance(left: Hashes, right: Hashes) -> NDArray[np.int64]:
    """Hamming distances, shape (N,), between two arrays of shape (N, words)."""
    differing = np.ascontiguousarray(left ^ right).view(np.uint16)
    return np.asarray(_ONES[differing].sum(axis=1, dtype=np.int64))


def near_pairs(hashes: Hashes, *, near: int = NEAR, fine: int = FINE) -> NDArray[np.int64]:
    """All pairs of hashes at most `near` of the 64 and at most `fine` of the 256 bits apart, exactly.

    Cut into `near + 1` bands of bits, two 64-bit hashes at most `near` apart agree wholly in at least one band (the
    pigeonhole principle), so only hashes that share a band are compared.

    Args:
        hashes: Shape (N, 5).
        near: Largest distance in the first 64 bits, 0 to 16.
        fine: Largest distance in the other 256.

    Returns:
        Indices of shape (P, 2), the smaller first. A pair may be named more than once.
    """
    coarse = hashes[:, 0]
    edges = np.linspace(0, 64, near + 2).astype(int)
    found = [np.empty((0, 2), dtype=np.int64)]
    for low, high in pairwise(edges):
        keys = (coarse >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        # Compare each with its neighbour at distance 1, 2, ... for as long as both still lie in one run of equal keys.
        starts = np.arange(len(keys))
        step = 1
        while True:
            starts = starts[starts + step < len(keys)]
            starts = starts[keys[starts] == keys[starts + step]]
            if not len(starts):
                break
            pairs = np.stack([order[starts], order[starts + step]], axis=1)
            pairs = pairs[distance(coarse[pairs[:, 0], None], coarse[pairs[:, 1], None]) <= near]
            found.append(pairs[distance(hashes[pairs[:, 0], 1:], hashes[pairs[:, 1], 1:]) <= fine])
            step += 1
    return np.sort(np.concatenate(found), axis=1)


def group_duplicates(hashes: Hashes, *, near: int = NEAR, fine: int = FINE) -> NDArray[np.int32]:
    """Number of the near-duplicate group of every picture, shape (N,); the first picture of a group gives the number.

    Groups are chains: two pictures of one group may lie further apart where others lie between them.
    """
    if not len(hashes):
        return np.empty(0, dtype=np.int32)
    distinct, first, inverse = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    heads = join(len(distinct), near_pairs(distinct, near=near, fine=fine))
    smallest = np.full(len(distinct), len(hashes), dtype=np.int64)
    np.minimum.at(smallest, heads, first)
    return smallest[heads][inverse.reshape(-1)].astype(np.int32)


def join(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Connected components: for each of `count` things, the one thing that stands for its component (union-find)."""
    parents = list(range(count))

    def find(thing: int) -> int:
        while parents[thing] != thing:
            parents[thing] = parents[parents[thing]]
            thing = parents[thing]
        return thing

    for one, other in pairs.tolist():
        low, high = sorted((find(one), find(other)))
        parents[high] = low
    return np.fromiter((find(thing) for thing in range(count)), dtype=np.int64, count=count)


def members(groups: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """The row indices of every group of two or more; rows numbered -1 belong to none."""
    order = np.argsort(groups, kind="stable")
    borders = np.flatnonzero(np.diff(groups[order])) + 1
    return [rows for rows in np.split(order, borders) if len(rows) > 1 and groups[rows[0]] >= 0]


def picture_groups(manifest: Manifest) -> NDArray[np.int32]:
    """Number of the near-duplicate group of each picture: once, however many faces the set has of it."""
    columns = manifest.columns
    by_path = dict(zip(columns.path.tolist(), columns.group.tolist(), strict=True))
    return np.array(list(by_path.values()), dtype=np.int32)


def find_conflicts(manifest: Manifest) -> list[Conflict]:
    """Near-duplicate groups whose members do not agree on age (their bands do not meet) or on gender.

    Pictures of which the set has several faces are passed over: whose label would another picture's contradict?
    """
    low, high, gender = manifest.columns.age_low, manifest.columns.age_high, manifest.columns.gender
    conflicts = []
    path = manifest.columns.path
    for rows in members(manifest.columns.group):
        if len(set(path[rows].tolist())) < len(rows):
            continue
        aged = rows[~np.isnan(low[rows])]
        # Bands all meet exactly where the highest lower end does not pass the lowest upper end.
        years = max(0.0, float(low[aged].max() - high[aged].min())) if len(aged) else 0.0
        sexes = set(gender[rows].tolist()) - {-1}
        if years or len(sexes) > 1:
            conflicts.append(Conflict(tuple(rows.tolist()), years, len(sexes) > 1))
    return conflicts


def count_sizes(groups: NDArray[np.int32]) -> dict[int, int]:
    """How many groups there are of each size above one."""
    sizes: defaultdict[int, int] = defaultdict(int)
    for rows in members(groups):
        sizes[len(rows)] += 1
    return dict(sorted(sizes.items()))


_ONES = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)
