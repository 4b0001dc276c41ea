"""Networks by name: built fresh for a training, and again out of what a checkpoint says of itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from agelens.errors import DamagedModelError
from agelens.training.levi_hassner import CEIL_INPUTS, LeviHassner, LeviHassnerConfig
from agelens.training.networks import FaceNetwork, Network, NetworkConfig, named_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from agelens.training.config import Config
    from agelens.training.foreign import Weights
    from agelens.training.material import Material


def build_network(config: Config, task: str, material: Material, origin: Weights | None = None) -> Network:
    """A fresh network, its weights drawn with the configuration's seed.

    Args:
        config: Which network.
        task: "age", "gender" or "both".
        material: What it will learn from.
        origin: What it begins with or goes on from: a face network takes its layout from there where that is told,
            levi-hassner its input and its pooling.
    """
    torch.manual_seed(config.hyperparameters.seed)
    dropout = config.network.dropout
    if config.network.name == "levi-hassner":
        inherited = inherit_layout(origin) if origin else {}
        levi = LeviHassnerConfig(task=task, groups=material.groups.name, seen=_count_years(material), **inherited)
        return LeviHassner(replace(levi, dropout=dropout) if dropout >= 0 else levi)
    face = choose_layout(config, origin)
    return FaceNetwork(replace(face, dropout=dropout) if dropout >= 0 else face)


def choose_layout(config: Config, origin: Weights | None) -> NetworkConfig:
    """The layout of a face network: that of what it begins with or goes on from, else the size that is asked for."""
    if origin is not None and origin.about.get("kind") == FaceNetwork.kind and "network" in origin.about:
        return NetworkConfig.from_dict(origin.about["network"])
    return named_config(config.network.size)


def inherit_layout(origin: Weights) -> dict[str, Any]:
    """What weights of levi-hassner expect of the network around them: colours as they were trained on, and pooling."""
    described: Mapping[str, Any] = origin.about.get("network", {}) if origin.about.get("kind") == "levi-hassner" else {}
    found: dict[str, Any] = {name: tuple(described[name]) for name in ("mean", "scale") if name in described}
    if "ceil" in described:
        return found | {"ceil": bool(described["ceil"])}
    first = origin.tensors.get("fc1.weight")
    return {"ceil": True} if first is not None and first.ndim == 2 and first.shape[1] == CEIL_INPUTS else {}


def rebuild_network(kind: str, values: dict[str, Any], tensors: dict[str, Tensor] | None = None) -> Network:
    """The network that `Network.describe` described, with its weights.

    Raises:
        DamagedModelError: There is no such network, or the weights do not fit it.
    """
    try:
        network: Network
        if kind == LeviHassner.kind:
            network = LeviHassner(LeviHassnerConfig.from_dict(values))
        elif kind == FaceNetwork.kind:
            network = FaceNetwork(NetworkConfig.from_dict(values))
        else:
            raise DamagedModelError(f"there is no network {kind!r}; it was made by another version of agelens")
        if tensors is not None:
            network.load_state_dict(tensors)
    except (TypeError, KeyError, RuntimeError) as error:
        raise DamagedModelError(
            f"the weights do not fit the {kind} network that they name: {str(error)[:300]}"
        ) from error
    return network.eval()


def network_of(weights: Weights) -> Network:
    """The network of a checkpoint, by what it says of itself.

    Raises:
        DamagedModelError: It says nothing, or something else than what it holds.
    """
    about = weights.about
    if "kind" not in about or "network" not in about:
        raise DamagedModelError(
            f"{weights.source} does not say which network it is; give a *_model_*.safetensors of `agelens train`, or"
            " train with it as --start first"
        )
    return rebuild_network(about["kind"], about["network"], weights.tensors)


def _count_years(material: Material) -> tuple[float, ...]:
    """How many faces of train have each exact age, over the years 0 .. 100; empty where none is exact."""
    rows = material.train[material.age_known[material.train]]
    low, high = material.crops.age_low[rows], material.crops.age_high[rows]
    exact = np.clip(np.rint(low[low == high]), 0, 100).astype(int)
    return tuple(float(count) for count in np.bincount(exact, minlength=101)) if len(exact) else ()
