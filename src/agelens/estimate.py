"""Crops -> ages and genders, by a model file that says itself how it wants to be read."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from agelens.errors import DamagedModelError, TermsWarning, UnfitModelError
from agelens.groups import NAMED, AgeGroups
from agelens.modelspec import AGE_BINS, AGE_OUTPUT, GENDER_OUTPUT, INPUT, METADATA_KEY, ModelSpec
from agelens.runtime import RUNTIME_ERRORS, first_line, open_session
from agelens.types import Age, Gender, ModelId, Task

if TYPE_CHECKING:
    import onnxruntime as ort
    from numpy.typing import NDArray

    from agelens.types import Pixels

    Floats = NDArray[np.float32]

ROUNDING = 1e-3
"""By how much probabilities may miss their sum of 1, as half-precision weights do."""


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


NO_ESTIMATES = Estimates(np.zeros((0, AGE_BINS), np.float32), np.zeros(0, np.float32))
"""What is said of no crops."""


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
        """Opens and checks a model file; warns of its terms (`TermsWarning`) where they are narrow.

        Raises:
            DamagedModelError: onnxruntime can't read the bytes.
            UnfitModelError: The file doesn't say how to use it, or its graph is another than it says.
        """
        self._session = open_session(data, name=name, device=device, threads=threads)
        try:
            described = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        except UnicodeDecodeError as error:
            raise DamagedModelError(f"the description inside {name} is no text; install or export it again") from error
        if described is None:
            raise UnfitModelError(
                f"{name} is an ONNX model but not one of agelens: it doesn't say which crop it wants; make one with"
                " `agelens export`"
            )
        self.spec = ModelSpec.from_json(described, name=name)
        self.model = ModelId(self.spec.name, hashlib.sha256(data).hexdigest())
        self._batch_size = batch_size
        check_signature(self._session, self.spec, name)
        if self.spec.terms:
            warnings.warn(self.spec.terms, TermsWarning, stacklevel=2)

    def estimate(self, crops: Pixels) -> Estimates:
        """Judges crops in batches of a bounded size.

        Raises:
            UnfitModelError: The model can't be run, or gives numbers that aren't probabilities.
        """
        parts = [self._run(crops[start : start + self._batch_size]) for start in range(0, len(crops), self._batch_size)]
        if not parts:
            return NO_ESTIMATES
        return Estimates(np.concatenate([part.ages for part in parts]), np.concatenate([part.female for part in parts]))

    def _run(self, crops: Pixels) -> Estimates:
        try:
            ages, female = self._session.run([AGE_OUTPUT, GENDER_OUTPUT], {INPUT: crops})
        except RUNTIME_ERRORS as error:
            raise UnfitModelError(
                f"the model {self.model.name} can't be run ({first_line(error)}); export or install it again"
            ) from error
        check_probabilities(ages, female, len(crops), self.model.name)
        return Estimates(ages, female)


def check_probabilities(ages: Floats, female: Floats, faces: int, name: str) -> None:
    """Compares what a graph gives with what it must give.

    Raises:
        UnfitModelError: Another shape, or numbers that aren't probabilities.
    """
    if ages.shape != (faces, AGE_BINS) or female.shape != (faces,):
        raise UnfitModelError(
            f"the model {name} answers {faces} crops in the shapes {ages.shape} and {female.shape}; export it again"
        )
    # Written so that what is not finite fails, too.
    is_distribution = bool((ages >= 0).all()) and bool((np.abs(ages.sum(axis=1) - 1) < ROUNDING).all())
    if not (is_distribution and bool(((female >= 0) & (female <= 1 + ROUNDING)).all())):
        raise UnfitModelError(
            f"the model {name} gives numbers that are no probabilities; its weights are broken: install or export it"
            " again"
        )


def check_signature(session: ort.InferenceSession, spec: ModelSpec, name: str) -> None:
    """Compares a graph's inputs and outputs with its description.

    Raises:
        UnfitModelError: They differ.
    """
    size = spec.crop.size
    found = sorted(_describe_node(node) for node in (*session.get_inputs(), *session.get_outputs()))
    wanted = sorted(
        (
            f"{INPUT}: tensor(uint8) [N, {size}, {size}, 3]",
            f"{AGE_OUTPUT}: tensor(float) [N, {AGE_BINS}]",
            f"{GENDER_OUTPUT}: tensor(float) [N]",
        )
    )
    if found != wanted:
        raise UnfitModelError(
            f"the graph of {name} doesn't fit its description: it has {', '.join(found)} and should have"
            f" {', '.join(wanted)}, N open; export the model again"
        )


def _describe_node(node: ort.NodeArg) -> str:
    """Name, type and shape; an open dimension is N whatever it is called."""
    shape = ", ".join(str(length) if isinstance(length, int) else "N" for length in node.shape)
    return f"{node.name}: {node.type} [{shape}]"


def read_face(
    ages: Floats, female: float, spec: ModelSpec, options: EstimateOptions
) -> tuple[Age | None, Gender | None]:
    """One face's answers as values.

    Args:
        ages: Probability of each whole year, shape (101,).
        female: Probability of "female".
        spec: How to read them.
        options: What was asked for.
    """
    age = read_age(ages, female, spec, options) if options.task != "gender" and "age" in spec.tasks else None
    gender = read_gender(female, options) if options.task != "age" and "gender" in spec.tasks else None
    return age, gender


def read_age(ages: Floats, female: float, spec: ModelSpec, options: EstimateOptions) -> Age:
    """Years, interval and group of one distribution, shape (101,)."""
    distribution = ages.astype(np.float64)
    distribution /= distribution.sum()
    edges = np.concatenate([[0.0], np.cumsum(distribution)])
    years = read_years(edges, spec.decode)
    level = spec.level_for(years, "female" if female >= 0.5 else "male")
    # Ages are given in whole years: of an interval that ends within one, the rest holds nobody.
    read_end = read_year if spec.decode == "year" else read_quantile
    low, high = read_end(edges, level.lower), read_end(edges, level.upper)
    values = tuple(distribution.tolist())
    group, probability = options.groups.choose(values)
    return Age(years, min(low, years), max(high, years), spec.coverage, group, probability, values)


def read_years(edges: NDArray[np.float64], decode: str) -> float:
    """The age that is told of a distribution.

    Args:
        edges: See `read_quantile`.
        decode: See `modelspec.DECODES`.
    """
    if decode == "mean":
        return float(np.diff(edges) @ np.arange(AGE_BINS))
    if decode == "median":
        return read_quantile(edges, 0.5)
    return read_year(edges, 0.5)


def read_year(edges: NDArray[np.float64], share: float) -> float:
    """The whole year that a share of a distribution lies in, see `read_quantile`."""
    return float(find_years(edges, np.array([share]))[0])


def find_years(edges: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The whole years that some shares of a distribution, shape (S,), lie in, see `read_quantile`.

    A share at the edge of two years lies in the earlier one; years without any mass at either end are left out.
    """
    first, last = int(np.searchsorted(edges, 0.0, side="right")) - 1, int(np.searchsorted(edges, edges[-1])) - 1
    return np.clip(np.searchsorted(edges[1:], shares), first, last).astype(np.float64)


def read_quantile(edges: NDArray[np.float64], share: float) -> float:
    """The age below which a share of a distribution lies.

    Args:
        edges: Cumulative probability at the lower edges of the years and at the upper edge of the last, shape (102,).
            The mass of year a lies evenly on [a - 0.5, a + 0.5], so that a label of `a` full years is its middle.
        share: 0 to 1.
    """
    # The last year that has any mass is the end, also for a share of 1.
    last = int(np.searchsorted(edges, edges[-1]))
    year = max(min(int(np.searchsorted(edges, share, side="right")), last) - 1, 0)
    mass = float(edges[year + 1] - edges[year])
    inside = min((share - float(edges[year])) / mass, 1.0) if mass > 0 else 0.0
    return float(np.clip(year - 0.5 + inside, 0.0, len(edges) - 2))


def read_gender(female: float, options: EstimateOptions) -> Gender:
    """Label and probability of one face; "unknown" below the threshold."""
    female = min(max(float(female), 0.0), 1.0)
    probability = max(female, 1 - female)
    if probability < options.gender_threshold:
        return Gender("unknown", probability, female)
    return Gender("female" if female >= 0.5 else "male", probability, female)
