"""FairFace (Karkkainen & Joo, WACV 2021; CC BY 4.0): nine age bands, gender, seven races, published as train and val.

Expected: `train/1.jpg ...` and `val/1.jpg ...` with `fairface_label_train.csv` and `fairface_label_val.csv` (columns
file, age, gender, race, service_test), or `--labels` for a file elsewhere. The published lists went through a
spreadsheet, which took `3-9` and `10-19` for dates; both spellings are read.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from agelens.datasets.importing import (
    NO_PICTURE,
    Imported,
    ImportOptions,
    own_table,
    pack_labels,
    picture_names,
    read_split,
)
from agelens.datasets.label_table import TextRow, find_column
from agelens.datasets.labels import Band, known_text, parse_age, parse_gender, parse_mangled_age, write_age
from agelens.datasets.matching import match_paths
from agelens.datasets.pictures import Pictures
from agelens.datasets.rows import OLDEST_LABEL, Row, Tally
from agelens.errors import UnreadableLabelsError, WrongLayoutError
from agelens.groups import NAMED

BANDS: tuple[Band, ...] = NAMED["fairface"].close(OLDEST_LABEL)
GROUPS = tuple(write_age(band) for band in BANDS)


def import_fairface(pictures: Pictures, options: ImportOptions) -> Imported:
    """Read FairFace.

    Raises:
        WrongLayoutError: There are no pictures, or no labels for them.
        UnreadableLabelsError: A label file lacks a column.
    """
    names = picture_names(pictures, "fairface", "train/ and val/ and their fairface_label_*.csv")
    tally = Tally()
    if options.labels is not None:
        labels = pack_labels(options.labels, "fairface")
        source = str(options.labels)
    else:
        labels, source = _own_labels(pictures)
    if not labels:
        raise UnreadableLabelsError(f"{source} holds no row of FairFace")
    columns = {
        "file": find_column(labels[0], ["path", "file"], "picture's path", source),
        "age": find_column(labels[0], ["age"], "age", source),
        "gender": find_column(labels[0], ["gender"], "gender", source),
    }
    files = [row.get(columns["file"], "") for row in labels]
    places = match_paths(pictures.root, names, files)
    found = [(row, places.get(file)) for row, file in zip(labels, files, strict=True)]
    if "dataset" in labels[0]:
        # One file for several packs: only the rows of this one count, but then every picture must have its row.
        found = [(row, name) for row, name in found if name is not None]
        unlabelled = set(names) - {name for _, name in found}
        for lacking in sorted(unlabelled):
            tally.drop("no label", lacking)
        tally.rows += len(unlabelled)
    rows = []
    tally.rows += len(found)
    for label, name in found:
        split = read_split(label.get("split", ""), source)
        row = _row(label, columns, name, split, tally)
        if row is not None:
            rows.append(row)
    return Imported(rows, tally, GROUPS)


def _row(label: TextRow, columns: dict[str, str], name: str | None, split: str | None, tally: Tally) -> Row | None:
    file = label.get(columns["file"], "")
    if name is None:
        tally.drop(NO_PICTURE, file)
        return None
    written = label.get(columns["age"], "")
    clean = parse_age(written)
    band = clean or parse_mangled_age(written)
    if band not in BANDS:
        tally.drop(f"age {written!r} is none of the nine bands", file)
        return None
    if clean is None:
        tally.remap(f"{written} -> {write_age(band)}", file)
    gender = parse_gender(label.get(columns["gender"], ""))
    if gender is None:
        tally.leave_unlabelled("gender: not given", file)
    folder = PurePosixPath(file).parts[-2:-1]
    # What is published as "val" is what everybody is measured on; whoever trains cuts a part for choices from "train".
    published = {"train": "train", "val": "test"}.get(folder[0]) if folder else None
    return Row(
        dataset="fairface",
        path=name,
        age_low=band[0],
        age_high=band[1],
        gender=gender,
        race=known_text(label.get("race", "")),
        split=split or published,
        age_group=write_age(band),
    )


def _own_labels(pictures: Pictures) -> tuple[list[TextRow], str]:
    lists = [
        name
        for name in pictures.names()
        if name.lower().endswith(".csv") and ("label" in PurePosixPath(name).name.lower())
    ]
    if not lists:
        raise WrongLayoutError(
            f"{pictures.root} holds no label list (fairface_label_train.csv, fairface_label_val.csv). Put them there, "
            f"or name one: --labels FILE.csv"
        )
    return [row for name in lists for row in own_table(pictures, name)], ", ".join(lists)
