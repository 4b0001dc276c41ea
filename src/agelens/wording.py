"""How an estimate is said to people: on pictures and in tables.

One rule for all of it: a number is what the record gives (ages with two digits, probabilities with four), then taken to
the nearest whole year or per cent, upwards from the middle. So pictures, tables and records agree, whether a report is
fresh or was read from a file.
"""

from __future__ import annotations

from agelens.types import Age, Face, Gender

NO_FACE = "NO FACE DETECTED"


def to_whole(value: float) -> int:
    """The nearest whole number, upwards from the middle, of an age or a length as the record gives it."""
    return (round(round(value, 2) * 100) + 50) // 100


def to_percent(probability: float) -> int:
    """The nearest per cent, upwards from the middle, of a probability as the record gives it.

    99.7% is not certainty: only what the record gives as 1 is 100.
    """
    share = round(round(probability, 4) * 10_000)
    return min((share + 50) // 100, 99) if share < 10_000 else 100


def describe_age(age: Age) -> str:
    """`31 (24–40)`: years, and the interval around them."""
    return f"{to_whole(age.years)} ({to_whole(age.low)}–{to_whole(age.high)})"


def describe_group(age: Age) -> str:
    """`(25, 32) 61%`."""
    return f"{age.group} {to_percent(age.group_probability)}%"


def describe_gender(gender: Gender) -> str:
    """`female 97%`, or `unknown` without a number, since the probability is of a label that was not given."""
    if gender.label == "unknown":
        return "unknown"
    return f"{gender.label} {to_percent(gender.probability)}%"


def describe_briefly(face: Face) -> str:
    """`31 F`, `31 ?`, `31`, `F`: where there is room for no more."""
    parts = []
    if face.age is not None:
        parts.append(str(to_whole(face.age.years)))
    if face.gender is not None:
        parts.append({"female": "F", "male": "M"}.get(face.gender.label, "?"))
    return " ".join(parts)
