"""Where the results of videos go: decided, and tried, before any work is done."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agelens.cli.outputs import PICTURES, RECORDS_NAME, Outputs, Places, mark, plan_outputs, try_places
from agelens.errors import NothingToReadError, UsageError
from agelens.outfile import typed_output_errors
from agelens.video.summary import check_summary_name
from agelens.video.writer import VIDEO_ENDINGS

if TYPE_CHECKING:
    from agelens.cli.options import PredictOptions
    from agelens.serialise import Format

TRACKS_NAME: Final = "tracks.csv"


@dataclass(frozen=True, slots=True)
class VideoOutputs:
    """Where results go.

    Attributes:
        records: The file of the records; None: standard output.
        format: Of the records; None: a table of the people on a terminal takes their place.
        video: Where the annotated copy of the only input goes.
        folder: Where annotated copies go.
        tracks: Where one row a person goes.
        crops: The folder of the best crop of each person.
    """

    records: Path | None
    format: Format | None
    video: Path | None = None
    folder: Path | None = None
    tracks: Path | None = None
    crops: Path | None = None

    @property
    def shown(self) -> bool:
        """Whether frames are drawn."""
        return bool(self.video or self.folder)

    def leave_out_own(self, videos: Sequence[str], arguments: Sequence[str]) -> list[str]:
        """The videos without the annotated copies of earlier runs, where it was a pattern that named them.

        Raises:
            NothingToReadError: There are no others.
            OutputError: The folder can't be looked up.
        """
        if self.folder is None:
            return list(videos)
        with typed_output_errors(self.folder):  # the current folder may be gone
            places = Places(self.folder, arguments, VIDEO_ENDINGS)
            left = [video for video in videos if not places.is_own(video)]
        if not left:
            raise NothingToReadError(f"nothing to read: {' '.join(arguments)} names annotated copies only")
        return left

    def assign(self, videos: Sequence[str]) -> list[VideoPlaces]:
        """What is made of each video, in their order."""
        inputs = _resolve_all(videos)
        copies = _Names(self.folder, inputs) if self.folder else None
        crops = _Names(self.crops, inputs) if self.crops else None
        places = []
        for video in videos:
            name = Path(video)
            ending = name.suffix.lower() if name.suffix.lower() in VIDEO_ENDINGS else ".mp4"
            copy = copies.choose(name.stem, ending) if copies else self.video
            places.append(VideoPlaces(video, copy, crops.choose(name.stem) if crops else None))
        return places

    def told(self, *, with_video: bool) -> str:
        """Where everything is, for the summary; `with_video`: whether the annotated copy of the only input was made."""
        places = [self.folder] if self.folder else [self.video if with_video else None, self.records]
        places += [None if self.folder and self.tracks == self.folder / TRACKS_NAME else self.tracks, self.crops]
        found = [str(place) for place in places if place]
        return f" -> {', '.join(found)}" if found else ""

    def try_out(self) -> None:
        """Makes the folders and tries to write to each place.

        Raises:
            OutputError: One can't be written.
        """
        try_places((self.folder, self.crops), (self.records, self.video, self.tracks))


@dataclass(frozen=True, slots=True)
class VideoPlaces:
    """What is made of one input.

    Attributes:
        source: The input.
        copy: The annotated copy.
        crops: The best crops of its people, each of which adds its number to this name.
    """

    source: str
    copy: Path | None
    crops: Path | None

    def crop_of(self, number: int) -> Path | None:
        """The best crop of one person."""
        return self.crops and self.crops.with_name(f"{self.crops.name}_{number}.jpg")


class _Names:
    """Files of one folder: none is named twice, also where capital letters don't count, and none is an input."""

    def __init__(self, folder: Path, inputs: frozenset[str]) -> None:
        self._folder, self._inputs = folder, inputs
        self._taken: set[str] = set()

    def choose(self, stem: str, ending: str = "") -> Path:
        for count in itertools.count():
            path = self._folder / f"{stem}{mark(count)}{ending}"
            if path.name.casefold() not in self._taken and _resolve(path) not in self._inputs:
                break
        self._taken.add(path.name.casefold())
        return path


def plan_video_outputs(options: PredictOptions, videos: Sequence[str]) -> VideoOutputs:
    """Decides by what `-o OUT` is.

    Raises:
        UsageError: OUT is of no known kind, or one video while there are more inputs, or an input itself; or two
            results would be one file.
        MissingPackageError: A format needs an optional package.
    """
    out = options.output
    crops = Path(options.crops) if options.crops else None
    tracks = Path(options.tracks) if options.tracks else None
    if tracks is not None:
        if options.no_track:
            raise UsageError("--tracks tells of people, and --no-track knows none; leave one of them out")
        check_summary_name(tracks)
    if out is not None and Path(out).suffix.lower() in PICTURES and not Path(out).is_dir():
        raise UsageError(
            f"-o {out} is a picture's name and the input is a video; end it with {' '.join(VIDEO_ENDINGS)}"
        )
    if out is not None and Path(out).suffix.lower() in VIDEO_ENDINGS and not Path(out).is_dir():
        if len(videos) > 1:
            raise UsageError(
                f"{out!r} is one video and there are several inputs; for copies of all give a folder: -o"
                f" {Path(out).stem}/"
            )
        kind = options.format or "jsonl"
        if kind == "table":
            raise UsageError("the records of an annotated video are jsonl, json, csv or parquet")
        records = Path(f"{out}.{kind}")
        planned = VideoOutputs(records, kind, Path(out), None, tracks or _beside(out, options), crops)
    else:
        planned = _plan_without_video(plan_outputs(options), options, tracks, crops)
    _check_files(planned, videos)
    return planned


def _check_files(planned: VideoOutputs, videos: Sequence[str]) -> None:
    """Refuses to write over an input, or one result over the other."""
    inputs = _resolve_all(videos)
    before: dict[str, str] = {}
    files = (("-o", "the video", planned.video), ("-o", "the records", planned.records))
    for option, what, place in (*files, ("--tracks", "the tracks", planned.tracks)):
        real = _resolve(place) if place else None
        if real is None:
            continue
        if real in inputs:
            raise UsageError(f"{option} {place} would overwrite the input; choose another name")
        if real in before:
            raise UsageError(f"{option} {place}: {what} would overwrite {before[real]}; choose another name")
        before[real] = what


def _beside(out: str, options: PredictOptions) -> Path | None:
    return None if options.no_track else Path(f"{out}.{TRACKS_NAME}")


def _plan_without_video(
    outputs: Outputs, options: PredictOptions, tracks: Path | None, crops: Path | None
) -> VideoOutputs:
    kind: Format | None = outputs.format
    if outputs.folder is not None and tracks is None and not options.no_track:
        tracks = outputs.folder / TRACKS_NAME
    wants_table = outputs.records is None and options.format is None and sys.stdout.isatty() and not options.no_track
    if outputs.folder is not None and kind == "table":
        return VideoOutputs(outputs.folder / f"{RECORDS_NAME}.jsonl", "jsonl", None, outputs.folder, tracks, crops)
    return VideoOutputs(outputs.records, None if wants_table else kind, None, outputs.folder, tracks, crops)


def _resolve_all(names: Sequence[str]) -> frozenset[str]:
    return frozenset(real for name in names if (real := _resolve(name)) is not None)


def _resolve(name: str | Path) -> str | None:
    """The same for each name of a file; None where no file can have the name, or the current folder is gone."""
    try:
        return os.path.realpath(name)
    except (OSError, ValueError):
        return None
