"""What a track tells, against its single frames: errors, intervals, gender and flicker."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from video_looks import FRAMES, Draw, Looks, judge_draw
from video_material import read_chips

from agelens.analyzer import Analyzer
from agelens.estimate import read_face
from agelens.types import Age, Gender
from agelens.video.fusion import Fusion, settle_group

SEED = 3
RATE = 30
"""Frames a second at which faces wander (`video_material.STILL`)."""

BANDS = (0, 10, 22, 30, 40, 50, 101)


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of one track.

    Attributes:
        truth: The true age.
        truly_female: The true gender.
        single: By each look for itself.
        best: Which look has the best score.
        fused: After each look, by all so far, as a tracker tells it.
        fusion: After the last one.
    """

    truth: float
    truly_female: bool | None
    single: list[tuple[Age, Gender]]
    best: int
    fused: list[tuple[Age, Gender]]
    fusion: Fusion


def read(analyzer: Analyzer, ages: np.ndarray, female: float) -> tuple[Age, Gender]:
    """Raw answers as an age and a gender."""
    age, gender = read_face(ages.astype(np.float32), female, analyzer.spec, analyzer.options)
    assert age is not None
    assert gender is not None
    return age, gender


def replay(
    analyzer: Analyzer, looks: Looks, row: int
) -> Iterator[tuple[tuple[Age, Gender], tuple[Age, Gender], Fusion]]:
    """One look of a track after the other: what it says itself, what all so far say, and their fusion."""
    fusion = Fusion()
    for i in np.flatnonzero(~np.isnan(looks.score[row])):
        ages, female, score = looks.ages[row, i], float(looks.female[row, i]), float(looks.score[row, i])
        fusion.add(ages, female, score)
        fused, fused_female = fusion.read_ages(), fusion.read_female()
        assert fused is not None
        assert fused_female is not None
        yield read(analyzer, ages, female), read(analyzer, fused, fused_female), fusion


def tell(analyzer: Analyzer, looks: Looks, row: int) -> Told:
    """What is told of one track."""
    steps = list(replay(analyzer, looks, row))
    fused = []
    before: str | None = None
    for _, (age, gender), _ in steps:
        settled = settle_group(age, before, analyzer.options.groups)
        before = settled.group
        fused.append((settled, gender))
    truly_female = looks.truly_female[row]
    scores = looks.score[row][~np.isnan(looks.score[row])]
    return Told(
        float(looks.truth[row]),
        None if np.isnan(truly_female) else bool(truly_female),
        [own for own, _, _ in steps],
        int(np.argmax(scores)),
        fused,
        steps[-1][2],
    )


def measure_fusion(
    model: str, packs: list[str], cameras: list[str], tracks: int, threads: int | None, keep: Path | None
) -> None:
    """Prints all of it for each camera."""
    analyzer = Analyzer(model, threads=threads)
    print(model)
    tell_untouched(analyzer, packs, tracks)
    for camera in cameras:
        looks = Looks.join([judge_draw(model, Draw(pack, camera, tracks, SEED), keep) for pack in packs])
        told = [tell(analyzer, looks, row) for row in range(len(looks.truth))]
        print(f"camera {camera!r}, {', '.join(packs)}: {len(told)} tracks of {FRAMES} frames")
        tell_ages_of(told)
        tell_labels_of(told)


def tell_untouched(analyzer: Analyzer, packs: list[str], tracks: int) -> None:
    """The bound: the pictures from which tracks are made, before anything spoils them."""
    truth, ages = [], []
    for chip in (chip for pack in packs for chip in read_chips(pack, tracks, SEED)):
        faces = analyzer.predict(np.asarray(chip.read()))
        if faces:
            face = max(faces, key=lambda face: face.box.width * face.box.height)
            assert face.age is not None
            truth.append(chip.age)
            ages.append(face.age)
    print(f"the {len(truth)} pictures from which tracks are made")
    tell_ages("untouched", truth, ages)


def tell_ages_of(told: Sequence[Told]) -> None:
    """Errors and intervals."""
    truth = [one.truth for one in told]
    last = [one.fused[-1][0] for one in told]
    each = [(one.truth, age) for one in told for age, _ in one.single]
    single = tell_ages("each frame by itself", [years for years, _ in each], [age for _, age in each])
    best = tell_ages("the frame of the best score", truth, [one.single[one.best][0] for one in told])
    fused = tell_ages("fused", truth, last)
    for count in (1, 3, 10):
        tell_ages(f"fused, after {count} looks", truth, [one.fused[count - 1][0] for one in told])
    matched = widen(truth, last) / widen([years for years, _ in each], [age for _, age in each])
    print(
        f"  fused interval against each frame {fused[2] / single[2] - 1:+.1%}, against the best"
        f" {fused[2] / best[2] - 1:+.1%}; against each frame, both stretched to hold exactly 90%, {matched - 1:+.1%}"
    )
    parts = []
    for low, high in itertools.pairwise(BANDS):
        held = [age.low <= years <= age.high for years, age in zip(truth, last, strict=True) if low <= age.years < high]
        parts.append(f"{low}-{high - 1}: {np.mean(held):.0%} of {len(held)}")
    print(f"  coverage by told age: {', '.join(parts)}")
    left, likeness, worth = (
        float(np.mean([getattr(one.fusion, name) for one in told]))
        for name in ("remaining", "likeness", "independent_looks")
    )
    print(f"  variance left {left:.2f}, autocorrelation {likeness:.2f}, worth {worth:.1f} looks")


def tell_ages(name: str, truth: Sequence[float], ages: Sequence[Age]) -> tuple[float, float, float]:
    """Mean absolute error, coverage and width, printed."""
    mae = float(np.mean([abs(age.years - years) for age, years in zip(ages, truth, strict=True)]))
    held = float(np.mean([age.low <= years <= age.high for age, years in zip(ages, truth, strict=True)]))
    width = float(np.mean([age.high - age.low for age in ages]))
    print(f"  {name:32} MAE {mae:5.2f}   coverage {held:5.1%}   interval {width:5.1f} years")
    return mae, held, width


def widen(truth: Sequence[float], ages: Sequence[Age], coverage: float = 0.9) -> float:
    """The mean width once all intervals are stretched alike until they hold that share of these very ages.

    So two kinds of interval are compared at one coverage.
    """
    below = np.asarray([max(age.years - age.low, 0.05) for age in ages])
    above = np.asarray([max(age.high - age.years, 0.05) for age in ages])
    years = np.asarray([age.years for age in ages])
    off = np.asarray(truth) - years
    factor = float(np.quantile(np.where(off >= 0, off / above, -off / below), coverage))
    return float((np.minimum(years + factor * above, 100) - np.maximum(years - factor * below, 0)).mean())


def count_changes(labels: Sequence[str]) -> int:
    """How often a label changes."""
    return sum(a != b for a, b in itertools.pairwise(labels))


def tell_labels_of(told: Sequence[Told]) -> None:
    """Gender, and how often labels change."""
    frames, tracks = [], []
    for one in told:
        if one.truly_female is not None:
            word = "female" if one.truly_female else "male"
            frames += [gender.label == word for _, gender in one.single]
            tracks.append(one.fused[-1][1].label == word)
    print(f"  gender right: {np.mean(frames):.1%} of frames, {np.mean(tracks):.1%} of tracks")
    seconds = sum(len(one.single) - 1 for one in told) / RATE
    rates = []
    for kind in ("single", "fused"):
        changes = 0
        for one in told:
            steps: list[tuple[Age, Gender]] = getattr(one, kind)
            changes += count_changes([age.group for age, _ in steps]) + count_changes([g.label for _, g in steps])
        rates.append(changes / seconds)
    print(
        f"  changes of group or gender a second: {rates[0]:.2f} by frame, {rates[1]:.2f} fused"
        f" ({rates[1] / rates[0]:.3f})"
    )
