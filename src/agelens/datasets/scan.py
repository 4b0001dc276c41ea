"""Reading every picture once: does it decode, and what is its hash?"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from agelens.cores import count_cores
from agelens.datasets.duplicates import group_duplicates, hash_picture
from agelens.datasets.faces import lies_within
from agelens.datasets.pictures import Pictures
from agelens.datasets.rows import Row, Tally
from agelens.decode import decode
from agelens.errors import InputError
from agelens.types import Image

Progress = Callable[[int, int], None]
"""Called with how many pictures are done, of how many."""

Given = TypeVar("Given")
Made = TypeVar("Made")

DETAIL = 384
"""Pixels that the longer side needs at least: twenty for each of a hash's cells, and enough to be scaled to 227 pixels
as the whole picture. A larger JPEG is decoded at a half, a quarter or an eighth."""

OUTSIDE = "its box lies outside the picture"
"""The reason under which a row is dropped that `is_outside`."""

_BATCH = 8
"""Pictures that one thread takes at a time: handing over costs a tenth of a small picture's decoding."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """What became of one picture: its hash, or why it cannot be read."""

    dhash: str = ""
    failure: str = ""


def default_workers() -> int:
    """As many threads as there are processors for this process, eight at most."""
    return min(count_cores(), 8)


def ordered(work: Callable[[Given], Made], given: Sequence[Given], workers: int) -> Iterator[Made]:
    """`map` over threads, in order, with a bounded number of results in memory. Decoders release Python's lock."""
    waiting: deque[Future[list[Made]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for begin in range(0, len(given), _BATCH):
                waiting.append(pool.submit(lambda batch: [work(item) for item in batch], given[begin : begin + _BATCH]))
                if len(waiting) >= 3 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def read_picture(pictures: Pictures, path: str) -> Image:
    """Decode one picture, as finely as a hash needs it.

    Raises:
        InputError: It is missing, unreadable or broken.
    """
    return decode(pictures.read(path), detail=DETAIL)


def scan_rows(
    rows: list[Row],
    pictures: Pictures,
    tally: Tally,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Row]:
    """Decode every picture; rows whose picture is broken, or hasn't their box, are dropped and counted.

    The others get hash and group.

    Args:
        rows: Rows of one manifest.
        pictures: Where they lie.
        tally: Gets the dropped ones, by reason.
        workers: Threads.
        progress: Called with the number of pictures done.
    """

    def scan(row: Row) -> Scanned:
        try:
            image = read_picture(pictures, row.path)
        except InputError as error:
            return Scanned(failure=unreadable(error))
        return Scanned(failure=OUTSIDE) if is_outside(row, image) else Scanned(dhash=hash_picture(image.picture))

    kept = []
    for done, (row, scanned) in enumerate(
        zip(rows, ordered(scan, rows, workers or default_workers()), strict=True), start=1
    ):
        if scanned.failure:
            tally.drop(scanned.failure, row.path)
        else:
            kept.append(replace(row, dhash=scanned.dhash))
        if progress is not None:
            progress(done)
    return with_groups(kept)


def is_outside(row: Row, image: Image) -> bool:
    """Whether a row's box can't be of a face in its picture: it was measured in another one, or at another scale."""
    return row.box is not None and not lies_within(row.box, image.width, image.height)


def unreadable(error: InputError) -> str:
    """The reason under which a row is dropped whose picture cannot be read."""
    return f"picture unreadable ({error.code})"


def with_groups(rows: list[Row]) -> list[Row]:
    """Rows that have a hash, with the number of their near-duplicate group."""
    joined = b"".join(bytes.fromhex(row.dhash or "") for row in rows)
    groups = group_duplicates(np.frombuffer(joined, dtype=">u8").astype(np.uint64).reshape(len(rows), 5))
    return [replace(row, group=int(group)) for row, group in zip(rows, groups, strict=True)]
