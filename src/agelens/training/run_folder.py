"""What a run leaves: `output/<BATCH>_output_<GPUS>/` with statistics, plots, a sample grid, a log and the weights."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PillowImage
from safetensors.torch import save

from agelens.advice import how_to_install
from agelens.errors import MissingPackageError, NotFoundError
from agelens.outfile import typed_output_errors, write_whole
from agelens.training.checkpoint import has_checkpoint
from agelens.training.foreign import NOTE
from agelens.training.resume import FREE, differing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from agelens.training.config import Config

TILE = 96


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The names of a run's files.

    Attributes:
        path: The folder.
        task: "age", "gender" or "both".
        batch: Faces in a step of each process.
        gpus: How many GPUs; 0 on the CPU.
    """

    path: Path
    task: str
    batch: int
    gpus: int

    @property
    def last(self) -> Path:
        return self.path / "last"

    @property
    def stats(self) -> Path:
        return self.path / f"{self.task}_stats_{self.batch}_{self.gpus}.json"

    @property
    def model(self) -> Path:
        return self.path / f"{self.task}_model_{self.batch}_{self.gpus}.safetensors"

    @property
    def accuracy_plot(self) -> Path:
        return self.path / f"{self.task}_train_valid_accuracy_{self.gpus}.png"

    @property
    def loss_plot(self) -> Path:
        return self.path / f"{self.task}_train_valid_loss_{self.gpus}.png"

    @property
    def grid(self) -> Path:
        return self.path / "grid.png"

    def log(self, line: str) -> None:
        """Adds a dated line to the run's log, which bears the date of its first line."""
        now = datetime.now().astimezone()
        found = sorted(self.path.glob(f"{self.task}_*.log"))
        file = found[-1] if found else self.path / f"{self.task}_{now:%Y-%m-%d_%H-%M-%S}.log"
        with typed_output_errors(file), file.open("a", encoding="utf-8") as opened:
            opened.write(f"{now:%Y-%m-%d %H:%M:%S} {line}\n")

    def save_model(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Writes the best weights, with what they are, whole or not at all."""
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_whole(self.model, save(plain, {NOTE: json.dumps(about)}))


def create_run_folder(output: Path, task: str, batch: int, gpus: int) -> RunFolder:
    """A folder of its own: a number is added rather than anything overwritten."""
    name = f"{batch}_output_{gpus}"
    with typed_output_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = output / (name if number == 1 else f"{name}_{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return RunFolder(path, task, batch, gpus)


def find_unfinished(output: Path, task: str, config: Config) -> Path:
    """The run of a task that was cut off, and is to be gone on with.

    The newest with these settings on this data, else the newest with these settings, else the newest.

    Raises:
        NotFoundError: There is none.
    """
    # A batch size that was left open was the set's choice.
    free = FREE if config.hyperparameters.batch_size else (*FREE, "HYPERPARAMETERS.BATCH_SIZE")
    found = []
    for path in output.glob("*_output_*"):
        if has_checkpoint(path / "last") and not list(path.glob(f"{task}_stats_*.json")):
            state = next(path.glob("last/state.json"), None) or next(path.glob(".last.old/state.json"), None)
            if state and (facts := json.loads(state.read_text()))["task"] == task:
                kept = facts["about"]["config"]
                is_same = (not differing(kept, config, free), kept["DATA"]["FILE"] == config.data.file)
                found.append((*is_same, state.stat().st_mtime, path))
    if not found:
        raise NotFoundError(
            f"there is no unfinished training of {task} in {output}; leave --resume out to begin one, or name its"
            " folder with --run"
        )
    return max(found)[-1]


def plot_history(folder: RunFolder, history: list[list[float]]) -> None:
    """The curves of loss and accuracy over the epochs, of train and validation."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(f"plots need matplotlib: {how_to_install('train', 'matplotlib')}") from error
    values = np.array(history, float).reshape(-1, 4)
    epochs = np.arange(1, len(values) + 1)
    for file, title, train, valid in (
        (folder.loss_plot, "loss", values[:, 0], values[:, 1]),
        (folder.accuracy_plot, "accuracy", values[:, 2], values[:, 3]),
    ):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(epochs, train, label="train", marker="." if len(values) < 30 else "")
        axes.plot(epochs, valid, label="validation", marker="." if len(values) < 30 else "")
        axes.set_xlabel("epoch")
        axes.set_ylabel(title)
        axes.set_title(f"{folder.task}: {title}")
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        write_whole(file, buffer.getvalue())


def draw_grid(folder: RunFolder, crops: NDArray[np.uint8], columns: int = 8) -> None:
    """A sample of what the network sees, changes included: RGB crops (N, S, S, 3) side by side."""
    rows = -(-len(crops) // columns)
    sheet = PillowImage.new("RGB", (columns * TILE, rows * TILE))
    for index, crop in enumerate(crops):
        tile = PillowImage.fromarray(crop).resize((TILE, TILE))
        sheet.paste(tile, (index % columns * TILE, index // columns * TILE))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_whole(folder.grid, buffer.getvalue())
