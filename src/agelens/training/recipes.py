"""The models that we make, as data. What was tried and left is told in `experiments/LOG.md`."""

from __future__ import annotations

from dataclasses import dataclass

from agelens.training.augment import AugmentConfig
from agelens.training.loop import TrainConfig
from agelens.training.networks import NetworkConfig

FAIRFACE = {"name": "FairFace, 28,000 pictures", "licence": "CC BY 4.0", "source": "Karkkainen & Joo, WACV 2021"}
UTKFACE = {"name": "UTKFace, 17,778 pictures", "licence": "research only", "source": "Zhang, Song & Qi, CVPR 2017"}
AAF = {"name": "All-Age-Faces, 6,493 pictures", "licence": "research only", "source": "Cheng et al., ICIP 2019"}
CC0 = (
    {"name": "dlib face recognition network: start, teacher", "licence": "CC0 1.0", "source": "D. King, dlib-models"},
    {"name": "dlib age network: teacher", "licence": "CC0 1.0", "source": "Cydral Technology, dlib-models"},
)
SECOND = {"name": "dlib gender network: inside", "licence": "CC0 1.0", "source": "Cydral Technology, dlib-models"}
NOTES = (
    "Age is how old a face looks, not what a document says.",
    "Gender is how a person presents in a picture, not who they are; below 13 years it is close to a guess.",
    "Not for decisions about access, work, policing or anything else that affects a person.",
)


@dataclass(frozen=True, slots=True)
class Source:
    """A data set that is learned from.

    Attributes:
        kind: Its importer.
        pack: Its archive, without ".tar".
        about: What the model file says of it.
        drop_conflicts: Near-duplicates whose ages lie further apart, in years, or whose genders differ, are left out;
            None keeps them.
    """

    kind: str
    pack: str
    about: dict[str, str]
    drop_conflicts: float | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes one model: it begins with the lower stages of the third teacher.

    Attributes:
        name: Of the model.
        sources: What it learns from; the teachers learn from the first one alone.
        train: How.
        age: Share of the second and third teacher in the soft ages, beside the first.
        gender: Share of these teachers in the soft genders, beside the label.
        balance: Faces of an age and gender that has n are drawn as often as n^-balance says.
        evenness: How much of the habit of ages is taken back at the end, see `prior.take_back_prior`.
        second: Weight of the small CC0 gender network inside the model, see `SecondOpinion`; 0: it is left out.
        int8: Whether the file holds 8-bit numbers.
        licence: Of the weights.
        about: One line for the list of models.
        ships: Whether it goes into the package; else into a folder of its own, `weights`.
    """

    name: str
    sources: tuple[Source, ...]
    train: TrainConfig
    age: float
    gender: float
    balance: float
    evenness: float
    second: float
    int8: bool
    licence: str
    about: str
    ships: bool = True

    @property
    def network(self) -> NetworkConfig:
        """What is trained."""
        return self.train.network

    @property
    def data(self) -> tuple[dict[str, str], ...]:
        """What the file says that it was made of."""
        return (*(source.about for source in self.sources), *CC0, *([SECOND] if self.second else []))


FAIRFACE_SOURCE = Source("fairface", "fairface-train", FAIRFACE)


_BASE = NetworkConfig(size=96, widths=(32, 64, 128, 256), blocks=(3, 4, 3, 1), last_inner=256, dropout=0.2)
_RESEARCH = NetworkConfig(size=104, widths=(32, 64, 128, 256), blocks=(3, 4, 3, 1), last_inner=256, dropout=0.2)
_NANO = NetworkConfig(size=64, widths=(32, 64, 128), blocks=(3, 4, 3), last_inner=128, dropout=0.1)


def _from_teacher(network: NetworkConfig, steps: int, learning_rate: float) -> TrainConfig:
    return TrainConfig(
        network=network,
        augment=AugmentConfig(shrink=0.25, erase=0.15),
        steps=steps,
        batch=128,
        learning_rate=learning_rate,
        warmup=150,
        weight_decay=0.05,
        average=0.998,
        label=0.5,
        teacher=1.0,
        threads=1,
        save_every=250,
    )


BASE = Recipe(
    name="agelens-base",
    sources=(FAIRFACE_SOURCE,),
    train=_from_teacher(_BASE, 3600, 5e-4),
    age=0.7,
    gender=0.7,
    balance=0.25,
    evenness=0.3,
    second=0.2,
    int8=False,
    licence="MIT",
    about="age and gender from 96-pixel crops; trained on FairFace (CC BY 4.0) from CC0 weights, for commercial use",
)

NANO = Recipe(
    name="agelens-nano",
    sources=(FAIRFACE_SOURCE,),
    train=_from_teacher(_NANO, 3000, 6e-4),
    age=0.7,
    gender=0.8,
    balance=0.25,
    evenness=0.0,
    second=0.0,
    int8=True,
    licence="MIT",
    about="the same from 64-pixel crops in 8-bit numbers: a seventh of the size, less sure; for browsers and boards",
)

RESEARCH = Recipe(
    name="agelens-research",
    sources=(FAIRFACE_SOURCE, Source("utkface", "utkface-train", UTKFACE, 5), Source("aaf", "aaf-train", AAF, 5)),
    train=_from_teacher(_RESEARCH, 4500, 6e-4),
    age=0.7,
    gender=0.5,
    balance=0.25,
    evenness=0.0,
    second=0.0,
    int8=False,
    licence="research only (UTKFace, All-Age-Faces)",
    about="age and gender from 104-pixel crops; trained on UTKFace and All-Age-Faces too: for research, not commercial",
    ships=False,
)

RECIPES = {"base": BASE, "nano": NANO, "research": RESEARCH}
