"""What a reader must know before quoting a figure: a model that answers everybody alike, labels the wrong way round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agelens.evaluation.predictions import Predictions
    from agelens.evaluation.result import Evaluation
    from agelens.evaluation.slices import Slice
    from agelens.evaluation.statistics import Figure

LEAST = 20
"""Faces from which on an alarm means something."""
LEAST_YEARS = 1.0
MOST_ALIKE = 0.99
MOST_LOST = 0.02


def find_alarms(
    found: Predictions, figures: Mapping[str, Figure], folds: Sequence[Slice], frame: Evaluation
) -> tuple[str, ...]:
    """Each as a sentence; none where all is as it should be."""
    alarms = [*_constant(found), *_worse_than_nothing(figures), *_folds(folds, frame)]
    if frame.protocol.needs_all and frame.data.part != "all":
        alarms.append(f"only the part {frame.data.part!r} was judged: these are not the figures of the benchmark")
    lost = frame.data.failed / frame.data.pictures
    if lost > MOST_LOST:
        alarms.append(f"{lost:.1%} of the pictures gave no face; the figures are of the others")
    return tuple(alarms)


def _constant(found: Predictions) -> Iterator[str]:
    years = found.years[~np.isnan(found.years)]
    if len(years) >= LEAST and years.std() < LEAST_YEARS:
        yield f"every face gets about the same age ({years.mean():.1f} years); the model is broken or fed wrongly"
    stated = found.female_probability[~np.isnan(found.female_probability)]
    labels = found.female[~np.isnan(found.female)]
    if len(stated) >= LEAST and len(labels) and 0.2 < labels.mean() < 0.8:
        women = float((stated >= 0.5).mean())
        if max(women, 1 - women) > MOST_ALIKE:
            yield f"{max(women, 1 - women):.1%} of the faces get the same gender; the model is broken or fed wrongly"


def _worse_than_nothing(figures: Mapping[str, Figure]) -> Iterator[str]:
    gender = figures.get("gender_balanced")
    if gender is not None and gender.faces >= LEAST and gender.high is not None and gender.high < 0.5:
        yield f"gender is right in only {gender.value:.1%}: the labels' codes may be the wrong way round"
    mae, constant = figures.get("mae"), figures.get("constant_mae")
    if mae is not None and constant is not None and mae.faces >= LEAST and mae.value >= constant.value:
        yield (
            f"the ages are no better (MAE {mae.value:.2f}) than to answer the median label every time"
            f" ({constant.value:.2f})"
        )


def _folds(folds: Sequence[Slice], frame: Evaluation) -> Iterator[str]:
    wanted = frame.protocol.folds.count if frame.protocol.folds is not None else None
    if wanted is not None and len(folds) != wanted:
        yield f"{len(folds)} of {wanted} folds are here: these are not the figures of the benchmark"
