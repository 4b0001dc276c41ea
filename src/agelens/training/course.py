"""`agelens train`, from a configuration to a finished run: epochs, validation, the best weights, and going on."""

from __future__ import annotations

import json
import platform
import shutil
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import agelens
from agelens.errors import TrainingError, UnfitModelError
from agelens.training.alarms import find_constant
from agelens.training.batches import BatchMaker, still_crops
from agelens.training.build import build_network, rebuild_network
from agelens.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from agelens.training.config_file import to_values
from agelens.training.devices import (
    choose_devices,
    count_gpus,
    count_threads,
    describe_devices,
    has_bf16,
    prepare_device,
)
from agelens.training.finish import finish_run
from agelens.training.foreign import Weights
from agelens.training.heritage import inherit
from agelens.training.judge import accuracies, measure_rows
from agelens.training.learner import Learner
from agelens.training.listeners import Listeners
from agelens.training.material import Material, open_material
from agelens.training.networks import FaceNetwork, normalise
from agelens.training.plan import make_lessons, make_objective, make_pace, settle_batch
from agelens.training.resume import refuse_another
from agelens.training.run_folder import RunFolder, create_run_folder, draw_grid, find_unfinished
from agelens.training.start import describe_start, load_start, read_start
from agelens.training.team import Team, join_team
from agelens.training.unfold import unfold

if TYPE_CHECKING:
    from torch import Tensor

    from agelens.training.config import Config

Facts = dict[str, Any]
SHOWN = 512
"""Faces by which the normalisations of a start are measured, see `unfold`."""
SUMMED = ("loss", "right_age", "known_age", "right_gender", "known_gender")


@dataclass(slots=True)
class Course:
    """How far a training has come; all that `last` keeps beside the learner's tensors.

    Attributes:
        step: Steps done.
        history: Per epoch: train loss, validation loss, train accuracy, validation accuracy.
        figures: Per epoch: all that was measured on validation.
        alarms: What was wrong after an epoch, see `alarms.ConstantAnswer`.
        best: Number of the best epoch, from 1; 0: none yet.
        sums: Losses and counts of the epoch so far.
        seconds: Spent.
    """

    step: int = 0
    history: list[list[float]] = field(default_factory=list)
    figures: list[dict[str, float]] = field(default_factory=list)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    best: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SUMMED, 0.0))
    seconds: float = 0.0

    def to_dict(self) -> Facts:
        return {name: getattr(self, name) for name in self.__slots__}


def run_training(
    config: Config,
    task: str,
    *,
    resume: bool = False,
    run: Path | None = None,
    listeners: Listeners | None = None,
) -> Path:
    """Trains, and leaves everything in the folder that is returned.

    Args:
        config: How, and on what.
        task: "age", "gender" or "both".
        resume: Go on with a training that was cut off, exactly as if it had not been.
        run: Which one to go on with; by default the newest unfinished one of the task with these settings.
        listeners: Who is told of the progress.

    Raises:
        AgelensError: As the rooms that it calls say; whatever happens, the best weights so far are kept.
    """
    noted: list[str] = []
    devices = choose_devices(config.gpu, noted.append)
    with join_team(devices) as team:
        listeners = (listeners or Listeners()) if team.leads else Listeners()
        for line in noted:
            listeners.tell(line)
        torch.set_num_threads(count_threads(config.gpu, team))
        prepare_device(team.device)
        if config.gpu.bf16 and not has_bf16(team.device):
            what = "CPU" if team.device.type == "cpu" else "GPU"
            listeners.tell(f"this {what} has no fast bfloat16: training in float32")
        unfinished = _find_unfinished(config, task, team, run) if resume else None
        checkpoint = load_checkpoint(unfinished / "last") if unfinished else None
        start = None if checkpoint else read_start(config, task)
        origin = Weights({}, checkpoint.facts["about"], str(unfinished)) if checkpoint else start
        if start:
            for line in describe_start(start, config):
                listeners.tell(line)
        material = open_material(config, task, origin, team, listeners)
        config = settle_batch(config, len(material.train), team.world, listeners.tell)
        gpus = count_gpus(devices, team)
        if checkpoint:  # what the run was begun on names its files
            gpus = checkpoint.facts.get("gpus", gpus)
        folder = RunFolder(
            unfinished or _create_folder(config, task, gpus, team), task, config.hyperparameters.batch_size, gpus
        )
        listeners.begun(folder.path)
        training = Training(config, material, folder, team, listeners, origin)
        for line in noted:
            training.log(line)
        try:
            if checkpoint:
                training.take_up(checkpoint)
            else:
                training.begin(start)
        except UnfitModelError:
            if team.leads and not checkpoint:
                shutil.rmtree(folder.path, ignore_errors=True)  # nothing was begun in it
            raise
        training.go()
        finish_run(training, describe_devices(devices, team, config.gpu))
        team.wait()
        return folder.path


def _find_unfinished(config: Config, task: str, team: Team, run: Path | None) -> Path:
    """The run to go on with; the first process looks, so that all take the same one."""
    found = str(run or find_unfinished(Path(config.data.output_dir), task, config)) if team.leads else ""
    return Path(team.tell(found))


def _create_folder(config: Config, task: str, gpus: int, team: Team) -> Path:
    path = ""
    if team.leads:
        path = str(create_run_folder(Path(config.data.output_dir), task, config.hyperparameters.batch_size, gpus).path)
    return Path(team.tell(path))


class Training:
    """One training: what it learns from, who learns, and where it writes."""

    def __init__(
        self,
        config: Config,
        material: Material,
        folder: RunFolder,
        team: Team,
        listeners: Listeners,
        origin: Weights | None = None,
    ) -> None:
        self.config, self.task, self.material, self.folder, self.team = config, folder.task, material, folder, team
        self.listeners = listeners
        network = build_network(config, self.task, material, origin)
        self.lessons = make_lessons(config, material, network)
        hyper = config.hyperparameters
        self.maker = BatchMaker(
            self.lessons, network, batch=hyper.batch_size, augment=config.augment, seed=hyper.seed, team=team
        )
        self.steps_per_epoch = self.maker.steps_per_epoch
        self.steps = self.steps_per_epoch * hyper.epochs
        twin = rebuild_network(network.kind, json.loads(json.dumps(network.describe())))
        self.learner = Learner(
            network,
            twin,
            make_objective(config, self.task),
            make_pace(config, self.steps),
            team=team,
            groups=material.groups,
        )
        self.course = Course()
        self.begun: Facts = {}
        """What the weights that it began with hand down, see `heritage`."""

    @property
    def about(self) -> Facts:
        """What the weights are, so that they can be read without anything else."""
        return {
            "format": "agelens.weights/1",
            "kind": self.learner.network.kind,
            "network": self.learner.network.describe(),
            "task": self.task,
            "crop": self.material.geometry.to_dict(),
            "config": to_values(self.config),
            "data": self.material.about,
            "versions": versions(),
        } | ({"begun": self.begun} if self.begun else {})

    def begin(self, start: Weights | None = None) -> None:
        """Loads what it starts from and lays the first checkpoint down.

        Raises:
            UnfitModelError: The start does not fit.
        """
        network = self.learner.network
        counts = self.material.about["labels"]
        self.say(
            f"{self.folder.path}: {self.task}, {network.kind}, "
            f"{sum(value.numel() for value in network.parameters()):,} weights; "
            + ", ".join(f"{name} {count['faces']:,}" for name, count in counts.items())
        )
        if start is not None:
            self.begun = inherit(start)
            for note in load_start(network, start, self.task):
                self.say(f"start: {note}")
            if start.folded:
                assert isinstance(network, FaceNetwork)
                unfold(network, self._show_some(network))
            self.learner.average.load_state_dict(network.state_dict())
        if self.team.leads and self.config.hyperparameters.plot_img:
            self._draw_grid()
        self._save()

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Goes on where a checkpoint is.

        Raises:
            TrainingError: It is of another configuration or other data.
        """
        data, name = self.material.about, str(self.folder.path)
        refuse_another(checkpoint.facts, self.config, self.task, data, self.team.world, name)
        self.learner.restore(checkpoint.tensors)
        self.course = Course(**checkpoint.facts["course"])
        self.begun = checkpoint.facts["about"].get("begun", {})
        self.say(f"going on at step {self.course.step} of {self.steps} in {self.folder.path}")

    def go(self) -> None:
        """All steps that are left, or until nothing gets better."""
        course, hyper = self.course, self.config.hyperparameters
        began, spent, first = time.monotonic(), course.seconds, course.step
        if self._is_over():
            return
        for batch in self.maker.stream(course.step, self.steps):
            losses = self.learner.learn(batch, course.step)
            course.step += 1
            for name in SUMMED:
                course.sums[name] += losses[name]
            elapsed = time.monotonic() - began
            course.seconds = spent + elapsed
            self.listeners.step(self._facts(losses["loss"], (course.step - first) / max(elapsed, 1e-9)))
            if course.step % self.steps_per_epoch == 0:
                self._end_epoch()
                course.seconds = spent + time.monotonic() - began
                self._save()
                if self._is_over():
                    return
            elif course.step % hyper.save_every == 0:
                self._save()

    def _facts(self, loss: float, steps_a_second: float) -> Facts:
        course, hyper = self.course, self.config.hyperparameters
        return {
            "step": course.step,
            "steps": self.steps,
            "epoch": (course.step - 1) // self.steps_per_epoch + 1,
            "epochs": hyper.epochs,
            "loss": loss,
            "rate": steps_a_second * hyper.batch_size * self.team.world,
            "left": (self.steps - course.step) / max(steps_a_second, 1e-9),
        }

    def _end_epoch(self) -> None:
        course = self.course
        figures, answers = measure_rows(self.learner, self.lessons, self.material.val, fully=False)
        if not np.isfinite(figures["loss"]):
            raise TrainingError(f"the validation loss became {figures['loss']}; lower the learning rate")
        train_loss = course.sums["loss"] / self.steps_per_epoch
        train_accuracy = accuracies(course.sums, self.learner)["accuracy"]
        course.history.append([train_loss, figures["loss"], train_accuracy, figures["accuracy"]])
        course.figures.append(figures)
        course.sums = dict.fromkeys(SUMMED, 0.0)
        epoch = len(course.history)
        is_best = not course.best or figures["loss"] < course.history[course.best - 1][1]
        if is_best:
            course.best = epoch
            if self.team.leads:
                about = self.about | {"epoch": epoch, "validation": figures}
                self.folder.save_model(self.learner.average.state_dict(), about)
        measured = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self.say(f"epoch {epoch}: train loss {train_loss:.4f}, validation {measured}{', best' if is_best else ''}")
        for alarm in find_constant(answers, epoch):
            course.alarms.append(alarm.to_dict())
            self.say(alarm.describe())

    def _is_over(self) -> bool:
        """Whether all steps are done, or nothing has become better for as many epochs as patience lasts."""
        patience, course = self.config.hyperparameters.patience, self.course
        if course.step >= self.steps:
            return True
        at_end = bool(course.history) and course.step % self.steps_per_epoch == 0
        if not (patience and at_end and len(course.history) - course.best >= patience):
            return False
        self.say(f"stopping: no better validation loss for {patience} epochs")
        return True

    def _save(self) -> None:
        if self.team.leads:
            facts = {
                "about": self.about,
                "task": self.task,
                "world": self.team.world,
                "gpus": self.folder.gpus,
                "course": self.course.to_dict(),
            }
            tensors = {name: value.detach().cpu() for name, value in self.learner.state().items()}
            save_checkpoint(Checkpoint(tensors, facts), self.folder.last)

    def _show_some(self, network: FaceNetwork) -> list[Tensor]:
        """Normalised crops of train, some at a time, as prediction would see them."""
        train, device = self.material.train, self.team.device
        rows = np.random.default_rng(self.config.hyperparameters.seed).permutation(train)[:SHOWN]
        pixels = still_crops(self.material.crops, rows, self.material.widening, network.side)
        planes = normalise(torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float())
        return [part.contiguous(memory_format=torch.channels_last) for part in torch.split(planes, 64)]

    def _draw_grid(self) -> None:
        batch = self.maker.make(0, self.maker.rows_of(0))
        network = self.learner.network
        levels = batch.crops[:64].permute(0, 2, 3, 1).numpy() * np.array(network.scale) + np.array(network.mean)
        draw_grid(self.folder, np.clip(np.rint(levels), 0, 255).astype(np.uint8))

    def say(self, line: str) -> None:
        """Tells the user and the log, in one process of all."""
        self.log(line)
        self.listeners.tell(line)

    def log(self, line: str) -> None:
        """Tells the log alone."""
        if self.team.leads:
            self.folder.log(line)


def versions() -> dict[str, str]:
    """Of everything that the numbers depend on."""
    names = ("torch", "numpy", "pillow", "onnxruntime")
    return {
        "agelens": agelens.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }
