"""What an analyzer can be told, what holds otherwise, and what makes no sense."""

from __future__ import annotations

from difflib import get_close_matches
from numbers import Real
from typing import TYPE_CHECKING, Final, TypedDict, get_args

from agelens.errors import UsageError
from agelens.groups import AgeGroups
from agelens.limits import DEFAULT_LIMITS, Limits
from agelens.types import Task

if TYPE_CHECKING:
    from agelens.detect import Detector
    from agelens.estimate import Estimator


class Settings(TypedDict, total=False):
    """What an `Analyzer` can be told.

    Attributes:
        task: "age", "gender" or "both".
        groups: A named set of age groups, or one's own such as "0-12,13-17,18+".
        gender_threshold: Below this probability a gender is "unknown".
        min_score: Least certainty of a face, 0 to 1.
        min_face: Least side of a face in pixels; the search goes as deep as such faces need.
        max_faces: Only the largest faces, up to this many.
        device: "auto", "cpu", "cuda", ...
        threads: Pictures worked on at once; by default one for each core.
        batch_size: Most faces in one call of the network.
        limits: Bounds on bytes and pixels of one picture.
        detector: Another detector.
        estimator: Another estimator.
    """

    task: Task
    groups: str | AgeGroups
    gender_threshold: float
    min_score: float
    min_face: float | None
    max_faces: int | None
    device: str
    threads: int | None
    batch_size: int
    limits: Limits
    detector: Detector
    estimator: Estimator


DEFAULTS: Final[Settings] = {
    "task": "both",
    "groups": "adience",
    "gender_threshold": 0.5,
    "min_score": 0.6,
    "min_face": None,
    "max_faces": None,
    "device": "auto",
    "threads": None,
    "batch_size": 32,
    "limits": DEFAULT_LIMITS,
}
"""What holds where a setting isn't given."""


def check_settings(settings: Settings) -> None:
    """Refuses what makes no sense.

    Raises:
        UsageError: A setting is unknown, or has a value that it can't have.
    """
    for name in settings.keys() - Settings.__annotations__.keys():
        near = get_close_matches(name, Settings.__annotations__, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(Settings.__annotations__)}"
        raise UsageError(f"there is no setting {name!r}; {hint}")
    chosen = DEFAULTS | settings
    task = chosen["task"]
    if task not in get_args(Task):
        raise UsageError(f"task {task!r} is not one of {', '.join(get_args(Task))}")
    for name, share in (("gender_threshold", chosen["gender_threshold"]), ("min_score", chosen["min_score"])):
        if not (_is_number(share) and 0 <= share <= 1):
            raise UsageError(f"{name} is a number from 0 to 1, not {share!r}")
    min_face = chosen["min_face"]
    if min_face is not None and not (_is_number(min_face) and min_face >= 0):
        raise UsageError(f"min_face is a number of pixels, not {min_face!r}")
    counts = {name: settings.get(name) for name in ("threads", "max_faces")}
    given = {name: count for name, count in counts.items() if count is not None}
    for name, count in (given | {"batch_size": chosen["batch_size"]}).items():
        if not (isinstance(count, int) and count >= 1):
            raise UsageError(f"{name} is a whole number of at least 1, not {count!r}")
    if not isinstance(chosen["groups"], str | AgeGroups):
        raise UsageError(f"groups is a text, or what agelens.parse_groups gives, not {chosen['groups']!r}")
    if not isinstance(chosen["limits"], Limits):
        raise UsageError(f"limits is an agelens.Limits, not {chosen['limits']!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real)
