"""Folders and patterns -> the files that they stand for, in natural order and without what is hidden.

A pattern is matched while its folders are walked, part by part: the index of the part that an entry has to match next
is called its place. An entry can have several places at once, since `**` stands for any number of folders.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, Self

_SKIPPED_FOLDERS: Final = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
_SKIPPED_FILES: Final = frozenset({"thumbs.db", "desktop.ini"})
_MAGIC: Final = re.compile(r"[*?[]")
_DEEP: Final = "**"

_Places = frozenset[int]
_Entry = tuple[Path, _Places]


class Walk:
    """The files of a folder, or those that a pattern names; a folder that it names stands for all that is in it.

    Folders are listed one by one, each when it is its turn, and links to folders are followed. Where folders of any
    depth are meant, each is entered once, so that links can't lead in circles. A folder that can't be listed comes in
    the place of its files.

    Args:
        base: Where to begin.
        parts: Of the pattern, from `base` on; none: all that is in it.

    Attributes:
        found: Whether anything was named so far, be it an empty folder.
    """

    def __init__(self, base: Path, parts: Sequence[str] = ()) -> None:
        self.found = False
        self._base = base
        self._parts = (*parts, "*") if parts[-1:] == (_DEEP,) else tuple(parts)
        self._end = len(self._parts)  # the place of what the whole pattern has matched
        self._entered: dict[tuple[int, int], set[int]] = {}

    @classmethod
    def of_pattern(cls, pattern: str) -> Self:
        """What a pattern names: `*`, `?`, `[...]`, and `**` for folders of any depth."""
        parts = Path(pattern).parts
        fixed = tuple(itertools.takewhile(lambda part: not is_pattern(part), parts))
        return cls(Path(*fixed), parts[len(fixed) :])

    def __iter__(self) -> Iterator[Path]:
        self.found, self._entered = False, {}
        levels: list[Iterator[_Entry]] = [iter([(self._base, frozenset({0}))])]
        while levels:  # no recursion: folders can be nested more deeply than Python's calls
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
                continue
            path, places = entry
            wanted = self._end in places
            if is_folder(path):
                try:
                    levels.append(self._enter(path, places))
                except OSError:
                    wanted = True
                    yield path
            elif wanted:
                yield path
            self.found |= wanted

    def _enter(self, folder: Path, places: _Places) -> Iterator[_Entry]:
        """What of a folder can lead to a file, in natural order."""
        places = self._spread(self._begin(folder, places))
        names = self._list(folder, places) if places else []
        return ((folder / name, after) for name in names if (after := self._move_on(name, places)))

    def _begin(self, folder: Path, places: _Places) -> _Places:
        """The places with which the folder wasn't entered before, as far as that could lead in circles."""
        if self._end in places:  # then all is taken, whatever else could be matched
            places = frozenset({self._end})
        status = folder.stat()
        before = self._entered.setdefault((status.st_dev, status.st_ino), set())
        fresh = frozenset(i for i in places if not self._is_deep(i) or before.isdisjoint((i, self._end)))
        before |= fresh
        return fresh

    def _spread(self, places: _Places) -> _Places:
        """With those that follow where `**` stands for no folder at all."""
        spread = set(places)
        for i, part in enumerate(self._parts):
            if i in spread and part == _DEEP:
                spread.add(i + 1)
        return frozenset(spread)

    def _is_deep(self, place: int) -> bool:
        return place == self._end or self._parts[place] == _DEEP

    def _list(self, folder: Path, places: _Places) -> list[str]:
        parts = [self._parts[i] for i in places if i < self._end]
        plain = [part for part in parts if not is_pattern(part)]
        names = {name for name in plain if exists(folder / name)}
        if len(plain) < len(places):
            names.update(entry.name for entry in folder.iterdir())
        return sorted(names, key=natural)

    def _move_on(self, name: str, places: _Places) -> _Places:
        """The places of an entry of a folder that has `places`."""
        hidden, after = _is_hidden(name), set()
        for i in places:
            if self._is_deep(i):
                after |= set() if hidden else {i}
            elif self._matches(name, self._parts[i], hidden=hidden):
                after.add(i + 1)
        return frozenset(after)

    @staticmethod
    def _matches(name: str, part: str, *, hidden: bool) -> bool:
        if not is_pattern(part):
            return name == part
        return fnmatch(name, part) and (not hidden or part.startswith("."))


def is_pattern(text: str) -> bool:
    """Whether a path, or a part of one, has signs that stand for others."""
    return _MAGIC.search(text) is not None


def natural(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """A sort key under which digits count as numbers; case only decides between what is otherwise equal."""
    parts = re.split(r"([0-9]{1,4000})", name)
    return tuple((0, int(p), "") if p[:1] in "0123456789" else (1, 0, p.casefold()) for p in parts if p), name


def is_folder(path: Path) -> bool:
    """Whether there is a folder, or a link to one; a name that no file can have is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def exists(path: Path) -> bool:
    """Whether there is anything of that name, be it a link that leads nowhere."""
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SKIPPED_FOLDERS or name.lower() in _SKIPPED_FILES
