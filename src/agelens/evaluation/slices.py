"""The parts of a test set that are looked at on their own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.evaluation.figures import LEAST_IN_SLICE, build_statistics, large_enough
from agelens.evaluation.statistics import Figure, make_figures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from agelens.evaluation.predictions import Predictions
    from agelens.evaluation.protocol import Protocol

    Mask = NDArray[np.bool_]

AGE, RANGE, GENDER, RACE, DATASET = "age", "age range", "gender", "race", "data set"
SIZE, SHARPNESS, CROSS = "face size", "sharpness", "gender x age x race"
RANGES = ((0, 9), (13, 120), (18, 120), (70, 120))
"""Years, both ends included, that are quoted beside the age groups."""
SIZES = (0, 32, 48, 64, 96, 128, 192, 256)
"""Edges in pixels of the box's longer side."""
LEAST_IN_CROSS = 200
"""Faces of one gender, age band and race from which on the coverage of intervals must hold."""
QUARTERS = ("most blurred quarter", "second quarter", "third quarter", "sharpest quarter")


@dataclass(frozen=True, slots=True)
class Slice:
    """Figures of a part.

    Attributes:
        by: What divides: "age", "gender", "race", ...
        name: Which part.
        faces: How many faces it has.
        figures: By name.
    """

    by: str
    name: str
    faces: int
    figures: Mapping[str, Figure]

    def to_dict(self) -> dict[str, Any]:
        figures = {name: figure.to_dict() for name, figure in self.figures.items()}
        return {"by": self.by, "name": self.name, "faces": self.faces, "figures": figures}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Slice:
        figures = {name: Figure.from_dict(figure) for name, figure in values["figures"].items()}
        return Slice(str(values["by"]), str(values["name"]), int(values["faces"]), figures)


def measure_slices(
    predictions: Predictions, protocol: Protocol, *, rounds: int, least: int = LEAST_IN_SLICE
) -> tuple[Slice, ...]:
    """Figures of every part with enough faces.

    Args:
        predictions: Of faces that were found.
        protocol: What they are measured by.
        rounds: Bootstrap samples.
        least: Faces that a part must have.
    """
    slices = []
    for by, name, mask in cut(predictions, protocol):
        faces = int(mask.sum())
        if faces >= (LEAST_IN_CROSS if by == CROSS else least):
            slices.append(measure_slice(by, name, predictions.take(mask), protocol, rounds=rounds))
    return tuple(slices)


def measure_slice(by: str, name: str, predictions: Predictions, protocol: Protocol, *, rounds: int) -> Slice:
    """Figures of one part."""
    statistics = build_statistics(predictions, protocol)
    return Slice(by, name, len(predictions), make_figures(statistics, predictions.units, rounds=rounds))


def cut(predictions: Predictions, protocol: Protocol) -> Iterator[tuple[str, str, Mask]]:
    """By what, which part, and the mask of its faces; ages are divided by the protocol's groups."""
    for index, label in enumerate(protocol.labels):
        yield AGE, label, predictions.band == index
    for low, high in RANGES:
        name = f"{low}+" if high >= 120 else f"{low}-{high}"
        yield RANGE, name, (predictions.age_low >= low) & (predictions.age_high <= high)
    for name, code in (("female", 1.0), ("male", 0.0)):
        yield GENDER, name, predictions.female == code
    for by, column in ((RACE, predictions.race), (DATASET, predictions.dataset)):
        names = large_enough(column, 1)
        if by == RACE or len(names) > 1:
            for name in names:
                yield by, name, column == name
    yield from _cut_by_size(predictions)
    yield from _cut_by_sharpness(predictions)
    yield from _cut_across(predictions, protocol)


def _cut_by_size(predictions: Predictions) -> Iterator[tuple[str, str, Mask]]:
    for low, high in itertools.pairwise((*SIZES, np.inf)):
        name = f"{low} pixels and more" if np.isinf(high) else f"{low} to {high} pixels"
        yield SIZE, name, (predictions.face_size >= low) & (predictions.face_size < high)


def _cut_by_sharpness(predictions: Predictions) -> Iterator[tuple[str, str, Mask]]:
    sharpness = predictions.sharpness
    known = sharpness[~np.isnan(sharpness)]
    if known.size:
        edges = np.quantile(known, [0.25, 0.5, 0.75])
        quarter = np.where(np.isnan(sharpness), -1, np.searchsorted(edges, sharpness, side="left"))
        for index, name in enumerate(QUARTERS):
            yield SHARPNESS, name, quarter == index


def _cut_across(predictions: Predictions, protocol: Protocol) -> Iterator[tuple[str, str, Mask]]:
    races = ["", *large_enough(predictions.race, LEAST_IN_CROSS)]
    parts = itertools.product((("female", 1.0), ("male", 0.0)), enumerate(protocol.labels), races)
    for (gender, code), (band, label), race in parts:
        mask = (predictions.female == code) & (predictions.band == band)
        if race:
            mask &= predictions.race == race
        yield CROSS, ", ".join(filter(None, (gender, label, race))), mask
