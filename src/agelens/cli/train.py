"""`agelens train`: age, gender or both on a prepared set, on the CPU, one GPU or many."""

from __future__ import annotations

import os
import sys
import time
from enum import StrEnum
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from agelens.cli import INTERRUPTED
from agelens.cli.command import declare, exit_status, require
from agelens.cli.progress import tell

if TYPE_CHECKING:
    from agelens.training.config import Config

HELP = "Train age, gender or both on a prepared data set."
EPILOG = """\
Examples:

\b
  agelens train --data faces.parquet
  agelens train --age-gender age --data adience.h5 --network levi-hassner
  agelens train --data adience.h5 --config config.yaml --epochs 20
  agelens train --print-config > config.yaml
  agelens train --data faces.parquet --resume
  torchrun --nproc-per-node 2 -m agelens train --data faces.parquet

Every run goes into a folder of its own, output/<BATCH>_output_<GPUS>/, and nothing is ever overwritten.
"""
EVERY = 20.0  # seconds between two lines of progress where standard error is no terminal


class Task(StrEnum):
    """What is learned."""

    age = "age"
    gender = "gender"
    both = "both"


_OPTIONS: Final[dict[str, tuple[object, object]]] = {
    "task": (Annotated[Task, typer.Option("--age-gender", help="What to learn.")], Task.both),
    "data": (
        Annotated[
            Path | None, typer.Option(metavar="FILE", help="A manifest (.parquet, .jsonl) or an .h5 of `prepare`.")
        ],
        None,
    ),
    "config": (Annotated[Path | None, typer.Option(metavar="FILE", help="Settings, as YAML or TOML.")], None),
    "network": (Annotated[str | None, typer.Option(metavar="[face|levi-hassner]", help="Which network.")], None),
    "size": (Annotated[str | None, typer.Option(metavar="[nano|small|base]", help="Of the face network.")], None),
    "loss": (
        Annotated[
            str | None,
            typer.Option(metavar="[distribution|interval|ordinal|cross_entropy]", help="How ages are learned."),
        ],
        None,
    ),
    "groups": (Annotated[str | None, typer.Option(metavar="SET", help="Age groups, as in `agelens predict`.")], None),
    "crop": (
        Annotated[
            str | None,
            typer.Option(metavar="[face|whole]", help="Find and align each face, or take pictures as they are."),
        ],
        None,
    ),
    "epochs": (Annotated[int | None, typer.Option(metavar="N", help="Passes over the data.")], None),
    "batch_size": (Annotated[int | None, typer.Option(metavar="N", help="Faces in a step of each process.")], None),
    "lr": (Annotated[float | None, typer.Option(metavar="X", help="Peak learning rate.")], None),
    "seed": (Annotated[int | None, typer.Option(metavar="N", help="Of all that is random.")], None),
    "start": (
        Annotated[
            str | None,
            typer.Option(
                metavar="MODEL|FILE|none",
                help="Weights to begin with: a model, by name or .onnx, a checkpoint, a .pt, or a .caffemodel.",
            ),
        ],
        None,
    ),
    "output": (Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where runs go.")], None),
    "settings": (
        Annotated[
            list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting: HYPERPARAMETERS.EMA=0.99")
        ],
        None,
    ),
    "resume": (
        Annotated[bool, typer.Option("--resume", help="Go on with the newest unfinished run of these settings.")],
        False,
    ),
    "run": (Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with this run.")], None),
    "allow_leak": (
        Annotated[bool, typer.Option("--allow-leak", help="Train although the splits leak; every result will say so.")],
        False,
    ),
    "print_config": (Annotated[bool, typer.Option("--print-config", help="Print all settings and exit.")], False),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")], False),
}


def command(**options: object) -> None:
    """What is run once the options are read."""
    chosen: dict[str, Any] = options
    with exit_status("train"):
        require("train", "train")
        config = _read_config(chosen)
        if chosen["print_config"]:
            from agelens.training.config_file import write_config

            typer.echo(write_config(config), nl=False)
            return
        from agelens.training.devices import launch_processes

        if not launch_processes(config.gpu, sys.argv[1:]):
            _train(config, chosen)


# The options are data, so that they stand in one place; typer reads them off the signature.
declare(
    command,
    [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=declared)
        for name, (declared, default) in _OPTIONS.items()
    ],
)


def _read_config(chosen: dict[str, Any]) -> Config:
    """The file, `--set` over it, and the other options over both."""
    from agelens.training.config_file import make_config, merge, parse_setting, read_config_file

    options = {
        "data": {
            "file": chosen["data"],
            "output_dir": chosen["output"],
            "groups": chosen["groups"],
            "crop": chosen["crop"],
            "allow_leak": chosen["allow_leak"] or None,
        },
        "hyperparameters": {
            **{name: chosen[name] for name in ("epochs", "batch_size", "loss", "seed")},
            "optimizer": {"lr": chosen["lr"]},
        },
        "network": {"name": chosen["network"], "size": chosen["size"], "start": chosen["start"]},
    }
    layers = [read_config_file(chosen["config"])] if chosen["config"] else []
    return make_config(merge(*layers, *map(parse_setting, chosen["settings"] or []), _given(options)))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Only what was typed."""
    nested = {name: _given(value) if isinstance(value, dict) else value for name, value in options.items()}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in nested.items()}
    return {name: value for name, value in plain.items() if value not in (None, {})}


def _train(config: Config, chosen: dict[str, Any]) -> None:
    from agelens.training.checkpoint import has_checkpoint
    from agelens.training.course import run_training
    from agelens.training.listeners import Listeners

    ticker = Ticker(quiet=chosen["quiet"])
    begun: list[Path] = []
    listeners = Listeners(ticker.tell, ticker.step, ticker.cutting, begun.append)
    resume = chosen["resume"] or chosen["run"] is not None
    leads = int(os.environ.get("RANK", "0")) == 0
    try:
        folder = run_training(config, chosen["task"].value, resume=resume, run=chosen["run"], listeners=listeners)
    except KeyboardInterrupt:
        ticker.close()
        if leads:
            is_begun = resume or any(has_checkpoint(folder / "last") for folder in begun)
            how = "go on with the same command and --resume" if is_begun else "the same command begins again"
            tell(f"agelens train: interrupted; {how}")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        ticker.close()
    if leads:
        typer.echo(str(folder))


class Ticker:
    """Shows how a training gets on, on standard error: one line that moves on a terminal, else one now and then."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or sys.stderr is None
        self._moves = not self._quiet and sys.stderr.isatty()
        self._next = time.monotonic() + (0.0 if self._moves else EVERY)
        self._open = False

    def tell(self, line: str) -> None:
        """One line that stays."""
        if not self._quiet:
            self.close()
            tell(line)

    def step(self, facts: dict[str, Any]) -> None:
        """Where a training stands."""
        if self._is_due():
            left = time.strftime("%H:%M:%S", time.gmtime(min(facts["left"], 359_999)))
            self._show(
                f"epoch {facts['epoch']}/{facts['epochs']}, step {facts['step']:,}/{facts['steps']:,},"
                f" loss {facts['loss']:.4f}, {facts['rate']:,.0f} faces/s, {left} left"
            )

    def cutting(self, done: int, total: int) -> None:
        """How many faces are cut."""
        if self._is_due():
            self._show(f"cutting faces: {done:,} of {total:,}")

    def close(self) -> None:
        """Ends the moving line."""
        if self._open:
            sys.stderr.write("\r\033[K")
            self._open = False

    def _is_due(self) -> bool:
        now = time.monotonic()
        if self._quiet or now < self._next:
            return False
        self._next = now + (0.2 if self._moves else EVERY)
        return True

    def _show(self, line: str) -> None:
        if self._moves:
            sys.stderr.write(f"\r{line}\033[K")
            sys.stderr.flush()
            self._open = True
        else:
            tell(line)
