from __future__ import annotations

import io
import json
import os
import sqlite3
import tarfile
from pathlib import Path

import numpy as np
import pytest

from anglehash.errors import ModelError, OutputExistsError
from anglehash.files import sha256_json
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.backup import backup, restore
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.writer import Changes

NAME = os.fsdecode(b"caf\xe9.jpg")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    (model / "deep").mkdir(parents=True)
    (model / "weights").write_bytes(b"12")
    (model / "deep" / "more").write_bytes(b"3")
    codes = np.arange(40, dtype=np.uint8).reshape(20, 2)
    Gallery.create(
        tmp_path / "g", codes=codes, ids=[NAME, *map(str, range(19))], labels=[["x"]] * 20, bits=16,
        model_id="m", model=model, problems=[("bad", "empty", "nothing")],
    ).close()  # fmt: skip
    return tmp_path / "g"


def facts(path: Path) -> tuple[object, ...]:
    with Gallery.open(path) as gallery:
        files = sorted((p.name, p.read_bytes()) for p in gallery.model_folder.rglob("*") if p.is_file())
        return list(gallery), gallery.codes.tolist(), gallery.problems, gallery.model_id, files


def test_there_and_back(path: Path, tmp_path: Path) -> None:
    before = facts(path)
    with open_writer(path) as writer:  # a backup is taken while a writer is at work
        writer.commit(Changes(remove=["3"]))
        assert backup(path, tmp_path / "b.tar")["items"] == 19
        after = facts(path)
        writer.commit(Changes([Item("later", b"xx")]))
    restore(tmp_path / "b.tar", tmp_path / "again")
    assert facts(tmp_path / "again") == after != before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "b.tar", "g", "model"]


def test_nothing_is_replaced_unasked(path: Path, tmp_path: Path) -> None:
    backup(path, tmp_path / "b.tar")
    with pytest.raises(OutputExistsError):
        backup(path, tmp_path / "b.tar")
    with pytest.raises(OutputExistsError):
        restore(tmp_path / "b.tar", path)
    backup(path, tmp_path / "b.tar", force=True)
    restore(tmp_path / "b.tar", path, force=True)


def test_damage_is_not_backed_up(path: Path, tmp_path: Path) -> None:
    with sqlite3.connect(path / "1" / "items.db") as connection:
        connection.execute("UPDATE items SET labels = replace(labels, 'x', 'y') WHERE row = 5")
    connection.close()
    with pytest.raises(ModelError, match=r"items\.db"):
        backup(path, tmp_path / "b.tar")
    assert not list(tmp_path.glob("*b.tar*"))


def test_every_flipped_bit_is_found(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    backup(path, file)
    whole, before = file.read_bytes(), facts(path)
    rng = np.random.default_rng(0)
    for bit in rng.integers(0, 8 * len(whole), 40):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        try:
            restore(file, tmp_path / "again", force=True)
        except ModelError:
            assert not (tmp_path / "again").exists()
        else:  # tar's own padding and headers mean nothing
            assert facts(tmp_path / "again") == before
            os.rename(tmp_path / "again", tmp_path / f"again{bit}")


def test_cut_files_are_refused(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    backup(path, file)
    whole = file.read_bytes()
    for size in [0, 100, 512, 5000, len(whole) // 2]:
        file.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"b\.tar"):
            restore(file, tmp_path / "again")
        assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "model/../../evil", "model", "model//x", "model/a\\b"]
)
def test_members_stay_inside(path: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "b.tar"
    backup(path, file)
    with tarfile.open(file) as tar:
        index = json.loads(tar.extractfile("backup.json").read())  # type: ignore[union-attr]
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()[1:]}  # type: ignore[union-attr]
    members[name] = b"12"
    index["files"][name] = index["files"]["model/weights"]
    del index["seal"]
    members = {"backup.json": json.dumps({**index, "seal": sha256_json(index)}).encode(), **members}
    with tarfile.open(file, "w") as tar:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(ModelError, match="which does not belong in a gallery"):
        restore(file, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert not (tmp_path / "evil").exists()
