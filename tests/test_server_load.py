"""The server under load, and how it starts and ends: real processes, many clients, signals."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from command import EXAMPLE, run, start
from faces import portrait, shrunk_face
from pictures import encode
from serving import Server, raw, serving

PORTRAIT = EXAMPLE.read_bytes()


def make_pictures(count: int) -> list[bytes]:
    """Different pictures with one to four faces."""
    rng = np.random.default_rng(3)
    pictures = []
    for number in range(count):
        canvas = Image.fromarray(portrait()).resize((700, 500))
        for _ in range(number % 4):
            face = Image.fromarray(shrunk_face(int(rng.integers(40, 90))))
            canvas.paste(face, (int(rng.integers(0, 500)), int(rng.integers(0, 300))))
        pictures.append(encode(canvas, "JPEG", quality=int(rng.integers(60, 95))))
    return pictures


@pytest.fixture(scope="module")
def server(stand_in: Path) -> Iterator[Server]:
    with serving("--model", stand_in, "--quiet", "--threads", "2") as running:
        yield running


def test_parallel_answers_are_the_serial_ones(server: Server) -> None:
    pictures = make_pictures(24)
    serial = [server.post(data).body for data in pictures]
    assert len(set(serial)) >= 20  # so that a mixed-up answer shows
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(server.post, pictures * 4))
    assert [answer.body for answer in answers] == serial * 4
    assert server.metric("agelens_queue_pictures") == 0
    assert server.metric("agelens_batch_faces_sum") >= 5 * 24


def test_requests_of_different_options_do_not_mix(server: Server) -> None:
    paths = [
        "/v1/predict?task=age&groups=decades",
        "/v1/predict?task=gender&gender_threshold=0.9",
        "/v1/predict?min_score=0.4",
        "/v1/predict?max_faces=1&groups=0-17,18%2B",
        "/v1/predict?min_face=60",
        "/v1/annotate?format=webp",
    ]
    (picture,) = make_pictures(4)[3:]
    serial = [server.post(picture, path).body for path in paths]
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda path: server.post(picture, path).body, paths * 6))
    assert answers == serial * 6


def test_the_surplus_is_told_to_come_again(stand_in: Path) -> None:
    with serving("--model", stand_in, "--quiet", "--threads", "1", "--queue", "4", "--max-files", "4") as small:
        expected = small.post(PORTRAIT).body
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda _: small.post(PORTRAIT), range(120)))
        statuses = Counter(answer.status for answer in answers)
        assert set(statuses) == {200, 429}
        for answer in answers:
            if answer.status == 429:
                assert answer.code == "overloaded"
                assert int(answer.headers["retry-after"]) >= 1
            else:
                assert answer.body == expected
        assert small.post(PORTRAIT).status == 200
        assert small.metric("agelens_queue_pictures") == 0
        assert small.metric('agelens_requests_total{path="/v1/predict",status="429"}') == statuses[429]


def post_head(length: int, path: str = "/v1/predict") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n".encode()


def test_bytes_are_bounded_too(stand_in: Path) -> None:
    limits = ("--max-held", "1000000", "--max-body", "1000000", "--max-bytes", "1000000")
    with serving("--model", stand_in, "--quiet", *limits) as small:
        with socket.create_connection(("127.0.0.1", small.port)) as idle:
            idle.sendall(post_head(900_001) + bytes(900_000))
            deadline = time.monotonic() + 10
            while small.metric("agelens_queue_bytes") < 900_000:
                assert time.monotonic() < deadline
            assert raw(small.port, post_head(200_000)).startswith(b"HTTP/1.1 429 ")  # before any of it comes
            chunked = post_head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
            assert raw(small.port, chunked + b"30d40\r\n" + bytes(200_000)).startswith(b"HTTP/1.1 429 ")
        while small.metric("agelens_queue_bytes") > 0:
            assert time.monotonic() < deadline
        assert small.post(PORTRAIT).status == 200


def test_bytes_that_never_come_take_no_room(stand_in: Path) -> None:
    limits = ("--max-held", "1000000", "--max-body", "900000")
    with serving("--model", stand_in, "--quiet", *limits) as small, ExitStack() as idle:
        for _ in range(4):
            connection = idle.enter_context(socket.create_connection(("127.0.0.1", small.port)))
            connection.sendall(post_head(900_000) + bytes(10))
        deadline = time.monotonic() + 10
        while small.metric("agelens_queue_pictures") < 4 or small.metric("agelens_queue_bytes") < 40:
            assert time.monotonic() < deadline
        assert small.metric("agelens_queue_bytes") == 40
        assert small.post(PORTRAIT).status == 200


def test_a_body_beside_a_web_address_holds_no_place(stand_in: Path) -> None:
    path = "/v1/predict?url=http://93.184.216.34/x.jpg"
    with serving("--model", stand_in, "--quiet", "--allow-url", "--upload-limit", "0.5") as fetching:
        assert raw(fetching.port, post_head(5, path)).startswith(b"HTTP/1.1 400 ")
        chunked = post_head(0, path).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        assert raw(fetching.port, chunked).startswith(b"HTTP/1.1 408 ")
        assert fetching.metric("agelens_queue_pictures") == 0


def test_who_goes_away_makes_room(stand_in: Path) -> None:
    with serving("--model", stand_in, "--quiet", "--threads", "1") as running:
        request = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(PORTRAIT)
        for _ in range(3):
            connections = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(30)]
            for connection in connections:
                connection.sendall(request + PORTRAIT)
            for connection in connections:
                connection.close()
        deadline = time.monotonic() + 20
        while running.metric("agelens_queue_pictures") > 0:
            assert time.monotonic() < deadline
        assert running.post(PORTRAIT).status == 200
        assert running.metric('agelens_requests_total{path="/v1/predict",status="499"}') > 0
        assert running.metric('agelens_requests_total{path="/v1/predict",status="500"}') == 0
    assert not any("Traceback" in line for line in running.lines)


def test_time_limits(stand_in: Path) -> None:
    large = encode(Image.fromarray(portrait()).resize((4000, 4000)), "PNG", compress_level=1)
    limits = ("--upload-limit", "0.5", "--time-limit", "0.05", "--max-bytes", "64000000", "--max-body", "64000000")
    with serving("--model", stand_in, "--quiet", *limits) as hasty:
        answer = hasty.post(large)
        assert (answer.status, answer.code) == (503, "time_limit")
        assert int(answer.headers["retry-after"]) >= 1
        head = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n\r\nslow"
        assert raw(hasty.port, head).startswith(b"HTTP/1.1 408 ")
        deadline = time.monotonic() + 20
        while hasty.metric("agelens_queue_pictures") > 0:
            assert time.monotonic() < deadline


# --- the end -------------------------------------------------------------------------------------------------------


class Client(threading.Thread):
    """Sends one picture after another over kept-open connections until the server goes away."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.bodies: list[bytes] = []
        self.unanswered = 0

    def run(self) -> None:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                connection.connect()
            except OSError:
                return
            stays = True
            while stays:
                try:
                    connection.request("POST", "/v1/predict", PORTRAIT)
                    answer = connection.getresponse()
                    assert answer.status == 200
                    self.bodies.append(answer.read())
                    stays = answer.getheader("connection") != "close"
                except (OSError, http.client.HTTPException):
                    self.unanswered += 1
                    return
            connection.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_accepted_before_the_end_is_answered(stand_in: Path, workers: int) -> None:
    with serving("--model", stand_in, "--quiet", "--threads", "1", "--workers", str(workers)) as running:
        expected = running.post(PORTRAIT).body
        clients = [Client(running.port) for _ in range(16)]
        for client in clients:
            client.start()
        time.sleep(1)
        running.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(60)
            assert not client.is_alive()
        assert running.process.wait(60) == 0
    assert sum(client.unanswered for client in clients) == 0
    assert all(len(client.bodies) >= 1 for client in clients)
    assert {body for client in clients for body in client.bodies} == {expected}


def test_who_takes_longer_than_the_server_has_is_told(stand_in: Path) -> None:
    tile = portrait()
    mosaic = Image.fromarray(np.tile(tile, (6900 // tile.shape[0], 6900 // tile.shape[1], 1)))
    large = encode(mosaic, "JPEG", quality=60)
    answers = []
    with serving("--model", stand_in, "--quiet", "--threads", "1", "--drain-limit", "0.5") as running:
        path = "/v1/predict?min_face=8"
        client = threading.Thread(target=lambda: answers.append(running.post(large, path)))
        client.start()
        deadline = time.monotonic() + 20
        while running.metric("agelens_queue_bytes") < len(large):
            assert time.monotonic() < deadline
        stalled = socket.create_connection(("127.0.0.1", running.port))
        with stalled:
            stalled.sendall(post_head(9) + b"slow")
            while running.metric("agelens_queue_pictures") < 2:
                assert time.monotonic() < deadline
            began = time.monotonic()
            assert running.stop() == 0
            assert time.monotonic() - began < 5
            assert stalled.recv(100).startswith(b"HTTP/1.1 503 ")
        client.join(10)
    assert [(answer.status, answer.code) for answer in answers] == [(503, "stopping")]
    assert int(answers[0].headers["retry-after"]) >= 1
    assert not any("never retrieved" in line or "Exception" in line for line in running.lines)


def test_ctrl_c_ends_it_and_says_nothing(stand_in: Path) -> None:
    with serving("--model", stand_in) as running:
        assert running.stop(signal.SIGINT) == 0
    assert len(running.lines) == 1


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def workers_of(pid: int) -> list[int]:
    """Without the process that Python starts to tidy up after others."""
    return [child for child in children(pid) if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_a_process_that_dies_is_replaced_and_none_outlives_its_parent(stand_in: Path) -> None:
    with serving("--model", stand_in, "--quiet", "--workers", "2", "--threads", "1") as running:
        for _ in range(8):
            assert running.post(PORTRAIT).status == 200
        line = 'agelens_requests_total{path="/v1/predict",status="200"}'
        deadline = time.monotonic() + 60
        while running.metric(line) < 8:  # the other process may count a moment after it answered
            assert time.monotonic() < deadline
        assert running.metric(line) == 8
        assert running.metric("agelens_ready") == 2
        first = workers_of(running.process.pid)
        assert len(first) == 2
        os.kill(first[0], signal.SIGKILL)
        while set(workers_of(running.process.pid)) == set(first) or running.metric("agelens_ready") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert running.post(PORTRAIT).status == 200
        while running.metric(line) < 9:
            assert time.monotonic() < deadline
        second = workers_of(running.process.pid)
        os.kill(next(pid for pid in second if pid in first), signal.SIGTERM)
        while set(workers_of(running.process.pid)) & set(first) or running.metric("agelens_ready") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert running.post(PORTRAIT).status == 200
        last = workers_of(running.process.pid)
        os.kill(running.process.pid, signal.SIGKILL)
        while any(
            Path(f"/proc/{pid}").exists() and b"agelens" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in last
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_a_replacement_that_dies_while_it_loads_is_replaced_too(stand_in: Path) -> None:
    with serving("--model", stand_in, "--quiet", "--workers", "2", "--threads", "1") as running:
        deadline = time.monotonic() + 90
        healthy, dying = workers_of(running.process.pid)
        for _ in range(2):
            os.kill(dying, signal.SIGKILL)
            gone = dying
            while not (others := {*workers_of(running.process.pid)} - {healthy, gone}):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            (dying,) = others
        assert running.post(PORTRAIT).status == 200
        while running.metric("agelens_ready") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert {*workers_of(running.process.pid)} == {healthy, dying}
        assert running.stop() == 0
    assert sum("was killed by signal 9, another takes its place" in line for line in running.lines) == 2


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_a_process_that_is_killed_at_the_first_start_ends_all_and_says_why(stand_in: Path) -> None:
    with start("serve", "--port", "0", "--model", stand_in, "--workers", "2") as process:
        deadline = time.monotonic() + 60
        while len(found := workers_of(process.pid)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(found[0], signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
    assert b"agelens serve: a process was killed by signal 9 before it could serve" in said


def test_what_can_not_start_says_why(stand_in: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(stand_in.read_bytes()[:500])
    for workers in ("1", "2"):
        done = run("serve", "--port", "0", "--model", damaged, "--workers", workers)
        assert done.returncode == 3
        assert "agelens serve: the model" in done.stderr
        assert "Traceback" not in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "--port", port, "--model", stand_in)
        assert done.returncode == 2
        assert f"can't listen on 127.0.0.1 port {port}" in done.stderr
    for wrong, words in (
        (("--queue", "2"), "--max-files"),
        (("--api-key-file", str(tmp_path / "none")), "can't be read"),
        (("--time-limit", "-1"), "--time-limit"),
    ):
        done = run("serve", "--port", "0", *wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


def test_others_are_warned_of_an_open_door(stand_in: Path) -> None:
    with serving("--model", stand_in, "--host", "0.0.0.0") as opened:
        assert any("AGELENS_API_KEY" in line for line in opened.lines)
        assert opened.get("/healthz", {"Host": "any.example"}).status == 200
    with serving("--model", stand_in, "--host", "0.0.0.0", "--allow-host", "faces.example") as named:
        assert named.get("/healthz", {"Host": "any.example"}).status == 421
        assert named.get("/healthz", {"Host": "faces.example:443"}).status == 200


@pytest.mark.slow
def test_a_head_that_never_ends_is_cut_off(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        began = time.monotonic()
        with suppress(ConnectionResetError):
            assert connection.recv(100) == b""
        assert 5 < time.monotonic() - began < 20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_does_not_grow(stand_in: Path) -> None:
    pictures = make_pictures(16)
    with serving("--model", stand_in, "--quiet", "--threads", "2") as running:
        sizes = []
        with ThreadPoolExecutor(8) as pool:
            for _ in range(12):
                assert {answer.status for answer in pool.map(running.post, pictures * 8)} == {200}
                sizes.append(int(Path(f"/proc/{running.process.pid}/statm").read_text().split()[1]) * 4096 / 2**20)
        slope = np.polyfit(np.arange(8), sizes[4:], 1)[0]
        assert slope < 1.0, sizes  # MB for 128 requests; one kept picture each would be more than 100
