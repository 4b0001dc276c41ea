"""Identity switches where two people meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from video_material import Pixels, read_chips
from video_scenes import Places, film_meeting

from agelens.analyzer import Analyzer
from agelens.types import Face
from agelens.video.analysis import least_face
from agelens.video.tracks import Tracker

KINDS = ("cross", "turn back")


def measure_meetings(pack: str, meetings: int, seed: int, threads: int | None) -> None:
    """Prints how often who is who was mixed up."""
    analyzer = Analyzer(threads=threads, min_face=least_face(640, 360))
    for kind in KINDS:
        rng = np.random.default_rng(31)
        chips = [chip.read() for chip in read_chips(pack, 2 * meetings, seed)]
        outcomes = [meet(analyzer, chips[2 * i], chips[2 * i + 1], kind, rng) for i in range(meetings)]
        unseen, lost, switches = (outcomes.count(word) for word in ("unseen", "lost", "switch"))
        judged = meetings - unseen
        print(
            f"{kind}, {pack}: {switches} identity switches in {judged} meetings ({switches / max(judged, 1):.1%});"
            f" {lost} times a new number; {unseen} where a face wasn't found at both ends"
        )


def meet(analyzer: Analyzer, one: Image.Image, two: Image.Image, kind: str, rng: np.random.Generator) -> str:
    """One meeting, found, judged and tracked; how it ended."""
    frames = list(film_meeting(one, two, kind, rng))
    found = [report.faces for report in analyzer.stream(pixels for pixels, _ in frames)]
    return track_meeting(lambda: Tracker(analyzer.spec, analyzer.options), frames, found)


def track_meeting(
    make_tracker: Callable[[], Tracker], frames: Sequence[tuple[Pixels, Places]], found: Sequence[Sequence[Face]]
) -> str:
    """How a meeting ended whose faces were found."""
    tracker = make_tracker()
    numbers: list[dict[int, int]] = []
    for i, ((pixels, centres), faces) in enumerate(zip(frames, found, strict=True)):
        told = tracker.update(faces, pixels, i, i / 30)
        here = {who: find_track(told, *centre) for who, centre in enumerate(centres)}
        numbers.append({who: track for who, track in here.items() if track is not None})
    return judge_meeting(numbers)


def find_track(faces: Sequence[Face], x: float, y: float) -> int | None:
    """The track of the face around a place."""
    for face in faces:
        if abs(face.box.x + face.box.width / 2 - x) < 35 and abs(face.box.y + face.box.height / 2 - y) < 40:
            return face.track
    return None


def judge_meeting(numbers: Sequence[dict[int, int]]) -> str:
    """How a meeting ended, by who had which track in each frame."""
    first = {who: next((here[who] for here in numbers[:8] if who in here), None) for who in (0, 1)}
    last = {who: next((here[who] for here in numbers[:-9:-1] if who in here), None) for who in (0, 1)}
    if None in first.values() or None in last.values() or first[0] == first[1]:
        return "unseen"
    if first == last:
        return "kept"
    return "switch" if last[0] == first[1] or last[1] == first[0] else "lost"
