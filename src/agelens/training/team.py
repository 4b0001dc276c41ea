"""Several processes that train one network: `torchrun` starts them, DDP averages their gradients.

Beyond DDP, BatchNorm's statistics are shared, so that two processes with half a batch each take the same steps as one
with the whole. (torch's SyncBatchNorm does so on GPUs only.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx

from agelens.errors import TrainingError

CPU = torch.device("cpu")
PATIENCE = timedelta(hours=24)
"""How long processes wait for the first one, which cuts all faces and calibrates alone; torch would give up after ten
minutes."""


@dataclass(frozen=True, slots=True)
class Team:
    """This process among those that share a training.

    Attributes:
        rank: Its number; 0 writes the files.
        world: How many there are.
        device: Where it computes.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = CPU

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def sum(self, numbers: list[float]) -> list[float]:
        """Sums over all processes, number by number."""
        if self.world == 1:
            return numbers
        total = torch.tensor(numbers, dtype=torch.float64)
        if self.device.type == "cuda":
            total = total.to(self.device)
        distributed.all_reduce(total)
        return [float(value) for value in total]

    def wait(self) -> None:
        """Until all have come here."""
        if self.world > 1:
            distributed.barrier()

    def tell(self, value: str) -> str:
        """What process 0 says, in all of them."""
        if self.world == 1:
            return value
        said: list[Any] = [value]
        distributed.broadcast_object_list(said, src=0)
        return str(said[0])

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network so that backward passes average the gradients over all processes."""
        if self.world == 1:
            return network
        share_statistics(network)
        ids = [self.device.index] if self.device.type == "cuda" else None
        # Shared statistics need no broadcast; newer versions of torch call the switch by another name.
        parallel = nn.parallel.DistributedDataParallel
        names = ("forward_sync_buffers", "broadcast_buffers")
        switch = next(name for name in names if name in signature(parallel).parameters)
        unshared: dict[str, Any] = {switch: False}
        # DDP never lets go of its group. Had it the one that all else goes through, threads of that group would outlive
        # `join_team` and could still hold a tensor of Python's while the interpreter ends, which aborts the process.
        own = None if ids else distributed.new_group(timeout=PATIENCE)
        wrapped: nn.Module = parallel(network, device_ids=ids, process_group=own, **unshared)
        return wrapped


def started_by_torchrun() -> bool:
    """Whether this process is one of several."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def join_team(devices: list[torch.device]) -> Iterator[Team]:
    """This process's place in its team; a team of one where `torchrun` did not start it.

    Args:
        devices: The GPUs of this machine that may be used, or the CPU alone.

    Raises:
        TrainingError: There are more processes than GPUs.
    """
    if not started_by_torchrun():
        yield Team(device=devices[0])
        return
    local = int(os.environ["LOCAL_RANK"])
    on_gpu = devices[0].type == "cuda"
    if on_gpu and local >= len(devices):
        raise TrainingError(
            f"torchrun started process {local + 1} on this machine and only {len(devices)} GPUs are to be used; start"
            f" it with --nproc-per-node {len(devices)}"
        )
    device = devices[local] if on_gpu else devices[0]
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()


class _SumOverTeam(torch.autograd.Function):
    """Adds a tensor up over all processes, and its gradients likewise."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor) -> Tensor:
        del ctx
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        del ctx
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes, which are of one size."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        world = distributed.get_world_size()
        x32 = x.float()
        moments = torch.stack([x32.mean(dim=(0, 2, 3)), (x32 * x32).mean(dim=(0, 2, 3))])
        total: Tensor = _SumOverTeam.apply(moments)  # type: ignore[no-untyped-call]
        mean, square = total / world
        variance = (square - mean * mean).clamp(min=0)
        with torch.no_grad():
            count = x.numel() // x.shape[1] * world
            self.num_batches_tracked += 1
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / max(count - 1, 1), momentum)
        factor = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * factor
        normal: Tensor = x32 * factor[:, None, None] + shift[:, None, None]
        return normal.to(x.dtype)


def share_statistics(network: nn.Module) -> None:
    """Turns every BatchNorm into a shared one, in place; names and weights stay."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
