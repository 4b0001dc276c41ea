"""What nobody should send: mutated uploads, and whatever schemathesis makes of the API's description. Never a 5xx."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from command import EXAMPLE
from pictures import encode, every_kind, face_like
from serving import BOUNDARY, Server, form, raw, serving


@pytest.fixture(scope="module")
def server(stand_in: Path) -> Iterator[Server]:
    with serving("--model", stand_in, "--quiet", "--max-pixels", "4000000", "--queue", "64") as running:
        yield running


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Flips, cuts, doubles, swaps and inserts."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        position = rng.randrange(len(changed) or 1)
        length = rng.choice((1, 2, 4, 64, 1024))
        kind = rng.randrange(6)
        if kind == 0 and changed:
            changed[position : position + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del changed[position : position + length]
        elif kind == 2:
            changed[position:position] = rng.randbytes(length)
        elif kind == 3:
            changed[position : position + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0"))
        elif kind == 4:
            del changed[position:]
        else:
            changed[position:position] = changed[: rng.randrange(2000)]
    return bytes(changed)


def mutated_uploads(count: int) -> Iterator[tuple[str, bytes, str]]:
    """Path, body and content type."""
    rng = random.Random(7)
    seeds = [*every_kind().values(), EXAMPLE.read_bytes(), encode(face_like(300, 300), "JPEG", progressive=True)]
    multipart = f"multipart/form-data; boundary={BOUNDARY}"
    for number in range(count):
        data = rng.choice(seeds)
        path = "/v1/annotate" if number % 5 == 0 else "/v1/predict"
        if number % 3 == 0:
            whole = form([("a.jpg", data), ("b.png", rng.choice(seeds))][: 1 if number % 5 == 0 else 2])
            yield path, mutate(whole, rng), multipart
        elif number % 3 == 1:
            yield path, form([("a.jpg", mutate(data, rng))]), multipart
        else:
            yield path, mutate(data, rng), rng.choice(("image/jpeg", "application/octet-stream", "text/plain", ""))


def upload(server: Server, count: int) -> Counter[int]:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda sent: server.post(sent[1], sent[0], sent[2]), mutated_uploads(count)))
    for answer in answers:
        if answer.status != 200:
            assert answer.code
    assert server.process.poll() is None
    assert server.get("/healthz").status == 200
    assert server.metric("agelens_queue_pictures") == 0
    return Counter(answer.status for answer in answers)


def test_mutated_uploads_are_answered(server: Server) -> None:
    statuses = upload(server, 300)
    assert set(statuses) <= {200, 400, 413, 415, 422}
    assert statuses[200] >= 30
    assert statuses[422] >= 30


@pytest.mark.slow
def test_many_mutated_uploads_are_answered(server: Server) -> None:
    assert set(upload(server, 5000)) <= {200, 400, 413, 415, 422}


def test_what_is_no_http_is_refused(server: Server) -> None:
    for data in (
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET /v1/models?x=%ff HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n\r\n",
        b"POST /v1/predict?task=%ff&groups=%00 HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n",
    ):
        answer = raw(server.port, data)
        assert re.match(rb"HTTP/1\.1 4\d\d ", answer), (data, answer)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\ncontent-type: application/problem+json\r\n" in head, (data, answer)
        assert f'"status": {answer[9:12].decode()},'.encode() in body
    assert server.get("/healthz").status == 200


def run_schemathesis(server: Server, folder: Path, examples: int) -> str:
    if find_spec("schemathesis") is None:
        pytest.skip("needs schemathesis: pip install schemathesis")
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip(f"needs the program schemathesis beside {sys.executable}")
    done = subprocess.run(
        [
            *(program, "run", f"http://127.0.0.1:{server.port}/openapi.json"),
            *("--max-examples", str(examples), "--seed", "1", "--no-color", "--phases", "examples,coverage,fuzzing"),
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--suppress-health-check", "all"),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=1500,
    )
    shutil.rmtree(folder / ".hypothesis", ignore_errors=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    run_schemathesis(server, tmp_path, 20)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_schemathesis_finds_nothing_in_two_thousand_cases(server: Server, tmp_path: Path) -> None:
    said = run_schemathesis(server, tmp_path, 1000)
    cases = max(int(number.replace(",", "")) for number in re.findall(r"([\d,]+) generated", said))
    assert cases >= 2000
