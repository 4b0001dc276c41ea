"""Where the results of videos go: decided, and tried, before any work is done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agelens.cli.outputs import PICTURES, RECORDS_NAME, Outputs, plan_outputs, try_places
from agelens.errors import UsageError
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

    def choose_video(self, source: str, taken: set[str]) -> Path | None:
        """The name of the annotated copy of one input."""
        if self.folder is None:
            return self.video
        name = Path(source)
        ending = name.suffix.lower() if name.suffix.lower() in VIDEO_ENDINGS else ".mp4"
        stem, count = name.stem, 1
        while f"{stem}{ending}".casefold() in taken or _is_same(self.folder / f"{stem}{ending}", source):
            count += 1
            stem = f"{name.stem}.agelens-{count}" if count > 2 else f"{name.stem}.agelens"
        taken.add(f"{stem}{ending}".casefold())
        return self.folder / f"{stem}{ending}"

    def told(self) -> str:
        """Where everything is, for the summary."""
        places = [self.folder] if self.folder else [self.video, self.records]
        places += [None if self.folder and self.tracks == self.folder / TRACKS_NAME else self.tracks, self.crops]
        found = [str(place) for place in places if place]
        return f" -> {', '.join(found)}" if found else ""

    def try_out(self) -> None:
        """Makes the folders and tries to write to each place.

        Raises:
            OutputError: One can't be written.
        """
        try_places((self.folder, self.crops), (self.records, self.video, self.tracks))


def plan_video_outputs(options: PredictOptions, videos: Sequence[str]) -> VideoOutputs:
    """Decides by what `-o OUT` is.

    Raises:
        UsageError: OUT is of no known kind, or one video while there are more inputs, or an input itself.
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
    for place in (planned.video, planned.records, planned.tracks):
        if place is not None and any(_is_same(place, video) for video in videos):
            raise UsageError(f"-o {place} would overwrite the input; choose another name")
    return planned


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


def _is_same(place: Path, source: str) -> bool:
    try:
        return place.resolve() == Path(source).resolve()
    except (OSError, ValueError, RuntimeError):
        return False
