"""`agelens predict`: photos and folders -> records, annotated copies, faces."""

from __future__ import annotations

import gc
import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, cast

from agelens.analyzer import Analyzer, count_cores
from agelens.cli.interrupts import Interrupts
from agelens.cli.outputs import Outputs, plan_outputs
from agelens.cli.progress import Tally, tell
from agelens.cli.stdout import open_stdout
from agelens.cli.video_names import find_videos, is_named_as_video
from agelens.errors import AgelensError, NothingToReadError, Notice, UsageError
from agelens.formats import describe, sniff
from agelens.limits import DEFAULT_LIMITS, Limits
from agelens.outfile import typed_output_errors
from agelens.serialise import Writer, open_writer
from agelens.sources import Source, find_sources

if TYPE_CHECKING:
    from collections.abc import Generator

    from agelens.cli.copies import Copies
    from agelens.cli.options import PredictOptions
    from agelens.types import Report

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONGEST_NAME = 1 << 16
"""Bytes; no path and no web address is longer."""


def predict(options: PredictOptions) -> int:
    """Runs the command and returns its exit status.

    Raises:
        BrokenPipeError: Nobody reads standard output any more.
        KeyboardInterrupt: Ctrl-C came before there was anything to save.
    """
    if options.quiet:
        warnings.simplefilter("ignore", Notice)
    try:
        return _predict(options)
    except AgelensError as error:
        tell(f"agelens predict: {error.message}")
        return error.exit_status


def _predict(options: PredictOptions) -> int:
    videos = find_videos(options.sources)
    if videos:
        from agelens.cli.predict_video import predict_videos

        return predict_videos(options, videos)
    outputs = plan_outputs(options)
    tally = Tally(quiet=options.quiet, with_bar=not outputs.on_terminal)
    copies = _open_copies(options, outputs, tally)

    def skip(path: str) -> None:
        if not (copies and copies.is_own(path)):
            tally.skipped += 1
            tally.skipped_videos += is_named_as_video(path)

    sources = _look_ahead(_find(options, copies, skip), options, outputs, tally)
    outputs.try_out()
    analyzer = open_analyzer(options)
    gc.enable()  # see `agelens.cli.run`: a long run needs it
    if "-" not in options.sources:
        tally.count = lambda: sum(1 for _ in _find(options, copies))
    reports = analyzer.stream(sources, keep_images=outputs.needs_pictures)
    with (
        tally,
        Interrupts() as interrupts,
        open_writer(outputs.records or open_stdout(interrupts), outputs.format) as writer,
        closing(cast("Generator[Report]", reports)),
    ):
        _run(reports, copies, _Sink(writer, tally, outputs), interrupts, strict=options.strict)
    if interrupts.signal:
        where = f", saved in {outputs.records}" if outputs.records else ""
        where += ", but standard output was not read to its end" if interrupts.stalled else ""
        tell(f"agelens predict: interrupted; {tally.done()}{where}")
        return 128 + interrupts.signal
    tally.summarise(analyzer.device, outputs.told(failed=tally.failed))
    return int(tally.failed)


class _Sink:
    """Where finished reports end."""

    def __init__(self, writer: Writer, tally: Tally, outputs: Outputs) -> None:
        self._writer, self._tally = writer, tally
        self._seen = outputs.on_terminal and outputs.format == "table"

    def take(self, report: Report) -> None:
        self._writer.write(report)
        self._tally.add(report, seen=self._seen)


def _run(
    reports: Iterator[Report], copies: Copies | None, sink: _Sink, interrupts: Interrupts, *, strict: bool
) -> None:
    """Carries reports from the stream by way of their copies to the writer, until the end, an error or a signal."""
    try:
        for report in interrupts.each(reports):
            for done in _with_copies(report, copies):
                sink.take(done)
            if strict and report.error is not None:
                break
    except KeyboardInterrupt:
        pass
    if copies is not None:
        for done in copies.stop(at_once=bool(interrupts.signal)):
            sink.take(done)


def _with_copies(report: Report, copies: Copies | None) -> Iterator[Report]:
    if copies is None:
        yield report
    else:
        copies.add(report)
        yield from copies.take()


def _open_copies(options: PredictOptions, outputs: Outputs, tally: Tally) -> Copies | None:
    if not outputs.needs_pictures:
        return None
    from agelens.cli.copies import Copies

    # The current folder may be gone.
    with typed_output_errors(outputs.picture or outputs.folder or outputs.crops or ""):
        return Copies(outputs, options.sources, options.threads or count_cores(), tally.add_unwritten)


def _find(
    options: PredictOptions, copies: Copies | None, skip: Callable[[str], None] | None = None
) -> Iterator[Source]:
    """The pictures that were named, without this command's own copies."""
    stdin = _read_names() if "-" in options.sources else None
    for source in find_sources(options.sources, stdin=stdin, allow_url=options.allow_url, on_skip=skip):
        if not (copies and source.path is not None and copies.is_own(source.path)):
            yield source


def _read_names() -> Iterator[str]:
    """Standard input as lines, or as pieces of NUL-separated names.

    The descriptor is read as it is: a thread that waits in `sys.stdin` would hold a lock that Python needs to end.

    Raises:
        UsageError: It can't be read, or what comes are no names.
    """
    rest, begun = b"", False
    try:
        while block := os.read(0, LONGEST_NAME):
            data = rest + block
            if not begun and sniff(data):
                raise UsageError(
                    f"standard input holds {describe(data)}; - reads the names of pictures, one a line: save the"
                    " picture to a file and give its name"
                )
            if not begun and data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise UsageError("standard input is UTF-16, as PowerShell's > writes it; give names in UTF-8")
            if not begun:
                data = data.removeprefix(_BYTE_ORDER_MARK)
            begun = True
            end = b"\0" if b"\0" in data else b"\n"
            cut = data.rfind(end) + 1
            pieces, rest = data[:cut], data[cut:]
            if len(rest) > LONGEST_NAME:
                raise UsageError("standard input holds no names: there is no line break; give one name a line")
            # Not `splitlines`: a carriage return inside a line belongs to the name.
            for piece in [pieces] if end == b"\0" else [line + end for line in pieces.split(end)[:-1]]:
                yield os.fsdecode(piece)
    except OSError as error:
        raise UsageError(f"standard input can't be read: {error.strerror}") from error
    if rest:
        yield os.fsdecode(rest)


def _look_ahead(sources: Iterator[Source], options: PredictOptions, outputs: Outputs, tally: Tally) -> Iterator[Source]:
    """The same sources, once it is sure that there are any, and only one where OUT is one picture.

    Raises:
        NothingToReadError: There are none.
        UsageError: OUT is one picture and there are more, or it is an input itself.
    """
    first = list(itertools.islice(sources, 2 if outputs.picture else 1))
    if not first:
        found = f"; {tally.skipped:,} other files were passed over" if tally.skipped else ""
        if tally.skipped_videos:
            found += f", of them {tally.skipped_videos:,} videos: name them, or end a pattern in .mp4 or as they do"
        raise NothingToReadError(f"nothing to read: there is no picture in {' '.join(options.sources)}{found}")
    if outputs.picture and len(first) > 1:
        raise UsageError(
            f"{str(outputs.picture)!r} is one picture and there are several inputs; for copies of all give a"
            f" folder: -o {outputs.picture.stem}/"
        )
    inputs = [*options.sources, *(source.path for source in first if source.path is not None)]
    for out in (outputs.picture, outputs.records):
        if out is not None:
            with typed_output_errors(out):  # the current folder may be gone
                real = os.path.realpath(out)
                if any(os.path.realpath(path) == real for path in inputs):
                    raise UsageError(f"-o {out} would overwrite the input; choose another name")
    return itertools.chain(first, sources)


def open_analyzer(options: PredictOptions) -> Analyzer:
    """The analyzer that the options ask for.

    Raises:
        ModelError: A model is unknown, damaged or unfit.
        UsageError: The device isn't there.
    """
    limits = Limits(
        options.max_bytes or DEFAULT_LIMITS.max_bytes,
        options.max_pixels or DEFAULT_LIMITS.max_pixels,
    )
    return Analyzer(
        options.model,
        task=options.task,
        groups=options.groups,
        gender_threshold=options.gender_threshold,
        min_score=options.min_score,
        min_face=options.min_face,
        max_faces=options.max_faces,
        device=options.device,
        threads=options.threads,
        batch_size=options.batch_size,
        limits=limits,
    )
