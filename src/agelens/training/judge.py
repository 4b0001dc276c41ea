"""Measures a network on faces as prediction would see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from agelens.training.batches import label_crops, still_crops

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from agelens.training.batches import Lessons
    from agelens.training.learner import Learner
    from agelens.training.networks import Network

    Logits = tuple[NDArray[np.float64], NDArray[np.float64]]

CHUNK = 128


def see(
    network: Network, lessons: Lessons, rows: NDArray[np.int64], *, fully: bool
) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
    """Age and gender logits, some rows at a time.

    Args:
        network: In evaluation mode.
        lessons: Hold the faces.
        rows: Which of them.
        fully: With all views of the network (levi-hassner: ten), as prediction does; else one.
    """
    device = next(network.parameters()).device
    whole = round(network.side * lessons.widening) if fully and network.kind == "levi-hassner" else network.side
    widening = 1.0 if whole != network.side else lessons.widening
    for start in range(0, len(rows), CHUNK):
        chosen = rows[start : start + CHUNK]
        crops = still_crops(lessons.crops, chosen, widening, whole)
        pixels = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float()
        with torch.inference_mode():
            age, gender = network.predict(pixels) if fully else network.look(pixels)
        yield chosen, age.float().cpu(), gender.float().cpu()


def collect(network: Network, lessons: Lessons, rows: NDArray[np.int64]) -> Logits:
    """Logits of all rows with all views: age (N, C), gender (N,)."""
    parts = [(age.numpy(), gender.numpy()) for _, age, gender in see(network, lessons, rows, fully=True)]
    ages = np.concatenate([age for age, _ in parts] or [np.zeros((0, len(network.classes)))])
    genders = np.concatenate([gender for _, gender in parts] or [np.zeros(0)])
    return ages.astype(np.float64), genders.astype(np.float64)


def measure_rows(learner: Learner, lessons: Lessons, rows: NDArray[np.int64], *, fully: bool) -> dict[str, float]:
    """The averaged network's figures over rows, each process taking its share of them.

    Returns:
        "loss"; "age_accuracy" by group and "mae" in years where ages are known (the latter where they are exact);
        "gender_accuracy" where genders are; "accuracy": the mean of the two accuracies that there are.
    """
    team = learner.team
    names = ("faces", "loss", "right_age", "known_age", "right_gender", "known_gender", "error", "exact")
    sums = dict.fromkeys(names, 0.0)
    years = np.arange(101)
    for chosen, age, gender in see(learner.average, lessons, rows[team.rank :: team.world], fully=fully):
        batch = label_crops(lessons, chosen, torch.empty(0))
        sums["faces"] += len(chosen)
        sums["loss"] += float(learner.objective.measure(age, gender, batch)["loss"]) * len(chosen)
        for name, count in learner.count_right(age, gender, batch).items():
            sums[name] += count
        if age.shape[1]:
            probabilities = torch.softmax(age.double(), dim=1).numpy()
            predicted = learner.average.classes.to_years(probabilities) @ years
            low, high = lessons.crops.age_low[chosen], lessons.crops.age_high[chosen]
            error = np.abs(predicted - low)[low == high]
            sums["error"] += float(error.sum())
            sums["exact"] += len(error)
    totals = dict(zip(names, team.sum([sums[name] for name in names]), strict=True))
    figures = {"loss": totals["loss"] / max(totals["faces"], 1)}
    if learner.objective.learns_age and totals["exact"]:
        figures["mae"] = totals["error"] / totals["exact"]
    return figures | accuracies(totals, learner)


def accuracies(totals: dict[str, float], learner: Learner) -> dict[str, float]:
    """Shares of right answers out of counts of what the training learns; "accuracy" is their mean."""
    learned = [("age", learner.objective.learns_age), ("gender", bool(learner.objective.gender))]
    shares = {
        f"{name}_accuracy": totals[f"right_{name}"] / totals[f"known_{name}"]
        for name, is_learned in learned
        if is_learned and totals[f"known_{name}"]
    }
    return {"accuracy": sum(shares.values()) / max(len(shares), 1)} | shares
