"""One process of a training in memory, for tests: `python team_worker.py OUT BATCH STEPS OPTIMISER`.

Its place in the team is in the environment, as torchrun sets it. Process 0 writes losses, first gradients and weights.
"""

from __future__ import annotations

import dataclasses
import sys
from contextlib import suppress
from pathlib import Path

import torch

from agelens.training.augment import AugmentConfig
from agelens.training.batches import BatchMaker
from agelens.training.learner import Learner, Pace
from agelens.training.networks import SIZES, FaceNetwork
from agelens.training.objective import Objective
from agelens.training.team import CPU, join_team
from training_makers import make_lessons


def count_group_threads() -> int:
    """Threads of this process that serve process groups; 0 where the system does not list them."""
    count = 0
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has ended since
            count += path.read_text().strip() == "pt_gloo_runloop"
    return count


def main(out: str, batch: int, steps: int, optimiser: str) -> int:
    """Trains; how many threads served the team at its end."""
    torch.set_num_threads(1)
    config = dataclasses.replace(SIZES["nano"], size=32, widths=(8, 16, 32), last_inner=32, dropout=0.0)
    lessons = make_lessons(128, 43, deviation=2.0)
    with join_team([CPU]) as team:
        torch.manual_seed(0)
        network, twin = FaceNetwork(config), FaceNetwork(config)
        pace = Pace(optimiser=optimiser, learning_rate=1e-3, warmup=5, steps=steps, clip=5.0, bf16=False)
        learner = Learner(network, twin, Objective(), pace, team=team)
        maker = BatchMaker(lessons, network, batch=batch, augment=AugmentConfig(), seed=1, team=team)
        losses, gradients = [], {}
        for step, made in enumerate(maker.stream(0, steps)):
            losses.append(learner.learn(made, step)["loss"])
            if not step:
                gradients = {name: value.grad.clone() for name, value in network.named_parameters()}
        if team.leads:
            torch.save({"losses": losses, "gradients": gradients, "weights": network.state_dict()}, out)
        return count_group_threads()


if __name__ == "__main__":
    served = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    if served and count_group_threads() == served:
        sys.exit("no thread ended with the team: one that holds a tensor of Python's could abort the process's end")
