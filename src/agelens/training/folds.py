"""Trains one model for each fold of a data set, without that fold, and exports it: what `evaluate` then scores.

What is finished is kept, and what was cut off goes on: the same call again does only what is left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agelens.errors import NotFoundError, TrainingError
from agelens.training.course import run_training
from agelens.training.listeners import Listeners
from agelens.training.publish import ExportOptions, export_checkpoint
from agelens.training.resume import PLACES, differing
from agelens.training.run_folder import find_unfinished

if TYPE_CHECKING:
    from agelens.training.config import Config

TASK = "both"


def train_folds(
    config: Config, fingerprint: str, folds: Sequence[int], folder: Path, listeners: Listeners | None = None
) -> list[Path]:
    """The exported models, in the order of the folds.

    Args:
        config: On what, and how; `test_fold` and the places of runs and crops are set here.
        fingerprint: Of the data.
        folds: Numbers of the folds.
        folder: Holds `fold-<number>/` with the run and `model.onnx`, and `crops/`, which all of them share.
        listeners: Are told of the progress.

    Raises:
        TrainingError: The folder holds folds that were trained with other settings or on other data.
        AgelensError: As `run_training` and `export_checkpoint` say.
    """
    listeners = listeners or Listeners()
    return [_train_fold(config, fingerprint, fold, folder, listeners) for fold in folds]


def _train_fold(config: Config, fingerprint: str, fold: int, folder: Path, listeners: Listeners) -> Path:
    place = folder / f"fold-{fold}"
    model = place / "model.onnx"
    crops = config.data.crops_dir or str(folder / "crops")
    config = replace(config, data=replace(config.data, output_dir=str(place), crops_dir=crops, test_fold=fold))
    run = _find_finished(place, config, fingerprint)
    if run is None:
        listeners.tell(f"fold {fold}: training without it, in {place}")
        run = run_training(config, TASK, resume=_was_cut_off(place, config), listeners=listeners)
        model.unlink(missing_ok=True)
    if not model.is_file():
        options = ExportOptions(output=model, name=f"{config.network.name}-without-fold-{fold}", cache=folder)
        export_checkpoint(run, options, listeners.tell)
    else:
        listeners.tell(f"fold {fold}: trained before, {model}")
    return model


def _was_cut_off(place: Path, config: Config) -> bool:
    try:
        find_unfinished(place, TASK, config)
    except NotFoundError:
        return False
    return True


def _find_finished(place: Path, config: Config, fingerprint: str) -> Path | None:
    """The folder of a finished run.

    Raises:
        TrainingError: It was trained with other settings or on other data.
    """
    found = sorted(place.glob(f"*_output_*/{TASK}_stats_*.json"))
    if not found:
        return None
    stats = json.loads(found[-1].read_text("utf-8"))
    # A batch size that was left open is the set's choice.
    free = ("GPU.", *PLACES, *(() if config.hyperparameters.batch_size else ("HYPERPARAMETERS.BATCH_SIZE",)))
    changed = differing(stats["config"], config, free)
    if changed:
        raise TrainingError(
            f"{found[-1].parent} was trained with other settings ({', '.join(changed)} differ); choose another folder,"
            " or the settings that it was trained with"
        )
    if stats["dataset"]["fingerprint"] != fingerprint:
        raise TrainingError(f"{found[-1].parent} was trained on other data; choose another folder")
    return found[-1].parent
