"""`agelens prepare KIND PATH -o FILE`: a public data set or your own pictures -> a checked manifest, or one `.h5`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agelens.cli.command import counting_bar, declare, exit_status
from agelens.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from agelens.datasets.manifest import Manifest

app = typer.Typer(no_args_is_help=True, help="Prepare a data set: a checked manifest, and on request one .h5.")


class GroupSet(StrEnum):
    """Adience's label sets."""

    adience = "adience"
    adience12 = "adience12"


class Layout(StrEnum):
    """Adience's picture layouts."""

    faces = "faces"
    aligned = "aligned"


class AgeKind(StrEnum):
    """APPA-REAL's ages."""

    apparent = "apparent"
    real = "real"


@dataclass(frozen=True, slots=True)
class _Option:
    """One option of the commands: how it is declared, its default; `kinds` empty: of every kind of data set."""

    declared: object
    default: object = None
    kinds: tuple[str, ...] = ()

    def parameter(self, name: str) -> Parameter:
        return Parameter(name, Parameter.KEYWORD_ONLY, default=self.default, annotation=self.declared)


_OUTPUT_HELP = "FILE.parquet or FILE.jsonl: a manifest. FILE.h5: pictures and labels in one file."

_OPTIONS = {
    "path": _Option(
        Annotated[Path, typer.Argument(metavar="PATH", help="Folder, .tar or .zip; for a table, its file.")],
        Parameter.empty,
    ),
    "output": _Option(Annotated[Path, typer.Option("--output", "-o", help=_OUTPUT_HELP)], Parameter.empty),
    "labels": _Option(
        Annotated[
            Path | None, typer.Option(help="Label file (Adience: folder of fold files), where it lies elsewhere.")
        ],
        None,
        ("adience", "fairface", "fgnet"),
    ),
    "max_missing": _Option(
        Annotated[float, typer.Option(help="Largest share of labelled pictures that may be absent.")], 0.01
    ),
    "val": _Option(Annotated[float, typer.Option(help="Share of the rows to draw for validation.")], 0.0),
    "test": _Option(
        Annotated[float, typer.Option(help="Share of the rows to draw for the test (.h5: 0.1 where none is).")], 0.0
    ),
    "resplit": _Option(
        Annotated[bool, typer.Option("--resplit", help="Draw from all rows, not only from the set's train.")], False
    ),
    "seed": _Option(Annotated[int, typer.Option(min=0, help="Seed of the draw.")], 0),
    "allow_leak": _Option(
        Annotated[bool, typer.Option("--allow-leak", help="Go on with leaking splits; every result will say so.")],
        False,
    ),
    "drop_leaks": _Option(
        Annotated[bool, typer.Option("--drop-leaks", help="Leave out of train (val) what val (test) holds too.")], False
    ),
    "drop_conflicts": _Option(
        Annotated[
            float | None,
            typer.Option(metavar="YEARS", help="Leave out copies whose genders differ, or ages by over YEARS."),
        ]
    ),
    "report": _Option(Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write the counts as JSON.")]),
    "work": _Option(
        Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to unpack a compressed archive into.")]
    ),
    "size": _Option(Annotated[int, typer.Option(min=1, help=".h5: side of the pictures in pixels.")], 227),
    "workers": _Option(
        Annotated[int | None, typer.Option(min=1, help="Threads that decode; all processors by default.")]
    ),
    "quiet": _Option(Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table.")], False),
    "groups": _Option(
        Annotated[GroupSet, typer.Option("--groups", "--label-set", help="The 8 published age groups, or the 12.")],
        GroupSet.adience,
        ("adience",),
    ),
    "repair": _Option(
        Annotated[bool, typer.Option("--repair", help="Odd ages go to the group that holds them.")], False, ("adience",)
    ),
    "layout": _Option(
        Annotated[Layout | None, typer.Option(help="Which pictures, where both are there.")], None, ("adience",)
    ),
    "frontal": _Option(
        Annotated[bool, typer.Option("--frontal", help="Only the rows of the frontal lists.")], False, ("adience",)
    ),
    "age": _Option(Annotated[AgeKind, typer.Option(help="Which age.")], AgeKind.apparent, ("appa_real",)),
    "min_face_score": _Option(Annotated[float, typer.Option(help="Least score of the face.")], 1.0, ("imdb_wiki",)),
    "root": _Option(
        Annotated[
            Path | None, typer.Option(help="What the table's paths are relative to, where that is not its own folder.")
        ],
        None,
        ("table",),
    ),
    "column": _Option(
        Annotated[list[str] | None, typer.Option(metavar="ROLE=NAME", help="Which column is what: age=Alter.")],
        None,
        ("table",),
    ),
    "gender_code": _Option(
        Annotated[list[str] | None, typer.Option(metavar="CODE=GENDER", help="What a number or word means: 0=male.")],
        None,
        ("table",),
    ),
}


def _add_kind(kind: str, description: str) -> None:
    offered = {name: option for name, option in _OPTIONS.items() if not option.kinds or kind in option.kinds}

    def command(**chosen: object) -> None:
        with exit_status("prepare"):
            _prepare(kind, chosen)

    # The options are data, so a kind's command has those that concern it, and typer reads them off the signature.
    declare(command, [option.parameter(name) for name, option in offered.items()])
    app.command(kind.replace("_", "-"), help=f"Prepare {description}.")(command)
    if "_" in kind:
        app.command(kind, hidden=True)(command)


def _prepare(kind: str, chosen: dict[str, Any]) -> None:
    from agelens.datasets.importing import ImportOptions
    from agelens.datasets.prepare import PrepareOptions, parse_shares
    from agelens.outfile import Target

    for name, value in chosen.items():
        if isinstance(value, float) and math.isnan(value):
            raise UsageError(f"--{name.replace('_', '-')} takes a number, got {value}")
    chosen["columns"] = _pairs(chosen.pop("column", None), "--column")
    chosen["gender_codes"] = _genders(chosen.pop("gender_code", None))
    chosen["shares"] = parse_shares(chosen.pop("val"), chosen.pop("test"))
    importing = ImportOptions(**_fields(ImportOptions, chosen))
    options = PrepareOptions(**_fields(PrepareOptions, chosen))
    _check_files(chosen)
    output: Path = chosen["output"]
    Target(output).discard()  # a name that cannot be written is better said now than when all is read
    with counting_bar(quiet=chosen["quiet"]) as progress:
        if output.suffix == ".h5":
            from agelens.datasets.pack import prepare_pack

            manifest = prepare_pack(kind, chosen["path"], output, importing, options, progress).manifest
        else:
            from agelens.datasets.manifest_file import check_suffix, write_manifest
            from agelens.datasets.prepare import prepare

            check_suffix(output)
            manifest = prepare(kind, chosen["path"], importing, options, progress)
            write_manifest(manifest, output)
    if not chosen["quiet"]:
        _tell(manifest, output)


def _check_files(chosen: dict[str, Any]) -> None:
    """Refuses to write over what is read, or the counts over the data set."""
    taken = {os.path.realpath(path) for path in (chosen["path"], chosen.get("labels")) if path}
    for option, place in (("-o", chosen["output"]), ("--report", chosen["report"])):
        if place is None:
            continue
        if os.path.realpath(place) in taken:
            raise UsageError(f"{option} {place} would overwrite what is read or written besides; choose another name")
        taken.add(os.path.realpath(place))


def _fields(options: type, chosen: dict[str, Any]) -> dict[str, Any]:
    return {field.name: chosen[field.name] for field in fields(options) if field.name in chosen}


@app.command("inspect")
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A manifest or an .h5.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder for plots, samples and conflicts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Show what a manifest or an .h5 holds: counts, near-duplicates, conflicts; with -o, plots and a sample sheet."""
    from agelens.datasets.inspect import inspect_manifest, open_prepared

    with exit_status("prepare"):
        manifest = open_prepared(file)
        inspection = inspect_manifest(manifest).to_dict()
        if as_json:
            typer.echo(json.dumps(inspection, ensure_ascii=False, indent=2))
        else:
            _print_inspection(inspection)
        if output is not None:
            _write_inspection(manifest, file, output)


def _write_inspection(manifest: Manifest, file: Path, folder: Path) -> None:
    from agelens.datasets.inspect import draw_samples, list_conflicts, open_prepared_pixels, plot_labels
    from agelens.outfile import typed_output_errors, write_whole

    with typed_output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(conflict, ensure_ascii=False) for conflict in list_conflicts(manifest)]
    write_whole(folder / "conflicts.jsonl", "".join(f"{line}\n" for line in lines).encode())
    plot_labels(manifest, folder / "labels.png")
    draw_samples(manifest, open_prepared_pixels(file, manifest), folder / "samples.png")
    typer.echo(f"{folder}: labels.png, samples.png, conflicts.jsonl", err=True)


def _tell(manifest: Manifest, output: Path) -> None:
    """The table of what was kept, remapped and dropped, on standard error: standard output is for results."""
    report = manifest.provenance["report"]
    table = _table("reason", "rows")
    table.add_row("all rows", f"{report['rows']:,}")
    table.add_row("kept", f"{report['kept']:,}")
    for title in ("remapped", "unlabelled", "dropped"):
        for reason, count in report[title].items():
            table.add_row(f"{title}: {reason}", f"{count:,}")
    _console().print(table)
    splits = ", ".join(f"{name} {count:,}" for name, count in manifest.provenance["splits"].items())
    near, conflicts = manifest.provenance["near_duplicates"], manifest.provenance["conflicts"]
    typer.echo(
        f"{output}: {len(manifest):,} faces{f' ({splits})' if splits else ''}; "
        f"{near['groups']:,} near-duplicate groups, {conflicts['groups']:,} of them labelled differently; "
        f"fingerprint {manifest.fingerprint[:12]}"
        f"{'; LEAKY, every result will say so' if manifest.leaky else ''}",
        err=True,
    )


def _print_inspection(inspection: dict[str, Any]) -> None:
    table = _table("what", "value")
    for name, value in inspection.items():
        for key, count in _flat(name, value):
            table.add_row(key, f"{count:,}" if type(count) is int else str(count))
    _console(to_stdout=True).print(table)


def _flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    """Nested counts as `name: key: key`; examples and what is not known are left out."""
    if not isinstance(value, dict):
        yield from [(name, value)] if value is not None else []
        return
    for key, inner in value.items():
        if key != "examples":
            yield from _flat(f"{name}: {key}", inner)


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(*columns, box=SIMPLE)
    table.columns[-1].justify = "right"
    return table


def _console(*, to_stdout: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=not to_stdout, markup=False, highlight=False)


def _pairs(values: list[str] | None, option: str) -> dict[str, str]:
    pairs = dict(value.partition("=")[::2] for value in values or [])
    if not all(pairs.values()):
        raise UsageError(f"{option} takes ROLE=NAME, got {' '.join(values or [])}")
    return pairs


def _genders(values: list[str] | None) -> dict[str, Any]:
    from agelens.datasets.labels import parse_gender

    codes = {code: parse_gender(word) for code, word in _pairs(values, "--gender-code").items()}
    if None in codes.values():
        raise UsageError("--gender-code takes CODE=female or CODE=male, for example --gender-code 0=male")
    return codes


def _add_kinds() -> None:
    from agelens.datasets.kinds import KINDS

    for kind, description in KINDS.items():
        _add_kind(kind, description)


_add_kinds()
