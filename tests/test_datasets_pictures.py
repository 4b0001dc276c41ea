"""Pictures in folders and archives, and label paths that find them."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agelens.datasets.matching import match_paths
from agelens.datasets.pictures import Pictures, is_picture, open_pictures, unpack
from agelens.datasets.prepare import PrepareOptions, prepare
from agelens.errors import DamagedDatasetError, NotFoundError, UnreadableError, WrongLayoutError
from dataset_makers import encoded, tar_of, write_pictures, zip_of

NAMES = ["train/1.jpg", "train/2.jpg", "val/1.jpg", "val/sub folder/ä 3.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    write_pictures(folder, [*NAMES, ".hidden/4.jpg", "__MACOSX/5.jpg", "train/._1.jpg"])
    return folder


def opened(kind: str, folder: Path) -> Pictures:
    targets = {"folder": lambda: folder, "tar": lambda: tar_of(folder, folder.with_suffix(".tar"))}
    return open_pictures((targets | {"zip": lambda: zip_of(folder, folder.with_suffix(".zip"))})[kind]())


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_every_place_gives_the_same_bytes(kind: str, folder: Path) -> None:
    pictures = opened(kind, folder)
    prefix = "" if kind == "folder" else "set/"
    assert pictures.names() == [prefix + name for name in NAMES]
    copy = pickle.loads(pickle.dumps(pictures))
    for name in NAMES:
        assert pictures.read(prefix + name) == copy.read(prefix + name) == (folder / name).read_bytes()
    with pytest.raises(NotFoundError, match="no picture"):
        pictures.read("train/9.jpg")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_threads_share_an_archive(kind: str, folder: Path) -> None:
    pictures = opened(kind, folder)
    names = pictures.names() * 50
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(pictures.read, names)) == [(folder.parent / name).read_bytes() for name in names]


def test_a_linked_folder_is_followed_and_a_loop_is_not(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write_pictures(tmp_path / "elsewhere", ["6.jpg"])
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "train" / "loop").symlink_to(folder)
    assert open_pictures(folder).names() == sorted([*NAMES, "linked/6.jpg"])


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        open_pictures(tmp_path / "nowhere")


def test_a_cut_tar_is_refused(folder: Path) -> None:
    tar = tar_of(folder, folder.with_suffix(".tar"))
    whole = tar.read_bytes()
    with tarfile.open(tar) as archive:
        last = max(archive.getmembers(), key=lambda member: member.offset_data)
    tar.write_bytes(whole[: last.offset_data + last.size // 2])
    with pytest.raises(DamagedDatasetError):
        open_pictures(tar)


def damage(whole: bytes, how: str) -> bytes:
    """The bytes of a tar, harmed in the header of its third member, or before its end."""
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        end = archive.offset
    start, stop = members[2].offset, members[3].offset
    return {
        "a flipped bit": whole[: start + 2] + bytes([whole[start + 2] ^ 1]) + whole[start + 3 :],
        "a hole": whole[:start] + bytes(stop - start) + whole[stop:],
        "a cut at a header": whole[:start],
        "a cut in a header": whole[: start + 100],
        "no end": whole[:end],
        "another behind": whole + whole,
    }[how]


@pytest.mark.parametrize(
    "how", ["a flipped bit", "a hole", "a cut at a header", "a cut in a header", "no end", "another behind"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_tar_is_never_read_short(folder: Path, tmp_path: Path, how: str, packed: bool) -> None:
    content = damage(tar_of(folder, folder.with_suffix(".tar")).read_bytes(), how)
    path = tmp_path / "harmed.tar"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DamagedDatasetError, match=r"harmed\.tar"):
        open_pictures(unpack(path, tmp_path / "work") if packed else path)


@pytest.mark.parametrize("zeros", [512, 1024, 10_240, 3 << 20])
def test_a_tar_may_end_with_any_number_of_zeros(folder: Path, tmp_path: Path, zeros: int) -> None:
    path = tmp_path / "whole.tar"
    path.write_bytes(damage(tar_of(folder, folder.with_suffix(".tar")).read_bytes(), "no end") + bytes(zeros))
    assert len(open_pictures(path).names()) == len(NAMES)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_damaged_compressed_tars_are_refused(folder: Path, tmp_path: Path, kind: str) -> None:
    tar = tar_of(folder, folder.with_suffix(f".tar.{kind}"), f"w:{kind}")
    whole = tar.read_bytes()
    middle = len(whole) // 2
    for content in (whole[:middle], whole[:-4], whole[:middle] + bytes(40) + whole[middle + 40 :]):
        tar.write_bytes(content)
        with pytest.raises(DamagedDatasetError, match="cannot be unpacked"):
            unpack(tar, tmp_path / "work")


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 100])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.tar"
    path.write_bytes(content)
    with pytest.raises(DamagedDatasetError, match="no tar"):
        open_pictures(path)


def test_a_compressed_tar_wants_a_folder(folder: Path, tmp_path: Path) -> None:
    tar = tar_of(folder, folder.with_suffix(".tgz"), "w:gz")
    with pytest.raises(WrongLayoutError, match="--work"):
        open_pictures(tar)
    pictures = open_pictures(unpack(tar, tmp_path / "work"))
    assert pictures.names() == [f"set/{name}" for name in NAMES]


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "evil.txt").write_text("x")
    with tarfile.open(tmp_path / "evil.tgz", "w:gz") as archive:
        archive.add(tmp_path / "evil.txt", arcname="../escaped.txt")
    with pytest.raises(DamagedDatasetError):
        unpack(tmp_path / "evil.tgz", tmp_path / "work" / "deep")
    assert not (tmp_path / "work" / "escaped.txt").exists()


def test_a_damaged_zip_member_is_one_bad_picture(folder: Path) -> None:
    path = zip_of(folder, folder.with_suffix(".zip"))
    pictures = open_pictures(path)
    content = bytearray(path.read_bytes())
    start = content.find(b"train/2.jpg") + 40
    content[start : start + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(UnreadableError):
        pictures.read("set/train/2.jpg")
    assert pictures.read("set/val/1.jpg") == (folder / "val/1.jpg").read_bytes()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("harm", ["damaged", "encrypted", "unknown method"])
def test_what_a_zip_cannot_give_is_a_bad_picture(tmp_path: Path, method: int, harm: str) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", encoded(number))
    content = bytearray(path.read_bytes())
    header, entry = content.find(b"PK\x03\x04"), content.find(b"PK\x01\x02")
    if harm == "damaged":
        content[header + 40 : header + 90] = b"\xff" * 50
    elif harm == "encrypted":
        content[header + 6] |= 1
        content[entry + 8] |= 1
    else:
        content[header + 8], content[entry + 10] = 77, 77
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=r"'0\.png' in .*(is damaged|cannot be unpacked)"):
        open_pictures(path).read("0.png")
    table = tmp_path / "t.csv"
    table.write_text("path,age\n" + "".join(f"{number}.png,30\n" for number in range(3)))
    manifest = prepare("table", table, options=PrepareOptions(root=path))
    assert manifest.columns.path.tolist() == ["1.png", "2.png"]
    assert manifest.provenance["report"]["dropped"] == {"picture unreadable (unreadable)": 1}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("train/1.jpg", "train/1.webp"),
        ("pack/train/1.webp", "train/1.webp"),
        ("other pack/train/2.png", "train/2.webp"),
        ("val/1.jpg", "val/1.webp"),
        ("val\\1.jpg", "val/1.webp"),
        ("test/1.jpg", None),  # never the picture of another folder
        ("3.jpg", "val/3.webp"),
        ("1.jpg", None),  # two have that name
        ("train/9.jpg", None),
    ],
)
def test_a_label_path_finds_its_picture(tmp_path: Path, wanted: str, found: str | None) -> None:
    names = ["train/1.webp", "train/2.webp", "val/1.webp", "val/3.webp"]
    assert match_paths(tmp_path, names, [wanted]).get(wanted) == found


def test_the_roots_own_name_counts_as_a_folder(tmp_path: Path) -> None:
    assert match_paths(tmp_path / "train", ["1.webp"], ["train/1.jpg", "val/1.jpg"]) == {"train/1.jpg": "1.webp"}


def test_of_two_copies_the_better_fitting_one_is_meant(tmp_path: Path) -> None:
    names = ["a/train/1.jpg", "b/train/1.jpg", "c/2.jpg", "c/2.png"]
    assert match_paths(tmp_path, names, ["b/train/1.jpg", "x/train/1.jpg", "c/2.png"]) == {
        "b/train/1.jpg": "b/train/1.jpg",
        "c/2.png": "c/2.png",
    }


FACES = [f"faces/{number}" for number in range(4)]


def below(folder: str, names: list[str], ending: str = ".png") -> list[str]:
    return [f"{folder}/{name}{ending}" for name in names]


@pytest.mark.parametrize(
    ("names", "paths", "found"),
    [
        # What is missing in one folder is never taken from another that ends alike.
        (below("a", FACES) + below("b", FACES[:2]), below("b", FACES), below("b", FACES[:2])),
        (below("a", FACES), below("a", FACES) + below("b", FACES), below("a", FACES)),
        (below("a", FACES), below("a", FACES[:2]) + below("b", FACES[2:]), below("a", FACES[:2])),
        (below("a", [*FACES, "more/9"]), below("a", FACES) + below("b", ["more/9"]), below("a", FACES)),
        (below("a", ["p1/1", "p2/1"]) + below("b", ["p1/1"]), below("b", ["p1/1", "p2/1"]), below("b", ["p1/1"])),
        ([*below("old", ["2", "3"]), "1.png"], ["1.png", "2.png"], ["1.png"]),
        (below("a", FACES), below("b", FACES) + below("c", FACES), []),
        (["1.webp"], ["1.png", "1.jpg"], []),
        (["1.png"], ["1.png", "1.jpg"], ["1.png"]),
        # Folders by other names, or added or left out, hold what they held.
        (below("mine", FACES, ".webp"), below("/home/x/yours", FACES), below("mine", FACES, ".webp")),
        (["a/train/1.webp", "b/val/1.webp"], ["train/1.jpg", "val/1.jpg"], ["a/train/1.webp", "b/val/1.webp"]),
        (["p1/1.png", "p2/2.png"], ["1.png", "2.png"], ["p1/1.png", "p2/2.png"]),
        (FACES, below("/home/x/yours", FACES, ""), FACES),
    ],
)  # fmt: skip
def test_a_missing_picture_is_never_another_one(
    tmp_path: Path, names: list[str], paths: list[str], found: list[str]
) -> None:
    matched = match_paths(tmp_path, names, paths)
    assert sorted(matched.values()) == sorted(found)
    assert all(path == name for path, name in matched.items() if path in names)


def test_two_spellings_of_one_path_are_the_same_picture(tmp_path: Path) -> None:
    paths = ["faces/1.png", "faces\\1.png", f"{tmp_path}/faces/1.png"]
    assert match_paths(tmp_path, ["faces/1.webp"], paths) == dict.fromkeys(paths, "faces/1.webp")


def test_picture_endings() -> None:
    assert [is_picture(name) for name in ("a.JPG", "b.webp", "c.csv", "d", "e.jpg.txt")] == [
        *(True, True, False, False, False),
    ]
