"""Where the results of `agelens predict` go: decided, and tried, before any work is done."""

from __future__ import annotations

import itertools
import os
import re
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agelens.errors import OutputUnwritableError, UsageError
from agelens.outfile import Target, typed_output_errors
from agelens.serialise import Format, format_of
from agelens.sources import find_sources
from agelens.sources.address import is_web_address, local_path

if TYPE_CHECKING:
    from agelens.cli.options import PredictOptions

RECORDS_NAME: Final = "predictions"

OWN: Final = ".agelens"
"""The hidden file in a folder inside the inputs that holds nothing but results."""
_MARKED: Final = re.compile(r"\.agelens(-[0-9]+)?\.")
_ENDINGS: Final = {"table": ".txt"}
PICTURES: Final = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".ppm")
"""As in `agelens.render`, which is not loaded where no picture is drawn; a test holds them together."""

_STDOUT: Final = frozenset({"-", "/dev/stdout", "/dev/fd/1"})
_VIDEOS: Final = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where results go.

    Attributes:
        records: The file of the records; None: standard output.
        format: Of the records.
        picture: Where the annotated copy of the only input goes.
        folder: Where annotated copies go.
        crops: Where the faces go.
    """

    records: Path | None
    format: Format
    picture: Path | None = None
    folder: Path | None = None
    crops: Path | None = None

    @property
    def needs_pictures(self) -> bool:
        return bool(self.picture or self.folder or self.crops)

    @property
    def on_terminal(self) -> bool:
        """Whether the records themselves are seen on a terminal as they come."""
        return self.records is None and sys.stdout.isatty()

    def told(self, *, failed: bool) -> str:
        """Where everything is, for the summary; `failed`: not all could be read and written."""
        picture = None if failed else self.picture
        places = [str(place) for place in (picture, self.folder or self.records, self.crops) if place]
        return f" -> {', '.join(places)}" if places else ""

    def try_out(self) -> None:
        """Makes the folders and tries to write to each place.

        Raises:
            OutputError: One can't be written.
        """
        try_places((self.folder, self.crops), (self.records, self.picture))


def try_places(folders: Iterable[Path | None], files: Iterable[Path | None]) -> None:
    """Makes the folders and tries to write to each place; None is no place.

    Raises:
        OutputError: One can't be written.
    """
    for folder in filter(None, folders):
        with typed_output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        Target(folder / ".agelens").discard()
    for file in filter(None, files):
        Target(file).discard()


def plan_outputs(options: PredictOptions) -> Outputs:
    """Decides by what `-o OUT` is.

    Raises:
        UsageError: OUT is of no known kind.
        OutputUnwritableError: Standard output is closed and would be needed.
    """
    crops = Path(options.crops) if options.crops else None
    wanted = options.format
    out = None if options.output in _STDOUT else options.output
    if out is None or _is_picture(out):
        if sys.stdout is None:
            raise OutputUnwritableError("standard output is closed; write to a file with -o OUT")
        picture = Path(out) if out is not None else None
        return Outputs(None, wanted or ("table" if sys.stdout.isatty() else "jsonl"), picture, None, crops)
    if _is_folder(out):
        kind = wanted or "jsonl"
        folder = Path(out)
        return Outputs(folder / (RECORDS_NAME + _ENDINGS.get(kind, f".{kind}")), kind, None, folder, crops)
    by_name = wanted or format_of(out)
    if by_name is None:
        raise UsageError(_explain(out))
    return Outputs(Path(out), by_name, None, None, crops)


def _is_folder(out: str) -> bool:
    if out.endswith((os.sep, "/")) or _is_existing_folder(Path(out)):
        return True
    return not (Path(out).suffix or _is_special(out) or _is_file(out))


def _is_special(out: str) -> bool:
    """Whether it is something that is written to as it is, such as /dev/stdout or a pipe."""
    mode = _mode_of(Path(out))
    return mode is not None and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _is_existing_folder(path: Path) -> bool:
    return stat.S_ISDIR(_mode_of(path) or 0)


def _is_file(name: str) -> bool:
    return stat.S_ISREG(_mode_of(Path(name)) or 0)


def _mode_of(path: Path) -> int | None:
    """None where there is nothing, or nothing that may be seen: whoever writes there will be told why."""
    try:
        return path.stat().st_mode
    except OSError:
        return None


def _is_picture(out: str) -> bool:
    return Path(out).suffix.lower() in PICTURES and not _is_folder(out)


def _explain(out: str) -> str:
    ending = Path(out).suffix.lower()
    if not ending:
        return f"say with --format what to write to {out}"
    if ending in _VIDEOS:
        return f"{out!r} is a video's name, and a photo gives a picture: end it in {' '.join(PICTURES)}"
    return (
        f"what should {out!r} be? Records end in .jsonl .json .csv .parquet, a picture in {' '.join(PICTURES)}, and a"
        f" folder's name in / where it doesn't exist yet ({out}/)"
    )


def mark(count: int) -> str:
    """What comes before the ending of a name that is chosen only after `count` others couldn't be."""
    return "" if count == 0 else ".agelens" if count == 1 else f".agelens-{count}"


class Places:
    """The files of a folder that belong to the inputs, one by one.

    The inputs' own structure is kept, from the folder on that they all have in common. No name is given twice, also
    where capital letters don't count, and neither an input nor what it leads to by links is overwritten: where that
    could happen `name.agelens.jpg` is used. A folder inside the inputs belongs to the results if it held nothing when
    they first came; a hidden file says so from then on. In any other one only marked names are results.

    Args:
        folder: The folder of the copies.
        arguments: What the user named as SOURCE.
        endings: Of files that can be written; to other names `.jpg` is added, so `a.heic` becomes `a.heic.jpg`.
        taken: Names that are given already, see `key_of`; those of several folders may be held together.
    """

    def __init__(
        self, folder: Path, arguments: Sequence[str], endings: Sequence[str], taken: set[int] | None = None
    ) -> None:
        self.folder = folder
        self._endings = frozenset(endings)
        self._from_stdin = "-" in arguments
        self._arguments = [local_path(argument) for argument in arguments if not is_web_address(argument)]
        self._base = _common_base(self._arguments)
        self._real = Path(os.path.realpath(folder))
        self._real_base = Path(os.path.realpath(self._base))
        self._inside = any(
            self._real != root and self._real.is_relative_to(root) for root in _walked_roots(self._arguments)
        )
        self._around = self._real_base.is_relative_to(self._real)
        self._named = {os.path.realpath(argument) for argument in self._arguments}
        self._taken: set[int] = set() if taken is None else taken

    def is_own(self, path: str) -> bool:
        """Whether a file met in a folder is a result of this or an earlier run, and so no input.

        Where there are inputs in the folder itself, only the mark in its name tells a copy. Of names from standard
        input none is left out.
        """
        real = os.path.realpath(path)
        if self._from_stdin or real in self._named or not Path(real).is_relative_to(self._real):
            return False
        return self._is_ours or (self._holds_inputs and _MARKED.search(Path(path).name) is not None)

    @cached_property
    def _is_ours(self) -> bool:
        """Whether it lies inside the inputs, and held nothing before results came into it."""
        return self._inside and _claim(self.folder)

    @property
    def _holds_inputs(self) -> bool:
        return self._around or (self._inside and not self._is_ours)

    def choose(self, source: str, label: str = "") -> Path:
        """A new name for what is made of an input; `label` goes before the ending."""
        relative = self._relative(source)
        ending = relative.suffix
        if ending.lower() not in self._endings:
            relative, ending = relative.with_name(relative.name + ".jpg"), ".jpg"
        stem = relative.name[: -len(ending)] + label
        for count in itertools.count():
            path = self.folder / relative.with_name(f"{stem}{mark(count)}{ending}")
            real = os.path.realpath(path)
            key = _key_of(real)
            if key not in self._taken and not self._may_be_input(real, marked=count > 0):
                break
        self._taken.add(key)
        return path

    def _may_be_input(self, real: str, *, marked: bool) -> bool:
        if self._from_stdin:  # whatever exists might still be named
            return Path(real).exists()
        if real in self._named or (not marked and self._holds_inputs and Path(real).is_relative_to(self._real_base)):
            return True
        return Path(real).exists() and real in self._led_to

    @cached_property
    def _led_to(self) -> frozenset[str]:
        """Files of the folder that inputs lead to by links; looked for once a name turns out to be there already."""
        if self._inside or self._real == self._real_base:  # of results alone, or all without a mark may be inputs
            return frozenset()
        reals = (os.path.realpath(source.path) for source in find_sources(self._arguments) if source.path is not None)
        return frozenset(
            real
            for real in reals
            if Path(real).is_relative_to(self._real) and not Path(real).is_relative_to(self._real_base)
        )

    def _relative(self, source: str) -> Path:
        source = local_path(source)
        if "://" in source:
            address = source.partition("://")[2].partition("?")[0]
            return Path(*(part for part in address.split("/") if part not in ("", ".", "..")))
        path = _absolute(source)
        return path.relative_to(self._base if path.is_relative_to(self._base) else path.anchor)


def key_of(path: Path) -> int:
    """By which two names of one file are known as that, also where capital letters don't count."""
    return _key_of(os.path.realpath(path))


def _key_of(real: str) -> int:
    return hash(real.casefold())  # a number, as there may be millions


def _claim(folder: Path) -> bool:
    """Whether a folder belongs to results: it holds nothing yet and is marked now, or was marked by an earlier run."""
    marker = folder / OWN
    if marker.is_file():
        return True
    if any(not name.startswith(".") for _, _, names in os.walk(folder) for name in names):
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text("What lies here is what agelens predict made, and no input of it.\n")
    except OSError:  # whoever writes there will be told why
        return False
    return True


def _walked_roots(arguments: Iterable[str]) -> list[Path]:
    """The folders that are looked through for inputs: those that are named, and those where patterns begin."""
    named = (argument for argument in arguments if argument != "-" and "://" not in argument)
    return [Path(os.path.realpath(_deepest_folder(argument))) for argument in named if not _is_file(argument)]


def _deepest_folder(argument: str) -> Path:
    """What is named if it is a folder, else the deepest one above it that is there."""
    path = _absolute(argument)
    while not _is_existing_folder(path) and path != path.parent:
        path = path.parent
    return path


def _common_base(arguments: Sequence[str]) -> Path:
    """The deepest folder that holds all that is named."""
    folders = [_deepest_folder(argument) for argument in arguments if argument != "-" and "://" not in argument]
    try:
        return Path(os.path.commonpath(folders)) if folders else Path.cwd()
    except ValueError:  # on different drives
        return Path.cwd()


def _absolute(name: str) -> Path:
    """Without `..`, but with symbolic links as they are."""
    return Path(os.path.normpath(Path(name).absolute()))
