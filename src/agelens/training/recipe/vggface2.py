"""What the network of `mobilenet` gives to research: it learns our labels and teaches, and what it sees are hints.

Its lower blocks stay as they are and are asked once of each face; from what they say, its last two blocks and its heads
learn our labels.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from agelens.modelspec import AGE_BINS
from agelens.outfile import write_whole
from agelens.training.batches import Batch
from agelens.training.labels import balance, draw_pass
from agelens.training.learner import Learner, Pace, not_finite
from agelens.training.losses import band_mask
from agelens.training.objective import Objective
from agelens.training.recipe.hints import shrink
from agelens.training.recipe.lessons import Said, Teacher
from agelens.training.recipe.mobilenet import BLOCKS, CROP, KEPT, MEMBERS, Lower, Upper, build, feed, read_package
from agelens.training.team import Team

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from agelens.training.crops import CropSet
    from agelens.training.recipe.lessons import Material

LEVELS = 255 / 6
"""What the kept blocks say lies between 0 and 6 and is kept in eight bits."""
CHUNKS = {"cpu": 16}
"""Faces at once by the kind of device: on a processor more leave its caches and are slower."""
CHUNK = 256
"""On any other device."""
HINTS = 128
"""Numbers in which four fifths of what it sees of our faces are."""
SEED = 53
"""Of which faces are mirrored when hints are made."""
TOLD = 200
"""Steps between what is told of the progress."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the upper blocks learn; for the rest see `Pace` and `Objective`.

    Attributes:
        passes: How often each face is seen.
        batch: Faces in a batch.
        learning_rate: Peak of the schedule.
        warmup: Steps of the warm-up.
        weight_decay: On kernels only.
        average: Decay of the exponential average of the weights.
        dropout: Share of what the heads see that is dropped while learning.
        balance: How evenly ages and genders come, see `labels.balance`.
        label: Weight of the mass inside the age label.
        target: Weight of the distribution that the age label becomes.
        smoothing: Label smoothing of gender.
        seed: Of order and mirroring.
    """

    passes: float = 6
    batch: int = 128
    learning_rate: float = 4e-4
    warmup: int = 100
    weight_decay: float = 0.05
    average: float = 0.998
    dropout: float = 0.2
    balance: float = 0.25
    label: float = 0.5
    target: float = 0.5
    smoothing: float = 0.1
    seed: int = 51


TUNING = Tuning()


def count_at_once(device: torch.device) -> int:
    """How many faces are looked at together."""
    return CHUNKS.get(device.type, CHUNK)


def look(lower: Lower, material: Material, rows: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Iterator[Tensor]:
    """What the kept blocks say of faces, in eight bits, some faces at a time, shape (n, 512, 14, 14).

    Args:
        lower: The kept blocks.
        material: The faces.
        rows: Which of them, shape (N,).
        mirrored: Which of those are mirrored, shape (N,). What is said of a mirrored face is not the mirror image of
            what is said of the face: TensorFlow pads one side alone.
    """
    device = material.faces.device
    chunk = count_at_once(device)
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        levels = material.faces[torch.from_numpy(rows[part]).to(device)].permute(0, 3, 1, 2).float()
        turned = torch.from_numpy(mirrored[part]).to(device)[:, None, None, None]
        seen = feed(torch.where(turned, levels.flip(3), levels), material.crops.geometry)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            said = lower(seen)
        yield (said.float() * LEVELS).round().to(torch.uint8)


def look_at_all(lower: Lower, material: Material, rows: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
    """The same of all faces, held once, shape (N, 512, 14, 14)."""
    shape = (len(rows), BLOCKS[KEPT - 1][1], Upper.side, Upper.side)
    maps = torch.empty(shape, dtype=torch.uint8, device=material.faces.device, memory_format=torch.channels_last)
    done = 0
    for some in look(lower, material, rows, mirrored):
        maps[done : done + len(some)] = some
        done += len(some)
    return maps


def tune(lower: Lower, upper: Upper, material: Material, tuning: Tuning, say: Callable[[str], None]) -> Upper:
    """Teaches the upper blocks; gives them with their averaged weights.

    Raises:
        TrainingError: The loss became NaN.
    """
    crops, device, labels = material.crops, material.faces.device, material.labels
    rows = np.flatnonzero(crops.split == "train")
    maps = look_at_all(lower, material, rows, np.random.default_rng([tuning.seed, 2]).random(len(rows)) < 0.5)
    weights = balance(crops, rows, tuning.balance)
    per_pass = max(len(rows) // tuning.batch, 1)
    steps = max(round(tuning.passes * per_pass), 1)
    pace = Pace(
        learning_rate=tuning.learning_rate,
        warmup=min(tuning.warmup, steps // 4),
        steps=steps,
        weight_decay=tuning.weight_decay,
        average=tuning.average,
        seed=tuning.seed,
    )
    objective = Objective(age=tuning.label, target=tuning.target, smoothing=tuning.smoothing)
    learner = Learner(upper, Upper(), objective, pace, team=Team(device=device))
    order = np.zeros(0, np.int64)
    for step in range(steps):
        pass_, place = divmod(step, per_pass)
        if not place:
            rng = np.random.default_rng([tuning.seed, 1, pass_])
            order = draw_pass(np.arange(len(rows)), weights, rng, per_pass * tuning.batch)
        chosen = order[place * tuning.batch : (place + 1) * tuning.batch]
        seen = maps[torch.from_numpy(chosen).to(device)].float() / LEVELS
        of = torch.from_numpy(rows[chosen]).to(device)
        target = labels.age[of]
        batch = Batch.of_equals(
            seen.contiguous(memory_format=torch.channels_last),
            band_mask(labels.low[of], labels.high[of], AGE_BINS),
            target / target.sum(dim=1, keepdim=True),
            labels.female[of],
        )
        losses, _, _ = learner.take_step(batch, step)
        if (step + 1) % TOLD == 0 or step + 1 == steps:
            loss = float(losses["loss"])
            if not math.isfinite(loss):
                raise not_finite(loss, step)
            say(f"vggface2: step {step + 1} of {steps}, loss {loss:.3f}")
    assert isinstance(learner.average, Upper)
    return learner.average


def see(archive: Path, material: Material, work: Path, say: Callable[[str], None]) -> Tensor:
    """What the network as it was published sees of each face, as `HINTS` numbers, see `hints`; kept in `work`.

    Half of the faces are mirrored: what it sees of people hardly changes by that.

    Returns:
        Shape (F, HINTS), on the device that holds the faces.
    """
    device, crops = material.faces.device, material.crops
    kept = work / f"vggface2-hints-{identify_hints(crops)}.safetensors"
    if not kept.is_file():
        lower, upper = _open(archive, device)
        rows, seen = np.arange(len(crops)), []
        for maps in look(lower, material, rows, np.random.default_rng(SEED).random(len(rows)) < 0.5):
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
                seen.append(upper.pool(maps.float() / LEVELS).cpu().numpy())
        hints = shrink(np.concatenate(seen), np.flatnonzero(crops.split == "train"), HINTS)
        write_whole(kept, save({"hints": torch.from_numpy(hints)}))
        say(f"vggface2 has seen {len(rows)} faces")
    return load(kept.read_bytes())["hints"].to(device)


def _open(archive: Path, device: torch.device, dropout: float = 0.0) -> tuple[Lower, Upper]:
    lower, upper = build(read_package(archive), dropout)
    for part in (lower, upper):
        part.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lower, upper


def identify_hints(crops: CropSet) -> str:
    """Eight letters that change with whatever hints depend on."""
    return _digest(crops, [HINTS, SEED])


def identify(crops: CropSet, tuning: Tuning = TUNING) -> str:
    """Eight letters that change with whatever the taught network depends on."""
    return _digest(crops, [asdict(tuning)])


def _digest(crops: CropSet, more: list[Any]) -> str:
    about = [crops.fingerprint, crops.geometry.to_dict(), MEMBERS, KEPT, LEVELS, CROP.to_dict(), *more]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]


def open_teacher(
    archive: Path, material: Material, work: Path, say: Callable[[str], None], tuning: Tuning = TUNING
) -> Teacher:
    """The taught network; what it learned is kept in `work`.

    Args:
        archive: See `mobilenet.read_package`.
        material: The faces that it learns from.
        work: A folder.
        say: Is told of the progress.
        tuning: How it learns.
    """
    device, geometry = material.faces.device, material.crops.geometry
    lower, upper = _open(archive, device, tuning.dropout)
    kept = work / f"vggface2-{identify(material.crops, tuning)}.safetensors"
    if not kept.is_file():
        taught = tune(lower, upper, material, tuning, say).state_dict()
        write_whole(kept, save({name: value.cpu().contiguous() for name, value in taught.items()}))
    upper.load_state_dict(load(kept.read_bytes()))
    upper.eval()

    def ask(levels: Tensor) -> Said:
        parts = []
        for some in torch.split(levels, count_at_once(device)):
            seen = feed(some, geometry)
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
                parts.append(upper(lower(seen))[:2])
        ages, female = (torch.cat(each).float() for each in zip(*parts, strict=True))
        return torch.log_softmax(ages, dim=1), female

    return Teacher(ask, 1.0, geometry.size)
