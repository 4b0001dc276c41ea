"""A data set made ready for one training: faces cut, splits drawn, labels checked, and what is said of it all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.align import CropGeometry
from agelens.datasets.manifest_file import read_manifest
from agelens.datasets.splits import assign_splits, link_rows, refuse_leaks
from agelens.decode import decode
from agelens.errors import EmptyDatasetError, NotFoundError, UsageError
from agelens.groups import AgeGroups
from agelens.training.build import choose_layout
from agelens.training.classes import YEARS, find_groups, group_classes
from agelens.training.crops import WIDENING, CropSet, aligned_cut, cut_crops, open_crops
from agelens.training.levi_hassner import PICTURE, WINDOW
from agelens.training.networks import FaceNetwork
from agelens.training.pictures_h5 import open_h5
from agelens.training.whole import measure_geometry, whole_cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.datasets.manifest import Manifest
    from agelens.training.config import Config
    from agelens.training.foreign import Weights
    from agelens.training.listeners import Listeners
    from agelens.training.team import Team
    from agelens.types import Image

Tell = Callable[[str], None]
MOST_MUTE = 0.5
"""Share of the age labels that may teach nothing before it is said."""


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What a training learns from and is measured on.

    Attributes:
        crops: The faces.
        train: Rows of `crops` to learn from; only those that have a label of the task.
        val: Rows that choose the best weights.
        test: Rows that are looked at once, at the end.
        age_known: Whether each face's age label counts, shape (len(crops),).
        groups: The age groups of the accuracies, and of levi-hassner.
        geometry: What prediction must cut for the network.
        widening: By how much the faces on disk are wider than that.
        about: The data set, as the results tell of it.
    """

    crops: CropSet
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    age_known: NDArray[np.bool_]
    groups: AgeGroups
    geometry: CropGeometry
    widening: float
    about: dict[str, Any]


def open_material(config: Config, task: str, origin: Weights | None, team: Team, listeners: Listeners) -> Material:
    """Opens the data, cuts the faces (once: they are kept under DATA.OUTPUT_DIR), draws what splits are missing.

    Args:
        config: Says where the data is and which crop the network wants.
        task: "age", "gender" or "both".
        origin: What the network begins with or goes on from: it may want a crop of its own.
        team: Process 0 cuts, the others wait.
        listeners: Are told what a user should know, and how the cutting gets on.

    Raises:
        NotFoundError: The data is not there.
        UsageError: No data was named.
        LeakError: The splits leak.
        EmptyDatasetError: Nothing, or only one class, is left to learn from.
        DamagedDatasetError: The data is not what was once prepared.
    """
    source = open_data(find_data(config))
    source = replace(source, manifest=draw_validation(source.manifest, config, listeners.tell))
    source = replace(source, manifest=refuse_leaks(source.manifest, allow=config.data.allow_leak))
    if source.manifest.leaky and team.leads:
        listeners.tell("the splits LEAK: people or photographs stand on both sides; every result says so")
    geometry = find_geometry(config, source, origin, listeners.tell)
    material = cut_material(config, task, source, geometry, team, listeners)
    check_material(material, task)
    if task != "gender":
        check_ages(material, config, listeners.tell)
    return material


def cut_material(
    config: Config,
    task: str,
    source: OpenedData,
    geometry: CropGeometry,
    team: Team,
    listeners: Listeners,
) -> Material:
    """The faces of a data set as a network of some geometry wants them; nothing is checked for learning from it."""
    crops = _open_crops(config, source, geometry, team, listeners)
    if crops.lost and team.leads:
        total = sum(crops.lost.values())
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(crops.lost.items()))
        listeners.tell(f"{total:,} of {total + len(crops):,} pictures gave no face ({reasons})")
    manifest = source.manifest
    groups = find_groups(manifest.groups, config.data.groups or None)
    age_known = ~np.isnan(crops.age_low)
    if manifest.groups and groups.labels == manifest.groups:
        # In the set's own protocol, a face whose age lies in none of the groups has no age label.
        age_known &= np.array([group is not None for group in manifest.columns.age_group[crops.row]])
    split = manifest.columns.split[crops.row].astype(str)
    gender_known = ~np.isnan(crops.female)
    useful = {"age": age_known, "gender": gender_known, "both": age_known | gender_known}[task]
    parts = {name: np.flatnonzero(useful & (split == name)) for name in ("train", "val", "test")}
    about = {
        "file": str(source.file.absolute()),
        "kind": manifest.kind,
        "fingerprint": source.fingerprint,
        "order": manifest.order,
        "held_out": str(config.data.test_fold) if config.data.test_fold >= 0 else "",
        "leaky": manifest.leaky,
        "faces": len(crops),
        "lost": crops.lost,
        "datasets": sorted(set(crops.dataset[np.concatenate([parts["train"], parts["val"]])].tolist())),
        "groups": list(groups.labels),
        "labels": {name: _count_labels(crops, age_known, rows) for name, rows in parts.items()},
    }
    return Material(
        crops=crops,
        **parts,
        age_known=age_known,
        groups=groups,
        geometry=geometry,
        widening=PICTURE / WINDOW if config.network.name == "levi-hassner" else WIDENING,
        about=about,
    )


def find_data(config: Config) -> Path:
    """The file that the configuration means.

    Raises:
        UsageError: It names none.
        NotFoundError: It is not there.
    """
    data = config.data
    folder = Path(data.data_dir) if data.data_dir else Path()
    name = data.file or config.dataloader.dataset_name
    if not name and (not data.data_dir or folder.is_dir()):
        raise UsageError("which data? --data FILE: a manifest or an .h5 of `agelens prepare`")
    places = [Path(data.file)] if data.file else []
    places += [folder / name, folder / f"{name}.h5"] if name else []
    places += [folder] if data.data_dir else []
    for place in places:
        if place.is_file():
            return place
    raise NotFoundError(
        f"there is no data at {' or '.join(map(str, places))}; make it with `agelens prepare KIND PATH -o FILE`"
    )


@dataclass(frozen=True, slots=True, eq=False)
class OpenedData:
    """A data set as it is on disk.

    Attributes:
        manifest: Its rows; their splits may be drawn later.
        read: Gives the picture of a row.
        file: Where it comes from.
        fingerprint: Of the rows as they are in the file: what it is known by, whatever splits are drawn.
    """

    manifest: Manifest
    read: Callable[[int], Image]
    file: Path
    fingerprint: str


def open_data(file: Path) -> OpenedData:
    """Opens a manifest or an `.h5`.

    Raises:
        EmptyDatasetError: It holds no faces.
        NotFoundError, DamagedDatasetError: It, or its pictures, are not there or not whole.
    """
    with file.open("rb") as opened:
        is_h5 = opened.read(8) == b"\x89HDF\r\n\x1a\n"
    if is_h5 or file.suffix in (".h5", ".hdf5"):
        manifest, read = open_h5(file)
    else:
        manifest = read_manifest(file)
        pictures = manifest.open_pictures()
        names = [str(name) for name in manifest.columns.path]

        def read(row: int) -> Image:
            return decode(pictures.read(names[row]))

    if not len(manifest):
        raise EmptyDatasetError(f"{file} holds no faces; prepare it again and read its table of what was dropped")
    return OpenedData(manifest, read, file, manifest.fingerprint)


def hold_out(manifest: Manifest, fold: int, tell: Tell) -> Manifest:
    """The manifest with one of its folds as the test part and all else as train.

    What is linked to the fold (the same person, a near-duplicate) is in neither: the fold stays whole, as the protocol
    has it, and train knows nothing of it.

    Raises:
        UsageError: There is no such fold, or nothing beside it.
    """
    test = np.asarray(manifest.columns.fold == fold)
    if not test.any() or test.all():
        there = ", ".join(str(number) for number in np.unique(manifest.columns.fold) if number >= 0) or "none"
        raise UsageError(f"DATA.TEST_FOLD is {fold}, and the data has the folds: {there}")
    units = link_rows(manifest)
    linked = np.isin(units, units[test]) & ~test
    if linked.any():
        tell(f"{linked.sum():,} faces are left out: they show people or photographs of fold {fold}")
    split = np.where(test, "test", "train").astype(object)
    split[linked] = None
    return manifest.with_splits(split)


def draw_validation(manifest: Manifest, config: Config, tell: Tell) -> Manifest:
    """The manifest with a validation part: its own, or one drawn from train so that nobody stands on both sides."""
    if config.data.test_fold >= 0:
        manifest = hold_out(manifest, config.data.test_fold, tell)
    else:
        split = manifest.columns.split.copy()
        split[np.array([name is None for name in split], dtype=bool)] = "train"
        manifest = manifest.with_splits(split)
    split = manifest.columns.split
    if (split == "val").any():
        return manifest
    share = config.dataloader.validation_split
    if manifest.columns.subject[split == "train"].astype(bool).sum() == 0:
        tell("the data does not say who is who: validation is drawn by picture, and may know people of train")
    shares = {"train": 1 - share, "val": share}
    return assign_splits(manifest, shares, seed=config.hyperparameters.seed, within=split == "train")


def find_geometry(config: Config, source: OpenedData, origin: Weights | None, tell: Tell) -> CropGeometry:
    """What prediction must cut for the network: the usual crop, or for face crops how faces lie in these."""
    if config.network.name == "levi-hassner":
        plain = CropGeometry(WINDOW).widen(PICTURE / WINDOW, PICTURE)
    elif origin is not None and origin.about.get("kind") == FaceNetwork.kind and "crop" in origin.about:
        plain = CropGeometry(**origin.about["crop"])
    else:
        plain = CropGeometry(choose_layout(config, origin).size)
    if config.data.crop == "face":
        return plain
    measured = measure_geometry(len(source.manifest), source.read, plain.size)
    if measured is None:
        tell("where faces lie in these pictures could not be measured: the exported model will assume the usual crop")
    return measured or plain


def _open_crops(
    config: Config, source: OpenedData, geometry: CropGeometry, team: Team, listeners: Listeners
) -> CropSet:
    """The faces on disk, cut first where they are not there; those of levi-hassner have their room already."""
    has_room = config.network.name == "levi-hassner"
    wider = 1.0 if has_room else WIDENING
    on_disk = geometry if has_room else geometry.widen(wider, round(geometry.size * wider))
    # Faces are known by the numbers of their rows, so rows in another order want crops of their own.
    facts = [source.fingerprint, source.manifest.order, config.data.crop, on_disk.to_dict()]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    folder = (Path(config.data.crops_dir) if config.data.crops_dir else Path(config.data.output_dir) / "crops") / key
    if team.leads and not (folder / "crops.json").is_file():
        is_whole = config.data.crop == "whole"
        if is_whole:
            cut = whole_cut(source.read, on_disk.size, wider)
        else:
            cut = aligned_cut(source.manifest, on_disk, source.read)
        cut_crops(source.manifest, folder, on_disk, cut=cut, progress=listeners.cutting)
    team.wait()
    return open_crops(folder)


def _count_labels(crops: CropSet, age_known: NDArray[np.bool_], rows: NDArray[np.int64]) -> dict[str, int]:
    female = crops.female[rows]
    return {
        "faces": len(rows),
        "age": int(age_known[rows].sum()),
        "female": int((female == 1).sum()),
        "male": int((female == 0).sum()),
    }


def check_material(material: Material, task: str) -> None:
    """Refuses what nothing can be learned from.

    Raises:
        EmptyDatasetError: No labels of the task in train or val, or only one class in train.
    """
    counts = material.about["labels"]
    for part in ("train", "val"):
        if not counts[part]["faces"]:
            raise EmptyDatasetError(
                f"no face with a label for {task} is left in {part}: {counts}; prepare the data again, or change"
                " DATALOADER.VALIDATION_SPLIT"
            )
    train = material.train
    if task != "age" and not (counts["train"]["female"] and counts["train"]["male"]):
        raise EmptyDatasetError(
            f"train holds {counts['train']['female']} female and {counts['train']['male']} male faces; gender is"
            " learned from both: add the other, or train --age-gender age"
        )
    if task != "gender":
        low = material.crops.age_low[train][material.age_known[train]]
        if len(np.unique(low)) < 2:
            raise EmptyDatasetError(
                f"train holds {len(np.unique(low))} different ages; an age is learned from several: add more, or train"
                " --age-gender gender"
            )


def check_ages(material: Material, config: Config, tell: Tell) -> None:
    """Refuses ages of which the network would learn a single class, and says where most of them teach nothing.

    Raises:
        EmptyDatasetError: The labels that the loss learns from are all of one class, or there is none.
    """
    rows = material.train[material.age_known[material.train]]
    is_face, single = config.network.kind == "face", config.hyperparameters.loss == "cross_entropy"
    classes = YEARS if is_face else group_classes(material.groups)
    marks = classes.mark(material.crops.age_low[rows], material.crops.age_high[rows], single=single)
    taught, mute = int(marks.any(axis=0).sum()), int((~marks.any(axis=1)).sum())
    several = "years" if is_face else f"of the groups {material.groups.name}"
    said = f"of {len(rows):,} age labels in train {mute:,} reach over several {several}, so cross_entropy drops them"
    cure = "choose another --loss" if is_face else "choose other --groups, or another --loss"
    if taught < 2:
        raise EmptyDatasetError(
            f"the age labels of train tell of {taught} of the network's classes, and an age is learned from several"
            f"{f' ({said})' if mute else ''}; {cure}, or train --age-gender gender"
        )
    if mute > MOST_MUTE * len(rows):
        tell(f"WARNING: {said}; {cure}")


def rare_age_weights(material: Material, power: float) -> NDArray[np.float64]:
    """How often each row of train is drawn: the size of its five-year band to the power of -`power`."""
    rows = material.train
    if power <= 0:
        return np.ones(len(rows))
    low, high = material.crops.age_low[rows], material.crops.age_high[rows]
    typical = np.where(material.age_known[rows], np.minimum((low + high) / 2, low + 5), -5)
    _, kinds, counts = np.unique(np.floor(typical / 5), return_inverse=True, return_counts=True)
    weights = counts[kinds].astype(np.float64) ** -power
    return np.asarray(weights / weights.mean())


def inverse_frequencies(labels: NDArray[np.int64], rows: NDArray[np.int64], most: float = 10.0) -> NDArray[np.float32]:
    """A weight for each label, mean 1 over `rows`: the rarer the class there, the heavier; -1 (unknown) weighs 1.

    Args:
        labels: Class of each face, shape (N,).
        rows: Those to count, shape (M,).
        most: No class weighs more than so many times the commonest.
    """
    counted = labels[rows][labels[rows] >= 0]
    counts = np.bincount(counted, minlength=int(labels.max(initial=0)) + 1).astype(np.float64)
    per_class = np.minimum(counts.max(initial=1) / np.maximum(counts, 1), most)
    per_class /= max(float(per_class[counted].mean()), 1e-9) if len(counted) else 1.0
    return np.where(labels >= 0, per_class[np.maximum(labels, 0)], 1.0).astype(np.float32)
