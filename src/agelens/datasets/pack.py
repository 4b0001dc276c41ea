"""A data set as one HDF5 file of pictures and labels, named as the project that agelens began from named them.

`x_train`, `x_test` (N, size, size, 3) RGB uint8, one compressed chunk a picture; `y_train_age`, `y_test_age` (index
of the age group where the set has groups, else whole years), `y_train_gender`, `y_test_gender` (0 male, 1 female); -1
where unknown, and `mask_*_age`, `mask_*_gender` say so too. For each part also `age_low_*`, `age_high_*`,
`subject_*`, `fold_*`, `path_*`, `group_*` (near-duplicates). `manifest` holds the whole manifest as JSON Lines. The
attributes hold the provenance. A row with a box has its face in the middle of its picture, and nothing far from it; the
box in the manifest is the one there.

Every picture is read once, hashed, scaled and compressed on several threads into a `Stage`; only then, with all hashes
known, are the parts drawn, by subject, and the compressed chunks copied into place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps

from agelens.advice import how_to_install
from agelens.datasets.duplicates import hash_picture
from agelens.datasets.faces import GREY, box_within, show_around
from agelens.datasets.importing import ImportOptions
from agelens.datasets.manifest import Columns, Manifest, canonical_row
from agelens.datasets.manifest_file import from_lines, to_lines
from agelens.datasets.pictures import Pictures
from agelens.datasets.prepare import ImportedSet, PrepareOptions, check_rows, import_source
from agelens.datasets.rows import Row
from agelens.datasets.scan import (
    OUTSIDE,
    Progress,
    default_workers,
    is_outside,
    ordered,
    read_picture,
    unreadable,
    with_groups,
)
from agelens.datasets.stage import Stage, StagedPicture
from agelens.errors import DamagedDatasetError, InputError, MissingPackageError, NotFoundError, UsageError
from agelens.outfile import typed_output_errors

if TYPE_CHECKING:
    import h5py

    from agelens.types import Image, Pixels

FORMAT = "agelens.pack/1"
TEST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class PackSummary:
    """What a written pack holds: rows by part, and the manifest's fingerprint."""

    path: Path
    train: int
    test: int
    fingerprint: str
    manifest: Manifest


def prepare_pack(
    kind: str,
    path: Path,
    target: Path,
    importing: ImportOptions | None = None,
    options: PrepareOptions | None = None,
    progress: Progress | None = None,
) -> PackSummary:
    """Import a data set and write it as one `.h5`; goes on where a killed call of the same arguments stopped.

    Args:
        kind: One of `kinds.KINDS`.
        path: Its folder or archive; for a table, the file.
        target: The `.h5` to write.
        importing: How to read the set.
        options: What to do with its rows. Without shares, a set that has no val or test of its own is cut 90/10.
        progress: Called as pictures are done.

    Raises:
        MissingPackageError: h5py is not installed.
        UsageError: The size is out of reason.
        DatasetError, NotFoundError: As `prepare`.
        OutputError: The file cannot be written.
    """
    h5py = _h5py()
    options = options or PrepareOptions()
    size = options.size
    if not 16 <= size <= 1024:
        raise UsageError(f"pictures of {size} pixels: choose a size from 16 to 1024")
    source = import_source(kind, path, importing or ImportOptions(), options)
    rows = source.imported.rows
    with Stage(target, _key(source, size)) as stage:
        _fill(stage, source.pictures, rows, size, options.workers, progress)
        kept, places = [], []
        for row, place in zip(rows, stage.places, strict=True):
            if place.dhash:
                box = box_within(row.box, size) if row.box else None
                kept.append(replace(row, dhash=place.dhash, box=box))
                places.append(place)
            else:
                source.imported.tally.drop(stage.read(place).decode(), row.path)
        if not options.shares and not any(row.split in ("val", "test") for row in kept):
            options = replace(options, shares={"train": 1 - TEST_SHARE, "test": TEST_SHARE})
        manifest = check_rows(source, with_groups(kept), options)
        place_of = {(row.path, row.face): place for row, place in zip(kept, places, strict=True)}
        chosen = [place_of[face] for face in zip(manifest.columns.path, manifest.columns.face, strict=True)]
        test = is_test(manifest.columns)
        with typed_output_errors(target), h5py.File(stage.assembled, "w") as file:
            for part, mask in (("train", ~test), ("test", test)):
                indices = np.flatnonzero(mask)
                chunks = (stage.read(chosen[index]) for index in indices)
                _write_pictures(file, f"x_{part}", chunks, len(indices), size)
                _write_labels(file, part, manifest.take(indices))
            lines = np.frombuffer(b"".join(to_lines(manifest)), dtype=np.uint8)
            file.create_dataset("manifest", data=lines, compression="gzip")
            _write_attributes(file, manifest, size)
        stage.finish(target)
    return PackSummary(target, int((~test).sum()), int(test.sum()), manifest.fingerprint, manifest)


def check_pack(path: Path) -> Mapping[str, Any]:
    """The attributes of a pack, checked to be a whole one.

    Raises:
        NotFoundError: There is no such file.
        DamagedDatasetError: It is no pack, or not a whole one.
        MissingPackageError: h5py is not installed.
    """
    h5py = _h5py()
    if not path.is_file():
        raise NotFoundError(f"there is no pack {path}")
    try:
        with h5py.File(path, "r") as file:
            attributes = {key: json.loads(value) for key, value in file.attrs.items()}
            lengths = {part: len(file[f"x_{part}"]) for part in ("train", "test")}
            rows = {part: len(file[f"y_{part}_age"]) for part in ("train", "test")}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DamagedDatasetError(f"{path} is no pack of agelens, or was cut: {error}. Prepare it again") from error
    if attributes.get("format") != FORMAT or lengths != attributes.get("rows") or rows != lengths:
        raise DamagedDatasetError(f"{path} is no whole pack of the format {FORMAT!r}. Prepare it again")
    return attributes


def read_pack(path: Path) -> Manifest:
    """The manifest of a pack. Its rows stand in `x_train` and `x_test` in the same order, by `is_test`.

    Raises:
        As `check_pack`.
    """
    check_pack(path)
    with _h5py().File(path, "r") as file:
        content = file["manifest"][()].tobytes()
    return from_lines(content, path)


def open_pixels(path: Path) -> Callable[[int], Pixels]:
    """What gives the pixels of a pack's picture, shape (size, size, 3), by its row in the manifest.

    Raises:
        As `check_pack`.
    """
    test = is_test(read_pack(path).columns)
    places = np.where(test, np.cumsum(test), np.cumsum(~test)) - 1
    file = _h5py().File(path, "r")
    return lambda row: np.asarray(file["x_test" if test[row] else "x_train"][places[row]])


def is_test(columns: Columns) -> NDArray[np.bool_]:
    """Mask (N,) of the rows that a pack has in its test part; the others are in its train part."""
    # A set with both keeps its test for the test; its val trains here, as a validation part is drawn from train.
    name = "test" if (columns.split == "test").any() else "val"
    return np.asarray(columns.split == name, dtype=bool)


def scale_picture(picture: PillowImage.Image, size: int) -> PillowImage.Image:
    """A picture as a square of `size` pixels; one that is no square is padded with grey.

    Area interpolation where it shrinks, bilinear where it grows.
    """
    width, height = picture.size
    if width != height:
        side = max(width, height)
        picture = ImageOps.pad(picture, (side, side), color=GREY)
    method = PillowImage.Resampling.BOX if max(width, height) > size else PillowImage.Resampling.BILINEAR
    return picture.resize((size, size), method)


def _fill(
    stage: Stage, pictures: Pictures, rows: list[Row], size: int, workers: int | None, progress: Progress | None
) -> None:
    compress = find_compressor()

    def work(row: Row) -> StagedPicture:
        try:
            image = read_picture(pictures, row.path)
            if is_outside(row, image):
                return StagedPicture("", OUTSIDE.encode())
            shown = _show(image, row, 1.5 * size)
        except InputError as error:
            return StagedPicture("", unreadable(error).encode())
        return StagedPicture(hash_picture(image.picture), compress(scale_picture(shown, size).tobytes()))

    done = len(stage.places)
    for picture in ordered(work, rows[done:], workers or default_workers()):
        stage.append(picture)
        done += 1
        if progress is not None:
            progress(done, len(rows))


def _show(image: Image, row: Row, fine: float) -> PillowImage.Image:
    """What the pack shows of a picture, with some `fine` pixels a side.

    These are half as many again as the result has: so much is left to average that nobody sees the first half.
    """
    if row.box is not None:
        return show_around(image, row.box, fine)
    return image.at_scale(min(fine / max(image.width, image.height), 1.0)).picture


def find_compressor() -> Callable[[bytes], bytes]:
    """What makes zlib streams fastest here: `isal` where it is installed (six times faster), else zlib itself."""
    try:
        from isal import isal_zlib
    except ImportError:
        import zlib

        return lambda content: zlib.compress(content, 1)
    return lambda content: isal_zlib.compress(content, 1)


def _key(source: ImportedSet, size: int) -> bytes:
    digest = hashlib.sha256(f"{FORMAT} {size} {source.pictures.root}".encode())
    for row in source.imported.rows:
        digest.update(canonical_row(row))
    return digest.digest()


def _write_pictures(file: h5py.File, name: str, chunks: Iterable[bytes], count: int, size: int) -> None:
    shape = (size, size, 3)
    dataset = file.create_dataset(
        name, (count, *shape), "u1", chunks=(1, *shape), maxshape=(None, *shape), compression="gzip", compression_opts=1
    )
    for index, chunk in enumerate(chunks):
        dataset.id.write_direct_chunk((index, 0, 0, 0), chunk)


def _write_labels(file: h5py.File, part: str, manifest: Manifest) -> None:
    columns = manifest.columns
    if manifest.groups:
        index = {group: number for number, group in enumerate(manifest.groups)}
        age = np.array([index.get(group, -1) for group in columns.age_group], dtype=np.int64)
    else:
        age = np.nan_to_num(np.floor(manifest.exact_age), nan=-1).astype(np.int64)
    gender = columns.gender.astype(np.int64)
    plain = {
        f"y_{part}_age": age,
        f"y_{part}_gender": gender,
        f"mask_{part}_age": age >= 0,
        f"mask_{part}_gender": gender >= 0,
        f"age_low_{part}": columns.age_low,
        f"age_high_{part}": columns.age_high,
        f"fold_{part}": columns.fold,
        f"group_{part}": columns.group,
    }
    for name, values in plain.items():
        file.create_dataset(name, data=values)
    text = _h5py().string_dtype()
    for name, texts in ((f"subject_{part}", columns.subject), (f"path_{part}", columns.path)):
        file.create_dataset(name, data=[value or "" for value in texts], dtype=text)


def _write_attributes(file: h5py.File, manifest: Manifest, size: int) -> None:
    attributes = {
        "format": FORMAT,
        "kind": manifest.kind,
        "size": size,
        "groups": list(manifest.groups),
        "age_target": "group" if manifest.groups else "years",
        "genders": ["male", "female"],
        "fingerprint": manifest.fingerprint,
        "leaky": manifest.leaky,
        "versions": dict(manifest.versions),
        "provenance": dict(manifest.provenance),
        "rows": {part: len(file[f"x_{part}"]) for part in ("train", "test")},
    }
    for name, value in attributes.items():
        file.attrs[name] = json.dumps(value, ensure_ascii=False)


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise MissingPackageError(f"an .h5 needs h5py: {how_to_install('train', 'h5py')}") from error
    module: ModuleType = h5py
    return module
