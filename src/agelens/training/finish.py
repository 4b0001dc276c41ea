"""The end of a run: the best weights measured once on the test part, calibrated, and told of in figures and plots."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agelens.outfile import write_whole
from agelens.training.build import network_of
from agelens.training.calibrate import Calibration
from agelens.training.calibration import Labelled, fit_calibration
from agelens.training.config_file import to_values
from agelens.training.figures import ask_network, measure_answers
from agelens.training.foreign import read_weights
from agelens.training.heritage import find_decode
from agelens.training.judge import measure_rows
from agelens.training.run_folder import plot_history

if TYPE_CHECKING:
    from agelens.training.course import Training


def finish_run(training: Training, devices: dict[str, Any]) -> None:
    """Measures, calibrates and writes what is left to write. All processes take part; the first one writes."""
    folder, course, learner, material = training.folder, training.course, training.learner, training.material
    training.team.wait()
    weights = read_weights(folder.model)
    learner.average.load_state_dict(weights.tensors)
    valid, _ = measure_rows(learner, training.lessons, material.val, fully=True)
    test = measure_rows(learner, training.lessons, material.test, fully=True)[0] if len(material.test) else {}
    if not training.team.leads:
        return
    network = network_of(weights).to(training.team.device)
    decode = find_decode(training.about)
    calibration = fit_calibration(network, training.task, training.lessons, material.val, decode)
    # The figures are those of the file that comes of it: calibrated, and years told as it tells them.
    for figures, rows in ((valid, material.val), (test, material.test)):
        if len(rows):
            answers = ask_network(network, calibration, training.lessons, rows)
            figures |= measure_answers(answers, decode, training.task, training.lessons, rows)
    for line in Labelled.count(training.lessons, material.val).describe(training.task, Calibration()):
        training.say(line)
    about = training.about | {
        "epoch": course.best,
        "validation": valid,
        "test": test,
        "calibration": calibration.to_dict(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    folder.save_model(weights.tensors, about)
    plot_history(folder, course.history)
    stats = make_stats(training, devices, valid, test)
    write_whole(folder.stats, (json.dumps(stats, indent=2) + "\n").encode())
    told = {"validation": valid} | ({"test": test} if test else {})
    for name, figures in told.items():
        line = ", ".join(f"{key} {value:.4f}" for key, value in figures.items())
        training.say(f"best epoch {course.best}, {name}: {line}")
    training.say(f"weights: {folder.model}")


def make_stats(
    training: Training, devices: dict[str, Any], valid: dict[str, float], test: dict[str, float]
) -> dict[str, Any]:
    """The statistics under the original's keys, then configuration, data, versions and seed.

    All metrics are of the weights that are kept: those of the epoch with the lowest validation loss.
    """
    course, hyper, material = training.course, training.config.hyperparameters, training.material
    whole = hyper.batch_size * training.team.world
    parts = {"training": material.train, "validation": material.val, "testing": material.test}
    best = course.history[course.best - 1]
    return {
        "data": {
            name: {"num_samples": len(rows), "num_batches": -(-len(rows) // whole) if name != "training" else batches}
            for (name, rows), batches in zip(parts.items(), (training.steps_per_epoch, 0, 0), strict=True)
        },
        "hyperparameters": {
            "epochs": hyper.epochs,
            "learning_rate": hyper.optimizer.lr,
            "batch_size": hyper.batch_size,
            "optimizer": hyper.optimizer.name,
        },
        "device": devices,
        "metrics": {
            "training_loss": best[0],
            "training_accuracy": best[2],
            "validation_loss": valid["loss"],
            "validation_accuracy": valid["accuracy"],
            "test_loss": test.get("loss"),
            "test_accuracy": test.get("accuracy"),
            "runtime (secs)": round(course.seconds, 3),
            "best_epoch": course.best,
            "validation": valid,
            "test": test or None,
        },
        "training_history": course.history,
        "test_history": [[test["loss"], test["accuracy"]]] if test else [],
        "validation_history": course.figures,
        "alarms": course.alarms,
        "task": training.task,
        "config": to_values(training.config),
        "network": {"kind": training.learner.network.kind, **training.learner.network.describe()},
        "dataset": material.about,
        "versions": training.about["versions"],
        "seed": hyper.seed,
    }
