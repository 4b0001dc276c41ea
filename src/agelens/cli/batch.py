"""`agelens batch`: millions of pictures on one machine or many, Parquet out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, redirect_stdout, suppress
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from agelens.cli import INTERRUPTED
from agelens.cli.command import annotate_option, annotate_switch, declare, exit_status, require
from agelens.cli.interrupts import Interrupts
from agelens.cli.options import OPTIONS, SWITCHES, Option, PredictOptions, Switch, number, whole
from agelens.cli.progress import Bar, Tally, count_of, tell
from agelens.errors import OutputError, UsageError
from agelens.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from agelens.analyzer import Settings
    from agelens.batch import BatchJob, Outcome, PlannedRun
    from agelens.batch.engine import Pool

HELP = "Millions of pictures on one machine or a Ray cluster; partitions of Parquet that a broken run takes up again."
EPILOG = """\
Examples:

\b
  agelens batch photos/ faces/                           a folder, on all cores
  agelens batch photos/ faces/ --resume                  what is missing, after whatever happened, and what is new
  agelens batch 'shards/*.tar' faces/ --actors 8
  agelens batch pictures.parquet faces/ --column image --name-column id
  agelens batch s3://bucket/photos s3://bucket/faces --address auto

IN is a folder, a picture, a tar shard, a Parquet file of pictures or of paths, a pattern, the URL of any of these
(s3://, gs://, abfs://, hdfs://), or - for paths on standard input. A folder stands for its pictures; where it has none,
for its tar shards; then for its Parquet files. docs/batch.md says more.

Exit status: 0 all pictures read; 1 some could not be read, or the run broke off; 2 wrong usage or nothing to read; 3 a
model file is damaged or unfit; 130 interrupted, and the partitions that were finished are whole.
"""
TELL_EVERY: Final = 60.0
"""Seconds between two lines where standard error is no terminal."""

_SETTINGS: Final = (
    *("task", "groups", "gender_threshold", "min_score", "min_face", "max_faces", "device"),
    *("threads", "batch_size"),
)
_SHARED: Final = (*_SETTINGS, "model", "max_bytes", "max_pixels")
_OWN: Final[dict[str, Option]] = {
    "threads": Option(("--threads",), "N", "Pictures that each process works on at once.", whole(1)),
    "actors": Option(("--actors",), "N", "Processes. [default: one a core, of the cluster if there is one]", whole(1)),
    "gpus": Option(("--gpus",), "N", "GPUs of each process; 0.5: two share one.", number(0.0)),
    "partition_size": Option(
        ("--partition-size",), "N", "Pictures in one file of the output: what is lost when a process dies.", whole(1)
    ),
    "column": Option(("--column",), "NAME", "Parquet: the column of pictures or paths. [default: by type and name]"),
    "name_column": Option(("--name-column",), "NAME", "Parquet: the column that names each picture."),
    "root": Option(("--root",), "PLACE", "Parquet: where relative paths start. [default: the file's folder]"),
    "address": Option(
        ("--address",), "ADDRESS", "A running Ray cluster; auto: the one of this machine. [default: one's own]"
    ),
}
_SWITCHES: Final = {
    "allow_url": SWITCHES["allow_url"],
    "resume": Switch(("--resume",), "Complete what is in OUT, and add what is new in IN."),
    "overwrite": Switch(("--overwrite",), "Begin anew, in place of the run that is in OUT."),
    "strict": SWITCHES["strict"],
    "quiet": SWITCHES["quiet"],
}
_DEFAULTS: Final = {
    **{name: str(value) for name in _SHARED if (value := getattr(PredictOptions(()), name)) is not None},
    **{"threads": "1", "partition_size": "1000", "gpus": "0"},
}
_READ: Final = {name: OPTIONS[name] for name in _SHARED} | _OWN


def command(source: str, output: str, **found: object) -> None:
    """What is run once the options are read."""
    with exit_status("batch"):
        require("batch", "batch")
        for name, text in (("IN", source), ("OUT", output)):
            if not text:  # an unset variable of a script
                raise UsageError(f"{name} is empty; for the current folder say .")
        given = {name: value for name, value in found.items() if value is not None}
        chosen: dict[str, Any] = {
            name: _READ[name].read(str(value)) if name in _READ else value for name, value in given.items()
        }
        try:
            status = _run(_make_job(source, output, chosen), _make_pool(chosen), quiet=chosen["quiet"])
        except KeyboardInterrupt:  # before there was anything to save
            tell("agelens batch: interrupted")
            status = INTERRUPTED
        raise typer.Exit(status)


def _make_job(source: str, output: str, chosen: dict[str, Any]) -> BatchJob:
    from agelens.batch import BatchJob
    from agelens.batch.inputs import InputOptions

    if chosen["resume"] and chosen["overwrite"]:
        raise UsageError("--resume and --overwrite exclude each other")
    limits = Limits(
        chosen.get("max_bytes") or DEFAULT_LIMITS.max_bytes, chosen.get("max_pixels") or DEFAULT_LIMITS.max_pixels
    )
    settings: Settings = {"limits": limits}
    for name in _SETTINGS:
        if name in chosen:
            settings[name] = chosen[name]
    return BatchJob(
        source,
        output,
        InputOptions(
            chosen["partition_size"],
            chosen.get("column"),
            chosen.get("name_column"),
            chosen.get("root"),
            chosen["allow_url"],
        ),
        chosen["model"],
        settings,
        "resume" if chosen["resume"] else "overwrite" if chosen["overwrite"] else "new",
        chosen["strict"],
    )


def _make_pool(chosen: dict[str, Any]) -> Pool:
    from agelens.batch.engine import Pool

    on_gpu = chosen["device"] in ("cuda", "tensorrt", "rocm")
    gpus = chosen["gpus"] or float(on_gpu)
    return Pool(chosen.get("actors"), chosen["threads"], chosen.get("address"), gpus)


def _run(job: BatchJob, pool: Pool, *, quiet: bool) -> int:
    from agelens.batch import plan_run

    names = (os.fsdecode(line) for line in sys.stdin.buffer) if job.source == "-" else None
    with ExitStack() as stack:
        with Bar(wanted=not quiet) as bar:

            def seen(count: int) -> None:
                if bar.is_due:
                    bar.draw(count, None, "found")

            run = stack.enter_context(plan_run(job, names=names, seen=seen))
        return _do(run, pool, quiet=quiet)


def _do(run: PlannedRun, pool: Pool, *, quiet: bool) -> int:
    from agelens.batch.engine import run_partitions, start_ray

    todo = run.todo
    tally = Tally(quiet=quiet, with_bar=True)
    tally.skipped = run.skipped
    tally.expect(run.pictures)
    where = f", in {run.work.output}"
    if run.done and not quiet:
        tell(f"agelens batch: {len(run.done):,} of {count_of(len(run.partitions), 'partition')} are there already")
    with ExitStack() as stack:
        stack.enter_context(tally)
        if todo:
            # Ray tells of workers that died on standard output, past every setting, and it starts others anyway.
            stack.enter_context(redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
            stack.enter_context(start_ray(pool))
        interrupts = stack.enter_context(Interrupts())  # after Ray, which sets signals too
        outcomes = run_partitions(run.work, todo, pool) if todo else iter(())
        _follow(outcomes, tally, interrupts, _Lines(run.pictures, quiet=quiet))
    if interrupts.signal:
        tell(f"agelens batch: interrupted; {tally.done()}{where}; --resume goes on")
        return 128 + interrupts.signal
    if todo:
        tally.summarise(run.device, where)
    if not run.complete():
        raise OutputError(f"partitions that were written to {run.work.output} are gone; do them again: --resume")
    whole = Tally(quiet=True, with_bar=False)
    _add(whole, run.count_done())
    whole.add_many(tally.pictures, tally.faces, tally.errors)
    if run.done and not quiet:
        tell(f"in all: {whole.done()}, in {run.work.output}")
    return int(whole.failed)


def _follow(outcomes: Iterator[Outcome], tally: Tally, interrupts: Interrupts, lines: _Lines) -> None:
    """Counts what comes, until the end or a signal."""
    with suppress(KeyboardInterrupt):
        for outcome in interrupts.each(outcomes):
            _add(tally, [outcome])
            lines.tell(tally)


def _add(tally: Tally, outcomes: Iterable[Outcome]) -> None:
    for outcome in outcomes:
        tally.add_many(outcome.pictures, outcome.faces, outcome.errors, outcome.told)


class _Lines:
    """A line a minute where there is no terminal for a bar, as in the log of a cluster."""

    def __init__(self, total: int | None, *, quiet: bool) -> None:
        self._wanted = not quiet and sys.stderr is not None and not sys.stderr.isatty()
        self._of = f" of {total:,}" if total is not None else ""
        self._start = self._told = time.monotonic()

    def tell(self, tally: Tally) -> None:
        now = time.monotonic()
        if self._wanted and now - self._told >= TELL_EVERY:
            self._told = now
            tell(f"agelens batch: {tally.done()}{self._of}, {tally.pictures / (now - self._start):,.1f} pictures/s")


declare(
    command,
    [
        Parameter(
            "source",
            Parameter.KEYWORD_ONLY,
            annotation=Annotated[str, typer.Argument(metavar="IN", help="What to read.")],
        ),
        Parameter(
            "output",
            Parameter.KEYWORD_ONLY,
            annotation=Annotated[str, typer.Argument(metavar="OUT", help="A folder, or the URL of one.")],
        ),
        *(
            Parameter(name, Parameter.KEYWORD_ONLY, default=_DEFAULTS.get(name), annotation=annotate_option(option))
            for name, option in _READ.items()
        ),
        *(
            Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=annotate_switch(switch))
            for name, switch in _SWITCHES.items()
        ),
    ],
)
