"""OUT: kept for one run at a time, made ready for it, and swept."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Literal

from pyarrow import parquet

from agelens.batch.fetched import READERS
from agelens.batch.places import Place, writes_whole
from agelens.batch.plan import PLAN, STATE, SUCCESS, Plan, find_done, part_name, read_plan
from agelens.errors import InputError, OutputError, OutputInUseError, OutputNotEmptyError
from agelens.outfile import typed_output_errors

Mode = Literal["new", "resume", "overwrite"]
LOCK: Final = "lock"
_LEFT_OVER: Final = re.compile(r"\.(part-\d+\.parquet|_SUCCESS|plan\.json|inputs-\d+\.parquet)\.[0-9a-f]+\.part")


@contextlib.contextmanager
def reserve(output: Place) -> Iterator[None]:
    """Keeps other runs of this machine, or of a shared disk, away; an object store offers nothing of the kind.

    Raises:
        OutputInUseError: Another run is at it.
    """
    if not output.is_local:
        yield
        return
    path = Path(output.path, STATE, LOCK)
    created = not path.parent.parent.exists()
    with contextlib.ExitStack() as stack:
        with typed_output_errors(output.text):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("ab"))
        if not _lock(file.fileno()) or not _is_still(path, file.fileno()):
            raise OutputInUseError(f"another run writes to {output.text} now; wait for it, or choose another OUT")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a run that wrote nothing leaves nothing
                path.parent.rmdir()
                if created:
                    path.parent.parent.rmdir()


def _lock(descriptor: int) -> bool:
    """Locks a file until this process ends, however that may be; whether nobody else has."""
    try:
        import fcntl
    except ImportError:  # Windows, where Ray runs for trials only
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk that knows no locks
        return True
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether a name is still that of an open file: the run before removes its lock when it ends."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def prepare_output(output: Place, plan: Plan, mode: Mode) -> Plan | None:
    """Makes the output ready; the plan of the run to go on with, or None where this one begins.

    Raises:
        UsageError: It holds something else, or the beginning of another run.
        OutputError: Its plan can't be read, or something can't be removed or written.
    """
    is_ours = True
    try:
        before = read_plan(output)
        is_ours = before is not None
    except OutputError:
        if mode != "overwrite":
            raise
        before = None  # there is a plan, if one that can't be read
    names = output.list_names()
    if not is_ours and (foreign := [name for name in names if not _LEFT_OVER.fullmatch(name)]):
        raise OutputNotEmptyError(
            f"{output.text} holds files that `agelens batch` did not write ({foreign[0]}); choose another OUT"
        )
    if before is not None and mode == "new":
        raise OutputNotEmptyError(f"{output.text} holds a run already; --resume completes it, --overwrite begins anew")
    remove_left_overs(output)
    if before is not None and mode == "resume":
        before.check_same(plan)
        return before
    _empty(output)
    output.join(STATE).join(PLAN).write(plan.to_json())
    return None


def _empty(output: Place) -> None:
    """Removes all of the run before."""
    state = output.join(STATE)
    output.join(SUCCESS).remove()  # first, or it would stand beside less than all
    _remove_parts(output)
    # Inputs without a plan are those of a run that died before it had begun.
    for name in state.list_names():
        if name != LOCK:
            state.join(name).remove()
    _remove_parts(output)  # again: a process that outlived that run went on writing until its plan was gone
    remove_tries(output)


def _remove_parts(output: Place) -> None:
    for name in output.list_names():
        if name.startswith("part-"):
            output.join(name).remove()


def remove_left_overs(output: Place) -> None:
    """Removes what processes that were killed left under hidden names.

    Raises:
        OutputError: It can't be removed.
    """
    for folder in (output, output.join(STATE)):
        for name in folder.list_names():
            if _LEFT_OVER.fullmatch(name):
                folder.join(name).remove()


def remove_tries(output: Place) -> None:
    """Removes the notes on what processes died at.

    Raises:
        OutputError: They can't be removed.
    """
    tries = output.join(STATE).join("tries")
    for name in tries.list_names():
        tries.join(name).remove()


def find_whole(output: Place) -> set[int]:
    """The partitions that are there, without those that a crash left unfinished where that can happen."""
    done = find_done(output)
    if writes_whole(output):
        return done
    with ThreadPoolExecutor(READERS) as pool:
        return {number for number, whole in zip(done, pool.map(partial(_is_whole, output), done), strict=True) if whole}


def _is_whole(output: Place, number: int) -> bool:
    place = output.join(part_name(number))
    try:
        with place.typed_errors(), place.open() as file:
            parquet.ParquetFile(file)
    except InputError:
        return False
    return True
