"""How one network is taught, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from agelens.errors import TrainingError
from agelens.training.recipe.loop import TrainConfig
from agelens.training.recipe.sights import SIGHTS, parts_of
from agelens.training.recipe.views import MIXED


@dataclass(frozen=True, slots=True)
class Kind:
    """Views of some data sets, and how much is believed of them.

    Attributes:
        datasets: Their names.
        views: How many.
        teachers: How much each teacher counts, by its name; none: the labels are all there is. Heads on what a network
            of `sights` sees judge faces only, so their course is `still`.
        age: Share of the teachers in the ages, beside the labels.
        gender: Share of the teachers in the genders, beside the labels.
        races: How often faces that are labelled so come, relative to all others.
    """

    datasets: tuple[str, ...]
    views: int
    teachers: Mapping[str, float]
    age: float = 0.0
    gender: float = 0.0
    races: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Course:
    """How one network is taught.

    Attributes:
        name: Of the network, by which later courses hear it.
        begins: Where it begins: `school.RECOGNITION`, or an earlier network, whose lower stages it takes or, of the
            same layout or with more blocks, goes on as.
        widening: By how much the crops on disk are wider than what it sees.
        kinds: The views that it learns from, and whom it hears about them.
        balance: How evenly ages and genders come, see `labels.balance`.
        train: How it learns; its network.
        still: Whether teachers are asked of the faces as they are, once, and are believed of any view of them, of two
            faces that are mixed the mixture; else they are asked of each view. So there may be many views.
        mixed: Share of the views that show two faces. Labels of two are hard to learn by heart.
        blends: Shares that earlier networks of the same layout have in its weights in the end. The mean of what it
            began with and of what has learned knows more of faces that neither has seen (Wortsman et al., "Robust
            fine-tuning of zero-shot models", CVPR 2022), that of several trainings more than each of them ("Model
            soups", ICML 2022).
        elders: How many times as common as among the faces people of 70 years and more are taken to be in what teachers
            say, see `prior`; so a network learns to tell them where they are few.
        hints: The network of `sights` by whose sight it learns as well, see `hints`, or several joined by "+"; "":
            none.
        unspoiled: Whether its one teacher, an earlier network, is asked of each view as it would be were it not
            spoiled, see `unspoiled`, and is all that there is to learn from: hints are what it sees.
        hidden: Who of the teachers is heads on what such networks see, and tells their hidden layers as hints besides;
            "": nobody.
    """

    name: str
    begins: str
    widening: float
    kinds: tuple[Kind, ...]
    balance: float
    train: TrainConfig
    still: bool = False
    mixed: float = MIXED
    blends: Mapping[str, float] = field(default_factory=dict)
    elders: float = 1.0
    hints: str = ""
    hidden: str = ""
    unspoiled: bool = False

    def __post_init__(self) -> None:
        if self.unspoiled:
            self._check_unspoiled()
        elif bool(self.hints) != bool(parts_of(self.hints)) or bool(self.hints) != bool(self.train.hint):
            raise TrainingError(
                f"{self.name} is given {self.hints or 'nobody'} as hints, of weight {self.train.hint}; name one of"
                f" {', '.join(sorted(SIGHTS))}, or several joined by '+', and a weight; or neither"
            )
        if self.hidden and not (self.hints and self.hidden in self.teachers and parts_of(self.hidden)):
            raise TrainingError(
                f"{self.name} is told the hidden layers of {self.hidden}; name heads among its teachers, and hints"
            )
        for name in self.teachers:
            if "+" in name and not parts_of(name):
                raise TrainingError(f"{self.name} hears {name}, which aren't all of {', '.join(sorted(SIGHTS))}")
        if parts_of(self.name) or "+" in self.name:
            raise TrainingError(f"a course can't be called {self.name}: that is what a network sees")
        if any(map(parts_of, self.teachers)) and not self.still:
            raise TrainingError(f"{self.name} asks who judges faces only of views; it has to be still")
        if not all(share > 0 for share in self.blends.values()) or not sum(self.blends.values()) < 1:
            raise TrainingError(
                f"{self.name} blends {dict(self.blends)}; shares are positive, and less than 1 together"
            )

    def _check_unspoiled(self) -> None:
        besides = self.still or self.hints or self.train.label or not self.train.hint or self.elders != 1
        if besides or len(self.teachers) != 1 or not all(kind.teachers for kind in self.kinds):
            raise TrainingError(
                f"{self.name} hears what one network says of views as they would be unspoiled, and nothing besides:"
                " name one teacher of all kinds and a weight of its hints; it isn't still, and has no labels, hints of"
                " others or elders"
            )

    def to_dict(self) -> dict[str, Any]:
        facts = {**asdict(self), "train": self.train.to_dict()}
        # A course without them is the same as before there were others.
        facts["kinds"] = [_leave_out({"races": {}}, kind) for kind in facts["kinds"]]
        usual = {
            "still": False,
            "mixed": MIXED,
            "blends": {},
            "elders": 1.0,
            "hints": "",
            "hidden": "",
            "unspoiled": False,
        }
        return _leave_out(usual, facts)

    def ease(self, effort: float) -> Course:
        """The same with that share of its steps and of its views."""
        steps, warmup = (math.ceil(number * effort) for number in (self.train.steps, self.train.warmup))
        kinds = tuple(replace(kind, views=math.ceil(kind.views * effort)) for kind in self.kinds)
        return replace(self, kinds=kinds, train=replace(self.train, steps=steps, warmup=warmup))

    @property
    def teachers(self) -> set[str]:
        """Who is asked."""
        return {name for kind in self.kinds for name in kind.teachers}

    @property
    def sights(self) -> frozenset[str]:
        """The networks of `sights` whose sight counts in it, told by heads or as hints."""
        return frozenset(part for name in (self.hints, *self.teachers) for part in parts_of(name))


def _leave_out(usual: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """What is not as usual."""
    return {name: value for name, value in facts.items() if name not in usual or value != usual[name]}
