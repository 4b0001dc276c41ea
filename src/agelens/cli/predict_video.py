"""`agelens predict` on videos: annotated copies, a record a frame, a row a person."""

from __future__ import annotations

import gc
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agelens.cli.interrupts import Interrupts
from agelens.cli.predict import open_analyzer
from agelens.cli.progress import tell
from agelens.cli.stdout import open_stdout
from agelens.cli.video_outputs import VideoOutputs, VideoPlaces, plan_video_outputs
from agelens.cli.video_progress import VideoTally
from agelens.errors import InputError, UsageError
from agelens.outfile import typed_output_errors
from agelens.render import draw_on, save_picture
from agelens.serialise import Writer, open_writer
from agelens.types import Report
from agelens.video.analysis import ClipAnalysis, Pace, Shown, least_face
from agelens.video.backend import load_av
from agelens.video.reader import VideoReader
from agelens.video.summary import Row, to_row, write_summary
from agelens.video.writer import VideoWriter
from agelens.wording import describe_age, describe_gender

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from agelens.analyzer import Analyzer
    from agelens.cli.options import PredictOptions
    from agelens.video.tracks import Track


def predict_videos(options: PredictOptions, videos: Sequence[str]) -> int:
    """Runs the command on videos and returns its exit status.

    Raises:
        AgelensError: Nothing can be done, or an output can't be written.
        BrokenPipeError: Nobody reads standard output any more.
    """
    if options.end is not None and options.end <= options.start:
        raise UsageError(f"--end {options.end:g} does not lie after --start {options.start:g}")
    load_av()
    outputs = plan_video_outputs(options, videos)
    videos = outputs.leave_out_own(videos, options.sources)
    outputs.try_out()
    gc.enable()  # see `agelens.cli.run`
    run = _Run(options, outputs, VideoTally(quiet=options.quiet))
    with run.tally, Interrupts() as interrupts:
        target = outputs.records or open_stdout(interrupts)
        records = open_writer(target, outputs.format, video=True) if outputs.format else nullcontext(None)
        try:
            with records as writer:
                run.go(videos, writer, interrupts)
        finally:
            run.save_tracks()
    where = outputs.told(with_video=run.has_shown)
    if interrupts.signal:
        tell(f"agelens predict: interrupted; {run.tally.done()}{', saved' if where else ''}{where}")
        return 128 + interrupts.signal
    run.tell_people()
    run.tally.summarise(run.device, where)
    return int(bool(run.tally.failures))


class _Run:
    """One call of the command."""

    def __init__(self, options: PredictOptions, outputs: VideoOutputs, tally: VideoTally) -> None:
        self._options, self._outputs, self.tally = options, outputs, tally
        self._analyzers: dict[float | None, Analyzer] = {}
        self._rows: list[Row] = []
        self._people: list[tuple[str, Track]] = []
        self.has_shown = False  # whether an annotated copy has any frame, without which there is no file
        self.device = ""

    def go(self, videos: Sequence[str], writer: Writer | None, interrupts: Interrupts) -> None:
        """All videos, one after the other, until the end or a signal."""
        for places in self._outputs.assign(videos):
            source = places.source
            try:
                with interrupts.allowed():
                    reader = self._open(source)
            except KeyboardInterrupt:
                return
            except InputError as error:
                self._fail(source, error, writer, Report(source, None, None, (), self._analyzer().model, frame=0))
                if self._options.strict:
                    return
                continue
            with reader:
                self._go_through(places, reader, writer, interrupts)
            if interrupts.signal or (self._options.strict and self.tally.failures):
                return

    def save_tracks(self) -> None:
        """Writes the rows of the people.

        Raises:
            OutputError: They can't be written.
        """
        if self._outputs.tracks is not None:
            write_summary(self._outputs.tracks, self._rows)

    def tell_people(self) -> None:
        """On a terminal without an output of its own: the people as a table."""
        if self._outputs.format is not None or self._outputs.records is not None:
            return
        import sys

        lines = [f"{'track':>5}  {'seconds':>17}  {'frames':>6}  {'age':12}  gender"]
        for _, track in self._people:
            span = f"{track.first_seconds:.1f} to {track.last_seconds:.1f}"
            age = describe_age(track.age) if track.age else ""
            gender = describe_gender(track.gender) if track.gender else ""
            lines.append(f"{track.number:>5}  {span:>17}  {track.frames:>6,}  {age:12}  {gender}".rstrip())
        if not self._people:
            lines = ["no face detected"]
        sys.stdout.write("\n".join(lines) + "\n")

    def _open(self, source: str) -> VideoReader:
        options = self._options
        return VideoReader(source, start=options.start, end=options.end, sound=self._outputs.shown)

    def _analyzer(self, least: float | None = None) -> Analyzer:
        """An analyzer for frames of which faces from that size on are wanted; each is opened once."""
        wanted = self._options.min_face if self._options.min_face is not None else least
        if wanted not in self._analyzers:
            self._analyzers[wanted] = open_analyzer(replace(self._options, min_face=wanted))
        self.device = self._analyzers[wanted].device
        return self._analyzers[wanted]

    def _go_through(
        self, places: VideoPlaces, reader: VideoReader, writer: Writer | None, interrupts: Interrupts
    ) -> None:
        source, clip = places.source, reader.clip
        analyzer = self._analyzer(least_face(clip.width, clip.height))
        pace = Pace(self._options.every, self._options.fps)
        shown, tracking = self._outputs.shown, not self._options.no_track
        analysis = ClipAnalysis(analyzer, reader, source, pace=pace, tracking=tracking, shown=shown)
        self.tally.begin(self._expect(reader))
        last: Report | None = None
        failure: InputError | None = None
        with _open_video(places.copy, reader) as video:
            frames = cast("Generator[Shown]", analysis.run())
            with closing(frames):
                try:
                    for frame in interrupts.each(frames):
                        last = frame.report or last
                        self._take(frame, reader, video, writer)
                        self._collect(places, analysis, analyzer)
                except KeyboardInterrupt:
                    pass
                except InputError as error:  # what came before is kept, and the next video has its turn
                    failure = error
            analysis.finish()
            self._collect(places, analysis, analyzer)
            if video is not None:
                rest = last.time_seconds if interrupts.signal and last else self._options.end
                _pass_sound(reader, video, self._options.start, rest)
        failure = failure or reader.failure
        if failure is not None and not interrupts.signal:
            number = 0 if last is None or last.frame is None else last.frame + 1
            time = 0.0 if last is None else last.time_seconds
            report = Report(source, None, None, (), analyzer.model, frame=number, time_seconds=time)
            self._fail(source, failure, writer, report)
        elif reader.damaged:
            self.tally.warn(source, f"{reader.damaged:,} pieces could not be decoded and were passed over")

    def _expect(self, reader: VideoReader) -> int | None:
        """How many frames will come: all where they are shown, else those that are looked at."""
        clip, options = reader.clip, self._options
        if clip.seconds is None:
            return None
        seconds = min(options.end or clip.seconds, clip.seconds) - options.start
        rate = float(clip.rate)
        if not self._outputs.shown:
            rate = min(rate / options.every, options.fps or rate)
        return max(round(seconds * rate), 1)

    def _take(self, frame: Shown, reader: VideoReader, video: VideoWriter | None, writer: Writer | None) -> None:
        if video is not None and frame.pixels is not None:
            draw_on(frame.pixels, frame.faces)
            seconds, duration, end = frame.frame.seconds, frame.frame.duration, self._options.end
            duration = duration if end is None else min(duration, end - seconds)
            video.write(frame.pixels, seconds - self._options.start, duration)
            self.has_shown = True
            _pass_sound(reader, video, self._options.start, frame.frame.seconds)
        if frame.report is not None and writer is not None:
            writer.write(frame.report)
        self.tally.count(looked=frame.report is not None)

    def _collect(self, places: VideoPlaces, analysis: ClipAnalysis, analyzer: Analyzer) -> None:
        for track in analysis.take_ended():
            self.tally.people += 1
            crop = places.crop_of(track.number)
            if crop is not None:
                with typed_output_errors(crop):
                    save_picture(track.best.crop, crop)
            if self._outputs.tracks is not None:
                self._rows.append(to_row(track, places.source, analyzer.model, str(crop) if crop else None))
            if self._outputs.format is None:
                self._people.append((places.source, track))

    def _fail(self, source: str, error: InputError, writer: Writer | None, report: Report) -> None:
        if writer is not None:
            writer.write(replace(report, error=error.to_failure()))
        self.tally.warn(source, error.message, error.code)


def _open_video(path: Path | None, reader: VideoReader) -> AbstractContextManager[VideoWriter | None]:
    if path is None:
        return nullcontext(None)
    size = reader.clip.width, reader.clip.height
    return VideoWriter(path, size, reader.clip.rate, sounds=reader.sound_streams, pixel_shape=reader.pixel_shape)


def _pass_sound(reader: VideoReader, video: VideoWriter, start: float, until: float | None) -> None:
    """Hands the sound on that is due by then; None: all that is left."""
    while reader.packets:
        seconds = reader.seconds_of(reader.packets[0])
        if seconds is not None and until is not None and seconds > until:
            return
        packet = reader.packets.popleft()
        if seconds is not None and seconds >= start:
            video.write_sound(packet, seconds - start)
