"""Histories of a gallery, made up at random: what must be there after them is kept in a plain dictionary.

Pictures come, change, move and go; they are added, synchronised, removed, relabelled, encoded with another model,
backed up and restored; and any of this may be killed before any of its writes. Then each item is as it was or as
it would have become, and no command is undone that had returned before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from anglehash.gallery import build as galleries
from anglehash.gallery import ingest
from anglehash.gallery.build import Images
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.reindex import reindex
from anglehash.gallery.store.backup import backup, restore
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.verify import verify
from anglehash.gallery.store.writer import Changes

Held = dict[str, tuple[bytes, tuple[str, ...]]]

NAMES = st.sampled_from([f"{folder}/{number}.png" for folder in "ab" for number in range(4)])
DATA = st.sampled_from([b"bad picture", *(b"picture %d" % number for number in range(30))])
KILLS = st.one_of(st.just(0), st.integers(1, 60))
"""Before which write a command is killed; 0 for never."""


class Histories(RuleBasedStateMachine):
    """A folder of pictures, a gallery of them, and what both of them hold.

    Attributes:
        files: the pictures, by name.
        held: the items, by id.
        saved: what the backup holds, if there is one.
    """

    def __init__(self, root: Path, models: dict[str, Path], encoder: Any, killed_at: Any) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=root))
        self.models, self.encoder, self.killed_at = models, encoder, killed_at
        self.model = "m"
        self.saved: tuple[str, Held] | None = None
        self.files: dict[str, bytes] = {}
        self.write("a/always.png", b"picture of all days")
        self.held: Held = self._added()
        galleries.build(models["m"], self.images, self.gallery)
        self.reader = Gallery.open(self.gallery)

    @property
    def gallery(self) -> Path:
        return self.root / "g"

    @property
    def images(self) -> Images:
        return Images(data=str(self.root / "photos"))

    def _code(self, data: bytes) -> bytes:
        code: bytes = self.encoder(self.model).code(data)
        return code

    def _added(self) -> Held:
        """What the folder's pictures are as items."""
        whole = {name: data for name, data in self.files.items() if not data.startswith(b"bad")}
        return {name: (self._code(data), (name[0],)) for name, data in whole.items()}

    @rule(name=NAMES, data=DATA)
    def write(self, name: str, data: bytes) -> None:
        path = self.root / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.files[name] = data

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        (self.root / "photos" / name).unlink(missing_ok=True)
        self.files.pop(name, None)

    @rule(name=NAMES, other=NAMES)
    def rename(self, name: str, other: str) -> None:
        if name in self.files and name != other:
            self.write(other, self.files[name])
            self.delete(name)

    @rule(kill=KILLS)
    def add(self, kill: int) -> None:
        broken = {name for name, data in self.files.items() if data.startswith(b"bad")}
        kept = {name: item for name, item in self.held.items() if name not in broken}
        self._do(lambda: galleries.add(self.gallery, self.images), kept | self._added(), kill)

    @rule(kill=KILLS)
    def sync(self, kill: int) -> None:
        self._do(lambda: galleries.sync(self.gallery, self.images, force=True), self._added(), kill)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), kill=KILLS)
    def remove(self, data: st.DataObject, kill: int) -> None:
        gone = data.draw(st.sets(st.sampled_from(sorted(self.held)), min_size=1, max_size=3))
        kept = {name: item for name, item in self.held.items() if name not in gone}
        self._do(lambda: galleries.remove(self.gallery, tuple(gone)), kept, kill, whole=True)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), label=st.sampled_from(["x", "y", "\u00e9"]), kill=KILLS)
    def relabel(self, data: st.DataObject, label: str, kill: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))

        def change() -> None:
            with open_writer(self.gallery) as writer:
                writer.commit(Changes([writer.items([name])[name].item._replace(labels=(label,))]))

        self._do(change, self.held | {name: (self.held[name][0], (label,))}, kill, whole=True)

    @rule(kill=KILLS)
    def reindex(self, kill: int) -> None:
        before, self.model = self.model, "n" if self.model == "m" else "m"
        found = {name: (self.files.get(name, b"bad"), labels) for name, (_, labels) in self.held.items()}
        after = {
            name: (self._code(data), labels)
            for name, (data, labels) in found.items()
            if not data.startswith(b"bad")
        }
        self._do(lambda: reindex(self.gallery, self.models[self.model]), after, kill, whole=True)
        with Gallery.open(self.gallery) as opened:
            assert opened.model_id in (before, self.model) if kill else opened.model_id == self.model
            self.model = opened.model_id

    @rule(kill=KILLS)
    def backup(self, kill: int) -> None:
        file = self.root / "b.tar"
        done = self._do(lambda: backup(self.gallery, file, force=True), self.held, kill)
        if not file.exists():
            assert not done
            assert self.saved is None
            return
        restore(file, self.root / "probe", force=True)
        with Gallery.open(self.root / "probe") as opened:
            found = opened.model_id, _held(opened)
        assert found == (self.model, self.held) or (not done and found == self.saved)
        self.saved = found

    @precondition(lambda self: self.saved)
    @rule(kill=KILLS)
    def restore(self, kill: int) -> None:
        assert self.saved
        self._do(
            lambda: restore(self.root / "b.tar", self.gallery, force=True), self.saved[1], kill, whole=True
        )
        with Gallery.open(self.gallery) as opened:
            self.model = opened.model_id

    @rule()
    def reopen(self) -> None:
        self.reader.close()
        self.reader = Gallery.open(self.gallery)

    def _do(self, work: Callable[[], object], after: Held, kill: int, *, whole: bool = False) -> bool:
        """Run a command, killed or not; whether it came to its end."""
        if kill:
            run = self.killed_at(work, kill)
            assert run.error == ""
            done = len(run.writes) < kill
        else:
            work()
            done = True
        with Gallery.open(self.gallery) as opened:
            found = _held(opened)
        if done:
            assert found == after
        elif whole:
            assert found in (self.held, after)
        for name in found.keys() | self.held.keys() | after.keys():
            assert found.get(name) in (self.held.get(name), after.get(name))
        self.held = found
        return done

    @invariant()
    def all_is_well(self) -> None:
        assert verify(self.gallery) == []
        self.reader.refresh()
        assert _held(self.reader) == self.held

    def teardown(self) -> None:
        self.reader.close()


def _held(gallery: Gallery) -> Held:
    found = {one.item.id: (one.item.code, one.item.labels) for one in gallery}
    assert gallery.codes.tobytes() == b"".join(code for code, _ in found.values())
    return found


def test_histories(
    tmp_path: Path,
    fake_models: dict[str, Path],
    fake_encoder: Any,
    killed_at: Any,
    trials: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(galleries, "LARGEST", 3)  # pictures of one commit
    monkeypatch.setattr(ingest, "SMALLEST", 3)
    long = len(trials(0, 1)) > 0
    run_state_machine_as_test(
        lambda: Histories(tmp_path, fake_models, fake_encoder, killed_at),  # type: ignore[arg-type]
        settings=settings(
            max_examples=300 if long else 6,
            stateful_step_count=40 if long else 20,
            deadline=None,
            derandomize=not long,
            suppress_health_check=list(HealthCheck),
        ),
    )
