"""Overlap and suppression of boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agelens.detect.boxes import intersect, measure, suppress


def rows(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)


@st.composite
def scored_boxes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    count = draw(st.integers(0, 25))
    corners = draw(hnp.arrays(np.float32, (count, 2), elements=st.integers(0, 60).map(float)))
    sizes = draw(hnp.arrays(np.float32, (count, 2), elements=st.integers(0, 40).map(float)))
    scores = draw(hnp.arrays(np.float32, count, elements=st.integers(0, 8).map(lambda n: n / 8)))
    return np.concatenate([corners, corners + sizes], axis=1), scores


def test_intersections_and_areas_are_those_of_counted_pixels() -> None:
    boxes = rows((0, 0, 10, 10), (5, 5, 15, 15), (10, 0, 20, 10), (2, 3, 4, 9), (30, 30, 20, 40))
    assert measure(boxes).tolist() == [100, 100, 100, 12, 0]
    assert intersect(boxes[0], boxes).tolist() == [100, 25, 0, 12, 0]


@given(scored_boxes())
def test_intersection_is_symmetric_and_no_larger_than_either(found: tuple[np.ndarray, np.ndarray]) -> None:
    boxes, _ = found
    shared = np.array([intersect(box, boxes) for box in boxes]).reshape(len(boxes), len(boxes))
    assert np.array_equal(shared, shared.T)
    assert np.array_equal(np.diag(shared), measure(boxes))
    assert (shared <= np.minimum(measure(boxes)[:, None], measure(boxes)[None])).all()


@given(scored_boxes(), st.sampled_from([0.2, 0.4, 0.7]), st.sampled_from([0.5, 0.7, 1.01]))
def test_what_stays_is_apart_and_what_goes_has_a_better_double(
    found: tuple[np.ndarray, np.ndarray], overlap: float, containment: float
) -> None:
    boxes, scores = found
    kept = suppress(boxes, scores, overlap=overlap, containment=containment)

    def doubles(one: int, other: int) -> bool:
        shared = float(intersect(boxes[one], boxes[[other]])[0])
        areas = measure(boxes[[one, other]])
        return shared > overlap * (areas.sum() - shared) or shared > containment * areas.min()

    assert len(set(kept)) == len(kept)
    assert scores[kept].tolist() == sorted(scores[kept].tolist(), reverse=True)
    for place, row in enumerate(kept):
        assert not any(doubles(better, row) for better in kept[:place])
    for row in set(range(len(boxes))) - set(kept):
        assert any(doubles(better, row) and scores[better] >= scores[row] for better in kept)


@given(scored_boxes())
def test_suppressing_twice_changes_nothing(found: tuple[np.ndarray, np.ndarray]) -> None:
    boxes, scores = found
    kept = suppress(boxes, scores, overlap=0.4, containment=0.7)
    assert suppress(boxes[kept], scores[kept], overlap=0.4, containment=0.7) == list(range(len(kept)))


def test_the_earlier_of_equals_stays() -> None:
    assert suppress(rows((0, 0, 10, 10), (0, 0, 10, 10)), np.array([0.5, 0.5], np.float32), overlap=0.4) == [0]


@pytest.mark.parametrize(("containment", "kept"), [(1.01, [0, 1]), (0.7, [0])])
def test_a_box_inside_another_goes_only_where_containment_counts(containment: float, kept: list[int]) -> None:
    boxes, scores = rows((0, 0, 100, 100), (10, 10, 40, 40)), np.array([0.9, 0.8], np.float32)
    assert suppress(boxes, scores, overlap=0.4, containment=containment) == kept
    # The other way round: the smaller is the better one.
    assert sorted(suppress(boxes, scores[::-1].copy(), overlap=0.4, containment=containment)) == (
        [0, 1] if len(kept) == 2 else [1]
    )


def test_nothing_stays_nothing() -> None:
    assert suppress(rows(), np.zeros(0, np.float32), overlap=0.4) == []
