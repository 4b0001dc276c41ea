"""The age and gender network of face-api.js (TinyXception), whose package holds its weights but no graph.

Written down from the package's own `src/xception/TinyXception.ts` and `src/ageGenderNet/AgeGenderNet.ts`, as the nodes
that a graph model would have (see `tfjs`).
"""

from __future__ import annotations

from typing import Final

from agelens.training.recipe.tfjs_files import Node

SIDE: Final = 112
MAIN_BLOCKS: Final = 2
FEATURES: Final = 512
AGE, GENDER = "age", "gender"
"""The outputs: years (N, 1), and the probabilities of male and female (N, 2)."""


class _Writer:
    """Collects nodes, which are numbered."""

    def __init__(self) -> None:
        self.nodes = [Node("input", "Placeholder", ())]

    def add(self, op: str, *inputs: str, name: str = "", **attributes: str | list[int]) -> str:
        name = name or f"node{len(self.nodes)}"
        self.nodes.append(Node(name, op, inputs, attributes))
        return name

    def convolve(self, x: str, name: str, stride: int) -> str:
        x = self.add("Conv2D", x, f"{name}/filters", strides=[1, stride, stride, 1], padding="SAME")
        return self.add("BiasAdd", x, f"{name}/bias")

    def separate(self, x: str, name: str) -> str:
        """A convolution within each channel, then one across them."""
        x = self.add("DepthwiseConv2dNative", x, f"{name}/depthwise_filter", padding="SAME")
        x = self.add("Conv2D", x, f"{name}/pointwise_filter", padding="SAME")
        return self.add("BiasAdd", x, f"{name}/bias")

    def reduce(self, x: str, name: str, *, rectify: bool = True) -> str:
        """Half as many rows and columns."""
        deep = self.separate(self.add("Relu", x) if rectify else x, f"{name}/separable_conv0")
        deep = self.separate(self.add("Relu", deep), f"{name}/separable_conv1")
        deep = self.add("MaxPool", deep, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME")
        return self.add("Add", deep, self.convolve(x, f"{name}/expansion_conv", 2))

    def pass_on(self, x: str, name: str) -> str:
        """As many rows and columns as before."""
        deep = x
        for number in range(3):
            deep = self.separate(self.add("Relu", deep), f"{name}/separable_conv{number}")
        return self.add("Add", deep, x)

    def answer(self, x: str, layer: str, name: str = "") -> str:
        return self.add("BiasAdd", self.add("MatMul", x, f"{layer}/weights"), f"{layer}/bias", name=name)


def list_nodes() -> list[Node]:
    """The network; its weights are called as in the package's manifest."""
    net = _Writer()
    x = net.add("Relu", net.convolve("input", "entry_flow/conv_in", 2))
    x = net.reduce(x, "entry_flow/reduction_block_0", rectify=False)
    x = net.reduce(x, "entry_flow/reduction_block_1")
    for number in range(MAIN_BLOCKS):
        x = net.pass_on(x, f"middle_flow/main_block_{number}")
    x = net.reduce(x, "exit_flow/reduction_block")
    x = net.add("Relu", net.separate(x, "exit_flow/separable_conv"))
    x = net.add("AvgPool", x, ksize=[1, 7, 7, 1], strides=[1, 2, 2, 1], padding="VALID")
    x = net.add("Reshape", x, "shape")
    net.answer(x, "fc/age", AGE)
    net.add("Softmax", net.answer(x, "fc/gender"), name=GENDER)
    return net.nodes
