from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anglehash.errors import ModelError
from anglehash.manifest import NAME, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "weights").write_bytes(bytes(range(200)))
    write_manifest(tmp_path, "model", 2, {"bits": 32, "name": "é"})
    return tmp_path


def test_facts_come_back(folder: Path) -> None:
    content = read_manifest(folder, "model", 2)
    assert (content["bits"], content["name"], list(content["files"])) == (32, "é", ["weights"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.data())
def test_any_flipped_bit_of_any_file_is_found_and_named(folder: Path, data: st.DataObject) -> None:
    path = folder / data.draw(st.sampled_from(["weights", NAME]))
    good = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(bad))
    try:
        with pytest.raises(ModelError, match=path.name):
            read_manifest(folder, "model", 2)
    finally:
        path.write_bytes(good)


def test_each_kind_of_wrong_folder_has_its_own_message(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="anglehash-gallery is wanted"):
        read_manifest(folder, "gallery", 1)
    with pytest.raises(ModelError, match="upgrade anglehash"):
        read_manifest(folder, "model", 0)
    with pytest.raises(ModelError, match="no folder"):
        read_manifest(tmp_path / "nowhere", "model", 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=f"has no {NAME}"):
        read_manifest(tmp_path / "empty", "model", 2)
    (folder / "weights").unlink()
    with pytest.raises(ModelError, match="weights is missing"):
        read_manifest(folder, "model", 2)
    (folder / NAME).write_text(json.dumps({"format": "other"}))
    with pytest.raises(ModelError, match="another program"):
        read_manifest(folder, "model", 2)
    (folder / NAME).write_bytes(b"")
    with pytest.raises(ModelError, match="not a JSON object"):
        read_manifest(folder, "model", 2)


def test_appended_junk_is_found(folder: Path) -> None:
    with (folder / NAME).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ModelError, match="seal"):
        read_manifest(folder, "model", 2)
