"""What `agelens train` can be told, in the sections of the project that agelens began from, and more of them.

Each field's comment is its help: `agelens train --print-config` writes it beside the default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from agelens.training.augment import AugmentConfig

NETWORKS: Final = ("auto", "face", "levi-hassner")
LOSSES: Final = ("distribution", "interval", "ordinal", "cross_entropy")
CROPS: Final = ("face", "whole")


T = TypeVar("T")


def setting(default: T, comment: str, *choices: str) -> T:
    """A field with its help and, where it is a word, the words to choose from."""
    return field(default=default, metadata={"help": comment, "choices": choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """What is learned from, and where results go."""

    file: str = setting("", "manifest (.parquet, .jsonl) or pictures in one .h5; --data on the command line")
    data_dir: str = setting("", "folder of FILE, or of DATALOADER.DATASET_NAME; or the file itself")
    output_dir: str = setting("output", "where runs go, each into a folder of its own")
    crop: str = setting("face", "face: find and align each face; whole: the pictures are face crops already", *CROPS)
    crops_dir: str = setting("", "where cut faces are kept, for any number of runs; empty: OUTPUT_DIR/crops")
    test_fold: int = setting(-1, "number of the data's fold to leave out as the test part; -1: the data's own splits")
    groups: str = setting("", "age groups of accuracies and of levi-hassner; empty: the data's own, else adience")
    allow_leak: bool = setting(False, "train although people or photographs stand on both sides of a split")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """How steps are taken."""

    name: str = setting("adamw", "adamw or sgd", "adamw", "sgd")
    momentum: float = setting(0.9, "of sgd")
    wt_decay: float = setting(0.02, "weight decay, on kernels only")
    lr: float = setting(1e-3, "peak of the learning rate")
    warmup: float = setting(0.05, "share of all steps in which the rate rises to its peak")
    schedule: str = setting("cosine", "after the warm-up: half a cosine down, or constant", "cosine", "constant")
    clip: float = setting(5.0, "largest norm of the gradient; 0: any")


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperConfig:
    """How it is learned."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    epochs: int = setting(30, "passes over the data")
    loss: str = setting(
        "distribution",
        "distribution: soft labels for exact ages, the mass inside for bands; interval: the mass inside the label;"
        " ordinal: older than each year or not; cross_entropy: of the right group alone",
        *LOSSES,
    )
    batch_size: int = setting(
        0, "faces in a step of each process; 0: 128 (levi-hassner: 64), or fewer where the set is small"
    )
    plot_img: bool = setting(True, "draw grid.png, a sample of what the network sees")
    seed: int = setting(1, "of the split, the order, the changes to crops, the weights and dropout")
    ema: float = setting(0.999, "decay of the average of the weights that is kept; 0: no average")
    patience: int = setting(0, "stop after so many epochs without a better validation loss; 0: never")
    sigma: float = setting(2.0, "distribution: standard deviation of a soft label in years")
    gender_weight: float = setting(1.0, "of the gender loss beside the age loss")
    smoothing: float = setting(0.02, "label smoothing of gender")
    rare_ages: float = setting(0.0, "draw faces of rare ages more often: 0 as they come, 1 every age equally")
    class_weights: bool = setting(False, "weigh rare age groups and genders up in the loss")
    save_every: int = setting(200, "steps between checkpoints, beside those after each epoch")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChoice:
    """Which network."""

    name: str = setting("auto", "face or levi-hassner; auto: levi-hassner for cross_entropy, else face", *NETWORKS)
    size: str = setting("small", "of a face network", "nano", "small", "base")
    dropout: float = setting(-1.0, "share of features dropped while training; -1: the network's own")
    start: str = setting("none", "weights to begin with: a model, a checkpoint, a .pt, a .caffemodel, or none")

    @property
    def kind(self) -> str:
        """What the network is called in checkpoints."""
        return "levi-hassner" if self.name == "levi-hassner" else "face"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """How data is divided."""

    dataset_name: str = setting("", "name of a file in DATA.DATA_DIR")
    validation_split: float = setting(0.1, "share drawn from train, by person, where the data has no val of its own")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuConfig:
    """Where it runs."""

    status: bool = setting(True, "use GPUs where there are any")
    devices: tuple[int, ...] = setting((0,), "their numbers")
    parallel: bool = setting(False, "all of them at once, one process each; else the first")
    bf16: bool = setting(True, "convolutions in bfloat16, where the processor has it")
    threads: int = setting(0, "threads of the arithmetic on the CPU; 0: one a core")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All of it."""

    data: DataConfig = field(default_factory=DataConfig)
    hyperparameters: HyperConfig = field(default_factory=HyperConfig)
    network: NetworkChoice = field(default_factory=NetworkChoice)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    dataloader: LoaderConfig = field(default_factory=LoaderConfig)
    gpu: GpuConfig = field(default_factory=GpuConfig)
    test: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "read and left alone: the original's Caffe files"}
    )


FACE: Final = Config(augment=AugmentConfig(grain=16.0))
LEVI_HASSNER: Final = Config(
    hyperparameters=HyperConfig(
        optimizer=OptimizerConfig(name="sgd", wt_decay=0.0005, lr=0.005),
        epochs=60,
        loss="cross_entropy",
        ema=0.0,
        smoothing=0.0,
    ),
    network=NetworkChoice(name="levi-hassner"),
    # A window of 227 out of 256 pixels, mirrored half of the time: the paper's own, and nothing else.
    augment=AugmentConfig(0, 0, 14.5 / 227, 0.5, 0, 0, 0, 0, 0, 0),
)
"""The defaults of either network: each has its own recipe."""


def default_config(network: str) -> Config:
    """The defaults of a network's recipe."""
    return LEVI_HASSNER if network == "levi-hassner" else FACE
