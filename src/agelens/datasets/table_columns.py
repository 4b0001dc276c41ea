"""Which column of a table is what: by its name, or as it was said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agelens.datasets.label_table import find_column
from agelens.errors import UnreadableLabelsError, UsageError

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "picture"),
    "age": ("age", "age_band", "age_range", "age_group"),
    "age_low": ("age_low", "age_min"),
    "age_high": ("age_high", "age_max"),
    "gender": ("gender", "sex"),
    "subject": ("subject", "identity", "person", "user_id", "subject_id"),
    "race": ("race", "ethnicity"),
    "split": ("split", "partition", "subset"),
    "fold": ("fold",),
    "dataset": ("dataset",),
    "face": ("face", "face_id"),
    "box_x": ("box_x",),
    "box_y": ("box_y",),
    "box_width": ("box_width",),
    "box_height": ("box_height",),
}
BOX = ("box_x", "box_y", "box_width", "box_height")
_BOX_NAMES = (
    ("face_x", "face_y", "face_width", "face_height"),
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
    ("x", "y", "dx", "dy"),
)
"""Names that mean a box only together: `width` and `height` alone are the picture's."""


def find_columns(names: Iterable[str], said: Mapping[str, str], source: str) -> dict[str, str]:
    """The column of each role that has one.

    Args:
        names: Of all columns.
        said: Roles whose columns are named.
        source: The table, for errors.

    Raises:
        UsageError: There is no such role.
        UnreadableLabelsError: A column that is needed, or was named, is missing.
    """
    unknown = set(said) - set(COLUMNS)
    if unknown:
        raise UsageError(f"{', '.join(sorted(unknown))} is no role of a column. There are: {', '.join(COLUMNS)}")
    present = {name.lower(): name for name in names}
    columns = {role: find_column(present.values(), [name], role, source) for role, name in said.items()}
    for role, usual in COLUMNS.items():
        found = next((present[name] for name in usual if name in present), None)
        if found is not None:
            columns.setdefault(role, found)
    if "path" not in columns:
        find_column(present.values(), COLUMNS["path"], "picture's path", source)
    if not columns.keys() & {"age", "age_low", "gender"}:
        find_column(present.values(), COLUMNS["age"] + COLUMNS["gender"], "age or the gender", source)
    if ("age_low" in columns) != ("age_high" in columns):
        raise UnreadableLabelsError(f"{source} has only one of the two columns age_low and age_high")
    return columns | _find_box(columns, present, source)


def _find_box(columns: Mapping[str, str], present: Mapping[str, str], source: str) -> dict[str, str]:
    missing = [role for role in BOX if role not in columns]
    if 0 < len(missing) < len(BOX):
        raise UnreadableLabelsError(
            f"{source} has a part of the box only; missing: {', '.join(missing)}. Say where: --column {missing[0]}=NAME"
        )
    whole = next((usual for usual in _BOX_NAMES if missing and all(name in present for name in usual)), ())
    return {role: present[name] for role, name in zip(BOX, whole, strict=False)}
