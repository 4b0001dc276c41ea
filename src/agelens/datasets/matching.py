"""Which pictures the paths of a label file mean.

Label files are written for other folders, and packs are often re-encoded, so neither the first folders nor the ending
need agree. The last folder must: `val/1.jpg` never means `train/1.webp`. A picture that is missing must stay missing,
though another one may end alike (`siteB/faces/1.jpg` and `siteA/faces/1.jpg`): a path that isn't where it says is
looked for elsewhere only if that holds for all paths of the file that begin with the same folders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from agelens.formats import EXTENSIONS

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Match:
    """A path of a label file, and the file that it may mean.

    Attributes:
        path: As the label file has it.
        wanted: Its parts, without the ending.
        name: Of the file.
        found: Its parts below the root, without the ending.
        is_exact: Whether the file lies where the path says.
    """

    path: str
    wanted: Parts
    name: str
    found: Parts
    is_exact: bool

    @property
    def folders(self) -> tuple[Parts, Parts]:
        """The first folders of the path, and those of the file that stand in their place."""
        same = _common_end(self.wanted, self.found)
        return self.wanted[: len(self.wanted) - same], self.found[: len(self.found) - same]


def match_paths(
    root: Path, names: Iterable[str], paths: Iterable[str], exact: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The names of the files that paths mean; a path is left out where none fits, or several fit equally well.

    Args:
        root: What the names are relative to. Its own name counts as a folder, so that in a root of `.../train` the
            path `train/1.jpg` is found.
        names: Of the files.
        paths: All of a label file.
        exact: Those of them whose files are known.
    """
    known = exact or {}
    index = _Index(root, names)
    matches = []
    for path in dict.fromkeys(paths):
        match = index.look_up(path, known.get(path))
        if match is not None:
            matches.append(match)
    return {match.path: match.name for match in _unclaimed(_plausible(matches))}


class _Index:
    """Files by the ends of their names."""

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self._root: Parts = tuple(PurePosixPath(root.as_posix()).parts)
        self._by_two: defaultdict[Parts, list[str]] = defaultdict(list)
        self._by_one: defaultdict[Parts, list[str]] = defaultdict(list)
        for name in names:
            parts = self._root + _stem_parts(name)
            self._by_two[parts[-2:]].append(name)
            self._by_one[parts[-1:]].append(name)

    def look_up(self, path: str, known: str | None) -> _Match | None:
        """The file whose name ends most like the path, with the same ending where that decides."""
        wanted = _stem_parts(path)
        if known is not None:
            return _Match(path, wanted, known, _stem_parts(known), is_exact=True)
        candidates = (self._by_two if len(wanted) > 1 else self._by_one).get(wanted[-2:], [])
        agreement = [_common_end(self._root + _stem_parts(name), wanted) for name in candidates]
        best = max(agreement, default=0)
        fitting = [name for name, length in zip(candidates, agreement, strict=True) if length == best]
        if len(fitting) > 1:
            fitting = [name for name in fitting if _last(name) == _last(path)]
        if len(fitting) != 1:
            return None
        found = _stem_parts(fitting[0])
        return _Match(path, wanted, fitting[0], found, is_exact=len(found) <= len(wanted) == best)


def _plausible(matches: list[_Match]) -> list[_Match]:
    """Those that lie where they say, and of the others those whose folders have only been renamed."""
    kept, loose = ([match for match in matches if match.is_exact is exact] for exact in (True, False))
    named = {match.wanted[:length] for match in kept for length in range(len(match.wanted))}
    filled = {match.found[:length] for match in kept for length in range(1, len(match.found))}
    became, was = defaultdict(set), defaultdict(set)
    for match in matches:
        became[match.wanted[:-1]].add(match.found[:-1])
        was[match.found[:-1]].add(match.wanted[:-1])
    for match in loose:
        first, instead = match.folders
        folder, place = match.wanted[:-1], match.found[:-1]
        # Paths that begin alike lie where they say, or the folder that it would have become is another one's.
        is_refuted = first in named or instead in filled
        # Paths without a folder may lie in any, if none of them lies where it says.
        is_renamed = (not folder or len(became[folder]) == 1) and len(was[place]) == 1
        if is_renamed and not is_refuted:
            kept.append(match)
    return kept


def _unclaimed(matches: list[_Match]) -> list[_Match]:
    """Without those whose file is another path's as well."""
    claims = defaultdict(list)
    for match in matches:
        claims[match.name].append(match)
    kept = []
    for name, claimants in claims.items():
        best = [match for match in claimants if match.is_exact] or claimants
        if len({match.wanted for match in best}) > 1 and not best[0].is_exact:
            continue
        if len({_last(match.path) for match in best}) > 1:
            best = [match for match in best if _last(match.path) == _last(name)]
        kept += best
    return kept


def _stem_parts(path: str) -> Parts:
    pure = PurePosixPath(path.replace("\\", "/"))
    return (*pure.parts[:-1], pure.stem if pure.suffix.lower() in EXTENSIONS else pure.name)


def _last(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name


def _common_end(left: Parts, right: Parts) -> int:
    length = 0
    for one, other in zip(reversed(left), reversed(right), strict=False):
        if one != other:
            break
        length += 1
    return length
