"""Age and gender from face images.

    import agelens

    for face in agelens.predict("family.jpg"):
        print(face.age.years, face.gender.label, face.box)

Names are loaded when they are first used: `import agelens` itself loads neither numpy nor onnxruntime.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from typing import Unpack

    from agelens import errors
    from agelens.analyzer import Analyzer, Input, Settings
    from agelens.errors import AgelensError, InputError, ModelError, OutputError, UsageError
    from agelens.groups import AgeGroups, parse_groups
    from agelens.limits import Limits
    from agelens.render import annotate, crop_face, save_picture
    from agelens.serialise import open_writer, read_jsonl
    from agelens.sources import Source, find_sources
    from agelens.types import Age, Box, Face, Failure, Gender, Image, ModelId, Report

__version__ = "0.1.0"

__all__ = [
    "Age",
    "AgeGroups",
    "AgelensError",
    "Analyzer",
    "Box",
    "Face",
    "Failure",
    "Gender",
    "Image",
    "InputError",
    "Limits",
    "ModelError",
    "ModelId",
    "OutputError",
    "Report",
    "Source",
    "UsageError",
    "__version__",
    "annotate",
    "crop_face",
    "errors",
    "find_sources",
    "open_writer",
    "parse_groups",
    "predict",
    "read_jsonl",
    "save_picture",
]

_ROOMS = {
    "analyzer": ("Analyzer",),
    "errors": ("AgelensError", "InputError", "ModelError", "OutputError", "UsageError"),
    "groups": ("AgeGroups", "parse_groups"),
    "limits": ("Limits",),
    "render": ("annotate", "crop_face", "save_picture"),
    "serialise": ("open_writer", "read_jsonl"),
    "sources": ("Source", "find_sources"),
    "types": ("Age", "Box", "Face", "Failure", "Gender", "Image", "ModelId", "Report"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


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
        ModelError: A model is unknown, damaged or unfit, or the device isn't there.
        UsageError: A setting makes no sense.
    """
    from agelens.analyzer import check_settings

    check_settings(settings)
    chosen = tuple(sorted(settings.items()))
    try:
        analyzer = _open_analyzer(model, chosen)
    except TypeError:  # a setting that has no hash, such as one's own detector, can't be kept
        analyzer = _open_analyzer.__wrapped__(model, chosen)
    return analyzer.predict(picture)


@lru_cache(maxsize=4)
def _open_analyzer(model: str | None, settings: tuple[tuple[str, object], ...]) -> Analyzer:
    from agelens.analyzer import Analyzer

    chosen = cast("Settings", dict(settings))
    return Analyzer(**chosen) if model is None else Analyzer(model, **chosen)


if not TYPE_CHECKING:  # a type checker shall not believe that every name exists

    def __getattr__(name: str) -> object:
        if name == "errors":
            return import_module("agelens.errors")
        if name not in _ROOM_OF:
            raise AttributeError(f"module 'agelens' has no attribute {name!r}")
        value = getattr(import_module(f"agelens.{_ROOM_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
