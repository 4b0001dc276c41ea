"""The models that we make, as data. What was tried and left is told in `experiments/LOG.md`."""

from __future__ import annotations

from agelens.training.recipe.base import BASE_COURSES, NANO_COURSES
from agelens.training.recipe.credits import AAF, FAIRFACE, UTKFACE
from agelens.training.recipe.models import Recipe, Source
from agelens.training.recipe.prior import Expected
from agelens.training.recipe.research import RESEARCH_COURSES

WOMEN = (0.516 / 0.484) / (0.393 / 0.607)
"""Of FairFace's women 39.3% are labelled as 30 or older, of its men 51.6%; of the world's people it is half of both
(UN, World Population Prospects 2024). So women known to be 30 to 50 were told 4 to 13 years too young, men 0 to 5."""
BASE_EXPECTED = Expected(elders=4.0, grown=2.0, women=WOMEN, youth=1.8)
"""More than counts alone would give (1.5 times as many grown people and teenagers as in FairFace are in the world);
chosen on validation faces: UTKFace's of 70 and more are told 2.4 years better and all of All-Age-Faces' 0.3, which
costs half a point of FairFace's bands."""
NANO_EXPECTED = Expected(elders=6.0, grown=2.0, women=WOMEN, youth=1.3)
"""As of base; nano shrinks back more from telling that somebody is old, and takes fewer grown people for teenagers."""
RESEARCH_EXPECTED = Expected(elders=3.0, women=1.3)
"""Most of its labels are true ages, so little is to be taken back; FairFace's part of it still shows."""
FAIRFACE_SOURCE = Source("fairface", "fairface-train", FAIRFACE)
BASE = Recipe(
    name="agelens-base",
    sources=(FAIRFACE_SOURCE,),
    courses=BASE_COURSES,
    expected=BASE_EXPECTED,
    second=0.1,
    int8=False,
    licence="MIT",
    about="age and gender from 96-pixel crops; trained on FairFace (CC BY 4.0) from CC0 weights, for commercial use",
)

NANO = Recipe(
    name="agelens-nano",
    sources=(FAIRFACE_SOURCE,),
    courses=NANO_COURSES,
    expected=NANO_EXPECTED,
    second=0.0,
    int8=True,
    licence="MIT",
    about="the same from 64-pixel crops in 8-bit numbers: a seventh of the size, less sure; for browsers and boards",
)

RESEARCH = Recipe(
    name="agelens-research",
    sources=(FAIRFACE_SOURCE, Source("utkface", "utkface-train", UTKFACE, 5), Source("aaf", "aaf-train", AAF, 5)),
    courses=RESEARCH_COURSES,
    expected=RESEARCH_EXPECTED,
    second=0.0,
    int8=False,
    licence="research only (UTKFace, All-Age-Faces, VGGFace2, IMDB-WIKI)",
    about="age and gender from 96-pixel crops; trained on UTKFace and All-Age-Faces too: for research, not commercial",
    ships=False,
)

RECIPES = {"base": BASE, "nano": NANO, "research": RESEARCH}
