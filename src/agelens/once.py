"""One call for one picture, with the models kept open between calls."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, cast

from agelens.analyzer import Analyzer, Settings, check_settings

if TYPE_CHECKING:
    from agelens.analyzer import Input
    from agelens.types import Face


def predict(picture: Input, model: str | None = None, **settings: Unpack[Settings]) -> list[Face]:
    """The faces of one picture, from left to right, with the age and gender of each.

    The models are opened at the first call and kept for the next one with the same settings. For many pictures,
    `Analyzer.stream` is faster.

    Args:
        picture: A path, the bytes of a file, a Pillow image, or an RGB uint8 array of shape (H, W, 3).
        model: Name of a model that ships, or path of an ONNX file; by default `agelens-base`.
        **settings: See `agelens.analyzer.Settings`.

    Raises:
        InputError: The picture can't be read.
        ModelError: A model is unknown, damaged or unfit.
        UsageError: A setting makes no sense, or the device isn't there.
    """
    check_settings(settings)
    chosen = tuple(sorted(settings.items()))
    try:
        analyzer = _open_analyzer(model, chosen, _state_of(model))
    except TypeError:  # a setting that has no hash, such as one's own detector, can't be kept
        analyzer = _open_analyzer.__wrapped__(model, chosen, None)
    return analyzer.predict(picture)


def _state_of(model: object) -> tuple[object, ...] | None:
    """By which a model file is known as the one that was opened; None where there is none, or it is one that ships."""
    if not isinstance(model, str | os.PathLike):
        return None
    try:
        found = Path(model).stat()
    except (OSError, ValueError):  # whoever opens it says why
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4)
def _open_analyzer(
    model: str | None, settings: tuple[tuple[str, object], ...], state: tuple[object, ...] | None
) -> Analyzer:
    del state  # another file is another model
    chosen = cast("Settings", dict(settings))
    return Analyzer(**chosen) if model is None else Analyzer(model, **chosen)
