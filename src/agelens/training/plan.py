"""What a configuration means for the pieces of a training: its data, its losses, its pace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from agelens.training.batches import Lessons, label_groups
from agelens.training.learner import Pace
from agelens.training.material import inverse_frequencies, rare_age_weights
from agelens.training.objective import Objective

if TYPE_CHECKING:
    from agelens.training.config import Config
    from agelens.training.material import Material
    from agelens.training.networks import Network


FULL_BATCH: Final = {"face": 128, "levi-hassner": 64}
LEAST_BATCH: Final = 16
ENOUGH_STEPS: Final = 20
"""Steps an epoch that a batch is made smaller for: with a step or two an epoch nothing is learned."""
FEW_STEPS: Final = 100
"""Steps of a whole training below which hardly anything can be learned."""


def settle_batch(config: Config, faces: int, world: int, tell: Callable[[str], None]) -> Config:
    """The configuration with a batch size: the one that was asked for, else one that suits the set.

    Args:
        config: BATCH_SIZE 0 leaves the choice open.
        faces: In the training part.
        world: Processes that take a batch each.
        tell: Is told where the set made it smaller than usual, or where too few steps are left to learn anything.
    """
    hyper, usual = config.hyperparameters, FULL_BATCH[config.network.kind]
    batch = hyper.batch_size or usual
    if not hyper.batch_size:
        while batch > LEAST_BATCH and faces // (batch * world) < ENOUGH_STEPS:
            batch //= 2
        if batch < usual:
            tell(
                f"{faces:,} faces are few for batches of {usual}: taking {batch} (BATCH_SIZE or --batch-size overrides)"
            )
    steps = max(faces // (batch * world), 1) * hyper.epochs
    if steps < FEW_STEPS:
        tell(
            f"WARNING: {hyper.epochs} epochs of {faces:,} faces in batches of {batch * world} are {steps} steps: too"
            " few to learn much; give more --epochs, or a smaller --batch-size"
        )
    return replace(config, hyperparameters=replace(hyper, batch_size=batch))


def make_lessons(config: Config, material: Material, network: Network) -> Lessons:
    """Data and configuration as the batch maker wants them."""
    hyper = config.hyperparameters
    plain = Lessons(
        crops=material.crops,
        rows=material.train,
        weights=rare_age_weights(material, hyper.rare_ages),
        widening=material.widening,
        classes=network.classes,
        groups=material.groups,
        deviation=hyper.sigma if hyper.loss == "distribution" and network.kind == "face" else None,
        single=hyper.loss == "cross_entropy",
        age_known=material.age_known,
    )
    if not hyper.class_weights:
        return plain
    everyone = np.arange(len(material.crops))
    genders = np.nan_to_num(material.crops.female, nan=-1).astype(np.int64)
    return replace(
        plain,
        age_weights=inverse_frequencies(label_groups(plain, everyone), material.train),
        gender_weights=inverse_frequencies(genders, material.train),
    )


def make_objective(config: Config, task: str) -> Objective:
    """The losses of a task; what is not to be learned weighs nothing."""
    hyper = config.hyperparameters
    return Objective(
        age=float(task != "gender"),
        ordinal=hyper.loss == "ordinal",
        target=float(task != "gender" and hyper.loss == "distribution"),
        gender=hyper.gender_weight if task == "both" else float(task == "gender"),
        smoothing=hyper.smoothing,
    )


def make_pace(config: Config, steps: int) -> Pace:
    """The optimiser's settings for a training of so many steps."""
    hyper = config.hyperparameters
    return Pace(
        optimiser=hyper.optimizer.name,
        momentum=hyper.optimizer.momentum,
        weight_decay=hyper.optimizer.wt_decay,
        learning_rate=hyper.optimizer.lr,
        warmup=round(hyper.optimizer.warmup * steps),
        steps=steps,
        constant=hyper.optimizer.schedule == "constant",
        average=hyper.ema,
        clip=hyper.optimizer.clip,
        bf16=config.gpu.bf16,
        seed=hyper.seed,
    )
