"""Folders and files wherever they are: on this machine, or behind a URL that pyarrow's filesystems know."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Final, cast
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from agelens.errors import NotFoundError, UnreadableError, UsageError
from agelens.outfile import typed_output_errors, write_whole
from agelens.sources.address import is_web_address, local_path

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder or a file.

    Attributes:
        text: How it is called: the path as it was given, or the URL without its query.
        path: Inside of `filesystem`; of a local place, the absolute path.
        filesystem: pyarrow's, or None where it is this machine's.
        prefix: What stands before `path` in `text`: "" locally, such as "s3://" elsewhere.
    """

    text: str
    path: str
    filesystem: fs.FileSystem | None = None
    prefix: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, or on what looks so, as a mounted share."""
        return self.filesystem is None

    def at(self, path: str) -> Place:
        """The place of another path of the same filesystem."""
        if self.filesystem is None:
            return Place(path, str(Path(path).absolute()))
        return Place(self.prefix + path, path, self.filesystem, self.prefix)

    def join(self, name: str) -> Place:
        """A file or folder in this folder."""
        if self.filesystem is None:
            return Place(str(Path(self.text, name)), str(Path(self.path, name)))
        return self.at(f"{self.path.rstrip('/')}/{name}")

    def read(self) -> bytes:
        """All bytes.

        Raises:
            NotFoundError: There is no such file.
            UnreadableError: It can't be read.
        """
        with self.typed_errors(), self.open() as file:
            return bytes(file.read())

    def open(self) -> IO[bytes]:
        """A file of bytes to read from at any position.

        Raises:
            OSError: It can't be opened.
        """
        if self.filesystem is None:
            return Path(self.path).open("rb")
        return cast("IO[bytes]", self.filesystem.open_input_file(self.path))

    def list_names(self) -> list[str]:
        """The names of the files directly in this folder; none where it doesn't exist.

        Raises:
            OutputError: It can't be listed.
        """
        with typed_output_errors(self.text), contextlib.suppress(FileNotFoundError):
            if self.filesystem is None:
                return [entry.name for entry in os.scandir(self.path) if not entry.is_dir()]
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
            return [info.base_name for info in found if info.type == fs.FileType.File]
        return []

    def write(self, data: bytes) -> None:
        """Writes a file that is whole from the moment it has its name; missing folders are made.

        Locally the bytes go to a hidden name first. An object store shows an object only once it is complete, so there
        it is written under its own name, in one piece.

        Raises:
            OutputError: It could not be written.
        """
        with typed_output_errors(self.text):
            if self.filesystem is None:
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
                write_whole(self.path, data)
                return
            folder = self.path.rpartition("/")[0]
            if folder and not _has_no_folders(self.filesystem):
                self.filesystem.create_dir(folder, recursive=True)
            with self.filesystem.open_output_stream(self.path) as file:
                file.write(data)

    def remove(self) -> None:
        """Removes a file, where there is one.

        Raises:
            OutputError: It can't be removed.
        """
        with typed_output_errors(self.text), contextlib.suppress(FileNotFoundError):
            if self.filesystem is None:
                Path(self.path).unlink()
            else:
                self.filesystem.delete_file(self.path)

    @contextlib.contextmanager
    def typed_errors(self) -> Iterator[None]:
        """Turns what a filesystem raises on reading into an InputError about this place."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no file {self.text!r}") from error
        except (OSError, pa.ArrowException) as error:
            why = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise UnreadableError(f"{self.text!r} cannot be read: {why}") from error


def writes_whole(place: Place) -> bool:
    """Whether what `Place.write` leaves here is whole, whenever the process that writes is killed."""
    return place.filesystem is None or _has_no_folders(place.filesystem)


def _has_no_folders(filesystem: fs.FileSystem) -> bool:
    return filesystem.type_name in {"s3", "gcs"}


def is_url(text: str) -> bool:
    """Whether a text names something through a scheme, as `s3://bucket/photos` does."""
    return _URL.match(text) is not None


@lru_cache(maxsize=1024)
def open_place(text: str) -> Place:
    """The place that a path or a URL names; it need not exist.

    Raises:
        UsageError: pyarrow knows no such scheme, or its filesystem can't be opened.
    """
    text = local_path(text)
    if not is_url(text):
        return Place(text, str(Path(text).absolute()))
    if is_web_address(text):
        raise UsageError(f"{text!r} is a web address, which is no folder of files; name a folder or an object store")
    try:
        filesystem, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        why = str(error).partition("\n")[0]
        raise UsageError(f"{text!r} can't be opened: {why}; pyarrow knows file, s3, gs, abfs and hdfs") from error
    if isinstance(filesystem, fs.LocalFileSystem):
        return Place(text, path)
    scheme, _, rest = text.partition("?")[0].partition("://")
    host = rest[: len(rest) - len(path)] if unquote(rest).endswith(path) and path.startswith("/") else ""
    return Place(f"{scheme}://{host}{path}", path, filesystem, f"{scheme}://{host}")


def check_input(place: Place) -> None:
    """Refuses a folder behind a URL that can't be asked at all.

    Raises:
        InputError: It can't.
    """
    if place.filesystem is not None:
        with place.typed_errors():
            info = place.filesystem.get_file_info(place.path)
        if info.type == fs.FileType.NotFound:
            raise NotFoundError(f"there is no file or folder {place.text!r}")
