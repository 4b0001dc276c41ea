"""A network with more blocks in some stages, of which the new ones say nothing yet.

The last normalisation of a new block begins at zero, so the longer network answers as the shorter one did until it has
learned (as all blocks begin in Goyal et al., "Accurate, Large Minibatch SGD", 2017).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from agelens.training.networks import FaceNetwork, NetworkConfig


def is_longer(config: NetworkConfig, before: NetworkConfig) -> bool:
    """Whether a network is another with more blocks in stages before the last; dropout doesn't count."""
    if replace(before, blocks=config.blocks, dropout=config.dropout) != config or config.blocks == before.blocks:
        return False
    more = [now - then for now, then in zip(config.blocks, before.blocks, strict=True)]
    return min(more) >= 0 and more[-1] == 0


def lengthen(network: FaceNetwork, config: NetworkConfig, seed: int) -> FaceNetwork:
    """The longer network, its new blocks at the ends of their stages.

    Args:
        network: The shorter one.
        config: Of the longer one, see `is_longer`.
        seed: Of the new blocks' convolutions.
    """
    torch.manual_seed(seed)
    longer = FaceNetwork(config)
    kept: dict[str, str] = {}
    places, known = iter(range(len(longer.body))), iter(range(len(network.body)))
    for count, before in zip(config.blocks, network.config.blocks, strict=True):
        for index in range(count):
            place = next(places)
            if index < before:
                kept[f"body.{next(known)}."] = f"body.{place}."
            else:
                nn.init.zeros_(longer.get_submodule(f"body.{place}.norm2").get_parameter("weight"))
    state = longer.state_dict()
    for name, value in network.state_dict().items():
        there = next((name.replace(old, new, 1) for old, new in kept.items() if name.startswith(old)), name)
        state[there] = value
    longer.load_state_dict(state)
    return longer.to(next(network.parameters()).device).train(network.training)
