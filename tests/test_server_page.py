"""The page in a real browser: pictures in, faces and sentences out, for everybody, with no request to elsewhere.

Needs Chromium on the machine, and the packages playwright and axe-playwright-python (the extra `dev`).
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agelens.serialise import COLUMNS
from command import EXAMPLE, records, run
from faces import portrait
from pictures import encode, oriented
from serving import Server, serving

pytest.importorskip("fastapi", reason="needs the extra `serve`")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

KEY = "correct horse battery"
FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PORTRAIT = EXAMPLE.read_bytes()
WIDTHS = (360, 768, 1280)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def server(stand_in: Path) -> Iterator[Server]:
    with serving("--model", stand_in, "--quiet") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


class Visit:
    """A visit of the page; whatever it asked for elsewhere, and whatever went wrong in it, is noted."""

    def __init__(self, browser: Any, server: Server, *, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            permissions=["camera", "clipboard-read", "clipboard-write"],
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.home = f"http://127.0.0.1:{server.port}/"
        self.outside: list[str] = []
        self.wrongs: list[str] = []
        self.page.on("request", self._note_request)
        self.page.on("pageerror", lambda error: self.wrongs.append(str(error)))
        self.page.on("console", self._note_console)
        self.page.goto(self.home)

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith((self.home, "blob:", "data:")):
            self.outside.append(request.url)

    def _note_console(self, message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.wrongs.append(message.text)

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()
        assert not self.outside
        assert not self.wrongs

    def choose(self, *files: tuple[str, bytes]) -> None:
        chosen = [{"name": name, "mimeType": "application/octet-stream", "buffer": data} for name, data in files]
        self.page.set_input_files("#files", chosen)
        self.settle(len(files))

    def settle(self, cards: int) -> None:
        self.page.locator(".card").nth(cards - 1).wait_for()
        self.page.locator(".card.waiting").first.wait_for(state="detached")

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_inner_texts()


def three_pictures() -> tuple[tuple[str, bytes], ...]:
    pair = np.concatenate([portrait(), portrait()], axis=1)
    return ("one.jpg", PORTRAIT), ("broken.jpg", PORTRAIT[:30_000]), ("pair.png", encode(pair, "PNG"))


def test_three_pictures_one_of_them_broken_give_two_results_and_one_sentence(browser: Any, server: Server) -> None:
    with Visit(browser, server) as visit:
        visit.choose(*three_pictures())
        assert visit.page.locator(".card:not(.failed)").count() == 2
        assert visit.texts(".card-sentence") == [
            "This file ends in the middle of the picture. Copy or download it again."
        ]
        assert visit.texts(".card h3") == ["one.jpg", "broken.jpg", "pair.png"]
        assert visit.page.locator(".face").count() == 3
        assert visit.texts("#summary") == ["3 pictures, 3 faces, 1 can’t be read"]
        assert visit.page.locator("#rows tr").count() == 4
        assert not visit.page.locator("#progress").is_visible()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_serious_at_any_width_in_light_and_dark(
    browser: Any, server: Server, width: int, scheme: str
) -> None:
    if find_spec("axe_playwright_python") is None:
        pytest.skip("needs axe-core: pip install axe-playwright-python")
    axe = import_module("axe_playwright_python.sync_playwright").Axe()
    with Visit(browser, server, width=width, scheme=scheme) as visit:
        for state in ("start", "results"):
            if state == "results":
                visit.page.emulate_media(reduced_motion="reduce")  # half-faded colours are no finding
                visit.choose(*three_pictures())
                visit.page.locator("summary").click()
            found = axe.run(visit.page).response["violations"]
            serious = [
                (one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")
            ]
            assert not serious, (state, serious)
            assert not found, (state, [one["id"] for one in found])
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        folder = os.environ.get("AGELENS_SCREENSHOTS")
        if folder:
            visit.page.screenshot(path=f"{folder}/{scheme}-{width}.png", full_page=True)


def test_a_face_that_is_pointed_at_shows_its_distribution(browser: Any, server: Server) -> None:
    pair = three_pictures()[2]
    truth = server.post(pair[1], "/v1/predict?distribution=true").json()["faces"]
    with Visit(browser, server) as visit:
        visit.choose(pair)
        assert "Face 1 of 2" in visit.texts(".detail")[0]
        visit.page.locator(".face").nth(1).hover()
        shown = visit.texts(".detail")[0]
        assert "Face 2 of 2" in shown
        assert f"{int(truth[1]['age']['years'] + 0.5)} years" in shown
        label = visit.page.locator(".chart").get_attribute("aria-label")
        low, high = (int(truth[1]["age"][end] + 0.5) for end in ("low", "high"))
        assert f"90% lie between {low} and {high}" in label
        curve = visit.page.locator(".chart .curve").get_attribute("d")
        heights = [float(pair.split()[1]) for pair in curve[1:].split("L")]
        assert len(heights) == 101
        assert int(np.argmin(heights)) == int(np.argmax(truth[1]["age_distribution"]))


def test_boxes_lie_on_the_faces_also_of_turned_pictures(browser: Any, server: Server) -> None:
    for name, data in (("up.jpg", PORTRAIT), ("turned.jpg", oriented("JPEG", 6, portrait()))):
        record = server.post(data).json()
        with Visit(browser, server) as visit:
            visit.choose((name, data))
            # Both at once, as the page may still scroll.
            picture, face = visit.page.evaluate(
                "['.stage img', '.face'].map((name) => document.querySelector(name).getBoundingClientRect().toJSON())"
            )
            scale = picture["width"] / record["width"]
            box = record["faces"][0]["box"]
            assert face["x"] - picture["x"] == pytest.approx(box["x"] * scale, abs=1.5)
            assert face["y"] - picture["y"] == pytest.approx(box["y"] * scale, abs=1.5)
            assert face["width"] == pytest.approx(box["width"] * scale, abs=1.5)


def test_a_format_that_the_browser_lacks_is_shown_as_the_server_draws_it(browser: Any, server: Server) -> None:
    with Visit(browser, server) as visit:
        visit.choose(("scan.tiff", encode(portrait(), "TIFF")))
        visit.page.locator(".faces.drawn").wait_for()
        assert visit.page.evaluate("document.querySelector('.stage img').naturalWidth") == 512


def test_what_is_downloaded_and_copied_is_what_the_command_writes(
    browser: Any, server: Server, stand_in: Path, tmp_path: Path
) -> None:
    for name, data in three_pictures():
        (tmp_path / name).write_bytes(data)
    done = run("predict", *(name for name, _ in three_pictures()), "--model", stand_in, "--quiet", cwd=tmp_path)
    expected = records(done.stdout)
    table = run("predict", *(name for name, _ in three_pictures()), "--model", stand_in, "-o", "x.csv", cwd=tmp_path)
    assert table.returncode == 1
    with Visit(browser, server) as visit:
        visit.choose(*three_pictures())
        visit.page.locator("#copy").click()
        visit.page.get_by_text("Copied.").wait_for()
        copied = json.loads(visit.page.evaluate("navigator.clipboard.readText()"))
        with visit.page.expect_download() as started:
            visit.page.locator("#csv").click()
        rows = list(csv.DictReader(io.StringIO(Path(started.value.path()).read_text("utf-8"))))
        with visit.page.expect_download() as started:
            visit.page.get_by_role("button", name="Download one.jpg").click()
        assert started.value.suggested_filename == "one.agelens.jpg"
        with Image.open(started.value.path()) as annotated:
            assert annotated.size == (512, 512)
    assert copied == expected
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        truth = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == len(truth)
    for row, right in zip(rows, truth, strict=True):
        for name, kind in COLUMNS.items():
            assert row[name] == right[name] or kind(row[name]) == kind(right[name]), name


def test_everything_can_be_reached_by_keyboard(browser: Any, server: Server) -> None:
    with Visit(browser, server) as visit:
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.className") == "skip"
        seen = []
        for _ in range(9):
            visit.page.keyboard.press("Tab")
            seen.append(visit.page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        assert [name for name in ("choose", "open-camera", "example", "Options") if name not in seen] == []
        visit.page.locator("#example").focus()
        visit.page.keyboard.press("Enter")
        visit.settle(1)
        assert "Face 1, looks about" in visit.page.locator(".face").get_attribute("aria-label")
        visit.choose(three_pictures()[2])
        visit.settle(2)
        visit.page.locator(".face").nth(1).focus()
        visit.page.keyboard.press("ArrowRight")
        assert visit.page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        assert "Face 2 of 2" in visit.texts(".detail")[1]
        visit.page.locator("#clear").focus()
        visit.page.keyboard.press("Enter")
        assert visit.page.locator(".card").count() == 0
        assert visit.page.evaluate("document.activeElement.id") == "choose"


def test_a_screen_reader_is_told(browser: Any, server: Server) -> None:
    with Visit(browser, server) as visit:
        assert visit.page.locator("#said").get_attribute("aria-live") == "polite"
        visit.choose(("one.jpg", PORTRAIT))
        assert visit.texts("#said") == ["one.jpg: 1 face."]
        visit.choose(("two.txt", b"hello"), ("x.txt", b"hello"))
        visit.settle(3)
        assert re.match(r"(two|x)\.txt: This is no picture", visit.texts("#said")[0])


def test_pictures_are_pasted_and_dropped(browser: Any, server: Server) -> None:
    hand_over = """async ({kind}) => {
        const blob = await (await fetch("page/example.jpg")).blob();
        const data = new DataTransfer();
        data.items.add(new File([blob], `${kind}.jpg`, {type: "image/jpeg"}));
        const make = {paste: () => new ClipboardEvent("paste", {clipboardData: data, bubbles: true}),
                      drop: () => new DragEvent("drop", {dataTransfer: data, bubbles: true})};
        document.dispatchEvent(make[kind]());
    }"""
    with Visit(browser, server) as visit:
        for number, kind in enumerate(("paste", "drop"), start=1):
            visit.page.evaluate(hand_over, {"kind": kind})
            visit.settle(number)
        assert visit.texts(".card h3") == ["paste.jpg", "drop.jpg"]
        assert visit.page.locator(".face").count() == 2


def test_the_camera_takes_a_picture(browser: Any, server: Server) -> None:
    with Visit(browser, server, width=360) as visit:
        visit.page.locator("#open-camera").click()
        visit.page.locator("#shoot").wait_for()
        visit.page.wait_for_timeout(300)
        visit.page.locator("#shoot").click()
        visit.settle(1)
        assert visit.texts(".card h3") == ["camera-1.jpg"]
        visit.page.locator("#close-camera").click()
        assert not visit.page.locator("#camera").is_visible()
        assert visit.page.evaluate("document.getElementById('video').srcObject") is None


def test_options_are_applied_to_what_is_there(browser: Any, server: Server) -> None:
    with Visit(browser, server) as visit:
        visit.choose(("one.jpg", PORTRAIT))
        visit.page.locator("summary").click()
        visit.page.select_option("[name=task]", "age")
        visit.page.locator(".facts dt", has_text="Gender").wait_for(state="detached")
        visit.page.select_option("[name=groups]", "0-12,13-17,18+")
        visit.page.locator("#rows td", has_text="18+").wait_for()
        assert visit.page.locator(".face").count() == 1


def test_a_server_with_a_key_asks_for_it(browser: Any, stand_in: Path) -> None:
    with serving("--model", stand_in, "--quiet", AGELENS_API_KEY=KEY) as guarded, Visit(browser, guarded) as visit:
        visit.page.locator("#example").click()
        visit.page.locator("#key").fill(KEY)
        visit.page.keyboard.press("Enter")
        visit.settle(1)
        assert visit.page.locator(".face").count() == 1


def test_a_server_that_is_gone_is_a_sentence(browser: Any, stand_in: Path) -> None:
    with serving("--model", stand_in, "--quiet") as running, Visit(browser, running) as visit:
        running.stop()
        visit.choose(("one.jpg", PORTRAIT))
        assert visit.texts(".card-sentence") == ["The server can’t be reached. Is it still running?"]
