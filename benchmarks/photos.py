"""The photos of the data folder, and how many faces people counted in them."""

from __future__ import annotations

import csv
import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image as PillowImage


@dataclass(frozen=True, slots=True)
class Photo:
    """One of them.

    Attributes:
        name: Of its file.
        faces: How many a person counted; None for a crowd, which nobody counted.
        content: The file.
    """

    name: str
    faces: int | None
    content: bytes = field(repr=False)

    def open(self) -> PillowImage.Image:
        """The picture, RGB."""
        return PillowImage.open(io.BytesIO(self.content)).convert("RGB")


def read_photos(archive: Path) -> list[Photo]:
    """All of `photos.tar`, in the order of its table."""
    with tarfile.open(archive) as pack:

        def read(name: str) -> bytes:
            file = pack.extractfile(f"photos/{name}")
            assert file
            return file.read()

        rows = csv.DictReader(io.StringIO(read("faces.csv").decode("utf-8")))
        return [Photo(row["path"], int(row["n_faces"]) if row["n_faces"] else None, read(row["path"])) for row in rows]


def scale_to(photo: PillowImage.Image, pixels: float) -> PillowImage.Image:
    """A photo with so many pixels, about."""
    scale = (pixels / (photo.width * photo.height)) ** 0.5
    return photo.resize((round(photo.width * scale), round(photo.height * scale)))
