"""The models that we make, as data. What was tried and left is told in `experiments/LOG.md`."""

from __future__ import annotations

from dataclasses import replace

from agelens.training.augment import AugmentConfig
from agelens.training.networks import NetworkConfig
from agelens.training.recipe.courses import Course, Kind
from agelens.training.recipe.credits import AAF, FAIRFACE, GENDER_TEACHER, UTKFACE
from agelens.training.recipe.loop import TrainConfig
from agelens.training.recipe.models import Recipe, Source
from agelens.training.recipe.school import RECOGNITION, YEARS
from agelens.training.recipe.sights import EMBEDDING, VGGFACE2
from agelens.training.recipe.starts import RECOGNITION_CONFIG
from agelens.training.recipe.views import MIXED

FAIRFACE_SOURCE = Source("fairface", "fairface-train", FAIRFACE)
TAUGHT_ELDERS, BASE_ELDERS = 4.0, 4.0
"""How many times as common base's teachers take them to be, and how many times again what has learned, and nano: at
four people of 70 and more on UTKFace's validation faces are told 2.4 years better (nano 2.9) and all 0.15 worse (nano
as well as before); more costs FairFace's bands."""
WORLD_TEENS, FAIRFACE_TEENS = 0.163, 0.108
"""Share of people of 10 to 19 years: in the world (UN, World Population Prospects 2024), in FairFace's labels. Smaller
children are hardly ever taken for older ones."""
RESEARCH_ELDERS = 2.0
"""Validation faces of 70 and more are told 1.2 years better, and everybody as well as before; more costs all others."""
ONE, OTHERS = ("fairface",), ("utkface", "aaf")
"""The data sets of kinds of views."""
_CHANGES = AugmentConfig(shrink=0.25, erase=0.15)
_SMALL = NetworkConfig(size=96, widths=(32, 64, 128, 256), blocks=(3, 4, 3, 1), last_inner=256, dropout=0.2)
_TINY = NetworkConfig(size=64, widths=(32, 64, 128), blocks=(3, 4, 3), last_inner=128, dropout=0.1)


def _large(size: int, steps: int, learning_rate: float, seed: int) -> TrainConfig:
    """How a teacher learns: the whole of the recognition network."""
    return TrainConfig(
        network=replace(RECOGNITION_CONFIG, size=size, dropout=0.3),
        augment=_CHANGES,
        steps=steps,
        batch=256,
        learning_rate=learning_rate,
        warmup=steps // 20,
        weight_decay=0.05,
        average=0.998,
        label=0.6,
        teacher=0.8,
        seed=seed,
        save_every=steps // 3,
    )


def _small(
    network: NetworkConfig, steps: int, batch: int, learning_rate: float, seed: int, hint: float = 0.0
) -> TrainConfig:
    """How a network that ships learns: gently, it has good teachers."""
    return TrainConfig(
        network=network,
        augment=_CHANGES,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        warmup=150,
        weight_decay=0.05,
        average=0.9985,
        label=0.5,
        teacher=1.0,
        smoothing=0.0,
        hint=hint,
        seed=seed,
        save_every=500,
    )


def _go_on(
    name: str, before: str, *kinds: Kind, train: TrainConfig, hints: str, mixed: float = MIXED, keeps: float = 0.0
) -> Course:
    """A network learns on from fresh views, and by the sight of another; keeps: the share of what it was in the end."""
    blends = {before: keeps} if keeps else {}
    return Course(name, before, 1.35, kinds, 0.25, train, still=True, mixed=mixed, blends=blends, hints=hints)


def _long(steps: int, learning_rate: float, seed: int, hint: float, *, label: float) -> TrainConfig:
    """The same from views by the million."""
    train = _small(replace(_SMALL, dropout=0.1), steps, 1024, learning_rate, seed, hint)
    return replace(train, warmup=steps // 25, label=label)


MIDDLE = Course(
    "middle", RECOGNITION, 1.12, (Kind(ONE, 200_000, {YEARS: 1.0}, age=0.4),), 0.25, _large(144, 3218, 5e-4, 21)
)
WHOLE = Course(
    "whole",
    RECOGNITION,
    1.0,
    (Kind(ONE, 200_000, {YEARS: 0.2, "middle": 0.8}, age=0.6, gender=0.4),),
    0.25,
    _large(160, 3046, 5e-4, 22),
)
NEAR = Course(
    "near",
    RECOGNITION,
    1.26,
    (Kind(ONE, 200_000, {YEARS: 0.2, "middle": 0.4, "whole": 0.4}, age=0.6, gender=0.5),),
    0.25,
    _large(128, 1914, 5e-4, 23),
)
FIRST_BASE = Course(
    "first-base",
    "near",
    1.35,
    (Kind(ONE, 360_000, {YEARS: 0.25, "middle": 0.25, "whole": 0.25, "near": 0.25}, age=0.7, gender=0.75),),
    0.3,
    _small(_SMALL, 3105, 512, 1e-3, 24),
)
SECOND_BASE = _go_on(
    "second-base",
    "first-base",
    Kind(ONE, 345_600, {EMBEDDING: 0.5, "first-base": 0.5}, age=0.8, gender=0.8),
    train=_small(_SMALL, 2700, 128, 1e-3, 61, hint=2.0),
    hints=EMBEDDING,
)
THIRD_BASE = _go_on(
    "third-base",
    "second-base",
    Kind(ONE, 345_600, {EMBEDDING: 0.35, "first-base": 0.35, "whole": 0.3}, age=0.8, gender=0.8),
    train=_small(_SMALL, 2700, 128, 7e-4, 161, hint=1.0),
    hints=EMBEDDING,
)
FOURTH_BASE = _go_on(
    "fourth-base",
    "third-base",
    Kind(
        ONE,
        1_024_000,
        {EMBEDDING: 0.35, "first-base": 0.2, "third-base": 0.2, "whole": 0.25},
        age=0.85,
        gender=0.8,
    ),
    train=_long(11_936, 2e-3, 261, hint=1.0, label=0.25),
    hints=EMBEDDING,
    keeps=0.3,
)
OWN_BASE = Course(
    "base",
    "fourth-base",
    1.35,
    (
        Kind(
            ONE,
            128_000,
            {YEARS: 0.06, EMBEDDING: 0.33, "first-base": 0.19, "third-base": 0.19, "whole": 0.23},
            age=1.0,
            gender=0.8,
        ),
    ),
    0.5,
    replace(_small(_SMALL, 2500, 128, 1e-3, 361, hint=2.0), label=0.0, frozen=7),
    still=True,
    mixed=0.8,
    elders=TAUGHT_ELDERS,
    hints=EMBEDDING,
)
"""Last, the upper half forgets what it learned by heart: large steps, few faces alone, teachers alone tell of ages;
rare ages come more often, and who knows old people from elsewhere has a say again."""
FIRST_NANO = Course(
    "first-nano",
    "near",
    1.35,
    (
        Kind(
            ONE,
            240_000,
            {YEARS: 0.2, "middle": 0.2, "whole": 0.2, "near": 0.2, "first-base": 0.2},
            age=0.8,
            gender=0.85,
        ),
    ),
    0.3,
    _small(_TINY, 498, 512, 1.2e-3, 28),
)
OWN_NANO = Course(
    "nano",
    "first-nano",
    1.35,
    (Kind(ONE, 56_000, {YEARS: 0.2, "first-base": 0.8}, age=0.8, gender=0.85),),
    0.3,
    _small(_TINY, 1200, 128, 1e-3, 33),
)
WHOLE_RESEARCH = Course(
    "whole-research",
    "whole",
    1.0,
    (
        Kind(ONE, 120_000, {YEARS: 0.1, "middle": 0.3, "whole": 0.3, "near": 0.3}, age=0.6, gender=0.5),
        Kind(OTHERS, 120_000, {}),
    ),
    0.25,
    _large(160, 2203, 4e-4, 25),
)
NEAR_RESEARCH = Course(
    "near-research",
    "near",
    1.26,
    (
        Kind(
            ONE,
            120_000,
            {"middle": 0.25, "whole": 0.25, "near": 0.2, "whole-research": 0.3},
            age=0.6,
            gender=0.5,
        ),
        Kind(OTHERS, 120_000, {"whole-research": 1.0}, age=0.4, gender=0.4),
    ),
    0.25,
    _large(128, 1256, 4e-4, 26),
)
FIRST_RESEARCH = Course(
    "first-research",
    "near-research",
    1.35,
    (
        Kind(
            ONE,
            200_000,
            {"middle": 0.2, "whole": 0.2, "near": 0.2, "whole-research": 0.2, "near-research": 0.2},
            age=0.7,
            gender=0.75,
        ),
        Kind(OTHERS, 200_000, {"whole-research": 0.5, "near-research": 0.5}, age=0.5, gender=0.5),
    ),
    0.25,
    _small(_SMALL, 2192, 512, 1e-3, 27),
)
SECOND_RESEARCH = _go_on(
    "second-research",
    "first-research",
    Kind(ONE, 294_400, {VGGFACE2: 0.6, "first-research": 0.2, "first-base": 0.2}, age=0.8, gender=0.8),
    Kind(OTHERS, 294_400, {VGGFACE2: 0.6, "first-research": 0.4}, age=0.6, gender=0.6),
    train=_small(_SMALL, 4600, 128, 1e-3, 41, hint=2.0),
    hints=VGGFACE2,
)
THIRD_RESEARCH = _go_on(
    "third-research",
    "second-research",
    Kind(ONE, 1_290_240, {VGGFACE2: 0.6, "second-research": 0.2, "first-base": 0.2}, age=0.8, gender=0.8),
    Kind(OTHERS, 1_290_240, {VGGFACE2: 0.6, "second-research": 0.4}, age=0.6, gender=0.6),
    train=_small(_SMALL, 3360, 768, 1.5e-3, 241, hint=2.0),
    hints=VGGFACE2,
    keeps=0.3,
)
FOURTH_RESEARCH = _go_on(
    "fourth-research",
    "third-research",
    Kind(ONE, 204_800, {VGGFACE2: 0.5, "third-research": 0.25, "first-base": 0.1, "whole": 0.15}, age=0.6, gender=0.3),
    Kind(OTHERS, 204_800, {VGGFACE2: 0.5, "third-research": 0.5}, age=0.4, gender=0.2),
    train=replace(_small(_SMALL, 3200, 128, 6e-4, 441, hint=2.0), frozen=7),
    hints=VGGFACE2,
    keeps=0.3,
)
_OF_ONE = {VGGFACE2: 0.5, "fourth-research": 0.25, "first-base": 0.1, "whole": 0.15}
_OF_OTHERS = {VGGFACE2: 0.5, "fourth-research": 0.5}
FIFTH_RESEARCH = _go_on(
    "fifth-research",
    "fourth-research",
    Kind(ONE, 512_000, _OF_ONE, age=0.85, gender=0.75),
    Kind(OTHERS, 512_000, _OF_OTHERS, age=0.8, gender=0.65),
    train=_long(18_464, 2e-3, 541, hint=2.0, label=0.25),
    hints=VGGFACE2,
)
SIXTH_RESEARCH = _go_on(
    "sixth-research",
    "fifth-research",
    Kind(ONE, 512_000, _OF_ONE, age=1.0, gender=0.8),
    Kind(OTHERS, 512_000, _OF_OTHERS, age=1.0, gender=0.7),
    train=_long(6944, 1e-3, 641, hint=2.0, label=0.0),
    hints=VGGFACE2,
    mixed=0.85,
)
OWN_RESEARCH = _go_on(
    "research",
    "sixth-research",
    Kind(ONE, 32_000, _OF_ONE, age=1.0, gender=0.5),
    Kind(OTHERS, 96_000, _OF_OTHERS, age=0.6, gender=0.3),
    train=replace(_small(_SMALL, 2500, 128, 1.5e-3, 741, hint=2.0), label=0.0, frozen=7),
    hints=VGGFACE2,
    mixed=0.9,
)
"""Last, the upper half forgets what was learned by heart: large steps, hardly a face alone, FairFace's ages by teachers
alone; and labels of gender are believed more than teachers, who know little of children's."""

BASE = Recipe(
    name="agelens-base",
    sources=(FAIRFACE_SOURCE,),
    courses=(MIDDLE, WHOLE, NEAR, FIRST_BASE, SECOND_BASE, THIRD_BASE, FOURTH_BASE, OWN_BASE),
    elders=BASE_ELDERS,
    youth=WORLD_TEENS / FAIRFACE_TEENS,
    second=0.1,
    int8=False,
    licence="MIT",
    about="age and gender from 96-pixel crops; trained on FairFace (CC BY 4.0) from CC0 weights, for commercial use",
)

NANO = Recipe(
    name="agelens-nano",
    sources=(FAIRFACE_SOURCE,),
    courses=(MIDDLE, WHOLE, NEAR, FIRST_BASE, FIRST_NANO, OWN_NANO),
    elders=BASE_ELDERS,
    youth=1.0,
    second=0.0,
    int8=True,
    licence="MIT",
    about="the same from 64-pixel crops in 8-bit numbers: a seventh of the size, less sure; for browsers and boards",
    heard=(GENDER_TEACHER,),
)

RESEARCH = Recipe(
    name="agelens-research",
    sources=(FAIRFACE_SOURCE, Source("utkface", "utkface-train", UTKFACE, 5), Source("aaf", "aaf-train", AAF, 5)),
    courses=(
        MIDDLE,
        WHOLE,
        NEAR,
        FIRST_BASE,
        WHOLE_RESEARCH,
        NEAR_RESEARCH,
        FIRST_RESEARCH,
        SECOND_RESEARCH,
        THIRD_RESEARCH,
        FOURTH_RESEARCH,
        FIFTH_RESEARCH,
        SIXTH_RESEARCH,
        OWN_RESEARCH,
    ),
    elders=RESEARCH_ELDERS,
    youth=1.0,
    second=0.0,
    int8=False,
    licence="research only (UTKFace, All-Age-Faces, VGGFace2, IMDB-WIKI)",
    about="age and gender from 96-pixel crops; trained on UTKFace and All-Age-Faces too: for research, not commercial",
    ships=False,
)

RECIPES = {"base": BASE, "nano": NANO, "research": RESEARCH}
