"""`agelens live`: faces as a camera sees them."""

from __future__ import annotations

import signal
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agelens.cli.command import declare, exit_status, require
from agelens.cli.interrupts import Interrupts
from agelens.cli.progress import tell
from agelens.errors import UsageError

HELP = "Watch a camera: a page with boxes, ages and intervals over the picture."
EPILOG = """\
Examples:

\b
  agelens live                                 the browser's own camera, at http://127.0.0.1:8010
  agelens live --camera 0                      a camera of this machine, shown on the same page
  agelens live --camera rtsp://door.local/1    a stream; a file is played at its own speed
  agelens live --record visit.mp4              also keep what is seen, and a record a frame

On a machine without a display, from yours: ssh -L 8010:localhost:8010 MACHINE agelens live
Nothing is recorded without --record. Ctrl-C stops it.
"""
SIDE: Final = 960
"""Pixels of the longer side of a page's frames."""

_OPTIONS: Final[dict[str, tuple[object, object]]] = {
    "camera": (
        Annotated[
            str | None,
            typer.Option(
                metavar="N|URL|FILE", help="A camera of this machine, a stream, or a file. [default: the browser's]"
            ),
        ],
        None,
    ),
    "window": (Annotated[bool, typer.Option("--window", help="A window of the desktop in place of a page.")], False),
    "record": (
        Annotated[
            Path | None, typer.Option(metavar="OUT", help="Keep the annotated video there, and records in OUT.jsonl.")
        ],
        None,
    ),
    "host": (Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")], "127.0.0.1"),
    "port": (Annotated[int, typer.Option(metavar="N", help="0 takes a free one.")], 8010),
    "allow_host": (
        Annotated[list[str] | None, typer.Option(metavar="NAME", help="Another name of the page; repeatable.")],
        None,
    ),
    "browser": (Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")], True),
    "task": (Annotated[str, typer.Option(metavar="[age|gender|both]", help="What to estimate.")], "both"),
    "groups": (Annotated[str, typer.Option(metavar="SET", help="Age groups, as in `predict`.")], "adience"),
    "min_face": (
        Annotated[float | None, typer.Option(metavar="PIXELS", help="Least side of a face.")],
        None,
    ),
    "model": (
        Annotated[str, typer.Option(metavar="NAME|FILE", help="A model that ships, or an ONNX file.")],
        "agelens-base",
    ),
    "device": (Annotated[str, typer.Option(metavar="DEVICE", help="Where the networks run, as in `predict`.")], "auto"),
    "track": (
        Annotated[bool, typer.Option("--track/--no-track", help="Keep identities, and smooth what is told of them.")],
        True,
    ),
}


def command(**options: object) -> None:
    """What is run once the options are read."""
    chosen: dict[str, Any] = options
    with exit_status("live"):
        raise typer.Exit(_run(chosen))


def _run(chosen: dict[str, Any]) -> int:
    require("serve", "live")
    if chosen["camera"] == "":
        raise UsageError("--camera is empty; say a number, an address or a file")
    from agelens.analyzer import Analyzer
    from agelens.live.running import LiveSettings, run_live
    from agelens.video.analysis import least_face

    least = chosen["min_face"] if chosen["min_face"] is not None else least_face(SIDE, SIDE)
    analyzer = Analyzer(
        chosen["model"],
        task=chosen["task"],
        groups=chosen["groups"],
        device=chosen["device"],
        min_face=least,
        threads=1,
    )
    settings = LiveSettings(
        camera=chosen["camera"],
        window=chosen["window"],
        record=chosen["record"],
        host=chosen["host"],
        port=chosen["port"],
        hosts=tuple(chosen["allow_host"] or ()),
        browser=chosen["browser"],
        tracking=chosen["track"],
    )
    with Interrupts() as interrupts:
        run_live(analyzer, settings, tell, lambda: bool(interrupts.signal))
    # Ctrl-C is how it is meant to end.
    return 128 + interrupts.signal if interrupts.signal not in (0, signal.SIGINT) else 0


# The options are data, so that they stand in one place; typer reads them off the signature.
declare(
    command,
    [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=declared)
        for name, (declared, default) in _OPTIONS.items()
    ],
)
