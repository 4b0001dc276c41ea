"""An evaluation as a value: what was measured, of which model file, on which pictures, by which protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.errors import DamagedDatasetError, NotFoundError
from agelens.evaluation.curves import Confusion, Curve
from agelens.evaluation.predictions import Predictions
from agelens.evaluation.protocol import Protocol
from agelens.evaluation.slices import Slice
from agelens.evaluation.statistics import Figure
from agelens.outfile import typed_output_errors, write_whole

if TYPE_CHECKING:
    from agelens.estimate import Estimator

SCHEMA = "agelens.evaluation/1"
JSON_FILE, PREDICTIONS_FILE = "evaluation.json", "predictions.npz"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Which model file was measured.

    Attributes:
        name: As it calls itself.
        sha256: Of its bytes.
        version: Of its weights.
        licence: Of its weights.
        coverage: The share of ages that its intervals promise to hold; None where it promises nothing.
        training_data: What it says that it was trained on.
        notes: The limits that it states.
    """

    name: str
    sha256: str
    version: str
    licence: str
    coverage: float | None
    training_data: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(estimator: Estimator) -> ModelFacts:
        """What an opened model says of itself."""
        spec, model = estimator.spec, estimator.model
        data = tuple(str(entry.get("name", "")) for entry in spec.training_data)
        promised = spec.coverage if spec.levels else None
        return ModelFacts(model.name, model.sha256, spec.version, spec.licence, promised, data, spec.notes)


@dataclass(frozen=True, slots=True)
class DataFacts:
    """Which pictures.

    Attributes:
        kind: The importer that made the manifest.
        file: Name of the manifest or pack.
        fingerprint: Of the rows that were evaluated.
        part: Which rows those are: "test", "all", ...
        pictures: How many.
        subjects: How many people they show; 0 where the set doesn't say.
        not_found: In how many no face was found.
        unreadable: How many could not be read, by error code.
    """

    kind: str
    file: str
    fingerprint: str
    part: str
    pictures: int
    subjects: int
    not_found: int
    unreadable: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Failures to acquire: pictures that gave no face, or could not be read."""
        return self.not_found + sum(self.unreadable.values())


@dataclass(frozen=True, slots=True)
class Origin:
    """How the evaluation came about.

    Attributes:
        agelens: Version of the program.
        date: When, in UTC.
        command: The command line, or a word such as "Python".
        mode: "end to end" or "crops".
        device: What the model ran on.
        rounds: Bootstrap samples.
    """

    agelens: str
    date: str
    command: str
    mode: str
    device: str
    rounds: int


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over folds: its mean, and its sample standard deviation."""

    mean: float
    deviation: float
    folds: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was measured. Figures are of the faces that were found; failures are counted in `data`.

    Attributes:
        models: One, or one a fold.
        data: Which pictures.
        protocol: What was asked.
        origin: When, how, by which version.
        figures: Over all faces, by name (see `agelens.evaluation.figures`).
        slices: Parts of the set.
        folds: The folds of the protocol.
        over_folds: Mean and standard deviation over the folds.
        gates: What age gates would do, see `curves.measure_gates`.
        curves: See `curves.measure_curves`.
        confusions: "age" and "gender".
        alarms: What a reader must know before quoting a figure.
        leaks: Why the figures are too good, where that was found and allowed; empty: nothing was found.
        predictions_sha256: Of the file beside it that holds what was said of every picture.
        predictions: The same in memory; None where it was not loaded.
    """

    models: tuple[ModelFacts, ...]
    data: DataFacts
    protocol: Protocol
    origin: Origin
    figures: Mapping[str, Figure]
    slices: tuple[Slice, ...] = ()
    folds: tuple[Slice, ...] = ()
    over_folds: Mapping[str, Spread] = field(default_factory=dict)
    gates: Mapping[str, Figure] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    confusions: Mapping[str, Confusion] = field(default_factory=dict)
    alarms: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    predictions_sha256: str = ""
    predictions: Predictions | None = field(default=None, repr=False, compare=False)

    def parts(self, by: str) -> tuple[Slice, ...]:
        """The slices of one kind."""
        return tuple(part for part in self.slices if part.by == by)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the predictions stay apart."""
        return {
            "schema": SCHEMA,
            "models": [_plain(model) for model in self.models],
            "data": _plain(self.data),
            "protocol": self.protocol.to_dict(),
            "origin": _plain(self.origin),
            "alarms": list(self.alarms),
            "leaks": list(self.leaks),
            "figures": _dicts(self.figures),
            "over_folds": {name: _plain(spread) for name, spread in self.over_folds.items()},
            "gates": _dicts(self.gates),
            "slices": [part.to_dict() for part in self.slices],
            "folds": [part.to_dict() for part in self.folds],
            "curves": _dicts(self.curves),
            "confusions": _dicts(self.confusions),
            "predictions_sha256": self.predictions_sha256,
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any], *, name: str = "the evaluation") -> Evaluation:
        """The evaluation of `to_dict`; `name` is named in errors.

        Raises:
            DamagedDatasetError: It is none, or of another version.
        """
        if values.get("schema") != SCHEMA:
            raise DamagedDatasetError(
                f"{name} is no evaluation that this version reads (schema {values.get('schema')!r}, not {SCHEMA!r});"
                " evaluate again"
            )
        try:
            return _from_plain(values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedDatasetError(f"{name} is no evaluation ({error!r}); evaluate again") from error

    def save(self, folder: Path) -> Path:
        """Writes `evaluation.json`, and `predictions.npz` where they are in memory; returns the former's path.

        Raises:
            OutputError: They can't be written.
        """
        with typed_output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        saved = self
        if self.predictions is not None:
            data = self.predictions.to_bytes()
            write_whole(folder / PREDICTIONS_FILE, data)
            saved = replace(self, predictions_sha256=hashlib.sha256(data).hexdigest())
        text = json.dumps(saved.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)
        write_whole(folder / JSON_FILE, (text + "\n").encode())
        return folder / JSON_FILE

    @staticmethod
    def load(path: Path, *, with_predictions: bool = False) -> Evaluation:
        """Reads what `save` wrote, by the path of the JSON file or of its folder.

        Raises:
            NotFoundError: It, or the predictions that were asked for, is not there.
            DamagedDatasetError: It is no evaluation, or the predictions are not those that it was drawn from.
        """
        path = path / JSON_FILE if path.is_dir() else path
        if not path.is_file():
            raise NotFoundError(f"there is no evaluation {path}; make one with `agelens evaluate ... -o DIR`")
        try:
            values = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise DamagedDatasetError(f"{path} is no JSON ({error}); evaluate again") from error
        evaluation = Evaluation.from_dict(values if isinstance(values, dict) else {}, name=str(path))
        if not with_predictions:
            return evaluation
        file = path.with_name(PREDICTIONS_FILE)
        predictions = Predictions.load(file)
        if hashlib.sha256(file.read_bytes()).hexdigest() != evaluation.predictions_sha256:
            raise DamagedDatasetError(f"{file} does not belong to {path}; evaluate again")
        return replace(evaluation, predictions=predictions)


def fold_spread(folds: tuple[Slice, ...]) -> dict[str, Spread]:
    """Mean and sample standard deviation of each figure over the folds that have it, where those are two or more."""
    names = [name for name in (folds[0].figures if folds else {}) if all(name in fold.figures for fold in folds)]
    spread = {}
    if len(folds) > 1:
        for name in names:
            values = np.array([fold.figures[name].value for fold in folds])
            spread[name] = Spread(float(values.mean()), float(values.std(ddof=1)), len(folds))
    return spread


def _plain(value: ModelFacts | DataFacts | Origin | Spread) -> dict[str, Any]:
    found = {name: getattr(value, name) for name in value.__slots__}
    return {
        name: list(entry) if isinstance(entry, tuple) else dict(entry) if isinstance(entry, Mapping) else entry
        for name, entry in found.items()
    }


def _dicts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.to_dict() for name, value in values.items()}


def _from_plain(values: Mapping[str, Any]) -> Evaluation:
    protocol = dict(values["protocol"])
    models = (dict(model) for model in values["models"])
    return Evaluation(
        models=tuple(
            ModelFacts(**model | {key: tuple(model[key]) for key in ("training_data", "notes")}) for model in models
        ),
        data=DataFacts(**values["data"]),
        protocol=Protocol.from_dict(protocol, name=protocol["name"]),
        origin=Origin(**values["origin"]),
        figures={name: Figure.from_dict(figure) for name, figure in values["figures"].items()},
        slices=tuple(Slice.from_dict(part) for part in values["slices"]),
        folds=tuple(Slice.from_dict(part) for part in values["folds"]),
        over_folds={name: Spread(**spread) for name, spread in values["over_folds"].items()},
        gates={name: Figure.from_dict(figure) for name, figure in values["gates"].items()},
        curves={name: Curve.from_dict(curve) for name, curve in values["curves"].items()},
        confusions={name: Confusion.from_dict(confusion) for name, confusion in values["confusions"].items()},
        alarms=tuple(values["alarms"]),
        leaks=tuple(values["leaks"]),
        predictions_sha256=str(values["predictions_sha256"]),
    )
