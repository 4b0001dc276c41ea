"""The model card that goes beside an exported file: what it says of itself, for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agelens.modelspec import ModelSpec


def write_card(spec: ModelSpec, sha256: str, size: int) -> str:
    """The card as Markdown."""
    crop = spec.crop
    lines = [
        f"# {spec.name}",
        "",
        f"Estimates {' and '.join(spec.tasks)} from aligned face crops; run it with"
        f" `agelens predict PHOTO --model {spec.name}.onnx`.",
        "",
        f"- weights of {spec.version}, {size:,} bytes, sha256 `{sha256}`",
        f"- licence of the weights: {spec.licence}",
        f"- input: RGB uint8 crops of {crop.size} x {crop.size} pixels, eyes {crop.eye_distance:.3f} of the side apart"
        f" and {crop.eye_height:.3f} below the upper edge",
        f"- age intervals are to hold {spec.coverage:.0%} of ages"
        + ("" if spec.levels else "; they were NOT calibrated: there were no faces to do it on"),
        "",
        "## Trained on",
        *(f"- {', '.join(data.values())}" for data in spec.training_data),
        "",
        "## Measured on this network",
        *(f"- {name}: {_figures(figures)}" for name, figures in spec.metrics.items()),
        "",
        "## Limits",
        *(f"- {note}" for note in spec.notes),
        "",
        "## How it was made",
        "```json",
        json.dumps(spec.recipe, indent=1),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _figures(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in figures.items())
