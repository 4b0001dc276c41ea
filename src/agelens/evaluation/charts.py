"""Which plots an evaluation has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agelens.evaluation.figures import KINDS, is_share, write_number
from agelens.evaluation.plots import Axis, Dot, DotRow, Line, Write, axis_for, draw_dots, draw_heat, draw_lines
from agelens.evaluation.slices import AGE, CROSS, GENDER, RACE, SHARPNESS, SIZE

if TYPE_CHECKING:
    from agelens.evaluation.curves import Curve
    from agelens.evaluation.result import Evaluation
    from agelens.evaluation.slices import Slice
    from agelens.evaluation.statistics import Figure


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot with its caption; `name` serves as a file name."""

    name: str
    title: str
    caption: str
    svg: str


def draw_charts(evaluation: Evaluation) -> list[Chart]:
    """Every plot for which there is something to plot, the most important first."""
    makers: list[Callable[[Evaluation], Chart | None]] = [
        _age_error,
        _gender_by_part,
        _age_confusion,
        _gender_confusion,
        _reliability,
        _coverage,
        _gender_risk,
        _age_risk,
        _cumulative,
        _quality,
    ]
    return [chart for make in makers if (chart := make(evaluation)) is not None]


def write_share(value: float) -> str:
    """`90%`; with a decimal where a whole number would round it."""
    return f"{value * 100:.0f}%" if abs(value * 100 - round(value * 100)) < 0.01 else f"{value * 100:.1f}%"


def write_plain(value: float) -> str:
    """`5`, `2.5`."""
    return f"{value:g}"


def dot(figure: Figure, *, second: bool = False) -> Dot:
    """A figure as it is plotted."""
    return Dot(figure.value, figure.low, figure.high, second)


def dot_rows(slices: Sequence[Slice], name: str, other: str | None = None) -> list[DotRow]:
    """One row for each part that has the figure, its value and number of faces as the note."""
    rows = []
    for part in slices:
        figure, second = part.figures.get(name), part.figures.get(other or "")
        if figure is not None:
            note = f"{write_number(name, figure.value)}   n {figure.faces:,}"
            rows.append(DotRow(part.name, note, (dot(figure), *([dot(second, second=True)] if second else []))))
    return rows


def axis_of(rows: Sequence[DotRow], name: str, *, reference: float | None = None) -> Axis:
    """An axis that holds the rows' values and intervals."""
    dots = [each for row in rows for each in row.dots]
    values = [value for each in dots for value in (each.value, each.low, each.high) if value is not None]
    write: Write = write_share if is_share(name) else write_plain
    if reference is not None:
        values.append(reference)
    top = 1.0 if is_share(name) else None
    title = KINDS[name].title + (" (years)" if KINDS[name].unit == "years" else "")
    return axis_for(values, title, write, zero=not is_share(name), top=top)


def _age_error(evaluation: Evaluation) -> Chart | None:
    name = "mae" if "mae" in evaluation.figures else "exact"
    rows = dot_rows(evaluation.parts(AGE), name, "bias" if name == "mae" else "one_off")
    if not rows:
        return None
    title = "Error by age" if name == "mae" else "Right group by age"
    svg = draw_dots(title, rows, axis_of(rows, name), reference=0.0 if name == "mae" else None)
    if name == "mae":
        caption = "Filled: mean absolute error. Hollow: bias, to the left of the dashed line where judged too young."
    else:
        caption = "Filled: share in the labelled age group. Hollow: in it or one beside it."
    return Chart("age-error", title, f"{caption} Bars: bootstrap 95% intervals.", svg)


def _gender_by_part(evaluation: Evaluation) -> Chart | None:
    parts = [*evaluation.parts(GENDER), *evaluation.parts(RACE), *evaluation.parts(AGE)]
    rows = dot_rows(parts, "gender")
    if not rows:
        return None
    figure = evaluation.figures.get("gender")
    reference = figure.value if figure else None
    svg = draw_dots("Gender accuracy by part", rows, axis_of(rows, "gender"), reference=reference)
    return Chart("gender-parts", "Gender accuracy by gender, race and age", "Dashed: all faces.", svg)


def _age_confusion(evaluation: Evaluation) -> Chart | None:
    return _confusion(evaluation, "age", "Age groups", "Each row is a labelled group; per cent of its faces.")


def _gender_confusion(evaluation: Evaluation) -> Chart | None:
    return _confusion(evaluation, "gender", "Genders", "Each row is a label; per cent of its faces.")


def _confusion(evaluation: Evaluation, name: str, title: str, caption: str) -> Chart | None:
    confusion = evaluation.confusions.get(name)
    if confusion is None:
        return None
    svg = draw_heat(f"Confusion: {title.lower()}", confusion.labels, confusion.counts, "estimated", "labelled")
    return Chart(f"confusion-{name}", f"Confusion: {title.lower()}", caption, svg)


def _reliability(evaluation: Evaluation) -> Chart | None:
    curve = evaluation.curves.get("reliability")
    if curve is None:
        return None
    faces = [figure.faces for figure in curve.figures]
    most = max(faces)
    bars = [(x - 0.035, x + 0.035, 0.35 * count / most) for x, count in zip(curve.x, faces, strict=True)]
    line = Line("", curve.x, tuple(map(dot, curve.figures)), marked=True)
    x = Axis(0, 1, "stated probability of “female”", write_share)
    svg = draw_lines("Reliability", [line], x, Axis(0, 1, "share of women", write_share), diagonal=True, bars=bars)
    error = evaluation.figures.get("gender_ece")
    said = f"Expected calibration error {write_number('gender_ece', error.value)}. " if error else ""
    caption = f"{said}On the dashed line a stated probability is true. Orange: how many faces."
    return Chart("reliability", "Reliability of gender", caption, svg)


def _coverage(evaluation: Evaluation) -> Chart | None:
    parts = [*evaluation.parts(AGE), *evaluation.parts(CROSS)]
    rows = dot_rows(parts, "coverage")
    if not rows:
        return None
    promised = evaluation.models[0].coverage
    axis = axis_of(rows, "coverage", reference=promised)
    svg = draw_dots("Interval coverage by part", rows, axis, reference=promised)
    what = "age, and by gender, age and race with 200 faces or more" if evaluation.parts(CROSS) else "age"
    dashed = "Dashed: what the model promises." if promised is not None else "The model promises no coverage."
    return Chart("coverage", "Interval coverage", f"By {what}. {dashed}", svg)


def _gender_risk(evaluation: Evaluation) -> Chart | None:
    curve = evaluation.curves.get("gender_risk")
    if curve is None:
        return None
    caption = "Errors among the surest faces: what a threshold below which the answer is “unknown” would buy."
    return _risk(curve, "gender-risk", "Gender: errors by share answered", "share of errors", write_share, caption)


def _age_risk(evaluation: Evaluation) -> Chart | None:
    curve = evaluation.curves.get("age_risk")
    if curve is None:
        return None
    in_years = "mae" in evaluation.figures
    title = "mean absolute error (years)" if in_years else "share outside the group"
    caption = "Among the faces with the narrowest intervals."
    write = write_plain if in_years else write_share
    return _risk(curve, "age-risk", "Age: error by share answered", title, write, caption)


def _risk(curve: Curve, name: str, title: str, what: str, write: Write, caption: str) -> Chart:
    values = [
        value for figure in curve.figures for value in (figure.value, figure.low, figure.high) if value is not None
    ]
    x = Axis(0, 1, "share of faces answered", write_share)
    svg = draw_lines(title, [Line("", curve.x, tuple(map(dot, curve.figures)))], x, axis_for(values, what, write))
    return Chart(name, title, f"{caption} Shaded: bootstrap 95% interval.", svg)


def _cumulative(evaluation: Evaluation) -> Chart | None:
    curve = evaluation.curves.get("cumulative")
    if curve is None:
        return None
    line = Line("", curve.x, tuple(map(dot, curve.figures)))
    x, y = Axis(0, curve.x[-1], "years off at most", write_plain), Axis(0, 1, "share of faces", write_share)
    title = "Cumulative score"
    return Chart("cumulative", title, "CS@k for every k.", draw_lines(title, [line], x, y))


def _quality(evaluation: Evaluation) -> Chart | None:
    name = "mae" if "mae" in evaluation.figures else "exact"
    rows = dot_rows([*evaluation.parts(SIZE), *evaluation.parts(SHARPNESS)], name)
    if not rows:
        return None
    title = f"{KINDS[name].title} by face size and sharpness"
    caption = "Longer side of the face's box; variance of the Laplacian of the aligned face, in quarters of this set."
    return Chart("quality", title, caption, draw_dots(title, rows, axis_of(rows, name)))
