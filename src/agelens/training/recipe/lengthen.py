"""A network with more blocks in some stages, of which the new ones say nothing yet.

The last normalisation of a new block begins at zero, so the longer network answers as the shorter one did until it has
learned (as all blocks begin in Goyal et al., "Accurate, Large Minibatch SGD", 2017).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from agelens.training.networks import Block, FaceNetwork, NetworkConfig


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
    stages = zip(config.blocks, network.config.blocks, strict=True)
    kept = [index < before for count, before in stages for index in range(count)]
    known = iter(network.body)
    for block, is_kept in zip(longer.body, kept, strict=True):
        assert isinstance(block, Block)
        if is_kept:
            block.load_state_dict(next(known).state_dict())
        else:
            nn.init.zeros_(block.norm2.weight)
    rest = {name: value for name, value in network.state_dict().items() if not name.startswith("body.")}
    longer.load_state_dict(longer.state_dict() | rest)
    return longer.to(next(network.parameters()).device).train(network.training)
