"""The faces that a model judged worst, as small pictures: for the one who improves it, never for a published report."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from agelens.datasets.labels import write_age
from agelens.errors import InputError
from agelens.evaluation.page import WorstCase

if TYPE_CHECKING:
    from collections.abc import Callable

    from agelens.evaluation.result import Evaluation
    from agelens.types import Pixels

SIDE = 128


def find_worst(evaluation: Evaluation, count: int, pixels_of: Callable[[int], Pixels]) -> list[WorstCase]:
    """The faces with the largest age errors and the surest wrong genders, by turns.

    Args:
        evaluation: With its predictions.
        count: How many.
        pixels_of: Gives the pixels of an entry of the predictions, shape (H, W, 3).
    """
    said = evaluation.predictions
    assert said is not None
    outside = np.maximum(np.maximum(said.age_low - said.years, said.years - said.age_high), 0)
    stated = np.where(said.female >= 0.5, said.female_probability, 1 - said.female_probability)
    by_age = np.argsort(-np.nan_to_num(outside), kind="stable")
    by_gender = np.argsort(np.nan_to_num(stated, nan=1.0), kind="stable")
    order = dict.fromkeys(np.stack([by_age, by_gender], axis=1).ravel().tolist())
    cases: list[WorstCase] = []
    for index in order:
        if len(cases) == count:
            break
        try:
            image = _embed(pixels_of(index))
        except InputError:
            continue
        age = "?" if np.isnan(said.age_low[index]) else write_age((said.age_low[index], said.age_high[index]))
        gender = {1.0: "female", 0.0: "male"}.get(float(said.female[index]), "?")
        caption = f"{age} {gender}: {said.years[index]:.0f}, {said.female_probability[index]:.0%} female"
        cases.append(WorstCase(caption, str(said.path[index]), image))
    return cases


def _embed(pixels: Pixels) -> str:
    picture = ImageOps.fit(PillowImage.fromarray(pixels), (SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
