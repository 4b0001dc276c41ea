"""The whole command line in typer: help, mistakes, shell completion, and every command but a well-formed `predict`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agelens import __version__
from agelens.cli.command import annotate_option, annotate_switch, declare
from agelens.cli.options import OPTIONS, SOURCE_HELP, SWITCHES, PredictOptions, make_options
from agelens.cli.progress import tell
from agelens.errors import UsageError
from agelens.formats import EXTENSIONS

COMMANDS: Final = ("predict", "live", "serve", "batch", "prepare", "train", "evaluate", "export", "models")
"""Each is a module here, loaded when it is called."""

EPILOG: Final = """\
Examples:

\b
  agelens predict family.jpg
  agelens predict family.jpg -o family.agelens.jpg
  agelens predict photos/ -o faces.csv
  agelens predict clip.mp4 -o annotated.mp4
  agelens live
  agelens models list
"""
PREDICT_HELP: Final = "Age and gender of every face in photos, folders and videos."
PREDICT_EPILOG: Final = """\
Examples:

\b
  agelens predict family.jpg                     a table; JSON Lines in a pipe
  agelens predict family.jpg -o annotated.jpg    the picture with boxes and labels
  agelens predict photos/ -o faces.csv           one row a face
  agelens predict photos/ -o out/ --crops faces/ annotated copies, records, faces
  agelens predict clip.mp4 -o annotated.mp4      the clip, a record a frame, a row a person
  find . -name '*.jpg' | agelens predict - --task age --groups "0-17,18+"

Exit status: 0 all pictures read; 1 some could not be read or written, all others are done; 2 wrong usage or nothing to
read; 3 a model file is damaged or unfit; 130 interrupted, and what was finished is saved.
"""

SETTINGS: Final = {"help_option_names": ["--help", "-h"], "max_content_width": 100}


def run_typer(arguments: Sequence[str]) -> int:
    """Runs a command line and returns its exit status.

    Raises:
        BrokenPipeError: Nobody reads standard output any more.
    """
    called = next(iter(arguments), "--help")
    if called not in COMMANDS and not called.startswith("-"):
        tell(f"agelens: no such command {called!r}; {_suggest(called)}")
        return UsageError.exit_status
    try:
        make_app(called)(list(arguments) or ["--help"], prog_name="agelens")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # of which click makes a status of its own
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


def _suggest(name: str) -> str:
    near = difflib.get_close_matches(name, COMMANDS, 1, 0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    if Path(name).suffix.lower() in EXTENSIONS or os.access(name, os.F_OK):
        return f"did you mean `agelens predict {name}`?"
    return f"there are: {', '.join(COMMANDS)}"


def make_app(called: str = "") -> typer.Typer:
    """The whole command line; where a command is called, only that one is loaded."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, epilog=EPILOG, context_settings=SETTINGS)
    app.callback()(_describe)
    for name in [called] if called in COMMANDS else COMMANDS:
        if name == "predict":
            app.command(name, help=PREDICT_HELP, epilog=PREDICT_EPILOG, context_settings=SETTINGS)(_make_predict())
        elif name in ("live", "serve", "batch", "train", "export"):
            module = import_module(f"agelens.cli.{name}")
            app.command(name, help=module.HELP, epilog=module.EPILOG, context_settings=SETTINGS)(module.command)
        else:
            app.add_typer(import_module(f"agelens.cli.{name}").app, name=name, context_settings=SETTINGS)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"agelens {__version__}")
        raise typer.Exit


def _describe(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Age and gender from face images: predict, prepare data sets, train, evaluate and export."""


def _parameters() -> list[Parameter]:
    defaults = {name: getattr(PredictOptions(()), name) for name in (*OPTIONS, *SWITCHES)}
    declared: dict[str, Any] = {
        "sources": (Annotated[list[str], typer.Argument(metavar="SOURCE", help=SOURCE_HELP)], Parameter.empty)
    }
    for name, option in OPTIONS.items():
        default = defaults[name]
        declared[name] = (annotate_option(option), None if default is None else f"{default}")
    for name, switch in SWITCHES.items():
        declared[name] = (annotate_switch(switch), False)
    return [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in declared.items()
    ]


def _make_predict() -> Callable[..., None]:
    """The command as typer wants it: a function whose signature declares the options, which are data here."""

    def command(**found: object) -> None:
        from agelens.cli.predict import predict

        try:
            options = make_options({name: value for name, value in found.items() if value is not None})
        except UsageError as error:
            raise typer.BadParameter(error.message) from error
        raise typer.Exit(predict(options))

    declare(command, _parameters())
    return command
