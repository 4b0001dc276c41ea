"""The values that travel down the corridor: pixels in, typed facts out.

All are frozen. Lengths are in pixels of the upright, full-resolution picture; the origin is its top left corner, x
grows to the right and y downwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PillowImage

    Pixels = NDArray[np.uint8]
    """RGB, shape (H, W, 3), dtype uint8."""

SCHEMA = "agelens.prediction/1"

GenderLabel = Literal["female", "male", "unknown"]
Task = Literal["age", "gender", "both"]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """An upright RGB picture, possibly held at a reduced resolution.

    Attributes:
        held: The picture, or a copy of it reduced by the decoder: RGB uint8, shape (h, w, 3), or a Pillow image of mode
            "RGB". A decoder gives the latter, of which parts and reductions cost less; nobody changes either.
        width: Width in pixels of the upright full-resolution picture.
        height: Height in pixels of the upright full-resolution picture.
        format: The container it came in ("JPEG", "PNG", ...; "array" for one from memory).
        frames: How many frames the container holds; the first one is used.
        finer: Decodes the picture again, at least at the given scale (1.0 = full resolution); None where `held` is
            already the best there is.
    """

    held: Pixels | PillowImage
    width: int
    height: int
    format: str = "array"
    frames: int = 1
    finer: Callable[[float], Image] | None = field(default=None, repr=False)
    _pixels: Pixels | None = field(default=None, init=False, repr=False)
    _finest: Image | None = field(default=None, init=False, repr=False)

    def __reduce__(self) -> tuple[type[Image], tuple[object, ...]]:
        return Image, (self.held, self.width, self.height, self.format, self.frames, self.finer)

    @property
    def pixels(self) -> Pixels:
        """What is held, as an array: RGB uint8, shape (h, w, 3). Made when it is first asked for, and kept."""
        if self._pixels is None:
            import numpy as np

            object.__setattr__(self, "_pixels", np.asarray(self.held))
        assert self._pixels is not None
        return self._pixels

    @property
    def picture(self) -> PillowImage:
        """What is held, as a Pillow image of mode "RGB"; made anew each time where an array is held."""
        return self.cut(0, 0, *self.size)

    def cut(self, left: int, top: int, right: int, bottom: int) -> PillowImage:
        """A part of what is held, in held pixels, as a Pillow image of mode "RGB"; it has to lie inside."""
        from PIL import Image as Pillow

        if isinstance(self.held, Pillow.Image):
            whole = (left, top, right, bottom) == (0, 0, *self.held.size)
            return self.held if whole else self.held.crop((left, top, right, bottom))
        return Pillow.fromarray(self.held[top:bottom, left:right])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is held, in held pixels."""
        from PIL import Image as Pillow

        return self.held.size if isinstance(self.held, Pillow.Image) else (self.held.shape[1], self.held.shape[0])

    @property
    def scale(self) -> float:
        """Held pixels per full-resolution pixel, 1.0 or less."""
        width, height = self.size
        return max(width / self.width, height / self.height)

    def at_scale(self, scale: float) -> Image:
        """This picture held at least at `scale` (capped at 1.0), decoded again only where that is needed.

        What was decoded again is kept as long as this picture is, since the faces of one picture ask for it one after
        the other. Whoever asks for more than that gets full resolution, so that there is no fourth time.
        """
        wanted = min(scale, 1.0) - 1e-6
        if self.finer is None or self.scale >= wanted:
            return self
        finest = self._finest
        if finest is None or finest.scale < wanted:
            finest = self.finer(1.0 if finest else min(scale, 1.0))
            object.__setattr__(self, "_finest", finest)
        return finest


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-parallel rectangle, in full-resolution pixels."""

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        if not (self.width >= 0 and self.height >= 0):
            raise ValueError(f"a box has no negative or undefined size, got {self.width} x {self.height}")

    def to_dict(self) -> dict[str, float]:
        return {
            "x": round(self.x, 2),
            "y": round(self.y, 2),
            "width": round(self.width, 2),
            "height": round(self.height, 2),
        }


class Found(Protocol):
    """A face that was found in a picture."""

    @property
    def box(self) -> Box:
        """Where it is."""


AnyFace = TypeVar("AnyFace", bound=Found)


@dataclass(frozen=True, slots=True)
class Detection:
    """One found face.

    Attributes:
        box: Clipped to the picture.
        score: 0 to 1, the detector's certainty.
        landmarks: Five points: the person's right eye (on the left in an upright picture), left eye, nose tip, right
            mouth corner, left mouth corner. They may lie outside the picture.
    """

    box: Box
    score: float
    landmarks: tuple[Point, Point, Point, Point, Point]


@dataclass(frozen=True, slots=True)
class Age:
    """An apparent age.

    Attributes:
        years: Point estimate in years.
        low: Lower end of the interval, in years.
        high: Upper end of the interval, in years.
        coverage: The share of faces whose age lies in [low, high], as calibrated (0.9 = 90%).
        group: Label of the most probable age group of the chosen set of groups.
        group_probability: Probability of that group.
        distribution: Probability of each whole year of life 0, 1, ... 100 (the last one: 100 and more); sums to 1.
    """

    years: float
    low: float
    high: float
    coverage: float
    group: str
    group_probability: float
    distribution: tuple[float, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        return {
            "years": round(self.years, 2),
            "low": round(self.low, 2),
            "high": round(self.high, 2),
            "coverage": self.coverage,
            "group": self.group,
            "group_probability": round(self.group_probability, 4),
        }


@dataclass(frozen=True, slots=True)
class Gender:
    """An apparent gender: how the person presents in the picture, not who they are.

    Attributes:
        label: "female", "male", or "unknown" where the probability is below the chosen threshold.
        probability: Calibrated probability of the more probable of the two labels, 0.5 to 1.
        female_probability: Calibrated probability of "female", 0 to 1.
    """

    label: GenderLabel
    probability: float
    female_probability: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "probability": round(self.probability, 4),
            "female_probability": round(self.female_probability, 4),
        }


@dataclass(frozen=True, slots=True)
class Face:
    """One face with what was estimated of it; `age` or `gender` is None where it was not asked for.

    In a video, `track` is the number of the person, from 1, and age and gender are what all looks so far say together.
    """

    box: Box
    detection_score: float
    landmarks: tuple[Point, ...]
    age: Age | None = None
    gender: Gender | None = None
    track: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            **({} if self.track is None else {"track": self.track}),
            "box": self.box.to_dict(),
            "detection_score": round(self.detection_score, 4),
            "landmarks": [[round(x, 2), round(y, 2)] for x, y in self.landmarks],
            "age": self.age.to_dict() if self.age else None,
            "gender": self.gender.to_dict() if self.gender else None,
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a picture gave no result: a stable code (see `agelens.errors`), and what is wrong and what to do."""

    code: str
    message: str

    def to_dict(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class ModelId:
    """Which model file gave a result: its name and the SHA-256 of its bytes, in hexadecimal."""

    name: str
    sha256: str

    def to_dict(self) -> dict[str, str]:
        return {"name": self.name, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Report:
    """All that is known of one picture.

    Attributes:
        source: The name it was given by: a path, a URL, or a word such as "array".
        width: Width of the upright picture in pixels; None where it could not be read.
        height: Height of the upright picture in pixels; None where it could not be read.
        faces: From left to right, then from top to bottom. Empty where no face was found.
        model: The model that estimated.
        error: None, or why the picture gave no result.
        image: The decoded picture, only where the caller asked to keep it. Not part of the record.
        frame: Of a frame of a video: its number, from 0.
        time_seconds: Of a frame of a video: its time since the beginning.
    """

    source: str
    width: int | None
    height: int | None
    faces: tuple[Face, ...]
    model: ModelId
    error: Failure | None = None
    image: Image | None = field(default=None, repr=False, compare=False)
    frame: int | None = None
    time_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The record of the contract, of plain Python types."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            **({} if self.frame is None else {"frame": self.frame}),
            **({} if self.time_seconds is None else {"time_seconds": round(self.time_seconds, 6)}),
            "width": self.width,
            "height": self.height,
            "faces": [face.to_dict() for face in self.faces],
            "model": self.model.to_dict(),
            "error": self.error.to_dict() if self.error else None,
        }
