"""Geometry of boxes: overlap, suppression, clipping. Pure functions on arrays.

Boxes are rows of `x0, y0, x1, y1`, shape (N, 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


def intersect(box: Floats, boxes: Floats) -> Floats:
    """Area shared by one box, shape (4,), and each of `boxes`, shape (N, 4)."""
    width = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    height = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0), dtype=np.float32)


def measure(boxes: Floats) -> Floats:
    """Area of each box, shape (N,); zero for an inverted one."""
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(size[:, 0] * size[:, 1], dtype=np.float32)


def suppress(boxes: Floats, scores: Floats, *, overlap: float, containment: float = 1.01) -> list[int]:
    """Greedy non-maximum suppression.

    Args:
        boxes: Shape (N, 4).
        scores: Shape (N,). The best box stays; ties go to the earlier row.
        overlap: A box whose intersection over union with a better one exceeds this is dropped.
        containment: A box of which more than this share lies inside a better one, or the other way round, is dropped
            too. A face found at two scales often gives one box inside the other.

    Returns:
        Indices of the boxes that stay, best first.
    """
    order = np.argsort(-scores, kind="stable")
    areas = measure(boxes)
    kept: list[int] = []
    while order.size:
        best = int(order[0])
        kept.append(best)
        rest = order[1:]
        shared = intersect(boxes[best], boxes[rest])
        union = areas[best] + areas[rest] - shared
        smaller = np.minimum(areas[best], areas[rest])
        doubled = (shared > overlap * union) | (shared > containment * smaller)
        order = rest[~doubled]
    return kept
