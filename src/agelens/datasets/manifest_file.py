"""A manifest on disk: Parquet, or JSON Lines where pyarrow is not installed. The name's ending says which.

Both hold the same. A JSON Lines manifest is one header line, then one line a row with what is unknown left out. A
Parquet manifest carries the header in the schema's metadata under `agelens`. Both are written under a temporary name
and moved into place, and the fingerprint is checked on reading: a file that was cut or edited is never taken for
whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from agelens.advice import how_to_install
from agelens.datasets.manifest import GENDERS, Columns, Manifest, canonical_row
from agelens.datasets.rows import Row
from agelens.errors import DamagedDatasetError, MissingPackageError, NotFoundError, UsageError
from agelens.outfile import Target, typed_output_errors

if TYPE_CHECKING:
    import pyarrow

FORMAT = "agelens.manifest/1"
SUFFIXES = (".parquet", ".jsonl")


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest; an older file of that name is replaced in one step.

    Raises:
        UsageError: The name ends neither in `.parquet` nor in `.jsonl`.
        MissingPackageError: Parquet is asked for and pyarrow is not installed.
        OutputUnwritableError: The folder does not exist or may not be written to.
        DiskFullError: No space is left.
    """
    check_suffix(path)
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(manifest, temporary)
        else:
            with temporary.open("wb") as file:
                file.writelines(to_lines(manifest))


def read_manifest(path: Path | str, *, root: Path | None = None) -> Manifest:
    """Read a manifest, and check that it is whole.

    Args:
        path: The file that `write_manifest` wrote.
        root: Where the pictures lie now, if not where they lay when it was written.

    Raises:
        NotFoundError: There is no such file.
        DamagedDatasetError: It is no manifest, or not the one that was written.
        MissingPackageError: It is Parquet and pyarrow is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"there is no manifest {path}. Make one: agelens prepare KIND PATH -o {path}")
    with path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    header, rows = _read_parquet(path) if is_parquet else _parse_lines(path.read_bytes(), path)
    manifest = _assemble(header, rows, path)
    return manifest if root is None else replace(manifest, root=root.absolute())


def to_lines(manifest: Manifest) -> Iterator[bytes]:
    """The lines of a JSON Lines manifest."""
    yield json.dumps(_header(manifest), ensure_ascii=False).encode() + b"\n"
    for row in manifest:
        yield canonical_row(row) + b"\n"


def from_lines(content: bytes, path: Path) -> Manifest:
    """The manifest of `to_lines`; `path` is named in errors.

    Raises:
        DamagedDatasetError: It is no manifest, or not the one that was written.
    """
    return _assemble(*_parse_lines(content, path), path)


def _header(manifest: Manifest) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": manifest.kind,
        "root": manifest.root.as_posix(),
        "rows": len(manifest),
        "fingerprint": manifest.fingerprint,
        "groups": list(manifest.groups),
        "leaky": manifest.leaky,
        "versions": dict(manifest.versions),
        "provenance": dict(manifest.provenance),
    }


def _assemble(header: Mapping[str, Any], rows: Iterator[Row], path: Path) -> Manifest:
    try:
        manifest = Manifest(
            str(header["kind"]),
            Path(header["root"]),
            Columns.of(list(rows)),
            groups=tuple(header["groups"]),
            provenance=header["provenance"],
            leaky=bool(header["leaky"]),
            versions=header["versions"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedDatasetError(f"{path} is no manifest of this version: {error!r}. Prepare it again") from error
    if len(manifest) != header.get("rows") or manifest.fingerprint != header.get("fingerprint"):
        raise DamagedDatasetError(
            f"{path} is not what was written: {len(manifest)} of {header.get('rows')} rows, or rows that were edited. "
            f"Prepare it again"
        )
    return manifest


def check_suffix(path: Path) -> None:
    """Refuse a name that says no format.

    Raises:
        UsageError: The name ends neither in `.parquet` nor in `.jsonl`.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"a manifest's name ends in .parquet or .jsonl, got {path.name!r}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, moved onto it on success and removed on failure.

    Raises:
        OutputUnwritableError: The folder does not exist or may not be written to.
        DiskFullError: No space is left.
    """
    target = Target(path)
    try:
        with typed_output_errors(path):
            yield target.part
            target.commit()
    finally:
        target.discard()


def _parse_lines(content: bytes, path: Path) -> tuple[Mapping[str, Any], Iterator[Row]]:
    def parse(line: bytes) -> dict[str, Any]:
        parsed = json.loads(line)
        if not isinstance(parsed, dict):
            raise DamagedDatasetError(f"{path} is no manifest: a line holds no JSON object")
        return parsed

    try:
        lines = content.splitlines()
        header = parse(lines[0]) if lines else {}
        _check_header(header, path)
        return header, iter([_row(parse(line)) for line in lines[1:]])
    except (TypeError, ValueError) as error:  # JSON and Unicode errors are ValueErrors
        raise DamagedDatasetError(f"{path} is no manifest, or was cut: {error}. Prepare it again") from error


def _row(known: dict[str, Any]) -> Row:
    if "box" in known:
        known["box"] = tuple(known["box"])
    if isinstance(known.get("dhash"), bytes):
        known["dhash"] = known["dhash"].hex()
    return Row(**known)


def _check_header(header: Mapping[str, Any], path: Path) -> None:
    if header.get("format") != FORMAT:
        raise DamagedDatasetError(
            f"{path} is no manifest that this version reads: its format is {header.get('format')!r}, not {FORMAT!r}. "
            f"Prepare it again"
        )


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackageError(
            f"Parquet needs pyarrow: {how_to_install('parquet', 'pyarrow')}, or name the manifest .jsonl"
        ) from error
    module: ModuleType = pyarrow
    return module


def _write_parquet(manifest: Manifest, path: Path) -> None:
    arrow = _pyarrow()
    columns = manifest.columns
    unhashed = columns.group < 0
    hashes = [None if none else row.tobytes() for none, row in zip(unhashed, columns.dhash.astype(">u8"), strict=True)]
    text = arrow.dictionary(arrow.int32(), arrow.string())
    no_box = [None if row[0] != row[0] else row.tolist() for row in columns.box]
    table = {
        "dataset": arrow.array(columns.dataset, type=text),
        "path": arrow.array(columns.path, type=arrow.string()),
        "age_low": arrow.array(columns.age_low, mask=columns.age_low != columns.age_low),
        "age_high": arrow.array(columns.age_high, mask=columns.age_high != columns.age_high),
        "gender": arrow.array([None if code < 0 else GENDERS[code] for code in columns.gender], type=text),
        "subject": arrow.array(columns.subject, type=arrow.string()),
        "fold": arrow.array(columns.fold, mask=columns.fold < 0),
        "race": arrow.array(columns.race, type=text),
        "split": arrow.array(columns.split, type=text),
        "age_group": arrow.array(columns.age_group, type=text),
        "face": arrow.array(columns.face, type=arrow.string()),
        "box": arrow.array(no_box, type=arrow.list_(arrow.float32())),
        "group": arrow.array(columns.group, mask=unhashed),
        "dhash": arrow.array(hashes, type=arrow.binary(40)),
    }
    header = json.dumps(_header(manifest), ensure_ascii=False).encode()
    built = arrow.table(table).replace_schema_metadata({b"agelens": header})
    arrow.parquet.write_table(built, path, compression="zstd")


def _read_parquet(path: Path) -> tuple[Mapping[str, Any], Iterator[Row]]:
    arrow = _pyarrow()
    try:
        table = arrow.parquet.read_table(path)
        header = json.loads((table.schema.metadata or {}).get(b"agelens", b"{}"))
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise DamagedDatasetError(f"{path} is damaged: {error}. Prepare it again") from error
    _check_header(header, path)
    return header, _parquet_rows(table)


def _parquet_rows(table: pyarrow.Table) -> Iterator[Row]:
    for batch in table.to_batches(max_chunksize=4096):
        for known in batch.to_pylist():
            row = _row({name: value for name, value in known.items() if value is not None})
            if row.age_low is None or row.age_high is None or row.age_low == int(row.age_low) == row.age_high:
                yield row
            else:
                yield replace(row, age_low=_decimal(row.age_low), age_high=_decimal(row.age_high))


def _decimal(value: float) -> float:
    # Parquet gives float32 back at full length; Columns rounds it to the shortest decimal again.
    return round(value, 6)
