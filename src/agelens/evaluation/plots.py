"""Plots as inline SVG: four kinds, no library, no script, in the reader's light or dark colours, sharp on paper.

Colours are classes; `STYLE` gives them their values, as custom properties that a page or `standalone` defines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH = 560
"""Width of every plot in its own units; at that width on the screen its text has 12 pixels."""

COLOURS: Final = """\
:root{--bg:#ffffff;--ink:#1a1e24;--muted:#59626e;--grid:#dfe3e8;--one:#1f5fa8;--two:#b8511a;--panel:#f6f7f9}
@media (prefers-color-scheme:dark){:root{--bg:#14171b;--ink:#e6e8eb;--muted:#9aa3ae;--grid:#2e343c;--one:#7db2ea;
--two:#f0a06a;--panel:#1c2026}}
@media print{:root{--bg:#ffffff;--ink:#000000;--muted:#444444;--grid:#d0d0d0;--one:#1f5fa8;--two:#b8511a;--panel:#fff}}
"""
STYLE: Final = """\
svg.plot{display:block;width:100%;height:auto;font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.plot text{fill:var(--ink)}.plot .muted{fill:var(--muted)}.plot .inverse{fill:var(--bg)}
.plot .grid{stroke:var(--grid);stroke-width:1}.plot .axis{stroke:var(--muted);stroke-width:1}
.plot .reference{stroke:var(--muted);stroke-width:1.2;stroke-dasharray:4 3;fill:none}
.plot .one{stroke:var(--one)}.plot .two{stroke:var(--two)}
.plot .line{fill:none;stroke-width:2;stroke-linejoin:round}.plot .whisker{stroke-width:1.5;stroke-linecap:round}
.plot .fill-one{fill:var(--one)}.plot .fill-two{fill:var(--two)}
.plot .band{fill-opacity:.16;stroke:none}.plot .bar{fill-opacity:.3}.plot .hollow{fill:var(--bg);stroke-width:1.8}
"""

Write = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale.

    Attributes:
        low: Value at its start.
        high: Value at its end.
        title: What it shows.
        write: How values are said.
    """

    low: float
    high: float
    title: str
    write: Write

    def ticks(self, about: int = 5) -> list[float]:
        """Round values along it."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-6)
        return [round(index * step, 10) for index in range(first, math.floor(self.high / step + 1e-6) + 1)]

    def place(self, value: float, start: float, end: float) -> float:
        """Where a value stands between two places; what lies outside the axis stands at its end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return start + share * (end - start)


def axis_for(values: Sequence[float], title: str, write: Write, *, zero: bool = True, top: float | None = None) -> Axis:
    """An axis that holds all values, from 0 where `zero` is set, up to `top` at most."""
    low = 0.0 if zero and min(values) >= 0 else min(values)
    high = max(values)
    margin = (high - low or 1.0) * 0.06
    high = high + margin if top is None else min(high + margin, top)
    return Axis(low if zero and low >= 0 else low - margin, max(high, low + 1e-6), title, write)


@dataclass(frozen=True, slots=True)
class Dot:
    """A value with its interval, in the first or the second colour."""

    value: float
    low: float | None = None
    high: float | None = None
    second: bool = False


@dataclass(frozen=True, slots=True)
class DotRow:
    """A row of a dot plot: its label, a note at the right, and one or two values."""

    label: str
    note: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points, with a band where the points have intervals."""

    name: str
    x: tuple[float, ...]
    dots: tuple[Dot, ...]
    marked: bool = False


def draw_dots(title: str, rows: Sequence[DotRow], axis: Axis, *, reference: float | None = None) -> str:
    """Values side by side, one a row, each with its interval."""
    left = min(max(30 + 6.4 * max(len(row.label) for row in rows), 60.0), 200.0)
    right, top, step = WIDTH - 20 - 6.2 * max(len(row.note) for row in rows), 8, 23
    bottom = top + step * len(rows) + 4
    parts = [*_vertical_grid(axis, left, right, top, bottom)]
    if reference is not None:
        x = axis.place(reference, left, right)
        parts.append(_line(x, top, x, bottom, "reference"))
    for index, row in enumerate(rows):
        y = top + step * (index + 0.5) + 2
        parts.append(_text(left - 10, y + 4, row.label, "end"))
        parts.append(_text(right + 12, y + 4, row.note, "start", "muted"))
        for dot in row.dots:
            parts += _dot(dot, axis, left, right, y + (4 if dot.second else -3 if len(row.dots) > 1 else 0))
    return _frame(title, bottom + 42, parts)


def _dot(dot: Dot, axis: Axis, left: float, right: float, y: float) -> list[str]:
    colour = "two" if dot.second else "one"
    parts = []
    if dot.low is not None and dot.high is not None:
        x0, x1 = axis.place(dot.low, left, right), axis.place(dot.high, left, right)
        parts.append(_line(x0, y, x1, y, f"whisker {colour}"))
    parts.append(_circle(axis.place(dot.value, left, right), y, 3.6, colour, hollow=dot.second))
    return parts


def draw_lines(
    title: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    diagonal: bool = False,
    bars: Sequence[tuple[float, float, float]] = (),
) -> str:
    """Lines over a plane.

    Args:
        title: For those who can't see it.
        lines: The first in the first colour, others in the second.
        x: The axis below.
        y: The axis at the left.
        diagonal: Whether to draw where x equals y.
        bars: From where to where, and how high as a share of the plot's height: a histogram below the lines.
    """
    left, right, top, bottom = 62, WIDTH - 16, 12, 292
    parts = [*_vertical_grid(x, left, right, top, bottom), *_horizontal_grid(y, left, right, top, bottom)]
    for low, high, share in bars:
        x0, x1 = x.place(low, left, right) + 1, x.place(high, left, right) - 1
        height = share * (bottom - top)
        parts.append(
            f'<rect class="bar fill-two" x="{x0:.1f}" y="{bottom - height:.1f}" width="{max(x1 - x0, 0.5):.1f}"'
            f' height="{height:.1f}"/>'
        )
    if diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        ends = [(x.place(at, left, right), y.place(at, bottom, top)) for at in (low, high)]
        parts.append(_line(*ends[0], *ends[1], "reference"))
    for index, line in enumerate(lines):
        colour = "two" if index else "one"
        across = [x.place(at, left, right) for at in line.x]
        parts += _draw_line(line, across, y, colour, bottom, top)
        if len(lines) > 1:
            parts.append(_text(right - 8, top + 16 + 17 * index, line.name, "end", f"fill-{colour}"))
    return _frame(title, bottom + 44, parts)


def _draw_line(line: Line, across: list[float], y: Axis, colour: str, bottom: float, top: float) -> list[str]:
    parts = []
    known = [(at, dot) for at, dot in zip(across, line.dots, strict=True) if dot.low is not None]
    if known and not line.marked:
        upper = [f"{at:.1f},{y.place(dot.high or 0.0, bottom, top):.1f}" for at, dot in known]
        lower = [f"{at:.1f},{y.place(dot.low or 0.0, bottom, top):.1f}" for at, dot in reversed(known)]
        parts.append(f'<polygon class="band fill-{colour}" points="{" ".join([*upper, *lower])}"/>')
    middle = [f"{at:.1f},{y.place(dot.value, bottom, top):.1f}" for at, dot in zip(across, line.dots, strict=True)]
    parts.append(f'<polyline class="line {colour}" points="{" ".join(middle)}"/>')
    if line.marked:
        for at, dot in zip(across, line.dots, strict=True):
            if dot.low is not None and dot.high is not None:
                ends = (y.place(dot.low, bottom, top), y.place(dot.high, bottom, top))
                parts.append(_line(at, ends[0], at, ends[1], f"whisker {colour}"))
            parts.append(_circle(at, y.place(dot.value, bottom, top), 3.6, colour))
    return parts


def draw_heat(title: str, labels: Sequence[str], counts: Sequence[Sequence[int]], answer: str, label: str) -> str:
    """A confusion matrix: each row's shares in per cent and in colour; `label` names the rows, `answer` the columns."""
    left, top = 106, 40
    cell = min((WIDTH - left - 70) / len(labels), 110.0)
    height = min(cell, 40.0)
    right, bottom = left + cell * len(labels), top + height * len(labels)
    parts = [
        _text((left + right) / 2, 14, answer, "middle", "muted"),
        _text(right + 10, top - 8, "faces", "start", "muted"),
        f'<text class="muted" text-anchor="middle" transform="translate(12 {(top + bottom) / 2:.1f}) rotate(-90)">'
        f"{escape(label)}</text>",
    ]
    for row, name in enumerate(labels):
        y, total = top + row * height, sum(counts[row])
        parts.append(_text(left - 8, y + height / 2 + 4, name, "end"))
        parts.append(_text(right + 10, y + height / 2 + 4, f"{total:,}", "start", "muted"))
        parts.append(_text(left + (row + 0.5) * cell, top - 8, name, "middle"))
        for column in range(len(labels)):
            share = counts[row][column] / total if total else 0.0
            parts += _cell(left + column * cell, y, cell, height, share)
    return _frame(title, bottom + 10, parts)


def _cell(x: float, y: float, width: float, height: float, share: float) -> list[str]:
    shape = f'x="{x + 1:.1f}" y="{y + 1:.1f}" width="{width - 2:.1f}" height="{height - 2:.1f}"'
    parts = [f'<rect class="fill-one" {shape} rx="2" fill-opacity="{0.04 + 0.96 * share:.3f}"/>']
    if share >= 0.005:
        colour = "inverse" if share > 0.5 else ""
        parts.append(_text(x + width / 2, y + height / 2 + 4, f"{share * 100:.0f}", "middle", colour))
    return parts


def standalone(svg: str) -> str:
    """A plot as a file of its own."""
    opened = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    background = f'<rect width="{WIDTH}" height="100%" fill="var(--bg)"/>'
    return opened.replace("</title>", f"</title><style>{COLOURS.replace(':root', 'svg')}{STYLE}</style>{background}", 1)


def _frame(title: str, height: float, parts: Sequence[str]) -> str:
    name = escape(title, quote=True)
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{name}"><title>{name}</title>'
        f"{''.join(parts)}</svg>"
    )


def _vertical_grid(axis: Axis, left: float, right: float, top: float, bottom: float) -> list[str]:
    parts = []
    for tick in axis.ticks():
        x = axis.place(tick, left, right)
        parts.append(_line(x, top, x, bottom, "grid"))
        parts.append(_text(x, bottom + 16, axis.write(tick), "middle", "muted"))
    parts.append(_line(left, bottom, right, bottom, "axis"))
    parts.append(_text((left + right) / 2, bottom + 34, axis.title, "middle", "muted"))
    return parts


def _horizontal_grid(axis: Axis, left: float, right: float, top: float, bottom: float) -> list[str]:
    parts = []
    for tick in axis.ticks():
        y = axis.place(tick, bottom, top)
        parts.append(_line(left, y, right, y, "grid"))
        parts.append(_text(left - 8, y + 4, axis.write(tick), "end", "muted"))
    middle = (top + bottom) / 2
    parts.append(
        f'<text class="muted" text-anchor="middle" transform="translate(13 {middle:.1f}) rotate(-90)">'
        f"{escape(axis.title)}</text>"
    )
    return parts


def _line(x0: float, y0: float, x1: float, y1: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def _circle(x: float, y: float, radius: float, colour: str, *, hollow: bool = False) -> str:
    kind = f"hollow {colour}" if hollow else f"fill-{colour}"
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
