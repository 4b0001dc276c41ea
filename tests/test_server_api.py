"""The API over real sockets: the records of the command, the codes of the errors, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from agelens.serialise import COLUMNS
from command import EXAMPLE, ROOT, records, run
from pictures import encode, every_kind, face_like
from serving import BOUNDARY, Answer, Server, form, raw, serving

PORTRAIT = EXAMPLE.read_bytes()


@pytest.fixture(scope="module")
def server(stand_in: Path) -> Iterator[Server]:
    with serving("--model", stand_in, "--max-bytes", "400000", "--max-body", "1000000", "--max-files", "3") as running:
        yield running


def predict_records(stand_in: Path, *arguments: str | Path) -> list[dict[str, object]]:
    done = run("predict", *arguments, "--model", stand_in, "--format", "jsonl", "--quiet")
    return list(records(done.stdout))


# --- records -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"task": "age", "groups": "0-12,13-17,18+"},
        {"task": "gender", "gender-threshold": "0.99"},
        {"groups": "fairface", "min-score": "0.3", "max-faces": "1"},
        {"min-face": "40"},
    ],
    ids=str,
)
def test_records_are_those_of_the_command(
    server: Server, stand_in: Path, tmp_path: Path, options: dict[str, str]
) -> None:
    names = []
    for name, data in {"ü #1.jpg": PORTRAIT, "nobody.webp": encode(face_like(200, 120)[:40], "WEBP")}.items():
        (tmp_path / name).write_bytes(data)
        names.append(name)
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    expected = predict_records(stand_in, *(tmp_path / name for name in names), *flags)
    query = "&".join(f"{name.replace('-', '_')}={value.replace('+', '%2B')}" for name, value in options.items())
    files = [(str(tmp_path / name), (tmp_path / name).read_bytes()) for name in names]
    answer = server.post_form(files, f"/v1/predict?{query}")
    assert answer.status == 200
    assert answer.json() == {"records": expected}


def test_a_raw_body_gives_its_record(server: Server, stand_in: Path) -> None:
    (expected,) = predict_records(stand_in, EXAMPLE)
    assert server.post(PORTRAIT).json() == expected | {"source": "bytes"}
    named = server.post(PORTRAIT, "/v1/predict?source=family.jpg", "image/jpeg")
    assert named.json() == expected | {"source": "family.jpg"}
    # what curl sends by itself
    assert server.post(PORTRAIT, kind="application/x-www-form-urlencoded").json()["faces"] == expected["faces"]


def test_every_format_is_read(server: Server) -> None:
    for name, data in every_kind().items():
        answer = server.post(data)
        assert answer.status == 200, (name, answer)
        assert answer.json()["error"] is None


def test_a_bad_picture_does_not_stop_the_others(server: Server, stand_in: Path, tmp_path: Path) -> None:
    files = {"a.jpg": PORTRAIT, "b.jpg": PORTRAIT[:30_000], "c.jpg": b""}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    expected = predict_records(stand_in, *(tmp_path / name for name in files))
    answer = server.post_form([(str(tmp_path / name), data) for name, data in files.items()])
    assert answer.status == 200
    assert answer.json()["records"] == expected
    assert [record["error"] and record["error"]["code"] for record in expected] == [
        None,
        "truncated_image",
        "empty_file",
    ]


def test_where_no_picture_can_be_read_the_first_decides(server: Server) -> None:
    answer = server.post_form([("a.jpg", PORTRAIT[:30_000]), ("b.txt", b"hello")])
    assert (answer.status, answer.code) == (422, "truncated_image")
    assert [record["error"]["code"] for record in answer.json()["records"]] == ["truncated_image", "unsupported_format"]


def test_the_distribution_comes_on_request_and_keeps_the_schema(server: Server) -> None:
    schema = json.loads((ROOT / "src/agelens/serialise/prediction.schema.json").read_text("utf-8"))
    plain = server.post(PORTRAIT).json()
    asked = server.post(PORTRAIT, "/v1/predict?distribution=true").json()
    distribution = asked["faces"][0].pop("age_distribution")
    assert asked == plain
    assert len(distribution) == 101
    assert sum(distribution) == pytest.approx(1, abs=101 * 5e-6)
    mean = sum(year * share for year, share in enumerate(distribution))
    assert mean == pytest.approx(plain["faces"][0]["age"]["years"], abs=0.1)
    Draft202012Validator(schema).validate(server.post(PORTRAIT, "/v1/predict?distribution=true").json())
    gender = server.post(PORTRAIT, "/v1/predict?distribution=true&task=gender").json()
    assert gender["faces"][0]["age_distribution"] is None


def test_csv_and_json_lines_are_those_of_the_command(server: Server, stand_in: Path, tmp_path: Path) -> None:
    files = []
    for name, data in {"a.jpg": PORTRAIT, "b.jpg": PORTRAIT[:9000]}.items():
        (tmp_path / name).write_bytes(data)
        files.append((str(tmp_path / name), data))
    for kind, media_type in (("csv", "text/csv; charset=utf-8"), ("jsonl", "application/x-ndjson")):
        answer = server.post_form(files, f"/v1/predict?format={kind}")
        done = run(
            *("predict", *(name for name, _ in files), "--model", stand_in, "--format", kind, "--quiet"),
        )
        assert answer.body.decode() == done.stdout
        assert answer.headers["content-type"] == media_type
    rows = list(csv.DictReader(io.StringIO(server.post_form(files, "/v1/predict?format=csv").body.decode())))
    assert list(rows[0]) == list(COLUMNS)


@pytest.mark.parametrize(("kind", "ending"), [("jpeg", ".jpg"), ("png", ".png"), ("webp", ".webp")])
def test_the_annotated_picture_is_that_of_the_command(
    server: Server, stand_in: Path, tmp_path: Path, kind: str, ending: str
) -> None:
    out = tmp_path / f"out{ending}"
    assert run("predict", EXAMPLE, "--model", stand_in, "-o", out, "--quiet").returncode == 0
    answer = server.post(PORTRAIT, f"/v1/annotate?format={kind}")
    assert answer.headers["content-type"] == f"image/{kind}"
    assert answer.body == out.read_bytes()


def test_names_come_back_as_they_were_sent(server: Server) -> None:
    names = ["ü .jpg", 'a"b.jpg', "=1+1.jpg", "\udcff.jpg"]
    small = encode(face_like(64, 64), "PNG")
    for name in names:
        (record,) = server.post_form([(name, small)]).json()["records"]
        assert record["source"] == name


# --- refusals ------------------------------------------------------------------------------------------------------


def huge_png() -> bytes:
    """The header of a picture that would fill the memory."""
    data = bytearray(encode(face_like(16, 16), "PNG"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def test_limits_hold_before_anything_is_decoded(server: Server) -> None:
    cases: list[tuple[Answer, int, str]] = [
        (server.post(b""), 400, "empty_file"),
        (server.post(b"hello world"), 415, "unsupported_format"),
        (server.post(b"%PDF-1.7 ..."), 415, "unsupported_format"),
        (server.post(b'{"img_path": "/etc/passwd"}', kind="application/json"), 415, "unsupported_format"),
        (server.post(PORTRAIT + bytes(400_000)), 413, "too_many_bytes"),
        (server.post(bytes(1_000_001)), 413, "body_too_large"),
        (server.post(huge_png()), 413, "too_many_pixels"),
        (server.post(encode(face_like(64, 64)[:4], "PNG")), 422, "image_too_small"),
        (server.post(PORTRAIT[:20_000]), 422, "truncated_image"),
        (server.post_form([(f"{n}.jpg", b"x") for n in range(4)]), 413, "too_many_files"),
        (server.post_form([]), 422, "nothing_to_read"),
        (server.post_form([("", b"")]), 422, "nothing_to_read"),
        (server.post(b"x", kind="multipart/form-data"), 400, "bad_request"),
        (server.post(b"x", kind=f"multipart/form-data; boundary={BOUNDARY}"), 400, "bad_request"),
        (server.post(b"x", kind="multipart/mixed; boundary=b"), 415, "unsupported_format"),
        (server.post(b"", "/v1/predict?url=http://127.0.0.1/"), 403, "url_not_allowed"),
        (server.post_form([("a", PORTRAIT), ("b", PORTRAIT)], "/v1/annotate"), 413, "too_many_files"),
        (server.post(PORTRAIT[:20_000], "/v1/annotate"), 422, "truncated_image"),
    ]
    for number, (answer, status, code) in enumerate(cases):
        assert (number, answer.status, answer.code) == (number, status, code)


def test_a_stated_length_is_refused_before_the_body_comes(server: Server) -> None:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n"
    assert raw(server.port, head).startswith(b"HTTP/1.1 413 ")
    chunked = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(server.port, chunked + b"200000\r\n" + bytes(0x200000) + b"\r\n0\r\n\r\n").startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("gender_treshold=0.9", "did you mean 'gender_threshold'?"),
        ("gender_threshold=0.2", "gender_threshold"),
        ("gender_threshold=nan", "gender_threshold"),
        ("task=agee", "task"),
        ("groups=5-3", "age groups begin at 0"),
        ("min_face=1", "min_face"),
        ("max_faces=0", "max_faces"),
        ("format=xml", "format"),
        ("format=csv&distribution=true", "distribution"),
    ],
)
def test_options_are_checked(server: Server, query: str, words: str) -> None:
    answer = server.post(PORTRAIT, f"/v1/predict?{query}")
    assert (answer.status, answer.code) == (422, "usage")
    assert words in answer.json()["detail"]


def test_a_field_that_is_no_file_is_refused(server: Server) -> None:
    body = form([("a.jpg", PORTRAIT)]).replace(b'name="file"; filename="a.jpg"', b'name="task"')
    answer = server.post(body, kind=f"multipart/form-data; boundary={BOUNDARY}")
    assert (answer.status, answer.code) == (400, "bad_request")


def test_paths_and_methods(server: Server) -> None:
    assert (server.get("/nothing").status, server.get("/nothing").code) == (404, "unknown_path")
    assert (server.get("/v1/predict").status, server.get("/v1/predict").code) == (405, "wrong_method")
    assert "POST" in server.get("/v1/predict").headers["allow"]
    for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/openapi.json", "/", "/page/main.js"):
        answer = server.send("HEAD", path)
        assert (path, answer.status, answer.body) == (path, 200, b"")
        assert answer.headers["content-type"] == server.get(path).headers["content-type"]
    assert server.send("HEAD", "/v1/predict").status == 405
    for path in ("/v1/predict/", "/healthz/"):
        assert (server.post(PORTRAIT, path).status, server.post(PORTRAIT, path).code) == (404, "unknown_path")
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/docs", "/redoc"):
        assert server.get(path).status == 404


def test_addresses_are_fetched_only_with_leave_and_never_inside(stand_in: Path) -> None:
    with serving("--model", stand_in, "--allow-url") as fetching:
        for url in (f"http://127.0.0.1:{fetching.port}/page/example.jpg", "http://[::1]/x", "file:///etc/passwd"):
            answer = fetching.post(b"", f"/v1/predict?url={url}")
            assert (answer.status, answer.code) == (403, "url_not_allowed")
        both = fetching.post(PORTRAIT, "/v1/predict?url=http://93.184.216.34/x.jpg")
        assert (both.status, both.code) == (400, "bad_request")
        assert fetching.get("/v1/models").json()["allow_url"] is True
    assert not any("GET /page/" in line for line in fetching.lines)


# --- who may ask ---------------------------------------------------------------------------------------------------


def test_only_local_names_and_no_other_sites(server: Server) -> None:
    assert server.get("/healthz", {"Host": "evil.example"}).code == "wrong_host"
    for host in ("localhost", f"127.0.0.1:{server.port}", "[::1]:80"):
        assert server.get("/healthz", {"Host": host}).status == 200
    crossing = server.send("POST", "/v1/predict", PORTRAIT, {"Sec-Fetch-Site": "cross-site"})
    assert (crossing.status, crossing.code) == (403, "cross_site")
    assert server.send("POST", "/v1/predict", PORTRAIT, {"Sec-Fetch-Site": "same-origin"}).status == 200
    preflight = server.send("OPTIONS", "/v1/predict", None, {"Origin": "https://evil.example"})
    assert preflight.status == 405
    assert not any(name.startswith("access-control") for name in preflight.headers)


def test_every_answer_carries_the_headers_that_keep_a_browser_strict(server: Server) -> None:
    for path in ("/", "/page/main.js", "/v1/models", "/nothing"):
        headers = server.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "server" not in headers
    assert server.post(PORTRAIT).headers["cache-control"] == "no-store"


def test_a_key_is_asked_for_and_checked(stand_in: Path) -> None:
    key = "correct horse battery"
    with serving("--model", stand_in, AGELENS_API_KEY=key) as guarded:
        for path in ("/", "/healthz", "/readyz", "/openapi.json"):
            assert guarded.get(path).status == 200
        refused = guarded.get("/v1/models")
        assert (refused.status, refused.code) == (401, "unauthorized")
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert guarded.get("/metrics").status == 401
        assert guarded.post(PORTRAIT).status == 401
        for wrong in ({"Authorization": "Bearer wrong"}, {"X-API-Key": key + "x"}, {"Authorization": f"Basic {key}"}):
            assert guarded.get("/v1/models", wrong).status == 401
        for right in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
            assert guarded.get("/v1/models", right).status == 200
        assert guarded.get("/openapi.json").json()["components"]["securitySchemes"]
    assert not any(key in line for line in guarded.lines)


# --- what is told --------------------------------------------------------------------------------------------------


def test_nothing_of_a_picture_is_logged(server: Server) -> None:
    server.post_form([("secret-name.jpg", PORTRAIT), ("other-secret.jpg", PORTRAIT[:5000])])
    server.post(PORTRAIT, "/v1/predict?source=secret-source")
    server.get("/secret-path")
    raw(server.port, b"GET /secret-target HTTP/1.1\r\nHost: 127.0.0.1\r\n broken\r\n\r\n")
    said = "".join(server.lines)
    assert "POST /v1/predict 200" in said
    assert "secret" not in said
    assert "127.0.0.1" not in "".join(server.lines[1:])


def test_metrics_count(server: Server) -> None:
    watched = (
        'agelens_requests_total{path="/v1/predict",status="200"}',
        'agelens_requests_total{path="/v1/predict",status="415"}',
        'agelens_pictures_total{outcome="ok"}',
        'agelens_pictures_total{outcome="no_face"}',
        'agelens_pictures_total{outcome="unsupported_format"}',
        "agelens_faces_total",
        "agelens_received_bytes_total",
        'agelens_request_seconds_count{path="/v1/predict"}',
    )
    before = [server.metric(line) for line in watched]
    nobody = encode(face_like(64, 64)[:16], "PNG")
    server.post_form([("a.jpg", PORTRAIT), ("b.png", nobody)])
    server.post(b"hello")
    after = [server.metric(line) for line in watched]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1, 1, 1, 1, len(PORTRAIT) + len(nobody) + 5, 2]
    assert server.metric("agelens_ready") == 1
    assert server.metric("agelens_queue_pictures") == 0
    assert server.metric("agelens_queue_bytes") == 0
    assert server.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")


def test_models_health_and_readiness(server: Server, stand_in: Path) -> None:
    about = server.get("/v1/models").json()
    assert about["model"]["name"] == "stand-in"
    assert about["limits"]["max_files"] == 3
    assert {model["name"] for model in about["shipped"]} >= {"agelens-base"}
    assert about["allow_url"] is False
    assert str(stand_in) not in json.dumps(about)
    assert server.get("/healthz").json() == {"status": "ok"}
    assert server.get("/readyz").json() == {"status": "ready"}


def test_the_api_describes_itself(server: Server) -> None:
    made = server.get("/openapi.json").json()
    assert made["openapi"].startswith("3.1")
    assert set(made["paths"]) == {"/v1/predict", "/v1/annotate", "/v1/models", "/healthz", "/readyz", "/metrics"}
    schemas = made["components"]["schemas"]

    def check(schema: str, value: object) -> None:
        rooted = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": schemas}}
        Draft202012Validator(rooted).validate(value)

    predict = made["paths"]["/v1/predict"]["post"]
    examples = predict["responses"]["200"]["content"]["application/json"]["examples"]
    check("Prediction", examples["raw"]["value"])
    check("Predictions", examples["form"]["value"])
    check("Prediction", server.post(PORTRAIT, "/v1/predict?distribution=true").json())
    for status, answer in predict["responses"].items():
        if status != "200":
            problems = answer["content"]["application/problem+json"]["examples"].values()
            assert problems
            for problem in problems:
                check("Problem", problem["value"])
                assert problem["value"]["status"] == int(status)
    assert set(predict["requestBody"]["content"]) >= {"multipart/form-data", "image/jpeg"}
    names = {parameter["name"] for parameter in predict["parameters"]}
    assert names >= {"task", "groups", "gender_threshold", "min_score", "min_face", "max_faces", "distribution"}


def test_the_page_is_served_whole_and_cached_by_content(server: Server) -> None:
    page = ROOT / "src" / "agelens" / "server" / "page"
    for path in page.iterdir():
        answer = server.get("/" if path.name == "index.html" else f"/page/{path.name}")
        assert answer.body == path.read_bytes()
        again = server.get(
            "/" if path.name == "index.html" else f"/page/{path.name}", {"If-None-Match": answer.headers["etag"]}
        )
        assert (again.status, again.body) == (304, b"")
    with Image.open(io.BytesIO(server.get("/page/example.jpg").body)) as example:
        assert example.size == (512, 512)
    assert server.send("HEAD", "/").status == 200
