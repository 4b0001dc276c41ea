"""Measures a network on faces as prediction would see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from agelens.training.alarms import Answers
from agelens.training.batches import label_crops, still_crops

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from agelens.training.batches import Lessons
    from agelens.training.learner import Learner
    from agelens.training.networks import Network

    Logits = tuple[NDArray[np.float64], NDArray[np.float64]]

CHUNK = 128
Task = Literal["age", "gender"]


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


def predict_crops(network: Network, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Age logits (N, C) and gender logits (N,) of RGB uint8 crops (N, S, S, 3), as prediction cuts them."""
    network.eval()
    device = next(network.parameters()).device
    ages, genders = [], []
    with torch.inference_mode():
        for start in range(0, len(crops), 256):
            pixels = torch.from_numpy(crops[start : start + 256]).to(device).float().permute(0, 3, 1, 2)
            age, gender = network.predict(pixels)
            ages.append(age.cpu().numpy())
            genders.append(gender.cpu().numpy())
    return np.concatenate(ages), np.concatenate(genders)


def measure_rows(
    learner: Learner, lessons: Lessons, rows: NDArray[np.int64], *, fully: bool
) -> tuple[dict[str, float], list[Answers]]:
    """The averaged network's figures over rows, each process taking its share of them, and what it answered.

    Returns:
        "loss"; "age_accuracy" by group and "mae" in years where ages are known (the latter where they are exact);
        "gender_accuracy" where genders are; "accuracy": the mean of the two accuracies that there are.
    """
    team = learner.team
    names = ("faces", "loss", "right_age", "known_age", "right_gender", "known_gender", "error", "exact")
    sums = dict.fromkeys(names, 0.0)
    tally = _Tally(lessons.groups.labels)
    years = np.arange(101)
    for chosen, age, gender in see(learner.average, lessons, rows[team.rank :: team.world], fully=fully):
        batch = label_crops(lessons, chosen, torch.empty(0))
        sums["faces"] += len(chosen)
        sums["loss"] += float(learner.objective.measure(age, gender, batch)["loss"]) * len(chosen)
        for name, count in learner.count_right(age, gender, batch).items():
            sums[name] += float(count)
        tally.count("gender", (gender >= 0).long().numpy(), _genders(batch.female.numpy()))
        if age.shape[1]:
            probabilities = torch.softmax(age.double(), dim=1).numpy()
            predicted = learner.average.classes.to_years(probabilities) @ years
            low, high = lessons.crops.age_low[chosen], lessons.crops.age_high[chosen]
            error = np.abs(predicted - low)[low == high]
            sums["error"] += float(error.sum())
            sums["exact"] += len(error)
            tally.count("age", learner.answer_groups(age).numpy(), batch.group.numpy())
            tally.add_years(predicted)
    everything = team.sum([*(sums[name] for name in names), *tally.numbers])
    totals = dict(zip(names, everything, strict=False))
    figures = {"loss": totals["loss"] / max(totals["faces"], 1)}
    if learner.objective.learns_age and totals["exact"]:
        figures["mae"] = totals["error"] / totals["exact"]
    learned = {"age": learner.objective.learns_age, "gender": bool(learner.objective.gender)}
    answers = [each for each in tally.answers(everything[len(names) :]) if learned[each.task]]
    return figures | accuracies(totals, learner), answers


def _genders(female: NDArray[np.float32]) -> NDArray[np.int64]:
    """0 male, 1 female, -1 unknown."""
    return np.where(np.isnan(female), -1, female >= 0.5).astype(np.int64)


class _Tally:
    """How often each answer was given and each label stands, as numbers that can be added up over processes."""

    def __init__(self, groups: tuple[str, ...]) -> None:
        self._names: dict[Task, tuple[str, ...]] = {"age": groups, "gender": ("male", "female")}
        self._counts = {task: np.zeros((2, len(names))) for task, names in self._names.items()}
        self._years = np.zeros(3)

    def count(self, task: Task, given: NDArray[np.int64], known: NDArray[np.int64]) -> None:
        for counts, values in zip(self._counts[task], (given, known[known >= 0]), strict=True):
            counts += np.bincount(values, minlength=len(counts))

    def add_years(self, years: NDArray[np.float64]) -> None:
        self._years += (len(years), years.sum(), (years * years).sum())

    @property
    def numbers(self) -> list[float]:
        return [
            *self._years.tolist(),
            *(value for counts in self._counts.values() for value in counts.ravel().tolist()),
        ]

    def answers(self, numbers: list[float]) -> list[Answers]:
        """Of the numbers of all processes."""
        count, total, square = numbers[:3]
        mean = total / max(count, 1)
        deviation = max(square / max(count, 1) - mean * mean, 0.0) ** 0.5 if count else None
        found, place = [], 3
        for task, names in self._names.items():
            given, known = (numbers[place + part * len(names) :][: len(names)] for part in (0, 1))
            place += 2 * len(names)
            spread = (deviation, mean) if task == "age" else (None, 0.0)
            found.append(Answers(task, names, given, known, *spread))
        return found


def accuracies(totals: dict[str, float], learner: Learner) -> dict[str, float]:
    """Shares of right answers out of counts of what the training learns; "accuracy" is their mean."""
    learned = [("age", learner.objective.learns_age), ("gender", bool(learner.objective.gender))]
    shares = {
        f"{name}_accuracy": totals[f"right_{name}"] / totals[f"known_{name}"]
        for name, is_learned in learned
        if is_learned and totals[f"known_{name}"]
    }
    return {"accuracy": sum(shares.values()) / max(len(shares), 1)} | shares
