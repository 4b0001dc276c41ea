"""Checkpoints: a folder of safetensors and JSON, written whole or not at all. Never a pickle."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from agelens.errors import DamagedModelError, NotFoundError
from agelens.outfile import typed_output_errors

TENSORS = "state.safetensors"
FACTS = "state.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training's state.

    Attributes:
        tensors: By name; weights under `network.` and `average.`, the optimiser's under `optimiser.`.
        facts: Plain values: configuration, step, history, what it was trained on.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under one prefix, without it."""
        return {name[len(prefix) + 1 :]: value for name, value in self.tensors.items() if name.startswith(f"{prefix}.")}


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes beside `folder` and swaps; a crash leaves the old one or the new one, both whole.

    Raises:
        DiskFullError, OutputUnwritableError: It could not be written; the old one stays.
    """
    fresh, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    try:
        with typed_output_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            # Serialised here and written by Python, whose errors tell a full disk from all else.
            _write(fresh / TENSORS, save({name: value.contiguous() for name, value in checkpoint.tensors.items()}))
            _write(fresh / FACTS, json.dumps(checkpoint.facts, indent=1).encode())
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
                folder.rename(old)
            fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint, or the older one that a crash between two renames left."""
    return folder.exists() or folder.with_name(f".{folder.name}.old").exists()


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads a checkpoint; after a crash between two renames, the older one.

    Raises:
        NotFoundError: There is none.
        DamagedModelError: It can't be read.
    """
    old = folder.with_name(f".{folder.name}.old")
    if not folder.exists() and old.exists():
        folder = old
    if not (folder / TENSORS).is_file():
        raise NotFoundError(f"there is no checkpoint at {folder}")
    try:
        return Checkpoint(load_file(folder / TENSORS), json.loads((folder / FACTS).read_text()))
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise DamagedModelError(f"the checkpoint {folder} can't be read: {error}") from error


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors."""
    state: dict[int, dict[str, Tensor]] = optimiser.state_dict()["state"]
    return {
        f"optimiser.{index}.{name}": torch.as_tensor(value)
        for index, values in state.items()
        for name, value in values.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what `optimiser_tensors` gave (names without the prefix)."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, field = name.split(".", 1)
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            # The fused optimiser walks through memory: a moment must lie there as its parameter does.
            value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[field] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
