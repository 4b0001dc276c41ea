"""Crops -> ages and genders, by a model file that says itself how it wants to be read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from agelens.errors import UnfitModelError
from agelens.groups import NAMED, AgeGroups
from agelens.modelspec import AGE_BINS, AGE_OUTPUT, GENDER_OUTPUT, INPUT, METADATA_KEY, ModelSpec
from agelens.runtime import open_session
from agelens.types import Age, Gender, ModelId, Task

if TYPE_CHECKING:
    import onnxruntime as ort
    from numpy.typing import NDArray

    from agelens.types import Pixels

    Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EstimateOptions:
    """What is asked of each face.

    Attributes:
        task: "age", "gender" or "both".
        groups: The set of age groups.
        gender_threshold: Below this probability the gender's label is "unknown"; 0.5 never abstains.
    """

    task: Task = "both"
    groups: AgeGroups = NAMED["adience"]
    gender_threshold: float = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Raw answers: age probabilities (N, 101) and female probability (N,)."""

    ages: Floats
    female: Floats


class Estimator(Protocol):
    """Anything that judges crops. A second kind of model needs no more than this."""

    spec: ModelSpec
    model: ModelId

    def estimate(self, crops: Pixels) -> Estimates:
        """Judges RGB uint8 crops, shape (N, size, size, 3), in the geometry of `spec.crop`."""
        ...


class OnnxEstimator:
    """A model file on onnxruntime. Safe to call from many threads at once."""

    def __init__(self, data: bytes, *, name: str, device: str = "cpu", threads: int = 1, batch_size: int = 32) -> None:
        """Opens and checks a model file.

        Raises:
            DamagedModelError: onnxruntime can't read the bytes.
            UnfitModelError: The file doesn't say how to use it, or its graph is another than it says.
        """
        self._session = open_session(data, name=name, device=device, threads=threads)
        described = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if described is None:
            raise UnfitModelError(
                f"{name} is an ONNX model but not one of agelens: it doesn't say which crop it wants; make one with"
                " `agelens export`"
            )
        self.spec = ModelSpec.from_json(described, name=name)
        self.model = ModelId(self.spec.name, hashlib.sha256(data).hexdigest())
        self._batch_size = batch_size
        check_signature(self._session, self.spec, name)

    def estimate(self, crops: Pixels) -> Estimates:
        """Judges crops in batches of a bounded size.

        Raises:
            UnfitModelError: The model gives numbers that aren't probabilities.
        """
        parts = [
            self._session.run([AGE_OUTPUT, GENDER_OUTPUT], {INPUT: crops[start : start + self._batch_size]})
            for start in range(0, len(crops), self._batch_size)
        ]
        ages = np.concatenate([part[0] for part in parts] or [np.zeros((0, AGE_BINS), np.float32)])
        female = np.concatenate([part[1] for part in parts] or [np.zeros(0, np.float32)])
        if not (np.isfinite(ages).all() and np.isfinite(female).all()):
            raise UnfitModelError(
                f"the model {self.model.name} gives numbers that are not finite; its weights are broken"
            )
        return Estimates(ages, female)


def check_signature(session: ort.InferenceSession, spec: ModelSpec, name: str) -> None:
    """Compares a graph's inputs and outputs with its description.

    Raises:
        UnfitModelError: They differ.
    """
    size = spec.crop.size
    found = {(node.name, node.type, tuple(node.shape[1:])) for node in (*session.get_inputs(), *session.get_outputs())}
    wanted = {
        (INPUT, "tensor(uint8)", (size, size, 3)),
        (AGE_OUTPUT, "tensor(float)", (AGE_BINS,)),
        (GENDER_OUTPUT, "tensor(float)", ()),
    }
    if found != wanted:
        raise UnfitModelError(
            f"the graph of {name} doesn't fit its description: it has {sorted(found)} and should have {sorted(wanted)};"
            " export the model again"
        )


def describe_face(
    ages: Floats, female: float, spec: ModelSpec, options: EstimateOptions
) -> tuple[Age | None, Gender | None]:
    """One face's answers as values.

    Args:
        ages: Probability of each whole year, shape (101,).
        female: Probability of "female".
        spec: How to read them.
        options: What was asked for.
    """
    age = describe_age(ages, female, spec, options) if options.task != "gender" and "age" in spec.tasks else None
    gender = describe_gender(female, options) if options.task != "age" and "gender" in spec.tasks else None
    return age, gender


def describe_age(ages: Floats, female: float, spec: ModelSpec, options: EstimateOptions) -> Age:
    """Years, interval and group of one distribution, shape (101,)."""
    distribution = ages.astype(np.float64)
    distribution /= distribution.sum()
    edges = np.concatenate([[0.0], np.cumsum(distribution)])
    mean = float(distribution @ np.arange(AGE_BINS))
    years = read_quantile(edges, 0.5) if spec.decode == "median" else mean
    level = spec.level_for(years, "female" if female >= 0.5 else "male")
    low, high = read_quantile(edges, (1 - level) / 2), read_quantile(edges, (1 + level) / 2)
    values = tuple(float(value) for value in distribution)
    group, probability = options.groups.choose(values)
    return Age(years, min(low, years), max(high, years), spec.coverage, group, probability, values)


def read_quantile(edges: NDArray[np.float64], share: float) -> float:
    """The age below which a share of a distribution lies.

    Args:
        edges: Cumulative probability at the lower edges of the years and at the upper edge of the last, shape (102,).
            The mass of year a lies evenly on [a - 0.5, a + 0.5], so that a label of `a` full years is its middle.
        share: 0 to 1.
    """
    year = int(np.clip(np.searchsorted(edges, share, side="right") - 1, 0, len(edges) - 2))
    mass = float(edges[year + 1] - edges[year])
    inside = (share - float(edges[year])) / mass if mass > 0 else 0.0
    return float(np.clip(year - 0.5 + inside, 0.0, len(edges) - 2))


def describe_gender(female: float, options: EstimateOptions) -> Gender:
    """Label and probability of one face; "unknown" below the threshold."""
    female = min(max(float(female), 0.0), 1.0)
    probability = max(female, 1 - female)
    if probability < options.gender_threshold:
        return Gender("unknown", probability, female)
    return Gender("female" if female >= 0.5 else "male", probability, female)
