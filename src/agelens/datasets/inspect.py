"""A look at what was prepared: counts, near-duplicates, conflicts, leaks, plots of ages and genders, a sample sheet."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw

from agelens.advice import how_to_install
from agelens.datasets.duplicates import find_conflicts, members, picture_groups
from agelens.datasets.faces import show_around
from agelens.datasets.labels import write_age
from agelens.datasets.manifest import GENDERS, Manifest
from agelens.datasets.manifest_file import read_manifest
from agelens.datasets.pack import open_pixels, read_pack
from agelens.datasets.scan import read_picture
from agelens.datasets.splits import Leaks, find_leaks
from agelens.errors import InputError, MissingPackageError
from agelens.outfile import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from agelens.types import Pixels

SAMPLES = 48
"""Faces on a sample sheet, eight in a row."""

_CELL = 128
_ACROSS = 8


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a manifest or pack holds.

    Attributes:
        kind: The importer that made it.
        rows: How many faces.
        fingerprint: As in the manifest.
        leaky: Whether it is stamped.
        subjects: How many people; 0 where the set does not say.
        splits: Rows by split.
        folds: Rows by fold.
        genders: Rows by gender, "unknown" among them.
        groups: Rows by age group of the set's protocol.
        decades: Rows by decade of the age (of a band: its typical age).
        duplicates: How many near-duplicate groups, and pictures in them.
        conflicts: Near-duplicate groups of which the ages or the genders disagree, with one path of each.
        leaks: Between the splits.
        report: What the import kept, remapped and dropped.
    """

    kind: str
    rows: int
    fingerprint: str
    leaky: bool
    subjects: int
    splits: dict[str, int]
    folds: dict[int, int]
    genders: dict[str, int]
    groups: dict[str, int]
    decades: dict[str, int]
    duplicates: tuple[int, int]
    conflicts: dict[str, int]
    leaks: Leaks
    report: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The same in plain types, for JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        groups, pictures = self.duplicates
        return {**plain, "duplicates": {"groups": groups, "pictures": pictures}, "leaks": self.leaks.to_dict()}


def open_prepared(path: Path) -> Manifest:
    """The rows of a manifest, or of an `.h5`.

    Raises:
        NotFoundError: There is no such file.
        DamagedDatasetError: It is neither.
    """
    return read_pack(path) if path.suffix == ".h5" else read_manifest(path)


def open_prepared_pixels(path: Path, manifest: Manifest) -> Callable[[int], Pixels]:
    """What gives the pixels of a row, shape (H, W, 3): from the `.h5` itself, or from the pictures of a manifest.

    A row that says where its face is gives that face, the others the whole picture.

    Raises:
        NotFoundError: The pictures are not where they were.
    """
    if path.suffix == ".h5":
        return open_pixels(path)
    pictures = manifest.open_pictures()

    def read(index: int) -> Pixels:
        row = manifest[index]
        image = read_picture(pictures, row.path)
        return image.pixels if row.box is None else np.asarray(show_around(image, row.box, 2 * _CELL))

    return read


def inspect_manifest(manifest: Manifest) -> Inspection:
    """Count what a manifest holds."""
    columns = manifest.columns
    near = members(picture_groups(manifest))
    conflicts = find_conflicts(manifest)
    ages = manifest.typical_age
    decades = Counter((ages[~np.isnan(ages)] // 10 * 10).astype(int).tolist())
    genders = Counter("unknown" if code < 0 else GENDERS[code] for code in columns.gender.tolist())
    folds = Counter(fold for fold in columns.fold.tolist() if fold >= 0)
    splits = Counter(str(split) if split else "none" for split in columns.split)
    groups = Counter(columns.age_group.tolist())
    return Inspection(
        kind=manifest.kind,
        rows=len(manifest),
        fingerprint=manifest.fingerprint,
        leaky=manifest.leaky,
        subjects=len({key for key in zip(columns.dataset, columns.subject, strict=True) if key[1] is not None}),
        splits=dict(sorted(splits.items())),
        folds=dict(sorted(folds.items())),
        genders=dict(sorted(genders.items())),
        groups={group: groups[group] for group in manifest.groups},
        decades={write_age((low, low + 9)): count for low, count in sorted(decades.items())},
        duplicates=(len(near), sum(map(len, near))),
        conflicts={
            "age": sum(conflict.years > 0 for conflict in conflicts),
            "gender": sum(conflict.gender for conflict in conflicts),
        },
        leaks=find_leaks(manifest),
        report=dict(manifest.provenance.get("report", {})),
    )


def list_conflicts(manifest: Manifest) -> list[dict[str, Any]]:
    """Every conflict with its pictures and what they are labelled."""
    found = []
    for conflict in find_conflicts(manifest):
        rows = [manifest[index] for index in conflict.rows]
        found.append(
            {
                "years_apart": conflict.years,
                "pictures": [
                    {"path": row.path, "age": _written_age(row.age_low, row.age_high), "gender": row.gender}
                    for row in rows
                ],
            }
        )
    return found


def draw_samples(manifest: Manifest, pixels_of: Callable[[int], Pixels], path: Path, *, seed: int = 0) -> None:
    """Draw a sheet of faces with their labels, spread over the ages. It shows people: keep it to yourself.

    Args:
        manifest: What to draw from.
        pixels_of: Gives the pixels of a row, as `open_prepared_pixels` does.
        path: The PNG to write.
        seed: Other seeds show other faces.

    Raises:
        NotFoundError: The pictures are not where they were.
        OutputError: The sheet cannot be written.
    """
    chosen = _spread(manifest, seed)
    rows = -(-len(chosen) // _ACROSS)
    sheet = PillowImage.new("RGB", (_ACROSS * _CELL, max(1, rows) * (_CELL + 18)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, index in enumerate(chosen.tolist()):
        row = manifest[index]
        corner = (place % _ACROSS * _CELL, place // _ACROSS * (_CELL + 18))
        try:
            face = PillowImage.fromarray(pixels_of(index))
        except InputError:
            continue
        sheet.paste(face.resize((_CELL, _CELL)), corner)
        text = f"{_written_age(row.age_low, row.age_high)} {row.gender or '?'}"
        pen.text((corner[0] + 3, corner[1] + _CELL + 3), text, fill="black")
    encoded = io.BytesIO()
    sheet.save(encoded, format="PNG")
    write_whole(path, encoded.getvalue())


def plot_labels(manifest: Manifest, path: Path) -> None:
    """Draw how ages (by gender) and genders are distributed, as a PNG.

    Raises:
        MissingPackageError: matplotlib is not installed.
        OutputError: The plot cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(f"plots need matplotlib: {how_to_install('train', 'matplotlib')}") from error
    gender = manifest.columns.gender
    parts = {"male": gender == 0, "female": gender == 1, "unknown": gender < 0}
    present = {name: mask for name, mask in parts.items() if mask.any()}
    figure = Figure(figsize=(10, 4), layout="constrained")
    ages, genders = figure.subplots(1, 2, width_ratios=(3, 1))
    if manifest.groups:
        _plot_groups(ages, manifest, present)
    else:
        typical = manifest.typical_age
        ages.hist(
            [typical[mask & ~np.isnan(typical)] for mask in present.values()],
            bins=np.arange(0, 105, 5),
            stacked=True,
            label=list(present),
        )
        ages.set_xlabel("age in years")
    ages.set(ylabel="faces", title=f"{manifest.kind}: {len(manifest):,} faces")
    ages.legend()
    for name, mask in present.items():
        genders.bar(name, int(mask.sum()))
    genders.set(title="gender")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    write_whole(path, drawn.getvalue())


def _plot_groups(axes: Axes, manifest: Manifest, parts: dict[str, NDArray[np.bool_]]) -> None:
    """One bar for each age group, since a histogram of wide bands would show gaps that are none."""
    base = np.zeros(len(manifest.groups), dtype=np.int64)
    for name, mask in parts.items():
        counts = Counter(manifest.columns.age_group[mask].tolist())
        heights = np.array([counts[group] for group in manifest.groups], dtype=np.int64)
        axes.bar(manifest.groups, heights, bottom=base, label=name)
        base += heights
    axes.set_xlabel("age group")


def _spread(manifest: Manifest, seed: int) -> NDArray[np.int64]:
    """Indices of the sampled rows, in order of age: one drawn from each of as many slices of the sorted ages."""
    order = np.argsort(manifest.columns.age_low, kind="stable")
    rng = np.random.default_rng(seed)
    slices = np.array_split(order, min(SAMPLES, len(order)))
    return np.array([rng.choice(part) for part in slices if len(part)], dtype=np.int64)


def _written_age(low: float | None, high: float | None) -> str:
    return "?" if low is None or high is None else write_age((low, high))
