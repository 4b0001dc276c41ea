"""What a training begins with: weights of a run, of somebody else's, or of a model that ships."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from agelens.errors import UnfitModelError
from agelens.training.build import choose_layout
from agelens.training.foreign import Weights, read_weights
from agelens.training.networks import FaceNetwork
from agelens.training.reopen import read_model_weights
from agelens.zoo import list_shipped, read_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agelens.training.config import Config
    from agelens.training.networks import Network


def read_start(config: Config, task: str) -> Weights | None:
    """The weights that a configuration names: a file, or a model by its name; None: it begins afresh.

    Raises:
        AgelensError: As `read_weights`, `read_model_weights` and `check_start` say.
    """
    name = config.network.start
    if name in ("", "none"):
        return None
    if Path(name).suffix.lower() == ".onnx" or name in {model.name for model in list_shipped()}:
        start = read_model_weights(read_model(name), name)
    else:
        start = read_weights(Path(name))
    check_start(start, config.network.kind, task)
    return start


def describe_start(start: Weights, config: Config) -> Iterator[str]:
    """What a user should know of it: whose layout the network has, and what terms pass on."""
    if config.network.kind == FaceNetwork.kind:
        own, asked = (replace(each, dropout=0) for each in (choose_layout(config, start), choose_layout(config, None)))
        if own != asked:
            yield f"the network is laid out like {start.source}, for crops of {own.size} pixels, whatever --size says"
    terms = start.about.get("terms")
    if terms:
        yield f"NOTE: {start.source} is not for commercial use ({terms}), and neither will be what learns on from it"


HEADS = {"levi-hassner": ("fc3.",), "face": ("age.", "gender.")}
"""The layers that may differ: they are then left as they are drawn."""


def check_start(weights: Weights, kind: str, task: str) -> None:
    """Refuses weights that can be no start, before faces are cut for them.

    Args:
        weights: What the training would begin with.
        kind: Of the network that is to be trained.
        task: What it is to learn.

    Raises:
        UnfitModelError: They are of another network, or of the other task, or not finite.
    """
    found, learned = weights.about.get("kind"), weights.about.get("task")
    if found not in (None, kind):
        raise UnfitModelError(f"{weights.source} is a {found} network and a {kind} one is to be trained")
    if learned in ("age", "gender") and task in ("age", "gender") and learned != task:
        raise UnfitModelError(
            f"{weights.source} has learned {learned} and you asked for {task}; choose the other checkpoint, or begin"
            " with a network of both"
        )
    broken = [name for name, value in weights.tensors.items() if not torch.isfinite(value.float()).all()]
    if broken:
        raise UnfitModelError(f"{weights.source} holds numbers that are none (in {broken[0]}); choose other weights")


def load_start(network: Network, weights: Weights, task: str) -> list[str]:
    """Takes over weights as a start.

    Args:
        network: What begins; changed in place.
        weights: What it begins with.
        task: What it is to learn.

    Returns:
        What was left out, in words.

    Raises:
        UnfitModelError: The weights are of another network, or of the other task, or not finite.
    """
    check_start(weights, network.kind, task)
    own, heads = network.state_dict(), HEADS[network.kind]
    fitting = {name: value for name, value in weights.tensors.items() if name in own and value.shape == own[name].shape}
    missing = [name for name in own if name not in fitting]
    body = [name for name in missing if not name.startswith(heads)]
    if body:
        found = weights.tensors.get(body[0])
        what = "is not there" if found is None else f"is {tuple(found.shape)}, not {tuple(own[body[0]].shape)}"
        raise UnfitModelError(
            f"{weights.source} does not fit a {network.kind} network: {body[0]} {what}"
            f"{f', and {len(body) - 1} more' if len(body) > 1 else ''}; choose its --network and --size"
        )
    network.load_state_dict({**own, **fitting})
    notes = [f"{name}: not in the start, drawn afresh" for name in missing if name not in weights.tensors]
    notes += [
        f"{name}: {tuple(weights.tensors[name].shape)} in the start, {tuple(own[name].shape)} here, drawn afresh"
        for name in missing
        if name in weights.tensors
    ]
    return notes + [f"{name}: in the start, not used" for name in weights.tensors if name not in own]
