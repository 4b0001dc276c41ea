"""One step of learning, and all that must be kept so that the next one can be taken after a crash."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from agelens.errors import TrainingError
from agelens.groups import NAMED, AgeGroups
from agelens.training.checkpoint import optimiser_tensors, restore_optimiser
from agelens.training.devices import in_bf16, move_to
from agelens.training.team import Team

if TYPE_CHECKING:
    from agelens.training.batches import Batch
    from agelens.training.networks import Network
    from agelens.training.objective import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How steps are taken.

    Attributes:
        optimiser: "adamw" or "sgd".
        momentum: Of SGD.
        weight_decay: On kernels only.
        learning_rate: Peak of the schedule.
        warmup: Steps of the linear warm-up.
        steps: Of the whole training: the schedule ends there.
        constant: Whether the rate stays at its peak after the warm-up; else it follows half a cosine down to a
            hundredth.
        average: Decay of the exponential average of the weights; 0: the weights themselves are kept.
        clip: Largest norm of the gradient; 0: any.
        bf16: Whether convolutions run in bfloat16 where that is fast, see `devices.has_bf16`.
        seed: Of dropout.
    """

    optimiser: str = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.02
    learning_rate: float = 1e-3
    warmup: int = 500
    steps: int = 10_000
    constant: bool = False
    average: float = 0.999
    clip: float = 5.0
    bf16: bool = True
    seed: int = 1


class Learner:
    """A network, its averaged twin and an optimiser.

    Args:
        network: What learns.
        twin: A network of the same layout, for the averaged weights.
        objective: What becomes smaller.
        pace: How.
        team: The processes that share the work.
        groups: The set of age groups by which accuracy is counted.

    Attributes:
        network: What learns.
        average: The averaged weights, in evaluation mode.
    """

    def __init__(
        self,
        network: Network,
        twin: Network,
        objective: Objective,
        pace: Pace,
        *,
        team: Team | None = None,
        groups: AgeGroups = NAMED["adience"],
    ) -> None:
        self.objective, self.pace, self.team = objective, pace, team or Team()
        self._membership = membership(network, groups).to(self.team.device)
        self.network = move_to(network, self.team.device)
        self.average = move_to(twin, self.team.device)
        self.average.load_state_dict(network.state_dict())
        self.average.eval().requires_grad_(False)
        unused = self.network.heads("age" if not objective.gender else "both" if objective.learns_age else "gender")
        for parameter in unused:
            parameter.requires_grad_(False)
        self._wrapped = self.team.wrap(self.network)
        self.optimiser = build_optimiser(self.network, pace)

    def learn(self, batch: Batch, step: int) -> dict[str, float]:
        """One forward, backward and update.

        Args:
            batch: What to learn from.
            step: Its number, from 0.

        Returns:
            The losses over all processes; "right_age" and "known_age", "right_gender" and "known_gender": how many
            labels were met and how many there were.

        Raises:
            TrainingError: The loss is no number. The weights are broken then; the last checkpoint is not.
        """
        batch = batch.to(self.team.device)
        parts, age, gender = self.take_step(batch, step)
        return self._add_up(parts, self.count_right(age, gender, batch), step)

    def take_step(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The same of a batch that lies on the device, without waiting for it: losses, age logits, gender logits."""
        pace, device = self.pace, self.team.device
        for group in self.optimiser.param_groups:
            group["lr"] = scheduled_rate(pace, step)
        self.network.train()
        # Dropout follows from the step alone, so there is no generator to keep.
        torch.manual_seed(hash((pace.seed, step, self.team.rank)) & 0x7FFFFFFF)
        with in_bf16(device, wanted=pace.bf16):
            answers = self._wrapped(batch.crops)
        age, gender, told = (each.float() for each in answers)
        parts = self.objective.measure(age, gender, batch, told)
        self.optimiser.zero_grad(set_to_none=True)
        parts["loss"].backward()  # type: ignore[no-untyped-call]
        if pace.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), pace.clip)
        self.optimiser.step()
        follow_average(self.average, self.network, pace.average, step + 1)
        return {name: value.detach() for name, value in parts.items()}, age.detach(), gender.detach()

    def _add_up(self, parts: dict[str, Tensor], counts: dict[str, Tensor], step: int) -> dict[str, float]:
        # One transfer: each number fetched by itself would make a GPU wait.
        numbers = torch.stack([value.double() for value in (*parts.values(), *counts.values())])
        sums = self.team.sum(numbers.tolist())
        losses = {name: value / self.team.world for name, value in zip(parts, sums[: len(parts)], strict=True)}
        if not math.isfinite(losses["loss"]):
            raise not_finite(losses["loss"], step)
        return losses | dict(zip(counts, sums[len(parts) :], strict=True))

    @torch.no_grad()
    def count_right(self, age: Tensor, gender: Tensor, batch: Batch) -> dict[str, Tensor]:
        """How many labels are met, of how many: the most probable age group, and the gender."""
        known_gender = ~torch.isnan(batch.female)
        right_gender = ((gender >= 0) == (batch.female >= 0.5)) & known_gender
        known_age = batch.group >= 0
        right_age = torch.zeros_like(known_age)
        if age.shape[1]:
            right_age = (self.answer_groups(age) == batch.group) & known_age
        return {
            "right_age": right_age.sum(),
            "known_age": known_age.sum(),
            "right_gender": right_gender.sum(),
            "known_gender": known_gender.sum(),
        }

    def answer_groups(self, age: Tensor) -> Tensor:
        """The most probable age group of logits (N, C), shape (N,)."""
        return (torch.softmax(age, dim=1) @ self._membership.to(age.device)).argmax(dim=1)

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name."""
        tensors: dict[str, Tensor] = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        return tensors | optimiser_tensors(self.optimiser)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what `state` gave."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        self.average.load_state_dict(part("average."))
        restore_optimiser(self.optimiser, part("optimiser."))


def not_finite(loss: float, step: int) -> TrainingError:
    """The error of a loss that is no number."""
    return TrainingError(
        f"the loss became {loss} at step {step + 1}; what was saved is from before: lower the learning rate, or go on"
        " from there"
    )


def membership(network: Network, groups: AgeGroups) -> Tensor:
    """How much of each class lies in each age group, shape (C, G)."""
    member = np.eye(len(groups.labels), dtype=np.float32)[np.asarray(groups.member)]
    return torch.from_numpy(network.classes.spread @ member)


def build_optimiser(network: nn.Module, pace: Pace) -> torch.optim.Optimizer:
    """AdamW or SGD with weight decay on kernels, none on biases and normalisation."""
    learning: list[nn.Parameter] = [value for value in network.parameters() if value.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [value for value in learning if value.ndim > 1], "weight_decay": pace.weight_decay},
        {"params": [value for value in learning if value.ndim <= 1], "weight_decay": 0.0},
    ]
    if pace.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=pace.learning_rate, momentum=pace.momentum)
    return torch.optim.AdamW(groups, lr=pace.learning_rate, fused=True)


def scheduled_rate(pace: Pace, step: int) -> float:
    """The learning rate of a step: linear warm-up, then half a cosine down to a hundredth of the peak."""
    if step < pace.warmup:
        return pace.learning_rate * (step + 1) / pace.warmup
    if pace.constant:
        return pace.learning_rate
    done = (step - pace.warmup) / max(pace.steps - pace.warmup, 1)
    return pace.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


@torch.no_grad()
def follow_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Moves the averaged weights towards the current ones; faster in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
    moving = [pair for pair in pairs if pair[0].dtype.is_floating_point]
    if moving:
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move([kept for kept, _ in moving], [current for _, current in moving], step)
    for kept, current in pairs:
        if not kept.dtype.is_floating_point:
            kept.copy_(current)
