"""The third teacher: the second one, all of its layers taught on.

Every layer of the recognition network learns, gently, from labels softened by the first two teachers. It is too large
to ship (22 MB) and better than either of them; what it says of a face and its mirror image is what the small networks
learn from.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.outfile import write_whole
from agelens.training.batches import Lessons, still_crops
from agelens.training.calibrate import softmax
from agelens.training.loop import Judge, TrainConfig, predict_crops, train
from agelens.training.recognition import LOOSER, SIDE
from agelens.training.soft_labels import Opinion, balance, soften

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from agelens.training.crops import CropSet
    from agelens.training.networks import FaceNetwork

CONFIG = TrainConfig(
    steps=2000,
    batch=128,
    learning_rate=3e-4,
    warmup=200,
    weight_decay=0.05,
    average=0.998,
    teacher=0.4,
    smoothing=0.03,
    threads=1,
    save_every=250,
)
SECOND_IN_AGE, SECOND_IN_GENDER = 0.5, 0.3
"""Shares of the second teacher, see `soften`."""


def teach_whole(
    crops: CropSet,
    first: NDArray[np.float32],
    second: tuple[FaceNetwork, Opinion],
    work: Path,
    *,
    judge: Judge,
    listener: Callable[[dict[str, Any]], None],
) -> tuple[FaceNetwork, Opinion]:
    """The third teacher and what it says of every face, once it has learned from the training faces.

    Args:
        crops: The faces, pixels in memory; those of the split "train" are learned from.
        first: What the first teacher says of their ages, shape (N, 101).
        second: The second teacher and what it says.
        work: Where the folder `recognition-whole` keeps the training and `recognition-whole.npz` the answer.
        judge: See `train`.
        listener: See `train`.
    """
    network, opinion = second
    config = replace(CONFIG, network=network.config)
    softened, target = soften(crops, first, opinion, age=SECOND_IN_AGE, gender=SECOND_IN_GENDER)
    rows = np.flatnonzero(crops.split == "train")
    lessons = Lessons(softened, rows, balance(crops, rows, 0.25), target, LOOSER)
    # Goes on where it was cut off; what was trained to the end is opened.
    taught = train(config, lessons, network, work / "recognition-whole", judge=judge, listener=listener)
    kept = work / "recognition-whole.npz"
    if not kept.is_file():
        answer = ask_with_mirror(taught, crops)
        buffer = io.BytesIO()
        np.savez(buffer, ages=answer.ages, female=answer.female)
        write_whole(kept, buffer.getvalue())
    with np.load(kept) as answered:
        return taught, Opinion(answered["ages"], answered["female"])


def ask_with_mirror(network: FaceNetwork, crops: CropSet) -> Opinion:
    """What a network says of every face; the logits of the face and of its mirror image averaged."""
    ages, female = [], []
    for start in range(0, len(crops), 512):
        pixels = still_crops(crops, np.arange(start, min(start + 512, len(crops))), LOOSER, SIDE)
        seen = [predict_crops(network, view) for view in (pixels, np.ascontiguousarray(pixels[:, :, ::-1]))]
        ages.append(softmax((seen[0][0].astype(float) + seen[1][0]) / 2))
        female.append(1 / (1 + np.exp(-(seen[0][1].astype(float) + seen[1][1]) / 2)))
    return Opinion(np.concatenate(ages).astype(np.float32), np.concatenate(female).astype(np.float32))
