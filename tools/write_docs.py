"""Writes the documents that are made of the code, or checks with `--check` that they are up to date.

docs/errors.md   the codes of agelens.errors
docs/cli.md      every command with its options
figures.json     in src/agelens/models: what `agelens models show` tells of the model that ships, by group, from
                 benchmarks/results/peers.json
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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from typer.main import get_command

from agelens import errors
from agelens.cli.app import COMMANDS, make_app
from agelens.estimate import OnnxEstimator
from agelens.evaluation.protocol import load_protocol
from agelens.zoo import FIGURES, MODELS, find_shipped, read_model

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"
COMPARED = RESULTS.with_name("peers.json")
SHOWN = ("mae", "bias", "exact", "one_off", "gender", "coverage")
SHARES = ("exact", "gender")
MOST_UNSURE = 0.1
"""Half the width of a share's 95% interval: a set with more holds too few people to tell anything."""

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

Faces are numbered from 0, from left to right: in tables, in the column `face` of CSV and Parquet, in the names of crops
and as the position in the record's `faces`. Years are the middle of a distribution of ages and the group is the most
probable one, so where ages are spread the years may lie in the group beside it ([more](python.md#one-picture)).
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
    if not children or arguments or options:  # a group may be a command too, as `evaluate` is
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
    _check_model(model, RESULTS)
    if not BLOCK.search(readme):
        raise SystemExit("README.md has no <!-- accuracy --> <!-- /accuracy --> block for the table of accuracy")
    lines = [
        "| test set | pictures | mean error, years | age group exact | gender |"
        f" interval holds (promised: {_promised(model['name']):.0%}) | no face found |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_accuracy_row(pack) for pack in results["packs"] if _is_telling(pack["half95"])),
    ]
    note = f"Measured on `{model['name']}` (sha256 `{model['sha256'][:12]}`)."
    for pack in results["packs"]:
        if not _is_telling(pack["half95"]):
            half = 100 * max(pack["half95"].get(name, 0.0) for name in SHARES)
            about = f"{_pack_name(pack)} ({pack['n']} pictures, ± {half:.0f} points)"
            note += f"\nLeft out, since too few people are in it to tell: {about}."
    table = "\n".join(["<!-- accuracy -->", *lines, "", note, "<!-- /accuracy -->", ""])
    return BLOCK.sub(lambda _: table, readme)


def _check_model(model: Mapping[str, str], file: Path) -> None:
    if find_shipped(model["name"]).sha256 != model["sha256"]:
        raise SystemExit(f"{file} was measured on another {model['name']} than the one that ships; measure again")


def _promised(name: str) -> float:
    return OnnxEstimator(read_model(name), name=name).spec.coverage


def _is_telling(half: Mapping[str, float]) -> bool:
    return all(half.get(name, 0.0) <= MOST_UNSURE for name in SHARES)


def _pack_name(pack: Mapping[str, Any]) -> str:
    return str(pack["pack"]).removesuffix(".tar")


def write_figures() -> str:
    """src/agelens/models/figures.json, a line a set."""
    if not COMPARED.exists():
        return json.dumps({"sha256": "", "sets": []}) + "\n"
    results = json.loads(COMPARED.read_text("utf-8"))
    sha256 = results["model"]["sha256"]
    _check_model(results["model"], COMPARED)
    sets = []
    for pack in results["packs"].values():
        found = next(model for model in pack["models"] if model["sha256"] == sha256)
        bounded = {name: each for name, each in found["figures"].items() if each["low"] is not None}
        half = {name: (each["high"] - each["low"]) / 2 for name, each in bounded.items()}
        if not _is_telling(half):
            continue
        title = load_protocol(pack["protocol"]).title
        parts = [
            {"by": part["by"], "name": part["name"], "faces": part["faces"], "figures": _shown(part["figures"])}
            for part in found["slices"]
            if part["by"] in ("age", "gender", "race")
        ]
        about = {"title": title, "pictures": pack["pictures"], "failed": pack["failed"]}
        sets.append(json.dumps({**about, "figures": _shown(found["figures"]), "parts": parts}, ensure_ascii=False))
    lines = ",\n".join(sets)
    return f'{{"sha256": "{sha256}", "sets": [\n{lines}\n]}}\n'


def _shown(figures: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {
        name: {bound: figures[name][bound] for bound in ("value", "low", "high")} for name in SHOWN if name in figures
    }


def _accuracy_row(pack: dict[str, Any]) -> str:
    half = pack["half95"]

    def years(key: str) -> str:
        return f"{pack[key]:.2f} ± {half[key]:.2f}" if key in pack else ""

    def share(key: str) -> str:
        if key not in pack:
            return ""
        return f"{pack[key]:.1%}" + (f" ± {100 * half[key]:.1f}" if key in half else "")

    shares = (share(key) for key in ("exact", "gender", "coverage", "fta"))
    cells = [_pack_name(pack), f"{pack['n']:,}", years("mae"), *shares]
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
        MODELS / FIGURES: write_figures(),
        readme: write_readme(readme.read_text("utf-8")),
    }
    stale = [path for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text]
    if check and stale:
        sys.exit(f"not up to date: {', '.join(str(path.relative_to(ROOT)) for path in stale)}; run `make docs`")
    for path in stale:
        path.write_text(made[path], "utf-8")


if __name__ == "__main__":
    main()
