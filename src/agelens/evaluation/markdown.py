"""An evaluation as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agelens.evaluation.tables import DEFINITIONS, Table, list_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agelens.evaluation.compare import Comparison
    from agelens.evaluation.result import Evaluation


def write_markdown(evaluation: Evaluation) -> str:
    """The whole report."""
    parts = [f"# {headline(evaluation)}", *warnings(evaluation), *_facts(evaluation)]
    parts += [write_table(table) for table in list_tables(evaluation)]
    parts += ["## How it was measured", f"{evaluation.protocol.about} ({evaluation.protocol.source})"]
    parts.append("\n".join(f"- {definition}" for definition in DEFINITIONS))
    return "\n\n".join(parts) + "\n"


def headline(evaluation: Evaluation) -> str:
    """Which model on which data, in a line."""
    models = evaluation.models
    name = models[0].name if len(models) == 1 else f"{len(models)} models, {models[0].name} ..."
    return f"{name} on {evaluation.protocol.title}"


def warnings(evaluation: Evaluation | Comparison) -> list[str]:
    """What must be known before a figure is quoted, each a paragraph."""
    leaks = [f"**LEAK ALLOWED, figures too good:** {reason}." for reason in evaluation.leaks]
    return [*leaks, *(f"**Note:** {alarm}." for alarm in evaluation.alarms)]


def describe_data(evaluation: Evaluation) -> str:
    """How many pictures, people and failures, in a sentence."""
    data = evaluation.data
    people = f" of {data.subjects:,} people" if data.subjects else ""
    failures = f"{data.failed:,} ({data.failed / data.pictures:.2%}) gave no face"
    unreadable = ", ".join(f"{code} {count:,}" for code, count in data.unreadable.items())
    return f"{data.pictures:,} pictures{people}; {failures}{f' (unreadable: {unreadable})' if unreadable else ''}"


def describe_models(evaluation: Evaluation) -> Iterator[str]:
    """Name, version and SHA-256 of each model."""
    for model in evaluation.models:
        yield f"{model.name} ({model.version}), sha256 `{model.sha256}`"


def _facts(evaluation: Evaluation) -> list[str]:
    origin, data = evaluation.origin, evaluation.data
    lines = [
        *(f"- model: {model}" for model in describe_models(evaluation)),
        f"- data: {data.file or data.kind}, {data.part}: {describe_data(evaluation)}; fingerprint `{data.fingerprint}`",
        f"- how: {origin.mode}, protocol {evaluation.protocol.name}, {origin.rounds:,} bootstrap samples,"
        f" {origin.device}, agelens {origin.agelens}, {origin.date}",
        f"- command: `{origin.command}`",
    ]
    return ["\n".join(lines)]


def write_table(table: Table, *, level: int = 2) -> str:
    """A table with its title and note."""
    text = f"{'#' * level} {table.title}\n\n{write_rows(table)}"
    return f"{text}\n\n{table.note}" if table.note else text


def write_rows(table: Table) -> str:
    """Only the rows, names to the left and numbers to the right."""
    lines = [table.head, ("---", *("---:" for _ in table.head[1:])), *table.rows]
    return "\n".join(f"| {' | '.join(_escape(cell) for cell in line)} |" for line in lines)


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|")
