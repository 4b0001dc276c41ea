from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agelens.decode import decode
from agelens.errors import (
    EmptyFileError,
    FolderGivenError,
    InputError,
    NotFoundError,
    SymlinkLoopError,
    TooManyBytesError,
    UnreadableError,
    UrlFetchError,
    UrlNotAllowedError,
)
from agelens.limits import Limits
from agelens.sources import Source, as_source, find_sources
from agelens.sources.walk import natural
from agelens.sources.web import fetch
from pictures import encode, every_kind, face_like

PICTURE = encode(face_like(32, 32), "PNG")


def put(folder: Path, *names: str, data: bytes = PICTURE) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def found(*arguments: str | os.PathLike[str], base: Path | None = None, **options: object) -> list[str]:
    names = [source.name for source in find_sources(arguments, **options)]
    return [os.path.relpath(name, base) for name in names] if base else names


def error_of(source: Source, limits: Limits | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        source.read(limits or Limits())
    return caught.value


# Files

NAMES = [
    "http_image.png",
    "https.png",
    " a.jpg",
    "a b.jpg ",
    "100%.jpg",
    "%41.jpg",
    "#1.jpg",
    "a#b?c=d.jpg",
    "-x.jpg",
    "--help",
    'it\'s "quoted".jpg',
    "[1].jpg",
    "a*.jpg",
    "what?.jpg",
    "~user.jpg",
    "$HOME.jpg",
    "line\nbreak.jpg",
    "back\\slash.jpg",
    "照片.jpg",
    "😀.jpg",
    unicodedata.normalize("NFC", "Grüße é.jpg"),
    unicodedata.normalize("NFD", "Grüße é.jpg"),
    os.fsdecode(b"latin-\xe9\xff.jpg"),
    "file:.jpg",
    "x" * 250 + ".jpg",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_that_the_system_accepts_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    put(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    for argument in (name, tmp_path / name, os.fsencode(name)):
        (source,) = find_sources([argument])
        assert source.read(Limits()) == PICTURE
    assert found(name) == [name]
    assert [source.read(Limits()) for source in find_sources([tmp_path])] == [PICTURE]
    if "\n" not in name:
        (source,) = find_sources(["-"], stdin=[name + "\n"])
        assert source.read(Limits()) == PICTURE
    (source,) = find_sources(["-"], stdin=[name + "\0"])
    assert source.read(Limits()) == PICTURE


@pytest.mark.parametrize("name", ["a b.jpg", "100%.jpg", "#1.jpg", "照片.jpg"])
def test_file_addresses_are_paths(tmp_path: Path, name: str) -> None:
    put(tmp_path, name)
    (source,) = find_sources([(tmp_path / name).as_uri()])
    assert source.read(Limits()) == PICTURE
    assert source.name == (tmp_path / name).as_uri()
    (source,) = find_sources([(tmp_path / name).as_uri().replace("file://", "FILE://localhost")])
    assert source.read(Limits()) == PICTURE


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    put(tmp_path, "family.jpg", "holiday.jpg")
    error = error_of(as_source(tmp_path / "famly.JPG"))
    assert isinstance(error, NotFoundError)
    assert "did you mean 'family.jpg'?" in error.message
    assert "did you mean" not in error_of(as_source(tmp_path / "zebra.tif")).message
    assert "no folder" in error_of(as_source(tmp_path / "nowhere" / "a.jpg")).message
    decomposed = unicodedata.normalize("NFD", "Grüße.jpg")
    put(tmp_path, decomposed)
    assert repr(decomposed) in error_of(as_source(tmp_path / unicodedata.normalize("NFC", decomposed))).message


def test_one_missing_name_does_not_end_the_rest(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    first, missing, last = find_sources([tmp_path / "a.jpg", tmp_path / "nothing.jpg", tmp_path / "b.jpg"])
    assert (first.read(Limits()), last.read(Limits())) == (PICTURE, PICTURE)
    assert isinstance(error_of(missing), NotFoundError)


@pytest.mark.parametrize("name", ["", "a\0b.jpg", "x" * 5000, "a.jpg/b.jpg"])
def test_names_that_no_file_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    put(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)
    error = error_of(as_source(name))
    assert isinstance(error, NotFoundError if name else FolderGivenError)
    assert len(error.message) < 400


def test_folders_and_empty_files(tmp_path: Path) -> None:
    put(tmp_path, "empty.jpg", data=b"")
    assert isinstance(error_of(Source("x", str(tmp_path))), FolderGivenError)
    assert isinstance(error_of(as_source(tmp_path / "empty.jpg")), EmptyFileError)


def test_the_length_is_checked_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.truncate(2**40)
    error = error_of(as_source(path))
    assert isinstance(error, TooManyBytesError)
    assert "--max-bytes" in error.message
    put(tmp_path, "a.jpg")
    assert as_source(tmp_path / "a.jpg").read(Limits(max_bytes=len(PICTURE))) == PICTURE
    assert isinstance(error_of(as_source(tmp_path / "a.jpg"), Limits(max_bytes=len(PICTURE) - 1)), TooManyBytesError)


def test_symbolic_links(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    (tmp_path / "dead.jpg").symlink_to("nothing.jpg")
    (tmp_path / "loop.jpg").symlink_to("pool.jpg")
    (tmp_path / "pool.jpg").symlink_to("loop.jpg")
    assert as_source(tmp_path / "link.jpg").read(Limits()) == PICTURE
    dead = error_of(as_source(tmp_path / "dead.jpg"))
    assert isinstance(dead, NotFoundError)
    assert "symbolic link" in dead.message
    for name in ("loop.jpg", "pool.jpg"):
        assert isinstance(error_of(as_source(tmp_path / name)), SymlinkLoopError)
    # In a folder they are seen too, as their names promise a picture.
    assert found(tmp_path, base=tmp_path) == ["a.jpg", "dead.jpg", "link.jpg", "loop.jpg", "pool.jpg"]


@pytest.mark.timeout(20)
def test_pipes_sockets_and_devices_are_refused_and_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        previous = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket may have 107 bytes only
        try:
            server.bind("socket.jpg")
        finally:
            os.chdir(previous)
        for path, word in (
            (tmp_path / "pipe.jpg", "pipe"),
            (tmp_path / "socket.jpg", "socket"),
            ("/dev/zero", "device"),
        ):
            error = error_of(as_source(path))
            assert isinstance(error, UnreadableError)
            assert word in error.message
    os.mkfifo(tmp_path / "pipe-without-extension")
    assert found(tmp_path, base=tmp_path) == ["pipe.jpg", "socket.jpg"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_forbidden_files_and_folders(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "closed/b.jpg")
    (tmp_path / "a.jpg").chmod(0)
    (tmp_path / "closed").chmod(0)
    try:
        for source in find_sources([tmp_path]):
            assert isinstance(error_of(source), UnreadableError)
    finally:
        (tmp_path / "closed").chmod(stat.S_IRWXU)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
def test_a_file_whose_reading_fails_is_unreadable() -> None:
    error = error_of(as_source("/proc/self/mem"))
    assert isinstance(error, UnreadableError)
    assert "/proc/self/mem" in error.message


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_file_that_states_no_length_is_read_within_the_limit() -> None:
    assert as_source("/proc/self/status").read(Limits()).startswith(b"Name:")
    assert isinstance(error_of(as_source("/proc/self/status"), Limits(max_bytes=10)), TooManyBytesError)


# Folders and patterns


def test_folders_are_searched_in_natural_order(tmp_path: Path) -> None:
    put(tmp_path, "10.jpg", "2.jpg", "1.jpg", "a/9.png", "a/b/x.webp", "B.jpg", "img12.jpg", "img2.jpg", "C.JPG")
    expected = ["1.jpg", "2.jpg", "10.jpg", "a/9.png", "a/b/x.webp", "B.jpg", "C.JPG", "img2.jpg", "img12.jpg"]
    assert found(tmp_path, base=tmp_path) == expected
    assert found(tmp_path / "a", tmp_path / "1.jpg", base=tmp_path) == ["a/9.png", "a/b/x.webp", "1.jpg"]


def test_hidden_and_housekeeping_entries_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", ".hidden.jpg", ".git/b.jpg", "__MACOSX/._a.jpg", ".thumbnails/c.jpg", "@eaDir/d.jpg")
    put(tmp_path, "Thumbs.db", "desktop.ini", data=b"x")
    skipped: list[str] = []
    assert found(tmp_path, base=tmp_path, on_skip=skipped.append) == ["a.jpg"]
    assert skipped == []
    # What is named is meant.
    assert found(tmp_path / ".hidden.jpg", tmp_path / ".git", base=tmp_path) == [".hidden.jpg", ".git/b.jpg"]


def test_content_decides_where_the_name_promises_nothing(tmp_path: Path) -> None:
    for name, data in every_kind().items():
        put(tmp_path, name.replace(" ", "_"), data=data)
    put(tmp_path, "broken.jpg", "empty.png", data=b"")
    put(tmp_path, "notes.txt", "empty", data=b"notes")
    put(tmp_path, "misnamed.txt")
    skipped: list[str] = []
    names = found(tmp_path, base=tmp_path, on_skip=skipped.append)
    expected = {name.replace(" ", "_") for name in every_kind()} | {"broken.jpg", "empty.png", "misnamed.txt"}
    assert set(names) == expected
    assert len(names) == len(expected)
    assert [os.path.relpath(name, tmp_path) for name in skipped] == ["empty", "notes.txt"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to(".")
    (tmp_path / "a/to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b/to_a").symlink_to(tmp_path / "a")
    (tmp_path / "knot").symlink_to("knot")
    names = found(tmp_path, base=tmp_path)
    assert sorted(Path(name).name for name in names) == ["1.jpg", "2.jpg"]


def test_folders_deeper_than_calls_can_nest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depth = sys.getrecursionlimit() + 100
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):  # a path of that length can't be made at once
        Path("a").mkdir()
        os.chdir("a")
    Path("x.jpg").touch()
    os.chdir(tmp_path)
    try:
        assert [source.name.count("a/") for source in find_sources(["a"])] == [depth]
        assert [source.name.count("a/") for source in find_sources(["**/*.jpg"])] == [depth]
    finally:
        subprocess.run(["rm", "-rf", "a"], check=True)  # what removes the folder of the test would recurse


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "1.jpg", "2.jpg", "10.jpg", "x/3.jpg", "x/y/4.jpg", "x/.secret.jpg", ".h/5.jpg", "z.png")
    put(tmp_path, "notes.txt", "x/notes.txt", data=b"notes")
    monkeypatch.chdir(tmp_path)
    assert found("*.jpg") == ["1.jpg", "2.jpg", "10.jpg"]
    assert found("?.jpg") == ["1.jpg", "2.jpg"]
    assert found("[2-9].jpg") == ["2.jpg"]
    assert found("**/*.jpg") == ["1.jpg", "2.jpg", "10.jpg", "x/3.jpg", "x/y/4.jpg"]
    assert found("x/**") == ["x/3.jpg", "x/y/4.jpg"]
    assert found("x/*/*.jpg") == ["x/y/4.jpg"]
    assert found(str(tmp_path / "x" / "*.jpg"), base=tmp_path) == ["x/3.jpg"]
    assert found(".h/*.jpg") == [".h/5.jpg"]
    skipped: list[str] = []
    assert found("*", on_skip=skipped.append) == ["1.jpg", "2.jpg", "10.jpg", "x/3.jpg", "x/y/4.jpg", "z.png"]
    assert skipped == ["notes.txt", "x/notes.txt"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("g/*/keep", ["g/x/keep/1.jpg", "g/x/keep/in/keep.jpg", "g/y/keep/2.jpg"]),
        ("g/**/keep", ["g/x/keep/1.jpg", "g/x/keep/in/keep.jpg", "g/y/keep/2.jpg"]),
        ("g/**/keep*", ["g/x/keep/1.jpg", "g/x/keep/in/keep.jpg", "g/y/keep/2.jpg", "g/z/keep.jpg"]),
        ("g/**/keep/*", ["g/x/keep/1.jpg", "g/x/keep/in/keep.jpg", "g/y/keep/2.jpg"]),
        ("g/**/in/**", ["g/x/keep/in/keep.jpg"]),
        ("g/**/**/[0-9].jpg", ["g/x/keep/1.jpg", "g/y/keep/2.jpg"]),
        ("g/*/../z/keep.jpg", ["g/z/keep.jpg"] * 3),
        ("g/**", ["g/x/keep/1.jpg", "g/x/keep/in/keep.jpg", "g/y/keep/2.jpg", "g/z/keep.jpg"]),
        ("**/em*", []),
    ],
)
def test_a_folder_that_a_pattern_names_stands_for_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, names: list[str]
) -> None:
    put(tmp_path, "g/x/keep/1.jpg", "g/x/keep/in/keep.jpg", "g/y/keep/2.jpg", "g/z/keep.jpg", "g/z/.keep/3.jpg")
    put(tmp_path, "g/x/keep/notes.txt", data=b"notes")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    skipped: list[str] = []
    assert [os.path.normpath(name) for name in found(pattern, on_skip=skipped.append)] == names
    assert skipped in ([], ["g/x/keep/notes.txt"])


def test_patterns_follow_links_as_folders_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "far/1.jpg", "far/keep/2.jpg", "s/real/3.jpg", "s/real/keep/4.jpg")
    (tmp_path / "s/link").symlink_to(tmp_path / "far")
    (tmp_path / "s/real/up").symlink_to(tmp_path / "s")
    (tmp_path / "s/a").symlink_to("real/keep")
    monkeypatch.chdir(tmp_path)
    assert found("s/**/*.jpg") == found("s/**") == found("s")
    assert found("s") == ["s/a/4.jpg", "s/link/1.jpg", "s/link/keep/2.jpg", "s/real/3.jpg"]
    # What leads there under another name first hides nothing.
    assert found("s/**/keep") == found("s/**/keep/*.jpg") == ["s/link/keep/2.jpg", "s/real/keep/4.jpg"]
    assert found("s/*/*.jpg") == ["s/a/4.jpg", "s/link/1.jpg", "s/real/3.jpg"]


def test_a_pattern_names_hidden_things_only_where_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "x/.h/1.jpg", "x/.h/.2.jpg", "x/__MACOSX/3.jpg", "x/4.jpg")
    monkeypatch.chdir(tmp_path)
    assert found("*/*") == found("**/*.jpg") == ["x/4.jpg"]
    assert found("*/.h/*") == found("**/.[a-z]") == ["x/.h/1.jpg"]
    assert found("*/.h/.*") == ["x/.h/.2.jpg"]
    assert found("*/__MACOSX") == ["x/__MACOSX/3.jpg"]


def test_a_folder_that_cannot_be_listed_is_told_for_patterns_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a/1.jpg", "b.d/2.jpg")
    listed = Path.iterdir

    def refuse(self: Path) -> Iterator[Path]:
        if self.name == "b.d":
            raise PermissionError
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    for argument in (tmp_path, tmp_path / "**", tmp_path / "**" / "*.jpg", tmp_path / "*" / "?.jpg"):
        assert found(argument, base=tmp_path) == ["a/1.jpg", "b.d"]
    assert found(tmp_path / "b.d" / "*", base=tmp_path) == ["b.d"]


def test_a_file_of_that_very_name_wins_over_the_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "[1].jpg", "1.jpg", "a*", "ab.jpg")
    monkeypatch.chdir(tmp_path)
    assert found("[1].jpg", "a*") == ["[1].jpg", "a*"]


@pytest.mark.parametrize("pattern", ["*.nothing", "no/such/**/*.jpg", "a**b", "[", "/nowhere/*"])
def test_a_pattern_without_a_match_is_a_source_that_is_not_found(tmp_path: Path, pattern: str) -> None:
    argument = pattern if pattern.startswith("/") else str(tmp_path / pattern)
    (source,) = find_sources([argument])
    assert source.name == argument
    assert isinstance(error_of(source), NotFoundError)


def test_nothing_is_listed_before_its_turn(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    sources = find_sources([tmp_path])
    assert next(sources).name.endswith("1.jpg")
    put(tmp_path, "b/1.jpg")
    assert [Path(source.name).name for source in sources] == ["1.jpg", "2.jpg"]


NAME_LISTS = st.lists(st.text("aB1203é", min_size=1, max_size=4), unique=True)


@given(NAME_LISTS.flatmap(lambda names: st.tuples(st.just(names), st.permutations(names))))
def test_the_order_depends_on_names_alone(names: tuple[list[str], list[str]]) -> None:
    first, second = (sorted(order, key=natural) for order in names)
    assert first == second
    plain = [name for name in first if name.isdigit() and name == str(int(name))]
    assert plain == sorted(plain, key=int)


# Standard input


def test_names_on_standard_input(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b c.jpg", " d.jpg")
    lines = [f"{tmp_path}/a.jpg\n", "\n", f"{tmp_path}/b c.jpg\r\n", "   \n", f"{tmp_path}/ d.jpg"]
    assert found("-", stdin=lines, base=tmp_path) == ["a.jpg", "b c.jpg", " d.jpg"]
    assert found("-", stdin=[]) == []


def test_nul_separated_names_on_standard_input() -> None:
    assert found("-", stdin=["a.jpg\0b\n", "c.jpg\0\0d.jpg"]) == ["a.jpg", "b\nc.jpg", "d.jpg"]
    assert found("-", stdin=["a\r\0b\0"]) == ["a\r", "b"]


def test_standard_input_is_read_lazily() -> None:
    read: list[str] = []

    def lines() -> Iterator[str]:
        for name in ("a.jpg\n", "b.jpg\n"):
            read.append(name)
            yield name

    sources = find_sources(["-"], stdin=lines())
    assert read == []
    assert next(sources).name == "a.jpg"
    assert read == ["a.jpg\n"]


def test_a_dash_without_standard_input_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(error_of(next(find_sources(["-"]))), NotFoundError)


# The web


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        route = self.path.split("?")[0]
        if route.startswith("/hop/"):
            left = int(route.rsplit("/", 1)[1])
            self.redirect(f"/hop/{left - 1}" if left else "/a.png")
        elif route == "/to-file":
            self.redirect("file:///etc/passwd")
        elif route == "/missing":
            self.send_error(404, "Not Found")
        elif route == "/short":
            self.answer(PICTURE[:50], len(PICTURE))
        elif route == "/endless":
            self.endless()
        elif route == "/empty":
            self.answer(b"", 0)
        elif route == "/lies":
            self.answer(b"", 2**40)
        elif route in {"/a.png", "/a%20b%C3%A9.png"}:
            self.answer(PICTURE, len(PICTURE))
        else:
            self.send_error(500, "Unexpected " + route)

    def redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, body: bytes, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(1 << 16))
        except OSError:
            return

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("url", ["http://example.org/a.jpg", "HTTPS://example.org/a.jpg"])
def test_web_addresses_are_not_fetched_without_leave(url: str) -> None:
    (source,) = find_sources([url])
    error = error_of(source)
    assert isinstance(error, UrlNotAllowedError)
    assert "--allow-url" in error.message
    assert url in error.message


def test_a_picture_is_fetched_with_leave(site: str) -> None:
    first, second, third = find_sources([f"{site}/a.png", f"{site}/a bé.png", f"{site}/hop/5"], allow_url=True)
    assert first.name == f"{site}/a.png"
    with pytest.raises(UrlFetchError, match="redirected more than 5 times"):
        third.read(Limits())
    assert decode(first.read(Limits())).width == 32
    assert second.read(Limits()) == PICTURE
    assert fetch(f"{site}/hop/4?q=1#part", Limits()) == PICTURE


@pytest.mark.parametrize(
    ("route", "kind", "words"),
    [
        ("/missing", UrlFetchError, "404"),
        ("/to-file", UrlFetchError, "no http"),
        ("/short", UrlFetchError, "ended after 50 of"),
        ("/empty", EmptyFileError, "0 bytes"),
        ("/endless", TooManyBytesError, "--max-bytes"),
        ("/lies", TooManyBytesError, "--max-bytes"),
    ],
)
def test_what_can_go_wrong_on_the_web(site: str, route: str, kind: type[InputError], words: str) -> None:
    with pytest.raises(kind, match=words):
        fetch(site + route, Limits(max_bytes=1_000_000))


def test_a_server_that_does_not_answer_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg"
        with pytest.raises(UrlFetchError, match=r"did not answer|could not be fetched"):
            fetch(url, Limits(), timeout=0.2)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/a.jpg", "http://", "http://[::1/a.jpg", "http://a b/", "http://x:y/"]
)
def test_addresses_that_cannot_be_fetched(url: str) -> None:
    with pytest.raises(UrlFetchError, match="could not be fetched"):
        as_source(url, allow_url=True).read(Limits())
