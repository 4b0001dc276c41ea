"""Sets of age groups."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agelens.errors import UsageError
from agelens.groups import NAMED, parse_groups


def one_hot(year: int) -> tuple[float, ...]:
    return tuple(float(y == year) for y in range(101))


@pytest.mark.parametrize("name", NAMED)
def test_each_year_belongs_to_one_group_and_groups_follow_age(name: str) -> None:
    groups = parse_groups(name)
    assert groups.name == name
    assert len(groups.member) == 101
    assert sorted(groups.member) == list(groups.member)
    assert set(groups.member) == set(range(len(groups.labels)))
    assert len(set(groups.labels)) == len(groups.labels)
    for year in range(101):
        assert groups.choose(one_hot(year)) == (groups.labels[groups.member[year]], 1.0)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("adience", "(0, 2)|(4, 6)|(8, 12)|(15, 20)|(25, 32)|(38, 43)|(48, 53)|(60, 100)"),
        (
            "adience12",
            "(0, 2)|(4, 6)|(8, 12)|(15, 20)|(21, 24)|(25, 32)|(33, 37)|(38, 43)|(44, 47)|(48, 53)|(54, 59)|(60, 100)",
        ),
        ("fairface", "0-2|3-9|10-19|20-29|30-39|40-49|50-59|60-69|70+"),
        ("decades", "0-9|10-19|20-29|30-39|40-49|50-59|60-69|70-79|80-89|90+"),
    ],
)
def test_labels_are_those_of_the_sets(name: str, labels: str) -> None:
    assert parse_groups(name).labels == tuple(labels.split("|"))


@pytest.mark.parametrize(
    ("year", "label"),
    [
        *((0, "(0, 2)"), (3, "(0, 2)"), (4, "(4, 6)"), (7, "(4, 6)"), (13, "(8, 12)"), (14, "(15, 20)")),
        *((22, "(15, 20)"), (23, "(25, 32)"), (35, "(25, 32)"), (36, "(38, 43)"), (45, "(38, 43)"), (46, "(48, 53)")),
        *((56, "(48, 53)"), (57, "(60, 100)"), (100, "(60, 100)")),
    ],
)
def test_a_year_between_two_adience_groups_belongs_to_the_nearer(year: int, label: str) -> None:
    assert parse_groups("adience").choose(one_hot(year)) == (label, 1.0)


def test_the_group_is_the_one_with_most_mass_not_the_one_of_the_mean() -> None:
    distribution = [0.0] * 101
    distribution[5], distribution[50], distribution[51] = 0.4, 0.35, 0.25
    assert parse_groups("decades").choose(tuple(distribution)) == ("50-59", pytest.approx(0.6))


def test_the_younger_group_wins_a_tie() -> None:
    distribution = [0.0] * 101
    distribution[5] = distribution[50] = 0.5
    assert parse_groups("decades").choose(tuple(distribution)) == ("0-9", 0.5)


def test_a_probability_is_never_above_one() -> None:
    assert parse_groups("0+").choose(tuple([1 / 101 + 1e-12] * 101)) == ("0+", 1.0)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("0-12,13-17,18+", ("0-12", "13-17", "18+")),
        (" 0 - 12 , 13–17 ,18+ ", ("0-12", "13-17", "18+")),
        ("0+", ("0+",)),
        ("0,1,2+", ("0", "1", "2+")),
        ("0-49,50-100", ("0-49", "50-100")),
        ("0-49,50-120", ("0-49", "50-120")),
    ],
)
def test_own_groups(text: str, labels: tuple[str, ...]) -> None:
    groups = parse_groups(text)
    assert groups.labels == labels
    assert groups.choose(one_hot(100)) == (labels[-1], 1.0)
    assert groups.choose(one_hot(0)) == (labels[0], 1.0)


@given(st.lists(st.integers(1, 99), min_size=1, max_size=12, unique=True))
def test_any_cuts_make_a_set_that_says_where_each_year_belongs(cuts: list[int]) -> None:
    starts = [0, *sorted(cuts)]
    bands = [f"{low}-{high - 1}" for low, high in itertools.pairwise(starts)]
    groups = parse_groups(",".join([*bands, f"{starts[-1]}+"]))
    for year in range(101):
        assert groups.member[year] == sum(year >= start for start in starts) - 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0-12,14+", "14 where 13 is due"),
        ("0-12,12+", "12 where 13 is due"),
        ("1-12,13+", "1 where 0 is due"),
        ("13+,0-12", "13 where 0 is due"),
        ("0-12,13-10,11+", "13"),
        ("0-12,13-17", "must be open, such as 13+"),
        ("0-12,13-99", "ends at 99"),
        ("0+,13+", "13 where"),
        ("", "no age group"),
        ("0-12,,13+", "no age group"),
        ("0-12,13+,", "no age group"),
        ("decade", "use one of adience"),
        ("0-12;13+", "no age group"),
        ("-5,6+", "no age group"),
        ("0-1000,1001+", "no age group"),
        ("0.5-3,4+", "no age group"),
    ],
)
def test_wrong_groups_are_refused_with_what_is_due(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_groups(text)
    assert told in caught.value.message
    assert caught.value.exit_status == 2
