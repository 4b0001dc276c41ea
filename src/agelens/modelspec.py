"""What a model file says of itself: how to feed it, how to read it, where it comes from, what it reaches.

It travels as JSON in the ONNX metadata under the key `agelens`. A file without it, or that does not fit, is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from agelens.align import CropGeometry
from agelens.errors import UnfitModelError

METADATA_KEY = "agelens"
MODEL_SCHEMA = "agelens.model/1"
AGE_BINS = 101
INPUT = "crops"
AGE_OUTPUT = "age_probabilities"
GENDER_OUTPUT = "female_probability"
DECODES = ("mean", "median")
INTERFACE: dict[str, Any] = {
    "input": {"name": INPUT, "layout": "NHWC", "type": "uint8", "colour": "RGB"},
    "age": {"output": AGE_OUTPUT, "bins": [0, AGE_BINS - 1]},
    "gender": {"output": GENDER_OUTPUT, "labels": ["male", "female"]},
}
"""What every file of this schema says alike; one that says otherwise would be fed or read wrongly."""


@dataclass(frozen=True, slots=True)
class IntervalLevel:
    """How much of the predicted distribution an interval must hold for one kind of face.

    Attributes:
        low: First predicted year of the kind.
        high: Last predicted year of the kind.
        gender: "female", "male", or "any": which gender is predicted.
        level: Share of the distribution's mass, 0 to 1, that held the true age of enough calibration faces.
    """

    low: float
    high: float
    gender: str
    level: float

    def __post_init__(self) -> None:
        if not (self.low <= self.high and 0 <= self.level <= 1 and self.gender in ("female", "male", "any")):
            raise ValueError(f"not an interval level: {self}")

    def covers(self, years: float, gender: str) -> bool:
        return self.low <= years < self.high and self.gender in ("any", gender)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The metadata contract.

    Attributes:
        name: Such as "agelens-base".
        version: Date of the weights.
        crop: What the network sees.
        tasks: "age", "gender" or both.
        decode: How years come out of the distribution: "mean" or "median".
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
        if "research" not in self.licence.lower():
            return None
        return f"the weights of {self.name} are for research and not for commercial use: {self.licence}"

    def level_for(self, years: float, gender: str) -> float:
        """The share of the distribution that the interval of such a face must hold."""
        return next((level.level for level in self.levels if level.covers(years, gender)), self.coverage)

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
                    "levels": [[lv.low, lv.high, lv.gender, round(lv.level, 4)] for lv in self.levels],
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
                levels=tuple(
                    IntervalLevel(float(low), float(high), gender, float(level))
                    for low, high, gender, level in values["intervals"]["levels"]
                ),
                licence=str(values["licence"]),
                training_data=tuple(values["training_data"]),
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


def _check_interface(values: dict[str, Any]) -> None:
    for part, wanted in INTERFACE.items():
        for key, value in wanted.items():
            if values[part][key] != value:
                raise ValueError(f"{part}.{key} is {values[part][key]!r} and must be {value!r}")
