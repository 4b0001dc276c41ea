"""The command `agelens`: thin, one module a command, each loaded when it is called.

Nothing heavy is imported here: `agelens --version` has no more to do than to print a line.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from agelens import __version__

BROKEN_PIPE = 141
"""128 + SIGPIPE: what the shell shows of any program whose reader went away."""
INTERRUPTED = 130


def main() -> None:
    """The entry point: runs the command line and ends the process with its status."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        sys.stdout.write(f"agelens {__version__}\n")
        return
    try:
        status = run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        status = BROKEN_PIPE
    except KeyboardInterrupt:
        from agelens.cli.progress import tell

        tell("agelens: interrupted")
        status = INTERRUPTED
    # Everything is written and closed. To take apart what was loaded, module by module, would take 0.05 s more.
    os._exit(status)


def run(arguments: Sequence[str]) -> int:
    """Runs a command line and returns its exit status.

    `predict` has a way of its own past typer, whose import and set-up take longer than a prediction. What that way
    doesn't understand at once (a mistake, `--help`), it leaves to typer.
    """
    if arguments[:1] == ["predict"] and "_AGELENS_COMPLETE" not in os.environ:
        gc.disable()  # until all is loaded, which makes many objects and no garbage
        from agelens.cli.options import parse_quickly

        options = parse_quickly(arguments[1:])
        if options is not None:
            from agelens.cli.predict import predict

            return predict(options)
        gc.enable()
    from agelens.cli.app import run_typer

    return run_typer(arguments)
