"""A gallery in an engine grows by the commands by which a folder does, and ends up with the same items."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from anglehash.cli.main import cli
from anglehash.errors import RemoteError
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.writer import Changes
from anglehash.gallery.writing import write_gallery
from anglehash.remote.gallery import RemoteGallery


def run(*words: object) -> Any:
    done = CliRunner().invoke(
        cli, [*map(str, words), "--json"], catch_exceptions=False, standalone_mode=False
    )
    assert done.return_value in (None, 0, 3), done.output
    return json.loads(done.stdout)


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (14, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(12):
        write_image(tmp_path / "photos" / ["cat", "dog"][number % 2] / f"{number}.png", number)
    return tmp_path / "photos"


def without_name(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != "gallery"}


def test_add_sync_and_remove_as_in_a_folder(photos: Path, model: Path, tmp_path: Path, target: str) -> None:
    gallery, more = tmp_path / "g", tmp_path / "more"
    run("index", model, photos, "-o", gallery)
    run("push", gallery, target)
    for number in range(3):
        write_image(more / f"{number}.png", 100 + number)
    (more / "notes.png").write_bytes(b"no image")

    def both(*words: object) -> dict[str, Any]:
        here, there = (without_name(run(words[0], place, *words[1:])) for place in (gallery, target))
        assert there == here
        return here

    assert both("add", more, "--prefix", "more")["added"] == 3
    write_image(more / "0.png", 200)
    done = both("add", more, "--prefix", "more")
    assert (done["replaced"], done["unchanged"], done["skipped"]) == (1, 2, 1)
    shutil.move(photos / "cat" / "0.png", photos / "dog" / "renamed.png")
    (photos / "cat" / "2.png").unlink()
    for name in ("0.png", "1.png", "2.png", "notes.png"):
        shutil.move(more / name, photos / name)
    done = both("sync", photos, "--force")
    assert (done["renamed"], done["removed"]) == (4, 1)
    assert both("remove", "dog/1.png", "1.png")["removed"] == 2
    both("list")
    query = ("--similar-to", "dog/renamed.png", "-k", 20)
    assert run("search", target, *query)["results"] == run("search", gallery, *query)["results"]
    with RemoteGallery.open(target) as there:
        assert {number: Path(source.data).name for number, source in there.entry.sources} == {
            1: "photos",
            2: "more",
        }
    run("pull", target, "-o", tmp_path / "back")
    assert run("sync", tmp_path / "back", photos)["unchanged"] == 12


def test_what_is_not_there_is_named_and_nothing_goes(model: Path, target: str) -> None:
    RemoteGallery.create(target, bits=8, model_id="m").close()
    with write_gallery(target) as writer:
        writer.commit(Changes([Item("a", b"\1"), Item("b", b"\2")]))
    done = CliRunner().invoke(cli, ["remove", target, "a", "c"], standalone_mode=False)
    assert "no item 'c'" in str(done.exception)
    with RemoteGallery.open(target) as there:
        assert there.ids == ("a", "b")


def test_a_writer_that_died_in_a_commit_leaves_nothing_wrong(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In PostgreSQL nothing of the commit is there; in Milvus its items are, and the next writer counts them."""
    RemoteGallery.create(target, bits=8, model_id="m").close()
    with write_gallery(target) as writer:
        writer.commit(Changes([Item("a", b"\1")]))
        engine = type(writer._view.engine)  # type: ignore[attr-defined]
        with monkeypatch.context() as patch:
            patch.setattr(engine, "count", dying)
            with pytest.raises(RemoteError, match="the line is down"):
                writer.commit(Changes([Item("b", b"\2"), Item("c", b"\3")]))
    with write_gallery(target) as writer:
        writer.commit(Changes([Item("c", b"\4"), Item("d", b"\5")]))
    with RemoteGallery.open(target) as there:
        left = ["a", "c", "d"] if target.startswith("postgres") else ["a", "b", "c", "d"]
        assert (sorted(there.ids), len(there)) == (left, len(left))
        assert len({stored.row for stored in there}) == len(left)
        assert there.item("c").item.code == b"\4"


def dying(*_: object) -> int:
    raise RemoteError("the line is down")
