"""Where courses begin: dlib's face recognition network, out of the package that holds it; and what it sees by itself.

The network (D. King, dlib-models, CC0 1.0) learned from three million pictures to tell people apart; what it sees of a
face serves gender and age well, also where the label set is small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from agelens.training.devices import move_to
from agelens.training.networks import FaceNetwork, NetworkConfig, normalise
from agelens.training.recipe.hearing import show_still
from agelens.training.recipe.packages import read_members
from agelens.training.recipe.sights import EMBEDDING, EMBEDDING_STAGES, Look, Sight, see_blocks
from agelens.training.recipe.starts import RECOGNITION_CONFIG, load_recognition_start

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from agelens.training.recipe.lessons import Material

FETCH = "pip download --no-deps face_recognition_models==0.3.0"
MEMBER = "face_recognition_models-0.3.0/face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
STAGES = (13, 9, 10, 11, 12)
"""The blocks of which a sight of stages tells, the last one first."""
LOOKS = (1.3, 1.05)
"""By how much the crops on disk are wider than each of its looks at a face."""


def begin_with_recognition(config: NetworkConfig, archive: Path, levels: Tensor) -> FaceNetwork:
    """The network under fresh heads, at any crop size.

    Args:
        config: In the layout of `starts.RECOGNITION_CONFIG`, or its first stages.
        archive: The downloaded package `face_recognition_models` 0.3.0.
        levels: Faces as the network will see them: RGB levels, shape (N, 3, config.size, config.size).

    Raises:
        NotFoundError: The package is not there.
        DamagedModelError: It is damaged, or the file in it is another one.
    """
    batches = [part.contiguous(memory_format=torch.channels_last) for part in torch.split(normalise(levels).cpu(), 64)]
    files = read_members(archive, {MEMBER: SHA256}, fetch=FETCH)
    return load_recognition_start(config, files[MEMBER], batches)


def as_sight(archive: Path, *, stages: bool = False) -> Sight:
    """The network as it was published, without heads: what it sees of a face in each of `LOOKS`, side by side.

    Args:
        archive: See `begin_with_recognition`.
        stages: Whether all blocks of `STAGES` are asked, and not the last one alone.
    """
    side, kept = RECOGNITION_CONFIG.size, STAGES if stages else STAGES[:1]

    def open_network(material: Material) -> Look:
        # It answers alike whatever faces its statistics are of.
        network = begin_with_recognition(RECOGNITION_CONFIG, archive, show_still(material.faces[:8], LOOKS[0], side))
        move_to(network, material.faces.device).eval()

        def look(faces: Tensor) -> Tensor:
            shown = [normalise(show_still(faces, widening, side)) for widening in LOOKS]
            planes = [each.contiguous(memory_format=torch.channels_last) for each in shown]
            return torch.cat([see_blocks(network.body, network.enter(each), kept) for each in planes], dim=1)

        return look

    def check() -> None:
        read_members(archive, {MEMBER: SHA256}, fetch=FETCH)

    about = [SHA256, side, LOOKS]
    if stages:
        return Sight(EMBEDDING_STAGES, [*about, STAGES], check, open_network)
    return Sight(EMBEDDING, about, check, open_network)
