"""What networks learn from views (see `views`): the labels of the faces shown, and what teachers say of them.

Of a face that is alone in its view teachers (see `hearing`) are believed inside what the label allows and no further,
so that their own errors are not learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from agelens.training.batches import Batch
from agelens.training.labels import blur_exact
from agelens.training.losses import band_mask, cut_to_band
from agelens.training.networks import AGE_BINS
from agelens.training.recipe.hearing import agree, hear, mix
from agelens.training.recipe.prior import Expected
from agelens.training.recipe.views import Showing, Views, draw_views

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from agelens.training.augment import AugmentConfig
    from agelens.training.crops import CropSet
    from agelens.training.networks import Network
    from agelens.training.recipe.courses import Course, Kind
    from agelens.training.recipe.hearing import Said, Teacher
    from agelens.training.recipe.unspoiled import UnspoiledTeacher


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What is known of the faces of a crop set, on the device that learns.

    Attributes:
        low: First year of what the label allows, shape (F,), NaN where unknown.
        high: Last year.
        exact: Whether the label is one age, shape (F,); it allows what its annotator's eye does, see `blur_exact`.
        age: A distribution over years, shape (F, 101).
        female: 0 to 1, shape (F,), NaN where unknown.
    """

    low: Tensor
    high: Tensor
    exact: Tensor
    age: Tensor
    female: Tensor

    @staticmethod
    def of(crops: CropSet, said: NDArray[np.float32], device: torch.device) -> Labels:
        """Those of a crop set.

        Args:
            crops: The faces.
            said: A distribution over years for each face, shape (F, 101); it tells of years inside a band.
            device: Where they go.
        """
        inside = band_mask(torch.from_numpy(crops.age_low), torch.from_numpy(crops.age_high), AGE_BINS)
        blurred, age = blur_exact(crops, cut_to_band(torch.from_numpy(said), inside).numpy())
        exact = crops.age_low == crops.age_high
        columns = (blurred.age_low, blurred.age_high, exact, age, crops.female)
        return Labels(*(torch.from_numpy(np.array(column)).to(device) for column in columns))


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Faces and what is known of them.

    Attributes:
        crops: The faces.
        faces: Their pixels on the device that learns, shape (F, S, S, 3).
        labels: What is known of them, on the same device.
    """

    crops: CropSet
    faces: Tensor
    labels: Labels


@dataclass(frozen=True, slots=True, eq=False)
class ViewLessons:
    """What is learned from.

    Attributes:
        faces: RGB uint8, shape (F, S, S, 3).
        views: The views.
        inside: Whether the label allows a year, shape (N, 101); no year of a mixed view.
        target: Probability of each year, shape (N, 101), float16.
        female: Probability of "female", shape (N,), NaN where unknown.
        widening: By how much the faces are wider than what is shown.
        hints: What a teacher sees of each face, shape (F, H), see `hints`; of two that are mixed the network is to tell
            the mixture. None: there are none.
        renew: Gives other views of the same faces for a pass, counted from 0, after the first. None: each pass shows
            the same.
        unspoiled: Is asked of each view as it would be unspoiled, and is learned from in place of targets, genders and
            hints. None: there is nobody.
    """

    faces: Tensor
    views: Views
    inside: Tensor
    target: Tensor
    female: Tensor
    widening: float
    hints: Tensor | None = None
    renew: Callable[[int], ViewLessons] | None = None
    unspoiled: UnspoiledTeacher | None = None

    @property
    def hinted(self) -> int:
        """How many numbers a hint has; 0: there are none."""
        if self.unspoiled is not None:
            return len(self.unspoiled.middle)
        return 0 if self.hints is None else self.hints.shape[1]


def combine(
    labels: Labels, views: Views, numbers: NDArray[np.int64], said: Said | None, kind: Kind
) -> tuple[Tensor, Tensor, Tensor]:
    """Labels and what teachers say, mixed, for some views: what the label allows, ages, genders (see `ViewLessons`)."""
    device = labels.low.device

    def put(values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values[numbers]).to(device)

    first, second, share = put(views.first), put(views.second), put(views.share)
    alone, part = (share == 1)[:, None], share[:, None]
    inside = band_mask(labels.low[first], labels.high[first], AGE_BINS)
    age = part * labels.age[first] + (1 - part) * labels.age[second]
    female = share * labels.female[first] + (1 - share) * labels.female[second]
    if said is not None:
        ages = said[0].float().exp()
        banded = alone & ~labels.exact[first][:, None]
        believed = torch.where(banded, cut_to_band(ages, inside), ages)
        age = kind.age * believed + (1 - kind.age) * age
        if said[1] is not None:
            heard = torch.sigmoid(said[1].float())
            female = torch.where(torch.isnan(female), heard, kind.gender * heard + (1 - kind.gender) * female)
    return inside.bool() & alone, age.half(), female


def prepare_lessons(
    material: Material,
    course: Course,
    teachers: Mapping[str, Teacher],
    folder: Path,
    listener: Callable[[str], None],
    *,
    still: Mapping[str, Said] | None = None,
) -> ViewLessons:
    """Draws the views of a course and asks its teachers.

    Args:
        material: All faces; those of the split "train" are shown.
        course: Which views, and whom to ask. Who judges and who learns see the same changes.
        teachers: By name.
        folder: Where their answers are kept.
        listener: Is told whose answers there are.
        still: What teachers say of all faces as they are; where it is given no teacher is asked of views, and
            every pass may show others.
    """
    crops, faces = material.crops, material.faces
    trained = crops.split == "train"
    kinds = [(np.flatnonzero(trained & np.isin(crops.dataset, kind.datasets)), kind.views) for kind in course.kinds]
    races = [kind.races for kind in course.kinds]

    def hear_each(kind: Kind, views: Views, numbers: NDArray[np.int64]) -> list[Said]:
        said: list[Said] = []
        for name in kind.teachers:
            teacher = teachers[name]
            show = Showing(faces, views, teacher.widening, teacher.size, course.train.augment)
            ages, female = hear(show, numbers, teacher, folder / f"{'-'.join(kind.datasets)}.{name}.safetensors")
            said.append((ages.to(faces.device), None if female is None else female.to(faces.device)))
            listener(f"{name} has judged {len(numbers)} views of {', '.join(kind.datasets)}")
        return said

    def agree_on(said: list[Said], kind: Kind) -> Said:
        ages, female = agree(said, list(kind.teachers.values()))
        return torch.log_softmax(ages + Expected(elders=course.elders).shift(ages.device), dim=1), female

    # What is said of faces is the same in every pass.
    of_faces = [
        None if still is None or not kind.teachers else agree_on([still[name] for name in kind.teachers], kind)
        for kind in course.kinds
    ]

    def prepare(pass_: int) -> ViewLessons:
        views, numbers = draw_views(crops, kinds, course.balance, course.train.seed + pass_, course.mixed, races)
        parts = []
        for kind, of_kind, agreed in zip(course.kinds, numbers, of_faces, strict=True):
            heard = None
            if agreed is not None:
                heard = mix(agreed, views, of_kind)
            elif kind.teachers and not course.unspoiled:
                heard = agree_on(hear_each(kind, views, of_kind), kind)
            parts.append(combine(material.labels, views, of_kind, heard, kind))
        inside, target, female = (torch.cat(each) for each in zip(*parts, strict=True))
        # Nobody has to be asked for other views where faces were asked.
        renew = prepare if still is not None or course.unspoiled else None
        return ViewLessons(faces, views, inside, target, female, course.widening, renew=renew)

    return prepare(0)


class ViewMaker:
    """Makes the batch of any step out of views; with every pass each view comes once, mirrored or not, or others come.

    Args:
        lessons: What is learned from.
        network: Whose crops they are.
        batch: Views in a batch.
        augment: Changes, the same as those that the teachers saw.
        seed: Of order and mirroring.
    """

    def __init__(
        self, lessons: ViewLessons, network: Network, *, batch: int, augment: AugmentConfig, seed: int
    ) -> None:
        self._first, self._batch, self._seed, self._augment = lessons, batch, seed, augment
        self._side, self._hints, self._unspoiled = network.side, lessons.hints, lessons.unspoiled
        device = lessons.faces.device
        self._mean, self._scale = (
            torch.tensor(values, device=device)[:, None, None] for values in (network.mean, network.scale)
        )
        self._per_pass = max(len(lessons.views) // batch, 1)
        self._begin_pass(0)

    def _begin_pass(self, pass_: int) -> None:
        renew = self._first.renew
        self._pass, self._lessons = pass_, self._first if renew is None or not pass_ else renew(pass_)
        faces, views, other = self._lessons.faces, self._lessons.views, self._unspoiled
        self._show = Showing(faces, views, self._lessons.widening, self._side, self._augment)
        if other is not None:
            self._show_unspoiled = Showing(faces, views, other.widening, other.size, self._augment.unspoiled)
        self._order = np.random.default_rng([self._seed, 1, pass_]).permutation(len(self._lessons.views))

    def numbers_of(self, step: int) -> NDArray[np.int64]:
        """The views of a step, of those of its pass."""
        pass_, place = divmod(step, self._per_pass)
        if pass_ != self._pass:
            self._begin_pass(pass_)
        return self._order[place * self._batch : (place + 1) * self._batch]

    def make(self, step: int, numbers: NDArray[np.int64]) -> Batch:
        """The batch of a step, whose views `numbers_of` has told."""
        lessons, device = self._lessons, self._lessons.faces.device
        levels = self._show(numbers)
        mirrored = torch.from_numpy(np.random.default_rng([self._seed, 2, step]).random(len(numbers)) < 0.5)
        levels = torch.where(mirrored.to(device)[:, None, None, None], levels.flip(3), levels)
        rows = torch.from_numpy(numbers).to(device)
        if self._unspoiled is None:
            target, female, hint = lessons.target[rows].float(), lessons.female[rows], self._hint(numbers)
        else:
            target, female, hint = self._unspoiled(self._show_unspoiled(numbers))
        return Batch.of_equals(
            ((levels - self._mean) / self._scale).contiguous(memory_format=torch.channels_last),
            lessons.inside[rows].float(),
            target / target.sum(dim=1, keepdim=True),
            female,
            hint,
        )

    def _hint(self, numbers: NDArray[np.int64]) -> Tensor | None:
        hints, views = self._hints, self._lessons.views
        if hints is None:
            return None
        first, second = (
            hints[torch.from_numpy(rows[numbers]).to(hints.device)] for rows in (views.first, views.second)
        )
        share = torch.from_numpy(views.share[numbers]).to(hints.device)[:, None]
        return share * first + (1 - share) * second

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps start .. stop - 1."""
        for step in range(start, stop):
            yield self.make(step, self.numbers_of(step))
