"""What a model file says of itself: how to feed it, how to read it, where it comes from, what it reaches.

It travels as JSON in the ONNX metadata under the key `agelens`. A file without it, or that does not fit, is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agelens.align import CropGeometry
from agelens.errors import UnfitModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

METADATA_KEY = "agelens"
MODEL_SCHEMA = "agelens.model/1"
AGE_BINS = 101
INPUT = "crops"
AGE_OUTPUT = "age_probabilities"
GENDER_OUTPUT = "female_probability"
DECODES = {
    "mean": "the mean",
    "median": "the median",
    "year": "the whole year that the median lies in",
}
"""How years come out of a distribution, and how to say so. Intervals begin and end with whole years where years are."""
INTERFACE: dict[str, Any] = {
    "input": {"name": INPUT, "layout": "NHWC", "type": "uint8", "colour": "RGB"},
    "age": {"output": AGE_OUTPUT, "bins": [0, AGE_BINS - 1]},
    "gender": {"output": GENDER_OUTPUT, "labels": ["male", "female"]},
}
"""What every file of this schema says alike; one that says otherwise would be fed or read wrongly."""


_RESTRICTED = re.compile(r"research|non-?\s?commercial|not for commercial|\bnc\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IntervalLevel:
    """Where the interval begins and ends in the predicted distribution, for one kind of face.

    Attributes:
        low: First predicted year of the kind.
        high: Predicted years of the kind are lower.
        gender: "female", "male", or "any": which gender is predicted.
        lower: Share of the distribution's mass below the interval, 0 to 0.5.
        upper: Share of the mass below its end, 0.5 to 1; between them lay enough of the true ages of calibration faces.
    """

    low: float
    high: float
    gender: str
    lower: float
    upper: float

    def __post_init__(self) -> None:
        between = 0 <= self.lower <= 0.5 <= self.upper <= 1
        if not (self.low <= self.high and between and self.gender in ("female", "male", "any")):
            raise ValueError(f"not an interval level: {self}")

    @staticmethod
    def central(low: float, high: float, gender: str, level: float) -> IntervalLevel:
        """An interval with as much of the mass below it as above it, and `level` of it inside."""
        return IntervalLevel(low, high, gender, round((1 - level) / 2, 9), round((1 + level) / 2, 9))

    def covers(self, years: float, gender: str) -> bool:
        return self.low <= years < self.high and self.gender in ("any", gender)

    def to_list(self) -> list[float | str]:
        return [self.low, self.high, self.gender, _shorten(self.lower), round(1 - _shorten(1 - self.upper), 7)]

    @staticmethod
    def from_list(values: Sequence[Any]) -> IntervalLevel:
        """Reads it. One number in place of two is the share inside a central interval: older files hold it."""
        low, high, gender, *ends = values
        if len(ends) == 1:
            return IntervalLevel.central(float(low), float(high), gender, float(ends[0]))
        lower, upper = ends
        return IntervalLevel(float(low), float(high), gender, float(lower), float(upper))


def _shorten(tail: float) -> float:
    """A share outside of an interval; of a small one every digit counts."""
    return round(tail, 4 if tail >= 1e-3 else 7)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The metadata contract.

    Attributes:
        name: Such as "agelens-base".
        version: Date of the weights.
        crop: What the network sees.
        tasks: "age", "gender" or both.
        decode: How years come out of the distribution: its "mean", its "median", or the whole "year" that the median
            lies in, as labels are whole years.
        coverage: The share of faces whose age the interval holds.
        levels: From most to least specific; the first that covers a face counts (conformal calibration).
        licence: Of the weights, as an SPDX identifier or a sentence.
        training_data: What the weights have seen, each with its licence.
        metrics: What was measured on this very network, by data set.
        notes: Limits that a user must know.
        recipe: How it was made.
    """

    name: str
    version: str
    crop: CropGeometry
    tasks: tuple[str, ...]
    decode: str
    coverage: float
    levels: tuple[IntervalLevel, ...]
    licence: str
    training_data: tuple[dict[str, str], ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def terms(self) -> str | None:
        """What users must hear when the file is opened: that it is for research only. None where it is not."""
        if not is_restricted(self.licence):
            return None
        return f"the weights of {self.name} are for research and not for commercial use: {self.licence}"

    def level_for(self, years: float, gender: str) -> IntervalLevel:
        """Where the interval of such a face begins and ends."""
        for level in self.levels:
            if level.covers(years, gender):
                return level
        return IntervalLevel.central(0, 200, "any", self.coverage)

    def to_json(self) -> str:
        return json.dumps(
            {
                "schema": MODEL_SCHEMA,
                "name": self.name,
                "version": self.version,
                "crop": self.crop.to_dict(),
                "input": INTERFACE["input"],
                "tasks": list(self.tasks),
                "age": INTERFACE["age"] | {"decode": self.decode},
                "gender": INTERFACE["gender"],
                "intervals": {
                    "coverage": self.coverage,
                    "levels": [level.to_list() for level in self.levels],
                },
                "licence": self.licence,
                "training_data": list(self.training_data),
                "metrics": self.metrics,
                "notes": list(self.notes),
                "recipe": self.recipe,
            }
        )

    @staticmethod
    def from_json(text: str, *, name: str) -> ModelSpec:
        """Reads and checks the contract.

        Raises:
            UnfitModelError: Something is missing, or is of another version.
        """
        try:
            values = json.loads(text)
            if values["schema"] != MODEL_SCHEMA:
                raise UnfitModelError(
                    f"{name} follows {values['schema']!r} and this version of agelens reads {MODEL_SCHEMA!r}; install"
                    " the matching version of agelens, or export the model again"
                )
            _check_interface(values)
            spec = ModelSpec(
                name=str(values["name"]),
                version=str(values["version"]),
                crop=CropGeometry(**values["crop"]),
                tasks=tuple(values["tasks"]),
                decode=str(values["age"]["decode"]),
                coverage=float(values["intervals"]["coverage"]),
                levels=tuple(map(IntervalLevel.from_list, values["intervals"]["levels"])),
                licence=str(values["licence"]),
                training_data=tuple(dict(entry) for entry in values["training_data"]),
                metrics=dict(values["metrics"]),
                notes=tuple(values["notes"]),
                recipe=dict(values["recipe"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UnfitModelError(
                f"the description inside {name} is incomplete or wrong ({type(error).__name__}: {error}); export the"
                " model again with `agelens export`"
            ) from error
        if spec.decode not in DECODES or not spec.tasks or any(task not in ("age", "gender") for task in spec.tasks):
            raise UnfitModelError(
                f"{name} asks for what this version can't do: {spec.decode!r}, {spec.tasks}; install a newer version of"
                " agelens"
            )
        if not 0 < spec.coverage < 1:
            raise UnfitModelError(f"{name} states a coverage of {spec.coverage}, which is no share; export it again")
        return spec


def is_restricted(licence: str) -> bool:
    """Whether a licence is for research only, or excludes commercial use."""
    return bool(_RESTRICTED.search(licence))


def _check_interface(values: dict[str, Any]) -> None:
    for part, wanted in INTERFACE.items():
        for key, value in wanted.items():
            if values[part][key] != value:
                raise ValueError(f"{part}.{key} is {values[part][key]!r} and must be {value!r}")
