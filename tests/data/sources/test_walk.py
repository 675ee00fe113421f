from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from anglehash.data.images.decoding import REASONS
from anglehash.data.sources.walk import Files, file_problem, walk
from anglehash.errors import ImageError

GIF = b"GIF89a" + bytes(20)


def make(root: Path, *names: str, data: bytes = GIF) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def test_images_are_listed_sorted_with_slashes(tmp_path: Path) -> None:
    make(tmp_path, "b/2.png", "b/10.png", "a/deep/er/x.JPG", "top.webp")
    found = walk(tmp_path)
    assert found.names == ["a/deep/er/x.JPG", "b/10.png", "b/2.png", "top.webp"]
    assert found.folders == ["", "a", "a/deep", "a/deep/er", "b"]
    assert (found.problems, found.ignored) == ([], 0)


def test_the_order_does_not_depend_on_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a/1.png", "b/1.png", "b/2.png", "c.png")
    (tmp_path / "z").symlink_to(tmp_path / "b")
    (tmp_path / "y").symlink_to(tmp_path / "b")
    forward = walk(tmp_path)
    entries = os.scandir

    class Reversed:
        def __init__(self, path: Path) -> None:
            with entries(path) as scan:
                self.found = sorted(scan, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.found

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Reversed)
    assert walk(tmp_path) == forward


def test_side_files_and_hidden_ones_are_counted_and_not_listed(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png")
    make(tmp_path, ".hidden.png", ".git/x.png", "a/Thumbs.db", "a/notes.txt", "@eaDir/1.png", data=b"text")
    found = walk(tmp_path)
    assert found.names == ["a/1.png"]
    assert found.ignored == 5
    assert found.problems == []


def test_a_name_without_suffix_is_reported_by_content(tmp_path: Path) -> None:
    make(tmp_path, "IMG_0001", "scan.old")
    make(tmp_path, "Makefile", "film.mp4", data=b"all: nothing")
    make(tmp_path, "letter", data=b"%PDF-1.4")  # a picture of a kind that is refused: decoding will say so
    found = walk(tmp_path)
    assert found.names == ["IMG_0001", "letter", "scan.old"]
    assert found.ignored == 2


def test_pictures_of_foreign_formats_are_reported_and_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.heic", "b.SVG", "c.eps")
    monkeypatch.setattr(Path, "open", lambda *a, **k: pytest.fail("opened"))
    assert [(p.id, p.reason) for p in walk(tmp_path).problems] == [
        ("a.heic", "unsupported-format"),
        ("b.SVG", "unsupported-format"),
        ("c.eps", "unsupported-format"),
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file kinds")
def test_special_files_are_reported_and_never_opened(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "a" / "gone.png").symlink_to("nowhere")
    (tmp_path / "a" / "round.png").symlink_to("round.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "a" / "s"))
        found = walk(tmp_path)
    assert found.names == ["a/1.png"]
    assert [(p.id, p.reason) for p in found.problems] == [
        ("a/gone.png", "unreadable-file"),
        ("a/pipe.png", "not-a-file"),
        ("a/round.png", "link-loop"),
        ("a/s", "not-a-file"),
        ("a/zero.jpg", "not-a-file"),
    ]
    assert {p.reason for p in found.problems} <= REASONS.keys()


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/1.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "cats").symlink_to(tmp_path / "elsewhere")
    (root / "one.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    assert walk(root).names == ["cats/1.png", "one.png"]


def test_link_loops_end_and_are_reported(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "side").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "side").symlink_to(tmp_path / "a")
    found = walk(tmp_path)
    assert found.names == ["a/1.png", "b/2.png"]
    assert [(p.id, p.reason) for p in found.problems] == [
        ("a/side", "link-loop"),
        ("a/up", "link-loop"),
        ("b/side", "link-loop"),
    ]


def test_a_folder_keeps_its_own_path_when_a_link_to_it_comes_first(tmp_path: Path) -> None:
    make(tmp_path, "z/1.png")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    found = walk(tmp_path)
    assert found.names == ["z/1.png"]
    assert [p.id for p in found.problems] == ["a"]


def test_an_unreadable_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/1.png", "b/1.png")
    scandir = os.scandir

    def guarded(path: Path) -> object:  # permissions do not stop root, who runs tests in containers
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = walk(tmp_path)
    assert found.names == ["b/1.png"]
    assert found.problems == [("a", "unreadable-file", "Permission denied")]


@pytest.mark.skipif(sys.platform != "linux", reason="byte names")
@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9.png",
        b"line\nbreak.png",
        "🦊.png".encode(),
        b"n" * 251 + b".png",
        "e\u0301.png".encode(),
    ],
)
def test_odd_names_survive(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes(GIF)
    (listed,) = walk(tmp_path).names
    assert os.fsencode(listed) == name
    assert Files(tmp_path, (listed,)).read(0) == GIF


def test_composed_and_decomposed_names_stay_two(tmp_path: Path) -> None:
    make(tmp_path, "\u00e9.png", "e\u0301.png")
    if len(os.listdir(tmp_path)) < 2:
        pytest.skip("this file system takes them for one name")
    assert walk(tmp_path).names == ["e\u0301.png", "\u00e9.png"]


def test_a_folder_deeper_than_a_path_may_be_long_ends(tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(40):
            os.mkdir("d" * 120)
            os.chdir("d" * 120)
    finally:
        os.chdir(here)
    found = walk(tmp_path)
    assert found.names == []
    assert [p.reason for p in found.problems] == ["unreadable-file"]


def test_a_vanished_file_is_an_image_error(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    files = Files(tmp_path, ("a.png",))
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match="unreadable-file"):
        files.read(0)


def test_file_problem_tells_what_is_not_a_file(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    assert file_problem("a", tmp_path / "a.png") is None
    folder = file_problem("f", tmp_path)
    assert folder == ("f", "not-a-file", "a folder")
    absent = file_problem("g", tmp_path / "a.png" / "below")
    assert absent is not None
    assert absent.reason == "unreadable-file"


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["raw/*"], ["a/1.png", "a/2.gif", "a/raw/3.png"]),
        (["raw"], ["a/1.png", "a/2.gif"]),
        (["*.gif"], ["a/1.png", "a/raw/3.png", "raw/4.png"]),
        (["a/*", "*.gif"], ["raw/4.png"]),
        (["?/raw/*"], ["a/1.png", "a/2.gif", "raw/4.png"]),
    ],
)
def test_what_matches_a_pattern_is_left_out(tmp_path: Path, patterns: list[str], names: list[str]) -> None:
    for name in ("a/1.png", "a/2.gif", "a/raw/3.png", "raw/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = walk(tmp_path, patterns)
    assert found.names == names
    assert found.excluded == len({"a/1.png", "a/2.gif", "a/raw/3.png", "raw/4.png"}) - len(names)


def test_links_that_lead_out_are_named(tmp_path: Path) -> None:
    for name in ("photos/a/1.png", "photos/b/2.png", "elsewhere/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "photos/a/out.png").symlink_to(tmp_path / "elsewhere/3.png")
    (tmp_path / "photos/b/in.png").symlink_to("../a/1.png")
    (tmp_path / "photos/c").symlink_to(tmp_path / "elsewhere")
    found = walk(tmp_path / "photos")
    assert found.names == ["a/1.png", "a/out.png", "b/2.png", "b/in.png", "c/3.png"]
    assert sorted(found.outside) == ["a/out.png", "c"]
