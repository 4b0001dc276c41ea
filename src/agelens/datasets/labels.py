"""What people write in label files -> age bands, genders, splits, and what is not given.

One reader for the notations of all sets, so that an importer only says which of them its set uses. Numbers are never
taken for genders here: UTKFace has 0 = male, All-Age-Faces and IMDB-WIKI have 0 = female.
"""

from __future__ import annotations

import re

from agelens.datasets.rows import OLDEST_LABEL, KnownGender

Band = tuple[float, float]

_NUMBER = r"(\d+(?:\.\d+)?)"
_SINGLE = re.compile(rf"^{_NUMBER}$")
# Between bare numbers a comma without a space is a decimal one: `35,0` is no band.
_PAIR = re.compile(rf"^[\[(]?\s*{_NUMBER}\s*(?:-|–|,\s|to|_|\.\.)\s*{_NUMBER}\s*[\])]?$")
_BRACKETED = re.compile(rf"^[\[(]\s*{_NUMBER}\s*,\s*{_NUMBER}\s*[\])]$")
_OPEN = re.compile(
    rf"^(?:(?:more than|over|>=?)\s*{_NUMBER}|{_NUMBER}\s*\+|{_NUMBER}\s*(?:and|or) (?:more|over|older))$"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DECIMAL_COMMA = re.compile(r"^(-?\d+),(\d+)$")
_WHOLE = re.compile(r"^(\d+)(?:[.,]0*)?$")
_DATE = re.compile(r"^(?:(\d{1,2})[-/. ]([a-z]{3,9})|([a-z]{3,9})[-/. ](\d{1,2}))$")
_GENDERS: dict[str, KnownGender] = {
    "f": "female",
    "female": "female",
    "females": "female",
    "woman": "female",
    "women": "female",
    "m": "male",
    "male": "male",
    "males": "male",
    "man": "male",
    "men": "male",
}
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "development": "val",
    "test": "test",
    "testing": "test",
}
MISSING = frozenset({"", "none", "nan", "null", "n/a", "na", "#n/a", "<na>", "unknown", "u", "?", "-1", "-1.0"})
"""What people and programs write where nothing is known."""


def parse_age(text: str) -> Band | None:
    """Read an age or an age band.

    Understood: `35`, `24.7`, `20-29`, `(25, 32)`, `18 to 25`, `70+`, `more than 70`. A reversed band is put the right
    way round; whether that is a repair to count is the caller's to see.

    Returns:
        (low, high) in whole years, both inclusive, or None where the text is no age, or one outside 0 to 120.
    """
    text = text.strip().lower()
    if single := _SINGLE.match(text):
        low = high = float(single[1])
    elif pair := _PAIR.match(text) or _BRACKETED.match(text):
        low, high = sorted((float(pair[1]), float(pair[2])))
    elif above := _OPEN.match(text):
        low, high = float(next(number for number in above.groups() if number)), OLDEST_LABEL
    else:
        return None
    return (low, high) if high <= OLDEST_LABEL and low <= high else None


def parse_mangled_age(text: str) -> Band | None:
    """Read an age band that a spreadsheet took for a date: `03-Sep` for 3-9, `Oct-19` for 10-19, `9-Mar` as well.

    Returns:
        The band, the smaller number first, or None where the text is no such date.
    """
    match = _DATE.match(text.strip().lower())
    if match is None:
        return None
    number, month = (match[1], match[2]) if match[1] else (match[4], match[3])
    if month[:3] not in _MONTHS:
        return None
    low, high = sorted((float(number), float(_MONTHS.index(month[:3]) + 1)))
    return low, high


def parse_gender(text: str) -> KnownGender | None:
    """Read a gender written as a word or a letter.

    Returns:
        "female" or "male", or None for anything else: empty, "u", "unknown", and every number.
    """
    return _GENDERS.get(text.strip().lower())


def parse_split(text: str) -> str | None:
    """Read a split by any of its usual names.

    Returns:
        "train", "val" or "test", or None for anything else: "holdout" may mean val or test.
    """
    return SPLITS.get(text.strip().lower())


def parse_whole(text: str) -> int | None:
    """Read a whole number, also as data frames write it where a cell of the column is empty: `3.0`.

    Returns:
        The number, or None where the text is none, or one below 0.
    """
    match = _WHOLE.match(text.strip())
    return int(match[1]) if match else None


def with_point(text: str) -> str:
    """A number with a decimal comma (`24,5`) with a point instead; any other text as it is."""
    return _DECIMAL_COMMA.sub(r"\1.\2", text.strip())


def known_text(text: str) -> str | None:
    """The text, or None where it says that nothing is known."""
    return None if text.strip().lower() in MISSING else text


def write_age(band: Band) -> str:
    """The band as people write it: `35`, `20-29`, `70+`."""
    low, high = band
    if low == high:
        return f"{low:g}"
    return f"{low:g}+" if high >= OLDEST_LABEL else f"{low:g}-{high:g}"
