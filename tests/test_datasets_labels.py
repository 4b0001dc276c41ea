"""What label files say, in every notation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agelens.datasets.adience_labels import LABEL_SETS, group_label, read_age_label
from agelens.datasets.labels import (
    known_text,
    parse_age,
    parse_gender,
    parse_mangled_age,
    parse_split,
    parse_whole,
    with_point,
    write_age,
)
from agelens.errors import UsageError
from dataset_makers import ODD_AGES, STANDARD_AGES


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("35", (35, 35)),
        ("24.7", (24.7, 24.7)),
        ("20-29", (20, 29)),
        ("0-2", (0, 2)),
        ("(25, 32)", (25, 32)),
        ("(25,32)", (25, 32)),
        ("25, 32", (25, 32)),
        ("35,0", None),  # a decimal comma, or a band?
        ("24,5", None),
        ("25 ,32", None),
        ("[25, 32]", (25, 32)),
        ("18 to 25", (18, 25)),
        ("18_25", (18, 25)),
        ("(25, 23)", (23, 25)),
        ("70+", (70, 120)),
        ("more than 70", (70, 120)),
        ("More than 70", (70, 120)),
        (">=70", (70, 120)),
        ("70 and older", (70, 120)),
        ("None", None),
        ("", None),
        ("-5", None),
        ("2014", None),
        ("121", None),
        ("03-Sep", None),
        ("male", None),
        ("person_12", None),
    ],
)
def test_ages_in_every_notation(text: str, band: tuple[float, float] | None) -> None:
    assert parse_age(text) == band


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("03-Sep", (3, 9)),
        ("Oct-19", (10, 19)),
        ("9-Mar", (3, 9)),
        ("19-Oct", (10, 19)),
        ("19-October", (10, 19)),
        ("9-March", (3, 9)),
        ("3-Sep", (3, 9)),
        ("3-9", None),
        ("03-Xyz", None),
        ("", None),
    ],
)
def test_bands_that_became_dates(text: str, band: tuple[float, float] | None) -> None:
    assert parse_mangled_age(text) == band


@given(st.integers(0, 119), st.integers(0, 119))
def test_a_written_age_reads_back(one: int, other: int) -> None:
    band = (float(min(one, other)), float(max(one, other)))
    assert parse_age(write_age(band)) == band
    assert parse_age(f"({one}, {other})") == band


def test_numbers_are_never_genders() -> None:
    assert [parse_gender(text) for text in ("f", "M", "Female", "men", " male ")] == [
        *("female", "male", "female", "male", "male"),
    ]
    assert [parse_gender(text) for text in ("0", "1", "", "u", "unknown", "x")] == [None] * 6


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3), ("3.0", 3), ("3,00", 3), ("0.", 0), ("3.5", None), ("-1", None), ("a", None), ("", None)],
)
def test_whole_numbers_as_data_frames_write_them(text: str, number: int | None) -> None:
    assert parse_whole(text) == number


def test_splits_points_and_what_is_missing() -> None:
    assert [parse_split(text) for text in ("Train", "dev", "testing", "eval", "")] == [
        "train",
        "val",
        "test",
        None,
        None,
    ]
    assert [with_point(text) for text in ("24,5", "-3,0", "24.5", "(24,5)", "1,2,3")] == [
        *("24.5", "-3.0", "24.5", "(24,5)", "1,2,3"),
    ]
    assert [known_text(text) for text in ("ann", "NaN", "-1", "unknown", "")] == ["ann", None, None, None, None]


def test_the_twelve_groups_stand_in_the_original_order() -> None:
    assert [group_label(band) for band in LABEL_SETS["adience12"]] == [
        *("(0, 2)", "(4, 6)", "(8, 12)", "(15, 20)", "(21, 24)", "(25, 32)"),
        *("(33, 37)", "(38, 43)", "(44, 47)", "(48, 53)", "(54, 59)", "(60, 100)"),
    ]
    assert [group_label(band) for band in LABEL_SETS["adience"]] == list(STANDARD_AGES)


ORIGINAL_REPAIRS = {
    **{"3": "(0, 2)", "2": "(0, 2)", "13": "(8, 12)", "(8, 23)": "(8, 12)", "22": "(21, 24)", "23": "(21, 24)"},
    **{"29": "(25, 32)", "32": "(25, 32)", "(27, 32)": "(25, 32)", "(25, 23)": "(25, 32)"},
    **{"34": "(33, 37)", "35": "(33, 37)", "36": "(33, 37)", "42": "(38, 43)", "(38, 48)": "(38, 43)"},
    **{"(38, 42)": "(38, 43)", "45": "(44, 47)", "46": "(44, 47)", "55": "(54, 59)", "56": "(54, 59)"},
    **{"57": "(54, 59)", "58": "(54, 59)"},
}


@pytest.mark.parametrize("text", [age for age in ODD_AGES if age != "None"])
def test_adience12_repairs_as_the_original_did(text: str) -> None:
    label = read_age_label(text, "adience12")
    assert label.group == ORIGINAL_REPAIRS[text]
    assert label.change == f"{text} -> {label.group}"
    assert not label.lack


def test_the_true_age_outlives_its_group() -> None:
    assert read_age_label("13", "adience12").band == (13, 13)
    assert read_age_label("(8, 23)", "adience12").band == (8, 23)
    assert read_age_label("35").band == (35, 35)


@pytest.mark.parametrize("groups", ["adience", "adience12"])
@pytest.mark.parametrize("text", STANDARD_AGES)
def test_published_groups_are_left_alone(text: str, groups: str) -> None:
    label = read_age_label(text, groups)
    assert (label.group, label.change, label.lack) == (text, "", "")


def test_the_published_protocol_guesses_nothing() -> None:
    grouped = {text for text in ODD_AGES if read_age_label(text).group}
    assert grouped == {"(25, 23)"}  # a slip: the other edition has (25, 32) there
    assert read_age_label("(25, 23)").band == (25, 32)
    held = {text: read_age_label(text, repair=True).group for text in ODD_AGES if text != "(25, 23)"}
    assert {text: group for text, group in held.items() if group} == {
        **{"29": "(25, 32)", "32": "(25, 32)", "2": "(0, 2)", "42": "(38, 43)"},
        **{"(27, 32)": "(25, 32)", "(38, 42)": "(38, 43)"},
    }


def test_what_is_no_age_is_said_to_be_none() -> None:
    assert read_age_label("None").lack == read_age_label("").lack == "not given"
    assert read_age_label("baby").lack == "baby is no age"
    assert read_age_label("None").band is None


def test_an_unknown_label_set_is_refused() -> None:
    with pytest.raises(UsageError, match="adience12"):
        read_age_label("35", "adience13")
