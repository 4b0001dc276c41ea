"""How far off faces are that were not looked for but moved from one look to the next."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from video_material import Pixels
from video_scenes import three_faces, three_walkers

from agelens.analyzer import Analyzer
from agelens.types import Box, Face, Report
from agelens.video.analysis import least_face, pass_between
from agelens.video.assignment import FORBIDDEN, assign
from agelens.video.matching import overlap
from agelens.video.tracks import Tracker

RATE = 25
EVERY = (2, 3, 5, 10)


def measure_between(frames: int, threads: int | None) -> None:
    """Prints the error for each `--every N`, against looking in every frame."""
    for name, scene in (("sitting", three_faces(frames)), ("walking", three_walkers(frames))):
        told = watch(scene, threads)
        print(f"720p, three faces, {name}, {frames} frames at {RATE} a second: frames not looked at, against looking")
        for every in EVERY:
            print(f"  --every {every:<3} {tell_errors(told[1], told[every], every)}")


def watch(frames: Iterator[Pixels], threads: int | None) -> dict[int, list[Report]]:
    """What a tracker tells that is shown every frame (1), and each that is shown one in N."""
    analyzer = Analyzer(threads=threads, min_face=least_face(1280, 720))
    trackers = {every: Tracker(analyzer.spec, analyzer.options) for every in (1, *EVERY)}
    told: dict[int, list[Report]] = {every: [] for every in trackers}
    pending: deque[Pixels] = deque()

    def feed() -> Iterator[Pixels]:
        for frame in frames:
            pending.append(frame)
            yield frame

    for i, report in enumerate(analyzer.stream(feed())):
        pixels = pending.popleft()
        for every, tracker in trackers.items():
            if i % every == 0:
                faces = tracker.update(report.faces, pixels, i, i / RATE)
                told[every].append(replace(report, faces=faces, frame=i, time_seconds=i / RATE))
    return told


def tell_errors(each: Sequence[Report], looks: Sequence[Report], every: int) -> str:
    """The errors of the frames between looks, in words."""
    off, shared, years, missed, extra, wanted = [], [], [], 0, 0, 0
    for before, after in itertools.pairwise(looks):
        assert before.frame is not None
        for number in range(before.frame + 1, before.frame + every):
            shown, found = pass_between(before, after, number / RATE), each[number].faces
            pairs = match(shown, found)
            wanted += len(found)
            missed += len(found) - len(pairs)
            extra += len(shown) - len(pairs)
            for a, b in pairs:
                off.append(centre_distance(a.box, b.box) / math.sqrt(b.box.width * b.box.height))
                shared.append(overlap(a.box, b.box))
                assert a.age is not None
                assert b.age is not None
                years.append(abs(a.age.years - b.age.years))
    return (
        f"centre off by {np.mean(off):.1%} of the face (95% within {np.quantile(off, 0.95):.1%}), overlap"
        f" {np.mean(shared):.3f}, age differs by {np.mean(years):.2f} years (95% within"
        f" {np.quantile(years, 0.95):.2f}), {missed / wanted:.1%} not shown, {extra / wanted:.1%} shown where none is"
    )


def match(shown: Sequence[Face], found: Sequence[Face]) -> list[tuple[Face, Face]]:
    """Pairs that overlap."""
    costs = np.full((len(shown), len(found)), FORBIDDEN)
    for i, a in enumerate(shown):
        for j, b in enumerate(found):
            shared = overlap(a.box, b.box)
            if shared > 0.1:
                costs[i, j] = 1 - shared
    return [(shown[i], found[j]) for i, j in assign(costs)]


def centre_distance(a: Box, b: Box) -> float:
    """Between the middles of two boxes."""
    return math.hypot(a.x + a.width / 2 - b.x - b.width / 2, a.y + a.height / 2 - b.y - b.height / 2)
