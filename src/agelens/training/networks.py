"""The networks: short plain residual networks with an age and a gender head.

Plain 3x3 convolutions on purpose: in `channels_last` and bf16 they train about four times faster on a CPU than
depthwise ones, and at 64 pixels they run in a millisecond. The layout of the stem and of the strided blocks follows
dlib's residual networks (D. King, dlib `dnn_imagenet`), so that the CC0 age network in that layout can be the start.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from agelens.errors import UsageError
from agelens.modelspec import AGE_BINS as AGE_BINS
from agelens.training.classes import YEARS, AgeClasses
from agelens.training.second_opinion import SIDE, SecondOpinion

MEAN = (122.782, 117.001, 104.298)
SCALE = 256.0


class Network(nn.Module):
    """What the loop, the checkpoint and the export need of a network.

    `forward` takes normalised crops (N, 3, side, side) and gives age logits (N, C), gender logits (N,) with female
    positive, and features (N, F), or what it tells of hints (see `recipe.hints`).

    Attributes:
        kind: Its name in checkpoints and on the command line.
        side: Side of the crops that it is fed while training.
        classes: What the age logits tell apart.
        mean: Level of each colour, 0 to 255, that is subtracted.
        scale: What is divided by then.
    """

    kind: ClassVar[str]
    side: int
    classes: AgeClasses
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]

    def describe(self) -> dict[str, Any]:
        """Plain values that, with `kind`, build the same network again."""
        raise NotImplementedError

    def heads(self, task: str) -> list[nn.Parameter]:
        """The parameters that a task leaves without a gradient; where it is not said, none."""
        del task
        return []

    def predict(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Age and gender logits of crops as prediction cuts them: RGB levels (N, 3, S, S), not normalised."""
        return self.look(crops)

    def look(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """The same of one view: RGB levels (N, 3, side, side)."""
        crops = crops.contiguous(memory_format=torch.channels_last)
        mean = torch.tensor(self.mean, dtype=crops.dtype, device=crops.device)[:, None, None]
        scale = torch.tensor(self.scale, dtype=crops.dtype, device=crops.device)[:, None, None]
        age, gender, _ = self((crops - mean) / scale)
        return age, gender


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A residual network.

    Attributes:
        size: Side of the crop in pixels.
        widths: Channels of each stage; every stage after the first halves the resolution.
        blocks: Residual blocks of each stage.
        last_inner: Channels inside the last block, which holds most of the weights.
        dropout: Share of the features dropped before the heads while training.
        second: Weight of a second opinion on gender (see `SecondOpinion`), for which `size` has to be a multiple of 32;
            0: there is none.
    """

    size: int = 64
    widths: tuple[int, ...] = (64, 128, 256)
    blocks: tuple[int, ...] = (1, 2, 2)
    last_inner: int = 208
    dropout: float = 0.1
    second: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> NetworkConfig:
        values = dict(values)
        return NetworkConfig(**{**values, "widths": tuple(values["widths"]), "blocks": tuple(values["blocks"])})


SIZES = {
    "nano": NetworkConfig(size=48, widths=(32, 64, 128), blocks=(1, 1, 1), last_inner=128),
    "small": NetworkConfig(size=64, widths=(48, 96, 192), blocks=(1, 2, 2), last_inner=192),
    "base": NetworkConfig(size=64, last_inner=208),
}
"""The one dial: 0.3, 1.5 and 2.5 million weights."""


def named_config(name: str) -> NetworkConfig:
    """The configuration of a size.

    Raises:
        UsageError: There is no such size.
    """
    if name not in SIZES:
        raise UsageError(f"unknown network size {name!r}; choose one of {', '.join(SIZES)}")
    return SIZES[name]


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; a strided one averages its shortcut and pads the new channels."""

    def __init__(self, channels_in: int, inner: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, inner, 3, stride, 1 if stride == 1 else 0, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.stride = stride
        self.grown = channels_out - channels_in

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        if self.stride > 1:
            x = functional.avg_pool2d(x, self.stride)
            height, width = max(x.shape[2], y.shape[2]), max(x.shape[3], y.shape[3])
            x = functional.pad(x, (0, width - x.shape[3], 0, height - x.shape[2], 0, self.grown))
            y = functional.pad(y, (0, width - y.shape[3], 0, height - y.shape[2]))
        return functional.relu(x + y)


class FaceNetwork(Network):
    """Normalised crops (N, 3, S, S) -> age logits (N, 101), gender logit (N,) with female positive, features (N, F)."""

    kind = "face"
    classes = YEARS
    mean = MEAN
    scale = (SCALE, SCALE, SCALE)

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        if config.second and config.size % SIDE:
            raise UsageError(f"a second opinion needs crops whose side is a multiple of {SIDE}, not {config.size}")
        self.config = config
        self.side = config.size
        self.stem = nn.Conv2d(3, config.widths[0], 7, 2, 0, bias=False)
        self.stem_norm = nn.BatchNorm2d(config.widths[0])
        blocks: list[Block] = []
        channels = config.widths[0]
        for stage, (width, count) in enumerate(zip(config.widths, config.blocks, strict=True)):
            for index in range(count):
                last = stage == len(config.widths) - 1 and index == count - 1
                stride = 2 if stage and not index else 1
                blocks.append(Block(channels, config.last_inner if last else width, width, stride))
                channels = width
        self.body = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(config.dropout)
        self.age = nn.Linear(channels, AGE_BINS)
        self.gender = nn.Linear(channels, 1)
        self.second = SecondOpinion() if config.second else None
        self._frozen: list[nn.Module] = []

    def freeze(self, blocks: int) -> None:
        """From now on neither the weights of the stem and the first blocks change, nor any statistics; 0: all may.

        No gradients are computed there, where most of the arithmetic is. Channels that seldom answer vary fifty times
        as much in one small batch as in another, so what learned from large ones is told by statistics that stay.
        """
        for module in self._frozen:
            module.requires_grad_(True)
        self._frozen = [self.stem, self.stem_norm, *list(self.body)[:blocks]] if blocks else []
        for module in self._frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self._frozen:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def describe(self) -> dict[str, Any]:
        return self.config.to_dict()

    def heads(self, task: str) -> list[nn.Parameter]:
        opinion = [] if self.second is None else [self.second.answer]
        unused = {"age": [self.gender, *opinion], "gender": [self.age]}.get(task, [])
        return [parameter for head in unused for parameter in head.parameters()]

    def convolutions(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Those of the trunk, each with the normalisation behind it, from the input to the output."""
        blocks = cast("list[Block]", list(self.body))
        inner = [pair for block in blocks for pair in ((block.conv1, block.norm1), (block.conv2, block.norm2))]
        return [(self.stem, self.stem_norm), *inner]

    def enter(self, x: Tensor) -> Tensor:
        """What the body is given, shape (N, C, H, W)."""
        return functional.max_pool2d(functional.relu(self.stem_norm(self.stem(x))), 3, 2)

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(self.enter(x)).mean(dim=(2, 3))
        return features

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.features(x)
        dropped = self.dropout(features)
        gender = self.gender(dropped)[:, 0]
        if self.second is not None:
            gender = gender + self.config.second * self.second(x)
        return self.age(dropped), gender, features


def normalise(crops: Tensor) -> Tensor:
    """RGB 0..255 of any float type, shape (N, 3, S, S), as the network wants it."""
    mean = torch.tensor(MEAN, dtype=crops.dtype, device=crops.device)[:, None, None]
    return (crops - mean) / SCALE
