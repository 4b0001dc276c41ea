"""What makes one model, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agelens.training.recipe.courses import Course
from agelens.training.recipe.credits import CC0, GENDER_TEACHER, RESEARCH_TEACHER, SECOND
from agelens.training.recipe.prior import Expected
from agelens.training.recipe.sights import FREE, GENDERS


@dataclass(frozen=True, slots=True)
class Source:
    """A data set that is learned from.

    Attributes:
        kind: Its importer.
        pack: Its archive, without ".tar".
        about: What the model file says of it.
        drop_conflicts: Near-duplicates whose ages lie further apart, in years, or whose genders differ, are left out;
            None keeps them.
    """

    kind: str
    pack: str
    about: dict[str, str]
    drop_conflicts: float | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes one model.

    Attributes:
        name: Of the model.
        sources: What is learned from.
        courses: Its teachers', and the last one its own. Those of several recipes are held once.
        expected: How common people are taken to be that its own course had few of; there teachers may have taken the
            old to be more common than among the faces, see `Course`.
        second: Weight of the small CC0 gender network inside the model, see `SecondOpinion`; 0: it is left out.
        int8: Whether the file holds 8-bit numbers.
        licence: Of the weights.
        about: One line for the list of models.
        ships: Whether it goes into the package; else into a folder of its own, `weights`.
    """

    name: str
    sources: tuple[Source, ...]
    courses: tuple[Course, ...]
    expected: Expected
    second: float
    int8: bool
    licence: str
    about: str
    ships: bool = True

    def ease(self, effort: float) -> Recipe:
        """The same with that share of all steps and views: to see it go from nothing to a model file in little time."""
        return replace(self, courses=tuple(course.ease(effort) for course in self.courses))

    @property
    def own(self) -> Course:
        """The course of the model itself."""
        return self.courses[-1]

    @property
    def data(self) -> tuple[dict[str, str], ...]:
        """What the file says that it was made of."""
        inside = [SECOND] if self.second else []
        taught = [GENDER_TEACHER] if any(GENDERS in course.sights for course in self.courses) else []
        taught += [] if self.is_free else [RESEARCH_TEACHER]
        return (*(source.about for source in self.sources), *CC0, *inside, *taught)

    @property
    def is_free(self) -> bool:
        """Whether no network of it heard, or was told, what research-only pictures taught."""
        return all(course.sights <= FREE for course in self.courses)
