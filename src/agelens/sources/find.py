"""What a user names -> pictures: files, folders, patterns, standard input and, on request, web addresses.

Order: the arguments as given; within a folder files and folders together in natural order ("2.jpg" before "10.jpg"),
each folder's content in its place. Nothing is opened, and no folder is listed, before it is its turn.
"""

from __future__ import annotations

import difflib
import errno
import itertools
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agelens.advice import either_way
from agelens.errors import (
    FolderGivenError,
    InputError,
    NotFoundError,
    SymlinkLoopError,
    UnreadableError,
    UrlNotAllowedError,
)
from agelens.formats import EXTENSIONS, SNIFF_BYTES, sniff
from agelens.limits import DEFAULT_LIMITS, Limits, check_bytes
from agelens.sources.address import is_web_address, local_path
from agelens.sources.walk import Walk, exists, is_folder, is_pattern

_CHUNK: Final = 1 << 16
_MOST_NAMES_COMPARED: Final = 5000

OnSkip = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Source:
    """One picture that can be read, or one name that turns out not to be one.

    Attributes:
        name: As the user gave it; for a picture of a folder, its path.
        path: The file; None for a web address.
        allow_url: Whether a web address may be fetched.
    """

    name: str
    path: str | None = None
    allow_url: bool = False

    def read(self, limits: Limits = DEFAULT_LIMITS) -> bytes:
        """All bytes of the file or web address.

        Raises:
            NotFoundError: There is no such file.
            FolderGivenError: It is a folder.
            UnreadableError: It may not be read, or is no regular file.
            SymlinkLoopError: A symbolic link leads back to itself.
            EmptyFileError: It has no bytes.
            TooManyBytesError: It is larger than `limits.max_bytes`; found out before it is read.
            UrlNotAllowedError: It is a web address, and `allow_url` is not set.
            UrlFetchError: It could not be fetched.
        """
        if self.path is not None:
            return _read_file(self.path, limits)
        if not self.allow_url:
            how = either_way("--allow-url", "find_sources(..., allow_url=True)")
            raise UrlNotAllowedError(f"{self.name!r} is a web address: download it, or allow it ({how})")
        from agelens.sources.web import fetch

        return fetch(self.name, limits)


def as_source(name: str | os.PathLike[str], *, allow_url: bool = False) -> Source:
    """The one source of that very name: no folder is searched, no pattern matched."""
    text = os.fsdecode(name)
    return Source(text, None, allow_url) if is_web_address(text) else Source(text, local_path(text))


def find_sources(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    stdin: Iterable[str] | None = None,
    allow_url: bool = False,
    on_skip: OnSkip | None = None,
) -> Iterator[Source]:
    """Find the pictures that `arguments` name, lazily.

    Each argument is the first that fits of: `-` (the names on standard input), a web address, a `file://` address, a
    file or folder of that very name, a pattern (`*`, `?`, `[...]`, and `**` for folders of any depth; a folder that it
    matches stands for all that is in it). A name that does not exist, and a pattern without a match, becomes a source
    whose `read` raises `NotFoundError`, so that one wrong name does not end the others.

    Of a folder or pattern, hidden files and folders are passed over; files with a picture's extension are sources even
    where they are broken, others where their first bytes are a picture's.

    Args:
        arguments: What the user typed.
        stdin: The lines of standard input: one name a line, or NUL-separated names.
        allow_url: Whether web addresses may be fetched; where not, their `read` raises `UrlNotAllowedError`.
        on_skip: Called with the path of each file of a folder or pattern that is no picture.
    """
    for argument in arguments:
        text = os.fsdecode(argument)
        names = _split_names(stdin) if text == "-" and stdin is not None else (text,)
        for name in names:
            yield from _find(name, allow_url, on_skip)


def _split_names(lines: Iterable[str]) -> Iterator[str]:
    # Names are handed on line by line, as a pipe may stay open. Once a NUL was seen, NULs alone separate and a line
    # break belongs to a name.
    rest, separated = "", False
    for line in lines:
        separated = separated or "\0" in line
        if separated:
            *names, rest = (rest + line).split("\0")
        else:
            names = [line.removesuffix("\n").removesuffix("\r")]
        yield from (name for name in names if name.strip())
    if rest.strip():
        yield rest


def _find(text: str, allow_url: bool, on_skip: OnSkip | None) -> Iterator[Source]:
    source = as_source(text, allow_url=allow_url)
    if source.path is None:
        yield source
    elif is_folder(Path(source.path)):
        for path in Walk(Path(source.path)):
            yield from _take(path, on_skip)
    elif is_pattern(source.path) and not exists(Path(source.path)):
        matches = Walk.of_pattern(source.path)
        for path in matches:
            yield from _take(path, on_skip)
        if not matches.found:
            yield Source(source.path, source.path)
    else:
        yield source


def _take(path: Path, on_skip: OnSkip | None) -> Iterator[Source]:
    # A folder comes where it can't be listed; reading it says why.
    if path.suffix.lower() in EXTENSIONS or _is_picture(path) or is_folder(path):
        yield Source(str(path), str(path))
    elif on_skip is not None:
        on_skip(str(path))


def _is_picture(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return sniff(file.read(SNIFF_BYTES)) is not None
    except OSError:
        return False


def _read_file(name: str, limits: Limits) -> bytes:
    path = Path(name)
    try:
        _check_kind(path, path.stat().st_mode)
        # Not to block is for a FIFO that took the file's place since; elsewhere the flag does not exist or matter.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            _check_kind(path, status.st_mode)
            if status.st_size:  # files of /proc have none and yet hold bytes
                check_bytes(status.st_size, limits)
            blocks, total = [], 0
            while block := file.read(max(_CHUNK, status.st_size - total)):
                blocks.append(block)
                total += len(block)
                if total > limits.max_bytes:
                    break
    except (OSError, ValueError) as error:
        raise _explain(path, error) from None
    check_bytes(total, limits)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _check_kind(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        if not os.access(path, os.R_OK | os.X_OK):
            raise UnreadableError(f"the folder {str(path)!r} may not be read; check its permissions")
        raise FolderGivenError(f"{str(path)!r} is a folder, where one picture was expected")
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise UnreadableError(f"{str(path)!r} is {kind} and no regular file; save the picture to a file first")


def _explain(path: Path, error: OSError | ValueError) -> InputError:
    name = repr(str(path))
    if isinstance(error, PermissionError):
        return UnreadableError(f"{name} may not be read; check its permissions")
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"there is no file {name}{_suggest(path)}")
    if isinstance(error, NotADirectoryError):
        return NotFoundError(f"there is no file {name}: a part of the path before it is a file and no folder")
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ELOOP:
        return SymlinkLoopError(f"{name} is a symbolic link that leads back to itself; remove or repair it")
    if code == errno.ENAMETOOLONG:
        return NotFoundError(f"there is no file {name[:80]}...: the name is longer than the system allows")
    if isinstance(error, ValueError):
        return NotFoundError(f"there is no file {name}: no file can have this name ({error})")
    return UnreadableError(f"{name} cannot be read: {error.strerror or error}")


def _suggest(path: Path) -> str:
    if exists(path):
        return ": it is a symbolic link to something that does not exist"
    if not is_folder(path.parent):
        return f": there is no folder {str(path.parent)!r}"
    try:
        names = [entry.name for entry in itertools.islice(path.parent.iterdir(), _MOST_NAMES_COMPARED)]
    except OSError:
        return ""
    by_plain = {unicodedata.normalize("NFC", name).casefold(): name for name in sorted(names, reverse=True)}
    wanted = unicodedata.normalize("NFC", path.name).casefold()
    close = difflib.get_close_matches(wanted, by_plain, n=1, cutoff=0.7)
    return f"; did you mean {by_plain[close[0]]!r}?" if close else ""
