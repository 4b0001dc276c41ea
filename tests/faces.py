"""Faces for tests: the portrait that ships, and the labelled ones of the data folder where there is one.

portrait()           NASA's portrait of Eileen Collins (public domain), RGB, shape (512, 512, 3)
PORTRAIT_FACE        where its face is
shrunk_face(side)    that face alone, its box `side` pixels wide
sample(pack, count)  names and bytes of labelled pictures, the same each time; skips the test where there are none
"""

from __future__ import annotations

import csv
import functools
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from agelens.types import Box, Image

Pixels = NDArray[np.uint8]

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "src" / "agelens" / "examples" / "astronaut.jpg"
DATA = Path(os.environ.get("AGELENS_DATA", ROOT.parent / "shared" / "data"))
PACKS = ("utkface-test", "aaf-test", "adience-test", "fairface-test")

PORTRAIT_FACE = Box(173.0, 61.0, 100.0, 130.0)
"""In pixels of the portrait, drawn by hand; good to a tenth of its side."""


@functools.cache
def portrait() -> Pixels:
    """Read-only."""
    with PillowImage.open(EXAMPLE) as picture:
        pixels = np.array(picture.convert("RGB").resize((512, 512), PillowImage.Resampling.LANCZOS))
    pixels.flags.writeable = False
    return pixels


def as_image(pixels: Pixels) -> Image:
    return Image(np.ascontiguousarray(pixels), pixels.shape[1], pixels.shape[0])


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(PillowImage.fromarray(pixels).resize((width, height), PillowImage.Resampling.LANCZOS))


def shrunk_face(side: int) -> Pixels:
    """Head and shoulders of the portrait; the face's box is about `side` pixels wide in it."""
    head = portrait()[:300, 80:360]
    scale = side / PORTRAIT_FACE.width
    return resized(head, round(head.shape[1] * scale), round(head.shape[0] * scale))


def background(width: int, height: int, seed: int = 0) -> Pixels:
    """A soft, slightly noisy gradient without anything on it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    planes = [120 + 60 * x / width, 130 + 40 * y / height, 160 - 50 * x / width]
    pixels = np.stack(planes, axis=-1) + rng.normal(0, 4, (height, width, 1)).astype(np.float32)
    return pixels.round().clip(0, 255).astype(np.uint8)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (a.width * a.height + b.width * b.height - shared)


def open_pack(pack: str) -> tarfile.TarFile:
    """The archive of the data folder; skips the test where it isn't there."""
    path = DATA / f"{pack}.tar"
    if not path.is_file():
        pytest.skip(f"needs the labelled faces: no {path}; set AGELENS_DATA to their folder")
    return tarfile.open(path)


def sample(pack: str, count: int | None = None, seed: int = 0) -> list[tuple[str, bytes]]:
    """Names and bytes of `count` pictures of a pack, or of all."""
    with open_pack(pack) as archive:
        members = sorted(
            (m for m in archive.getmembers() if m.isfile() and not m.name.endswith(".csv")), key=lambda m: m.name
        )
        if count is not None:
            rows = np.random.default_rng(seed).choice(len(members), count, replace=False)
            members = [members[row] for row in sorted(rows)]
        return [(member.name, archive.extractfile(member).read()) for member in members]


def counted_photos() -> list[tuple[str, bytes, int]]:
    """Photos of `photos.tar` in which a person counted the faces: name, bytes, number."""
    with open_pack("photos") as archive:
        text = (
            archive.extractfile(next(m for m in archive.getmembers() if m.name.endswith("faces.csv"))).read().decode()
        )
    counts = {row["path"]: row["n_faces"] for row in csv.DictReader(io.StringIO(text))}
    photos = [(Path(name).name, data) for name, data in sample("photos")]
    return [(name, data, int(counts[name])) for name, data in photos if counts[name]]
