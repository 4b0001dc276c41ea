"""What `agelens predict` can be told, declared once.

`agelens.cli.app` makes typer's command of it; `parse_quickly` reads the common command line without typer, whose import
and set-up take 0.13 s. Both read values with the same functions, so they can't disagree on what a value means.
"""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, get_args

from agelens.errors import UsageError
from agelens.types import Task

if TYPE_CHECKING:
    from agelens.serialise import Format

TASKS: Final[tuple[str, ...]] = get_args(Task)
FORMATS: Final = ("table", "jsonl", "json", "csv", "parquet")
DEVICES: Final = ("auto", "cpu", "cuda", "tensorrt", "rocm", "coreml", "directml", "openvino")
"""As in `agelens.runtime`, which is not imported here because it loads onnxruntime; a test holds them together."""

MOST_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """One call of `agelens predict`; see `OPTIONS` and `SWITCHES` for what each means."""

    sources: tuple[str, ...]
    output: str | None = None
    format: Format | None = None
    crops: str | None = None
    task: Task = "both"
    groups: str = "adience"
    gender_threshold: float = 0.5
    min_score: float = 0.6
    min_face: float | None = None
    max_faces: int | None = None
    model: str = "agelens-base"
    device: str = "auto"
    threads: int | None = None
    batch_size: int = 32
    max_bytes: int | None = None
    max_pixels: int | None = None
    every: int = 1
    fps: float | None = None
    start: float = 0.0
    end: float | None = None
    tracks: str | None = None
    no_track: bool = False
    allow_url: bool = False
    strict: bool = False
    quiet: bool = False


def read_text(text: str) -> str:
    """Any text but an empty one.

    Raises:
        UsageError: It is empty.
    """
    if not text:
        raise UsageError("a value is missing")
    return text


def read_groups(text: str) -> str:
    """A set of age groups, checked.

    Raises:
        UsageError: It is none.
    """
    from agelens.groups import parse_groups

    return parse_groups(text).name


def read_time(text: str) -> float:
    """A time in a clip: seconds, or [hours:]minutes:seconds.

    Raises:
        UsageError: It is none.
    """
    parts = text.split(":")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = [math.nan]
    seconds = sum(value * 60.0**i for i, value in enumerate(reversed(values)))
    if len(values) > 3 or not all(value >= 0 for value in values) or math.isinf(seconds):
        raise UsageError(f"{text!r} is no time; say seconds, such as 12.5, or 1:02:30")
    return seconds


def one_of(*choices: str) -> Callable[[str], str]:
    """Reads one of several words; a wrong one is told the nearest."""

    def read(text: str) -> str:
        word = text.lower()
        if word in choices:
            return word
        near = difflib.get_close_matches(word, choices, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(choices)}"
        raise UsageError(f"{text!r} is not a choice; {hint}")

    return read


def number(low: float, high: float = math.inf) -> Callable[[str], float]:
    """Reads a number within bounds."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high) or math.isinf(value):
            bounds = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
            raise UsageError(f"{text!r} is not a number {bounds}")
        return value

    return read


def whole(least: int) -> Callable[[str], int]:
    """Reads a whole number of at least `least`."""

    def read(text: str) -> int:
        # Python reads no more than some thousand digits, and nothing here counts so far.
        if not text.isascii() or not text.isdigit() or len(text) > MOST_DIGITS or int(text) < least:
            raise UsageError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return read


@dataclass(frozen=True, slots=True)
class Option:
    """An option with a value.

    Attributes:
        flags: How it is written.
        metavar: What stands for its value in the help.
        help: One sentence.
        read: Makes a value of the text, or raises UsageError.
    """

    flags: tuple[str, ...]
    metavar: str
    help: str
    read: Callable[[str], Any] = read_text


@dataclass(frozen=True, slots=True)
class Switch:
    """An option without a value."""

    flags: tuple[str, ...]
    help: str


OPTIONS: Final = {
    "output": Option(
        ("--output", "-o"),
        "OUT",
        "Records: a name that ends in .jsonl .json .csv .parquet. The annotated copy of a single input: a picture's"
        " or a video's name. A folder: annotated copies and predictions.jsonl.",
    ),
    "format": Option(
        ("--format",),
        f"[{'|'.join(FORMATS)}]",
        "Format of the records. By default OUT's ending decides; on standard output it is a table on a terminal and"
        " JSON Lines otherwise.",
        one_of(*FORMATS),
    ),
    "crops": Option(
        ("--crops",), "DIR", "Also save each face in this folder, as a picture NAME_0, NAME_1, ... of its own."
    ),
    "task": Option(("--task",), f"[{'|'.join(TASKS)}]", "What to estimate.", one_of(*TASKS)),
    "groups": Option(
        ("--groups",),
        "SET",
        'Age groups: adience, adience12, fairface, decades, utk, or your own such as "0-12,13-17,18+". The most'
        " probable one is told; where ages are spread, the years may lie beside it.",
        read_groups,
    ),
    "gender_threshold": Option(
        ("--gender-threshold",), "P", "Below this probability the gender is `unknown`.", number(0.5, 1.0)
    ),
    "min_score": Option(("--min-score",), "P", "Least certainty of a face, 0 to 1.", number(0.0, 1.0)),
    "min_face": Option(
        ("--min-face",),
        "PIXELS",
        "Least side of a face. Smaller than about 1/60 of the picture: the search goes deeper and takes longer.",
        number(0.0),
    ),
    "max_faces": Option(("--max-faces",), "N", "Only the N largest faces of each picture.", whole(1)),
    "model": Option(("--model",), "NAME|FILE", "A model that ships (`agelens models list`), or an ONNX file."),
    "device": Option(("--device",), f"[{'|'.join(DEVICES)}]", "Where the networks run.", one_of(*DEVICES)),
    "threads": Option(("--threads",), "N", "Pictures worked on at once. [default: one a core]", whole(1)),
    "batch_size": Option(("--batch-size",), "N", "Most faces in one call of the network.", whole(1)),
    "max_bytes": Option(("--max-bytes",), "N", "Refuse larger files. [default: 268435456]", whole(1)),
    "max_pixels": Option(("--max-pixels",), "N", "Refuse pictures with more pixels. [default: 200000000]", whole(1)),
    "every": Option(("--every",), "N", "Video: look at one frame in N; faces are passed on between.", whole(1)),
    "fps": Option(("--fps",), "RATE", "Video: look at so many frames a second at most.", number(0.001)),
    "start": Option(("--start",), "TIME", "Video: begin there; seconds, or 1:02:30.", read_time),
    "end": Option(("--end",), "TIME", "Video: stop there.", read_time),
    "tracks": Option(
        ("--tracks",),
        "FILE",
        "Video: also one row a person, in a .csv, .parquet or .json. Beside an annotated video it is always written.",
        read_text,
    ),
}
SWITCHES: Final = {
    "no_track": Switch(("--no-track",), "Video: each frame for itself, without identities and smoothing."),
    "allow_url": Switch(("--allow-url",), "Fetch http(s) addresses."),
    "strict": Switch(("--strict",), "Stop at the first picture that can't be read."),
    "quiet": Switch(("--quiet", "-q"), "No progress, warnings or summary on standard error."),
}
SOURCE_HELP: Final = (
    "Photo, folder, video, pattern such as 'photos/**/*.jpg', or - for names on standard input, one a line. A name that"
    " starts with a dash: ./-name.jpg"
)


class _UnclearError(Exception):
    """The quick way doesn't understand the command line."""


class _QuickParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UnclearError(message)


def parse_quickly(arguments: Sequence[str]) -> PredictOptions | None:
    """Reads the command line of `predict`; None where it has a mistake or asks for help, which typer then answers."""
    parser = _QuickParser(add_help=False, allow_abbrev=False)
    parser.add_argument("sources", nargs="+")
    for name, option in OPTIONS.items():
        parser.add_argument(*option.flags, dest=name, default=argparse.SUPPRESS)
    for name, switch in SWITCHES.items():
        parser.add_argument(*switch.flags, dest=name, action="store_true")
    try:
        found = vars(parser.parse_args(list(arguments)))
        return make_options(found)
    except (_UnclearError, UsageError):
        return None


def make_options(found: Mapping[str, Any]) -> PredictOptions:
    """Texts as they were typed -> options.

    Raises:
        UsageError: A value makes no sense.
    """
    if "" in found["sources"]:  # an unset variable of a script, which must not mean the current folder
        raise UsageError("a SOURCE is empty; for the current folder say .")
    values = {name: OPTIONS[name].read(text) if name in OPTIONS else text for name, text in found.items()}
    return PredictOptions(**values | {"sources": tuple(found["sources"])})
