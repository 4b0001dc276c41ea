"""Pictures at which a process dies: found out, and written down as an error, so that they don't stop a run for ever.

A decoder may crash, or need more memory than there is, whatever it was taught to refuse. Then the process is gone, and
with it what it knew. Ray starts another one that takes the same partition. That one works carefully: one picture after
the other, each written down before it is touched. Whoever finds a picture written down twice leaves it out. Opening the
model is watched in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from agelens.analyzer import Analyzer
from agelens.batch.places import Place
from agelens.errors import CrashedError, InputError
from agelens.sources import Source
from agelens.types import Report

MOST_TRIES: Final = 2
"""Careful ones; the first time is not. One may be lost to whoever kills processes for other reasons."""


class Tries:
    """What was tried: a picture's number in its partition, 0 for a model, and how often a process did not come back."""

    def __init__(self, place: Place) -> None:
        self._place = place
        try:
            found = json.loads(place.read())
            self._counts = {int(number): int(count) for number, count in found.items()}
        except (InputError, ValueError, AttributeError):  # none yet
            self._counts = {}

    def is_deadly(self, number: int) -> bool:
        """Whether it was tried often enough."""
        return self._counts.get(number, 0) >= MOST_TRIES

    def begin(self, number: int) -> None:
        """Notes that it is tried now.

        Raises:
            OutputError: That can't be written.
        """
        self._write({**self._counts, number: self._counts.get(number, 0) + 1})

    def forget(self) -> None:
        """Removes the notes once the partition is whole, or the model open.

        Raises:
            OutputError: They can't be removed.
        """
        self._place.remove()

    def _write(self, counts: dict[int, int]) -> None:
        self._place.write(json.dumps(counts).encode())


def stream_carefully(analyzer: Analyzer, sources: Iterator[Source], tries: Tries) -> Iterator[Report]:
    """Like `Analyzer.stream`, one picture after the other, without those that ended processes.

    Raises:
        OutputError: What is tried can't be written down.
    """
    for number, source in enumerate(sources):
        try:
            if tries.is_deadly(number):
                raise CrashedError(
                    f"the process that read this picture ended without a word, {MOST_TRIES + 1} times; look at the file"
                    " by itself, or at the memory of the machine"
                )
            tries.begin(number)
            yield analyzer.analyse(source)
        except InputError as error:
            yield Report(source.name, None, None, (), analyzer.model, error.to_failure())
