"""What a teacher says of every face of a crop set, kept on disk beside it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agelens.outfile import write_whole
from agelens.training.batches import still_crops
from agelens.training.networks import AGE_BINS
from agelens.training.starts import TEACHER_BINS, Teacher

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.training.crops import CropSet

FADE = 0.85
"""From each year above 80 to the next, the teacher's "80 and more" fades by this factor."""


def ask_teacher(crops: CropSet, wheel: Path, kept: Path, widening: float) -> NDArray[np.float32]:
    """The CC0 networks' distribution over years for every face, the mean of the face and its mirror image.

    Args:
        crops: The faces.
        wheel: Where the networks are, see `starts.read_start`.
        kept: The file (.npy) that holds the answer from then on.
        widening: By how much the crops are wider than the network's.

    Returns:
        Shape (N, 101), rows sum to 1.
    """
    if kept.is_file():
        answer: NDArray[np.float32] = np.load(kept)
        if len(answer) == len(crops):
            return answer
    teacher = Teacher(wheel)
    parts = []
    for start in range(0, len(crops), 256):
        rows = np.arange(start, min(start + 256, len(crops)))
        large, small = still_crops(crops, rows, widening, 64), still_crops(crops, rows, widening, 32)
        answers = [teacher.judge(a, b)[0] for a, b in ((large, small), (large[:, :, ::-1], small[:, :, ::-1]))]
        parts.append(sum(answers) / 2)
    answer = spread_last_bin(np.concatenate(parts))
    buffer = io.BytesIO()
    np.save(buffer, answer)
    write_whole(kept, buffer.getvalue())
    return answer


def spread_last_bin(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """81 bins, the last for "80 and more", as 101: its mass fades over the years 80 to 100."""
    fade = FADE ** np.arange(AGE_BINS - TEACHER_BINS + 1, dtype=np.float32)
    tail = probabilities[:, -1:] * (fade / fade.sum())
    return np.concatenate([probabilities[:, :-1], tail], axis=1).astype(np.float32)
