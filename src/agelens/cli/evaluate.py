"""`agelens evaluate`: a model on a prepared set -> numbers, intervals, slices, a report; and two of them compared."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agelens.cli import INTERRUPTED
from agelens.cli.command import counting_bar, declare, exit_status, require
from agelens.cli.progress import tell
from agelens.errors import UsageError

if TYPE_CHECKING:
    from agelens.datasets.manifest import Manifest
    from agelens.evaluation.gather import PixelsOf
    from agelens.evaluation.protocol import Protocol
    from agelens.evaluation.result import Evaluation
    from agelens.evaluation.run import EvaluateOptions
    from agelens.types import Pixels

EPILOG = """\
Examples:

\b
  agelens prepare utkface UTKFace/ -o utkface.parquet --test 0.1
  agelens evaluate --model agelens-base --data utkface.parquet -o report/
  agelens evaluate --model mine.onnx --data utkface.parquet -o mine/
  agelens evaluate compare report/evaluation.json mine/evaluation.json
  agelens evaluate --protocol adience5 --data adience.parquet --config config.yaml -o adience5/

Without --model, a protocol that needs a model for each fold (adience5) trains them, each without its fold, below -o;
the same command again goes on where it was cut off. With five --model it scores those.
"""

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    invoke_without_command=True,
    epilog=EPILOG,
    help="Measure a model on a prepared set; compare two such measurements.",
)

_OPTIONS: dict[str, tuple[object, object]] = {
    "model": (
        Annotated[
            list[str] | None,
            typer.Option("--model", "-m", metavar="NAME|FILE", help="What ships, an ONNX file, or a peer's wheel."),
        ],
        None,
    ),
    "data": (
        Annotated[Path | None, typer.Option("--data", "-d", metavar="FILE", help="A manifest or an .h5.")],
        None,
    ),
    "root": (Annotated[Path | None, typer.Option(metavar="DIR", help="Where the pictures lie now.")], None),
    "protocol": (
        Annotated[str | None, typer.Option("--protocol", "-p", help="A protocol that ships, or a TOML file.")],
        None,
    ),
    "config": (
        Annotated[
            Path | None,
            typer.Option(
                metavar="FILE", help="How the folds are trained where no --model is given, as `train` has it."
            ),
        ],
        None,
    ),
    "settings": (
        Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Any setting of that training, over the file's."),
        ],
        None,
    ),
    "output": (
        Annotated[
            Path | None,
            typer.Option("--output", "-o", metavar="DIR", help="For evaluation.json, .md, .html and predictions.npz."),
        ],
        None,
    ),
    "split": (Annotated[str | None, typer.Option(help="Which rows: test where there is one, else all.")], None),
    "limit": (Annotated[int | None, typer.Option(min=1, help="At most so many rows, always the same.")], None),
    "crops": (Annotated[bool, typer.Option("--crops", help="The pictures are crops of faces already.")], False),
    "train_manifest": (
        Annotated[
            Path | None, typer.Option(metavar="FILE", help="What the model was trained on: compared by picture.")
        ],
        None,
    ),
    "allow_leak": (
        Annotated[bool, typer.Option("--allow-leak", help="Go on though the model has seen the pictures, stamped.")],
        False,
    ),
    "rounds": (Annotated[int, typer.Option("--bootstrap", min=10, help="Samples for the intervals.")], 1000),
    "worst": (
        Annotated[int, typer.Option(min=0, help="Embed so many of the worst judged faces: not for publication.")],
        0,
    ),
    "device": (Annotated[str, typer.Option(help="auto, cpu, cuda, ...")], "auto"),
    "threads": (Annotated[int | None, typer.Option(min=1, help="Pictures worked on at once.")], None),
    "as_json": (Annotated[bool, typer.Option("--json", help="Print the whole evaluation as JSON.")], False),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")], False),
}


def _command(context: typer.Context, **chosen: object) -> None:
    """Measure a model on a prepared set; compare two such measurements."""
    if context.invoked_subcommand is None:
        with exit_status("evaluate"):
            _run(chosen)


def _run(chosen: dict[str, Any]) -> None:
    if chosen["data"] is None or not (chosen["model"] or chosen["protocol"]):
        raise UsageError("give a model and a data set: agelens evaluate --model agelens-base --data FILE")
    if chosen["model"] and (chosen["config"] or chosen["settings"]):
        raise UsageError("--config and --set say how folds are trained; with --model nothing is: leave them out")
    output: Path | None = chosen["output"]
    if chosen["worst"] and output is None:
        raise UsageError("--worst embeds faces in the report: say where that goes (-o DIR)")
    evaluation, pixels_of = _evaluate(chosen)
    if output is not None:
        _write(evaluation, output, chosen["worst"], pixels_of)
    _print(evaluation, output, as_json=chosen["as_json"], quiet=chosen["quiet"])


def _declare() -> None:
    """Registers the command: its options are data, and typer reads them off the signature."""
    parameters = [Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
    for name, (declared, default) in _OPTIONS.items():
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=declared))
    declare(_command, parameters)
    app.callback()(_command)


_declare()


def _evaluate(chosen: dict[str, Any]) -> tuple[Evaluation, PixelsOf]:
    from agelens.datasets.inspect import open_prepared, open_prepared_pixels
    from agelens.evaluation.protocol import load_protocol
    from agelens.evaluation.run import EvaluateOptions, choose_rows, evaluate

    # A wrong name is better said before anything is read.
    protocol = load_protocol(chosen["protocol"]) if chosen["protocol"] else None
    data: Path = chosen["data"]
    manifest = open_prepared(data)
    if chosen["root"] is not None:
        manifest = replace(manifest, root=chosen["root"].absolute())
    options = EvaluateOptions(
        **{name: chosen[name] for name in ("split", "limit", "crops", "allow_leak", "rounds", "device", "threads")},
        training=open_prepared(chosen["train_manifest"]) if chosen["train_manifest"] else None,
        file=data.name,
        command=shlex.join(["agelens", *sys.argv[1:]]),
    )
    pixels_of = open_prepared_pixels(data, manifest) if data.suffix == ".h5" else None
    models: list[str] = chosen["model"] or _train_folds(chosen, manifest, protocol, options)
    model = models[0] if len(models) == 1 else models
    with counting_bar(quiet=chosen["quiet"]) as progress:
        evaluation = evaluate(model, manifest, protocol, options, pixels_of=pixels_of, progress=progress)
    rows, _ = choose_rows(manifest, evaluation.protocol, options)

    def show(entry: int) -> Pixels:
        return open_prepared_pixels(data, manifest)(int(rows[entry]))

    return evaluation, show


def _train_folds(
    chosen: dict[str, Any], manifest: Manifest, protocol: Protocol | None, options: EvaluateOptions
) -> list[str]:
    """A model for each fold of the protocol, trained without it; the paths of their files."""
    from agelens.cli.train import Ticker
    from agelens.evaluation.run import choose_protocol, choose_rows, share_rows

    chosen_protocol = choose_protocol(manifest, protocol)
    folds = chosen_protocol.folds
    if folds is None or folds.by != "fold" or not folds.all_needed:
        raise UsageError(
            f"the protocol {chosen_protocol.name} measures a model that is there: --model NAME|FILE; only protocols"
            " with folds, such as adience5, train their own"
        )
    output: Path | None = chosen["output"]
    if output is None:
        raise UsageError("the folds' models and their runs need a folder: -o DIR")
    rows, _ = choose_rows(manifest, chosen_protocol, options)
    # That all folds are there is better said before hours of training.
    share_rows(manifest, rows, chosen_protocol, folds.count or 1)
    require("train", "evaluate")
    from agelens.training.config_file import make_config, merge, parse_setting, read_config_file
    from agelens.training.folds import train_folds
    from agelens.training.listeners import Listeners

    layers = [read_config_file(chosen["config"])] if chosen["config"] else []
    data = {"data": {"file": str(chosen["data"])}}
    config = make_config(merge(*layers, *map(parse_setting, chosen["settings"] or []), data))
    ticker = Ticker(quiet=chosen["quiet"])
    numbers = sorted({int(number) for number in manifest.columns.fold[rows]})
    try:
        listeners = Listeners(ticker.tell, ticker.step, ticker.cutting)
        paths = train_folds(config, manifest.fingerprint, numbers, output, listeners)
    except KeyboardInterrupt:
        ticker.close()
        tell("agelens evaluate: interrupted; the same command goes on")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        ticker.close()
    return [str(path) for path in paths]


def _write(evaluation: Evaluation, folder: Path, worst: int, pixels_of: PixelsOf) -> None:
    from agelens.evaluation.markdown import write_markdown
    from agelens.evaluation.page import write_page
    from agelens.evaluation.worst import find_worst
    from agelens.outfile import write_whole

    evaluation.save(folder)
    cases = find_worst(evaluation, worst, pixels_of) if worst else []
    write_whole(folder / "evaluation.md", write_markdown(evaluation).encode())
    write_whole(folder / "evaluation.html", write_page(evaluation, cases).encode())


def _print(evaluation: Evaluation, folder: Path | None, *, as_json: bool, quiet: bool) -> None:
    from agelens.evaluation.markdown import describe_data, headline, warnings, write_rows
    from agelens.evaluation.tables import summarise_figures

    if as_json:
        typer.echo(json.dumps(evaluation.to_dict(), ensure_ascii=False, indent=2))
    elif not quiet:
        typer.echo(f"{headline(evaluation)}: {describe_data(evaluation)}\n")
        typer.echo(write_rows(summarise_figures(evaluation)))
    for line in warnings(evaluation):
        typer.echo(line.replace("**", ""), err=True)
    if folder is not None and not quiet:
        typer.echo(f"{folder}: evaluation.html, evaluation.md, evaluation.json, predictions.npz", err=True)


@app.command("compare")
def compare_evaluations(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="An evaluation, or its folder.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="Another of the same pictures.")],
    bootstrap: Annotated[int, typer.Option(min=10, help="Bootstrap samples for the intervals.")] = 1000,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="A .json or .md.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two evaluations of the same pictures, picture by picture."""
    from agelens.evaluation.compare import compare, tabulate_comparison
    from agelens.evaluation.markdown import warnings, write_table
    from agelens.evaluation.result import Evaluation
    from agelens.outfile import write_whole

    with exit_status("evaluate"):
        if output is not None and output.suffix not in (".json", ".md"):
            raise UsageError(f"the comparison's name ends in .json or .md, got {output.name!r}")
        evaluations = [Evaluation.load(path, with_predictions=True) for path in (first, second)]
        comparison = compare(*evaluations, rounds=bootstrap)
        text = json.dumps(comparison.to_dict(), ensure_ascii=False, indent=2)
        said = warnings(comparison)
        tables = "\n\n".join([*said, *(write_table(table) for table in tabulate_comparison(comparison))])
        typer.echo(text if as_json else tables)
        for line in said if as_json else ():
            typer.echo(line.replace("**", ""), err=True)
        if output is not None:
            write_whole(output, f"{text if output.suffix == '.json' else tables}\n".encode())
