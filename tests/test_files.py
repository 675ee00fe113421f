from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from pathlib import Path

import pytest

from anglehash import files
from anglehash.errors import OutputExistsError
from anglehash.files import cache_dir, new_folder, sha256_file, sha256_json, write_atomic, write_json


def test_an_atomic_write_replaces_the_whole_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_atomic(path, b"old and long")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["b.txt"]


def test_a_failed_folder_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with new_folder(path) as folder:
        (folder / "x").write_text("first")
    with pytest.raises(ZeroDivisionError), new_folder(path, force=True) as folder:
        (folder / "x").write_text(f"{1 / 0}")
    assert (path / "x").read_text() == "first"
    assert os.listdir(tmp_path) == ["model"]


def test_a_folder_is_on_disk_before_the_one_that_it_replaces_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = tmp_path / "model", list[str]()
    with new_folder(path):
        pass
    fsync, rmtree = os.fsync, shutil.rmtree
    there = dict[int, str]()

    def note_sync(handle: int) -> None:
        calls.append(there.get(os.fstat(handle).st_ino, "other"))
        fsync(handle)

    def note_removal(folder: Path, *, ignore_errors: bool = False) -> None:
        if any(folder.rglob("*")):
            calls.append("remove")
        rmtree(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(shutil, "rmtree", note_removal)
    with new_folder(path, force=True) as folder:
        (folder / "in").mkdir()
        (folder / "in" / "x").write_text("x")
        places = {"file": folder / "in" / "x", "inner": folder / "in", "folder": folder, "parent": tmp_path}
        there |= {place.stat().st_ino: name for name, place in places.items()}
    assert sorted(calls[:-2]) == ["file", "folder", "inner"]
    assert calls[-2:] == ["parent", "remove"]


def test_what_a_killed_process_left_beside_goes_and_what_another_holds_stays(tmp_path: Path) -> None:
    kept = [".other.aaaaaaaa.tmp", ".model.notes.tmp", ".model.cccccccc.old"]
    for name in (*kept, ".model.aaaaaaaa.tmp", ".model.bbbbbbbb.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / ".model.dddddddd.tmp").mkdir()  # fresh
    with files._locked(tmp_path / ".model.bbbbbbbb.tmp"), new_folder(tmp_path / "model"):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted(
        [*kept, ".model.bbbbbbbb.tmp", ".model.dddddddd.tmp", "model"]
    )


@pytest.mark.skipif(os.name != "posix", reason="no file modes there")
def test_files_in_a_new_folder_can_be_read_by_others(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model") as folder:
        (folder / "weights").touch(mode=0o600)
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "model" / "weights").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_folder_is_replaced_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "stale").touch()
    with pytest.raises(OutputExistsError, match="--force"), new_folder(path):
        pass
    with new_folder(path, force=True) as folder:
        (folder / "fresh").touch()
    assert os.listdir(path) == ["fresh"]
    assert os.listdir(tmp_path) == ["model"]


def test_a_folder_of_somebody_elses_is_never_replaced(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").touch()
    with pytest.raises(OutputExistsError, match="was not written by this command"):
        new_folder(photos, force=True, ours=lambda folder: (folder / "manifest.json").exists()).__enter__()
    assert os.listdir(photos) == ["holiday.jpg"]


def test_json_hash_is_that_of_the_value_not_of_its_spelling() -> None:
    assert sha256_json({"a": [1, 2], "b": None}) == sha256_json({"b": None, "a": [1, 2]})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})


def test_json_keeps_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    write_json(tmp_path / "x.json", {"id": name})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["id"] == name


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_file(tmp_path / "empty") == expected


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANGLEHASH_CACHE", "/somewhere")
    assert cache_dir() == Path("/somewhere")
    monkeypatch.delenv("ANGLEHASH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/anglehash")


def test_a_user_without_a_home_has_a_private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANGLEHASH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files._private_folder.cache_clear()
    found = cache_dir()
    assert found == tmp_path / f"anglehash-{os.getuid()}"
    assert found.stat().st_mode & 0o077 == 0
    found.chmod(0o777)  # others may have put files there
    files._private_folder.cache_clear()
    other = cache_dir()
    assert other != found
    assert other.stat().st_mode & 0o077 == 0
    files._private_folder.cache_clear()
