"""Which processors a training runs on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from agelens.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agelens.training.config import GpuConfig
    from agelens.training.team import Team


def choose_devices(config: GpuConfig, tell: Callable[[str], None]) -> list[torch.device]:
    """The GPUs to use, or the CPU alone.

    Raises:
        UsageError: A GPU of that number is not there although others are.
    """
    if not config.status:
        return [torch.device("cpu")]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        tell("there is no GPU here; training on the CPU")
        return [torch.device("cpu")]
    wanted = config.devices or (0,)
    absent = [number for number in wanted if not 0 <= number < count]
    if absent:
        raise UsageError(f"GPU.DEVICES names {absent} and there are 0 to {count - 1}")
    return [torch.device("cuda", number) for number in (wanted if config.parallel else wanted[:1])]


def count_threads(config: GpuConfig, team: Team) -> int:
    """Threads of the arithmetic for one process: an equal share of the cores, unless a number is set."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if team.world > 1 else 1
    return config.threads or max(len(os.sched_getaffinity(0)) // local, 1)


def describe_devices(devices: list[torch.device], team: Team) -> dict[str, Any]:
    """As the statistics tell of them: `type`, `parallel`, `devices`."""
    if devices[0].type == "cpu":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        name = platform.processor() or platform.machine()
        listed = [{"id": 0, "device_name": name, "total_memory (MB)": round(memory / 2**20)}]
    else:
        properties = [(device.index, torch.cuda.get_device_properties(device)) for device in devices]
        listed = [
            {"id": index, "device_name": found.name, "total_memory (MB)": round(found.total_memory / 2**20)}
            for index, found in properties
        ]
    return {"type": devices[0].type, "parallel": team.world > 1, "devices": listed, "processes": team.world}


def launch_processes(config: GpuConfig, arguments: Sequence[str]) -> bool:
    """Runs the command line again in one process for each GPU, through torchrun, where several are to be used.

    Returns:
        Whether it did; then all is done.

    Raises:
        TrainingError: One of the processes failed; it has said why.
    """
    wanted = len(config.devices)
    several = config.status and config.parallel and wanted > 1
    if not several or "LOCAL_RANK" in os.environ or torch.cuda.device_count() < wanted:
        return False
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    try:
        main(["--standalone", "--nproc-per-node", str(wanted), "-m", "agelens", *arguments])
    except ChildFailedError as error:
        raise TrainingError("a process of the training failed; it has said why above") from error
    return True
