"""Packages that some tests need and that are never kept here.

Tests look for them in the folders of AGELENS_PEERS, else in `output`, where `make accuracy` puts them, and are skipped
without.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from command import ROOT

FOLDERS = [Path(folder) for folder in os.environ.get("AGELENS_PEERS", str(ROOT / "output")).split(os.pathsep)]


def find_package(name: str) -> Path:
    """Where a package lies; the test is skipped where it doesn't."""
    found = next((folder / name for folder in FOLDERS if (folder / name).is_file()), None)
    if found is None:
        pytest.skip(
            f"{name} is not here: `make accuracy` downloads it, or see benchmarks/peers.py and set AGELENS_PEERS"
        )
    return found
