"""Who is told how a training gets on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def ignore(*_: object) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is told what.

    Attributes:
        tell: Sentences for the user.
        step: After each step: step, steps, epoch, epochs, loss, rate (faces a second), seconds left.
        cutting: While faces are cut: (done, total).
        begun: Once there is a folder for the run, before its first checkpoint.
    """

    tell: Callable[[str], None] = ignore
    step: Callable[[dict[str, Any]], None] = ignore
    cutting: Callable[[int, int], None] = ignore
    begun: Callable[[Path], None] = ignore
