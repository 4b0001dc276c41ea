"""Resident memory of processes, in MiB."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def read_resident(process: int) -> float:
    """What a process holds now; 0 once it is over. Linux only."""
    return _read(Path(f"/proc/{process}/status"), "VmRSS:") or 0.0


def read_peak() -> float:
    """The most that this process held. Linux carries `ru_maxrss` over from the parent, so not that one there."""
    peak = _read(Path("/proc/self/status"), "VmHWM:")
    if peak is not None:
        return peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _read(status: Path, name: str) -> float | None:
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), None)
