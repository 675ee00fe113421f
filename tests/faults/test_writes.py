"""Every command that writes, stopped between any two of its writes and looked at between any two of them.

The writes are those that the program makes: they are counted while a command runs, and then it is killed before each
of them in turn. So a write that is new is tried too.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anglehash import files
from anglehash.errors import AnglehashError, DataError
from anglehash.gallery import build as galleries
from anglehash.gallery import ingest
from anglehash.gallery.build import Images
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.reindex import reindex
from anglehash.gallery.store import writer as writing
from anglehash.gallery.store.backup import backup, restore
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.repair import repair
from anglehash.gallery.store.sources import sources_of
from anglehash.gallery.store.summary import codes_by_labels, summarise
from anglehash.gallery.store.verify import verify
from anglehash.gallery.store.writer import Changes

Held = dict[str, tuple[bytes, tuple[str, ...]]]


@dataclass
class World:
    """A folder with pictures, models and a gallery of them, which can be put back as it was."""

    root: Path
    models: dict[str, Path]
    kept: Path = field(init=False)

    def __post_init__(self) -> None:
        self.kept = self.root.with_name("kept")

    @property
    def gallery(self) -> Path:
        return self.root / "g"

    @property
    def photos(self) -> Path:
        return self.root / "photos"

    def keep(self) -> None:
        shutil.rmtree(self.kept, ignore_errors=True)
        shutil.copytree(self.root, self.kept)

    def put_back(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self.kept, self.root)

    def images(self, name: str = "photos") -> Images:
        return Images(data=str(self.root / name))


@pytest.fixture
def world(tmp_path: Path, fake_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(galleries, "LARGEST", 3)  # pictures of one commit
    monkeypatch.setattr(ingest, "SMALLEST", 3)
    found = World(tmp_path / "world", fake_models)
    for number in range(8):
        picture(found.photos / "ab"[number % 2] / f"{number}.png", number)
    for number in range(7):
        picture(found.root / "more" / "c" / f"{number}.png", 100 + number)
    picture(found.photos / "a" / "broken.png", -1)
    galleries.build(fake_models["m"], found.images(), found.gallery)
    return found


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"bad" if number < 0 else b"picture %d" % number)


def held(path: Path) -> Held:
    with Gallery.open(path) as gallery:
        return items_of(gallery)


def items_of(gallery: Gallery) -> Held:
    found = {one.item.id: (one.item.code, one.item.labels) for one in gallery}
    assert gallery.codes.tobytes() == b"".join(code for code, _ in found.values())
    return found


def prepare_nothing(world: World) -> None:
    pass


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
        run: the command.
        prepare: what is done before it.
        output: the gallery that it changes or makes.
        whole: it changes all or nothing; else each item by itself is old or new.
        replaces: it puts another folder in the place of one that is there.
    """

    run: Callable[[World], object]
    prepare: Callable[[World], object] = prepare_nothing
    output: str = "g"
    whole: bool = True
    replaces: bool = False


def change_photos(world: World) -> None:
    """One is replaced, one is renamed, one goes, one comes, one breaks, one is mended."""
    picture(world.photos / "a" / "0.png", 50)
    (world.photos / "b" / "1.png").rename(world.photos / "a" / "renamed.png")
    (world.photos / "a" / "2.png").unlink()
    picture(world.photos / "b" / "new.png", 51)
    picture(world.photos / "b" / "3.png", -1)
    picture(world.photos / "a" / "broken.png", 52)


def relabel(world: World) -> None:
    with open_writer(world.gallery) as writer:
        items = [one.item._replace(labels=("z",)) for one in writer.items(["a/0.png", "b/1.png"]).values()]
        writer.commit(Changes(items))


def merge(world: World) -> None:
    """Segments are merged, and removed rows are purged because there are many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "TAIL", 1)
        with open_writer(world.gallery) as writer:
            writer.commit(Changes([Item("new", b"12", ("x",))], ["a/0.png", "a/2.png", "a/4.png"]))


def create(world: World) -> None:
    codes = np.zeros((3, 2), np.uint8)
    Gallery.create(
        world.root / "out", codes=codes, ids=["x", "y", "z"], labels=[["l"]] * 3, bits=16, model_id="m",
        model=world.models["m"], force=True,
    ).close()  # fmt: skip


def begin_reindex(world: World) -> None:
    """A reindex that was stopped, after which an item went, one was relabelled and one replaced."""
    from anglehash.gallery import reindex as reindexing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reindexing, "SMALLEST", 1)
        patch.setattr(reindexing, "LARGEST", 4)
        patch.setattr(writing.Writer, "complete", stop)
        with pytest.raises(KeyboardInterrupt):
            reindex(world.gallery, world.models["n"])
    galleries.remove(world.gallery, ("a/2.png",))
    (world.photos / "a" / "2.png").unlink()
    relabel(world)
    picture(world.photos / "b" / "3.png", 60)
    galleries.add(world.gallery, world.images())


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def damage_row(world: World) -> None:
    with sqlite3.connect(world.gallery / "1" / "items.db") as connection:
        connection.execute("UPDATE items SET labels = replace(labels, 'a', 'q') WHERE row = 2")
    connection.close()


def damage_manifest(world: World) -> None:
    (world.gallery / "manifest.json").write_bytes(b"{}")


def damage_receipt(world: World) -> None:
    (world.gallery / "1" / "receipt").write_bytes(bytes(12))


def back_up(world: World) -> None:
    backup(world.gallery, world.root / "b.tar")


def back_up_another(world: World) -> None:
    """A backup, and a gallery that has gone on since."""
    back_up(world)
    galleries.add(world.gallery, world.images("more"))


COMMANDS = {
    "index": Command(
        lambda w: galleries.build(w.models["m"], w.images("more"), w.root / "out"), output="out"
    ),
    "index --force": Command(
        lambda w: galleries.build(w.models["n"], w.images("more"), w.gallery, force=True), replaces=True
    ),
    "index --force with the same model": Command(
        lambda w: galleries.build(w.models["m"], w.images("more"), w.gallery, force=True), replaces=True
    ),
    "create": Command(create, output="out"),
    "create again": Command(create, create, output="out", replaces=True),
    "add": Command(lambda w: galleries.add(w.gallery, w.images("more")), whole=False),
    "add changed": Command(lambda w: galleries.add(w.gallery, w.images()), change_photos, whole=False),
    "sync": Command(lambda w: galleries.sync(w.gallery, w.images()), change_photos, whole=False),
    "remove": Command(lambda w: galleries.remove(w.gallery, ("a/0.png", "b/3.png"))),
    "relabel": Command(relabel),
    "merge": Command(merge),
    "reindex": Command(lambda w: reindex(w.gallery, w.models["n"])),
    "reindex again": Command(lambda w: reindex(w.gallery, w.models["n"]), begin_reindex),
    "restore": Command(lambda w: restore(w.root / "b.tar", w.root / "out"), back_up, output="out"),
    "restore --force": Command(
        lambda w: restore(w.root / "b.tar", w.gallery, force=True), back_up_another, replaces=True
    ),
}
REPAIRS = {"a row": damage_row, "the manifest": damage_manifest, "the receipt": damage_receipt}


def numbers(count: int, trials: Any, most: int) -> list[int]:
    """Which of the writes are tried: all, or some of them that are spread evenly."""
    if len(trials(0, 1)) or count <= most:
        return list(range(1, count + 1))
    return sorted({round(1 + step * (count - 1) / (most - 1)) for step in range(most)})


def begun(world: World, command: Command) -> Held | None:
    """Put the world in order for a command; what its output holds, if it is there."""
    command.prepare(world)
    world.keep()
    output = world.root / command.output
    if command.replaces and not can_exchange(world.models["m"].parent):
        pytest.skip("names cannot change places on this file system, so a folder is replaced in two steps")
    return held(output) if output.exists() else None


def can_exchange(folder: Path) -> bool:
    one, other = folder / "one", folder / "other"
    one.mkdir()
    other.mkdir()
    return files._exchange(one, other)


def assert_old_or_new(found: Held | None, old: Held | None, new: Held, *, whole: bool) -> None:
    if whole or found is None or old is None:
        assert found in (old, new)
        return
    for name in old.keys() | new.keys() | found.keys():
        assert found.get(name) in (old.get(name), new.get(name)), name


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_between_any_two_writes(world: World, name: str, killed_at: Any, trials: Any) -> None:
    command = COMMANDS[name]
    old, output = begun(world, command), world.root / command.output
    run = killed_at(lambda: command.run(world), 0)
    assert run.error == ""
    assert any("COMMIT" in write for write in run.writes)
    new = held(output)
    assert new != old or "again" in name
    print(f"{name}: {len(run.writes)} writes")
    for number in numbers(len(run.writes), trials, 7):
        world.put_back()
        killed = killed_at(lambda: command.run(world), number)
        assert len(killed.writes) == number, killed
        where = f"before write {number} of {len(run.writes)}: {killed.writes[-1]}"
        if output.exists():
            assert verify(output) == [], where
        assert_old_or_new(held(output) if output.exists() else None, old, new, whole=command.whole)
        with suppress(AnglehashError):  # what is done already may be refused
            command.run(world)
        assert held(output) == new, where
        assert verify(output) == [], where
        assert not list(output.rglob("*.tmp")), where
        assert [p.name for p in output.iterdir() if p.name.isdigit()] == [
            p.name for p in output.iterdir() if p.is_dir()
        ]


@pytest.mark.parametrize("rights", ["all rights", "no rights"])
@pytest.mark.parametrize("name", COMMANDS)
def test_readers_between_any_two_writes(
    world: World, name: str, rights: str, beside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each moment another process opens the gallery, verifies it and counts; nothing is called damaged.

    Who has no rights to write there cannot take part in SQLite's locks.
    """
    command = COMMANDS[name]
    old, output = begun(world, command), world.root / command.output
    command.run(world)
    new = held(output)
    world.put_back()
    if rights == "no rights":
        monkeypatch.setattr(os, "access", lambda *_: False)
    opened = Gallery.open(output) if old is not None else None  # before all of it
    seen: list[Held] = []

    def look() -> None:
        if opened is not None:
            opened.refresh()
            assert_old_or_new(items_of(opened), old, new, whole=command.whole)
            assert len(opened.search(opened.codes[:1], 1)[0]) == 1
        if old is not None or output.exists():
            seen.append(held(output))
            assert_old_or_new(seen[-1], old, new, whole=command.whole)
            assert verify(output) == []
            assert sum(summarise(output).reasons.values()) >= 0
            assert sum(len(codes) for _, codes in codes_by_labels(output)) == len(seen[-1])
            sources_of(output)

    run = beside(lambda: command.run(world), look)
    assert run.error == ""
    if opened is not None:
        opened.refresh()
        assert items_of(opened) == new
    print(f"beside {name}: {len(seen)} times")
    assert held(output) == new
    if old is None:
        assert all(found == new for found in seen)


@pytest.mark.parametrize("name", REPAIRS)
def test_a_repair_that_is_killed(world: World, name: str, killed_at: Any, trials: Any) -> None:
    old = held(world.gallery)
    REPAIRS[name](world)
    world.keep()
    run = killed_at(lambda: repair(world.gallery), 0)
    assert run.error == ""
    new = held(world.gallery)
    assert set(new.items()) <= set(old.items())
    assert len(new) >= len(old) - 1
    print(f"repair of {name}: {len(run.writes)} writes")
    for number in numbers(len(run.writes), trials, 7):
        world.put_back()
        killed_at(lambda: repair(world.gallery), number)
        with suppress(AnglehashError):
            assert held(world.gallery) == new
        repair(world.gallery)
        assert held(world.gallery) == new
        with open_writer(world.gallery):
            pass
        assert verify(world.gallery) == []
        assert held(world.gallery) == new
        if name == "a row":
            assert (world.gallery / "1.damaged" / "items.db").is_file()


def test_a_backup_that_is_killed(world: World, killed_at: Any, trials: Any) -> None:
    file = world.root / "b.tar"
    old = held(world.gallery)
    back_up_another(world)
    new = held(world.gallery)
    world.keep()
    run = killed_at(lambda: backup(world.gallery, file, force=True), 0)
    assert run.error == ""
    print(f"backup: {len(run.writes)} writes")
    for number in numbers(len(run.writes), trials, 7):
        world.put_back()
        killed_at(lambda: backup(world.gallery, file, force=True), number)
        restore(file, world.root / "out")
        assert held(world.root / "out") in (old, new)
        assert held(world.gallery) == new
        assert verify(world.gallery) == []


def test_every_transaction_that_writes_makes_a_generation(world: World, beside: Any) -> None:
    """The manifest's sha256 is of one generation: were there two contents of it, one would look damaged."""
    change_photos(world)
    contents: dict[str, bytes] = {}

    def look() -> None:
        path = world.gallery / "1" / "items.db"
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        connection.execute("BEGIN")
        ((text,),) = connection.execute("SELECT facts FROM state").fetchall()
        data = "\n".join(connection.iterdump()).encode("utf-8", "surrogateescape")
        connection.close()
        assert contents.setdefault(text, data) == data

    assert beside(lambda: galleries.sync(world.gallery, world.images()), look).error == ""
    assert (
        beside(lambda: galleries.add(world.gallery, world.images("more")), look).error == ""
    )  # a new source
    assert len(contents) > 6


def test_a_link_to_a_gallery_is_replaced_and_not_what_it_leads_to(world: World) -> None:
    back_up(world)
    galleries.remove(world.gallery, ("a/0.png",))
    os.symlink(world.gallery, world.root / "link")
    before = held(world.gallery)
    restore(world.root / "b.tar", world.root / "link", force=True)
    assert len(held(world.root / "link")) == len(before) + 1
    assert held(world.gallery) == before


def test_items_that_are_gone_stay_gone_when_a_reindex_goes_on(world: World) -> None:
    begin_reindex(world)
    before = held(world.gallery)
    reindex(world.gallery, world.models["n"])
    after = held(world.gallery)
    assert {name: labels for name, (_, labels) in after.items()} == {
        name: labels for name, (_, labels) in before.items()
    }
    assert "a/2.png" not in after
    with pytest.raises(DataError):
        galleries.remove(world.gallery, ("a/2.png",))
