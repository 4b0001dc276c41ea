"""Ray: a pool of processes on this machine or a cluster, through which the partitions go.

Ray Data carries descriptions of partitions, a few bytes each, and outcomes; never a picture. Each process of the pool
is an actor that opens the models once, reads the pictures of a partition itself and writes its file itself. So nothing
gathers in the object store or in the driver, and a task that runs twice, because a process or its answer was lost,
gives the same file under the same name.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, Final, cast

import pyarrow as pa

from agelens import errors
from agelens.advice import how_to_install
from agelens.batch.partition import Outcome, PartitionWorker, Work
from agelens.batch.plan import Partition
from agelens.cores import count_cores
from agelens.errors import ClusterError, MissingPackageError

AT_ONCE: Final = 2
"""Partitions that an actor has before it: the one that it does, and one that waits."""

_STORE: Final = 80 * 2**20
"""Bytes of shared memory, about the least that Ray takes: nothing large goes through it."""
_LONGEST_FOLDER: Final = 40
"""Characters: Ray's sockets lie below, and a system takes no more than about 107."""
_LOCAL: Final = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # what binds Ray to the loopback address alone, on Linux too
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",  # as every other command; Ray's own 15 would starve beside anything else
}
_QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


@dataclass(frozen=True, slots=True)
class Pool:
    """How many processes, and where.

    Attributes:
        actors: How many; None: as many as there are cores for.
        threads: Of each; Ray counts them as cores.
        address: Of a cluster; None: one of its own on this machine, as long as the run takes.
        gpus: That each has.
    """

    actors: int | None = None
    threads: int = 1
    address: str | None = None
    gpus: float = 0.0


@contextlib.contextmanager
def start_ray(pool: Pool) -> Iterator[None]:
    """Ray, as long as the block takes. One of its own is heard by this machine alone, and asks for a token.

    Raises:
        MissingPackageError: Ray isn't installed.
        ClusterError: It can't be started, or reached.
    """
    with _environment(pool), contextlib.ExitStack() as stack:
        ray = _load()
        folder = None
        if pool.address is None:
            folder = tempfile.mkdtemp(prefix="agelens-ray-")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(ray.shutdown)
        _connect(pool, folder if folder and len(folder) <= _LONGEST_FOLDER else None)
        yield


@contextlib.contextmanager
def _environment(pool: Pool) -> Iterator[None]:
    """The variables that Ray reads when it is loaded and started, put back as they were afterwards."""
    before = dict(os.environ)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if pool.address is None:
        os.environ.update(_LOCAL, RAY_AUTH_TOKEN=_make_token())
    try:
        yield
    finally:
        for name in (*_QUIET, *_LOCAL, "RAY_AUTH_TOKEN"):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


@lru_cache(maxsize=1)
def _make_token() -> str:
    """The token of this process, which Ray remembers from its first start in it."""
    return secrets.token_hex(32)


def _load() -> ModuleType:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingPackageError(f"`agelens batch` needs Ray: {how_to_install('batch')}") from error
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return ray


def _connect(pool: Pool, folder: str | None) -> None:
    import ray

    how: dict[str, Any] = {"address": pool.address}
    if pool.address is None:
        how = {
            "address": "local",
            "num_cpus": (pool.actors or count_actors(pool)) * pool.threads,
            "include_dashboard": False,
            "object_store_memory": _STORE,
            "_temp_dir": folder,
        }
    try:
        with _hushed():
            ray.init(log_to_driver=False, configure_logging=False, logging_level=logging.CRITICAL, **how)
    except Exception as error:  # of a start that took too long it is no more than an Exception
        where = f"the cluster at {pool.address}" if pool.address else "Ray on this machine"
        why = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise ClusterError(
            f"{where} can't be used: {why}; see that it can start, then run it again (with --resume)"
        ) from error


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without what Ray's native part writes to standard error when it starts, past every setting; it also raises."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def count_actors(pool: Pool) -> int:
    """How many processes the pool has, where that wasn't said: as many as there are cores for."""
    if pool.address is None:
        return max(count_cores() // pool.threads, 1)
    import ray

    return max(int(cast("Any", ray).cluster_resources().get("CPU", 1) // pool.threads), 1)


def run_partitions(work: Work, partitions: list[Partition], pool: Pool) -> Iterator[Outcome]:
    """Does partitions, in any order, once Ray is started; what became of each, as soon as it is known.

    Raises:
        AgelensError: What ended the run on a worker.
        ClusterError: Ray gave up.
    """
    import ray
    from ray.data.context import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    actors = pool.actors or count_actors(pool)
    strategy = ray.data.ActorPoolStrategy(
        min_size=1 if pool.address else actors,
        max_size=actors,
        initial_size=actors,
        max_tasks_in_flight_per_actor=AT_ONCE,
    )
    # A block a partition: then a lost process costs one, and each outcome is told when it is there.
    dataset = ray.data.from_items([asdict(partition) for partition in partitions], override_num_blocks=len(partitions))
    outcomes = dataset.map_batches(
        _Actor,
        fn_constructor_args=(work,),
        compute=strategy,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=pool.threads,
        num_gpus=pool.gpus,
    )
    try:
        for batch in outcomes.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            for text in cast("pa.Table", batch)["outcome"].to_pylist():
                yield _read(text)
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines()[-1]
        raise ClusterError(f"Ray gave up: {why}; what is done is whole, and --resume goes on") from error


def _read(text: str) -> Outcome:
    """An outcome that a worker told; what ended the run is raised here as it was there."""
    outcome = Outcome(**json.loads(text))
    if outcome.failure is not None:
        kind, message = outcome.failure
        raise getattr(errors, kind)(message)
    return outcome


class _Actor:
    """A process of the pool.

    One that Ray started in place of a process that died does first what that one had before it, carefully.
    """

    def __init__(self, work: Work) -> None:
        import ray

        context = ray.get_runtime_context()
        replaces = context.was_current_actor_reconstructed
        self._worker = PartitionWorker(work, context.get_actor_id() if replaces else None)
        self._careful = AT_ONCE if replaces else 0

    def __call__(self, table: pa.Table) -> pa.Table:
        outcomes = []
        for row in table.to_pylist():
            outcomes.append(self._worker.run(Partition(**row), careful=self._careful > 0))
            self._careful -= 1
        return pa.table({"outcome": [json.dumps(asdict(outcome)) for outcome in outcomes]})
