"""The training loop: one readable pass from configuration to checkpoints, resumed exactly where it was cut off."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agelens.errors import TrainingError
from agelens.training.augment import AugmentConfig
from agelens.training.batches import Batch, BatchMaker, Lessons
from agelens.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from agelens.training.losses import distribution_loss, gender_loss, interval_loss
from agelens.training.networks import FaceNetwork, NetworkConfig


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """All that a training depends on, beside its data.

    Attributes:
        network: The network.
        augment: Changes made to the crops.
        steps: How many batches.
        batch: Faces in a batch.
        learning_rate: Peak of the schedule (linear warm-up, then half a cosine down to a hundredth).
        warmup: Steps of the warm-up.
        weight_decay: Of AdamW, on kernels only.
        average: Decay of the exponential average of the weights, which is what is kept.
        teacher: Weight of the teacher's distribution, cut to the label.
        gender: Weight of the gender loss.
        smoothing: Label smoothing of gender.
        clip: Largest norm of the gradient.
        seed: Of all that is random.
        threads: Threads of the arithmetic.
        bf16: Whether convolutions run in bfloat16.
        save_every: Steps between checkpoints.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    steps: int = 10_000
    batch: int = 128
    learning_rate: float = 1e-3
    warmup: int = 500
    weight_decay: float = 0.02
    average: float = 0.999
    teacher: float = 0.4
    gender: float = 1.0
    smoothing: float = 0.02
    clip: float = 5.0
    seed: int = 1
    threads: int = 2
    bf16: bool = True
    save_every: int = 500

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "network": self.network.to_dict(), "augment": self.augment.to_dict()}


Judge = Callable[[FaceNetwork], dict[str, float]]
"""Measures a network on validation faces."""

Listener = Callable[[dict[str, Any]], None]


def train(
    config: TrainConfig,
    lessons: Lessons,
    start: FaceNetwork,
    folder: Path,
    *,
    judge: Judge | None = None,
    listener: Listener | None = None,
) -> FaceNetwork:
    """Trains, or goes on where a checkpoint in `folder` left off.

    Args:
        config: How.
        lessons: On what.
        start: The weights to begin with.
        folder: Where `last` (the checkpoint) and `log.jsonl` go.
        judge: Measures the averaged network at every checkpoint.
        listener: Is told of each checkpoint and, every fifty steps, of the progress.

    Returns:
        The network with the averaged weights.

    Raises:
        TrainingError: The loss became NaN, or the folder holds a training with another configuration.
    """
    torch.set_num_threads(config.threads)
    network = FaceNetwork(config.network).to(memory_format=torch.channels_last)
    average = FaceNetwork(config.network).to(memory_format=torch.channels_last)
    network.load_state_dict(start.state_dict())
    average.load_state_dict(start.state_dict())
    average.eval()
    optimiser = build_optimiser(network, config)
    torch.manual_seed(config.seed)
    step = 0
    if (folder / "last").exists() or (folder / ".last.old").exists():
        step = _restore(load_checkpoint(folder / "last"), config, network, average, optimiser)
    maker = BatchMaker(lessons, size=config.network.size, batch=config.batch, augment=config.augment, seed=config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    sums: dict[str, float] = {}
    began, seen = time.monotonic(), 0
    for batch in maker.stream(step, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = scheduled_rate(config, step)
        losses = take_step(network, optimiser, batch, config)
        step += 1
        follow_average(average, network, config.average, step)
        seen += len(batch.female)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value
        if not math.isfinite(losses["loss"]):
            raise TrainingError(
                f"the loss became {losses['loss']} at step {step}; the checkpoint in {folder} is from before: lower the"
                " learning rate, or go on from there"
            )
        if step % 50 == 0 or step == config.steps:
            facts: dict[str, Any] = {"step": step, "rate": seen / (time.monotonic() - began)}
            if step % config.save_every == 0 or step == config.steps:
                facts |= {name: value / config.save_every for name, value in sums.items()}
                sums = {}
                if judge:
                    facts["validation"] = judge(average)
                _save(folder, config, network, average, optimiser, step)
                with (folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(facts) + "\n")
            if listener:
                listener(facts)
    return average


def take_step(
    network: FaceNetwork, optimiser: torch.optim.Optimizer, batch: Batch, config: TrainConfig
) -> dict[str, float]:
    """One forward, backward and update; returns the losses."""
    network.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
        age, gender, _ = network(batch.crops)
    log_probabilities = torch.log_softmax(age.float(), dim=1)
    parts = {
        "age": interval_loss(log_probabilities, batch.inside).mean(),
        "teacher": distribution_loss(log_probabilities, batch.target).mean(),
        "gender": gender_loss(gender.float(), batch.female, config.smoothing).mean(),
    }
    loss = parts["age"] + config.teacher * parts["teacher"] + config.gender * parts["gender"]
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), config.clip)
    optimiser.step()
    return {"loss": loss.item(), **{name: value.item() for name, value in parts.items()}}


def build_optimiser(network: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on kernels, none on biases and normalisation."""
    kernels = [value for value in network.parameters() if value.ndim > 1]
    others = [value for value in network.parameters() if value.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def scheduled_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of a step: linear warm-up, then half a cosine down to a hundredth of the peak."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


@torch.no_grad()
def follow_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Moves the averaged weights towards the current ones; faster in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    for kept, current in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(current, 1 - decay)
        else:
            kept.copy_(current)


def _save(
    folder: Path,
    config: TrainConfig,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
) -> None:
    tensors: dict[str, Tensor] = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    tensors |= optimiser_tensors(optimiser) | {"random.torch": torch.get_rng_state()}
    save_checkpoint(Checkpoint(tensors, {"config": config.to_dict(), "step": step}), folder / "last")


def _restore(
    checkpoint: Checkpoint,
    config: TrainConfig,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
) -> int:
    kept, wanted = checkpoint.facts["config"], json.loads(json.dumps(config.to_dict()))
    changed = [name for name in wanted if kept.get(name) != wanted[name] and name not in ("threads", "save_every")]
    if changed:
        raise TrainingError(
            f"the folder holds a training with another configuration ({', '.join(changed)} differ); choose another"
            " folder, or train as it was"
        )
    network.load_state_dict(checkpoint.part("network"))
    average.load_state_dict(checkpoint.part("average"))
    restore_optimiser(optimiser, checkpoint.part("optimiser"))
    torch.set_rng_state(checkpoint.tensors["random.torch"])
    return int(checkpoint.facts["step"])


def predict_crops(network: FaceNetwork, crops: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[np.ndarray[Any, Any], ...]:
    """Age logits (N, 101) and gender logits (N,) of RGB uint8 crops (N, S, S, 3)."""
    from agelens.training.networks import normalise

    network.eval()
    ages, genders = [], []
    with torch.inference_mode():
        for start in range(0, len(crops), 256):
            pixels = torch.from_numpy(crops[start : start + 256]).permute(0, 3, 1, 2).float()
            age, gender, _ = network(normalise(pixels).contiguous(memory_format=torch.channels_last))
            ages.append(age.numpy())
            genders.append(gender.numpy())
    return np.concatenate(ages), np.concatenate(genders)
