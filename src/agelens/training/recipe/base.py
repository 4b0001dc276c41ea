"""How agelens-base and agelens-nano are taught: from what may be used commercially."""

from __future__ import annotations

from dataclasses import replace

from agelens.training.recipe.courses import Course, Kind
from agelens.training.recipe.patterns import (
    ONE,
    RACES,
    SMALL,
    TINY,
    go_on,
    large,
    long,
    remembered,
    see_through,
    small,
    upper,
    worn,
)
from agelens.training.recipe.school import RECOGNITION, YEARS
from agelens.training.recipe.sights import AGES, EMBEDDING, EMBEDDING_STAGES, GENDERS

TAUGHT_ELDERS = 4.0
"""How many times as common as among FairFace's faces base's teachers take people of 70 and more to be."""
MIDDLE = Course(
    "middle", RECOGNITION, 1.12, (Kind(ONE, 200_000, {YEARS: 1.0}, age=0.4),), 0.25, large(144, 3218, 5e-4, 21)
)
WHOLE = Course(
    "whole",
    RECOGNITION,
    1.0,
    (Kind(ONE, 200_000, {YEARS: 0.2, "middle": 0.8}, age=0.6, gender=0.4),),
    0.25,
    large(160, 3046, 5e-4, 22),
)
NEAR = Course(
    "near",
    RECOGNITION,
    1.26,
    (Kind(ONE, 200_000, {YEARS: 0.2, "middle": 0.4, "whole": 0.4}, age=0.6, gender=0.5),),
    0.25,
    large(128, 1914, 5e-4, 23),
)
FIRST_BASE = Course(
    "first-base",
    "near",
    1.35,
    (Kind(ONE, 360_000, {YEARS: 0.25, "middle": 0.25, "whole": 0.25, "near": 0.25}, age=0.7, gender=0.75),),
    0.3,
    small(SMALL, 3105, 512, 1e-3, 24),
)
SECOND_BASE = go_on(
    "second-base",
    "first-base",
    Kind(ONE, 345_600, {EMBEDDING: 0.5, "first-base": 0.5}, age=0.8, gender=0.8),
    train=small(SMALL, 2700, 128, 1e-3, 61, hint=2.0),
    hints=EMBEDDING,
)
THIRD_BASE = go_on(
    "third-base",
    "second-base",
    Kind(ONE, 345_600, {EMBEDDING: 0.35, "first-base": 0.35, "whole": 0.3}, age=0.8, gender=0.8),
    train=small(SMALL, 2700, 128, 7e-4, 161, hint=1.0),
    hints=EMBEDDING,
)
FOURTH_BASE = go_on(
    "fourth-base",
    "third-base",
    Kind(
        ONE,
        1_024_000,
        {EMBEDDING: 0.35, "first-base": 0.2, "third-base": 0.2, "whole": 0.25},
        age=0.85,
        gender=0.8,
    ),
    train=long(11_936, 2e-3, 261, hint=1.0, label=0.25),
    hints=EMBEDDING,
    blends={"third-base": 0.3},
)
FIFTH_BASE = go_on(
    "fifth-base",
    "fourth-base",
    Kind(
        ONE,
        128_000,
        {YEARS: 0.06, EMBEDDING: 0.33, "first-base": 0.19, "third-base": 0.19, "whole": 0.23},
        age=1.0,
        gender=0.8,
    ),
    train=upper(2500, 1e-3, 361),
    hints=EMBEDDING,
    balance=0.5,
    mixed=0.8,
    elders=TAUGHT_ELDERS,
)
"""The upper half forgets what it learned by heart: large steps, few faces alone, teachers alone tell of ages; rare
ages come more often, and who knows old people from elsewhere has a say again."""
QUICK_BASE = see_through(
    "quick-base",
    "fifth-base",
    Kind(ONE, 128_000, {"fifth-base": 1.0}, races=RACES),
    train=remembered(1940, 6e-4, 12),
)
OWN_BASE = replace(
    QUICK_BASE,
    name="base",
    train=remembered(1750, 3e-4, 11),
    blends={"fifth-base": 0.4, "quick-base": 0.25},
)
"""Last, it learns what grain is, twice, and keeps to itself otherwise."""
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
    small(TINY, 498, 512, 1.2e-3, 28),
)
SECOND_NANO = go_on(
    "second-nano",
    "first-nano",
    Kind(
        ONE,
        124_160,
        {YEARS: 0.05, f"{EMBEDDING}+{AGES}+{GENDERS}": 0.33, "third-base": 0.2, "fifth-base": 0.2, "whole": 0.22},
        age=0.8,
        gender=0.8,
    ),
    train=small(TINY, 970, 128, 4e-4, 33, hint=0.3),
    hints=EMBEDDING,
    mixed=0.4,
    elders=TAUGHT_ELDERS,
)
OWN_NANO = go_on(
    "nano",
    "second-nano",
    Kind(
        ONE,
        256_000,
        {f"{EMBEDDING_STAGES}+{AGES}+{GENDERS}": 0.25, "fifth-base": 0.5, "second-nano": 0.25},
        age=0.9,
        gender=0.8,
    ),
    train=worn(1400, 7e-4, 133, hint=0.3, label=0.1, network=TINY),
    hints=EMBEDDING_STAGES,
    mixed=0.4,
    blends={"second-nano": 0.5},
)
"""Last, it learns what grain is: it hears what was said of the same faces without."""

TAUGHT = (MIDDLE, WHOLE, NEAR, FIRST_BASE, SECOND_BASE, THIRD_BASE, FOURTH_BASE, FIFTH_BASE)
BASE_COURSES = (*TAUGHT, QUICK_BASE, OWN_BASE)
NANO_COURSES = (*TAUGHT, FIRST_NANO, SECOND_NANO, OWN_NANO)
