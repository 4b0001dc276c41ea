"""What messages advise, in words that are right wherever they are read: after a command and in Python."""

from __future__ import annotations


def either_way(command: str, python: str) -> str:
    """How to ask for something: `--allow-url on the command line, allow_url=True in Python`."""
    return f"{command} on the command line, {python} in Python"


def how_to_install(extra: str, package: str = "") -> str:
    """How to get what is missing, wherever agelens itself came from.

    Args:
        extra: The extra of agelens that brings it.
        package: What is missing, as pip knows it, where that alone would do.
    """
    alone = f"pip install {package}, or " if package else ""
    return f"{alone}install the extra '{extra}' (in a checkout: pip install '.[{extra}]')"
