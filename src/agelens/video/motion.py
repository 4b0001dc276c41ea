"""Where a face will be: constant velocity, with an uncertainty that grows while nobody sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from agelens.types import Box

JITTER: Final = 0.04
"""Standard deviation of a detected centre, in face sides."""

SWERVE: Final = 3.0
"""Standard deviation of the acceleration, in face sides per second²."""

CHANCE_SPEED: Final = 3.0
"""Standard deviation of a new face's speed, in face sides per second."""

SIZE_SETTLING: Final = 0.35
"""How far a new size pulls the known one."""


@dataclass(slots=True)
class Motion:
    """A Kalman filter of the box's centre, the same for both axes, and a settling size. Lengths in pixels, seconds.

    Attributes:
        time: Of the state.
        centre: Where it is.
        speed: How it moves.
        size: Width and height.
        variance: Of the centre, of centre and speed together, and of the speed.
    """

    time: float
    centre: tuple[float, float]
    speed: tuple[float, float]
    size: tuple[float, float]
    variance: tuple[float, float, float]

    @classmethod
    def begin(cls, box: Box, time: float) -> Motion:
        """The state after the first look."""
        side = _side(box.width, box.height)
        variance = ((JITTER * side) ** 2, 0.0, (CHANCE_SPEED * side) ** 2)
        return cls(time, _centre(box), (0.0, 0.0), (box.width, box.height), variance)

    @property
    def side(self) -> float:
        """The face's side: the square root of its box's area."""
        return _side(*self.size)

    def predict(self, time: float) -> tuple[tuple[float, float], tuple[float, float, float]]:
        """Centre and variances at a later time."""
        step = max(time - self.time, 0.0)
        place, both, speed = self.variance
        noise = (SWERVE * self.side) ** 2
        grown = (
            place + 2 * step * both + step * step * speed + noise * step**4 / 4,
            both + step * speed + noise * step**3 / 2,
            speed + noise * step * step,
        )
        return (self.centre[0] + step * self.speed[0], self.centre[1] + step * self.speed[1]), grown

    def predicted_box(self, time: float) -> Box:
        """The box at a later time."""
        (x, y), _ = self.predict(time)
        return Box(x - self.size[0] / 2, y - self.size[1] / 2, *self.size)

    def reach(self, time: float) -> float:
        """The standard deviation of where it will be found, in pixels."""
        return math.sqrt(self.predict(time)[1][0] + (JITTER * self.side) ** 2)

    def correct(self, box: Box, time: float) -> None:
        """Takes a look into account."""
        predicted, (place, both, speed) = self.predict(time)
        noise = (JITTER * self.side) ** 2
        gain_place, gain_speed = place / (place + noise), both / (place + noise)
        found = _centre(box)
        off = (found[0] - predicted[0], found[1] - predicted[1])
        self.centre = (predicted[0] + gain_place * off[0], predicted[1] + gain_place * off[1])
        self.speed = (self.speed[0] + gain_speed * off[0], self.speed[1] + gain_speed * off[1])
        self.variance = ((1 - gain_place) * place, (1 - gain_place) * both, speed - gain_speed * both)
        self.size = (
            self.size[0] + SIZE_SETTLING * (box.width - self.size[0]),
            self.size[1] + SIZE_SETTLING * (box.height - self.size[1]),
        )
        self.time = time


def _side(width: float, height: float) -> float:
    return max(math.sqrt(width * height), 1.0)


def _centre(box: Box) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2
