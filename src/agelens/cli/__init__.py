"""The command `agelens`: thin, one module a command, each loaded when it is called.

Nothing heavy is imported here: `agelens --version` has no more to do than to print a line.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings

from agelens import __version__

TYPE_CHECKING = False  # as in `typing`, which takes longer to load than `--version` may
if TYPE_CHECKING:
    from typing import TextIO

BROKEN_PIPE = 141
"""128 + SIGPIPE: what the shell shows of any program whose reader went away."""
INTERRUPTED = 130


def main() -> None:
    """The entry point: runs the command line and ends the process with its status."""
    try:
        _secure_streams()
        warnings.showwarning = _tell_warning
        status = run(sys.argv[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        status = BROKEN_PIPE
    except (KeyboardInterrupt, ImportError, OSError, MemoryError) as error:
        interrupted = _was_interrupted(error)
        if isinstance(error, ImportError) and not interrupted:
            raise
        from agelens.cli.progress import tell

        status = INTERRUPTED if interrupted else 1
        tell(f"agelens: {'interrupted' if interrupted else _explain(error)}")
    # Everything is written and closed. To take apart what was loaded, module by module, would take 0.05 s more.
    os._exit(status)


def _secure_streams() -> None:
    """Makes the three standard descriptors safe to use, whatever state the parent left them in."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        # Otherwise an output file would take the place of a closed one.
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
    if hasattr(os, "set_blocking"):
        for standard in range(3):  # a full non-blocking pipe loses what is written to it
            os.set_blocking(standard, True)


def _tell_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Says in one line what was written for people; all else in Python's own form."""
    from agelens.errors import Notice

    if issubclass(category, Notice):
        from agelens.cli.progress import tell

        tell(f"agelens: {message}")
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def _was_interrupted(error: BaseException) -> bool:
    """Whether it is Ctrl-C, also where what is written in C++ was being loaded, and reports it as an ImportError."""
    if not isinstance(error, ImportError):
        return isinstance(error, KeyboardInterrupt)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _explain(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory; use fewer --threads, a smaller --batch-size or smaller pictures"
    return f"the system refused: {error}"


def run(arguments: list[str]) -> int:
    """Runs a command line and returns its exit status.

    `predict` has a way of its own past typer, whose import and set-up take longer than a prediction. What that way
    doesn't understand at once (a mistake, `--help`), it leaves to typer.
    """
    if arguments == ["--version"]:
        if sys.stdout is not None:
            sys.stdout.write(f"agelens {__version__}\n")
        return 0
    if arguments[:1] == ["predict"] and "_AGELENS_COMPLETE" not in os.environ:
        # Until all is loaded, which makes many objects and no garbage: that saves 15 of 250 ms. `predict` enables it
        # again before the first picture, since a stream of pictures may leave cycles behind.
        gc.disable()
        try:
            from agelens.cli.options import parse_quickly

            options = parse_quickly(arguments[1:])
            if options is not None:
                from agelens.cli.predict import predict

                return predict(options)
        finally:
            gc.enable()
    from agelens.cli.app import run_typer

    return run_typer(arguments)
