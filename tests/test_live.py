"""Live: the page in a real browser whose camera is a file, the machine's camera on it, and what goes wrong."""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: the extra `video`")
pytest.importorskip("fastapi", reason="needs the extra `serve`")

from agelens.errors import CameraError, DiskFullError, MissingCodecError, OutputError
from agelens.live.cameras import Camera, list_cameras
from agelens.live.recording import Recording
from agelens.live.window import show_window
from agelens.types import ModelId
from agelens.video import writer
from clips import make_clip, portrait_frames, read_clip
from command import records, run, start
from faces import background
from pictures import encode

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


class Page:
    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port
        self.said = ""

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

    def look(self, page: str, frame: bytes) -> tuple[int, Any]:
        return self.ask("POST", f"/look?page={page}", frame)[:2]

    def stop(self, *signals: int) -> int:
        for number in signals or (signal.SIGINT,):
            if self.process.poll() is None:
                self.process.send_signal(number)
                time.sleep(0.01)
        return self.process.wait(30)


@contextmanager
def watching(*arguments: str | Path) -> Iterator[Page]:
    process = start("live", "--port", "0", "--no-browser", *arguments, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    line = process.stderr.readline().decode()
    assert "http://127.0.0.1:" in line, line
    page = Page(process, int(line.split("127.0.0.1:")[1].split("/")[0]))

    def read() -> None:
        page.said = process.stderr.read().decode()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
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
    for host in ("evil.example", "evil.example:8010", "[::2]", "::", ""):
        assert served.ask("GET", "/settings", Host=host)[0] == 421
    for host in ("localhost", "LOCALHOST:8010", "127.0.0.1", "[::1]", "[::1]:8010"):
        assert served.ask("GET", "/settings", Host=host)[0] == 200
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


def test_pages_at_once_record_into_one_video(stand_in: Path, tmp_path: Path) -> None:
    names = ("one", "two", "three", "four")
    sizes = [(320, 240), (336, 240), (320, 256), (240, 320)]
    start_together = threading.Barrier(len(names))
    answers: list[int] = []

    def watch(name: str, size: tuple[int, int]) -> None:
        frames = [encode(frame, "JPEG") for frame in portrait_frames(8, size)]
        start_together.wait(30)
        answers.extend(live.look(name, frame)[0] for frame in frames)

    with watching("--model", stand_in, "--record", tmp_path / "visit.mp4") as live:
        pages = [threading.Thread(target=watch, args=each) for each in zip(names, sizes, strict=True)]
        for page in pages:
            page.start()
        for page in pages:
            page.join(60)
        assert live.stop() == 0
    assert answers == [200] * 32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["visit.mp4", "visit.mp4.jsonl"]
    assert len(read_clip(tmp_path / "visit.mp4").frames) == 32
    kept = records((tmp_path / "visit.mp4.jsonl").read_text())
    assert [record["frame"] for record in kept] == list(range(32))
    people = {(record["width"], record["height"]): set() for record in kept}
    for record in kept:
        people[record["width"], record["height"]] |= {face["track"] for face in record["faces"]}
    assert sorted(number for each in people.values() for number in each) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "signals", [(signal.SIGTERM,), (signal.SIGHUP, signal.SIGHUP), (signal.SIGTERM, signal.SIGINT)]
)
def test_a_recording_outlives_a_signal(stand_in: Path, tmp_path: Path, signals: tuple[int, ...]) -> None:
    frames = [encode(frame, "JPEG") for frame in portrait_frames(3, (320, 240))]
    with watching("--model", stand_in, "--record", tmp_path / "visit.mp4") as live:
        for frame in frames:
            assert live.look("one", frame)[0] == 200
        assert live.stop(*signals) == 128 + signals[0]
    assert live.said == f"agelens live: recorded in {tmp_path / 'visit.mp4'}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["visit.mp4", "visit.mp4.jsonl"]
    assert len(read_clip(tmp_path / "visit.mp4").frames) == 3
    assert len(records((tmp_path / "visit.mp4.jsonl").read_text())) == 3


def test_a_page_opened_again_goes_on_in_the_recording(stand_in: Path, tmp_path: Path) -> None:
    frames = [encode(frame, "JPEG") for frame in portrait_frames(4, (320, 240))]
    tracks = []
    with watching("--model", stand_in, "--record", tmp_path / "visit.mp4") as live:
        for page in ("one", "two"):
            for frame in frames:
                status, seen = live.look(page, frame)
                assert status == 200
                tracks += [face["track"] for face in seen["faces"]]
                time.sleep(0.2)
        assert live.stop() == 0
    assert tracks == [1] * 4 + [2] * 4  # nobody can know that it is the same person
    kept = records((tmp_path / "visit.mp4.jsonl").read_text())
    assert [record["frame"] for record in kept] == list(range(8))
    assert [face["track"] for record in kept for face in record["faces"]] == tracks
    times = [record["time_seconds"] for record in kept]
    assert times[0] == 0
    assert np.diff(times).min() >= 0.1
    assert read_clip(tmp_path / "visit.mp4").times == pytest.approx(times, abs=0.001)


@pytest.mark.parametrize("camera", ["the browser's", "the machine's"])
def test_a_recording_that_can_t_be_written_fails_once_and_for_all(stand_in: Path, tmp_path: Path, camera: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (12, 240, 320, 3), np.uint8)
    clip = make_clip(tmp_path / "camera.avi", noise, codec="mjpeg")
    record = tmp_path / "kept" / "visit.mp4"
    record.parent.mkdir()
    with watching("--model", stand_in, "--record", record, *(["--camera", clip] * (camera == "the machine's"))) as live:
        resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))

        def ask() -> tuple[int, Any]:
            if camera == "the machine's":
                return live.ask("GET", "/next?after=1000000")[:2]
            return live.look("one", encode(noise[0], "JPEG"))

        assert wait_for(lambda: ask()[0] != 200 and ask()[0] != 503)
        for _ in range(3):
            status, body = ask()
            assert (status, body["code"]) == (507, "disk_full")
        assert live.stop() == 1
    assert live.said.startswith(f"agelens live: cannot write {record}: no space is left")
    assert live.said.count("\n") == 1
    assert not record.exists()


def test_without_a_frame_nothing_is_written(stand_in: Path, tmp_path: Path) -> None:
    for name in ("visit.mp4", "visit.mp4.jsonl"):
        (tmp_path / name).write_text("of an earlier visit")
    with watching("--model", stand_in, "--record", tmp_path / "visit.mp4") as live:
        assert live.stop() == 0
    assert live.said == f"agelens live: no frame came, so nothing was written to {tmp_path / 'visit.mp4'}\n"
    assert {path.read_text() for path in tmp_path.iterdir()} == {"of an earlier visit"}


GREY = np.full((48, 64, 3), 128, np.uint8)
MODEL = ModelId("a", "sha256")


def test_a_recording_without_a_codec_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(writer._CONTAINERS, ".webm", writer._Container("webm", (), frozenset(), "", {}))
    recording = Recording(tmp_path / "visit.webm")
    for attempt in (lambda: recording.add(GREY, (), MODEL), recording.close):
        with pytest.raises(MissingCodecError):
            attempt()
    assert not list(tmp_path.iterdir())


def test_a_reader_of_the_records_who_goes_away_is_told_of(tmp_path: Path) -> None:
    pipe = tmp_path / "visit.mp4.jsonl"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    recording = Recording(tmp_path / "visit.mp4")
    recording.add(GREY, (), MODEL)
    os.close(reader)
    for attempt in (*[lambda: recording.add(GREY, (), MODEL)] * 2, recording.close):
        with pytest.raises(OutputError, match=r"visit\.mp4\.jsonl: Broken pipe"):
            attempt()
    assert len(read_clip(tmp_path / "visit.mp4").frames) == 2


# --- a window ------------------------------------------------------------------------------------------------------


class Window:
    """What stands in for Tk and its windows, since a test has no desktop."""

    TclError = OSError

    def __init__(self, *arguments: object, **options: object) -> None:
        self.updates, self.is_open, self.close = 0, True, None

    def __getattr__(self, name: str) -> Any:
        return {"Tk": lambda: self, "Label": Window}.get(name, lambda *_, **__: None)

    def protocol(self, name: str, handler: Any) -> None:
        assert name == "WM_DELETE_WINDOW"
        self.close = handler

    def update(self) -> None:
        self.updates += 1
        if self.updates == 3:
            self.close()

    def destroy(self) -> None:
        self.is_open = False


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Window:
    window = Window()
    monkeypatch.setitem(sys.modules, "tkinter", window)
    monkeypatch.setitem(sys.modules, "PIL.ImageTk", window)
    monkeypatch.setattr("PIL.ImageTk", window, raising=False)
    return window


class Looks:
    """A camera that has always a new frame, and a watcher who sees nobody in it, but for an error."""

    trouble = ""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def take(self, after: int, timeout: float) -> tuple[int, Any]:
        return after + 1, GREY

    def look(self, pixels: Any) -> Any:
        if self.error:
            raise self.error
        return types.SimpleNamespace(faces=(), rate=1.0)


def test_a_window_ends_when_it_is_closed_and_at_a_signal(window: Window) -> None:
    show_window(Looks(), Looks(), lambda: False)
    assert (window.updates, window.is_open) == (3, False)
    window.updates, window.is_open = 0, True
    show_window(Looks(), Looks(), lambda: window.updates == 2)
    assert (window.updates, window.is_open) == (2, False)


def test_a_window_ends_when_its_recording_fails(window: Window) -> None:
    with pytest.raises(DiskFullError):
        show_window(Looks(), Looks(DiskFullError("full")), lambda: False)


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


def test_a_file_without_a_frame_is_not_opened_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "a.mp4", portrait_frames(3), muxer={"movflags": "frag_keyframe+empty_moov"})
    data = clip.read_bytes()
    clip.write_bytes(data[: data.index(b"moof") - 4])  # all but the frames
    opened = []
    open_once = Camera._open
    monkeypatch.setattr(Camera, "_open", lambda camera: (opened.append(camera), open_once(camera))[1])
    monkeypatch.setattr("agelens.live.cameras.PAUSES", (600.0,))
    camera = Camera(str(clip))
    try:
        assert "no picture" in wait_for(lambda: camera.trouble)
        assert camera.take(0, 0.2) is None
        assert len(opened) == 1
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
