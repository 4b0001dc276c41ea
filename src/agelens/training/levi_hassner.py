"""The network of Levi & Hassner, "Age and Gender Classification using Convolutional Neural Networks", CVPRW 2015.

As the project that agelens began from laid it out (`conv1` ... `fc3`), except that nothing follows the last layer: a
ReLU there made a class that is unlikely indistinguishable from one that is impossible. While training it sees a window
of 227 pixels, drawn out of 256 and mirrored at random; at test the answers to the four corners, the middle and their
mirror images are averaged.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agelens.groups import parse_groups
from agelens.training.classes import group_classes
from agelens.training.networks import Network
from agelens.training.response_norm import LocalResponseNorm

WINDOW = 227
PICTURE = 256
CEIL_INPUTS = 384 * 7 * 7
"""Inputs of `fc1` where pooling rounds its size up."""


@dataclass(frozen=True, slots=True)
class LeviHassnerConfig:
    """One network of Levi & Hassner.

    Attributes:
        task: "age", "gender", or "both": then one last layer holds the age groups and, after them, male and female.
        groups: The set of age groups, see `agelens.groups.parse_groups`.
        seen: Faces of each exact year 0 .. 100 in training, see `classes.group_classes`.
        mean: Mean of each colour, of levels 0 to 255.
        scale: Deviation of each colour.
        ceil: Whether pooling rounds its size up, as Caffe does; then `fc1` sees 7x7 instead of 6x6.
        dropout: After each of the first two fully connected layers.
    """

    task: str = "both"
    groups: str = "adience"
    seen: tuple[float, ...] = ()
    mean: tuple[float, float, float] = (0.4914 * 255, 0.4822 * 255, 0.4465 * 255)
    scale: tuple[float, float, float] = (0.2023 * 255, 0.1994 * 255, 0.2010 * 255)
    ceil: bool = False
    dropout: float = 0.5

    @staticmethod
    def from_dict(values: dict[str, Any]) -> LeviHassnerConfig:
        tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return LeviHassnerConfig(**{**values, **tuples})


class LeviHassner(Network):
    """Normalised windows (N, 3, 227, 227) -> group logits (N, G), gender logit (N,), features (N, 512)."""

    kind = "levi-hassner"
    side = WINDOW

    def __init__(self, config: LeviHassnerConfig) -> None:
        super().__init__()
        self.config = config
        self.mean, self.scale = config.mean, config.scale
        groups = parse_groups(config.groups)
        self.classes = group_classes(groups, config.seen)
        self.age_outputs = len(groups.labels) if config.task != "gender" else 0
        gender_outputs = 2 if config.task != "age" else 0
        self.conv1 = nn.Conv2d(3, 96, 7, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.fc1 = nn.Linear(CEIL_INPUTS if config.ceil else 384 * 6 * 6, 512)
        self.fc2 = nn.Linear(512, 512)
        self.fc3 = nn.Linear(512, self.age_outputs + gender_outputs)
        self.norm1, self.norm2 = LocalResponseNorm(96), LocalResponseNorm(256)
        self.dropout = nn.Dropout(config.dropout)
        # The paper draws all weights from a Gaussian of 0.01, with which plain SGD stands still for many epochs.
        for layer in (self.conv1, self.conv2, self.conv3, self.fc1, self.fc2):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.fc3.weight, std=0.01)
        self.fc3.bias.data.zero_()

    def describe(self) -> dict[str, Any]:
        return asdict(self.config)

    def features(self, x: Tensor) -> Tensor:
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, nn.Identity())):
            x = functional.max_pool2d(functional.relu(conv(x)), 3, 2, ceil_mode=self.config.ceil)
            x = norm(x)
        x = self.dropout(functional.relu(self.fc1(x.flatten(1))))
        features: Tensor = self.dropout(functional.relu(self.fc2(x)))
        return features

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.features(x)
        outputs = self.fc3(features)
        if self.config.task == "age":
            return outputs, outputs.new_zeros(len(outputs)), features
        male, female = outputs[:, -2], outputs[:, -1]
        return outputs[:, : self.age_outputs], female - male, features

    def predict(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of probabilities averaged over five windows and their mirror images; RGB levels (N, 3, 256, 256)."""
        ages, genders = [], []
        for window in windows(crops):
            age, gender = self.look(window)
            ages.append(torch.softmax(age.float(), dim=1))
            genders.append(torch.sigmoid(gender.float()))
        female = torch.stack(genders).mean(dim=0).clamp(1e-7, 1 - 1e-7)
        age = torch.stack(ages).mean(dim=0).clamp(min=1e-30).log()
        return age, torch.logit(female)


def windows(crops: Tensor) -> list[Tensor]:
    """The four corners and the middle, then their mirror images, each (N, 3, 227, 227), of (N, 3, 256, 256)."""
    edge = PICTURE - WINDOW
    places = ((0, 0), (0, edge), (edge, 0), (edge, edge), (edge // 2, edge // 2))
    straight = [crops[:, :, y : y + WINDOW, x : x + WINDOW] for y, x in places]
    return straight + [window.flip(3) for window in straight]
