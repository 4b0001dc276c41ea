"""What a model said of every picture of a test set, beside what the labels say: columns in memory, one NPZ on disk."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agelens.errors import DamagedDatasetError, NotFoundError
from agelens.evaluation.statistics import number_units
from agelens.outfile import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Texts = NDArray[np.str_]

FORMAT = "agelens.predictions/1"


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """One entry for each row of the test set, in its order; all columns of shape (N,).

    Unknown: NaN for numbers, -1 for indices, "" for texts. What was said of a picture without a face is unknown.

    Attributes:
        dataset: Which set a picture is from.
        path: Which picture.
        face: Which face of it, where the set numbers them.
        subject: Who it shows.
        race: As the set names it.
        fold: Number of the fold.
        age_low: First year of the labelled age.
        age_high: Last year of it; the same as `age_low` for an exact age.
        band: Index of the labelled age group among the protocol's.
        female: 1 for a woman, 0 for a man.
        years: Estimated age.
        low: Lower end of its interval.
        high: Upper end.
        inside: 1 where the labelled age lies in the interval, 0 where not; for a labelled band the probability that it
            does, the age inside the band being distributed as the model says.
        group: Index of the most probable age group.
        female_probability: Estimated probability of "female".
        score: Certainty of the detector.
        face_size: Longer side of the face's box in pixels.
        sharpness: Variance of the Laplacian of the aligned face at 64 pixels; low for a blurred one.
        error: Why the picture could not be read.
    """

    dataset: Texts
    path: Texts
    face: Texts
    subject: Texts
    race: Texts
    fold: NDArray[np.int64]
    age_low: Floats
    age_high: Floats
    band: NDArray[np.int64]
    female: Floats
    years: Floats
    low: Floats
    high: Floats
    inside: Floats
    group: NDArray[np.int64]
    female_probability: Floats
    score: Floats
    face_size: Floats
    sharpness: Floats
    error: Texts

    def __len__(self) -> int:
        return len(self.path)

    def take(self, chosen: NDArray[Any]) -> Predictions:
        """The entries of an index array or a boolean mask."""
        return Predictions(**{name: getattr(self, name)[chosen] for name in self.__slots__})

    @property
    def found(self) -> NDArray[np.bool_]:
        """Mask of the pictures in which a face was found."""
        return ~np.isnan(self.score)

    @property
    def exact_age(self) -> Floats:
        """The labelled age where it is known as one number, else NaN."""
        return np.where(self.age_low == self.age_high, self.age_low, np.nan)

    @property
    def units(self) -> NDArray[np.int64]:
        """What is resampled together: the pictures of one person; a picture of nobody in particular stands alone.

        Where all are of one subject (one album of Adience, say), the faces that are numbered in it take its place.
        """
        named = self.subject != ""
        joined = np.char.add(np.char.add(self.dataset, "\n"), self.subject)
        if named.all() and len(np.unique(joined)) == 1:
            joined = np.where(self.face != "", np.char.add(joined, np.char.add("\n", self.face)), joined)
        return number_units(np.where(named, joined, ""))

    @property
    def keys(self) -> list[tuple[str, str, str]]:
        """What tells the entries apart: data set, picture, face."""
        return list(zip(self.dataset.tolist(), self.path.tolist(), self.face.tolist(), strict=True))

    def to_bytes(self) -> bytes:
        """As an NPZ; see `from_bytes`."""
        buffer = io.BytesIO()
        columns = {name: getattr(self, name) for name in self.__slots__}
        np.savez_compressed(buffer, format=np.array(FORMAT), **columns)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes, name: str) -> Predictions:
        """The predictions of `to_bytes`; `name` is named in errors.

        Raises:
            DamagedDatasetError: They are none, or were cut.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as columns:
                if str(columns["format"]) != FORMAT:
                    raise DamagedDatasetError(f"{name} holds {columns['format']}, not {FORMAT}; evaluate again")
                read = {column: columns[column] for column in Predictions.__slots__}
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise DamagedDatasetError(f"{name} holds no predictions, or was cut ({error}); evaluate again") from error
        if len({values.shape for values in read.values()}) != 1:
            raise DamagedDatasetError(f"{name} holds columns of different lengths; evaluate again")
        return Predictions(**read)

    def save(self, path: Path) -> None:
        """Writes an NPZ.

        Raises:
            OutputError: It can't be written.
        """
        write_whole(path, self.to_bytes())

    @staticmethod
    def load(path: Path) -> Predictions:
        """Reads what `save` wrote.

        Raises:
            NotFoundError: There is no such file.
            DamagedDatasetError: It holds no predictions.
        """
        if not path.is_file():
            raise NotFoundError(f"there are no predictions {path}; they lie beside the evaluation that they belong to")
        return Predictions.from_bytes(path.read_bytes(), str(path))
