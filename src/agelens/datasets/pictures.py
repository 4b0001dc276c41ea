"""Where a set's pictures lie: a folder, a `.tar` or a `.zip`, all read in place.

An archive is never unpacked: its table of contents is read once, then each picture straight from its place in the
file. A compressed tar has no places to go to; `unpack` writes it into a folder.
"""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Final, Generic, Literal, Protocol, TypeVar, cast

from agelens.errors import DamagedDatasetError, NotFoundError, UnreadableError, WrongLayoutError
from agelens.formats import EXTENSIONS
from agelens.tarfiles import CheckedHeader, check_end

Handle = TypeVar("Handle", BinaryIO, zipfile.ZipFile)
_BROKEN_STREAM: Final = (zlib.error, lzma.LZMAError, EOFError, OSError)
"""What Python raises of compressed bytes that are damaged."""


class Pictures(Protocol):
    """A set of files by name. Safe to use from several threads, and to send to another process."""

    @property
    def root(self) -> Path:
        """The folder or archive that the names are relative to."""

    def names(self) -> list[str]:
        """All files, sorted, with `/` between folders; hidden files and folders left out."""

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            NotFoundError: There is no such file.
            UnreadableError: It is there but cannot be read.
        """


class FolderPictures:
    """Files in a folder and the folders below it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        return sorted(_walk(self.root, "", {os.path.realpath(self.root)}))

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"there is no picture {name!r} in {self.root}") from error
        except OSError as error:
            raise UnreadableError(f"{self.root / name} cannot be read: {error.strerror}") from error


class _ArchivePictures(Generic[Handle]):
    """What tar and zip share: one handle for each process, taken under a lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._handle: Handle | None = None
        self._owner = -1

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_handle", "_owner")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _handle=None, _owner=-1)

    def _opened(self) -> Handle:
        # A handle that came along through a fork shares its position with the parent's: every process opens its own.
        if self._handle is None or self._owner != os.getpid():
            self._handle, self._owner = self._open(), os.getpid()
        return self._handle

    def _open(self) -> Handle:
        raise NotImplementedError

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle is not None and self._owner == os.getpid():
            handle.close()


class TarPictures(_ArchivePictures[BinaryIO]):
    """Files in an uncompressed tar.

    Raises:
        DamagedDatasetError: It is no tar, it is damaged, or it ends too early, see `check_end`.
        WrongLayoutError: It is compressed.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._places: dict[str, tuple[int, int]] = {}
        try:
            for member, _ in _members(root, "r:"):
                if member.isfile() and not _is_hidden(member.name):
                    self._places[_tidy(member.name)] = (member.offset_data, member.size)
        except tarfile.ReadError as error:
            if _is_compressed(root):
                raise WrongLayoutError(
                    f"{root} is compressed, so single pictures cannot be read from it. Name a folder to unpack it "
                    f"into (--work DIR), or unpack it yourself"
                ) from error
            raise DamagedDatasetError(f"{root} is damaged or no tar: {error}. Copy or download it again") from error

    def names(self) -> list[str]:
        return sorted(self._places)

    def read(self, name: str) -> bytes:
        try:
            offset, size = self._places[name]
        except KeyError as error:
            raise NotFoundError(f"there is no picture {name!r} in {self.root}") from error
        with self._lock:
            handle = self._opened()
            handle.seek(offset)
            return handle.read(size)

    def _open(self) -> BinaryIO:
        return self.root.open("rb")


class ZipPictures(_ArchivePictures[zipfile.ZipFile]):
    """Files in a zip.

    Raises:
        DamagedDatasetError: It is no zip, or it is incomplete.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        try:
            with zipfile.ZipFile(root) as archive:
                members = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        except zipfile.BadZipFile as error:
            raise DamagedDatasetError(f"{root} is damaged or no zip: {error}. Copy or download it again") from error
        self._members = {_tidy(name): name for name in members if not _is_hidden(name)}

    def names(self) -> list[str]:
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        if name not in self._members:
            raise NotFoundError(f"there is no picture {name!r} in {self.root}")
        try:
            with self._lock:
                return self._opened().read(self._members[name])
        # Encrypted, or packed in a way that Python does not know.
        except (RuntimeError, NotImplementedError) as error:
            raise UnreadableError(f"{name!r} in {self.root} cannot be unpacked: {error}; unpack it yourself") from error
        except (zipfile.BadZipFile, *_BROKEN_STREAM) as error:
            raise UnreadableError(f"{name!r} in {self.root} is damaged: {error}; copy it again") from error

    def _open(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.root)


def open_pictures(root: Path) -> Pictures:
    """The pictures of a folder, a `.tar` or a `.zip`.

    Raises:
        NotFoundError: Nothing is there.
        DamagedDatasetError: The archive is damaged.
        WrongLayoutError: The file is a compressed tar.
    """
    root = root.expanduser().absolute()
    if root.is_dir():
        return FolderPictures(root)
    if not root.exists():
        raise NotFoundError(f"there is no {root}. Give the folder or archive that holds the pictures")
    return ZipPictures(root) if zipfile.is_zipfile(root) else TarPictures(root)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a (compressed) tar into `folder` and return the folder. Members that point outside it are refused.

    Raises:
        DamagedDatasetError: The archive is damaged, or holds a member that would leave the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for member, opened in _members(archive, "r:*"):
            _unpack_member(opened, member, folder)
    except (tarfile.TarError, *_BROKEN_STREAM) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of what it holds
            raise
        raise DamagedDatasetError(f"{archive} cannot be unpacked: {error}. Copy or download it again") from error
    return folder


def _members(archive: Path, mode: Literal["r:", "r:*"]) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """All members of a tar, and whether it is whole."""
    with tarfile.open(archive, mode, tarinfo=CheckedHeader) as opened:
        for member in opened:
            yield member, opened
        assert opened.fileobj is not None
        check_end(cast("IO[bytes]", opened.fileobj), opened.offset)


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Writes one file; links and devices are passed over, as no data set needs them."""
    target = folder / member.name
    if not target.resolve().is_relative_to(folder.resolve()):
        raise DamagedDatasetError(f"the archive holds {member.name!r}, which would leave {folder}: do not trust it")
    content = archive.extractfile(member) if member.isfile() else None
    if content is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(content, file)


def is_picture(name: str) -> bool:
    """Whether a name ends as pictures do."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def _walk(folder: Path, prefix: str, seen: set[str]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real not in seen:
                    yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", seen | {real})
            elif entry.is_file():
                yield prefix + entry.name


def _tidy(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _is_hidden(name: str) -> bool:
    return any((part.startswith(".") and part != ".") or part == "__MACOSX" for part in name.split("/"))


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
