from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from anglehash.cache import read_cached, write_cached


def test_a_name_holds_the_hash_of_the_content(tmp_path: Path) -> None:
    write_cached(tmp_path / "new", "part", ".bin", b"content")
    write_cached(tmp_path / "new", "part", ".bin", b"content")
    (path,) = (tmp_path / "new").iterdir()
    assert path.name == f"part-{hashlib.sha256(b'content').hexdigest()}.bin"
    assert read_cached(path) == b"content"


@pytest.mark.parametrize("damaged", [b"", b"conten", b"kontent", b"content\0"])
def test_damage_is_found_and_removed(tmp_path: Path, damaged: bytes) -> None:
    write_cached(tmp_path, "part", ".bin", b"content")
    (path,) = tmp_path.iterdir()
    path.write_bytes(damaged)
    assert read_cached(path) is None
    assert not path.exists()
    assert read_cached(path) is None


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    write_cached(tmp_path / "file", "part", ".bin", b"content")
    assert "is not cached" in caplog.text
