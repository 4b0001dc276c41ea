"""Model files: the ones that ship, and one's own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from agelens.errors import DamagedModelError, UnfitModelError, UnknownModelError

DEFAULT_MODEL = "agelens-base"
Role = Literal["estimator", "detector"]
_OWN_FILE = "A file of your own is given by its path (FILE.onnx)"


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """A model file in the package.

    Attributes:
        name: How users ask for it.
        file: Its name in `agelens/models`.
        sha256: Of its bytes, in hexadecimal.
        role: What it is good for.
        licence: Of the weights.
        about: One line.
    """

    name: str
    file: str
    sha256: str
    role: Role
    licence: str
    about: str


MODELS = Path(__file__).parent / "models"
MANIFEST = "models.json"
FIGURES = "figures.json"
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


def read_figures(sha256: str) -> list[dict[str, Any]]:
    """What was measured end to end on the model file of that SHA-256, a data set each; empty where nothing is known.

    Each has `title`, `pictures`, `failed` (without a face), `figures`, and `parts` with `by`, `name`, `faces` and their
    `figures`; a figure has `value`, and `low` and `high`, the bootstrap 95% interval, or null.

    Raises:
        DamagedModelError: The list is missing or broken.
    """
    try:
        figures = json.loads((MODELS / FIGURES).read_text("utf-8"))
        return list(figures["sets"]) if figures["sha256"] == sha256 else []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedModelError(f"the list of figures can't be read ({error}); install agelens again") from error


def find_shipped(name: str, role: Role | None = None) -> ShippedModel:
    """The entry of a model that ships.

    Args:
        name: Its name.
        role: What it must be good for; None: whatever it is.

    Raises:
        UnknownModelError: There is no such model; the message names the nearest that is good for it.
        UnfitModelError: It is good for something else.
    """
    shipped = list_shipped()
    names = [model.name for model in shipped if role in (None, model.role)]
    found = next((model for model in shipped if model.name == name), None)
    if found is not None and found.name in names:
        return found
    if found is not None:
        raise UnfitModelError(f"{name!r} is a {found.role} and no {role}; there are: {', '.join(names)}. {_OWN_FILE}")
    near = get_close_matches(name.lower(), names, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}."
    raise UnknownModelError(f"there is no model {name!r}; {hint} {_OWN_FILE}")


def read_model(name: str, role: Role | None = "estimator") -> bytes:
    """The bytes of a model given by name or by the path of an ONNX file.

    Args:
        name: Either.
        role: What a model that ships must be good for; None: whatever it is. One's own file is not asked.

    Raises:
        UnknownModelError: Neither.
        UnfitModelError: It is good for something else.
        DamagedModelError: It can't be read.
    """
    path = Path(name)
    if path.suffix.lower() != ".onnx":
        return read_shipped(find_shipped(name, role).name)
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
