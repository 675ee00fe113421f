"""Encoding in shares: what they give together, what a lost or foreign one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anglehash.cli.main import cli
from anglehash.encode.shards import Shard
from anglehash.errors import ConfigError
from tests.cli.test_cli import TRAIN, write_images


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_images(tmp_path / "photos", ["cat", "dog", "owl"], 20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    photos = write_images(folder / "photos", ["cat", "dog", "owl"], 20)
    assert cli.main(["train", str(photos), "-o", str(folder / "m"), *TRAIN], standalone_mode=False) == 0
    return folder / "m"


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_shares_together_are_the_whole_in_any_order(
    photos: Path, trained: Path, tmp_path: Path, anglehash: Any
) -> None:
    (photos / "cat" / "broken.png").write_bytes(b"no image")
    assert anglehash("encode", trained, photos, "-o", tmp_path / "whole.npz").code == 3
    out = tmp_path / "c.npz"
    first = anglehash("encode", trained, photos, "-o", out, "--shard", "3/3")
    assert "shard 3 of 3: 19 codes of 16 bits; still to be encoded: shards 1, 2" in first.out
    assert not out.exists()
    anglehash("encode", trained, photos, "-o", out, "--shard", "1/3")
    last = anglehash("encode", trained, photos, "-o", out, "--shard", "2/3", "--json")
    assert last.code == 3
    assert (last.json["images"], last.json["skipped"], last.json["left"]) == (60, 1, [])
    whole, joined = arrays(tmp_path / "whole.npz"), arrays(out)
    assert whole.keys() == joined.keys()
    assert all(np.array_equal(whole[name], joined[name]) for name in whole)
    assert not (tmp_path / "c.npz.shards").exists()


def test_a_damaged_share_is_named_and_made_again(
    photos: Path, trained: Path, tmp_path: Path, anglehash: Any
) -> None:
    out = tmp_path / "c.npz"
    anglehash("encode", trained, photos, "-o", out, "--shard", "1/2")
    share = tmp_path / "c.npz.shards" / "1-of-2.npz"
    share.write_bytes(share.read_bytes()[:-40])
    done = anglehash("encode", trained, photos, "-o", out, "--shard", "2/2")
    assert done.code == 1
    assert "1-of-2.npz is damaged: encode it again with --shard 1/2" in done.err
    assert not out.exists()
    assert anglehash("encode", trained, photos, "-o", out, "--shard", "1/2").code == 0
    assert len(arrays(out)["ids"]) == 60


def test_shares_of_other_images_are_not_joined(
    photos: Path, trained: Path, tmp_path: Path, anglehash: Any
) -> None:
    out = tmp_path / "c.npz"
    anglehash("encode", trained, photos, "-o", out, "--shard", "1/2")
    (photos / "cat" / "00.png").unlink()
    done = anglehash("encode", trained, photos, "-o", out, "--shard", "2/2")
    assert done.code == 1
    assert "of other images or another model" in done.err


def test_an_encoded_share_is_kept(
    photos: Path, trained: Path, tmp_path: Path, anglehash: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c.npz"
    anglehash("encode", trained, photos, "-o", out, "--shard", "1/2")
    monkeypatch.setattr("anglehash.encode.shards.encode_listed", None)
    assert anglehash("encode", trained, photos, "-o", out, "--shard", "1/2").code == 0


def test_torchrun_tells_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Shard.read(None) is None
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert Shard.read(None) == (3, 4)
    assert Shard.read("1/2") == (1, 2)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/-2", ""])
def test_what_is_not_share(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 2/8"):
        Shard.read(text)
