"""How agelens-research is taught: from what is for research only, too."""

from __future__ import annotations

from dataclasses import replace

from agelens.training.recipe.base import FIRST_BASE, MIDDLE, NEAR, WHOLE
from agelens.training.recipe.courses import Course, Kind
from agelens.training.recipe.patterns import (
    LONGER,
    ONE,
    OTHERS,
    RACES,
    SMALL,
    go_on,
    large,
    long,
    remembered,
    see_through,
    small,
    upper,
    worn,
)
from agelens.training.recipe.school import YEARS
from agelens.training.recipe.sights import EMBEDDING, EMBEDDING_STAGES, VGGFACE2, VGGFACE2_STAGES

TAUGHT_ELDERS = 2.0
"""How many times as common as among the faces its last teachers take people of 70 and more to be."""
WHOLE_RESEARCH = Course(
    "whole-research",
    "whole",
    1.0,
    (
        Kind(ONE, 120_000, {YEARS: 0.1, "middle": 0.3, "whole": 0.3, "near": 0.3}, age=0.6, gender=0.5),
        Kind(OTHERS, 120_000, {}),
    ),
    0.25,
    large(160, 2203, 4e-4, 25),
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
    large(128, 1256, 4e-4, 26),
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
    small(SMALL, 2192, 512, 1e-3, 27),
)
SECOND_RESEARCH = go_on(
    "second-research",
    "first-research",
    Kind(ONE, 294_400, {VGGFACE2: 0.6, "first-research": 0.2, "first-base": 0.2}, age=0.8, gender=0.8),
    Kind(OTHERS, 294_400, {VGGFACE2: 0.6, "first-research": 0.4}, age=0.6, gender=0.6),
    train=small(SMALL, 4600, 128, 1e-3, 41, hint=2.0),
    hints=VGGFACE2,
)
THIRD_RESEARCH = go_on(
    "third-research",
    "second-research",
    Kind(ONE, 1_290_240, {VGGFACE2: 0.6, "second-research": 0.2, "first-base": 0.2}, age=0.8, gender=0.8),
    Kind(OTHERS, 1_290_240, {VGGFACE2: 0.6, "second-research": 0.4}, age=0.6, gender=0.6),
    train=small(SMALL, 3360, 768, 1.5e-3, 241, hint=2.0),
    hints=VGGFACE2,
    blends={"second-research": 0.3},
)
FOURTH_RESEARCH = go_on(
    "fourth-research",
    "third-research",
    Kind(ONE, 204_800, {VGGFACE2: 0.5, "third-research": 0.25, "first-base": 0.1, "whole": 0.15}, age=0.6, gender=0.3),
    Kind(OTHERS, 204_800, {VGGFACE2: 0.5, "third-research": 0.5}, age=0.4, gender=0.2),
    train=upper(3200, 6e-4, 441, label=0.5),
    hints=VGGFACE2,
    blends={"third-research": 0.3},
)
_OF_ONE = {VGGFACE2: 0.5, "fourth-research": 0.25, "first-base": 0.1, "whole": 0.15}
_OF_OTHERS = {VGGFACE2: 0.5, "fourth-research": 0.5}
FIFTH_RESEARCH = go_on(
    "fifth-research",
    "fourth-research",
    Kind(ONE, 512_000, _OF_ONE, age=0.85, gender=0.75),
    Kind(OTHERS, 512_000, _OF_OTHERS, age=0.8, gender=0.65),
    train=long(18_464, 2e-3, 541, hint=2.0, label=0.25),
    hints=VGGFACE2,
)
SIXTH_RESEARCH = go_on(
    "sixth-research",
    "fifth-research",
    Kind(ONE, 512_000, _OF_ONE, age=1.0, gender=0.8),
    Kind(OTHERS, 512_000, _OF_OTHERS, age=1.0, gender=0.7),
    train=long(6944, 1e-3, 641, hint=2.0, label=0.0),
    hints=VGGFACE2,
    mixed=0.85,
)
SEVENTH_RESEARCH = go_on(
    "seventh-research",
    "sixth-research",
    Kind(ONE, 32_000, _OF_ONE, age=1.0, gender=0.5),
    Kind(OTHERS, 96_000, _OF_OTHERS, age=0.6, gender=0.3),
    train=upper(2500, 1.5e-3, 741),
    hints=VGGFACE2,
    mixed=0.9,
)
"""The upper half forgets what was learned by heart: large steps, hardly a face alone, FairFace's ages by teachers
alone; and labels of gender are believed more than teachers, who know little of children's."""
_STAGES, _SEEN = f"{VGGFACE2_STAGES}+{EMBEDDING_STAGES}", f"{VGGFACE2}+{EMBEDDING}"
_DEEP_OF_ONE = {_SEEN: 0.15, VGGFACE2_STAGES: 0.2, _STAGES: 0.3, "seventh-research": 0.25, "whole": 0.1}
_DEEP_OF_OTHERS = {_SEEN: 0.2, VGGFACE2_STAGES: 0.15, _STAGES: 0.35, "seventh-research": 0.3}
EIGHTH_RESEARCH = go_on(
    "eighth-research",
    "seventh-research",
    Kind(ONE, 512_000, _DEEP_OF_ONE, age=1.0, gender=0.75, races=RACES),
    Kind(OTHERS, 512_000, _DEEP_OF_OTHERS, age=0.85, gender=0.65),
    train=long(22_040, 2e-3, 841, hint=2.0, label=0.1, network=LONGER),
    hints=_SEEN,
    hidden=_STAGES,
    mixed=0.75,
    elders=TAUGHT_ELDERS,
)
NINTH_RESEARCH = go_on(
    "ninth-research",
    "eighth-research",
    Kind(ONE, 128_000, _DEEP_OF_ONE, age=1.0, gender=0.6, races=RACES),
    Kind(OTHERS, 384_000, _DEEP_OF_OTHERS, age=0.7, gender=0.4),
    train=upper(6640, 1.5e-3, 941, network=LONGER),
    hints=_SEEN,
    hidden=_STAGES,
    mixed=0.9,
    elders=TAUGHT_ELDERS,
)
TENTH_RESEARCH = go_on(
    "tenth-research",
    "eighth-research",
    Kind(ONE, 256_000, _DEEP_OF_ONE, age=1.0, gender=0.75, races=RACES),
    Kind(OTHERS, 256_000, _DEEP_OF_OTHERS, age=0.8, gender=0.6),
    train=upper(7112, 6e-4, 1041, dropout=0.1, network=LONGER),
    hints=_SEEN,
    hidden=_STAGES,
    mixed=0.75,
    elders=TAUGHT_ELDERS,
    blends={"ninth-research": 0.5},
)
ELEVENTH_RESEARCH = go_on(
    "eleventh-research",
    "tenth-research",
    Kind(ONE, 256_000, {_STAGES: 0.4, "tenth-research": 0.6}, age=1.0, gender=0.75, races=RACES),
    Kind(OTHERS, 256_000, {_STAGES: 0.4, "tenth-research": 0.6}, age=0.85, gender=0.65),
    train=worn(2000, 1e-3, 1141, hint=1.0, label=0.1, network=LONGER),
    hints=_STAGES,
    blends={"tenth-research": 0.7},
)
"""It learns what grain is: it hears what was said of the same faces without."""
OWN_RESEARCH = replace(
    see_through(
        "research",
        "eleventh-research",
        Kind(ONE, 64_000, {"eleventh-research": 1.0}, races=RACES),
        Kind(OTHERS, 64_000, {"eleventh-research": 1.0}),
        train=remembered(1750, 3e-4, 14, network=LONGER),
    ),
    blends={"eleventh-research": 0.8},
)
"""Last, it learns more of it, and keeps to itself otherwise, as base does."""

RESEARCH_COURSES = (
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
    SEVENTH_RESEARCH,
    EIGHTH_RESEARCH,
    NINTH_RESEARCH,
    TENTH_RESEARCH,
    ELEVENTH_RESEARCH,
    OWN_RESEARCH,
)
