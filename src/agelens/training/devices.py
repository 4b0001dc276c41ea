"""Which processors a training runs on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from agelens.cores import count_cores
from agelens.errors import TrainingError, UsageError
from agelens.training.team import started_by_torchrun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agelens.training.config import GpuConfig
    from agelens.training.team import Team

AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


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
    # Several are for the processes that torchrun started; one process has one.
    several = config.parallel and started_by_torchrun()
    return [torch.device("cuda", number) for number in (wanted if several else wanted[:1])]


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def move_to(network: AnyNetwork, device: torch.device) -> AnyNetwork:
    """Moves a network there, its kernels in the order in which convolutions are fast; the network itself."""
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def count_gpus(devices: list[torch.device], team: Team) -> int:
    """How many GPUs the training is named by; 0 on the CPU."""
    return 0 if devices[0].type == "cpu" else max(team.world, 1)


def prepare_device(device: torch.device) -> None:
    """Makes a GPU's convolutions give the same every time, so that going on after a crash does too."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is more than emulated there: on NVIDIA's GPUs since Ampere, on CPUs with AVX-512.

    Emulated without AVX-512 (Zen 3), a training step takes twelve times as long as in float32.
    """
    if device.type == "cpu":
        return torch.backends.cpu.get_cpu_capability() == "AVX512"
    if device.type != "cuda" or torch.version.hip is not None:
        return True
    return torch.cuda.get_device_capability(device) >= (8, 0)


def in_bf16(device: torch.device, *, wanted: bool = True) -> torch.autocast:
    """A context in which convolutions run in bfloat16 where that is fast, and in float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and has_bf16(device))


def count_threads(config: GpuConfig, team: Team) -> int:
    """Threads of the arithmetic for one process: an equal share of the cores, unless a number is set."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if team.world > 1 else 1
    return config.threads or max(count_cores() // local, 1)


def describe_devices(devices: list[torch.device], team: Team, config: GpuConfig) -> dict[str, Any]:
    """As the statistics tell of them: `type`, `parallel`, `devices`; and in what the convolutions ran."""
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
    return {
        "type": devices[0].type,
        "parallel": team.world > 1,
        "devices": listed,
        "processes": team.world,
        "precision": "bfloat16" if config.bf16 and has_bf16(team.device) else "float32",
    }


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
