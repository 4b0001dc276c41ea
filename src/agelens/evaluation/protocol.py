"""Protocols: which faces count, what is asked of them, and how the figures are put together. Data, not code."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from agelens.datasets.rows import OLDEST_LABEL
from agelens.errors import NotFoundError, UsageError
from agelens.groups import NAMED

DEFAULTS = {
    "adience": "adience5-zero-shot",
    "utkface": "utkface",
    "fairface": "fairface",
    "aaf": "aaf",
    "fgnet": "fgnet-lopo",
}
"""Which protocol a set is evaluated by where none is named; others by `plain`."""


@dataclass(frozen=True, slots=True)
class Folds:
    """How figures are averaged.

    Attributes:
        by: The column that divides the faces: "fold", or "subject" for leave-one-person-out.
        count: How many there are in the published protocol; None where any number will do.
        all_needed: Whether the figures mean something only with all of them.
    """

    by: Literal["fold", "subject"]
    count: int | None = None
    all_needed: bool = False


@dataclass(frozen=True, slots=True)
class Protocol:
    """One protocol.

    Attributes:
        name: Of its file.
        title: In one line.
        about: What counts, in some sentences.
        source: Who published it.
        ages: Whether labels are exact "years", or "bands" of which only those of the protocol count.
        groups: Name of the set of age groups.
        headline: Names of the figures that are quoted first.
        datasets: Kinds of data sets that it is for; empty: any.
        min_age: Faces labelled younger are left out.
        max_age: Faces labelled older are left out.
        unseen: Whether a model that names the data set among its training data is refused.
        folds: How figures are averaged; None: they are pooled.
    """

    name: str
    title: str
    about: str
    source: str
    ages: Literal["years", "bands"]
    groups: str
    headline: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    min_age: float | None = None
    max_age: float | None = None
    unseen: bool = False
    folds: Folds | None = field(default=None)

    @property
    def needs_all(self) -> bool:
        """Whether its figures are of all faces of a set, whatever part was drawn from it for other ends."""
        return self.folds is not None and (self.folds.all_needed or self.unseen)

    @property
    def bands(self) -> tuple[tuple[float, float], ...]:
        """First and last year of each age group, an open end as 120."""
        return NAMED[self.groups].close(OLDEST_LABEL)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the age groups."""
        return NAMED[self.groups].labels

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is not set is left out."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        if self.folds is not None:
            values["folds"] = {entry.name: getattr(self.folds, entry.name) for entry in fields(self.folds)}
        for name in ("headline", "datasets"):
            values[name] = list(values[name])
        return {name: value for name, value in values.items() if value not in (None, [], False)}

    @staticmethod
    def from_dict(values: Mapping[str, Any], *, name: str) -> Protocol:
        """A protocol from the values of its file.

        Raises:
            UsageError: A key is unknown or missing, or a value makes no sense.
        """
        given = {**values, "name": name}
        for key in given.keys() - {entry.name for entry in fields(Protocol)}:
            raise UsageError(f"the protocol {name} has an unknown key {key!r}{_hint(key, Protocol.__slots__)}")
        try:
            if "folds" in given:
                given["folds"] = Folds(**_checked(given["folds"], _FOLDS_HOLD))
            _checked(given, _HOLDS)
            for key in ("headline", "datasets"):
                given[key] = tuple(given.get(key, ()))
            protocol = Protocol(**given)
        except TypeError as error:
            raise UsageError(f"the protocol {name} is incomplete or wrong: {error}") from error
        if protocol.folds is not None and protocol.folds.by not in ("fold", "subject"):
            raise UsageError(f"the protocol {name} cuts folds by {protocol.folds.by!r}; there are fold and subject")
        if protocol.groups not in NAMED or protocol.ages not in ("years", "bands"):
            raise UsageError(
                f"the protocol {name} asks for {protocol.ages!r} by {protocol.groups!r}; there are years and bands, by"
                f" {', '.join(NAMED)}"
            )
        return protocol


_HOLDS: Final[Mapping[str, tuple[type, ...]]] = {
    "title": (str,),
    "about": (str,),
    "source": (str,),
    "ages": (str,),
    "groups": (str,),
    "headline": (list, tuple),
    "datasets": (list, tuple),
    "min_age": (int, float),
    "max_age": (int, float),
    "unseen": (bool,),
}
_FOLDS_HOLD: Final[Mapping[str, tuple[type, ...]]] = {"by": (str,), "count": (int,), "all_needed": (bool,)}
"""Of what type each value of a file is."""
_IN_WORDS: Final[Mapping[type, str]] = {str: "a text", list: "a list of texts", int: "a number", bool: "true or false"}


def _checked(values: object, hold: Mapping[str, tuple[type, ...]]) -> Mapping[str, Any]:
    """The same values, each of its type.

    Raises:
        TypeError: One isn't.
    """
    if not isinstance(values, Mapping):
        raise TypeError("folds holds by, count and all_needed")
    for key, value in values.items():
        kinds = hold.get(key)
        if kinds is None or value is None:
            continue
        holds_texts = list not in kinds or all(isinstance(each, str) for each in value if type(value) in kinds)
        if type(value) not in kinds or not holds_texts:
            raise TypeError(f"{key} is {_IN_WORDS[kinds[0]]}, not {value!r}")
    return values


def list_protocols() -> tuple[str, ...]:
    """Names of the protocols that ship."""
    files = resources.files("agelens.evaluation.protocols").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load_protocol(name: str) -> Protocol:
    """A protocol that ships, or one's own by the path of its TOML file.

    Raises:
        UsageError: There is none of that name; the message names the nearest.
        NotFoundError: There is no such file.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise NotFoundError(f"there is no protocol file {name}; check the path")
        try:
            text, name = path.read_text("utf-8"), path.stem
        except UnicodeDecodeError as error:
            raise UsageError(f"the protocol file {name} isn't in UTF-8, as TOML has to be; save it anew") from error
    else:
        if name not in list_protocols():
            raise UsageError(f"there is no protocol {name!r}{_hint(name, list_protocols())}")
        text = resources.files("agelens.evaluation.protocols").joinpath(f"{name}.toml").read_text("utf-8")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the protocol {name} is no TOML: {error}") from error
    return Protocol.from_dict(values, name=name)


def default_protocol(kind: str) -> Protocol:
    """The protocol of a kind of data set."""
    return load_protocol(DEFAULTS.get(kind, "plain"))


def _hint(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name.lower(), known, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"
