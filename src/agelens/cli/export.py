"""`agelens export CHECKPOINT -o FILE.onnx`: a model file that `predict`, `serve` and `batch` run as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agelens.cli.command import exit_status, require
from agelens.cli.progress import tell

HELP = "Turn a checkpoint into an ONNX model file that predict runs as it is."
EPILOG = """\
Examples:

\b
  agelens export output/128_output_0 -o mine.onnx
  agelens export age_net.caffemodel -o levi-hassner-age.onnx
  agelens export output/128_output_0/both_model_128_0.safetensors -o mine.onnx --int8 --calibrate val.parquet
  agelens predict photo.jpg --model mine.onnx
"""


def command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A *_model_*.safetensors, its run's folder, or that of all runs (the newest is taken); a .caffemodel.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.onnx", help="The model file to write.")],
    name: Annotated[str, typer.Option(help="What the model is called. [default: the file's name]")] = "",
    int8: Annotated[
        bool, typer.Option("--int8", help="8-bit integers; what that costs is measured and written into the file.")
    ] = False,
    calibrate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Faces to calibrate on, and to measure --int8 on.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Of the weights.")] = "",
) -> None:
    """Exports a checkpoint."""
    with exit_status("export"):
        require("train", "export")
        from agelens.training.publish import ExportOptions, export_checkpoint

        options = ExportOptions(output=output, name=name, int8=int8, calibrate=calibrate, licence=licence or None)
        spec = export_checkpoint(checkpoint, options, tell)
        tell(f"{output}: {spec.name}, {' and '.join(spec.tasks)}; its card is {output.with_suffix('.md')}")
