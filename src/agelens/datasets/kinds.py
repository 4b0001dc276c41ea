"""The data sets that can be prepared: name -> importer, loaded when it is asked for."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import cast

from agelens.datasets.importing import Importer
from agelens.errors import UsageError

KINDS = {
    "adience": "the Adience benchmark: faces/ or aligned/ and the five fold files",
    "utkface": "UTKFace: age, gender and race in the files' names",
    "fairface": "FairFace: train/ and val/ and their label CSVs",
    "aaf": "All-Age-Faces: serial number and age in the files' names",
    "fgnet": "FG-NET: person and age in the files' names",
    "appa_real": "APPA-REAL: train/, valid/, test/ and the gt_avg_*.csv",
    "imdb_wiki": "IMDB-WIKI: imdb.mat or wiki.mat beside its numbered folders",
    "agedb": "AgeDB: name, age and gender in the files' names",
    "folder": "your own: labels are folder names (18-25/x.jpg, male/x.jpg, train/female/30/x.jpg)",
    "table": "your own: a CSV, TSV, JSON Lines or Parquet file with named columns",
}


def find_importer(kind: str) -> Importer:
    """The importer of a kind of data set; `-` and `_` mean the same.

    Raises:
        UsageError: There is none of that name.
    """
    name = kind.lower().replace("-", "_")
    if name not in KINDS:
        near = difflib.get_close_matches(name, KINDS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"there is no kind of data set {kind!r}.{hint} There are: {', '.join(KINDS)}")
    module = import_module(f"agelens.datasets.{name}")
    return cast(Importer, getattr(module, f"import_{name}"))
