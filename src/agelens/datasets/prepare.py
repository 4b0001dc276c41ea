"""A raw data set -> a checked manifest: import, decode and hash every picture, split, look for leaks."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from agelens.datasets.duplicates import count_sizes, find_conflicts, picture_groups
from agelens.datasets.importing import Imported, ImportOptions, refuse_missing
from agelens.datasets.kinds import find_importer
from agelens.datasets.manifest import Columns, Manifest
from agelens.datasets.pictures import Pictures, open_pictures, unpack
from agelens.datasets.rows import Row, Tally
from agelens.datasets.scan import Progress, scan_rows
from agelens.datasets.sift import sift
from agelens.datasets.splits import assign_splits, drop_leaks, find_leaks, refuse_leaks
from agelens.datasets.table import open_table
from agelens.errors import EmptyDatasetError, NotFoundError, UsageError, WrongLayoutError
from agelens.outfile import write_whole


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """What to do with the imported rows.

    Attributes:
        shares: Share of each split to draw, e.g. `{"train": 0.9, "val": 0.1}`; empty: the set's own splits, or none.
        resplit: Draw from all rows; otherwise the set's own val and test stay, and only the rest is divided.
        seed: Seed of the draw.
        allow_leak: Go on with leaks between splits, stamped.
        drop_leaks: Leave out what stands in a better guarded split as well (test before val before train).
        drop_conflicts: Leave out near-duplicates whose genders differ, or whose ages lie more than so many years apart;
            None keeps them.
        workers: Threads that decode; None: one for each processor.
        report: Where the counts go as JSON, whether or not the preparation succeeds.
        work: Folder to unpack a compressed archive into.
        root: Table: folder or archive that the paths are relative to; None: the table's own folder.
        size: Pack: side of the square pictures in pixels.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    resplit: bool = False
    seed: int = 0
    allow_leak: bool = False
    drop_leaks: bool = False
    drop_conflicts: float | None = None
    workers: int | None = None
    report: Path | None = None
    work: Path | None = None
    root: Path | None = None
    size: int = 227


@dataclass(frozen=True, slots=True)
class ImportedSet:
    """An imported set before its pictures were looked at."""

    kind: str
    path: Path
    pictures: Pictures
    imported: Imported
    importing: ImportOptions


def prepare(
    kind: str,
    path: Path,
    importing: ImportOptions | None = None,
    options: PrepareOptions | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Import a data set and check it picture by picture.

    Args:
        kind: One of `kinds.KINDS`.
        path: Its folder or archive; for a table, the file.
        importing: How to read it.
        options: What to do with its rows.
        progress: Called as pictures are decoded.

    Raises:
        UsageError: There is no such kind.
        NotFoundError: Nothing is at `path`.
        DatasetError: It is not laid out as its kind, too many pictures are missing, nothing usable is left, or its
            splits leak.
    """
    options = options or PrepareOptions()
    source = import_source(kind, path, importing or ImportOptions(), options)
    rows, tally = source.imported.rows, source.imported.tally
    total = len(rows)
    rows = scan_rows(
        rows,
        source.pictures,
        tally,
        workers=options.workers,
        progress=None if progress is None else lambda done: progress(done, total),
    )
    return check_rows(source, rows, options)


def import_source(kind: str, path: Path, importing: ImportOptions, options: PrepareOptions) -> ImportedSet:
    """Read the labels of a data set and find its pictures, without decoding any.

    Raises:
        As `prepare`, leaks apart.
    """
    importer = find_importer(kind)
    root, where = path, "Give the folder that holds them"
    pictures: Pictures | None = None
    if kind == "table":
        if not path.is_file():
            raise NotFoundError(f"there is no table {path}. Give a CSV, TSV, JSON Lines or Parquet file")
        importing = replace(importing, labels=path)
        where = "Say which folder or archive the table's paths are relative to (--root FOLDER)"
        root = options.root or path.parent
        pictures = open_table(path, importing) if options.root is None else None
    elif options.work is not None and path.is_file():
        root = unpack(path, options.work)
    pictures = pictures or open_pictures(root)
    _refuse_unwritable(pictures.root, path, *filter(None, (importing.labels, options.root)))
    imported = importer(pictures, importing)
    imported = replace(imported, rows=sift(imported.rows, imported.tally))
    write_report(imported.tally, options.report)
    refuse_missing(imported.tally, importing, pictures, where)
    _refuse_nothing(imported.rows, imported.tally, path)
    return ImportedSet(kind.lower().replace("-", "_"), path, pictures, imported, importing)


def check_rows(source: ImportedSet, rows: list[Row], options: PrepareOptions) -> Manifest:
    """Rows with hashes -> the manifest: conflicts, splits, leaks, provenance.

    Raises:
        EmptyDatasetError: Nothing usable is left.
        LeakError: The splits leak, and neither `allow_leak` nor `drop_leaks` is set.
    """
    imported, tally = source.imported, source.imported.tally
    _refuse_nothing(rows, tally, source.path)
    manifest = Manifest(
        source.kind, source.pictures.root, Columns.of(rows), groups=imported.groups, versions=library_versions()
    )
    conflicts = find_conflicts(manifest)
    near = count_sizes(picture_groups(manifest))
    if options.drop_conflicts is not None:
        bad = [c for c in conflicts if c.gender or c.years > options.drop_conflicts]
        manifest = _without(manifest, np.array([i for c in bad for i in c.rows], dtype=int), tally, "labels conflict")
    if options.shares:
        manifest = assign_splits(manifest, options.shares, seed=options.seed, within=_divisible(manifest, options))
    if options.drop_leaks:
        manifest = _without(manifest, drop_leaks(manifest), tally, "also in a better guarded split")
    _refuse_nothing(manifest, tally, source.path)
    write_report(tally, options.report)
    manifest = refuse_leaks(manifest, allow=options.allow_leak)
    found = {
        "source": source.path.name,
        "options": _recorded(source, options),
        "report": tally.to_dict(),
        "near_duplicates": {"groups": sum(near.values()), "pictures": sum(n * size for size, n in near.items())},
        "conflicts": {
            "groups": len(conflicts),
            "age": sum(conflict.years > 0 for conflict in conflicts),
            "gender": sum(conflict.gender for conflict in conflicts),
        },
        "splits": {str(name): count for name, count in Counter(manifest.columns.split.tolist()).items() if name},
        **({"fold_leaks": leaks.to_dict()} if (leaks := find_leaks(manifest, by=manifest.columns.fold)) else {}),
        **imported.notes,
    }
    return replace(manifest, provenance={**found, **manifest.provenance})


def write_report(tally: Tally, path: Path | None) -> None:
    """Write the counts as JSON, if a path is given.

    Raises:
        OutputError: It cannot be written.
    """
    if path is not None:
        write_whole(path, (json.dumps(tally.to_dict(), ensure_ascii=False, indent=2) + "\n").encode())


def parse_shares(val: float, test: float) -> dict[str, float]:
    """Shares of train, val and test from those of the latter two; empty where both are 0.

    Raises:
        UsageError: They leave nothing to train on, are negative, or are no numbers.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise UsageError(f"the shares for val ({val:g}) and test ({test:g}) must leave some for train")
    return {"train": 1 - val - test, "val": val, "test": test} if val or test else {}


def library_versions() -> dict[str, str]:
    """Versions of agelens, Python, NumPy and Pillow."""
    try:
        own = metadata.version("agelens")
    except metadata.PackageNotFoundError:
        own = "not installed"
    return {"agelens": own, "python": platform.python_version(), "numpy": np.__version__, "pillow": PIL.__version__}


def _divisible(manifest: Manifest, options: PrepareOptions) -> np.ndarray[Any, np.dtype[np.bool_]]:
    split = manifest.columns.split
    if options.resplit:
        return np.ones(len(manifest), dtype=bool)
    return np.array([name in (None, "train") for name in split], dtype=bool)


def _without(manifest: Manifest, indices: np.ndarray[Any, np.dtype[Any]], tally: Tally, reason: str) -> Manifest:
    keep = np.ones(len(manifest), dtype=bool)
    keep[indices] = False
    for path in manifest.columns.path[~keep]:
        tally.drop(reason, path)
    return manifest.take(keep) if not keep.all() else manifest


def _recorded(source: ImportedSet, options: PrepareOptions) -> dict[str, Any]:
    plain = {**asdict(source.importing), **asdict(options)}
    for private in ("workers", "report", "work"):
        plain.pop(private)
    return {name: value.name if isinstance(value, Path) else value for name, value in plain.items() if value}


def _refuse_unwritable(*places: Path) -> None:
    for place in places:
        try:
            str(place).encode()
        except UnicodeEncodeError as error:
            raise WrongLayoutError(
                f"the name {str(place)!r} is not UTF-8, so no manifest can hold it: rename it"
            ) from error


def _refuse_nothing(rows: list[Row] | Manifest, tally: Tally, path: Path) -> None:
    if not len(rows):
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in tally.dropped.most_common())
        raise EmptyDatasetError(f"0 of {tally.rows:,} rows of {path} are usable ({reasons or 'it lists none'})")
