"""The one door to PyAV, so that what needs it can say how to get it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from agelens.advice import how_to_install
from agelens.errors import MissingPackageError

Native = Any
"""An object of PyAV, which may not be installed, so that its own types can't be named."""


def load_av() -> ModuleType:
    """PyAV.

    Raises:
        MissingPackageError: It isn't installed.
    """
    try:
        av = import_module("av")
    except ImportError as error:
        raise MissingPackageError(f"video needs PyAV: {how_to_install('video', 'av')}") from error
    # What goes wrong is told by our own errors. Not `set_level`: its callback takes Python's lock in FFmpeg's threads,
    # which deadlocks where a container is closed while they are at work.
    av.logging.set_libav_level(av.logging.PANIC)
    return av
