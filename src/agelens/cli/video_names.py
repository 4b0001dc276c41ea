"""Which of the things that a user names are videos: told without reading more than a file's first bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agelens.errors import UsageError
from agelens.formats import EXTENSIONS, SNIFF_BYTES, describe
from agelens.sources.address import is_web_address, local_path
from agelens.sources.walk import Walk, exists, is_pattern

VIDEO_EXTENSIONS: Final = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".vob", ".wmv", ".flv"}
    | {".3gp", ".3g2", ".ogv", ".mxf", ".asf", ".y4m"}
)
"""Names that promise a video."""


def find_videos(arguments: Sequence[str]) -> list[str]:
    """The videos among what was named, patterns resolved; none where all that was named are pictures or folders.

    Raises:
        UsageError: Both videos and other things were named.
    """
    others = [argument for argument in arguments if not (is_video(argument) or _matches_videos(argument))]
    if len(others) == len(arguments):
        return []
    if others:
        raise UsageError(f"{others[0]!r} is no video; photos and videos are told in calls of their own")
    videos: list[str] = []
    for argument in arguments:
        path = local_path(argument)
        matches = [] if exists(Path(path)) else _match(path)
        videos += matches or [path]
    return videos


def _match(pattern: str) -> list[str]:
    """The videos that a pattern names, in order; none where it is no pattern."""
    if not is_pattern(pattern):
        return []
    return [str(path) for path in Walk.of_pattern(pattern) if is_video(str(path))]


def _matches_videos(argument: str) -> bool:
    """Whether it is a pattern that names videos and no pictures, by whatever ending."""
    pattern = local_path(argument)
    if argument == "-" or is_web_address(argument) or exists(Path(pattern)) or not is_pattern(pattern):
        return False
    any_video = False
    for path in Walk.of_pattern(pattern):
        if path.suffix.lower() in EXTENSIONS:
            return False
        any_video = any_video or is_video(str(path))
    return any_video


def is_video(argument: str) -> bool:
    """Whether a name is a video's: by its ending, or where that says nothing, by the file's first bytes."""
    if argument == "-" or is_web_address(argument):
        return False
    path = Path(local_path(argument))
    ending = path.suffix.lower()
    if ending in EXTENSIONS:
        return False
    try:
        if path.is_dir():
            return False
        if ending in VIDEO_EXTENSIONS:
            return True
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return "video" in describe(file.read(SNIFF_BYTES))
    except (OSError, ValueError):
        return ending in VIDEO_EXTENSIONS
