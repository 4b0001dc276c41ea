"""Made-up predictions and small test sets for the tests of `agelens.evaluation`.

make_predictions(...)   columns with sensible defaults, any of them given
random_predictions(n)   faces with ages, genders, races, people and plausible answers
make_set(folder, ...)   a manifest of pictures of the portrait that ships: brighter is labelled older, redder a woman
EXACT, BANDS            a protocol of years and one of groups
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agelens.datasets.importing import ImportOptions
from agelens.datasets.manifest import Manifest
from agelens.datasets.prepare import PrepareOptions, prepare
from agelens.evaluation.metrics import nearest_band
from agelens.evaluation.predictions import Predictions
from agelens.evaluation.protocol import load_protocol
from faces import portrait

EXACT = load_protocol("plain")
BANDS = load_protocol("fairface")


def make_predictions(count: int, **given: Any) -> Predictions:
    """Predictions of `count` faces; what is not given is unknown, the faces are found."""
    unknown, nothing = np.full(count, np.nan), np.full(count, -1, np.int64)
    empty = np.full(count, "", dtype="U1")
    columns: dict[str, Any] = {
        "dataset": np.full(count, "made-up"),
        "path": np.array([f"{number}.jpg" for number in range(count)]),
        **dict.fromkeys(("face", "subject", "race", "error"), empty),
        **dict.fromkeys(("fold", "band", "group"), nothing),
        **dict.fromkeys(("age_low", "age_high", "female", "years", "low", "high", "inside"), unknown),
        **dict.fromkeys(("female_probability", "face_size", "sharpness"), unknown),
        "score": np.ones(count),
    }
    if "age" in given:
        given["age_low"] = given["age_high"] = np.asarray(given.pop("age"), float)
        given.setdefault("band", nearest_band(given["age_low"], EXACT.bands))
    return Predictions(**columns | {name: np.asarray(values) for name, values in given.items()})


def random_predictions(count: int, seed: int = 0, people: int = 0) -> Predictions:
    """Faces of which the answers are right on the whole; with `people`, so many people have several each."""
    rng = np.random.default_rng(seed)
    age = rng.integers(0, 91, count).astype(float)
    years = np.clip(age + rng.normal(0, 6, count), 0, 100)
    female = rng.integers(0, 2, count).astype(float)
    stated = np.clip(0.5 + (female - 0.5) * rng.uniform(-0.4, 1, count), 0, 1)
    low, high = years - 9, years + 9
    return make_predictions(
        count,
        age=age,
        years=years,
        low=low,
        high=high,
        inside=((low <= age) & (age <= high)).astype(float),
        group=nearest_band(years, EXACT.bands),
        female=female,
        female_probability=stated,
        race=rng.choice(["A", "B", "C"], count, p=[0.5, 0.3, 0.2]),
        subject=np.array([f"p{number}" for number in rng.integers(0, people, count)]) if people else np.full(count, ""),
        face_size=rng.uniform(20, 300, count),
        sharpness=rng.uniform(10, 3000, count),
    )


def make_set(folder: Path, count: int = 12, *, blank: int = 1, broken: int = 0, split: str = "") -> Manifest:
    """A table of labelled pictures: `count` portraits, then pictures of nobody, then files that are no pictures.

    A broken file is written after the preparation, which would leave it out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,age,gender,race,subject,split"]
    rng = np.random.default_rng(3)
    names = []
    for number in range(count + blank + broken):
        name = f"{number:03d}.png"
        shade = 0.35 + 0.65 * number / (count + blank + broken)
        if count <= number < count + blank:
            pixels = np.full((96, 96, 3), (number * 7, 90, 200), np.uint8)
            pixels[: 10 + number] = 30  # so that no two of them are near-duplicates
        else:
            height = 380 + 6 * number
            pixels = (portrait()[: height + 20, 60 : 60 + height] * shade).astype(np.uint8)
            pixels[: 20 + rng.integers(0, 30), :: int(rng.integers(2, 9))] = rng.integers(0, 255, 3)
        Image.fromarray(pixels).resize((160, 160)).save(folder / name)
        gender, race = ("female", "male")[number % 2], "AB"[number % 2]
        lines.append(f"{name},{20 + 3 * number},{gender},{race},person{number // 2},{split}")
        names.append(name)
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    manifest = prepare("table", folder / "labels.csv", ImportOptions(), PrepareOptions(allow_leak=True, workers=1))
    for name in names[count + blank :]:
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return manifest
