"""`agelens serve`: the HTTP API and the page."""

from __future__ import annotations

import os
from dataclasses import fields
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agelens.cli.command import declare, exit_status, require
from agelens.cli.progress import tell
from agelens.errors import UsageError

HELP = "Answer over HTTP, and show a page for people: pictures in, records out."
EPILOG = """\
Examples:

\b
  agelens serve                                  http://127.0.0.1:8000, for this machine only
  curl -F file=@family.jpg http://127.0.0.1:8000/v1/predict
  agelens serve --port 9000 --workers 2 --threads 2
  AGELENS_API_KEY=... agelens serve --host 0.0.0.0 --allow-host faces.example.org

SIGTERM and Ctrl-C stop it once everything that it accepted is answered. docs/server.md says how to run it as a service.
"""
KEY_VARIABLE: Final = "AGELENS_API_KEY"

_OPTIONS: Final[dict[str, tuple[object, object]]] = {
    "host": (
        Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0: everywhere.")],
        "127.0.0.1",
    ),
    "port": (Annotated[int, typer.Option(metavar="N", help="0 takes a free one.")], 8000),
    "workers": (Annotated[int, typer.Option(metavar="N", help="Processes, each with models of its own.")], 1),
    "threads": (
        Annotated[
            int | None,
            typer.Option(metavar="N", help="Pictures worked on at once in each process. [default: one a core]"),
        ],
        None,
    ),
    "model": (
        Annotated[str, typer.Option(metavar="NAME|FILE", help="A model that ships, or an ONNX file.")],
        "agelens-base",
    ),
    "device": (Annotated[str, typer.Option(metavar="DEVICE", help="Where the networks run, as in `predict`.")], "auto"),
    "batch_size": (Annotated[int, typer.Option(metavar="N", help="Most faces in one call of the network.")], 32),
    "queue": (
        Annotated[
            int,
            typer.Option(metavar="N", help="Pictures that a process takes on at once; more are told to come again."),
        ],
        64,
    ),
    "time_limit": (
        Annotated[float, typer.Option(metavar="SECONDS", help="From the arrival of a request to its answer.")],
        30.0,
    ),
    "upload_limit": (Annotated[float, typer.Option(metavar="SECONDS", help="For a request to arrive.")], 30.0),
    "drain_limit": (
        Annotated[float, typer.Option(metavar="SECONDS", help="For the last requests when it stops.")],
        30.0,
    ),
    "max_bytes": (Annotated[int, typer.Option(metavar="N", help="Refuse larger pictures.")], 32 * 2**20),
    "max_pixels": (Annotated[int, typer.Option(metavar="N", help="Refuse pictures with more pixels.")], 50_000_000),
    "max_files": (Annotated[int, typer.Option(metavar="N", help="Pictures in one request.")], 16),
    "max_body": (Annotated[int, typer.Option(metavar="N", help="Bytes of one request.")], 64 * 2**20),
    "max_held": (
        Annotated[int, typer.Option(metavar="N", help="Bytes of all requests that a process holds.")],
        256 * 2**20,
    ),
    "allow_url": (
        Annotated[bool, typer.Option("--allow-url", help="Fetch pictures from public http(s) addresses.")],
        False,
    ),
    "allow_host": (
        Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME",
                help="Answer to this name and to local ones only; repeatable. [default: locally, local ones; else any]",
            ),
        ],
        None,
    ),
    "api_key_file": (
        Annotated[
            Path | None,
            typer.Option(metavar="FILE", help=f"A file with the key that requests must bring. Or set {KEY_VARIABLE}."),
        ],
        None,
    ),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", help="No line for each request.")], False),
}


def command(**options: object) -> None:
    """What is run once the options are read."""
    chosen: dict[str, Any] = options
    with exit_status("serve"):
        require("serve", "serve")
        from agelens.server.processes import run_server
        from agelens.server.settings import ServerSettings

        known = {field.name for field in fields(ServerSettings)}
        settings = ServerSettings(
            **{name: value for name, value in chosen.items() if name in known},
            api_key=_read_key(chosen["api_key_file"]),
            hosts=tuple(chosen["allow_host"] or ()),
        )
        raise typer.Exit(run_server(settings, tell))


def _read_key(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"the file of the API key, {path}, can't be read: {error}") from error


# The options are data, so that they stand in one place; typer reads them off the signature.
declare(
    command,
    [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=declared)
        for name, (declared, default) in _OPTIONS.items()
    ],
)
