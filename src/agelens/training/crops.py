"""Faces cut from a data set once, so that each epoch reads pixels instead of decoding, detecting and aligning again.

A crop set is a folder: `pixels.npy` (uint8, shape (N, S, S, 3)), `rows.npz` (labels and where each face was found) and
`crops.json` (geometry, the manifest's fingerprint, what was left out). The faces are cut wider than the network sees
them, so that augmentation may turn, shift and zoom without running over an edge.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.align import CropGeometry, align
from agelens.datasets.faces import find_in_box
from agelens.decode import decode
from agelens.detect import FaceDetector, central_face
from agelens.errors import DamagedDatasetError, EmptyDatasetError, InputError
from agelens.outfile import typed_output_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.datasets.manifest import Manifest
    from agelens.datasets.scan import Progress
    from agelens.types import Image

Cut = Callable[[int], "NDArray[np.uint8] | str"]

WIDENING = 1.35
"""A crop on disk shows this much more than the network's crop: room for turns of 20 degrees and shifts of 8%."""


@dataclass(frozen=True, slots=True, eq=False)
class CropSet:
    """Aligned faces with their labels.

    Attributes:
        pixels: uint8, shape (N, S, S, 3), mapped from disk.
        geometry: What the crops show.
        age_low: First year of each age band, shape (N,), NaN where unknown.
        age_high: Last year (inclusive) of each age band, NaN where unknown.
        female: 1.0 female, 0.0 male, NaN unknown, shape (N,).
        race: As the data set names it, shape (N,).
        split: "train", "val", "test" or "", shape (N,).
        group: Number of the near-duplicate group, shape (N,), -1 where none was drawn.
        path: The picture, relative to the manifest's root, shape (N,).
        dataset: The set each face comes from, shape (N,).
        row: Which row of the manifest each face is, shape (N,).
        fingerprint: SHA-256 of the manifest's rows.
        lost: How many rows gave no face, by reason.
    """

    pixels: NDArray[np.uint8]
    geometry: CropGeometry
    age_low: NDArray[np.float32]
    age_high: NDArray[np.float32]
    female: NDArray[np.float32]
    race: NDArray[Any]
    split: NDArray[Any]
    group: NDArray[np.int64]
    path: NDArray[Any]
    dataset: NDArray[Any]
    row: NDArray[np.int64]
    fingerprint: str
    lost: dict[str, int]

    def __len__(self) -> int:
        return len(self.pixels)


LABELS = ("age_low", "age_high", "female", "race", "split", "group", "path", "dataset")


def cut_crops(
    manifest: Manifest,
    folder: Path,
    geometry: CropGeometry,
    *,
    cut: Cut | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> CropSet:
    """Finds and cuts the face of every row of a manifest: the one in the row's box, else the one in the middle.

    Args:
        manifest: What to cut.
        folder: Where the crop set goes; it is written beside and renamed when it is whole.
        geometry: What the crops show, see `CropGeometry.widen`.
        cut: Gives the crop of a row, shape (size, size, 3), or the reason why there is none; by default the picture is
            read from the manifest's root and the face found and aligned, see `aligned_cut`.
        workers: Threads.
        progress: Called with (done, total).

    Raises:
        EmptyDatasetError: Not one face was found.
        DiskFullError, OutputUnwritableError: The crops could not be written.
    """
    with typed_output_errors(folder):
        return _cut_crops(manifest, folder, geometry, cut or aligned_cut(manifest, geometry), (workers, progress))


def _cut_crops(
    manifest: Manifest, folder: Path, geometry: CropGeometry, cut: Cut, manner: tuple[int, Progress | None]
) -> CropSet:
    workers, progress = manner
    building = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    size, total = geometry.size, len(manifest)
    pixels = np.lib.format.open_memmap(building / "pixels.npy", mode="w+", dtype=np.uint8, shape=(total, size, size, 3))
    kept: list[int] = []
    lost: dict[str, int] = {}
    for index, result in enumerate(_cut_each(len(manifest), cut, workers)):
        if isinstance(result, str):
            lost[result] = lost.get(result, 0) + 1
        else:
            pixels[len(kept)] = result
            kept.append(index)
        if progress:
            progress(index + 1, total)
    if not kept:
        raise EmptyDatasetError(f"no face was found in any of the {total} pictures of {manifest.root}; lost: {lost}")
    pixels.flush()
    del pixels
    columns = manifest.columns
    rows = np.asarray(kept)
    gender = columns.gender[rows].astype(np.float32)
    np.savez(
        building / "rows.npz",
        age_low=columns.age_low[rows].astype(np.float32),
        age_high=columns.age_high[rows].astype(np.float32),
        female=np.where(gender < 0, np.float32("nan"), gender),
        race=_texts(columns.race[rows]),
        split=_texts(columns.split[rows]),
        group=np.asarray(columns.group[rows], dtype=np.int64),
        path=_texts(columns.path[rows]),
        dataset=_texts(columns.dataset[rows]),
        row=rows,
    )
    about = {
        "geometry": geometry.to_dict(),
        "manifest": manifest.fingerprint,
        "kind": manifest.kind,
        "leaky": manifest.leaky,
        "faces": len(kept),
        "pictures": total,
        "lost": lost,
    }
    (building / "crops.json").write_text(json.dumps(about, indent=2))
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
    return open_crops(folder)


def open_crops(folder: Path) -> CropSet:
    """A crop set from disk; the pixels stay there and are mapped.

    Raises:
        DamagedDatasetError: It is none, or not a whole one.
    """
    try:
        about = json.loads((folder / "crops.json").read_text())
        with np.load(folder / "rows.npz") as rows:
            labels = {name: rows[name] for name in LABELS}
            labels["row"] = rows["row"] if "row" in rows else np.full(about["faces"], -1)
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")[: about["faces"]]
        geometry = CropGeometry(**about["geometry"])
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise DamagedDatasetError(f"{folder} holds no whole crop set ({error}); delete it, it is made again") from error
    return CropSet(pixels, geometry, **labels, fingerprint=about["manifest"], lost=about["lost"])


def aligned_cut(manifest: Manifest, geometry: CropGeometry, read: Callable[[int], Image] | None = None) -> Cut:
    """Cuts a row's face, upright and in its true size: the one that meets its box best.

    Of a row without a box, that is the face in the middle of the picture.

    Args:
        manifest: The rows.
        geometry: What the crops show.
        read: Gives a row's picture; by default from the manifest's root.
    """
    detector = FaceDetector()
    boxes = manifest.columns.box
    if read is None:
        pictures = manifest.open_pictures()
        names = [str(name) for name in manifest.columns.path]

        def read(row: int) -> Image:
            return decode(pictures.read(names[row]))

    def cut(row: int) -> NDArray[np.uint8] | str:
        try:
            image = read(row)
        except InputError as error:
            return error.code
        faces = detector.detect(image)
        if not faces:
            return "no_face"
        known = not np.isnan(boxes[row]).any()
        face = find_in_box(faces, boxes[row]) if known else central_face(faces, image.width, image.height)
        return align(image, face.landmarks, geometry) if face else "no_face_in_box"

    return cut


def _cut_each(rows: int, cut: Cut, workers: int) -> Iterator[NDArray[np.uint8] | str]:
    """For each row in order its crop, or the reason why there is none."""
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, rows, 1024):
            yield from pool.map(cut, range(start, min(start + 1024, rows)))


def _texts(values: NDArray[Any]) -> NDArray[np.str_]:
    return np.array([value or "" for value in values], dtype=np.str_)
