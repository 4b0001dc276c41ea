"""The models that we make, as data. What was tried and left is told in `experiments/LOG.md`."""

from __future__ import annotations

from agelens.training.recipe.base import BASE_COURSES, NANO_COURSES
from agelens.training.recipe.credits import AAF, FAIRFACE, UTKFACE
from agelens.training.recipe.models import Recipe, Source
from agelens.training.recipe.research import RESEARCH_COURSES

BASE_ELDERS, NANO_ELDERS = 4.0, 6.0
"""How many times as common as in what was learned people of 70 and more are expected to be: at four, UTKFace's
validation faces of that age are told 2.4 years better and all 0.15 worse; more costs FairFace's bands."""
WORLD_GROWN = 1.5
"""The same of people over 33: of FairFace's labels two in five are, of the world's people almost half (UN, World
Population Prospects 2024), which is 1.5 times the odds."""
FAIRFACE_SOURCE = Source("fairface", "fairface-train", FAIRFACE)
WORLD_TEENS, FAIRFACE_TEENS = 0.163, 0.108
"""Share of people of 10 to 19 years: in the world (UN, World Population Prospects 2024), in FairFace's labels. Smaller
children are hardly ever taken for older ones."""
RESEARCH_ELDERS = 3.0
"""As of base: at three validation faces of 70 and more are told 0.8 years better than at 1.5, all 0.05 years worse."""
BASE = Recipe(
    name="agelens-base",
    sources=(FAIRFACE_SOURCE,),
    courses=BASE_COURSES,
    elders=BASE_ELDERS,
    grown=WORLD_GROWN,
    youth=WORLD_TEENS / FAIRFACE_TEENS,
    second=0.1,
    int8=False,
    licence="MIT",
    about="age and gender from 96-pixel crops; trained on FairFace (CC BY 4.0) from CC0 weights, for commercial use",
)

NANO = Recipe(
    name="agelens-nano",
    sources=(FAIRFACE_SOURCE,),
    courses=NANO_COURSES,
    elders=NANO_ELDERS,
    grown=WORLD_GROWN,
    youth=1.0,
    second=0.0,
    int8=True,
    licence="MIT",
    about="the same from 64-pixel crops in 8-bit numbers: a seventh of the size, less sure; for browsers and boards",
)

RESEARCH = Recipe(
    name="agelens-research",
    sources=(FAIRFACE_SOURCE, Source("utkface", "utkface-train", UTKFACE, 5), Source("aaf", "aaf-train", AAF, 5)),
    courses=RESEARCH_COURSES,
    elders=RESEARCH_ELDERS,
    grown=1.0,
    youth=1.0,
    second=0.0,
    int8=False,
    licence="research only (UTKFace, All-Age-Faces, VGGFace2, IMDB-WIKI)",
    about="age and gender from 96-pixel crops; trained on UTKFace and All-Age-Faces too: for research, not commercial",
    ships=False,
)

RECIPES = {"base": BASE, "nano": NANO, "research": RESEARCH}
