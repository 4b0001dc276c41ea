"""Protocols are data: all of them load, and a wrong one is told what to do."""

from __future__ import annotations

import pytest

from agelens.errors import NotFoundError, UsageError
from agelens.evaluation.figures import KINDS
from agelens.evaluation.protocol import DEFAULTS, Protocol, default_protocol, list_protocols, load_protocol
from agelens.groups import NAMED

NAMES = ("adience5", "adience5-zero-shot", "utkface", "utkface-21-60", "fairface", "aaf", "fgnet-lopo", "cross")


def test_all_that_are_promised_ship():
    assert set(NAMES) <= set(list_protocols())


@pytest.mark.parametrize("name", list_protocols())
def test_a_protocol_is_whole(name):
    protocol = load_protocol(name)
    assert protocol.name == name
    assert protocol.source
    assert set(protocol.headline) <= KINDS.keys()
    assert len(protocol.bands) == len(protocol.labels) == len(NAMED[protocol.groups].labels)
    assert Protocol.from_dict(protocol.to_dict(), name=name) == protocol


def test_defaults_exist():
    assert {default_protocol(kind).name for kind in DEFAULTS} == set(DEFAULTS.values())
    assert default_protocol("table").name == "plain"


def test_a_misspelt_name_is_told_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'adience5'"):
        load_protocol("adience-5")
    with pytest.raises(UsageError, match="there are: aaf"):
        load_protocol("xyz")


WHOLE = 'title="t"\nabout="a"\nsource="s"\nages="years"\ngroups="utk"\nheadline=["mae"]\n'


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ('min_age="21"', "min_age is a number, not '21'"),
        ('datasets="table"', "datasets is a list of texts, not 'table'"),
        ("datasets=[1]", "datasets is a list of texts"),
        ("unseen=1", "unseen is true or false, not 1"),
        ("max_age=true", "max_age is a number, not True"),
        ('folds={by="fold",count="five"}', "count is a number, not 'five'"),
        ('folds={by="folds"}', "cuts folds by 'folds'; there are fold and subject"),
        ("folds=5", "folds holds by, count and all_needed"),
    ],
)
def test_a_value_of_the_wrong_type_is_told(tmp_path, wrong, told):
    file = tmp_path / "mine.toml"
    file.write_text(WHOLE)
    assert load_protocol(str(file)).name == "mine"
    file.write_text(f"{WHOLE}{wrong}\n")
    with pytest.raises(UsageError, match=told):
        load_protocol(str(file))


def test_a_file_in_another_encoding_is_told(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_bytes(WHOLE.replace("t", "é").encode("latin-1"))
    with pytest.raises(UsageError, match="isn't in UTF-8"):
        load_protocol(str(file))


def test_ones_own_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('title="t"\nabout="a"\nsource="s"\nages="years"\ngroups="utk"\nheadline=["mae"]\nmax_age=30\n')
    protocol = load_protocol(str(file))
    assert (protocol.name, protocol.max_age, protocol.labels[0]) == ("mine", 30, "0-5")
    file.write_text(file.read_text() + "maxage=3\n")
    with pytest.raises(UsageError, match="unknown key 'maxage'; did you mean 'max_age'"):
        load_protocol(str(file))
    file.write_text("title=")
    with pytest.raises(UsageError, match="no TOML"):
        load_protocol(str(file))
    file.write_text('title="t"\n')
    with pytest.raises(UsageError, match="incomplete"):
        load_protocol(str(file))
    file.write_text('title="t"\nabout="a"\nsource="s"\nages="years"\ngroups="nine"\nheadline=["mae"]\n')
    with pytest.raises(UsageError, match="'nine'"):
        load_protocol(str(file))
    with pytest.raises(NotFoundError, match="no protocol file"):
        load_protocol(str(tmp_path / "none.toml"))
