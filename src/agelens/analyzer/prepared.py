"""A picture between the two halves of the corridor: found and cut, not yet judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agelens.errors import InputError
    from agelens.types import Detection, Image, Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A picture that is ready to be estimated.

    Attributes:
        name: Of the picture.
        width: Of the upright picture in pixels; None where it could not be read.
        height: Likewise.
        faces: What was found.
        crops: Of the faces, shape (N, size, size, 3).
        image: The picture, where it is to be kept; until it is estimated, many would fill the memory.
        error: Why it could not be read.
    """

    name: str
    width: int | None
    height: int | None
    faces: Sequence[Detection]
    crops: Pixels
    image: Image | None = None
    error: InputError | None = None

    @property
    def held_bytes(self) -> int:
        """What the picture takes that is kept."""
        return 0 if self.image is None else 3 * self.image.size[0] * self.image.size[1]
