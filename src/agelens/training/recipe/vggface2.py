"""What the network of `mobilenet` gives to research: what it sees of each face.

By it `probe` tells age and gender, and networks that learn are told it as hints, see `hints`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from agelens.outfile import write_whole
from agelens.training.devices import in_bf16
from agelens.training.recipe.digest import digest
from agelens.training.recipe.hints import shrink
from agelens.training.recipe.mobilenet import CROP, MEMBERS, build, feed, read_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agelens.training.crops import CropSet
    from agelens.training.recipe.lessons import Material

CHUNKS = {"cpu": 16}
"""Faces at once by the kind of device: on a processor more leave its caches and are slower."""
CHUNK = 256
"""On any other device."""
HINTS = 128
"""Numbers in which four fifths of what it sees of our faces are."""
SEED = 53
"""Of which faces are mirrored."""


def see(archive: Path, material: Material, work: Path, say: Callable[[str], None]) -> Tensor:
    """What the network, as it was published, sees of each face; kept in `work`.

    Half of the faces are mirrored: what it sees of people hardly changes by that.

    Args:
        archive: See `mobilenet.read_package`.
        material: The faces.
        work: A folder.
        say: Is told of the progress.

    Returns:
        Shape (F, 1024), on the device that holds the faces.
    """
    device, crops = material.faces.device, material.crops
    kept = work / f"vggface2-{identify(crops)}.safetensors"
    if not kept.is_file():
        network = build(read_package(archive)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        mirrored = torch.from_numpy(np.random.default_rng(SEED).random(len(crops)) < 0.5).to(device)
        seen, chunk = [], CHUNKS.get(device.type, CHUNK)
        for faces, turned in zip(torch.split(material.faces, chunk), torch.split(mirrored, chunk), strict=True):
            levels = faces.permute(0, 3, 1, 2).float()
            shown = feed(torch.where(turned[:, None, None, None], levels.flip(3), levels), crops.geometry)
            with torch.inference_mode(), in_bf16(device):
                seen.append(network(shown).cpu())
        write_whole(kept, save({"seen": torch.cat(seen)}))
        say(f"vggface2 has seen {len(crops)} faces")
    return load(kept.read_bytes())["seen"].to(device)


def make_hints(seen: Tensor, crops: CropSet) -> Tensor:
    """What it sees as `HINTS` numbers, shape (F, HINTS), see `hints.shrink`."""
    hints = shrink(seen.cpu().numpy(), np.flatnonzero(crops.split == "train"), HINTS)
    return torch.from_numpy(hints).to(seen.device)


def identify(crops: CropSet) -> str:
    """Eight letters that change with whatever it sees."""
    about: list[Any] = [crops.fingerprint, crops.geometry.to_dict(), MEMBERS, CROP.to_dict(), SEED]
    return digest(about)
