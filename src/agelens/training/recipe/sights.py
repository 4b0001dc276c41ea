"""What large networks that are taught nothing here see of faces.

By it `probe` tells age and gender, and networks that learn are told it as hints, see `hints`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

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
VGGFACE2_STAGES, EMBEDDING_STAGES = "vggface2-stages", "embedding-stages"
"""What both see in several of their blocks: earlier ones tell of age and gender what the last one, which tells people
apart, has left out."""
AGES = "ages"
"""The CC0 age network without its head, see `teacher`."""
GENDERS = "genders"
"""The small CC0 gender network, see `small_gender`."""
FREE = frozenset({EMBEDDING, EMBEDDING_STAGES, AGES, GENDERS})
"""Those that learned from nothing that is for research only."""
SIGHTS = FREE | {VGGFACE2, VGGFACE2_STAGES}
"""All of them. Names joined by "+" are one sight: what each sees side by side."""
CHUNKS = {"cpu": 16}
"""Faces at once by the kind of device: on a processor more leave its caches and are slower."""
CHUNK = 256
"""On any other device."""
HINTS = 128
"""Numbers in which four fifths and more of what they see of our faces are."""
PLAIN, HIDDEN_SHARE = 96, 0.45
"""Numbers of what is seen itself where hidden layers of heads are told too, and the share of these."""
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


def see_blocks(blocks: Iterable[nn.Module], maps: Tensor, kept: Sequence[int]) -> Tensor:
    """Means of the maps of some blocks, side by side in the order in which they are named.

    Args:
        blocks: Called one after the other.
        maps: What the first one is given, shape (N, C, H, W).
        kept: Numbers of blocks.
    """
    means: dict[int, Tensor] = {}
    for number, block in enumerate(blocks):
        maps = block(maps)
        if number in kept:
            means[number] = maps.mean(dim=(2, 3))
    return torch.cat([means[number] for number in kept], dim=1)


def parts_of(name: str) -> tuple[str, ...]:
    """The networks of a sight; none where it is none."""
    parts = tuple(name.split("+"))
    return parts if SIGHTS.issuperset(parts) else ()


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


def join(seen: list[Tensor], crops: CropSet) -> Tensor:
    """What several networks see of each face, side by side, (F, D) each; the variances of each sum to 1."""
    if len(seen) == 1:
        return seen[0]
    rows = torch.from_numpy(np.flatnonzero(crops.split == "train")).to(seen[0].device)
    return torch.cat([each / each[rows].var(dim=0).sum().sqrt() for each in seen], dim=1)


def make_hints(seen: Tensor, crops: CropSet, hidden: Tensor | None = None) -> Tensor:
    """What is seen as hints, shape (F, `HINTS`) or, with hidden layers, (F, `PLAIN` + H), see `hints.shrink`.

    Args:
        seen: Shape (F, D).
        crops: The faces.
        hidden: What heads make of what is seen, shape (F, H), see `probe.read_hidden`.
    """
    rows = np.flatnonzero(crops.split == "train")
    if hidden is None:
        return torch.from_numpy(shrink(seen.cpu().numpy(), rows, HINTS)).to(seen.device)
    plain = torch.from_numpy(shrink(seen.cpu().numpy(), rows, PLAIN)).to(seen.device)
    return torch.cat([plain * (1 - HIDDEN_SHARE) ** 0.5, hidden.to(seen.device) * HIDDEN_SHARE**0.5], dim=1)


def identify(sight: Sight, crops: CropSet) -> str:
    """Eight letters that change with whatever it sees."""
    return digest([crops.fingerprint, crops.geometry.to_dict(), *sight.about, SEED])
