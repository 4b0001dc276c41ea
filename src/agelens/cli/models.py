"""`agelens models`: what ships, what is known of it, whether it is whole."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agelens.cli.command import exit_status
from agelens.cli.model_card import NOT_ASCII, write_card
from agelens.errors import AgelensError
from agelens.zoo import list_shipped, read_figures, read_model

if TYPE_CHECKING:
    from agelens.modelspec import ModelSpec
    from agelens.zoo import ShippedModel

app = typer.Typer(
    rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="The model files: list, show, verify."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that ship."""
    with exit_status("models"):
        shipped = list_shipped()
        if as_json:
            fields = ("name", "role", "licence", "about", "sha256")
            typer.echo(_to_json([{field: getattr(model, field) for field in fields} for model in shipped]))
            return
        rows = [("name", "role", "licence", "about"), *((m.name, m.role, m.licence, m.about) for m in shipped)]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
            typer.echo("  ".join((*cells, row[3])))


@app.command("show")
def show_model(
    model: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A model that ships, or an ONNX file.")],
    as_json: AsJson = False,
) -> None:
    """Show a model's card: its licence, what it was trained on, its limits, what it reaches by age, gender and race."""
    with exit_status("models"):
        data = read_model(model, role=None)
        digest = hashlib.sha256(data).hexdigest()
        shipped = _find(model)
        card: dict[str, Any] = {}
        if shipped is not None:
            card = {name: getattr(shipped, name) for name in ("name", "role", "about", "licence")}
        if shipped is None or shipped.role == "estimator":
            card |= json.loads(_open_spec(data, model).to_json())
        card |= {"sha256": digest, "bytes": len(data), "measured": read_figures(digest)}
        typer.echo(_to_json(card) if as_json else write_card(card, as_ascii=not _can_write(NOT_ASCII)))


@app.command("verify")
def verify_models(
    models: Annotated[list[str] | None, typer.Argument(metavar="NAME|FILE", help="By default all that ship.")] = None,
) -> None:
    """Check that model files are whole, fit this version, and run."""
    with exit_status("models"):
        names = models or [model.name for model in list_shipped()]
    status = 0
    for name in names:
        try:
            typer.echo(f"{name}: {_verify(name)}")
        except AgelensError as error:
            typer.echo(f"{name}: {error.message}", err=True)
            status = error.exit_status
    raise typer.Exit(status)


def _verify(name: str) -> str:
    """Opens a model and runs it once.

    Raises:
        ModelError: It is damaged or unfit.
    """
    import numpy as np

    from agelens.detect import FaceDetector
    from agelens.estimate import OnnxEstimator
    from agelens.types import Image

    data = read_model(name, role=None)
    shipped = _find(name)
    if shipped is not None and shipped.role == "detector":
        FaceDetector().detect(Image(np.full((64, 64, 3), 127, np.uint8), 64, 64))
    else:
        estimator = OnnxEstimator(data, name=name)
        side = estimator.spec.crop.size
        estimator.estimate(np.full((1, side, side, 3), 127, np.uint8))
    known = "as it was shipped" if shipped else "runs"
    return f"ok, {known} (sha256 {hashlib.sha256(data).hexdigest()[:12]}, {len(data):,} bytes)"


def _find(name: str) -> ShippedModel | None:
    """The entry of a model that ships; None for a file of one's own."""
    return next((model for model in list_shipped() if model.name == name), None)


def _open_spec(data: bytes, name: str) -> ModelSpec:
    from agelens.estimate import OnnxEstimator

    return OnnxEstimator(data, name=name).spec


def _can_write(characters: str) -> bool:
    """Whether standard output has these characters."""
    try:
        characters.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
