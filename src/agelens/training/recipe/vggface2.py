"""What the network of `mobilenet` gives to research: what it sees of each face, see `sights`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agelens.training.devices import move_to
from agelens.training.recipe.mobilenet import CROP, MEMBERS, STAGES, build, feed, read_package
from agelens.training.recipe.sights import VGGFACE2, VGGFACE2_STAGES, Look, Sight

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from agelens.training.recipe.lessons import Material


def as_sight(archive: Path, *, stages: bool = False) -> Sight:
    """The network as it was published.

    Args:
        archive: See `mobilenet.read_package`.
        stages: Whether several of its blocks are asked, see `mobilenet.STAGES`, and not the last one alone.
    """
    kept = STAGES if stages else STAGES[:1]

    def open_network(material: Material) -> Look:
        network = move_to(build(read_package(archive)), material.faces.device)

        def look(faces: Tensor) -> Tensor:
            seen: Tensor = network(feed(faces.permute(0, 3, 1, 2).float(), material.crops.geometry), kept)
            return seen

        return look

    def check() -> None:
        read_package(archive)

    about = [MEMBERS, CROP.to_dict()]
    if stages:
        return Sight(VGGFACE2_STAGES, [*about, STAGES], check, open_network)
    return Sight(VGGFACE2, about, check, open_network)
