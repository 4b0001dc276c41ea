"""Reports: whole, self-contained, and true to the evaluation."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agelens.evaluation.card import write_card
from agelens.evaluation.charts import draw_charts, write_share
from agelens.evaluation.compare import compare, tabulate_comparison
from agelens.evaluation.markdown import write_markdown, write_table
from agelens.evaluation.page import WorstCase, write_page
from agelens.evaluation.plots import Axis, axis_for, standalone
from agelens.evaluation.result import DataFacts, Evaluation, ModelFacts, Origin
from agelens.evaluation.run import summarise
from agelens.evaluation.worst import find_worst
from evaluation_makers import BANDS, EXACT, random_predictions
from stand_in import make_spec

SHA = "ab" * 32


def made(protocol=EXACT, seed=0, sha256=SHA) -> Evaluation:
    said = random_predictions(900, seed)
    model = ModelFacts("<model> & co", sha256, "1", "MIT", 0.9, ("FairFace",))
    data = DataFacts("table", "set.jsonl", "f" * 64, "test", 903, 0, 3)
    origin = Origin("0.1.0", "2026-01-02T03:04:05+00:00", "agelens evaluate <x>", "end to end", "cpu", 30)
    return summarise(said, Evaluation((model,), data, protocol, origin, {}, leaks=("seen & known",)))


@pytest.fixture(scope="module", params=["years", "bands"])
def evaluation(request: pytest.FixtureRequest) -> Evaluation:
    return made(EXACT if request.param == "years" else BANDS)


class Reader(HTMLParser):
    """Collects what could load something, and checks that every element is closed."""

    VOID = ("meta", "img", "br")
    LOADING = ("src", "href", "srcset", "data", "xlink:href")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [
            value for name, value in attributes if name in ("src", "href", "srcset", "data", "xlink:href")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_is_whole_and_needs_nothing_else(evaluation: Evaluation) -> None:
    page = write_page(evaluation)
    reader = read(page)
    assert reader.addresses == []
    assert not {"script", "link", "iframe", "object", "img", "base"} & set(reader.tags)
    assert not re.search(r"url\(|@import|https?://", page)
    assert reader.tags.count("svg") == len(draw_charts(evaluation)) >= 8
    text = " ".join(reader.text)
    for part in (SHA, "<model> & co", "seen & known", "f" * 64, "agelens evaluate <x>", "Age gates"):
        assert part in text or (part == "Age gates" and evaluation.protocol is BANDS)


def test_figures_stand_in_the_page_and_in_the_markdown(evaluation: Evaluation) -> None:
    gender = evaluation.figures["gender"]
    said = f"{gender.value * 100:.1f}%"
    span = f"[{gender.low * 100:.1f}%, {gender.high * 100:.1f}%]"
    for text in (write_page(evaluation), write_markdown(evaluation)):
        assert said in text
        assert span in text
        assert SHA in text
    assert "LEAK ALLOWED" in write_markdown(evaluation)


def test_markdown_tables_are_rectangular(evaluation: Evaluation) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", write_markdown(evaluation), re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_plots_are_valid_and_inside_their_frame(evaluation: Evaluation) -> None:
    for chart in draw_charts(evaluation):
        root = ElementTree.fromstring(standalone(chart.svg))
        width, height = (float(value) for value in root.attrib["viewBox"].split()[2:])
        for element in root.iter():
            for name, most in (
                ("x", width),
                ("x1", width),
                ("cx", width),
                ("y", height),
                ("y2", height),
                ("cy", height),
            ):
                if name in element.attrib:
                    assert -1 <= float(element.attrib[name]) <= most + 1, (chart.name, element.attrib)


def test_no_face_is_shown_unasked(evaluation: Evaluation) -> None:
    assert "data:image" not in write_page(evaluation)
    pixels = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)
    cases = find_worst(evaluation, 6, lambda _: pixels)
    assert len(cases) == 6
    page = write_page(evaluation, cases)
    reader = read(page)
    assert len(reader.addresses) == 6
    assert all(address.startswith("data:image/jpeg;base64,") for address in reader.addresses)
    assert "keep this file to yourself" in page


def test_the_worst_cases_are_the_worst() -> None:
    evaluation = made()
    asked: list[int] = []

    def pixels_of(index: int) -> np.ndarray:
        asked.append(index)
        return np.zeros((8, 8, 3), np.uint8)

    cases = find_worst(evaluation, 4, pixels_of)
    said = evaluation.predictions
    off = np.abs(said.years - said.age_low)
    assert off[asked[0]] == off.max()
    assert isinstance(cases[0], WorstCase)
    assert cases[0].caption.startswith(f"{said.age_low[asked[0]]:g} ")


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_ticks_are_round_and_inside(low: float, span: float) -> None:
    axis = Axis(low, low + span, "", str)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 11
    assert all(low - span * 1e-3 <= tick <= low + span * 1.001 for tick in ticks)


def test_axes_hold_their_values() -> None:
    axis = axis_for([0.2, 0.99], "", str, zero=False, top=1.0)
    assert axis.low < 0.2
    assert axis.high == 1.0
    assert axis_for([3.0, 5.0], "", str).low == 0.0
    assert axis_for([-3.0, 5.0], "", str).low < -3
    assert axis_for([0.0], "", str).high > 0
    assert (write_share(0.9), write_share(0.125)) == ("90%", "12.5%")


def test_the_card_is_bound_to_the_file(evaluation: Evaluation) -> None:
    card = write_card(make_spec(), SHA, 2_000_000, [evaluation], folder="stand-in")
    assert SHA in card.text
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", card.text)
    assert sorted(links) == sorted(card.plots)
    assert len(links) >= 4
    for svg in card.plots.values():
        ElementTree.fromstring(svg)
    with pytest.raises(ValueError, match="not of the model"):
        write_card(make_spec(), "cd" * 32, 1, [evaluation], folder="x")


def test_a_comparison_is_a_table() -> None:
    first, second = made(seed=0), made(seed=0)
    tables = tabulate_comparison(compare(first, second, rounds=20))
    assert [table.title for table in tables] == ["All faces"]
    assert "| MAE | " in write_table(tables[0])
    assert "| 0.00 | [0.00, 0.00] |" in write_table(tables[0])
