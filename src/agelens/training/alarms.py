"""A network that answers everybody alike: seen after each epoch, said at once, with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

LEAST: Final = 20
"""Answers from which on an alarm means something."""
MOST_ALIKE: Final = 0.99
"""From this share of equal answers on, the network tells nobody apart."""
MOST_LABELS: Final = 0.9
"""Where so many labels are equal too, equal answers are no fault of the network."""
LEAST_YEARS: Final = 0.5
"""Standard deviation of the estimated years below which they are one age."""

ADVICE: Final = (
    "lower the learning rate (--lr, a tenth), check a sample of the labels (`agelens prepare inspect`) and the grid of"
    " what the network sees (grid.png), or weigh rare classes up (--set HYPERPARAMETERS.CLASS_WEIGHTS=true)"
)


@dataclass(frozen=True, slots=True)
class ConstantAnswer:
    """One epoch's answers on the validation faces are all but equal.

    Attributes:
        task: "age" or "gender".
        epoch: After which epoch, from 1.
        answer: The group, the gender or the years that are answered.
        share: Share of the faces that get it.
        labels: Share of the labels that say so, or 0 where that makes no sense (years).
    """

    task: Literal["age", "gender"]
    epoch: int
    answer: str
    share: float
    labels: float

    def describe(self) -> str:
        """What is wrong and what to do, in a sentence."""
        truth = f" ({self.labels:.0%} of the labels say so)" if self.labels else ""
        return (
            f"WARNING: after epoch {self.epoch} the network gives {self.share:.1%} of the validation faces the same"
            f" {self.task}, {self.answer}{truth}: it tells nobody apart. If that lasts, {ADVICE}"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a network answered on validation faces, and what the labels say.

    Attributes:
        task: "age" or "gender".
        names: The classes.
        given: How often each was answered.
        known: How often each is the label, of the same faces.
        deviation: Standard deviation of the estimated years; None where there are none.
        mean: Their mean.
    """

    task: Literal["age", "gender"]
    names: tuple[str, ...]
    given: Sequence[float]
    known: Sequence[float]
    deviation: float | None = None
    mean: float = 0.0


def find_constant(answers: Sequence[Answers], epoch: int) -> Iterator[ConstantAnswer]:
    """An alarm for each task whose answers are all but equal although its labels are not."""
    for each in answers:
        total, labelled = sum(each.given), sum(each.known)
        if total < LEAST or labelled < LEAST:
            continue
        commonest = max(range(len(each.names)), key=lambda index: each.given[index])
        if max(each.known) / labelled > MOST_LABELS:
            continue
        share = each.given[commonest] / total
        if each.deviation is not None and each.deviation < LEAST_YEARS:
            yield ConstantAnswer(each.task, epoch, f"{each.mean:.1f} years", 1.0, 0.0)
        elif share >= MOST_ALIKE:
            yield ConstantAnswer(each.task, epoch, each.names[commonest], share, each.known[commonest] / labelled)
