"""The model card: what a model is, is made of, reaches, and where it fails; Markdown with plots beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agelens.evaluation.charts import draw_charts
from agelens.evaluation.figures import write_number
from agelens.evaluation.markdown import describe_data, warnings, write_rows, write_table
from agelens.evaluation.plots import standalone
from agelens.evaluation.tables import DEFINITIONS, Table, list_tables, summarise_models
from agelens.modelspec import DECODES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agelens.evaluation.result import Evaluation
    from agelens.modelspec import ModelSpec

PLOTS = ("age-error", "gender-parts", "reliability", "coverage", "gender-risk")
SHOWN = ("Age gates", "By labelled age", "By race", "By gender, age and race, 200 faces and more")
ANSWERED = (1.0, 0.95, 0.9, 0.8, 0.7)
LIMITS = (
    "Age is how old a face looks, not what a document says.",
    "Gender is how a person presents in a picture, not who they are. Below 13 years it is close to a guess.",
    "Not for decisions about access, work, policing or anything else that affects a person.",
)
"""Said of a model that states no limits of its own."""


@dataclass(frozen=True, slots=True)
class Card:
    """A card as files.

    Attributes:
        text: The Markdown.
        plots: SVG files by the name that the text links to, relative to it.
    """

    text: str
    plots: dict[str, str]


def write_card(spec: ModelSpec, sha256: str, size: int, evaluations: Sequence[Evaluation], *, folder: str) -> Card:
    """The card of a model file.

    Args:
        spec: What the file says of itself.
        sha256: Of its bytes.
        size: How many bytes.
        evaluations: Of this very file, one a data set.
        folder: Name of the folder beside the card that the plots go to.

    Raises:
        ValueError: An evaluation is of another file.
    """
    for evaluation in evaluations:
        if [model.sha256 for model in evaluation.models] != [sha256]:
            raise ValueError(f"an evaluation on {evaluation.data.file} is not of the model {sha256[:12]}")
    plots: dict[str, str] = {}
    parts = [
        f"# {spec.name}",
        "<!-- Made by benchmarks/peers.py (make accuracy). -->",
        "\n".join(_facts(spec, sha256, size)),
        "## Use and limits",
        "\n".join(f"- {note}" for note in spec.notes or LIMITS),
        "## Trained on",
        "\n".join(f"- {_one_line(entry)}" for entry in spec.training_data),
        "## What it reaches",
        "End to end: detection, alignment, estimate. Half the width of the bootstrap 95% interval behind ±.",
        *(write_rows(table) for table in [summarise_models([(_title(e), e) for e in evaluations])]),
    ]
    for evaluation in evaluations:
        parts += _describe_set(evaluation, plots, folder)
    parts += ["## How it was measured", "\n".join(f"- {line}" for line in DEFINITIONS)]
    return Card("\n\n".join(parts) + "\n", plots)


def _facts(spec: ModelSpec, sha256: str, size: int) -> Iterator[str]:
    yield f"- version {spec.version}, {size / 1e6:.1f} MB, sha256 `{sha256}`"
    yield f"- licence of the weights: {spec.licence}"
    yield (
        f"- sees: RGB crops of {spec.crop.size} pixels, eyes {spec.crop.eye_distance:g} of the side apart,"
        f" {spec.crop.eye_height:g} of it below the top"
    )
    yield f"- answers: {' and '.join(spec.tasks)}; years are {DECODES[spec.decode]} of 101 probabilities"
    if spec.levels:
        yield f"- promises: {spec.coverage:.0%} of the ages inside the interval"


def _title(evaluation: Evaluation) -> str:
    return evaluation.protocol.title


def _one_line(entry: dict[str, str]) -> str:
    name, others = entry.get("name", ""), [f"{value}" for key, value in entry.items() if key != "name" and value]
    return f"{name} ({'; '.join(others)})" if others else name


def _describe_set(evaluation: Evaluation, plots: dict[str, str], folder: str) -> Iterator[str]:
    yield f"## {_title(evaluation)}"
    yield f"{evaluation.protocol.about.strip()}\n\n{describe_data(evaluation)}."
    yield from warnings(evaluation)
    prefix = re.sub(r"[^a-z0-9]+", "-", evaluation.protocol.name.lower())
    for chart in draw_charts(evaluation):
        if chart.name in PLOTS:
            file = f"{folder}/{prefix}-{chart.name}.svg"
            plots[file] = standalone(chart.svg)
            yield f"**{chart.title}.** {chart.caption}\n\n![{chart.title}]({file})"
    answered = _answered(evaluation)
    if answered.rows:
        yield write_table(answered, level=3)
    for table in list_tables(evaluation):
        if table.title in SHOWN:
            yield write_table(table, level=3)


def _answered(evaluation: Evaluation) -> Table:
    """What thresholds on the gender's probability buy."""
    curve = evaluation.curves.get("gender_risk")
    rows = []
    for wanted in ANSWERED if curve else ():
        assert curve is not None
        at = min(range(len(curve.x)), key=lambda index: abs(curve.x[index] - wanted))
        figure = curve.figures[at]
        right = write_number("gender", 1 - figure.value)
        span = (
            f"[{write_number('gender', 1 - figure.high)}, {write_number('gender', 1 - figure.low)}]"
            if figure.low is not None and figure.high is not None
            else ""
        )
        rows.append((f"{curve.x[at] * 100:.0f}%", f"{curve.marks[at]:.3f}", right, span))
    note = "`--gender-threshold` of the second column; the rest are answered `unknown`."
    head = ("faces answered", "threshold", "gender right", "95% interval")
    return Table("Gender by share answered", head, tuple(rows), note)
