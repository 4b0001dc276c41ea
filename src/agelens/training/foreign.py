"""Weights out of files: our own checkpoints, `.pt` state dicts, which are read without running code, and Caffe's."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from agelens.errors import DamagedModelError, NotFoundError, UnfitModelError
from agelens.training.caffe import SUFFIX, read_caffemodel
from agelens.training.checkpoint import has_checkpoint, load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

NOTE = "agelens"
"""Where a weights file says what it is, in its safetensors metadata."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights as they were found.

    Attributes:
        tensors: By name.
        about: What the file says of itself; nothing, where it is a foreign one.
        source: What messages call it.
        folded: Whether the normalisations are part of the convolutions, see `unfold`.
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any]
    source: str
    folded: bool = False


def read_weights(path: Path) -> Weights:
    """A weights file, the folder of a run or its `last`, one of runs (then the newest), a `.pt`, or a `.caffemodel`.

    Raises:
        NotFoundError: There is nothing.
        DamagedModelError: It is cut short, or no weights file.
        UnfitModelError: It holds Python objects instead of tensors, or a `.caffemodel` of another network.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise NotFoundError(
            f"there are no weights at {path}; give a *_model_*.safetensors of a run, a .pt, a {SUFFIX}, or a model: its"
            " name or its .onnx"
        )
    if path.suffix == SUFFIX:
        return Weights(*read_caffemodel(path), str(path))
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def _read_folder(path: Path) -> Weights:
    best = sorted(path.glob("*_model_*.safetensors"))
    if len(best) == 1:
        return _read_safetensors(best[0])
    if best:
        raise NotFoundError(f"{path} holds several models; name one: {', '.join(file.name for file in best)}")
    for folder in (path / "last", path):
        if (folder / "state.json").is_file() or (folder == path / "last" and has_checkpoint(folder)):
            checkpoint = load_checkpoint(folder)
            about = checkpoint.facts.get("about", {})
            return Weights(checkpoint.part("average"), about, str(folder))
    runs = [file.parent for file in path.glob("*_output_*/*_model_*.safetensors")]
    if runs:
        return _read_folder(max(runs, key=lambda run: run.stat().st_mtime))
    raise NotFoundError(f"{path} holds no *_model_*.safetensors and no checkpoint; is it the folder of a run?")


def _read_safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(NOTE, "{}"))
            names = file.keys()
            return Weights({name: file.get_tensor(name) for name in names}, about, str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedModelError(f"{path} is no whole weights file ({error}); train or fetch it again") from error


def _read_pickle(path: Path) -> Weights:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error).upper():
            raise UnfitModelError(
                f"{path} holds Python objects, which could run any program when they are read; save its state dict"
                " alone: torch.save(model.state_dict(), FILE)"
            ) from error
        raise DamagedModelError(f"{path} is no whole weights file; fetch it again") from error
    except (EOFError, OSError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DamagedModelError(f"{path} is no whole weights file ({str(error)[:200]}); fetch it again") from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise UnfitModelError(f"{path} holds no state dict: names with tensors; save model.state_dict()")
    return Weights(strip_module(found), {}, str(path))


def strip_module(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the `module.` that DataParallel puts before them all; a `module.` elsewhere belongs to the name."""
    names = [str(name) for name in tensors]
    cut = len("module.") if all(name.startswith("module.") for name in names) else 0
    return {name[cut:]: value for name, value in zip(names, tensors.values(), strict=True)}
