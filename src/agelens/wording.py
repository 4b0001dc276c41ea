"""How an estimate is said to people: on pictures and in tables."""

from __future__ import annotations

import math

from agelens.types import Age, Face, Gender

NO_FACE = "NO FACE DETECTED"


def describe_age(age: Age) -> str:
    """`31 (24–39)`: the nearest whole year, and the interval in completed years, which always holds that year."""
    years = math.floor(age.years + 0.5)
    low, high = min(math.floor(age.low), years), max(math.floor(age.high), years)
    return f"{years} ({low}–{high})"


def describe_group(age: Age) -> str:
    """`(25, 32) 61%`."""
    return f"{age.group} {_percent(age.group_probability)}"


def describe_gender(gender: Gender) -> str:
    """`female 97%`, or `unknown` without a number, since the probability is of a label that was not given."""
    if gender.label == "unknown":
        return "unknown"
    return f"{gender.label} {_percent(gender.probability)}"


def describe_briefly(face: Face) -> str:
    """`31 F`, `31 ?`, `31`, `F`: where there is room for no more."""
    parts = []
    if face.age is not None:
        parts.append(str(math.floor(face.age.years + 0.5)))
    if face.gender is not None:
        parts.append({"female": "F", "male": "M"}.get(face.gender.label, "?"))
    return " ".join(parts)


def _percent(probability: float) -> str:
    # 99.7% is not certainty: only what is exactly one is said to be 100%.
    whole = math.floor(probability * 100 + 0.5)
    return f"{min(whole, 99) if probability < 1 else whole}%"
