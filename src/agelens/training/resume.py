"""Whether a checkpoint is of the training that is asked for, so that it may be gone on with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from agelens.errors import TrainingError
from agelens.training.config import default_config
from agelens.training.config_file import to_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agelens.training.config import Config

PLACES: Final = ("DATA.OUTPUT_DIR", "DATA.CROPS_DIR", "DATA.FILE", "DATA.DATA_DIR")
"""Settings that say where something lies: it may have moved."""
DEVICES: Final = ("GPU.STATUS", "GPU.DEVICES", "GPU.PARALLEL", "GPU.THREADS")
FREE: Final = (*PLACES, *DEVICES, "HYPERPARAMETERS.SAVE_EVERY")
"""Settings that change nothing of what is learned. GPU.BF16 is none of them: it rounds otherwise."""


def refuse_another(
    facts: Mapping[str, Any], config: Config, task: str, data: Mapping[str, Any], world: int, name: str
) -> None:
    """Refuses a checkpoint of anything but this training.

    Args:
        facts: Of the checkpoint.
        config: What is asked for.
        task: Likewise.
        data: What is said of the data, see `Material.about`.
        world: Processes that take part.
        name: What messages call the run.

    Raises:
        TrainingError: Task, settings, data or the number of processes differ.
    """
    if facts["task"] != task:
        raise TrainingError(f"{name} trains {facts['task']}, not {task}; choose another --run")
    changed = differing(facts["about"]["config"], config, FREE)
    if changed:
        raise TrainingError(
            f"{name} is a training with other settings ({', '.join(changed)} differ); give the ones it began with,"
            " name another run with --run, or begin a new one without --resume"
        )
    before = facts["about"]["data"]
    if before["fingerprint"] != data["fingerprint"]:
        raise TrainingError(f"{name} was trained on other data; give the file it began with")
    if before.get("order", data["order"]) != data["order"]:
        raise TrainingError(
            f"{name} was trained on the same faces in another order, and would go on differently; give the file it"
            " began with"
        )
    if facts["world"] != world:
        raise TrainingError(f"{name} was trained by {facts['world']} processes, and now there are {world}")


def differing(kept: Mapping[str, Any], config: Config, free: tuple[str, ...]) -> list[str]:
    """Settings that differ from those that were written down, those that begin with one of `free` left out."""
    # A setting that the version which wrote them did not have was at its default.
    before = flat(to_values(default_config(config.network.name))) | flat(kept)
    now = flat(to_values(config))
    return [key for key, value in now.items() if before.get(key) != value and not key.startswith(free)]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as `SECTION.KEY`, values as JSON holds them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = json.loads(json.dumps(value))
    return found
