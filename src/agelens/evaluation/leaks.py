"""Whether a model has seen the pictures that it is about to be measured on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.datasets.duplicates import near_pairs
from agelens.datasets.splits import link_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from agelens.datasets.manifest import Manifest
    from agelens.evaluation.protocol import Protocol
    from agelens.modelspec import ModelSpec

DATA_KEY = "data"
"""Where a model's recipe says the fingerprint (or a list of them) of the manifests that it was trained on."""
HELD_OUT_KEY = "held_out"
"""Where a recipe names the fold or the person that was left out of a manifest whose fingerprint it says."""
SEEN_KEY = "seen"
"""Where a recipe lists the same of weights that were learned on from, and the `name` of the data, or that alone."""
CALIBRATED_KEY = "calibrated_on"
"""Where a recipe says `name` and fingerprint of a manifest that the model was calibrated on, its test part left out."""


def find_leak_reasons(
    spec: ModelSpec,
    whole: Manifest,
    tested: NDArray[np.int64],
    protocol: Protocol,
    *,
    held_out: str | None = None,
) -> Iterator[str]:
    """Why figures of this model on these rows would be too good, each as a sentence.

    Args:
        spec: Of the model.
        whole: The manifest.
        tested: Indices of the rows that are to be evaluated.
        protocol: What they are evaluated by.
        held_out: The fold or person that the rows are, where the model is to be one of several.
    """
    if whole.leaky:
        yield "the data set was prepared with leaks between its splits allowed"
    left_out = str(spec.recipe.get(HELD_OUT_KEY, ""))
    if held_out is not None and left_out and left_out != held_out:
        yield f"the model {spec.name} stands for {held_out!r} but was trained with it: it left out {left_out!r}"
    before = spec.recipe.get(SEEN_KEY, [])
    own = {DATA_KEY: spec.recipe.get(DATA_KEY, []), HELD_OUT_KEY: left_out}
    named = f"the model {spec.name}"
    yield from _find_seen(f"{named} was trained", own, whole, tested)
    for entry in before:
        yield from _find_seen(f"{named}: weights that it began with were trained", entry, whole, tested)
    yield from _find_seen(f"{named} was calibrated", spec.recipe.get(CALIBRATED_KEY, {}), whole, tested)
    yield from _find_named(spec, whole, tested, protocol, is_one_of_several=held_out is not None)


def _find_named(
    spec: ModelSpec, whole: Manifest, tested: NDArray[np.int64], protocol: Protocol, *, is_one_of_several: bool
) -> Iterator[str]:
    """Whether the data sets of rows are named by what a model has learned from, where none of them may be."""
    names = sorted(set(whole.columns.dataset[tested].tolist()))
    if protocol.folds is not None and is_one_of_several:
        before = [entry for entry in spec.recipe.get(SEEN_KEY, []) if whole.fingerprint not in _fingerprints(entry)]
        for name in names:
            if any(_names(entry, name) for entry in before):
                yield f"the model {spec.name} began with weights that name {name} among their training data"
    if protocol.unseen or (protocol.folds is not None and not is_one_of_several):
        for name in names:
            if any(_names(entry, name) for entry in spec.training_data):
                yield f"the model {spec.name} names {name} among its training data, and {protocol.name} is zero-shot"
            if _names(spec.recipe.get(CALIBRATED_KEY, {}), name):
                yield f"the model {spec.name} was calibrated on {name}, and {protocol.name} is zero-shot"


def find_doubts(spec: ModelSpec, whole: Manifest, tested: Manifest) -> Iterator[str]:
    """Where it can't be told from the model file whether its model has seen these rows, each as a sentence.

    Args:
        spec: Of the model.
        whole: The manifest.
        tested: Its rows that are to be evaluated.
    """
    entries = [spec.recipe, *spec.recipe.get(SEEN_KEY, [])]
    if any({whole.fingerprint, tested.fingerprint} & _fingerprints(entry) for entry in entries):
        return  # of which `find_leak_reasons` tells
    for name in sorted(set(tested.columns.dataset.tolist())):
        if any(_names(entry, name) for entry in spec.training_data):
            yield (
                f"the model {spec.name} has learned from {name}, as some other manifest holds it; whether from these"
                " pictures, --train-manifest FILE finds out"
            )


def _find_seen(said: str, seen: Mapping[str, Any], whole: Manifest, tested: NDArray[np.int64]) -> Iterator[str]:
    """Whether rows are among those of manifests that were learned from, each as a sentence.

    Args:
        said: How the sentence begins, up to "trained" or "calibrated".
        seen: Fingerprints under `DATA_KEY`, what was held out of them under `HELD_OUT_KEY`.
        whole: See `find_leak_reasons`, as for what follows.
        tested: Likewise.
    """
    fingerprints, left_out = _fingerprints(seen), str(seen.get(HELD_OUT_KEY, ""))
    if whole.take(tested).fingerprint in fingerprints:
        yield f"{said} on these very pictures"
    elif whole.fingerprint in fingerprints and find_used(whole, left_out)[tested].any():
        splits = ", ".join(sorted({str(split) for split in whole.columns.split[tested]}))
        kept = f"what it left out ({left_out!r})" if left_out else "its test part"
        yield f"{said} on this manifest, and pictures outside {kept} ({splits}) are to be evaluated"


def _fingerprints(seen: Mapping[str, Any]) -> set[str]:
    trained = seen.get(DATA_KEY, [])
    # The first exports wrote all that they knew of the data here.
    listed = trained if isinstance(trained, list) else [trained]
    return {str(entry.get("fingerprint")) if isinstance(entry, dict) else str(entry) for entry in listed}


def find_used(manifest: Manifest, left_out: str) -> NDArray[np.bool_]:
    """Which rows a training on a manifest has learned from or been chosen by, shape (N,).

    Args:
        manifest: What it was trained on.
        left_out: The fold, or the person, that it left out, and with it whatever is linked to that: the manifest's own
            test part is then trained on like the rest. Empty: it left the test part out.
    """
    columns = manifest.columns
    if not left_out:
        return np.asarray(columns.split != "test")
    apart = columns.fold.astype(str) == left_out
    if not apart.any():
        apart = np.asarray(columns.subject == left_out)
    units = link_rows(manifest)
    return ~np.isin(units, units[apart])


def find_shared(training: Manifest, tested: Manifest, left_out: str = "") -> Iterator[str]:
    """What of a training manifest was learned from and stands in the tested rows too, each as a sentence.

    Args:
        training: What a model was trained on.
        tested: The rows that are to be evaluated.
        left_out: See `find_used`.
    """
    used = training.take(find_used(training, left_out))
    people = set(_people(used)) & set(_people(tested))
    if people:
        names = ", ".join(sorted(f"{dataset}/{subject}" for dataset, subject in people)[:3])
        yield f"{len(people):,} people of the tested pictures are in the training manifest ({names})"
    hashes = np.concatenate([used.columns.dhash, tested.columns.dhash])
    known = np.flatnonzero(np.concatenate([used.columns.group, tested.columns.group]) >= 0)
    pairs = known[near_pairs(hashes[known])]
    across = pairs[(pairs[:, 0] < len(used)) & (pairs[:, 1] >= len(used))]
    shown = np.unique(across[:, 1]) - len(used)
    if len(shown):
        examples = ", ".join(str(path) for path in tested.columns.path[shown[:3]])
        yield f"{len(shown):,} tested pictures are near-duplicates of training pictures ({examples})"


def _people(manifest: Manifest) -> Iterator[tuple[str, str]]:
    pairs = zip(manifest.columns.dataset.tolist(), manifest.columns.subject.tolist(), strict=True)
    return ((dataset, subject) for dataset, subject in pairs if subject is not None)


def _names(entry: Mapping[str, Any], name: str) -> bool:
    """Whether what is said of training data names a data set, whatever its spelling: "All-Age-Faces" is `aaf`."""
    text = _FINGERPRINT.sub("", str(entry.get("name", "")))
    text = _HUMP.sub(" ", text).lower()
    return any(_spell(other).search(text) for other in (name, *_OTHER_NAMES.get(name, ())))


def _spell(name: str) -> re.Pattern[str]:
    """Finds a name at the beginning of a word, whatever stands between its letters."""
    letters = r"[\W_]*".join(_LETTER.findall(name.lower()))
    return re.compile(rf"(?<!{_LETTER.pattern}){letters}" if letters else r"(?!)")


_LETTER = re.compile(r"[^\W_]")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
"""Where another word begins without a space: "ourFairFace"."""
_FINGERPRINT = re.compile(r"\([0-9a-f]{12}\)")
"""What `export` writes behind a name; its letters name nothing."""
_OTHER_NAMES = {"aaf": ("all-age-faces",), "imdb_wiki": ("imdb", "wiki"), "appa_real": ("appa", "chalearn")}
