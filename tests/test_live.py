"""Live: the page in a real browser whose camera is a file, the machine's camera on it, and what goes wrong."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: the extra `video`")
pytest.importorskip("fastapi", reason="needs the extra `serve`")

from agelens.errors import CameraError
from agelens.live.cameras import Camera, list_cameras
from clips import make_clip, portrait_frames, read_clip
from command import records, run, start
from faces import background
from pictures import encode

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


class Page:
    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            data = answer.read()
            kind = answer.headers.get_content_type()
            return answer.status, json.loads(data) if kind == "application/json" else data, dict(answer.headers)
        finally:
            connection.close()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@contextmanager
def watching(*arguments: str | Path) -> Iterator[Page]:
    process = start("live", "--port", "0", "--no-browser", *arguments, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    line = process.stderr.readline().decode()
    assert "http://127.0.0.1:" in line, line
    reader = threading.Thread(target=process.stderr.read, daemon=True)
    reader.start()
    page = Page(process, int(line.split("127.0.0.1:")[1].split("/")[0]))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            page.ask("GET", "/settings")
            break
        except OSError:
            time.sleep(0.05)
    try:
        yield page
    finally:
        page.stop()
        reader.join(10)
        process.stderr.close()


def wait_for(found: Any, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it never came")


# --- a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def camera_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face for two seconds, and nobody for two: what Chromium takes for a camera."""
    frames = [*portrait_frames(50, (640, 480), 140, step=1.0), *[background(640, 480)] * 50]
    folder = tmp_path_factory.mktemp("camera")
    clip = make_clip(folder / "camera.avi", frames, codec="mjpeg")
    raw = folder / "camera.mjpeg"
    import av

    with av.open(str(clip)) as container, raw.open("wb") as file:
        for packet in container.demux(container.streams.video[0]):
            file.write(bytes(packet))
    return raw


@pytest.fixture(scope="module")
def served(stand_in: Path) -> Iterator[Page]:
    """A page for the tests that leave it as it was."""
    with watching("--model", stand_in) as live:
        yield live


@contextmanager
def browsing(address: str, *flags: str, permissions: tuple[str, ...] = ("camera",)) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
        page = browser.new_context(permissions=list(permissions), bypass_csp=True).new_page()
        wrongs: list[str] = []
        page.on("pageerror", lambda error: wrongs.append(str(error)))
        page.goto(address)
        yield page
        browser.close()
        assert not wrongs


@needs_browser
def test_the_browsers_own_camera_is_watched(stand_in: Path, camera_file: Path) -> None:
    flags = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={camera_file}",
    )
    with (
        watching("--model", stand_in) as live,
        browsing(f"http://127.0.0.1:{live.port}/", *flags) as page,
    ):
        page.wait_for_function("window.agelens?.last?.faces.length === 1", timeout=30_000)
        first = page.evaluate("window.agelens.last.faces[0].track")
        assert first >= 1
        assert page.locator("#notice").is_hidden()
        page.wait_for_function("document.querySelectorAll('#people li').length === 1", timeout=10_000)
        drawn = """() => { const c = document.getElementById('overlay');
            return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v) => v > 0); }"""
        page.wait_for_function(drawn, timeout=10_000)
        page.wait_for_function("window.agelens.last.faces.length === 0", timeout=30_000)
        page.wait_for_selector("#notice:visible", timeout=10_000)
        assert page.locator("#notice").inner_text() == "NO FACE DETECTED"
        page.wait_for_function("window.agelens.frames > 30", timeout=60_000)
        assert "frames a second" in page.locator("#speed").inner_text()
        assert "Nothing is recorded" in page.locator("#kept").inner_text()
        live.stop()
        page.wait_for_selector("#trouble:visible", timeout=20_000)
        assert "Trying again" in page.locator("#trouble").inner_text()


@needs_browser
def test_a_browser_without_a_camera_says_so(served: Page) -> None:
    with browsing(f"http://127.0.0.1:{served.port}/") as page:
        page.wait_for_selector("#trouble:visible", timeout=20_000)
        assert "There is no such camera; the browser knows none." in page.locator("#trouble").inner_text()
        assert page.locator("#start").is_visible()


@needs_browser
def test_the_machines_camera_is_shown_on_the_same_page(stand_in: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "camera.mp4", portrait_frames(100, (640, 480), 140, step=1.0))
    with (
        watching("--model", stand_in, "--camera", clip) as live,
        browsing(f"http://127.0.0.1:{live.port}/") as page,
    ):
        page.wait_for_function("window.agelens?.frames > 5 && window.agelens.last.faces.length === 1", timeout=30_000)
        assert page.locator("#picture").is_visible()
        assert page.evaluate("document.getElementById('picture').naturalWidth") == 640


# --- the answers behind the page -----------------------------------------------------------------------------------


def test_frames_keep_tracks_and_pages_don_t_mix(served: Page) -> None:
    frames = [encode(frame, "JPEG") for frame in portrait_frames(4, (320, 240))]
    for page in ("one", "two"):
        for frame in frames:
            status, seen, _ = served.ask("POST", f"/look?page={page}", frame)
            assert status == 200
            assert [face["track"] for face in seen["faces"]] == [1]
            assert (seen["width"], seen["height"]) == (320, 240)
    assert served.ask("POST", "/look?page=one", b"no picture")[:2][0] == 415
    assert served.ask("POST", "/look?page=one", b"x" * (9 << 20))[0] == 413
    assert served.ask("POST", "/look", frames[0])[0] == 422
    assert served.ask("GET", "/settings", Host="evil.example")[0] == 421
    assert served.ask("POST", "/look?page=one", frames[0], Sec_Fetch_Site="cross-site")[0] == 403
    assert served.ask("GET", "/../app.py")[0] == 404
    assert served.ask("GET", "/none.js")[0] == 404
    status, body, headers = served.ask("GET", "/")
    assert status == 200
    assert b"agelens" in body
    assert "default-src 'self'" in headers["content-security-policy"]


def test_a_recording_is_kept_only_on_request(stand_in: Path, tmp_path: Path) -> None:
    frames = [encode(frame, "JPEG") for frame in portrait_frames(6, (320, 240))]
    with watching("--model", stand_in, "--record", tmp_path / "visit.mp4") as live:
        assert live.ask("GET", "/settings")[1]["recorded"].endswith("visit.mp4")
        for frame in frames:
            live.ask("POST", "/look?page=one", frame)
        assert live.stop() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["visit.mp4", "visit.mp4.jsonl"]
    assert len(read_clip(tmp_path / "visit.mp4").frames) == 6
    kept = records((tmp_path / "visit.mp4.jsonl").read_text())
    assert [record["frame"] for record in kept] == list(range(6))


# --- cameras -------------------------------------------------------------------------------------------------------


def test_a_missing_camera_says_which_exist() -> None:
    done = run("live", "--camera", "97", "--no-browser")
    assert done.returncode == 1
    assert "camera 97 can't be opened" in done.stderr
    names = [f"{number} ({name})" for number, name in list_cameras()]
    assert (", ".join(names) if names else "there is no camera on this machine") in done.stderr


def test_a_window_without_a_desktop_says_so(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    clip = make_clip(tmp_path / "a.mp4", portrait_frames(3))
    done = run("live", "--model", stand_in, "--camera", clip, "--window")
    assert done.returncode == 2
    assert "leave --window out and open the page" in done.stderr


def test_the_newest_frame_wins(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", [np.full((48, 64, 3), 4 * i, np.uint8) for i in range(50)])
    camera = Camera(str(clip))
    try:
        number, first = camera.take(0, 10)
        time.sleep(0.6)  # a slow taker
        later, second = camera.take(number, 10)
        assert later >= number + 8
        assert second.mean() - first.mean() >= 20
    finally:
        camera.close()
    with pytest.raises(CameraError, match="can't be opened"):
        Camera(str(tmp_path / "none.mp4"))


def test_a_file_starts_again_at_its_end(tmp_path: Path) -> None:
    camera = Camera(str(make_clip(tmp_path / "a.mp4", portrait_frames(5))))
    try:
        assert wait_for(lambda: (camera.take(12, 1) or (0,))[0] > 12)
    finally:
        camera.close()


def test_a_stream_that_went_away_comes_back(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.ts", portrait_frames(50))
    data = clip.read_bytes()
    served = []

    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    camera = Camera(f"http://127.0.0.1:{server.server_port}/a.ts")
    try:
        assert camera.take(0, 20) is not None
        assert wait_for(lambda: len(served) >= 2)
        assert wait_for(lambda: (camera.take(50, 1) or (0,))[0] > 50)
    finally:
        camera.close()
        server.shutdown()
        server.server_close()
