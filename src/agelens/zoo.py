"""Model files: the ones that ship, and one's own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from agelens.errors import DamagedModelError, UnknownModelError

DEFAULT_MODEL = "agelens-base"


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """A model file in the package.

    Attributes:
        name: How users ask for it.
        file: Its name in `agelens/models`.
        sha256: Of its bytes, in hexadecimal.
        role: "estimator" or "detector".
        licence: Of the weights.
        about: One line.
    """

    name: str
    file: str
    sha256: str
    role: str
    licence: str
    about: str


MODELS = Path(__file__).parent / "models"
MANIFEST = "models.json"
MOST_BYTES = 2**31
"""What one file of ONNX, a protobuf message, can hold."""


def list_shipped() -> tuple[ShippedModel, ...]:
    """Every model file in the package, as its manifest lists them.

    Raises:
        DamagedModelError: The manifest is missing or broken.
    """
    try:
        entries = json.loads((MODELS / MANIFEST).read_text("utf-8"))
        return tuple(ShippedModel(**entry) for entry in entries)
    except (OSError, ValueError, TypeError) as error:
        raise DamagedModelError(
            f"the list of models that ship can't be read ({error}); install agelens again"
        ) from error


def read_shipped(name: str) -> bytes:
    """The bytes of a model file that ships, checked against its SHA-256.

    Raises:
        UnknownModelError: There is no such model.
        DamagedModelError: The file is missing or isn't the one that was shipped.
    """
    model = find_shipped(name)
    try:
        data = (MODELS / model.file).read_bytes()
    except OSError as error:
        raise DamagedModelError(
            f"the model file {model.file} can't be read ({error}); install agelens again"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != model.sha256:
        raise DamagedModelError(
            f"the model file {model.file} is damaged: sha256 {digest}, expected {model.sha256}; install agelens again"
        )
    return data


def find_shipped(name: str) -> ShippedModel:
    """The entry of a model that ships.

    Raises:
        UnknownModelError: There is no such model; the message names the nearest.
    """
    shipped = list_shipped()
    for model in shipped:
        if model.name == name:
            return model
    names = [model.name for model in shipped]
    near = get_close_matches(name.lower(), names, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}."
    raise UnknownModelError(f"there is no model {name!r}; {hint} A file of your own is given by its path (FILE.onnx)")


def read_model(name: str) -> bytes:
    """The bytes of a model given by name or by the path of an ONNX file.

    Raises:
        UnknownModelError: Neither.
        DamagedModelError: It can't be read.
    """
    path = Path(name)
    if path.suffix.lower() != ".onnx":
        return read_shipped(name)
    try:
        if not path.is_file():
            raise UnknownModelError(
                f"there is no model file {name}; check the path, or choose a model that ships by name"
            )
        size = path.stat().st_size
        if size > MOST_BYTES:  # found out before it fills the memory
            raise DamagedModelError(
                f"the model file {name} has {size:,} bytes, more than ONNX can hold; export it again"
            )
        return path.read_bytes()
    except OSError as error:
        raise DamagedModelError(f"the model file {name} can't be read: {error}") from error
