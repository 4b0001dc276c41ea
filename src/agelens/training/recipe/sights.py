"""What large networks that are taught nothing here see of faces.

By it `probe` tells age and gender, and networks that learn are told it as hints, see `hints`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from agelens.outfile import write_whole
from agelens.training.devices import in_bf16
from agelens.training.recipe.digest import digest
from agelens.training.recipe.hints import shrink

if TYPE_CHECKING:
    from pathlib import Path

    from agelens.training.crops import CropSet
    from agelens.training.recipe.lessons import Material

VGGFACE2 = "vggface2"
"""The network that saw research-only pictures, see `vggface2`."""
EMBEDDING = "embedding"
"""The CC0 recognition network as it was published, see `recognition`."""
SIGHTS, FREE = frozenset({VGGFACE2, EMBEDDING}), frozenset({EMBEDDING})
"""All of them; those that learned from nothing that is for research only."""
CHUNKS = {"cpu": 16}
"""Faces at once by the kind of device: on a processor more leave its caches and are slower."""
CHUNK = 256
"""On any other device."""
HINTS = 128
"""Numbers in which four fifths and more of what they see of our faces are."""
SEED = 53
"""Of which faces are mirrored."""
Look = Callable[[Tensor], Tensor]
"""RGB uint8, shape (N, S, S, 3), on the device that learns, to what is seen, shape (N, D)."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A network that looks at faces.

    Attributes:
        name: By which courses hear what heads on it say, or are told what it sees.
        about: All that what it sees depends on beside the faces, in JSON's types.
        check: Raises where the package that holds it is missing or damaged.
        open: Makes it ready for the faces of a material.
    """

    name: str
    about: list[Any]
    check: Callable[[], None]
    open: Callable[[Material], Look]


def see(sight: Sight, material: Material, work: Path, say: Callable[[str], None]) -> Tensor:
    """What a network sees of each face; kept in `work`.

    Half of the faces are mirrored: what is seen of people hardly changes by that.

    Args:
        sight: The network.
        material: The faces.
        work: A folder.
        say: Is told of the progress.

    Returns:
        Shape (F, D), on the device that holds the faces.
    """
    device, crops = material.faces.device, material.crops
    kept = work / f"{sight.name}-{identify(sight, crops)}.safetensors"
    if not kept.is_file():
        look = sight.open(material)
        mirrored = torch.from_numpy(np.random.default_rng(SEED).random(len(crops)) < 0.5).to(device)
        seen, chunk = [], CHUNKS.get(device.type, CHUNK)
        for faces, turned in zip(torch.split(material.faces, chunk), torch.split(mirrored, chunk), strict=True):
            with torch.inference_mode(), in_bf16(device):
                seen.append(look(torch.where(turned[:, None, None, None], faces.flip(2), faces)).float().cpu())
        write_whole(kept, save({"seen": torch.cat(seen)}))
        say(f"{sight.name} has seen {len(crops)} faces")
    return load(kept.read_bytes())["seen"].to(device)


def make_hints(seen: Tensor, crops: CropSet) -> Tensor:
    """What is seen as `HINTS` numbers, shape (F, HINTS), see `hints.shrink`."""
    hints = shrink(seen.cpu().numpy(), np.flatnonzero(crops.split == "train"), HINTS)
    return torch.from_numpy(hints).to(seen.device)


def identify(sight: Sight, crops: CropSet) -> str:
    """Eight letters that change with whatever it sees."""
    return digest([crops.fingerprint, crops.geometry.to_dict(), *sight.about, SEED])
