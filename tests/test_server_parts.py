"""The server's parts by themselves: forms, the bounded queue, batches, counters, and the fetching of addresses."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import re
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="needs the extra `serve`")

import uvicorn
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from agelens.analyzer import Prepared
from agelens.errors import (
    BadRequestError,
    OverloadedError,
    TooManyBytesError,
    TooManyFilesError,
    TooManyPixelsError,
    UnfitModelError,
    UrlFetchError,
    UrlNotAllowedError,
    UsageError,
)
from agelens.estimate import Estimates
from agelens.server.admission import Admission
from agelens.server.answers import draw
from agelens.server.crew import Crew, Job
from agelens.server.fetch import Fetcher, is_elsewhere, is_own, is_public, split_address
from agelens.server.guard import Guard
from agelens.server.listening import HEAD_BYTES, Connection, refuse_newcomers
from agelens.server.metrics import BATCHES, Board, Metrics
from agelens.server.multipart import find_boundary, parse_multipart
from agelens.server.options import AnnotateQuery, PredictQuery, read_queries
from agelens.server.processes import describe_address
from agelens.server.settings import ServerSettings
from agelens.types import Image, ModelId, Report
from serving import BOUNDARY, form
from stand_in import make_spec

# --- forms ---------------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(blacklist_characters='\r\n"\\%\0', blacklist_categories=["Cs"]), min_size=1, max_size=40)
DATA = st.binary(max_size=300).filter(lambda data: BOUNDARY.encode() not in data)


@given(st.lists(st.tuples(NAMES, DATA), max_size=5))
def test_a_form_comes_back_as_it_was_made(files: list[tuple[str, bytes]]) -> None:
    parts = parse_multipart(form(files), BOUNDARY.encode(), 10)
    assert [(part.field, part.filename, part.data) for part in parts] == [("file", name, data) for name, data in files]


@given(st.lists(st.tuples(NAMES, DATA), min_size=1, max_size=3), st.data())
def test_a_broken_form_is_refused_or_read_and_never_crashes(
    files: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    body = bytearray(form(files))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(body) - 1))
        if data.draw(st.booleans()):
            body[position] = data.draw(st.integers(0, 255))
        else:
            del body[position : position + data.draw(st.integers(1, 30))]
        if not body:
            break
    try:
        parts = parse_multipart(body, BOUNDARY.encode(), 10)
    except (BadRequestError, TooManyFilesError):
        return
    assert sum(len(part.data) for part in parts) <= len(body)


def make_part(disposition: bytes, data: bytes = b"x") -> bytes:
    return b"--b\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + data + b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        (b'form-data; name="file"; filename="a.jpg"', "a.jpg"),
        (b"form-data; name=file; filename=a.jpg", "a.jpg"),
        (b'form-data; name="file"; filename="a%22b.jpg"', 'a"b.jpg'),
        (rb'form-data; name="file"; filename="a\"b.jpg"', 'a"b.jpg'),
        (b'form-data; name="file"; filename="x"; filename*=UTF-8\'\'na%C3%AFve.jpg', "naïve.jpg"),
        (b"form-data; name=\"file\"; filename*=iso-8859-1''x", None),
        ('form-data; name="file"; filename="ü.jpg"'.encode(), "ü.jpg"),
        (b'form-data; name="file"; filename="\xff.jpg"', "\udcff.jpg"),
        (b'form-data; name="file"; filename=""', ""),
        (b'form-data; name="file"', None),
        (b'FORM-DATA; Name="file"; FileName="a;b.jpg"', "a;b.jpg"),
    ],
)
def test_names_of_files(disposition: bytes, filename: str | None) -> None:
    (part,) = parse_multipart(make_part(disposition), b"b", 1)
    assert (part.field, part.filename, part.data) == ("file", filename, b"x")


def test_a_preamble_and_padding_are_passed_over() -> None:
    body = b"hello\r\n" + make_part(b'form-data; name="a"').replace(b"--b\r\n", b"--b \t\r\n", 1)
    assert [part.data for part in parse_multipart(body, b"b", 1)] == [b"x"]
    with pytest.raises(TooManyFilesError):
        parse_multipart(form([("a", b"x")] * 3), BOUNDARY.encode(), 2)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('multipart/form-data; charset=utf-8; boundary="a b;c"', b"a b;c"),
        ("multipart/form-data;BOUNDARY=abc; x=y", b"abc"),
    ],
)
def test_boundaries(content_type: str, boundary: bytes) -> None:
    assert find_boundary(content_type) == boundary


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", f"x; boundary={'a' * 71}"]
)
def test_a_missing_boundary_is_told(content_type: str) -> None:
    with pytest.raises(BadRequestError, match="boundary"):
        find_boundary(content_type)


# --- annotated pictures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "side"), [("jpeg", 65_501), ("webp", 16_384)])
def test_a_picture_that_the_format_cannot_hold_is_the_clients_matter(kind: str, side: int) -> None:
    picture = Image(np.zeros((8, side, 3), np.uint8), side, 8)
    report = Report("a.png", side, 8, (), ModelId("m", "0"), image=picture)
    with pytest.raises(TooManyPixelsError, match="ask for format=png"):
        draw(report, AnnotateQuery(format=kind))
    assert draw(report, AnnotateQuery(format="png")).startswith(b"\x89PNG")


# --- queries -------------------------------------------------------------------------------------------------------


def test_what_is_asked_again_is_read_once_and_names_are_not_kept() -> None:
    read = read_queries(PredictQuery)
    asked = read(b"task=age&groups=0-17,18%2B&max_faces=2")
    assert (asked.task, asked.groups, asked.max_faces, asked.format) == ("age", "0-17,18+", 2, "json")
    assert read(b"task=age&groups=0-17,18%2B&max_faces=2") is asked
    for private in (b"source=anna.jpg", b"%73ource=anna.jpg", b"url=https://example.org/anna.jpg"):
        assert read(private) == read(private)
        assert read(private) is not read(private)
    for _ in range(2):
        with pytest.raises(UsageError, match="'task'"):
            read(b"tsk=age")
    assert read(b"task=age&task=gender").task == "gender"
    assert read(b"") == PredictQuery()
    assert all(read(f"max_faces={count}".encode()).max_faces == count for count in range(1, 400))


# --- the queue -----------------------------------------------------------------------------------------------------


def test_room_is_given_back_once_nobody_needs_it() -> None:
    admission = Admission(3, 100)
    with admission.admit() as lease:
        lease.take(pictures=1, held=60)
        assert (admission.pictures, admission.held) == (2, 60)
        with pytest.raises(OverloadedError):
            lease.take(pictures=2)
        with pytest.raises(OverloadedError):
            lease.take(held=41)
        with pytest.raises(OverloadedError):
            lease.check(held=41)
        lease.check(held=40)
        assert (admission.pictures, admission.held) == (2, 60)
        lease.hold()
    assert (admission.pictures, admission.held) == (2, 60)
    lease.let_go()
    assert (admission.pictures, admission.held) == (0, 0)


def test_how_long_to_wait_follows_the_pace() -> None:
    admission = Admission(1000, 1)
    assert admission.wait_seconds() == 1
    with admission.admit() as lease:
        lease.take(pictures=999)
        assert 1 < admission.wait_seconds() <= 60


# --- batches -------------------------------------------------------------------------------------------------------


class SlowEstimator:
    """Answers each crop with its first value, and waits in its first call until it is let go on."""

    def __init__(self) -> None:
        self.spec, self.model = make_spec(), None
        self.calls: list[int] = []
        self.entered, self.go_on = threading.Event(), threading.Event()

    def estimate(self, crops: np.ndarray) -> Estimates:
        self.calls.append(len(crops))
        self.entered.set()
        assert self.go_on.wait(10)
        if (crops == 255).any():
            raise UnfitModelError("broken")
        ages = np.zeros((len(crops), 101), np.float32)
        ages[np.arange(len(crops)), crops[:, 0, 0, 0] % 101] = 1
        return Estimates(ages, crops[:, 0, 0, 0].astype(np.float32) / 255)


def crops_of(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 4, 4, 3), np.uint8)


def job_of(*values: int, image: object = None, finish: Callable[..., object] | None = None) -> Job[object]:
    """A picture with a face for each value; its result is what the estimator says of each."""

    def prepare() -> Prepared:
        return Prepared("", 1, 1, [None] * len(values), crops_of(*values), image)

    return Job(prepare, finish or (lambda _, answers: (answers.female * 255).round().astype(int).tolist()))


@contextmanager
def crew_of(threads: int, estimator: SlowEstimator, most: int, *seen: Callable[[int, int], None]) -> Iterator[Crew]:
    crew = Crew(threads, estimator, most, *seen)
    try:
        yield crew
    finally:
        estimator.go_on.set()
        crew.close()


def hold_up(crew: Crew, estimator: SlowEstimator) -> Future[object]:
    """The one thread judges the first picture until it is let go on, so that others come together."""
    first = crew.submit(job_of(1))
    assert estimator.entered.wait(10)
    return first


def test_faces_of_pictures_that_wait_are_judged_together() -> None:
    estimator, seen = SlowEstimator(), []
    with crew_of(1, estimator, 8, lambda pictures, faces: seen.append((pictures, faces))) as crew:
        first = hold_up(crew, estimator)
        faces = [list(range(10 * n, 10 * n + n)) for n in range(6)]
        futures = [crew.submit(job_of(*values)) for values in faces]
        estimator.go_on.set()
        assert [future.result(10) for future in (first, *futures)] == [[1], *faces]
    assert estimator.calls == [1, 6, 4, 5]
    assert seen == [(1, 1), (3, 6), (1, 4), (1, 5)]


def test_nobody_waits_longer_than_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agelens.server.crew.LINGER", 0.0)
    estimator = SlowEstimator()
    with crew_of(1, estimator, 8) as crew:
        hold_up(crew, estimator)
        futures = [crew.submit(job_of(number)) for number in (2, 3, 4)]
        estimator.go_on.set()
        assert [future.result(10) for future in futures] == [[2], [3], [4]]
    assert estimator.calls == [1, 1, 1, 1]


def test_a_picture_that_comes_alone_waits_for_nobody() -> None:
    estimator = SlowEstimator()
    estimator.go_on.set()
    begun, go_on = threading.Event(), threading.Event()

    def prepare() -> Prepared:
        begun.set()
        assert go_on.wait(10)
        return Prepared("", 1, 1, [], crops_of())

    with crew_of(2, estimator, 8) as crew:
        slow = crew.submit(Job(prepare, lambda _prepared, _answers: "slow"))
        assert begun.wait(10)
        assert crew.submit(job_of(7)).result(10) == [7]
        assert not slow.done()
        go_on.set()
        assert slow.result(10) == "slow"


def test_a_kept_picture_is_done_before_the_next_is_begun() -> None:
    estimator, done = SlowEstimator(), []
    with crew_of(1, estimator, 100) as crew:
        hold_up(crew, estimator)
        futures = [
            crew.submit(
                job_of(number, image=image, finish=lambda prepared, _: done.append(int(prepared.crops[0, 0, 0, 0])))
            )
            for number, image in ((2, None), (3, "kept"), (4, "kept"), (5, None))
        ]
        estimator.go_on.set()
        wait(futures, 10)
    assert estimator.calls == [1, 2, 1, 1]
    assert sorted(done[:2]) == [2, 3]
    assert done[2:] == [4, 5]


def test_a_model_that_fails_is_told_to_all_who_wait() -> None:
    estimator = SlowEstimator()
    with crew_of(1, estimator, 100) as crew:
        hold_up(crew, estimator)
        futures = [crew.submit(job_of(number)) for number in (2, 255, 3)]
        estimator.go_on.set()
        assert [type(future.exception(10)) for future in futures] == [UnfitModelError] * 3
        assert crew.submit(job_of(7)).result(10) == [7]


def test_what_goes_wrong_with_one_picture_is_told_to_that_one() -> None:
    def fail(*_: object) -> Prepared:
        raise UsageError("no")

    estimator = SlowEstimator()
    with crew_of(1, estimator, 100) as crew:
        hold_up(crew, estimator)
        jobs = [job_of(2), job_of(3, finish=fail), Job(fail, fail), job_of(4)]
        futures = [crew.submit(job) for job in jobs]
        estimator.go_on.set()
        assert [type(future.exception(10)) for future in futures] == [type(None), UsageError, UsageError, type(None)]
        assert [futures[0].result(), futures[3].result()] == [[2], [4]]


def test_what_is_given_up_is_never_begun() -> None:
    estimator, begun = SlowEstimator(), []
    with crew_of(1, estimator, 100) as crew:
        first = hold_up(crew, estimator)
        jobs = [Job(lambda number=number: begun.append(number), lambda *_: None) for number in (1, 2)]
        futures = [crew.submit(job) for job in jobs]
        assert futures[0].cancel()
        ending = threading.Thread(target=crew.close)
        ending.start()
        while not futures[1].cancelled():
            assert ending.is_alive()
        estimator.go_on.set()
        ending.join(10)
        assert first.result(10) == [1]
    assert begun == []
    assert all(future.cancelled() for future in futures)


def test_what_is_given_up_takes_no_memory_while_all_are_busy() -> None:
    estimator = SlowEstimator()
    with crew_of(1, estimator, 100) as crew:
        hold_up(crew, estimator)

        def start(number: int) -> tuple[weakref.ref[object], Future[object]]:
            def prepare() -> Prepared:
                return Prepared("", 1, 1, [None], crops_of(number))

            return weakref.ref(prepare), crew.submit(Job(prepare, lambda _, answers: len(answers.female)))

        gc.disable()  # bytes of pictures are to go at once
        try:
            (given_up, future), (done, other) = start(2), start(3)
            assert future.cancel()
            assert given_up() is None
            estimator.go_on.set()
            assert other.result(10) == 1
            assert crew.submit(job_of(7)).result(10) == [7]  # by which the one thread has let go of the other
            assert done() is None
        finally:
            gc.enable()


def test_a_closed_crew_leaves_nobody_waiting() -> None:
    crew = Crew(1, SlowEstimator(), 8)
    crew.close()
    assert crew.submit(job_of(1)).cancelled()


def test_a_thread_outlives_whatever_is_raised() -> None:
    def fail(*_: object) -> Prepared:
        raise SystemExit

    estimator = SlowEstimator()
    estimator.go_on.set()
    with crew_of(1, estimator, 8) as crew:
        assert isinstance(crew.submit(Job(fail, fail)).exception(10), SystemExit)
        assert isinstance(crew.submit(job_of(1, finish=fail)).exception(10), SystemExit)
        assert crew.submit(job_of(7)).result(10) == [7]


# --- counters ------------------------------------------------------------------------------------------------------


def test_counts_of_all_processes_are_added_and_outlive_them() -> None:
    board = Board.shared(2)
    first, second = Metrics(board, 0), Metrics(board, 1)
    first.count_request("/v1/predict", 200, 0.03)
    second.count_request("/v1/predict", 200, 99.0)
    second.set("agelens_ready", 1.0)
    first.count_batch(2, 9)
    text = first.write('na"me\\', "cpu")
    assert 'agelens_requests_total{path="/v1/predict",status="200"} 2' in text
    assert 'agelens_request_seconds_bucket{path="/v1/predict",le="0.05"} 1' in text
    assert 'agelens_request_seconds_bucket{path="/v1/predict",le="30"} 1' in text
    assert 'agelens_request_seconds_bucket{path="/v1/predict",le="+Inf"} 2' in text
    assert 'agelens_batch_faces_bucket{le="16"} 1' in text
    assert "agelens_ready 1" in text
    assert 'model="na\\"me\\\\"' in text
    third = Metrics(board, 1)
    assert "agelens_ready 0" in third.write("m", "cpu")
    assert 'agelens_requests_total{path="/v1/predict",status="200"} 2' in third.write("m", "cpu")


def test_the_text_is_of_prometheus_format() -> None:
    metrics = Metrics()
    metrics.count_request("other", 418, 1.0)
    metrics.observe("agelens_batch_faces", BATCHES, 3)
    names = set()
    for line in metrics.write("m", "cpu").splitlines():
        if line.startswith("# TYPE"):
            names.add(line.split()[2])
        elif not line.startswith("#"):
            match = re.fullmatch(r'([a-z_]+)(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+', line)
            assert match, line
            assert re.sub("_(bucket|sum|count)$", "", match.group(1)) in names
    assert 'status="400"} 1' in metrics.write("m", "cpu")


# --- connections ---------------------------------------------------------------------------------------------------


async def tell_headers(scope: Scope, receive: Receive, send: Send) -> None:
    """An application: the names of the headers that it sees once the body has come; /early doesn't wait for it."""
    while scope["path"] != "/early" and (await receive()).get("more_body"):
        pass
    names = b" ".join(name for name, _ in scope["headers"])
    await Response(names)(scope, receive, send)


def talk(*sent: bytes, quiet: float = 0.3) -> bytes:
    """What a connection says to bytes, sent one after the other, until it closes or is quiet for so many seconds."""

    async def run() -> bytes:
        config = uvicorn.Config(tell_headers, lifespan="off", log_config=None)
        config.load()
        make = partial(Connection, config, ServerState(), {})
        listening = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        came = bytearray()
        with suppress(TimeoutError, ConnectionError):
            for data in sent:
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0.05)
            while block := await asyncio.wait_for(reader.read(1 << 16), quiet):
                came += block
            came += b"closed"
        writer.transport.abort()
        listening.close()
        await asyncio.sleep(0.05)
        return bytes(came)

    return asyncio.run(run())


def head_of(size: int, start: bytes = b"GET / HTTP/1.1\r\n") -> bytes:
    rest = size - len(start) - len(b"X: \r\n\r\n")
    return start + b"X: " + b"y" * rest + b"\r\n\r\n"


def test_a_head_may_be_large_and_not_larger() -> None:
    whole = head_of(HEAD_BYTES)
    assert talk(whole).endswith(b"\r\n\r\nx")
    assert talk(whole[:-5], whole[-5:]).endswith(b"\r\n\r\nx")
    assert talk(whole, whole).count(b"HTTP/1.1 200 ") == 2  # each for itself
    many = b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (HEAD_BYTES // 6)
    for large in (head_of(HEAD_BYTES + 1), many, b"GET /" + b"y" * HEAD_BYTES, b"\r\n" * (HEAD_BYTES // 2 + 1)):
        answer = talk(large)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"\r\ncontent-type: application/problem+json\r\n" in answer
        assert b'"code": "head_too_large"' in answer
        assert answer.endswith(b"closed")


CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_what_comes_behind_a_body_is_no_header_and_bounded() -> None:
    assert talk(CHUNKED + b"0\r\nX-Late: y\r\n\r\n").endswith(b"\r\n\r\ntransfer-encoding")
    assert talk(CHUNKED + b"0\r\n", b"X: y\r\n" * 30_000).startswith(b"HTTP/1.1 431 ")
    assert talk(CHUNKED + b"1;", b"x" * 2 * HEAD_BYTES).startswith(b"HTTP/1.1 431 ")
    body = b"".join(b"2000\r\n" + bytes(0x2000) + b"\r\n" for _ in range(40))
    assert talk(CHUNKED + body + b"0\r\n\r\n").endswith(b"\r\n\r\ntransfer-encoding")


def test_what_comes_after_its_answer_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    early = CHUNKED.replace(b"/", b"/early", 1)
    monkeypatch.setattr("agelens.server.listening.KEEP_ALIVE", 0.2)
    drops = [b"1\r\nx\r\n"] * 10
    assert talk(early, *drops) == b""  # cut off while it sends
    assert talk(early, *drops[:1], b"0\r\n\r\n", early + b"0\r\n\r\n", quiet=0.5).count(b"HTTP/1.1 200 ") == 2


# --- who may ask ---------------------------------------------------------------------------------------------------


def status_of(name: str, **settings: object) -> int:
    """What a server answers to whoever calls it by a name."""
    answered: list[int] = []

    async def send(message: Message) -> None:
        answered.append(message.get("status", 0))

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    parts = {"admission": Admission(1, 1), "metrics": Metrics(), "settings": ServerSettings(quiet=True, **settings)}
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", name.encode())]}
    asyncio.run(Guard(Response("hello"), SimpleNamespace(**parts))(scope, receive, send))
    return answered[0]


@pytest.mark.parametrize(
    ("settings", "printed"),
    [
        ({"host": "127.0.0.1"}, "127.0.0.1"),
        ({"host": "127.0.0.2"}, "127.0.0.2"),
        ({"host": "localhost"}, "localhost"),
        ({"host": "::1"}, "[::1]"),
        ({"host": "0:0:0:0:0:0:0:1"}, "[0:0:0:0:0:0:0:1]"),
        ({"host": "Faces.example", "hosts": ("other.example",)}, "Faces.example"),
        ({"host": "fe80::1%eth0", "hosts": ("other.example",)}, "[fe80::1]"),
    ],
)
def test_a_server_answers_to_the_address_that_it_prints(settings: dict[str, object], printed: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = describe_address(ServerSettings(**settings), listening)
        assert address == f"http://{printed}:{listening.getsockname()[1]}"
    assert status_of(address.removeprefix("http://"), **settings) == 200
    assert status_of(printed, **settings) == 200
    assert status_of("evil.example", **settings) == 421


# --- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 0},
        {"threads": 0},
        {"queue": 8},
        {"max_held": 5},
        {"time_limit": 0.0},
        {"time_limit": float("nan")},
        {"port": 70_000},
        {"api_key": "short"},
        {"workers": 1000},
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ServerSettings(**changes)


def test_which_addresses_are_local() -> None:
    local = {host: ServerSettings(host=host).is_local for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")}
    assert all(local.values())
    assert not any(ServerSettings(host=host).is_local for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"))
    assert "secret" not in repr(ServerSettings(api_key="secret-secret"))


# --- the end -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such filters")
def test_who_stands_in_line_is_still_accepted_and_nobody_new_gets_in() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        with socket.create_connection(address) as early, socket.socket() as late:
            early.sendall(b"hello")
            refuse_newcomers(listening)
            late.settimeout(0.3)
            with pytest.raises(TimeoutError):
                late.connect(address)
            accepted, _ = listening.accept()
            with accepted:
                early.sendall(b" again")
                accepted.settimeout(5)
                while len(data := accepted.recv(100, socket.MSG_PEEK)) < 11:
                    pass
                assert data == b"hello again"


# --- fetching ------------------------------------------------------------------------------------------------------

PRIVATE = (
    *("127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
    *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::10.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:a00:1::1"),
    "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo of 127.0.0.1
)
PUBLIC = ("8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_none_of_the_web(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_the_addresses_of_this_machine_are_its_own(address: str) -> None:
    assert is_own(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_the_addresses_of_others_are_elsewhere(address: str) -> None:
    assert not is_own(ipaddress.ip_address(address))
    assert is_elsewhere(ipaddress.ip_address(address))


def test_what_this_machine_listens_at_is_not_fetched_though_it_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agelens.server.fetch.is_public", lambda _: True)
    with web() as port:
        for host in ("127.0.0.1", "[::ffff:127.0.0.1]"):
            with pytest.raises(UrlNotAllowedError, match="this server"):
                fetch(Fetcher(1000, timeout=5), f"http://{host}:{port}/a.jpg")
        assert Web.seen == ()


def fetch(fetcher: Fetcher, url: str) -> bytes:
    return asyncio.run(fetcher.fetch(url))


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://localhost/x.jpg", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://0/"),
        *("http://2130706433/", "http://0x7f.1/", "http://127.1:22/", "http://169.254.169.254/latest/meta-data/"),
        *("file:///etc/passwd", "ftp://example.org/", "gopher://127.0.0.1/", "data:,x", "//127.0.0.1/", "x.jpg", ""),
        *("http://user:pw@93.184.216.34/", "http:///x", "http://[fe80::1%25eth0]/"),
    ],
)
def test_what_leads_inside_is_refused(url: str) -> None:
    with pytest.raises((UrlNotAllowedError, UrlFetchError)) as caught:
        fetch(Fetcher(1000, timeout=5), url)
    # Some systems don't read 0x7f.1 as an address at all; nobody is ever connected to.
    assert isinstance(caught.value, UrlNotAllowedError) or "gaierror" in caught.value.message


class Web(BaseHTTPRequestHandler):
    """Answers by path."""

    seen: Sequence[tuple[str, str]] = ()

    def do_GET(self) -> None:
        type(self).seen = [*self.seen, (self.path, self.headers["Host"])]
        kind, _, rest = self.path.lstrip("/").partition("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
        elif kind == "slow":
            self.send_response(200)
            self.end_headers()
            threading.Event().wait(3)
        elif kind == "big":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bytes(200_000))
        elif kind == "missing":
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"picture")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web() -> Iterator[int]:
    Web.seen = ()
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def is_here(address: object) -> bool:
    return str(address) == "127.0.0.1"


def fetcher_of(names: dict[str, Sequence[str]], **changes: object) -> Fetcher:
    """Names stand for what is given; this machine counts as public, and 10.0.0.1 as private."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        if host not in names:
            raise socket.gaierror("no such name")
        return names[host]

    return Fetcher(100_000, resolve=resolve, is_allowed=is_here, **changes)


def test_a_picture_is_fetched_from_the_address_that_was_checked() -> None:
    with web() as port:
        fetcher = fetcher_of({"pictures.example": ["127.0.0.1"]})
        assert fetch(fetcher, f"http://pictures.example:{port}/a b.jpg?x=ü y") == b"picture"
        assert Web.seen == [("/a%20b.jpg?x=%C3%BC%20y", f"pictures.example:{port}")]
        assert fetch(fetcher, f"http://pictures.example:{port}/to//other.jpg") == b"picture"


def test_a_name_is_refused_if_any_of_its_addresses_is_private() -> None:
    with web() as port:
        mixed = fetcher_of({"mixed.example": ["127.0.0.1", "10.0.0.1"]})
        with pytest.raises(UrlNotAllowedError):
            fetch(mixed, f"http://mixed.example:{port}/")
        assert Web.seen == ()


def test_each_redirect_is_checked_again() -> None:
    with web() as port:
        names = {"a.example": ["127.0.0.1"], "inside.example": ["10.0.0.1"]}
        for target in (f"http://inside.example:{port}/", "file:///etc/passwd", "http://u:p@a.example/"):
            with pytest.raises(UrlNotAllowedError):
                fetch(fetcher_of(names), f"http://a.example:{port}/to/{target}")
        loop = f"http://a.example:{port}/to/" * 8
        with pytest.raises(UrlFetchError, match="more than 4 times"):
            fetch(fetcher_of(names), loop + "x")
        assert all(host == f"a.example:{port}" for _, host in Web.seen)


def test_addresses_that_cannot_be_read_are_told_of() -> None:
    with web() as port:
        names = {"a.example": ["127.0.0.1"]}
        for target in ("http://[oops/", "//[::1", "http://a.example:port/"):
            with pytest.raises((UrlFetchError, UrlNotAllowedError)):
                fetch(fetcher_of(names), f"http://a.example:{port}/to/{target}")
    for url in ("http://a\0b.example/", f"http://{'a' * 64}.example/", "http://a..b/"):
        with pytest.raises((UrlFetchError, UrlNotAllowedError)):
            fetch(Fetcher(1000, timeout=5), url)


def test_a_name_that_changes_its_meaning_is_asked_once_for_each_connection() -> None:
    asked = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    with web() as port:
        fetcher = Fetcher(1000, resolve=resolve, is_allowed=is_here)
        assert fetch(fetcher, f"http://rebinding.example:{port}/") == b"picture"
        assert asked == ["rebinding.example"]


def test_fetching_is_bounded() -> None:
    with web() as port:
        names = {"a.example": ["127.0.0.1"]}
        with pytest.raises(TooManyBytesError):
            fetch(fetcher_of(names), f"http://a.example:{port}/big")
        with pytest.raises(UrlFetchError, match="within"):
            fetch(fetcher_of(names, timeout=0.5), f"http://a.example:{port}/slow")
        with pytest.raises(UrlFetchError, match="status 404"):
            fetch(fetcher_of(names), f"http://a.example:{port}/missing")
        with pytest.raises(UrlFetchError, match="gaierror"):
            fetch(fetcher_of(names), "http://nobody.example/")


def test_addresses_are_split_as_they_are_connected_to() -> None:
    parts, host, port = split_address("https://Bücher.example/a")
    assert (parts.netloc, host, port) == ("xn--bcher-kva.example", "xn--bcher-kva.example", 443)
    parts, host, port = split_address("http://[2606:4700::1]:8080/a")
    assert (parts.netloc, host, port) == ("[2606:4700::1]:8080", "2606:4700::1", 8080)
