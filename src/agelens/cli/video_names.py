"""Which of the things that a user names are videos: told without reading more than a file's first bytes."""

from __future__ import annotations

import itertools
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
    found = [_find(argument) for argument in arguments]
    if not any(found):
        return []
    for argument, videos in zip(arguments, found, strict=True):
        if not videos:
            raise UsageError(f"{argument!r} is no video; photos and videos are told in calls of their own")
    return list(itertools.chain.from_iterable(found))


def _find(argument: str) -> list[str]:
    """The videos that one argument names; none where it names other things, too."""
    path = local_path(argument)
    if is_web_address(argument) or not is_pattern(path) or exists(Path(path)):
        return [path] if is_video(argument) else []
    ending = Path(path).suffix.lower()
    matches = map(str, Walk.of_pattern(path))
    if ending in VIDEO_EXTENSIONS:
        return list(filter(is_video, matches)) or [path]
    videos: list[str] = []
    for match in matches if ending not in EXTENSIONS else ():
        if not is_video(match):
            return []
        videos.append(match)
    return videos


def is_named_as_video(path: str) -> bool:
    """Whether the ending of a name promises a video."""
    return Path(path).suffix.lower() in VIDEO_EXTENSIONS


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
