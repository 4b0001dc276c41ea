"""A frame as it was decoded, with its number and its time; and what a clip says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

from agelens.errors import MissingCodecError

if TYPE_CHECKING:
    from agelens.types import Pixels
    from agelens.video.backend import Native

HIGH: Final = 720
"""Rows from which on colours are coded as of BT.709 and no longer as of BT.601, where nothing says otherwise."""

# Matrices of colours, as ITU-T H.273 numbers them. FFmpeg converts 1, 4 to 7 and 9; 12 and 13 follow from the
# primaries, which mostly are those of BT.709. Of what is left (YCgCo, ICtCp) no other matrix comes near.
_BY_SIZE: Final = frozenset({0, 2, 12, 13})
_BT2020, _BT2020_CONSTANT = 9, 10  # of constant luminance, which differs where colours are strong


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        number: From 0, counted from the beginning of the clip, also where reading starts later.
        seconds: Time since the beginning of the clip.
        duration: Seconds that it is shown; at least as by the average rate.
        native: As decoded, of PyAV.
        turns: Quarter turns, counter-clockwise, that make it upright.
    """

    number: int
    seconds: float
    duration: float
    native: Native
    turns: int = 0

    def read_pixels(self) -> Pixels:
        """RGB uint8, shape (H, W, 3), upright; an array of its own.

        Raises:
            MissingCodecError: FFmpeg doesn't know how its colours are coded.
        """
        told = int(self.native.colorspace)
        # Who doesn't say how colours are coded means what screens of that size assume (as FFmpeg's own players do).
        usual = "ITU709" if self.native.height >= HIGH else "ITU601"
        coded = usual if told in _BY_SIZE else _BT2020 if told == _BT2020_CONSTANT else None
        try:
            pixels: Pixels = self.native.to_ndarray(format="rgb24", src_colorspace=coded)
        except (OSError, ValueError) as error:  # what PyAV's errors are, too
            raise MissingCodecError(
                f"frame {self.number:,} can't be turned into RGB by this build of FFmpeg"
                f" ({getattr(error, 'strerror', None) or error}): colours coded by matrix {told} of ITU-T H.273,"
                f" {self.native.format.name}; convert the video, for example to BT.709"
            ) from error
        return np.ascontiguousarray(np.rot90(pixels, self.turns)) if self.turns else pixels


@dataclass(frozen=True, slots=True)
class Clip:
    """What a file says of itself.

    Attributes:
        width: Of an upright frame in pixels.
        height: Likewise.
        rate: Frames per second, on average.
        seconds: Length; None where it isn't told.
    """

    width: int
    height: int
    rate: Fraction
    seconds: float | None
