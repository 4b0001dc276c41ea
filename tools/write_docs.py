"""Writes the documents that are made of the code, or checks with `--check` that they are up to date.

docs/errors.md   the codes of agelens.errors
docs/cli.md      every command with its options
README.md        the table between `<!-- accuracy -->` and `<!-- /accuracy -->`, from benchmarks/results/accuracy.json:
                 {"model": {"name": ..., "sha256": ...}, "packs": [what ../shared/acceptance/check.py --json prints]}.
                 Without that file there must be no table.

Run: `python tools/write_docs.py [--check]` (`make docs`, `make lint`).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from agelens import errors
from agelens.cli.app import COMMANDS, make_app
from agelens.zoo import find_shipped

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"
BLOCK = re.compile(r"<!-- accuracy -->\n.*?<!-- /accuracy -->\n", re.DOTALL)

ERRORS_HEAD = """\
# Errors

<!-- Made by tools/write_docs.py from agelens.errors. -->

Whatever agelens raises on purpose is an `agelens.AgelensError`. Each has a stable `code`, which also stands in the
records (`"error": {"code": ..., "message": ...}`), and a `message` that says what is wrong and what to do. Codes are
never renamed or given a new meaning; new ones may come.

A picture that can't be read never stops the others: its record carries the error, and `agelens predict` exits with 1.

| code | class | exit | HTTP | meaning |
| --- | --- | --- | --- | --- |
"""
CLI_HEAD = """\
# The command line

<!-- Made by tools/write_docs.py from the commands themselves. -->

`agelens COMMAND --help` says the same. Results go to standard output or to the files that you name; progress,
warnings and the summary go to standard error.

| exit status | means |
| --- | --- |
| 0 | all pictures were read |
| 1 | some could not be read or written; all others are done, and each bad one has a record with `error` |
| 2 | wrong usage, or nothing to read |
| 3 | a model file is damaged or unfit |
| 130 | interrupted (143: terminated, 129: its terminal was closed); what was finished is on disk and valid |
| 141 | the reader of standard output went away, as in `agelens predict photos/ \\| head` |
"""


def list_errors(kind: type[errors.AgelensError] = errors.AgelensError) -> Iterator[type[errors.AgelensError]]:
    """An error class and all below it, in the order of their definition."""
    yield kind
    for child in kind.__subclasses__():
        yield from list_errors(child)


def write_errors() -> str:
    """docs/errors.md."""
    rows = (
        f"| `{kind.code}` | `{kind.__name__}` | {kind.exit_status} | {kind.http_status} | {_first_line(kind)} |\n"
        for kind in list_errors()
    )
    return ERRORS_HEAD + "".join(rows)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def write_cli() -> str:
    """docs/cli.md."""
    group: Any = get_command(make_app())
    parts = [CLI_HEAD]
    for name in COMMANDS:
        parts.extend(_describe_command(f"agelens {name}", group.commands[name], level=2))
    return "".join(parts)


def _describe_command(name: str, command: Any, *, level: int) -> Iterator[str]:
    if command.hidden:
        return
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = " ".join([name, *(_metavar(argument) for argument in arguments), *(["[OPTIONS]"] if options else [])])
    children = getattr(command, "commands", {})
    yield f"\n{'#' * level} `{name}`\n\n{command.help.strip()}\n"
    if not children:
        yield f"\n```\n{usage}\n```\n\n| argument or option | meaning | default |\n| --- | --- | --- |\n"
        for parameter in (*arguments, *options):
            yield _describe_parameter(parameter)
    for child, inner in children.items():
        yield from _describe_command(f"{name} {child}", inner, level=level + 1)


def _metavar(parameter: Any) -> str:
    return f"{parameter.metavar or parameter.name.upper()}{'...' if parameter.nargs == -1 else ''}"


def _describe_parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        written = f"`{_metavar(parameter)}`"
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or _kind(parameter)}"
        flags = (f"`{flag}{value}`" for flag in sorted(parameter.opts, key=len, reverse=True))
        written = ", ".join(flags)
    text, _, bracket = (parameter.help or "").partition(" [default: ")
    unset = any(parameter.default is nothing for nothing in (None, False, ...))
    default = bracket.removesuffix("]") or ("" if unset else str(parameter.default))
    cells = (cell.replace("|", "\\|") for cell in (written, text, default))
    return f"| {' | '.join(cells)} |\n"


def _kind(parameter: Any) -> str:
    return parameter.name.upper()


def write_readme(readme: str) -> str:
    """The README with its table of accuracy up to date."""
    if not RESULTS.exists():
        if BLOCK.search(readme):
            raise SystemExit(f"README.md holds a table of accuracy and there is no {RESULTS}")
        return readme
    results = json.loads(RESULTS.read_text("utf-8"))
    model = results["model"]
    if find_shipped(model["name"]).sha256 != model["sha256"]:
        raise SystemExit(f"{RESULTS} was measured on another {model['name']} than the one that ships; measure again")
    if not BLOCK.search(readme):
        raise SystemExit("README.md has no <!-- accuracy --> <!-- /accuracy --> block for the table of accuracy")
    lines = [
        "| test set | pictures | mean error, years | age group exact | gender | interval holds | no face found |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_accuracy_row(pack) for pack in results["packs"]),
    ]
    note = f"Measured on `{model['name']}` (sha256 `{model['sha256'][:12]}`)."
    table = "\n".join(["<!-- accuracy -->", *lines, "", note, "<!-- /accuracy -->", ""])
    return BLOCK.sub(lambda _: table, readme)


def _accuracy_row(pack: dict[str, Any]) -> str:
    half = pack["half95"]

    def years(key: str) -> str:
        return f"{pack[key]:.2f} ± {half[key]:.2f}" if key in pack else ""

    def share(key: str) -> str:
        if key not in pack:
            return ""
        return f"{pack[key]:.1%}" + (f" ± {100 * half[key]:.1f}" if key in half else "")

    name = pack["pack"].removesuffix(".tar")
    cells = [name, f"{pack['n']:,}", years("mae"), share("exact"), share("gender"), share("coverage"), share("fta")]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say what is not up to date; exit status 1 if any")
    check = parser.parse_args().check
    readme = ROOT / "README.md"
    made = {
        ROOT / "docs" / "errors.md": write_errors(),
        ROOT / "docs" / "cli.md": write_cli(),
        readme: write_readme(readme.read_text("utf-8")),
    }
    stale = [path for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text]
    if check and stale:
        sys.exit(f"not up to date: {', '.join(str(path.relative_to(ROOT)) for path in stale)}; run `make docs`")
    for path in stale:
        path.write_text(made[path], "utf-8")


if __name__ == "__main__":
    main()
