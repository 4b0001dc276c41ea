"""What the network of `mobilenet` gives to research: what it sees of each face, see `sights`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agelens.training.devices import move_to
from agelens.training.recipe.mobilenet import CROP, MEMBERS, build, feed, read_package
from agelens.training.recipe.sights import VGGFACE2, Look, Sight

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from agelens.training.recipe.lessons import Material


def as_sight(archive: Path) -> Sight:
    """The network as it was published.

    Args:
        archive: See `mobilenet.read_package`.
    """

    def open_network(material: Material) -> Look:
        network = move_to(build(read_package(archive)), material.faces.device)

        def look(faces: Tensor) -> Tensor:
            seen: Tensor = network(feed(faces.permute(0, 3, 1, 2).float(), material.crops.geometry))
            return seen

        return look

    def check() -> None:
        read_package(archive)

    return Sight(VGGFACE2, [MEMBERS, CROP.to_dict()], check, open_network)
