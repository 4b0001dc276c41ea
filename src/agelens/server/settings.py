"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from agelens.analyzer import count_cores
from agelens.errors import UsageError
from agelens.limits import Limits
from agelens.zoo import DEFAULT_MODEL

MOST_WORKERS = 64
LONGEST = 86_400
"""Seconds."""

_COUNTS = ("workers", "threads", "batch_size", "queue", "max_bytes", "max_pixels", "max_files", "max_body", "max_held")
_SECONDS = ("time_limit", "upload_limit", "drain_limit")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How a server works, and what it refuses.

    Attributes:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        workers: Processes, each with models, threads and a queue of its own.
        threads: Pictures worked on at once in each process; None shares the cores between the processes.
        model: Name of a model that ships, or path of an ONNX file.
        device: Where the networks run.
        batch_size: Most faces in one call of the network.
        queue: Pictures that one process takes on at once, those that wait and those that are worked on.
        max_bytes: Of one picture.
        max_pixels: Of one picture, as its header states them.
        max_files: Pictures in one request.
        max_body: Bytes of one request.
        max_held: Bytes of all requests that one process holds at once.
        time_limit: Seconds from the arrival of a request to its answer.
        upload_limit: Seconds until a request has arrived.
        drain_limit: Seconds that a server which is to stop gives its last requests.
        allow_url: Whether pictures may be named by their web address.
        api_key: What requests must bring; None asks for nothing.
        hosts: Names by which the server may be called, besides local ones; empty: by any, unless it listens locally.
        quiet: No line for each request.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    threads: int | None = None
    model: str = DEFAULT_MODEL
    device: str = "auto"
    batch_size: int = 32
    queue: int = 64
    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    max_files: int = 16
    max_body: int = 64 * 2**20
    max_held: int = 256 * 2**20
    time_limit: float = 30.0
    upload_limit: float = 30.0
    drain_limit: float = 30.0
    allow_url: bool = False
    api_key: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
    quiet: bool = False

    def __post_init__(self) -> None:
        """Refuses what makes no sense.

        Raises:
            UsageError: With what to change.
        """
        self._check_counts()
        if self.max_files > self.queue:
            raise UsageError(
                f"a request of {self.max_files} pictures never fits a queue of {self.queue}; raise --queue or lower"
                " --max-files"
            )
        if self.max_body > self.max_held:
            raise UsageError(f"--max-held {self.max_held} must hold one body of --max-body {self.max_body} bytes")
        if self.api_key is not None and (len(self.api_key) < 8 or not self.api_key.isascii()):
            raise UsageError("an API key has at least 8 plain characters; make one with: openssl rand -hex 24")

    def _check_counts(self) -> None:
        for name in _COUNTS:
            count = getattr(self, name)
            if count is not None and count < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {count}")
        if self.workers > MOST_WORKERS:
            raise UsageError(f"{self.workers} workers are more than {MOST_WORKERS}; one a core or two is enough")
        for name in _SECONDS:
            if not 0 < getattr(self, name) <= LONGEST:
                raise UsageError(f"--{name.replace('_', '-')} is a number of seconds up to {LONGEST}")
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"a port is a number from 0 to 65535, not {self.port}")

    @property
    def limits(self) -> Limits:
        """What one picture must keep."""
        return Limits(min(self.max_bytes, self.max_body), self.max_pixels)

    @property
    def threads_each(self) -> int:
        """Pictures worked on at once in each process."""
        return self.threads or max(count_cores() // self.workers, 1)

    @property
    def url_host(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False
