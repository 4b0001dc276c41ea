"""Two evaluations of the same pictures: differences face by face, with intervals much tighter than either's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.errors import UsageError
from agelens.evaluation.figures import KINDS, LEAST_IN_SLICE, build_statistics, write_number
from agelens.evaluation.slices import AGE, GENDER, RACE, cut
from agelens.evaluation.statistics import interval, resample
from agelens.evaluation.tables import Table

if TYPE_CHECKING:
    from agelens.evaluation.predictions import Predictions
    from agelens.evaluation.protocol import Protocol
    from agelens.evaluation.result import Evaluation, ModelFacts

SCHEMA = "agelens.comparison/1"
ALL = "all faces"
IN_PARTS = ("mae", "bias", "exact", "one_off", "gender", "coverage")


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of both models on the same faces.

    Attributes:
        part: "all faces", or which part: "race: Black".
        name: Of the figure.
        first: Of the first model.
        second: Of the second.
        difference: Second less first.
        low: Lower end of its bootstrap 95% interval; None where there are too few faces.
        high: Upper end.
        faces: How many faces it is drawn from.
    """

    part: str
    name: str
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    faces: int

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def verdict(self) -> str:
        """Which model is better, where that is certain and the figure has a better side."""
        better = KINDS[self.name].better
        if not self.is_certain or not better:
            return ""
        return "second" if (self.difference < 0) == (better == "lower") else "first"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both models and their differences.

    Attributes:
        models: The first and the second model.
        data: Fingerprint of the pictures.
        pictures: Pairs in which both models found the face; the others are left out.
        lost: Pictures in which only one of them did, or neither.
        differences: Overall first, then by part.
        leaks: Why the figures of either are too good, where that was allowed.
        alarms: What else is to be known before they are quoted.
    """

    models: tuple[ModelFacts, ModelFacts]
    data: str
    pictures: int
    lost: int
    differences: tuple[Difference, ...]
    leaks: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema": SCHEMA,
            "models": [{"name": model.name, "sha256": model.sha256} for model in self.models],
            "data": self.data,
            "pictures": self.pictures,
            "lost": self.lost,
            "leaks": list(self.leaks),
            "alarms": list(self.alarms),
            "differences": [
                {name: getattr(each, name) for name in Difference.__slots__} | {"better": each.verdict}
                for each in self.differences
            ],
        }


def compare(first: Evaluation, second: Evaluation, *, rounds: int = 1000) -> Comparison:
    """The second less the first, on the faces that both have found.

    Args:
        first: With its predictions, see `Evaluation.load`.
        second: Likewise.
        rounds: Bootstrap samples, drawn by person where the set says who is who.

    Raises:
        UsageError: They are of other pictures or protocols, or lack their predictions.
    """
    ours, theirs = first.predictions, second.predictions
    if ours is None or theirs is None:
        raise UsageError("an evaluation lacks its predictions; keep predictions.npz beside evaluation.json")
    if first.protocol != second.protocol:
        raise UsageError(
            f"the evaluations follow different protocols ({first.protocol.name}, {second.protocol.name}); evaluate both"
            " by the same one"
        )
    if first.data.fingerprint != second.data.fingerprint or ours.keys != theirs.keys:
        raise UsageError(
            f"the evaluations are of different pictures (fingerprints {first.data.fingerprint[:12]},"
            f" {second.data.fingerprint[:12]}); evaluate both models on the same manifest"
        )
    if first.origin.mode != second.origin.mode:
        raise UsageError(
            f"one evaluation is {first.origin.mode}, the other {second.origin.mode}; evaluate both in the same way"
        )
    both = ours.found & theirs.found
    ours, theirs = ours.take(both), theirs.take(both)
    differences = _differences(ALL, ours, theirs, first.protocol, rounds)
    for by, name, mask in cut(ours, first.protocol):
        if by in (AGE, GENDER, RACE) and mask.sum() >= LEAST_IN_SLICE:
            differences += _differences(f"{by}: {name}", ours.take(mask), theirs.take(mask), first.protocol, rounds)
    return Comparison(
        (first.models[0], second.models[0]),
        first.data.fingerprint,
        int(both.sum()),
        int((~both).sum()),
        tuple(differences),
        _of_both(first.leaks, second.leaks),
        _of_both(first.alarms, second.alarms),
    )


def _of_both(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """What is said of the first, the second or both, which one where it isn't both."""
    only_first = [f"the first: {said}" for said in first if said not in second]
    only_second = [f"the second: {said}" for said in second if said not in first]
    return (*(said for said in first if said in second), *only_first, *only_second)


def _differences(
    part: str, ours: Predictions, theirs: Predictions, protocol: Protocol, rounds: int
) -> list[Difference]:
    first, second = build_statistics(ours, protocol), build_statistics(theirs, protocol)
    names = [
        name
        for name, mine in first.items()
        if (name in IN_PARTS or (part == ALL and name != "constant_mae"))
        # Of a model that tells no gender there is no worst race either.
        and name in second
        and mine.counted.any()
        and second[name].counted.any()
    ]
    if not names:
        return []
    units = ours.units
    drawn_first = resample({name: first[name] for name in names}, units, rounds=rounds)
    drawn_second = resample({name: second[name] for name in names}, units, rounds=rounds)
    found = []
    for name in names:
        mine, other = first[name], second[name]
        value, counter = mine.value(), other.value()
        if np.isnan(value) or np.isnan(counter):
            continue
        several = len(np.unique(units)) > 1
        low, high = interval(drawn_second[name] - drawn_first[name]) if several else (None, None)
        faces = int((mine.counted & other.counted).sum())
        found.append(Difference(part, name, value, counter, counter - value, low, high, faces))
    return found


def tabulate_comparison(comparison: Comparison) -> list[Table]:
    """A table over all faces, and one of the parts in which the models certainly differ."""
    first, second = (model.name for model in comparison.models)
    head = ("figure", first, second, "difference", "95% interval", "better")
    overall = tuple(_row(each, first, second) for each in comparison.differences if each.part == ALL)
    parts = tuple(
        (f"{each.part}, {_row(each, first, second)[0]}", *_row(each, first, second)[1:])
        for each in comparison.differences
        if each.part != ALL and each.verdict
    )
    lost = f"; {comparison.lost:,} in which not both found the face are left out" if comparison.lost else ""
    note = f"{comparison.pictures:,} pictures, paired{lost}."
    tables = [Table("All faces", head, overall, note), Table("Parts that certainly differ", head, parts)]
    return [table for table in tables if table.rows]


def _row(each: Difference, first: str, second: str) -> tuple[str, ...]:
    better: Mapping[str, str] = {"first": first, "second": second, "": ""}
    span = f"[{_signed(each.name, each.low)}, {_signed(each.name, each.high)}]" if each.low is not None else ""
    values = (write_number(each.name, each.first), write_number(each.name, each.second))
    return (KINDS[each.name].title, *values, _signed(each.name, each.difference), span, better[each.verdict])


def _signed(name: str, value: float | None) -> str:
    if value is None:
        return ""
    said = write_number(name, abs(value))
    is_zero = not any(digit in said for digit in "123456789")
    return said if is_zero else f"{'+' if value > 0 else '−'}{said}"
