"""The loop of the recipe that makes the model that ships: so many steps, measured and saved every few hundred.

`agelens train` has a loop of its own (`course.py`), in epochs; both take their steps with a `Learner`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from agelens.errors import TrainingError
from agelens.training.augment import AugmentConfig
from agelens.training.checkpoint import Checkpoint, has_checkpoint, load_checkpoint, save_checkpoint
from agelens.training.learner import Learner, Pace, not_finite
from agelens.training.networks import FaceNetwork, Network, NetworkConfig
from agelens.training.objective import Objective
from agelens.training.recipe.hints import Hinted
from agelens.training.recipe.lessons import ViewLessons, ViewMaker
from agelens.training.team import Team


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
        label: Weight of the probability mass inside the age label.
        teacher: Weight of the teacher's distribution, cut to the label.
        gender: Weight of the gender loss.
        smoothing: Label smoothing of gender.
        hint: Weight of the hints that the lessons bring along, see `hints`; 0: there are none.
        frozen: Blocks, from the input on, that stay as they are with the stem, see `FaceNetwork.freeze`.
        clip: Largest norm of the gradient.
        seed: Of all that is random.
        threads: Threads of the arithmetic.
        bf16: Whether convolutions run in bfloat16 where that is fast, see `devices.has_bf16`.
        save_every: Steps between measurements; each is saved, and so is what lies between, see `LOSABLE`.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    steps: int = 10_000
    batch: int = 128
    learning_rate: float = 1e-3
    warmup: int = 500
    weight_decay: float = 0.02
    average: float = 0.999
    label: float = 1.0
    teacher: float = 0.4
    gender: float = 1.0
    smoothing: float = 0.02
    hint: float = 0.0
    frozen: int = 0
    clip: float = 5.0
    seed: int = 1
    threads: int = 2
    bf16: bool = True
    save_every: int = 500

    def pace(self) -> Pace:
        return Pace(
            weight_decay=self.weight_decay,
            learning_rate=self.learning_rate,
            warmup=self.warmup,
            steps=self.steps,
            average=self.average,
            clip=self.clip,
            bf16=self.bf16,
            seed=self.seed,
        )

    def to_dict(self) -> dict[str, Any]:
        # A training without them is the same as before there were any.
        changes = {name: value for name, value in self.augment.to_dict().items() if value or name != "grain"}
        facts = {**asdict(self), "network": self.network.to_dict(), "augment": changes}
        return {name: value for name, value in facts.items() if value or name not in ("hint", "frozen")}


Judge = Callable[[FaceNetwork], dict[str, float]]
"""Measures a network on validation faces."""

Listener = Callable[[dict[str, Any]], None]
MEASURED = ("loss", "age", "target", "gender")
LOSABLE = 240.0
"""Seconds of work that may be lost when a training is cut off: on two cores a large network takes an hour to its next
measurement."""


def train(
    config: TrainConfig,
    lessons: ViewLessons,
    start: FaceNetwork | Hinted,
    folder: Path,
    *,
    judge: Judge | None = None,
    listener: Listener | None = None,
) -> FaceNetwork:
    """Trains, or goes on where a checkpoint in `folder` left off.

    Args:
        config: How.
        lessons: On what; it computes on the device that holds them.
        start: The weights to begin with; with hints a network that tells them.
        folder: Where `last` (the checkpoint) and `log.jsonl` go.
        judge: Measures the averaged network every `save_every` steps.
        listener: Is told of each measurement and, every fifty steps, of the progress.

    Returns:
        The network with the averaged weights.

    Raises:
        TrainingError: The loss became NaN, or the folder holds a training with another configuration.
    """
    torch.set_num_threads(config.threads)
    network, average = (_build(config, lessons.hinted) for _ in range(2))
    network.load_state_dict(start.state_dict())
    _without_hints(network).freeze(config.frozen)
    objective = Objective(
        age=config.label,
        target=config.teacher,
        gender=config.gender,
        smoothing=config.smoothing,
        hint=config.hint,
    )
    device = lessons.faces.device
    learner = Learner(network, average, objective, config.pace(), team=Team(device=device))
    step = _restore(folder / "last", config, learner) if has_checkpoint(folder / "last") else 0
    maker = ViewMaker(lessons, network, batch=config.batch, augment=config.augment, seed=config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = (*MEASURED, "hint") if config.hint else MEASURED
    sums = torch.zeros(len(names), dtype=torch.float64, device=device)
    began, seen, measured = time.monotonic(), 0, step
    saved = began
    for batch in maker.stream(step, config.steps):
        losses, _, _ = learner.take_step(batch, step)
        sums += torch.stack([losses[name].double() for name in names])
        step += 1
        seen += len(batch.female)
        measures = step % config.save_every == 0 or step == config.steps
        saves = measures or time.monotonic() - saved > LOSABLE
        if saves or step % 50 == 0:
            # Only here a GPU is waited for.
            told = dict(zip(names, sums.tolist(), strict=True))
            if not math.isfinite(told["loss"]):
                raise not_finite(told["loss"], step - 1)
            facts: dict[str, Any] = {"step": step, "rate": seen / (time.monotonic() - began)}
            if measures:
                facts |= {name: value / (step - measured) for name, value in told.items()}
                sums.zero_()
                measured = step
                if judge:
                    facts["validation"] = judge(_without_hints(learner.average))
            if saves:
                checkpoint = Checkpoint(learner.state(), {"config": config.to_dict(), "step": step})
                save_checkpoint(checkpoint, folder / "last")
                saved = time.monotonic()
            if measures:
                with (folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(facts) + "\n")
            if listener:
                listener(facts)
    return _without_hints(average)


def _build(config: TrainConfig, hints: int) -> FaceNetwork | Hinted:
    network = FaceNetwork(config.network)
    if not config.hint:
        return network
    if not hints:
        raise TrainingError("hints count in this training, and its lessons bring none along; give them, or hint=0")
    return Hinted(network, hints)


def _without_hints(network: Network) -> FaceNetwork:
    inner = network.network if isinstance(network, Hinted) else network
    assert isinstance(inner, FaceNetwork)
    return inner


def open_trained(config: TrainConfig, folder: Path) -> FaceNetwork | None:
    """The network of a training that came to its end, in evaluation mode; None where it did not."""
    if not has_checkpoint(folder / "last"):
        return None
    checkpoint = load_checkpoint(folder / "last")
    if checkpoint.facts["step"] < config.steps:
        return None
    network, kept = FaceNetwork(config.network), checkpoint.part("average")
    if config.hint:
        kept = {name.removeprefix("network."): value for name, value in kept.items() if not name.startswith("tell.")}
    network.load_state_dict(kept)
    return network.eval()


@torch.no_grad()
def blend(network: FaceNetwork, others: Sequence[tuple[FaceNetwork, float]]) -> FaceNetwork:
    """A network whose weights, and statistics, are the weighted mean of those of several of one layout.

    Args:
        network: What learned last; its share is what the others leave.
        others: With their shares.

    Returns:
        Another one, in evaluation mode, where `network` is.

    Raises:
        TrainingError: They are laid out differently.
    """
    if any(replace(each.config, dropout=network.config.dropout) != network.config for each, _ in others):
        raise TrainingError("networks of different layouts can't be blended")
    blended, left = FaceNetwork(network.config), 1 - sum(share for _, share in others)
    device = next(network.parameters()).device
    states = [(each.state_dict(), share) for each, share in others]
    mean = {}
    for name, value in network.state_dict().items():
        parts = [state[name].to(device) * share for state, share in states if value.is_floating_point()]
        mean[name] = sum(parts, value * left) if parts else value
    blended.load_state_dict(mean)
    return blended.to(device).eval()


def _restore(folder: Path, config: TrainConfig, learner: Learner) -> int:
    checkpoint = load_checkpoint(folder)
    kept, wanted = checkpoint.facts["config"], json.loads(json.dumps(config.to_dict()))
    # What an older checkpoint does not say of its network was not there yet, which is what the defaults say.
    kept = kept | {"network": json.loads(json.dumps(NetworkConfig.from_dict(kept["network"]).to_dict()))}
    names = sorted((kept.keys() | wanted.keys()) - {"threads", "save_every"})
    changed = [name for name in names if kept.get(name) != wanted.get(name)]
    if changed:
        raise TrainingError(
            f"the folder holds a training with another configuration ({', '.join(changed)} differ); choose another"
            " folder, or train as it was"
        )
    learner.restore(checkpoint.tensors)
    return int(checkpoint.facts["step"])
