"""A second opinion on gender inside a network: a small trunk of its own, at 32 pixels, whose logit is added.

The layout is that of `dnn_gender_classifier_v1` of dlib-models (Cydral Technology, CC0 1.0), whose weights it takes. It
is weak on hard photos and strong where a network that learned from FairFace is weak, so both together err less often
than either; it stays as it came, since what it knows of other faces is why it is there.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

SIDE = 32
CHANNELS = (32, 32, 64, 64)
HIDDEN = 16


class SecondOpinion(nn.Module):
    """Normalised crops (N, 3, S, S), S a multiple of 32 -> logits of "female", shape (N,). It does not learn."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in zip((3, *CHANNELS), CHANNELS, strict=False)
        )
        self.hidden = nn.Linear(CHANNELS[-1] * (SIDE // 4) ** 2, HIDDEN)
        self.answer = nn.Linear(HIDDEN, 1)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.answer_to(self.maps(x))

    def maps(self, x: Tensor) -> Tensor:
        """What its convolutions give, shape (N, 64, 8, 8)."""
        x = functional.avg_pool2d(x, x.shape[-1] // SIDE)
        for place, conv in enumerate(self.convs):
            x = functional.relu(conv(x))
            if place % 2:
                x = functional.avg_pool2d(x, 2)
        return x

    def answer_to(self, maps: Tensor) -> Tensor:
        """Logits of such maps, shape (N,)."""
        logits: Tensor = self.answer(functional.relu(self.hidden(maps.flatten(1))))[:, 0]
        return logits
