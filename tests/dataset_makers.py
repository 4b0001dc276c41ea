"""Made-up data sets for tests: every picture is generated, different from all others, and no person's.

pattern(seed)              a smooth random picture; other seeds give other difference hashes
write_pictures(folder, ..) files of such pictures by name
make_adience(folder, ..)   a small set in Adience's layout, with every odd label that the real one has
real_data()                the folder of the labelled faces, or None
"""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEADER = "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\ttilt_ang\tfiducial_yaw_angle\tfiducial_score"

ODD_AGES = (
    *("35", "13", "22", "34", "23", "45", "55", "36", "57", "3", "29", "58", "2", "32", "56", "42", "46"),
    *("(27, 32)", "(25, 23)", "(38, 42)", "(38, 48)", "(8, 23)", "None"),
)
STANDARD_AGES = ("(0, 2)", "(4, 6)", "(8, 12)", "(15, 20)", "(25, 32)", "(38, 43)", "(48, 53)", "(60, 100)")


def pattern(seed: int, side: int = 48) -> NDArray[np.uint8]:
    """RGB of shape (side, side, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def encoded(seed: int, side: int = 48, kind: str = "PNG", **options: int) -> bytes:
    """The bytes of a file of `pattern(seed)`."""
    buffer = io.BytesIO()
    Image.fromarray(pattern(seed, side)).save(buffer, kind, **options)
    return buffer.getvalue()


def write_pictures(folder: Path, names: Iterable[str], first_seed: int = 0) -> None:
    """Write one picture under each name, whatever its ending says."""
    for seed, name in enumerate(names, first_seed):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(seed))


def make_adience(folder: Path, layout: str = "faces", people: int = 10, each: int = 6) -> int:
    """Write a small Adience and return how many rows its fold files hold: all labelled by turns, two people a fold."""
    prefix = {"faces": "coarse_tilt_aligned_face", "aligned": "landmark_aligned_face"}[layout]
    ages = STANDARD_AGES + ODD_AGES
    count = 0
    lines: dict[int, list[str]] = {fold: [HEADER] for fold in range(5)}
    names = []
    for person in range(people):
        user = f"{1000 + person}@N0{person % 10}"
        for number in range(each):
            image = f"{count:05d}_abc_o.jpg"
            age, gender = ages[count % len(ages)], ("f", "m", "u", "")[number % 4]
            lines[person % 5].append("\t".join([user, image, str(person), age, gender, *["0"] * 7]))
            names.append(f"{layout}/{user}/{prefix}.{person}.{image}")
            count += 1
    for fold, text in lines.items():
        (folder / f"fold_{fold}_data.txt").write_text("\n".join(text) + "\n")
    write_pictures(folder, names)
    return count


def tar_of(folder: Path, target: Path, mode: str = "w") -> Path:
    """Pack a folder's content into a tar, under the folder's own name."""
    with tarfile.open(target, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, arcname=folder.name)
    return target


def zip_of(folder: Path, target: Path) -> Path:
    """Pack a folder's content into a zip, under the folder's own name."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
    return target


def real_data() -> Path | None:
    """Where the labelled faces are, if they are."""
    places = [os.environ.get("AGELENS_DATA"), Path(__file__).parents[2] / "shared" / "data"]
    return next((Path(place) for place in places if place and (Path(place) / "labels.csv").is_file()), None)
