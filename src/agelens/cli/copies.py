"""Annotated copies and crops, drawn and encoded beside the stream of reports so that it needn't wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from agelens.cli.outputs import Outputs, Places, key_of
from agelens.errors import DiskFullError, InputError, OutputError
from agelens.outfile import typed_output_errors
from agelens.render import annotate, crop_face, picture_extensions, save_picture
from agelens.runtime import typed_thread_errors

if TYPE_CHECKING:
    from agelens.types import Pixels, Report

THREADS = 4
AHEAD = 2  # reports under way for each thread; each holds a picture


class Copies:
    """Takes reports, and gives them back in order once their pictures are on disk.

    Args:
        outputs: Where pictures go.
        arguments: What the user named as SOURCE.
        threads: Pictures drawn at once, at most.
        on_failure: Told of a picture that couldn't be written: the name of the input, and why.
    """

    def __init__(
        self, outputs: Outputs, arguments: Sequence[str], threads: int, on_failure: Callable[[str, str], None]
    ) -> None:
        endings = picture_extensions()
        self._picture = outputs.picture
        taken = {key_of(outputs.picture)} if outputs.picture else set()
        self._copies = Places(outputs.folder, arguments, endings, taken) if outputs.folder else None
        self._crops = Places(outputs.crops, arguments, endings, taken) if outputs.crops else None
        threads = min(threads, THREADS)
        self._room = AHEAD * threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="agelens-copies")
        self._pending: deque[tuple[Report, Future[None]]] = deque()
        self._on_failure = on_failure

    def is_own(self, path: str) -> bool:
        """Whether a file met in a folder is a copy or a crop, and so no input."""
        return any(places.is_own(path) for places in (self._copies, self._crops) if places)

    def add(self, report: Report) -> None:
        """Takes one report, in the order of the inputs."""
        copy, crops = None, []
        if report.image is not None:
            copy = self._copies.choose(report.source) if self._copies else self._picture
            numbers = range(len(report.faces)) if self._crops else ()
            crops = [self._crops.choose(report.source, f"_{n}") for n in numbers if self._crops]
        with typed_thread_errors():
            self._pending.append((report, self._pool.submit(_save, report, copy, crops)))

    def take(self) -> Iterator[Report]:
        """Reports whose pictures are done; waits only where too many are under way.

        Raises:
            DiskFullError: No space is left.
        """
        while self._pending and (len(self._pending) > self._room or self._pending[0][1].done()):
            yield self._finish_first()

    def stop(self, *, at_once: bool = False) -> Iterator[Report]:
        """All reports that are left; `at_once`: without those whose pictures were not begun.

        Raises:
            DiskFullError: No space is left.
        """
        self._pool.shutdown(wait=False, cancel_futures=at_once)
        while self._pending and not self._pending[0][1].cancelled():
            yield self._finish_first()

    def _finish_first(self) -> Report:
        report, job = self._pending.popleft()
        try:
            job.result()
        except DiskFullError:
            self._pool.shutdown(wait=True, cancel_futures=True)
            raise
        except (InputError, OutputError) as error:
            self._on_failure(report.source, error.message)
        except MemoryError:
            self._on_failure(report.source, "the copy needs more memory than there is")
        return report


def _save(report: Report, copy: Path | None, crops: Sequence[Path]) -> None:
    if report.image is None or not (copy or crops):
        return
    image = report.image.at_scale(1.0)
    if copy is not None:
        _save_picture(annotate(image, report.faces), copy)
    for path, face in zip(crops, report.faces, strict=False):  # no paths where no crops are wanted
        _save_picture(crop_face(image, face), path)


def _save_picture(pixels: Pixels, path: Path) -> None:
    with typed_output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(pixels, path)
