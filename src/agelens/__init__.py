"""Age and gender from face images.

    import agelens

    for face in agelens.predict("family.jpg"):
        print(face.age.years, face.gender.label, face.box)

Names are loaded when they are first used: `import agelens` itself loads nothing else, not even of the standard library.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""As in `typing`, which type checkers know by this name. Its import would take most of the time until a command can
answer to Ctrl-C."""

if TYPE_CHECKING:
    from agelens import errors
    from agelens.analyzer import Analyzer
    from agelens.errors import AgelensError, InputError, ModelError, OutputError, UsageError
    from agelens.groups import AgeGroups, parse_groups
    from agelens.limits import Limits
    from agelens.once import predict
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
    "once": ("predict",),
    "render": ("annotate", "crop_face", "save_picture"),
    "serialise": ("open_writer", "read_jsonl"),
    "sources": ("Source", "find_sources"),
    "types": ("Age", "Box", "Face", "Failure", "Gender", "Image", "ModelId", "Report"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


if not TYPE_CHECKING:  # a type checker shall not believe that every name exists

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "errors":
            return import_module("agelens.errors")
        if name not in _ROOM_OF:
            raise AttributeError(f"module 'agelens' has no attribute {name!r}")
        value = getattr(import_module(f"agelens.{_ROOM_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
