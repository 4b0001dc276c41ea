"""The detection network: canvases in, candidates out.

YuNet (Wu, Peng & Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023). The file is
OpenCV Zoo's `face_detection_yunet_2023mar.onnx` (MIT), rearranged by `tools/derive_yunet.py`: any number of canvases of
any size, as bytes, and the answers of all cells in one piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from agelens.runtime import open_session
from agelens.zoo import read_shipped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Planes = NDArray[np.uint8]

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
    """The network alone: canvases in, candidates out. Safe to call from many threads at once."""

    def __init__(self, *, device: str = "cpu", threads: int = 1) -> None:
        self._session = open_session(read_shipped("yunet"), name="yunet", device=device, threads=threads)

    def look(self, canvas: Planes, floor: float) -> Candidates:
        """Candidates on one canvas.

        Args:
            canvas: Blue, green and red planes, uint8, shape (3, H, W), both sides multiples of 32.
            floor: Least score.
        """
        return self.look_at_all(canvas[None], floor)[0]

    def look_at_all(self, canvases: Planes, floor: float) -> list[Candidates]:
        """Candidates on each of several canvases of one size, shape (N, 3, H, W); see `look`."""
        certainties, findings = self.forward(canvases)
        cells = lay_cells(canvases.shape[3], canvases.shape[2])
        return [_read(cells, certainties[row, 0], findings[row], floor) for row in range(len(canvases))]

    def forward(self, canvases: Planes) -> list[Floats]:
        """The raw outputs.

        Args:
            canvases: As of `look_at_all`.

        Returns:
            How certain each cell is of a face, the square of its score, shape (N, 1, cells), and what each one finds,
            shape (N, 16, cells): two numbers that the former were made of, the centre as an offset from the cell in
            strides, the sides as logarithms of strides, and five points as offsets in strides. First come the cells of
            stride 8, row by row, then those of 16 and of 32.
        """
        outputs: list[Floats] = self._session.run(None, {"canvases": canvases})
        return outputs


def _read(cells: Floats, certainty: Floats, findings: Floats, floor: float) -> Candidates:
    """The candidates of one canvas with those cells, see `lay_cells`."""
    found = np.flatnonzero(certainty >= floor * floor)
    if not found.size:
        return NOTHING
    places = cells[found]
    place, stride = places[:, :2], places[:, 2:]
    values = findings[:, found].T
    centre = (place + values[:, 2:4]) * stride
    half = np.exp(values[:, 4:6]) * (stride / 2)
    points = (values[:, 6:].reshape(-1, 5, 2) + place[:, None]) * stride[:, None]
    return Candidates(np.concatenate([centre - half, centre + half], axis=1), np.sqrt(certainty[found]), points)


@lru_cache(maxsize=32)
def lay_cells(width: int, height: int) -> Floats:
    """Column, row and stride of each cell of a canvas of that size, shape (cells, 3), in the network's order."""
    levels = []
    for stride in STRIDES:
        row, column = np.indices((height // stride, width // stride)).reshape(2, -1)
        levels.append(np.stack([column, row, np.full_like(row, stride)], axis=1).astype(np.float32))
    return np.concatenate(levels)
