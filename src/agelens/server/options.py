"""What a request may ask for in its query, checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agelens.errors import UsageError
from agelens.groups import parse_groups
from agelens.server.engine import PictureOptions

LEAST_FACE: Final = 8.0
"""Pixels: to look for smaller faces in a large picture takes longer than a server should take."""

QUERIES_KEPT: Final = 128
LONGEST_KEPT: Final = 512
PRIVATE: Final = frozenset({"source", "url"})
"""What says something of a picture; nothing of that outlives its request."""

Kind = TypeVar("Kind", bound="FaceQuery")
Threshold = Annotated[float, Field(ge=0.5, le=1.0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class FaceQuery(BaseModel):
    """The options of `agelens predict` that concern faces."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["age", "gender", "both"] = Field("both", description="What to estimate.")
    groups: str = Field(
        "adience",
        max_length=400,
        description="Age groups: adience, adience12, fairface, decades, utk, or your own such as `0-12,13-17,18+`.",
        examples=["adience", "0-12,13-17,18+"],
    )
    gender_threshold: Threshold = Field(0.5, description="Below this probability the gender is `unknown`.")
    min_score: Share = Field(0.6, description="Least certainty of a face.")
    min_face: Annotated[float, Field(ge=LEAST_FACE, le=100_000, allow_inf_nan=False)] | None = Field(
        None, description="Least side of a face in pixels. Small ones make the search go deeper and take longer."
    )
    max_faces: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Only so many faces of each picture, the largest."
    )
    url: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="Fetch the picture from this http(s) address, with an empty body. Only where the server allows it.",
    )

    @field_validator("groups")
    @classmethod
    def check_groups(cls, value: str) -> str:
        """Refuses what is no set of age groups."""
        try:
            parse_groups(value)
        except UsageError as error:
            raise ValueError(error.message) from error
        return value

    def options(self) -> PictureOptions:
        """What is asked of each picture."""
        return PictureOptions(
            self.task, self.groups, self.gender_threshold, self.min_score, self.min_face, self.max_faces
        )


class PredictQuery(FaceQuery):
    """And how the records come back."""

    distribution: bool = Field(
        False, description="Add `age_distribution` to each face: the probability of each year of age 0, 1, ... 100."
    )
    format: Literal["json", "jsonl", "csv"] = Field(
        "json",
        description="`json`: the record, or `records` for a form. `jsonl`: one record a line. `csv`: one row a face.",
    )
    source: str | None = Field(
        None, min_length=1, max_length=1024, description="What the record calls the picture of a raw body."
    )


class AnnotateQuery(FaceQuery):
    """And how the picture comes back."""

    format: Literal["jpeg", "png", "webp"] = Field("jpeg", description="Of the picture.")
    label_group: bool = Field(False, description="Also write the age group and its probability.")


def read_queries(kind: type[Kind]) -> Callable[[bytes], Kind]:
    """A function that reads the query of a request; what is asked again and again is read once.

    It raises UsageError for a wrong option. Of one that is given twice the last counts. No name and no address is kept.
    """
    kept: dict[bytes, Kind] = {}

    def read(query: bytes) -> Kind:
        known = kept.get(query)
        if known is not None:
            return known
        given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        try:
            asked = kind.model_validate(given)
        except ValidationError as error:
            raise UsageError(explain(error.errors(), list(kind.model_fields))) from error
        if len(query) <= LONGEST_KEPT and not PRIVATE & given.keys():
            if len(kept) >= QUERIES_KEPT:
                kept.clear()
            kept[query] = asked
        return asked

    return read


def explain(problems: Sequence[Any], known: Sequence[str]) -> str:
    """What is wrong with a query, in a sentence or two.

    Args:
        problems: As pydantic lists them.
        known: The parameters that there are.
    """
    sentences = []
    for problem in problems[:5]:
        name = str(problem["loc"][-1]) if problem["loc"] else "the query"
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            sentences.append(f"there is no parameter {name[:60]!r}; {hint}")
        else:
            text = str(problem["msg"]).removeprefix("Value error, ")
            sentences.append(f"{name}: {text[:1].lower()}{text[1:]}")
    return ". ".join(sentences)
