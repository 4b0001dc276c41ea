"""The detection network: one canvas in, candidates out.

YuNet (Wu, Peng & Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023). The file is
OpenCV Zoo's `face_detection_yunet_2023mar.onnx` (MIT) with its input size left open, see `tools/derive_yunet.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agelens.runtime import open_session
from agelens.zoo import read_shipped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from agelens.types import Pixels

    Floats = NDArray[np.float32]

STRIDES = (8, 16, 32)


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Findings of one or more looks: boxes (N, 4), scores (N,), points (N, 5, 2).

    In pixels of the canvas as the network gives them, in those of the full-resolution picture once carried back.
    """

    boxes: Floats
    scores: Floats
    points: Floats

    def take(self, rows: NDArray[np.intp] | list[int]) -> Candidates:
        return Candidates(self.boxes[rows], self.scores[rows], self.points[rows])

    def __len__(self) -> int:
        return len(self.scores)


NOTHING = Candidates(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def join(parts: Iterable[Candidates]) -> Candidates:
    """All candidates of several looks."""
    found = [part for part in parts if len(part)]
    if not found:
        return NOTHING
    return Candidates(
        np.concatenate([part.boxes for part in found]),
        np.concatenate([part.scores for part in found]),
        np.concatenate([part.points for part in found]),
    )


class YuNet:
    """The network alone: one canvas in, candidates out. Safe to call from many threads at once."""

    def __init__(self, *, device: str = "cpu", threads: int = 1) -> None:
        self._session = open_session(read_shipped("yunet"), name="yunet", device=device, threads=threads)

    def look(self, canvas: Pixels, floor: float) -> Candidates:
        """Candidates on one canvas.

        Args:
            canvas: RGB uint8, shape (H, W, 3), both sides multiples of 32.
            floor: Least score.
        """
        width = canvas.shape[1]
        outputs = self.forward(canvas[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32, order="C"))  # BGR, 0..255
        return join(
            _decode_stride(stride, width // stride, [outputs[kind * 3 + level][0] for kind in range(4)], floor)
            for level, stride in enumerate(STRIDES)
        )

    def forward(self, planes: Floats) -> list[Floats]:
        """The raw outputs: classes, objectness, boxes and points, each at strides 8, 16 and 32.

        Args:
            planes: BGR 0..255, shape (1, 3, H, W).
        """
        outputs: list[Floats] = self._session.run(None, {"input": planes})
        return outputs


def _decode_stride(stride: int, columns: int, heads: list[Floats], floor: float) -> Candidates:
    """Boxes and points of one output level: offsets from the cell in strides, sizes as logarithms of strides."""
    classes, objectness, offsets, keypoints = heads
    certainty = classes[:, 0] * objectness[:, 0]
    rows = np.flatnonzero(certainty >= floor * floor)
    if not rows.size:
        return NOTHING
    cells = np.stack([rows % columns, rows // columns], axis=1).astype(np.float32)
    centre = (cells + offsets[rows, :2]) * stride
    half = np.exp(offsets[rows, 2:]) * (stride / 2)
    points = (keypoints[rows].reshape(-1, 5, 2) + cells[:, None]) * stride
    return Candidates(np.concatenate([centre - half, centre + half], axis=1), np.sqrt(certainty[rows]), points)
