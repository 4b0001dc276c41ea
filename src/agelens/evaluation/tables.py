"""An evaluation as tables of text, which the Markdown and the HTML report both print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agelens.evaluation.curves import CHALLENGES
from agelens.evaluation.figures import KINDS, write_number
from agelens.evaluation.slices import AGE, CROSS, DATASET, GENDER, RACE, RANGE, SHARPNESS, SIZE
from agelens.evaluation.statistics import Figure

if TYPE_CHECKING:
    from agelens.evaluation.result import Evaluation
    from agelens.evaluation.slices import Slice

IN_SLICES = ("mae", "bias", "cs5", "exact", "one_off", "gender", "gender_ece", "coverage", "width")
IN_COMPARISONS = (
    *("mae", "cs5", "bias", "exact", "one_off"),
    *("gender", "gender_min_race", "gender_ece", "coverage", "width"),
)
IN_SLICES_OF_BANDS = ("exact", "one_off", "gender", "gender_ece", "coverage", "width")
DEFINITIONS = (
    "Every figure is of the faces that were found; pictures without one are counted apart (failures to acquire).",
    "Intervals are bootstrap 95% intervals (percentiles), resampled by person where the data set says who is who and by"
    " picture otherwise. Those of a calibration error or of a worst slice are moved to be around the figure, since"
    " resampling alone makes such figures worse.",
    "Parts with fewer than 30 faces are not shown.",
    "Where several faces are in a picture, the one counts that meets the set's box, or else the central one.",
    "By the estimated years, a face belongs to the age group that holds them or, between groups, to the nearer one.",
    "Coverage of a labelled band is the model's own probability that the age, given the band, lies in its interval.",
)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a title; the first column is a name, the others are numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def write_interval(name: str, figure: Figure) -> str:
    """`[5.02, 5.44]`; nothing where there is none."""
    if figure.low is None or figure.high is None:
        return ""
    return f"[{write_number(name, figure.low)}, {write_number(name, figure.high)}]"


def write_half_width(name: str, figure: Figure) -> str:
    """`5.23 ±0.21`, the half of the interval's width; per cent without their sign behind the ±."""
    if figure.low is None or figure.high is None:
        return write_number(name, figure.value)
    half = (figure.high - figure.low) / 2
    return f"{write_number(name, figure.value)} ±{write_number(name, half).rstrip('%')}"


def list_tables(evaluation: Evaluation) -> list[Table]:
    """All tables that have a row, the summary first."""
    tables = [summarise_figures(evaluation), _folds(evaluation), _gates(evaluation), *_slices(evaluation)]
    return [table for table in tables if table.rows]


def summarise_figures(evaluation: Evaluation) -> Table:
    """Every figure over all faces, the protocol's headline first."""
    names = [*evaluation.protocol.headline, *(name for name in KINDS if name not in evaluation.protocol.headline)]
    rows = []
    for name in names:
        figure = evaluation.figures.get(name)
        if figure is not None:
            said = (write_number(name, figure.value), write_interval(name, figure), f"{figure.faces:,}")
            rows.append((KINDS[name].title, *said))
    return Table("Summary", ("figure", "value", "95% interval", "faces"), tuple(rows))


def _folds(evaluation: Evaluation) -> Table:
    names = [name for name in KINDS if name in evaluation.over_folds]
    head = ("figure", "mean", "standard deviation", "folds")
    rows = []
    for name in sorted(names, key=lambda name: name not in evaluation.protocol.headline):
        spread = evaluation.over_folds[name]
        said = (write_number(name, spread.mean), write_number(name, spread.deviation), f"{spread.folds}")
        rows.append((KINDS[name].title, *said))
    return Table("Over folds", head, tuple(rows), "Mean and sample standard deviation of the folds' own figures.")


def _gates(evaluation: Evaluation) -> Table:
    gates = evaluation.gates

    def said(name: str) -> str:
        figure = gates.get(name)
        return f"{_share(figure)} (n {figure.faces:,})" if figure else ""

    rows = []
    for threshold in CHALLENGES:
        names = [f"challenge_{threshold}_{people}" for people in ("minors", "nearly", "adults")]
        if any(name in gates for name in names):
            rows.append((f"Challenge {threshold}", *map(said, names)))
    head = ("gate", "under 18 who pass", "aged 14 to 17 who pass", "18 and older who pass")
    note = (
        "Who is estimated to be at least that old passes unasked; the first two columns are false positive rates."
        " Shares of the faces, with 95% intervals."
    )
    if "aged_13_16" in gates:
        wrong = "; ".join(
            f"aged {ages} and taken for it: {said(f'aged_13_16_{name}')}"
            for name, ages in (("younger", "8 to 12"), ("older", "17 to 20"))
            if f"aged_13_16_{name}" in gates
        )
        note += f" Aged 13 to 16 and estimated so: {said('aged_13_16')}{'; ' + wrong if wrong else ''}."
    return Table("Age gates", head, tuple(rows), note)


def _share(figure: Figure) -> str:
    interval = f" [{figure.low * 100:.1f}, {figure.high * 100:.1f}]" if figure.low is not None and figure.high else ""
    return f"{figure.value * 100:.1f}%{interval}"


def _slices(evaluation: Evaluation) -> list[Table]:
    titles = {
        AGE: "By labelled age",
        RANGE: "By ranges of age",
        GENDER: "By gender",
        RACE: "By race",
        DATASET: "By data set",
        SIZE: "By size of the face",
        SHARPNESS: "By sharpness",
        CROSS: "By gender, age and race, 200 faces and more",
    }
    names = IN_SLICES if "mae" in evaluation.figures else IN_SLICES_OF_BANDS
    notes = {
        SIZE: "Longer side of the face's box.",
        SHARPNESS: "Quarters of this set by the variance of the Laplacian of the aligned face at 64 pixels.",
    }
    return [tabulate(title, evaluation.parts(by), names, notes.get(by, "")) for by, title in titles.items()]


def tabulate(title: str, parts: Sequence[Slice], names: Sequence[str], note: str = "") -> Table:
    """One row a part, one column a figure, each with half the width of its interval."""
    present = [name for name in names if any(name in part.figures for part in parts)]
    rows = [(part.name, f"{part.faces:,}", *cells(part.figures, present)) for part in parts]
    return Table(title, ("part", "faces", *(KINDS[name].title for name in present)), tuple(rows), note)


def cells(figures: Mapping[str, Figure], names: Sequence[str]) -> list[str]:
    """The figures as text, empty where there is none."""
    return [write_half_width(name, figures[name]) if name in figures else "" for name in names]


def summarise_models(evaluations: Sequence[tuple[str, Evaluation]]) -> Table:
    """One row an evaluation under a name of one's own, with the figures that any of them has."""
    names = [name for name in IN_COMPARISONS if any(name in each.figures for _, each in evaluations)]
    head = ("", "pictures", "no face", *(KINDS[name].title for name in names))
    rows = []
    for title, each in evaluations:
        lost = f"{each.data.failed / each.data.pictures:.2%}"
        rows.append((title, f"{each.data.pictures:,}", lost, *cells(each.figures, names)))
    return Table("All data sets", head, tuple(rows))
