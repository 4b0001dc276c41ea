"""Training throughput: the whole loop against bare forward and backward passes on tensors that are there already.

Both run by turns in one process, so that whatever else the machine does concerns both. The whole loop cuts and changes
the crops, takes the optimiser's steps, follows the average and counts; the bare one does none of it. On a machine that
is busy with something else, believe the ratio of processor time (with --threads 1) rather than that of the clock.

    python benchmarks/training.py [--size small] [--batch 128] [--rounds 6] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from agelens.align import CropGeometry
from agelens.training.augment import AugmentConfig
from agelens.training.batches import Batch, BatchMaker, Lessons
from agelens.training.crops import WIDENING, CropSet
from agelens.training.learner import Learner, Pace
from agelens.training.networks import FaceNetwork, named_config
from agelens.training.objective import Objective

FACES = 4096
Cost = NDArray[np.float64]


def now() -> Cost:
    """Seconds of the clock, and of the processors over all threads."""
    return np.array([time.perf_counter(), time.process_time()])


def make_lessons(side: int) -> Lessons:
    """Smooth made-up pictures with exact ages."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (FACES, 8, 8, 3), np.uint8)
    pixels = np.repeat(np.repeat(coarse, -(-side // 8), axis=1), -(-side // 8), axis=2)[:, :side, :side].copy()
    ages, texts = rng.integers(0, 90, FACES).astype(np.float32), np.zeros(FACES, "U1")
    crops = CropSet(
        pixels=pixels,
        geometry=CropGeometry(side),
        age_low=ages,
        age_high=ages,
        female=rng.integers(0, 2, FACES).astype(np.float32),
        race=texts,
        split=texts,
        group=np.full(FACES, -1),
        path=texts,
        dataset=texts,
        row=np.arange(FACES),
        fingerprint="made up",
        lost={},
    )
    return Lessons(crops, np.arange(FACES), np.ones(FACES), None, WIDENING, deviation=2.0)


def run_bare(network: FaceNetwork, objective: Objective, batch: Batch, steps: int, *, bf16: bool) -> Cost:
    """What so many forward and backward passes take."""
    network.train()
    began = now()
    for _ in range(steps):
        network.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            age, gender, _ = network(batch.crops)
        objective.measure(age.float(), gender.float(), batch)["loss"].backward()
    return now() - began


def run_whole(learner: Learner, stream: Iterator[Batch], first: int, steps: int) -> Cost:
    """What so many steps of training take."""
    began = now()
    for step in range(first, first + steps):
        learner.learn(next(stream), step)
    return now() - began


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--float32", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = named_config(options.size)
    lessons = make_lessons(round(config.size * WIDENING))
    objective, total = Objective(), options.rounds * options.steps
    pace = Pace(steps=total, warmup=5, bf16=not options.float32)
    learner = Learner(FaceNetwork(config), FaceNetwork(config), objective, pace)
    bare = FaceNetwork(config).to(memory_format=torch.channels_last)
    maker = BatchMaker(lessons, learner.network, batch=options.batch, augment=AugmentConfig(), seed=1)
    cached = maker.make(0, maker.rows_of(0))
    run_bare(bare, objective, cached, 2, bf16=pace.bf16)
    rates: dict[str, list[Cost]] = {"bare": [], "whole": []}
    faces = options.batch * options.steps
    for number in range(options.rounds):
        rates["bare"].append(faces / run_bare(bare, objective, cached, options.steps, bf16=pace.bf16))
        # A stream of its own: batches made in advance while the bare passes run would be a gift.
        first = number * options.steps
        stream = maker.stream(first, first + options.steps + 1)
        learner.learn(next(stream), first)
        rates["whole"].append(faces / run_whole(learner, stream, first + 1, options.steps))
    bare_rates, whole_rates = np.array(rates["bare"]), np.array(rates["whole"])
    ratios = whole_rates / bare_rates
    said = {
        "size": options.size,
        "batch": options.batch,
        "threads": options.threads,
        "bare faces/s": round(float(np.median(bare_rates[:, 0])), 1),
        "whole faces/s": round(float(np.median(whole_rates[:, 0])), 1),
        "ratio": round(float(np.median(ratios[:, 0])), 3),
        "ratio of processor time": round(float(np.median(ratios[:, 1])), 3),
        "ratios": ratios.round(3).tolist(),
        "peak memory (MB)": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
