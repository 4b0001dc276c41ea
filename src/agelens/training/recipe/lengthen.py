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
    blocks, known = iter(longer.body), iter(network.body)
    for count, before in zip(config.blocks, network.config.blocks, strict=True):
        for index in range(count):
            block = next(blocks)
            assert isinstance(block, Block)
            if index < before:
                block.load_state_dict(next(known).state_dict())
            else:
                nn.init.zeros_(block.norm2.weight)
    for name in ("stem", "stem_norm", "age", "gender"):
        getattr(longer, name).load_state_dict(getattr(network, name).state_dict())
    if longer.second is not None and network.second is not None:
        longer.second.load_state_dict(network.second.state_dict())
    return longer.to(next(network.parameters()).device).train(network.training)
