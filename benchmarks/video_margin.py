"""Chooses, on made-up tracks of training packs, by how much another age group must be likelier before a label changes.

    python benchmarks/video_margin.py                          with agelens-base; half an hour on one core
    python benchmarks/video_margin.py --models agelens-nano --keep /tmp/looks

Nobody in these packs is in the test packs on which `video.py fusion` measures. Prints how many of the frames' label
changes each margin leaves, and which margin is the least that leaves few enough; what is chosen stands in
`agelens.video.fusion.MARGIN`. `--keep` keeps the looks at the tracks, so that a second run need not judge them again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from video_fusion import count_changes, replay
from video_looks import PACKS, Draw, Looks, judge_draw
from video_material import CAMERAS

from agelens.analyzer import Analyzer
from agelens.video.fusion import settle_group

DRAWS = (
    Draw("utkface-train", "webcam", 240, 7, shared=11),
    Draw("utkface-train", "far", 160, 7, shared=11),
    Draw("aaf-train", "webcam", 160, 7, shared=11),
    Draw("aaf-train", "far", 160, 7, shared=11),
    *(Draw(f"{pack}-train", camera, 100, seed) for camera, seed in (("webcam", 11), ("far", 12)) for pack in PACKS),
)
"""1,120 tracks."""

MARGINS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1)
WANTED_CHANGES = 0.07
"""The least margin is chosen that leaves so many of the frames' label changes with each model and camera. A tenth was
asked; the rest is for other people than these."""


def tell_margins(analyzer: Analyzer, looks: dict[str, Looks]) -> dict[float, float]:
    """How many of the frames' label changes each margin leaves, by the worst camera; prints all."""
    shares: dict[float, list[float]] = {margin: [] for margin in MARGINS}
    for some in looks.values():
        single, genders, fused = 0, 0, dict.fromkeys(MARGINS, 0)
        for track in range(len(some.truth)):
            steps = list(replay(analyzer, some, track))
            single += count_changes([age.group for (age, _), _, _ in steps])
            single += count_changes([gender.label for (_, gender), _, _ in steps])
            genders += count_changes([gender.label for _, (_, gender), _ in steps])
            for margin in MARGINS:
                before, labels = None, []
                for _, (age, _), _ in steps:
                    before = settle_group(age, before, analyzer.options.groups, margin).group
                    labels.append(before)
                fused[margin] += count_changes(labels)
        for margin in MARGINS:
            shares[margin].append((fused[margin] + genders) / single)
    for margin, parts in shares.items():
        told = ", ".join(f"{camera} {share:.3f}" for camera, share in zip(looks, parts, strict=True))
        print(f"  margin {margin:.2f}: changes that are left of the frames' own: {told}")
    return {margin: max(parts) for margin, parts in shares.items()}


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["agelens-base"])
    parser.add_argument("--keep", type=Path, help="folder in which looks are kept, and found again")
    options = parser.parse_args()
    left = dict.fromkeys(MARGINS, 0.0)
    for model in options.models:
        analyzer = Analyzer(model, threads=1)
        print(model)
        looks = {
            camera: Looks.join([judge_draw(model, draw, options.keep) for draw in DRAWS if draw.camera == camera])
            for camera in CAMERAS
        }
        for margin, share in tell_margins(analyzer, looks).items():
            left[margin] = max(left[margin], share)
    small_enough = [margin for margin, share in left.items() if share <= WANTED_CHANGES]
    print(f"the least margin that leaves {WANTED_CHANGES} at most: {small_enough[0] if small_enough else 'none'}")


if __name__ == "__main__":
    main()
