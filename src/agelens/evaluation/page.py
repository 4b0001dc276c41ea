"""An evaluation as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from agelens.evaluation.charts import Chart, draw_charts
from agelens.evaluation.figures import KINDS, write_number
from agelens.evaluation.markdown import describe_data, headline
from agelens.evaluation.plots import COLOURS, STYLE
from agelens.evaluation.tables import DEFINITIONS, Table, list_tables, write_interval

if TYPE_CHECKING:
    from agelens.evaluation.result import Evaluation

LAYOUT: Final = """\
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
-webkit-print-color-adjust:exact;print-color-adjust:exact}
main{max-width:1180px;margin:0 auto;padding:32px 24px 48px}
h1{font-size:26px;line-height:1.25;margin:0 0 4px}h2{font-size:19px;margin:40px 0 12px}h3{font-size:15px;margin:0 0 8px}
p{margin:0 0 8px}.muted{color:var(--muted)}
code{font:12.5px ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.warning{border-left:4px solid var(--two);background:var(--panel);padding:8px 14px;margin:12px 0}
.keys{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin:20px 0 8px}
.key{background:var(--panel);border:1px solid var(--grid);border-radius:8px;padding:12px 16px}
.key b{display:block;font-size:28px;line-height:1.2;font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:20px 28px;align-items:start}
figure{margin:0;break-inside:avoid}figcaption{color:var(--muted);font-size:13px;margin-top:4px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{padding:4px 9px;border-bottom:1px solid var(--grid);text-align:right;white-space:nowrap}
th{font-weight:600;color:var(--muted);vertical-align:bottom;white-space:normal}
th:first-child,td:first-child{text-align:left;padding-left:0}
td:last-child,th:last-child{padding-right:0}tr{break-inside:avoid}thead{display:table-header-group}
section.table{break-inside:avoid;margin:0 0 28px}.table p{font-size:13px;margin-top:4px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:12px 0}
dt{color:var(--muted)}dd{margin:0;min-width:0}
ul{padding-left:20px;margin:8px 0}
.faces{display:grid;grid-template-columns:repeat(auto-fill,minmax(120px,1fr));gap:14px}
.faces img{width:100%;aspect-ratio:1;object-fit:cover;border-radius:6px;display:block}
.faces figcaption{font-size:12px;overflow-wrap:anywhere}
@media (max-width:560px){main{padding:20px 14px 32px}
dl{grid-template-columns:1fr}dd{margin-bottom:6px}h1{font-size:22px}}
@page{size:A4;margin:14mm}
@media print{body{font-size:10.5pt}main{padding:0;max-width:none}h2{margin-top:22px}h2,h3{break-after:avoid}
.charts{grid-template-columns:1fr 1fr;gap:14px 18px}table{font-size:8pt}th,td{padding:2px 5px}.scroll{overflow:visible}
.key b{font-size:18pt}figcaption,.table p{font-size:8.5pt}th{white-space:normal}}
"""


@dataclass(frozen=True, slots=True)
class WorstCase:
    """A face that the model judged worst.

    Attributes:
        caption: What the label and the model say.
        source: The picture.
        image: A small copy as a `data:` address.
    """

    caption: str
    source: str
    image: str


def write_page(evaluation: Evaluation, worst: Sequence[WorstCase] = ()) -> str:
    """The whole file.

    Args:
        evaluation: What to report.
        worst: Faces to show. They are people: a report that holds any is not for others.
    """
    title = escape(headline(evaluation))
    tables = list_tables(evaluation)
    body = [
        f"<header><h1>{title}</h1>{_subtitle(evaluation)}{_warnings(evaluation)}{_keys(evaluation)}</header>",
        _section("Summary", _table(tables[0], titled=False)),
        _section("Plots", f'<div class="charts">{"".join(map(_chart, draw_charts(evaluation)))}</div>'),
        _section("Tables", "".join(map(_table, tables[1:]))),
    ]
    if worst:
        body.append(_section("Worst cases: for your eyes only", _faces(worst)))
    body += [_section("What was measured, and how", _facts(evaluation))]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>\n{COLOURS}{STYLE}{LAYOUT}</style>\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(body)}\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _subtitle(evaluation: Evaluation) -> str:
    model = evaluation.models[0]
    return (
        f'<p class="muted">{escape(describe_data(evaluation))}<br>{escape(evaluation.origin.date[:10])} · sha256'
        f" <code>{escape(model.sha256[:16])}…</code> · {escape(evaluation.origin.mode)}</p>"
    )


def _warnings(evaluation: Evaluation) -> str:
    leaks = [f"<b>Leak allowed, figures too good:</b> {escape(reason)}." for reason in evaluation.leaks]
    lines = [*leaks, *(f"<b>Note:</b> {escape(alarm)}." for alarm in evaluation.alarms)]
    return "".join(f'<p class="warning">{line}</p>' for line in lines)


def _keys(evaluation: Evaluation) -> str:
    boxes = []
    for name in evaluation.protocol.headline:
        figure = evaluation.figures.get(name)
        if figure is None:
            continue
        spread = evaluation.over_folds.get(name)
        said, below = write_number(name, figure.value), write_interval(name, figure)
        if spread is not None:
            said = write_number(name, spread.mean)
            below = f"±{write_number(name, spread.deviation)} over {spread.folds} folds"
        boxes.append(
            f'<div class="key"><span class="muted">{escape(KINDS[name].title)}</span><b>{said}</b>'
            f'<span class="muted">{escape(below)}</span></div>'
        )
    return f'<div class="keys">{"".join(boxes)}</div>'


def _chart(chart: Chart) -> str:
    return f"<figure><h3>{escape(chart.title)}</h3>{chart.svg}<figcaption>{escape(chart.caption)}</figcaption></figure>"


def _table(table: Table, *, titled: bool = True) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    title = f"<h3>{escape(table.title)}</h3>" if titled else ""
    note = f'<p class="muted">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<section class="table">{title}<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}</section>"
    )


def _faces(worst: Sequence[WorstCase]) -> str:
    figures = "".join(
        f'<figure><img alt="" src="{escape(case.image, quote=True)}"><figcaption>{escape(case.caption)}<br>'
        f'<span class="muted">{escape(case.source)}</span></figcaption></figure>'
        for case in worst
    )
    warning = '<p class="muted">These are pictures of people: keep this file to yourself.</p>'
    return f'{warning}<div class="faces">{figures}</div>'


def _facts(evaluation: Evaluation) -> str:
    data, origin = evaluation.data, evaluation.origin
    made = f"agelens {origin.agelens}, {origin.date}, {origin.device}, {origin.rounds:,} bootstrap samples"
    facts = [
        *(
            (f"Model {model.name}", f"version {model.version}, {model.licence}", model.sha256)
            for model in evaluation.models
        ),
        ("Trained on", "; ".join(evaluation.models[0].training_data) or "not stated", ""),
        ("Data", f"{data.file or data.kind}, {data.part}; fingerprint", data.fingerprint),
        ("Protocol", f"{evaluation.protocol.name}: {evaluation.protocol.about} ({evaluation.protocol.source})", ""),
        ("Command", "", origin.command),
        ("Made by", made, ""),
    ]
    listed = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}{f' <code>{escape(code)}</code>' if code else ''}</dd>"
        for name, text, code in facts
    )
    kinds = [f"<b>{escape(KINDS[name].title)}</b>: {escape(KINDS[name].about)}" for name in evaluation.figures]
    definitions = "".join(f"<li>{line}</li>" for line in [*map(escape, DEFINITIONS), *kinds])
    return f'<dl>{listed}</dl><ul class="muted">{definitions}</ul>'
