"""Views: faces changed at random, most of them two mixed into one, so that teachers have something to say of each.

Of a face that it has learned a teacher repeats the label. Of a view that it never saw, turned, darkened or half of it
somebody else, it says what it knows. A view follows from its number alone, so teachers judge it once, and a network
meets the same view with the same answer, as often as it likes. All of it is arithmetic on tensors, so that a GPU makes
views as fast as it learns from them.

Sources: mixed pictures are Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; teacher and student
before the same view are Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from agelens.training.augment import BRIGHTNESS, COARSE, DRAWS, TABLE, AugmentConfig, noise_table
from agelens.training.labels import balance, weigh_races
from agelens.training.recipe.jpeg import pass_through_jpeg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from agelens.training.crops import CropSet

MIXED = 0.6
"""Share of the views that show two faces, where a course does not say."""
FINENESS = 1.25
"""Where a pixel of the view covers more pixels of the crop than this, it is drawn twice as large and averaged."""
STEPS = 4
"""Faces that lose resolution lose it in so many steps."""
PIECE = 32
"""Faces that a CPU changes at once: more don't fit into its cache, and take three times as long each."""


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Which faces each view shows, and how they are changed.

    Attributes:
        first: A face of the crop set, shape (N,).
        second: The face mixed into it, shape (N,); the same one where nothing is mixed.
        share: Of the first face, 0.5 to 1, shape (N,); 1 where it is alone.
        draws: Uniform numbers that the changes follow from, shape (N, 2, DRAWS), see `augment`.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    share: NDArray[np.float32]
    draws: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def mixed(self) -> NDArray[np.bool_]:
        """Whether a view shows two faces, shape (N,)."""
        return self.share < 1


def draw_views(
    crops: CropSet,
    kinds: Sequence[tuple[NDArray[np.int64], int]],
    power: float,
    seed: int,
    mixed: float = MIXED,
    races: Sequence[Mapping[str, float]] = (),
) -> tuple[Views, list[NDArray[np.int64]]]:
    """Views of faces; both faces of a view are of one data set.

    Args:
        crops: All faces.
        kinds: Faces that are shown, and in how many views; a kind for each group of teachers.
        power: How evenly ages and genders come, see `balance`.
        seed: Of faces and changes.
        mixed: Share of the views that show two faces.
        races: For each kind, how often faces of a race come, see `weigh_races`; none: alike.

    Returns:
        The views, and the numbers of those of each kind.
    """
    drawn = [
        _draw_kind(crops, rows, balance(crops, rows, power) * weigh_races(crops, rows, often), count, seed, mixed)
        for (rows, count), often in zip(kinds, races or [{}] * len(kinds), strict=True)
    ]
    numbers = np.split(np.arange(sum(count for _, count in kinds)), np.cumsum([count for _, count in kinds])[:-1])
    first, second, share = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    draws = np.random.default_rng([seed, 3]).random((len(first), 2, DRAWS), np.float32)
    return Views(first, second, share, draws), numbers


def _draw_kind(
    crops: CropSet, rows: NDArray[np.int64], weights: NDArray[np.float64], count: int, seed: int, share_mixed: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    rng = np.random.default_rng([seed, count])
    chances = weights / weights.sum()
    first = rng.choice(rows, count, p=chances)
    second, share = first.copy(), np.ones(count, np.float32)
    mixed = rng.random(count) < share_mixed
    for name in sorted(set(crops.dataset[rows].tolist())):
        places, of_set = np.flatnonzero(mixed & (crops.dataset[first] == name)), crops.dataset[rows] == name
        second[places] = rng.choice(rows[of_set], len(places), p=chances[of_set] / chances[of_set].sum())
    share[mixed] = rng.uniform(0.5, 1, int(mixed.sum()))
    return first, second, share


class Showing:
    """Shows views at one size.

    Args:
        faces: RGB uint8, shape (F, S, S, 3), on the device that does the work.
        views: The views.
        widening: By how much the faces are wider than what is shown, see `CropGeometry.widen`.
        size: Side in pixels.
        augment: Changes.
    """

    def __init__(self, faces: Tensor, views: Views, widening: float, size: int, augment: AugmentConfig) -> None:
        self._faces, self._views, self._augment = faces, views, augment
        self._widening, self._size = widening, size

    def __call__(self, numbers: NDArray[np.int64]) -> Tensor:
        """Views by their numbers: RGB levels 0..255, shape (N, 3, size, size)."""
        views, share = self._views, self._views.share[numbers]
        mixed = np.flatnonzero(share < 1)
        rows = np.concatenate([views.first[numbers], views.second[numbers[mixed]]])
        draws = np.concatenate([views.draws[numbers, 0], views.draws[numbers[mixed], 1]])
        faces = self._faces[torch.from_numpy(rows).to(self._faces.device)]
        piece = PIECE if faces.device.type == "cpu" else len(faces)
        levels = torch.cat(
            [
                change(some, draws[start : start + piece], self._widening, self._size, self._augment)
                for start, some in zip(range(0, len(faces), piece), torch.split(faces, piece), strict=True)
            ]
        )
        shown = levels[: len(numbers)]
        if len(mixed):
            places = torch.from_numpy(mixed).to(levels.device)
            part = torch.from_numpy(share[mixed]).to(levels.device)[:, None, None, None]
            shown[places] = part * shown[places] + (1 - part) * levels[len(numbers) :]
        return shown


def change(faces: Tensor, draws: NDArray[np.float32], widening: float, size: int, config: AugmentConfig) -> Tensor:
    """Faces turned, zoomed, shifted, mirrored, coarsened, lit otherwise and covered, as their random numbers say.

    Args:
        faces: RGB uint8, shape (N, S, S, 3).
        draws: Uniform numbers in [0, 1), shape (N, DRAWS); each does what it does in `augment.draw_crop` and
            `augment.change_light`.
        widening: By how much the faces are wider than what is shown.
        size: Side in pixels.
        config: How much.

    Returns:
        RGB levels 0..255, shape (N, 3, size, size).
    """
    levels = _cut(faces, draws, widening, size, config)
    coarse = np.flatnonzero(draws[:, 5] < config.shrink)
    if len(coarse):
        _coarsen(levels, coarse, draws[:, 6])
    packed = np.flatnonzero(draws[:, 7] < config.jpeg)
    if len(packed):
        places = torch.from_numpy(packed).to(levels.device)
        quality = torch.from_numpy(25 + np.floor(55 * draws[packed, 8])).to(levels.device)
        levels[places] = pass_through_jpeg(levels[places], quality)
    return _change_light(levels, draws, config)


def _cut(faces: Tensor, draws: NDArray[np.float32], widening: float, size: int, config: AugmentConfig) -> Tensor:
    turn, zoom, x, y = (2 * draws[:, :4].astype(np.float64) - 1).T
    angle, scale = np.radians(turn * config.rotate), (1 + zoom * config.zoom) / widening
    mirror = np.where(draws[:, 4] < config.flip, -1.0, 1.0)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.stack(
        [
            np.stack([mirror * cosine, -sine, 2 * config.shift * x / widening], axis=1),
            np.stack([mirror * sine, cosine, 2 * config.shift * y / widening], axis=1),
        ],
        axis=1,
    )
    finer = 2 if faces.shape[1] > FINENESS * widening * size else 1
    theta = torch.from_numpy(matrix.astype(np.float32)).to(faces.device)
    grid = functional.affine_grid(theta, [len(faces), 3, finer * size, finer * size], align_corners=False)
    planes = faces.permute(0, 3, 1, 2).float()
    levels = functional.grid_sample(planes, grid, "bilinear", "border", align_corners=False)
    return functional.avg_pool2d(levels, finer) if finer > 1 else levels


def _coarsen(levels: Tensor, places: NDArray[np.int64], draws: NDArray[np.float32]) -> None:
    """Reduces some of the faces to between a quarter and the whole of their resolution and enlarges them again."""
    size = levels.shape[-1]
    step = np.floor(draws[places] * STEPS)
    for number in range(STEPS):
        some = torch.from_numpy(places[step == number]).to(levels.device)
        if len(some):
            side = max(round(size * (0.25 + 0.75 * (number + 0.5) / STEPS)), 8)
            small = functional.interpolate(levels[some], size=(side, side), mode="bilinear", antialias=True)
            levels[some] = functional.interpolate(small, size=(size, size), mode="bilinear")


def _change_light(levels: Tensor, draws: NDArray[np.float32], config: AugmentConfig) -> Tensor:
    def column(values: NDArray[np.float32]) -> Tensor:
        values = np.asarray(values, np.float32)
        return torch.from_numpy(values).to(levels.device).reshape(len(levels), -1, 1, 1)

    def around_one(place: slice | int, strength: float) -> NDArray[np.float32]:
        return np.asarray(1 + strength * (2 * draws[:, place] - 1), np.float32)

    if config.light:
        gamma, gain = column(around_one(10, 0.8 * config.light)), column(around_one(11, config.light))
        tint = column(around_one(slice(12, 15), 0.3 * config.light))
        levels = 255 * gain * tint * (levels / 255).clamp(1e-4, 1) ** gamma
    if config.light or config.grey:
        contrast, colour = around_one(15, config.light), around_one(16, config.light)
        colour = np.where(draws[:, 17] < config.grey, np.float32(0), colour)
        weights = torch.from_numpy(BRIGHTNESS).to(levels.device)[:, None, None]
        brightness = (levels * weights).sum(dim=1, keepdim=True)
        level = brightness.mean(dim=(2, 3), keepdim=True) * column(1 - contrast)
        levels = column(contrast * colour) * levels + (column(contrast * (1 - colour)) * brightness + level)
    if config.noise:
        levels = levels + column(config.noise * draws[:, 18] ** 2) * _noise_like(levels, draws)
    if config.grain:
        levels = levels + column(config.grain * draws[:, 26] ** 3) * _draw_grain(levels, draws[:, 27:30])
    if config.erase:
        levels = _cover(levels, draws[:, 20:26], config.erase)
    return levels.clamp(0, 255)


def _draw_grain(levels: Tensor, draws: NDArray[np.float32]) -> Tensor:
    """Grain of standard deviation 1 for each face: how coarse, how much of it is of colours, which."""
    coarse, colour, place = draws.T
    count, _, height, width = levels.shape
    size = 4 * height * width
    # Read from a table at random places: to draw it afresh would take longer than all the rest.
    table, starts = _noise_table(levels.device), np.floor(place * (TABLE - size)).astype(np.int64)
    noise = table.unfold(0, size, 1)[torch.from_numpy(starts).to(levels.device)].reshape(count, 4, height, width)
    wide = torch.from_numpy(np.flatnonzero(coarse < COARSE)).to(levels.device)
    noise[wide] = noise[wide, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :height, :width]
    grey, coloured = (
        torch.from_numpy(share).to(levels.device)[:, None, None, None] for share in (np.sqrt(1 - colour**2), colour)
    )
    return grey * noise[:, :1] + coloured * noise[:, 1:]


@cache
def _noise_table(device: torch.device) -> Tensor:
    return torch.from_numpy(noise_table()).to(device)


def _noise_like(levels: Tensor, draws: NDArray[np.float32]) -> Tensor:
    """Standard normal noise; it follows from the random numbers, on one device."""
    generator = torch.Generator(levels.device).manual_seed(int(draws[:, 19].astype(np.float64).sum() * 2**32) % 2**62)
    return torch.randn(levels.shape, generator=generator, device=levels.device)


def _cover(levels: Tensor, draws: NDArray[np.float32], chance: float) -> Tensor:
    """Puts an even rectangle over some of the faces."""
    size = levels.shape[-1]
    _, w, h, left, top, level = draws.T
    width, height = (np.floor((0.15 + 0.35 * side) * size) for side in (w, h))
    x0, y0 = np.floor(left * (size - width)), np.floor(top * (size - height))
    bounds = np.stack([x0, x0 + width, y0, y0 + height, level * 255]).astype(np.float32)
    x0_, x1, y0_, y1, colour = torch.from_numpy(bounds).to(levels.device)[:, :, None, None, None]
    across = torch.arange(size, device=levels.device, dtype=torch.float32)
    covered = (across >= x0_) & (across < x1) & (across[:, None] >= y0_) & (across[:, None] < y1)
    chosen = torch.from_numpy(draws[:, 0] < chance).to(levels.device)[:, None, None, None]
    return torch.where(covered & chosen, colour, levels)
