"""Evaluates: checks for leaks, has every picture judged, and measures what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens import __version__
from agelens.analyzer import Analyzer
from agelens.errors import EmptyDatasetError, LeakError, UsageError
from agelens.evaluation.alarms import find_alarms
from agelens.evaluation.curves import measure_confusions, measure_curves, measure_gates
from agelens.evaluation.figures import LEAST_IN_SLICE, build_statistics
from agelens.evaluation.gather import Answer, collect, gather
from agelens.evaluation.leaks import HELD_OUT_KEY, find_doubts, find_leak_reasons, find_shared
from agelens.evaluation.peers import open_estimator
from agelens.evaluation.protocol import Protocol, default_protocol, load_protocol
from agelens.evaluation.result import DataFacts, Evaluation, ModelFacts, Origin, fold_spread
from agelens.evaluation.slices import measure_slice, measure_slices
from agelens.evaluation.statistics import make_figures
from agelens.groups import NAMED
from agelens.runtime import resolve_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.datasets.manifest import Manifest
    from agelens.datasets.scan import Progress
    from agelens.estimate import Estimator
    from agelens.evaluation.gather import PixelsOf
    from agelens.evaluation.predictions import Predictions


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """How to evaluate.

    Attributes:
        split: Which rows; None: the test part where the manifest has one, else all.
        limit: At most so many rows, drawn at random but always the same; None: all.
        crops: The pictures are crops of faces already.
        training: The manifest that the model was trained on, to be compared picture by picture.
        allow_leak: Go on where a leak is found; the result says so.
        rounds: Bootstrap samples.
        least: Faces that a slice must have.
        device: "auto", "cpu", "cuda", ...
        threads: Pictures worked on at once; None: one for each core.
        file: Name of the manifest or pack, for the record.
        command: The command line, for the record.
    """

    split: str | None = None
    limit: int | None = None
    crops: bool = False
    training: Manifest | None = None
    allow_leak: bool = False
    rounds: int = 1000
    least: int = LEAST_IN_SLICE
    device: str = "auto"
    threads: int | None = None
    file: str = ""
    command: str = "Python"


def evaluate(
    model: str | Estimator | Sequence[str | Estimator],
    manifest: Manifest,
    protocol: Protocol | str | None = None,
    options: EvaluateOptions | None = None,
    *,
    pixels_of: PixelsOf | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measures a model on a data set.

    Args:
        model: Name or path, see `peers.open_estimator`, or an estimator; or one for each fold of the protocol, in the
            folds' order.
        manifest: The data set.
        protocol: Or its name; None: the one of that kind of data set.
        options: See `EvaluateOptions`.
        pixels_of: Gives the pixels of a row where the set is a pack, see `datasets.inspect.open_prepared_pixels`.
        progress: Called with (done, total) as pictures are judged.

    Raises:
        UsageError: The protocol is unknown or for other data, or the number of models doesn't fit it.
        EmptyDatasetError: No row is left to evaluate.
        LeakError: The model has seen the pictures, and `allow_leak` is not set.
        ModelError: A model is unknown, damaged or unfit.
    """
    options = options or EvaluateOptions()
    chosen = choose_protocol(manifest, protocol)
    rows, part = choose_rows(manifest, chosen, options)
    device = resolve_device(options.device)
    given = [model] if not isinstance(model, Sequence) or isinstance(model, str) else list(model)
    estimators = [open_estimator(each, device=device) if isinstance(each, str) else each for each in given]
    shares = share_rows(manifest, rows, chosen, len(estimators))
    leaks = refuse_leaks(estimators, manifest, shares, chosen, options)

    answers: dict[int, Answer] = {}
    for estimator, (_, own) in zip(estimators, shares, strict=True):
        analyzer = Analyzer(estimator=estimator, device=device, threads=options.threads, groups=NAMED[chosen.groups])
        judged = gather(analyzer, manifest, own, chosen, pixels_of=pixels_of, crops=options.crops)
        for row, answer in zip(own.tolist(), judged, strict=True):
            answers[row] = answer
            if progress is not None:
                progress(len(answers), len(rows))
    predictions = collect(manifest, rows, chosen, [answers[row] for row in rows.tolist()])
    errors = Counter(predictions.error[predictions.error != ""].tolist())
    tested = manifest.take(rows)
    data = DataFacts(
        manifest.kind,
        options.file,
        tested.fingerprint,
        part,
        len(rows),
        len(set(zip(predictions.dataset.tolist(), predictions.subject.tolist(), strict=True)) - _nobodies(predictions)),
        int((~predictions.found & (predictions.error == "")).sum()),
        dict(errors.most_common()),
    )
    origin = Origin(
        __version__,
        datetime.now(UTC).replace(microsecond=0).isoformat(),
        options.command,
        "crops" if options.crops else "end to end",
        device,
        options.rounds,
    )
    models = tuple(ModelFacts.of(estimator) for estimator in estimators)
    doubts: list[str] = []
    if not leaks and options.training is None:
        doubts = [doubt for each in estimators for doubt in find_doubts(each.spec, manifest, tested)]
    frame = Evaluation(models, data, chosen, origin, {}, alarms=tuple(dict.fromkeys(doubts)), leaks=leaks)
    return summarise(predictions, frame, least=options.least)


def _nobodies(predictions: Predictions) -> set[tuple[str, str]]:
    return {(name, "") for name in set(predictions.dataset.tolist())}


def summarise(predictions: Predictions, frame: Evaluation, *, least: int = LEAST_IN_SLICE) -> Evaluation:
    """All figures of given predictions; `frame` says of what and how, and what there was to be said before.

    Raises:
        EmptyDatasetError: In none of the pictures a face was found.
    """
    protocol, rounds = frame.protocol, frame.origin.rounds
    found = predictions.take(predictions.found)
    if not len(found):
        raise EmptyDatasetError(
            f"no face was found in any of {len(predictions):,} pictures; are they the right ones? Crops that are too"
            " tight for the detector are evaluated with --crops"
        )
    figures = make_figures(build_statistics(found, protocol), found.units, rounds=rounds)
    folds = tuple(
        measure_slice("fold", name, found.take(mask), protocol, rounds=rounds)
        for name, mask in cut_folds(found, protocol)
    )
    return Evaluation(
        models=frame.models,
        data=frame.data,
        protocol=protocol,
        origin=frame.origin,
        figures=figures,
        slices=measure_slices(found, protocol, rounds=rounds, least=least),
        folds=folds,
        over_folds=fold_spread(folds),
        gates=measure_gates(found, protocol, rounds=rounds),
        curves=measure_curves(found, protocol, rounds=rounds),
        confusions=measure_confusions(found, protocol),
        alarms=(*frame.alarms, *find_alarms(found, figures, folds, frame)),
        leaks=frame.leaks,
        predictions=predictions,
    )


def choose_protocol(manifest: Manifest, protocol: Protocol | str | None) -> Protocol:
    """The protocol itself, the one of that name, or the one of that kind of data set.

    Raises:
        UsageError: It is unknown, or for other data.
    """
    if protocol is None:
        return default_protocol(manifest.kind)
    chosen = load_protocol(protocol) if isinstance(protocol, str) else protocol
    if chosen.datasets and not set(manifest.columns.dataset.tolist()) <= set(chosen.datasets):
        raise UsageError(
            f"the protocol {chosen.name} is for {', '.join(chosen.datasets)}, and the manifest holds"
            f" {', '.join(sorted(set(manifest.columns.dataset.tolist())))}; --protocol plain measures any set"
        )
    return chosen


def choose_rows(manifest: Manifest, protocol: Protocol, options: EvaluateOptions) -> tuple[NDArray[np.int64], str]:
    """Indices of the rows to evaluate, and how that part is called.

    Raises:
        UsageError: The manifest has no such split.
        EmptyDatasetError: No row is left.
    """
    columns = manifest.columns
    splits = set(columns.split.tolist())
    part = options.split or ("test" if "test" in splits and not protocol.needs_all else "all")
    if part != "all" and part not in splits:
        named = ", ".join(sorted(str(split) for split in splits if split)) or "none"
        raise UsageError(f"the data set has no split {part!r}; it has: {named}. `--split all` takes all rows")
    mask = np.ones(len(manifest), bool) if part == "all" else manifest.in_split(part)
    if protocol.min_age is not None:
        mask &= columns.age_low >= protocol.min_age
    if protocol.max_age is not None:
        mask &= columns.age_high < protocol.max_age + 1
    if protocol.folds is not None:
        mask &= fold_names(columns.fold, columns.subject, protocol) != ""
    mask &= ~np.isnan(columns.age_low) | (columns.gender >= 0)
    rows = np.flatnonzero(mask)
    if not len(rows):
        raise EmptyDatasetError(
            f"no row of the data set is left to evaluate (split {part!r}, protocol {protocol.name}); prepare it with"
            " the labels that the protocol needs, or choose another protocol"
        )
    if options.limit is not None and options.limit < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(rows, options.limit, replace=False))
        part = f"{options.limit} rows of {part}"
    return rows, part


def fold_names(fold: NDArray[Any], subject: NDArray[Any], protocol: Protocol) -> NDArray[np.str_]:
    """The protocol's fold of every row, shape (N,); "" where a row is in none."""
    assert protocol.folds is not None
    if protocol.folds.by == "fold":
        return np.array([str(number) if number >= 0 else "" for number in fold.tolist()], dtype=np.str_)
    return np.array([name or "" for name in subject.tolist()], dtype=np.str_)


def _in_order(names: NDArray[np.str_], protocol: Protocol) -> list[str]:
    """Each fold once, numbers by their value."""
    by_number = protocol.folds is not None and protocol.folds.by == "fold"
    return sorted(set(names.tolist()), key=int if by_number else str)


def cut_folds(predictions: Predictions, protocol: Protocol) -> list[tuple[str, NDArray[np.bool_]]]:
    """Name and mask of every fold that has faces; none where the protocol has no folds."""
    if protocol.folds is None:
        return []
    names = fold_names(predictions.fold, predictions.subject, protocol)
    return [(name, names == name) for name in _in_order(names, protocol)]


def share_rows(
    manifest: Manifest, rows: NDArray[np.int64], protocol: Protocol, models: int
) -> list[tuple[str | None, NDArray[np.int64]]]:
    """For each model the fold that it stands for (None: all), and the indices of the rows that it judges.

    Raises:
        UsageError: There are neither one nor as many models as folds, or folds that the protocol needs are not there.
    """
    if protocol.folds is None:
        if models != 1:
            raise UsageError(f"the protocol {protocol.name} takes one model, not {models}; it has no folds")
        return [(None, rows)]
    columns = manifest.columns.take(rows)
    names = fold_names(columns.fold, columns.subject, protocol)
    distinct = _in_order(names, protocol)
    if protocol.folds.all_needed and len(distinct) != protocol.folds.count:
        raise UsageError(
            f"the protocol {protocol.name} needs {protocol.folds.count} folds, and the data set has {len(distinct)}"
            f" ({', '.join(distinct[:10])}); {protocol.name}-zero-shot measures what is there"
        )
    if models == 1:
        return [(None, rows)]
    if models != len(distinct):
        raise UsageError(
            f"the protocol {protocol.name} takes one model, or one for each of its {len(distinct)} folds in order; got"
            f" {models}"
        )
    return [(name, rows[names == name]) for name in distinct]


def refuse_leaks(
    estimators: Sequence[Estimator],
    manifest: Manifest,
    shares: Sequence[tuple[str | None, NDArray[np.int64]]],
    protocol: Protocol,
    options: EvaluateOptions,
) -> tuple[str, ...]:
    """Why the figures will be too good, where that is allowed; none where nothing was found.

    Raises:
        LeakError: Something was found, and `allow_leak` is not set.
    """
    found: list[str] = []
    for estimator, (held_out, rows) in zip(estimators, shares, strict=True):
        found += find_leak_reasons(estimator.spec, manifest, rows, protocol, held_out=held_out)
        if options.training is not None:
            left_out = str(estimator.spec.recipe.get(HELD_OUT_KEY, ""))
            found += find_shared(options.training, manifest.take(rows), left_out)
    reasons = tuple(dict.fromkeys(found))
    if reasons and not options.allow_leak:
        raise LeakError(
            f"the figures would be too good to be true: {'; '.join(reasons)}. Evaluate on pictures that the model has"
            " not seen, or go on with the result stamped (--allow-leak)"
        )
    return reasons
