"""Many models on one test set as few tables, whose rows or columns are the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agelens.evaluation.compare import ALL, Comparison, Difference
from agelens.evaluation.figures import KINDS, write_number
from agelens.evaluation.markdown import warnings, write_rows, write_table
from agelens.evaluation.result import Evaluation
from agelens.evaluation.slices import AGE, RACE
from agelens.evaluation.tables import Table, list_tables, summarise_models, write_half_width

DIFFERENCES = ("mae", "cs5", "exact", "one_off", "gender", "gender_min_race", "gender_ece")
BY_PART = ((AGE, "mae"), (AGE, "exact"), (AGE, "gender"), (RACE, "gender"))
OWN_TABLES = ("Age gates", "By labelled age", "By race")


def write_tables(evaluations: Sequence[Sequence[Evaluation]], comparisons: Sequence[Sequence[Comparison]]) -> str:
    """The Markdown of the comparison, a section a test set.

    Args:
        evaluations: For each set, those of all models; the first model is ours.
        comparisons: For each set, of our model with each of the others.
    """
    overview = f"## At a glance\n\n{write_rows(tabulate_glance(evaluations))}"
    sections = ("\n\n".join(_section(*pair)) for pair in zip(evaluations, comparisons, strict=True))
    return "\n\n".join([overview, *sections])


def tabulate_glance(evaluations: Sequence[Sequence[Evaluation]]) -> Table:
    """A row a model; of each set the years that it is off, or where the labels are groups how many are right."""
    head, rows = [""], [[each.models[0].name] for each in evaluations[0]]
    for of_set in evaluations:
        for figure in ("mae" if "mae" in of_set[0].figures else "exact", "gender"):
            head.append(f"{of_set[0].protocol.title}: {KINDS[figure].title}")
            for row, each in zip(rows, of_set, strict=True):
                mark = " (†)" if each.leaks else ""
                row.append(f"{write_half_width(figure, each.figures[figure])}{mark}" if figure in each.figures else "")
    return Table("At a glance", tuple(head), tuple(map(tuple, rows)))


def name_of(evaluation: Evaluation) -> str:
    """The model's name, with a mark where its figures are known to be too good."""
    return f"{evaluation.models[0].name}{' (†)' if evaluation.leaks else ''}"


def _section(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> Iterator[str]:
    first = evaluations[0]
    ours = first.models[0].name
    yield f"## {first.protocol.title}"
    yield first.protocol.about.strip()
    yield write_rows(summarise_models([(name_of(each), each) for each in evaluations]))
    yield from warnings(first)
    yield from (f"(†) Too good: {reason}." for each in evaluations[1:] for reason in each.leaks)
    if comparisons:
        yield write_table(tabulate_differences(comparisons), level=3)
        losses = tabulate_losses(comparisons)
        if losses.rows:
            yield write_table(losses, level=3)
    for by, figure in BY_PART:
        if len(evaluations) > 1 and (figure != "exact" or "mae" not in first.figures):
            table = tabulate_parts(evaluations, by, figure)
            if table.rows:
                yield write_table(table, level=3)
    for table in list_tables(first):
        if table.title in OWN_TABLES:
            yield write_table(Table(f"{ours}: {table.title}", table.head, table.rows, table.note), level=3)


def tabulate_differences(comparisons: Sequence[Comparison]) -> Table:
    """One row a model: its figures less ours on the faces that both found."""
    overall = [{each.name: each for each in of.differences if each.part == ALL} for of in comparisons]
    names = [name for name in DIFFERENCES if any(name in found for found in overall)]
    rows = []
    for comparison, found in zip(comparisons, overall, strict=True):
        verdicts = [each.verdict for each in comparison.differences if each.part != ALL]
        better = f"{verdicts.count('second')} / {verdicts.count('first')} of {len(verdicts)}"
        cells = (write_difference(found[name]) if name in found else "" for name in names)
        rows.append((comparison.models[1].name, f"{comparison.pictures:,}", *cells, better))
    ours = comparisons[0].models[0].name
    note = (
        "Paired: on the pictures in which both found the face. In brackets the bootstrap 95% interval; bold where it"
        " leaves out 0. Parts: how many figures of an age, a gender or a race are certainly better, and worse, than"
        f" those of {ours}."
    )
    head = ("", "pictures", *(KINDS[name].title for name in names), "parts better / worse")
    return Table(f"Difference to {ours}", head, tuple(rows), note)


def tabulate_losses(comparisons: Sequence[Comparison]) -> Table:
    """Where another model is certainly better than ours."""
    rows = []
    for comparison in comparisons:
        for each in comparison.differences:
            if each.verdict == "second" and each.part != ALL:
                values = (write_number(each.name, value) for value in (each.first, each.second))
                what = f"{each.part}, {KINDS[each.name].title}"
                rows.append((what, comparison.models[1].name, *values, write_difference(each)))
    ours = comparisons[0].models[0].name
    head = ("part", "model", ours, "that model", "difference")
    return Table(f"Parts in which another is certainly better than {ours}", head, tuple(sorted(rows)))


def tabulate_parts(evaluations: Sequence[Evaluation], by: str, figure: str) -> Table:
    """One figure by part: a row a part, a column a model."""
    parts = [{part.name: part for part in each.parts(by)} for each in evaluations]
    rows = []
    for name, part in parts[0].items():
        of_models = [found[name].figures.get(figure) if name in found else None for found in parts]
        if any(of_models):
            cells = (write_half_width(figure, each) if each else "" for each in of_models)
            rows.append((name, f"{part.faces:,}", *cells))
    title = f"{KINDS[figure].title} by {'labelled age' if by == AGE else by}"
    return Table(title, ("part", "faces", *map(name_of, evaluations)), tuple(rows))


def write_difference(each: Difference) -> str:
    """`+0.65 [+0.51, +0.81]`, bold where it is certain."""
    if each.low is None or each.high is None:
        return write_signed(each.name, each.difference)
    value, low, high = (write_signed(each.name, number) for number in (each.difference, each.low, each.high))
    return f"**{value}** [{low}, {high}]" if each.is_certain else f"{value} [{low}, {high}]"


def write_signed(name: str, value: float) -> str:
    """A difference with its sign; none where nothing of it is left after rounding."""
    said = write_number(name, abs(value))
    if not any(digit in said for digit in "123456789"):
        return said
    return f"{'+' if value > 0 else '−'}{said}"
