"""Pictures whose bytes come from elsewhere than a file of this machine, as sources that the analyzer takes."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from agelens.batch.places import Place
from agelens.errors import InputError
from agelens.limits import DEFAULT_LIMITS, Limits, check_bytes
from agelens.sources import Source

READERS: Final = 8
"""Requests to an object store at once for each process: each waits tens of milliseconds and hardly computes."""


@dataclass(frozen=True, slots=True)
class Fetched(Source):
    """A picture whose bytes, or the reason why there are none, are already here.

    Attributes:
        content: Either.
    """

    content: bytes | InputError = field(default=b"", repr=False)

    def read(self, limits: Limits = DEFAULT_LIMITS) -> bytes:
        """The bytes.

        Raises:
            InputError: There are none, or more than allowed.
        """
        if isinstance(self.content, InputError):
            raise self.content
        check_bytes(len(self.content), limits)
        return self.content


@dataclass(frozen=True, slots=True)
class Remote(Source):
    """A picture in a filesystem of pyarrow's.

    Attributes:
        place: Where.
    """

    place: Place | None = None

    def read(self, limits: Limits = DEFAULT_LIMITS) -> bytes:
        """The bytes; the length is asked before they are fetched.

        Raises:
            InputError: It can't be read, or is larger than allowed.
        """
        assert self.place is not None
        with self.place.typed_errors(), self.place.open() as file:
            check_bytes(file.seek(0, io.SEEK_END), limits)
            file.seek(0)
            return bytes(file.read())


def fetch_ahead(sources: Iterable[Source], limits: Limits) -> Iterator[Source]:
    """The same pictures in the same order; those of an object store and of the web are fetched `READERS` at once.

    At most twice as many wait in memory, still encoded.
    """
    waiting: deque[Source | Future[Source]] = deque()
    with ThreadPoolExecutor(READERS, thread_name_prefix="agelens-fetch") as pool:
        try:
            for source in sources:
                waiting.append(pool.submit(_fetch, source, limits) if _is_far(source) else source)
                while waiting and (len(waiting) >= 2 * READERS or isinstance(waiting[0], Source)):
                    yield _take(waiting)
            while waiting:
                yield _take(waiting)
        finally:
            for left in waiting:
                if isinstance(left, Future):
                    left.cancel()


def _is_far(source: Source) -> bool:
    return isinstance(source, Remote) or (source.path is None and not isinstance(source, Fetched))


def _take(waiting: deque[Source | Future[Source]]) -> Source:
    first = waiting.popleft()
    return first if isinstance(first, Source) else first.result()


def _fetch(source: Source, limits: Limits) -> Source:
    try:
        return Fetched(source.name, content=source.read(limits))
    except InputError as error:
        return Fetched(source.name, content=error)
