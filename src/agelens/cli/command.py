"""What the commands behind typer share: options that are data, one line and a status for an error, a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import Parameter, Signature
from typing import Annotated, Final

import typer

from agelens.advice import how_to_install
from agelens.cli.options import Option, Switch
from agelens.cli.progress import tell
from agelens.errors import AgelensError, MissingPackageError, UsageError


def declare(command: Callable[..., None], parameters: Sequence[Parameter]) -> None:
    """Gives a function that takes any keywords the signature off which typer reads its options."""
    command.__dict__["__signature__"] = Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def annotate_option(option: Option) -> object:
    """What typer must know of an option that is data; its text is checked when it is read, and stays text."""

    def check(value: str | None) -> str | None:
        try:
            if value is not None:
                option.read(value)
        except UsageError as error:
            raise typer.BadParameter(error.message) from error
        return value

    return Annotated[str | None, typer.Option(*option.flags, metavar=option.metavar, help=option.help, callback=check)]


def annotate_switch(switch: Switch) -> object:
    """The same of an option without a value."""
    return Annotated[bool, typer.Option(*switch.flags, help=switch.help)]


@contextmanager
def exit_status(command: str) -> Iterator[None]:
    """Tells an error in one line and ends with its status.

    Raises:
        Exit: With the error's status.
    """
    try:
        yield
    except AgelensError as error:
        tell(f"agelens {command}: {error.message}")
        raise typer.Exit(error.exit_status) from error


EXTRAS: Final = {
    "train": (f"torch: {how_to_install('train')}", ("torch", "safetensors")),
    "serve": (f"FastAPI and uvicorn: {how_to_install('serve')}", ("fastapi", "uvicorn", "httptools")),
    "batch": (f"Ray and pyarrow: {how_to_install('batch')}", ("ray", "pyarrow")),
}
"""What a command needs, in words, and the modules that show whether it is there."""


def require(extra: str, command: str) -> None:
    """Refuses a command that can't run without the packages of an extra.

    Raises:
        MissingPackageError: They aren't installed.
    """
    what, modules = EXTRAS[extra]
    if any(find_spec(module) is None for module in modules):
        raise MissingPackageError(f"`agelens {command}` needs {what}")


@contextmanager
def counting_bar(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar of pictures on standard error, told how many are done of how many; None where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, markup=False, highlight=False)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("pictures", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
