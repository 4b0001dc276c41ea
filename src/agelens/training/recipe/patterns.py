"""What courses have in common: networks, changes of faces, paces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypedDict, Unpack

from agelens.training.augment import AugmentConfig
from agelens.training.networks import NetworkConfig
from agelens.training.recipe.courses import Course, Kind
from agelens.training.recipe.loop import TrainConfig
from agelens.training.recipe.starts import RECOGNITION_CONFIG

ONE, OTHERS = ("fairface",), ("utkface", "aaf")
"""The data sets of kinds of views."""
RACES = {"Black": 1.45, "Southeast Asian": 1.15, "Latino_Hispanic": 0.95, "White": 0.9, "Middle Eastern": 0.8}
"""How often faces come of which FairFace says so: about as the loss of gender on them was to that on all training
faces, of heads on CC0 networks that hadn't learned from them (1.39 of Black people, 0.71 of Middle Eastern ones)."""
CHANGES = AugmentConfig(shrink=0.25, erase=0.15)
WORN = replace(CHANGES, light=0.3, grey=0.12, shrink=0.3, jpeg=0.2, grain=32.0)
"""The same, and what pictures of the dark and scans of old prints are like: a network that has not learned what grain
is takes it for wrinkles."""
REMEMBERED = replace(WORN, light=0.25, grey=0.2, jpeg=0.2, noise=0.0, grain=36.0)
"""The same for who hears of the views what is said of them unspoiled."""
SMALL = NetworkConfig(size=96, widths=(32, 64, 128, 256), blocks=(3, 4, 3, 1), last_inner=256, dropout=0.2)
LONGER = replace(SMALL, blocks=(3, 4, 4, 1))
"""One block more in the third stage: 1.2 MB, and a tenth more time."""
TINY = NetworkConfig(size=64, widths=(32, 64, 128), blocks=(3, 4, 3), last_inner=128, dropout=0.1)


def large(size: int, steps: int, learning_rate: float, seed: int) -> TrainConfig:
    """How a teacher learns: the whole of the recognition network."""
    return TrainConfig(
        network=replace(RECOGNITION_CONFIG, size=size, dropout=0.3),
        augment=CHANGES,
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


def small(
    network: NetworkConfig, steps: int, batch: int, learning_rate: float, seed: int, hint: float = 0.0
) -> TrainConfig:
    """How a network that ships learns: gently, it has good teachers."""
    return TrainConfig(
        network=network,
        augment=CHANGES,
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


class _Rest(TypedDict, total=False):
    hints: str
    hidden: str
    mixed: float
    elders: float
    blends: Mapping[str, float]


def go_on(
    name: str, before: str, *kinds: Kind, train: TrainConfig, balance: float = 0.25, **rest: Unpack[_Rest]
) -> Course:
    """A network learns on from fresh views; the rest as of `Course`."""
    return Course(name, before, 1.35, kinds, balance, train, still=True, **rest)


def long(
    steps: int, learning_rate: float, seed: int, hint: float, *, label: float, network: NetworkConfig = SMALL
) -> TrainConfig:
    """How a network that ships learns from views by the million."""
    train = small(replace(network, dropout=0.1), steps, 1024, learning_rate, seed, hint)
    return replace(train, warmup=steps // 25, label=label)


def worn(
    steps: int, learning_rate: float, seed: int, hint: float, *, label: float, network: NetworkConfig = SMALL
) -> TrainConfig:
    """The whole of a network, from its first layers on, learns what grain is."""
    train = small(network, steps, 256, learning_rate, seed, hint)
    return replace(train, augment=WORN, label=label)


def remembered(steps: int, learning_rate: float, seed: int, *, network: NetworkConfig = SMALL) -> TrainConfig:
    """A network learns what grain is, without labels, from what is said of the views unspoiled, see `unspoiled`."""
    train = replace(small(replace(network, dropout=0.0), steps, 256, learning_rate, seed, hint=1.0), label=0.0)
    return replace(train, augment=REMEMBERED, gender=3.0, warmup=60, weight_decay=0.02, average=0.998)


def see_through(name: str, before: str, *kinds: Kind, train: TrainConfig) -> Course:
    """A network learns what spoils pictures, and keeps to itself otherwise: of ever new views it hears one network."""
    return Course(name, before, 1.35, kinds, 0.4, train, mixed=0.5, unspoiled=True)


def upper(
    steps: int,
    learning_rate: float,
    seed: int,
    *,
    label: float = 0.0,
    dropout: float = 0.2,
    network: NetworkConfig = SMALL,
) -> TrainConfig:
    """Small batches for the upper half of a network, all statistics left as they are."""
    train = small(replace(network, dropout=dropout), steps, 128, learning_rate, seed, hint=2.0)
    return replace(train, label=label, frozen=7)
