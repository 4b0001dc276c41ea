"""What a training makes smaller: the losses of age and gender, weighted and summed. A missing label weighs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from agelens.training.losses import distribution_loss, gender_loss, interval_loss, ordinal_loss

if TYPE_CHECKING:
    from agelens.training.batches import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Weights of the losses; 0 leaves one out.

    Attributes:
        age: Of what the label allows: the probability mass inside it, or the order.
        ordinal: Whether the order of the classes counts instead of the mass inside the label.
        target: Of the distribution that a batch brings along: a softened label, or a teacher's.
        gender: Of gender.
        smoothing: Label smoothing of gender.
        hint: Of what a teacher sees: the squared error, summed over its numbers (Romero et al., "FitNets: Hints for
            Thin Deep Nets", ICLR 2015).
    """

    age: float = 1.0
    ordinal: bool = False
    target: float = 1.0
    gender: float = 1.0
    smoothing: float = 0.02
    hint: float = 0.0

    @property
    def learns_age(self) -> bool:
        return bool(self.age or self.target)

    def measure(self, age: Tensor, gender: Tensor, batch: Batch, told: Tensor | None = None) -> dict[str, Tensor]:
        """The losses of a batch, each the mean over all its faces: "age", "target", "gender", and their sum "loss".

        With hints there is "hint" as well.

        The mean is over all faces, not over the labelled ones, so that halves of a batch average to the whole.

        Args:
            age: Logits, shape (N, C).
            gender: Logits, female positive, shape (N,).
            batch: With the labels.
            told: What the network tells of what a teacher sees, shape (N, H); None: it isn't measured.
        """
        nothing = gender.new_zeros(())
        parts = {"age": nothing, "target": nothing, "gender": nothing}
        if self.learns_age:
            log_probabilities = torch.log_softmax(age, dim=1)
            loss = ordinal_loss if self.ordinal else interval_loss
            if self.age:
                parts["age"] = (loss(log_probabilities, batch.inside) * batch.age_weight).mean()
            if self.target:
                parts["target"] = (distribution_loss(log_probabilities, batch.target) * batch.age_weight).mean()
        if self.gender:
            parts["gender"] = (gender_loss(gender, batch.female, self.smoothing) * batch.gender_weight).mean()
        parts["loss"] = self.age * parts["age"] + self.target * parts["target"] + self.gender * parts["gender"]
        if self.hint:
            assert told is not None
            assert batch.hint is not None
            parts["hint"] = (told - batch.hint).square().sum(dim=1).mean()
            parts["loss"] = parts["loss"] + self.hint * parts["hint"]
        return parts
