"""Files that appear whole under their name, or not at all.

Bytes go to a hidden file beside the target, which takes the target's name when all is written. Something that is no
regular file (a pipe, `/dev/stdout`) is written to directly: it must not be replaced. A symbolic link stays, and the
file that it leads to is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from agelens.errors import DiskFullError, OutputError, OutputUnwritableError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REASONS = {
    errno.ENOENT: "the folder does not exist; create it first",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a file has that name; choose another",
    errno.EISDIR: "it is a folder; give the name of a file",
    errno.EACCES: "permission denied; choose a place that you may write to",
    errno.EPERM: "permission denied; choose a place that you may write to",
    errno.EROFS: "the disk is read-only; choose another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "a symbolic link leads back to itself",
}
_FLUSH_BYTES = 1 << 16
_FLUSH_SECONDS = 1.0


def to_output_error(error: OSError, path: str | os.PathLike[str], note: str = "") -> OutputError:
    """The typed error for a failure of the operating system to write `path`; `note` is added to its message."""
    name = os.fspath(path)
    if error.errno in _FULL:
        return DiskFullError(f"cannot write {name}: no space is left; free some or choose another disk{note}")
    reason = _REASONS.get(error.errno or 0)
    if reason:
        return OutputUnwritableError(f"cannot write {name}: {reason}{note}")
    return OutputError(f"cannot write {name}: {error.strerror or error}{note}")


@contextlib.contextmanager
def typed_output_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an OSError of the block into an OutputError about `path`; a BrokenPipeError passes as it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise to_output_error(error, path) from error


class Target:
    """A name that is to be written, and where its bytes go until they are complete.

    Args:
        path: The final name. Its folder must exist.

    Raises:
        OutputUnwritableError: The folder is missing, the name is a folder's, or writing is not allowed.
        DiskFullError: Not even an empty file fits.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with typed_output_errors(self.path):
            mode = self._mode(self.path)
            self.direct = mode is not None and not stat.S_ISREG(mode)
            # The link /dev/stdout may lead to a pipe, which has no path: only links to files are followed.
            self.final = self.path.resolve() if self.path.is_symlink() and not self.direct else self.path
            self.part = self.final if self.direct else self._create_part(mode)

    @staticmethod
    def _mode(path: Path) -> int | None:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return None
        except ValueError as error:  # a NUL in the name
            raise OSError(errno.EINVAL, f"no file can have this name ({error})") from error
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return mode

    def _create_part(self, mode: int | None) -> Path:
        # Forty characters of at most four bytes keep the hidden name within the 255 bytes of common file systems.
        part = self.final.with_name(f".{self.final.name[:40]}.{secrets.token_hex(4)}.part")
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if mode is not None:
            part.chmod(stat.S_IMODE(mode))
        return part

    def commit(self) -> None:
        """Gives the written bytes their final name."""
        if not self.direct:
            self.part.replace(self.final)

    def discard(self) -> None:
        """Removes what was written so far."""
        if not self.direct:
            self.part.unlink(missing_ok=True)


class PartFile:
    """A buffered file of bytes that takes its name at `commit`.

    Whatever was handed to `write` is, at every moment, either on disk or in the buffer and never in both, so a
    KeyboardInterrupt anywhere in between loses nothing and repeats nothing.

    Args:
        path: The final name.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.target = Target(path)
        with typed_output_errors(path):
            self._file = self.target.part.open("wb", buffering=0)
        self._seekable = self._file.seekable() and not self.target.direct
        # One attribute, replaced in one step: bytes on disk, bytes still to be written.
        self._state: tuple[int, bytearray] = (0, bytearray())
        self._flushed = time.monotonic()

    @property
    def size(self) -> int:
        """How many bytes were handed over so far."""
        done, waiting = self._state
        return done + len(waiting)

    def write(self, data: bytes) -> None:
        """Takes `data`, and writes to the disk every 64 KiB and every second.

        Raises:
            OSError: The disk refused. What is on it are whole `data` of earlier calls.
        """
        waiting = self._state[1]
        waiting += data
        if len(waiting) >= _FLUSH_BYTES or time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes all that waits.

        Raises:
            OSError: The disk refused. What is on it are whole `data` of earlier calls.
        """
        done, waiting = self._state
        try:
            self._write_at(done, bytes(waiting))
        except OSError:
            if self._seekable:
                self._file.truncate(done)
            raise
        self._state = (done + len(waiting), bytearray())
        self._flushed = time.monotonic()

    def _write_at(self, offset: int, data: bytes) -> None:
        if self._seekable:  # a flush that was interrupted half-way is overwritten by the next one
            self._file.seek(offset)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def commit(self) -> None:
        """Writes what waits, closes, and gives the file its name.

        Raises:
            OSError: The disk refused; the file stays under its hidden name.
        """
        self.flush()
        if not self.target.direct:
            os.fsync(self._file.fileno())
        self._file.close()
        self.target.commit()

    def abandon(self, *, keep: bool = False) -> Path | None:
        """Closes without giving the file its name, and removes it.

        Args:
            keep: Leave what is on disk under its hidden name if it is anything at all.

        Returns:
            Where the bytes were kept, or None.
        """
        with contextlib.suppress(OSError):
            self._file.close()
        if keep and self._state[0] and not self.target.direct:
            return self.target.part
        with contextlib.suppress(OSError):
            self.target.discard()
        return None


class Closing(ABC):
    """A writer as a context manager: whatever happens inside, what was written becomes valid.

    It knows whether it is closed. After a failure of the output it is, for good.

    Args:
        name: How messages call the output.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._closed = False

    def close(self) -> None:
        """Completes the output. Closing twice does nothing.

        Raises:
            OutputError: It could not be completed.
            BrokenPipeError: Nobody reads it any more.
        """
        if not self._closed:
            with self._typed_errors():
                self._complete()
            self._closed = True

    @abstractmethod
    def _complete(self) -> None:
        """Writes what is left and gives the output its name."""

    @abstractmethod
    def _abandon(self) -> Path | None:
        """Gives up after a failure; returns where what was written before is kept, if it is."""

    def _check_open(self) -> None:
        """Refuses to write to what is closed.

        Raises:
            ValueError: As Python's own files do.
        """
        if self._closed:
            raise ValueError(f"{self._name} is closed")

    @contextlib.contextmanager
    def _typed_errors(self) -> Iterator[None]:
        """Ends the output at an OSError of the block.

        Raises:
            OutputError: In its place.
            BrokenPipeError: Nobody reads any more, which is no failure of the output.
        """
        try:
            yield
        except OSError as error:
            self._closed = True
            kept = self._abandon()
            if error.errno == errno.EPIPE:  # which Arrow raises as a plain OSError
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error
            note = f"; the records before that are in {kept}" if kept else ""
            raise to_output_error(error, self._name, note) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes one file that is whole from the moment it has its name.

    Raises:
        OutputError: It could not be written; then nothing of it is left, and a file that had the name before stays.
    """
    file = PartFile(path)
    try:
        with typed_output_errors(path):
            file.write(data)
            file.commit()
    except BaseException:
        file.abandon()
        raise
