"""A server as users run it: a process of its own, asked over real sockets.

serving(...)         a context: starts `agelens serve`, gives a `Server`, stops it
Server.send(...)     one request -> Answer
form(...)            files as the body of a form
raw(...)             bytes as they are, over a connection of their own -> bytes
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from command import start

BOUNDARY = "----agelens-test-4f1d"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of a problem."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem = self.json()
        assert problem["status"] == self.status
        assert problem["detail"]
        return problem["code"]


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    port: int
    lines: list[str] = field(default_factory=list)

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.send("GET", path, None, headers)

    def post(self, data: bytes, path: str = "/v1/predict", kind: str = "application/octet-stream") -> Answer:
        return self.send("POST", path, data, {"Content-Type": kind})

    def post_form(self, files: Sequence[tuple[str, bytes]], path: str = "/v1/predict") -> Answer:
        return self.post(form(files), path, f"multipart/form-data; boundary={BOUNDARY}")

    def metric(self, line: str) -> float:
        """The value of one line of /metrics; 0 where there is none."""
        for text in self.get("/metrics").body.decode().splitlines():
            name, _, value = text.rpartition(" ")
            if name == line:
                return float(value)
        return 0.0

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)


def form(files: Sequence[tuple[str, bytes]], field: str = "file") -> bytes:
    parts = []
    for name, data in files:
        quoted = name.replace('"', "%22").encode("utf-8", "surrogateescape")
        head = b'Content-Disposition: form-data; name="%s"; filename="%s"' % (field.encode(), quoted)
        parts.append(
            b"--%s\r\n%s\r\nContent-Type: application/octet-stream\r\n\r\n%s\r\n" % (BOUNDARY.encode(), head, data)
        )
    return b"".join(parts) + b"--%s--\r\n" % BOUNDARY.encode()


def raw(port: int, data: bytes, *, shut: bool = False) -> bytes:
    """Sends bytes, and gives what came until the server closed or was silent for two seconds."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(data)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        came = bytearray()
        try:
            while block := connection.recv(1 << 16):
                came += block
        except (TimeoutError, ConnectionResetError):
            pass
        return bytes(came)


@contextmanager
def serving(*arguments: str | Path, **environment: str) -> Iterator[Server]:
    """Starts a server on a free port and waits until it takes requests on."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        process = start("serve", "--port", "0", *arguments, stdout=subprocess.DEVNULL)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    assert process.stderr is not None
    server = Server(process, 0)
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            server.lines.append(line.decode())
            if b"agelens serve: http://" in line:
                server.port = int(line.split(b"(")[0].rsplit(b":", 1)[1])
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(60)
        assert server.port, server.lines
        yield server
    finally:
        server.stop()
        reader.join(10)
        process.stderr.close()
