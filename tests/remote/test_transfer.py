"""Push and pull: whole or not at all, and the same command finishes what was broken off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anglehash.errors import ModelError, OutputExistsError, RemoteError
from anglehash.files import write_json
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.verify import verify
from anglehash.gallery.store.writer import Changes
from anglehash.gallery.target import Target
from anglehash.manifest import write_manifest
from anglehash.remote import transfer
from anglehash.remote.gallery import RemoteGallery
from anglehash.remote.rows import Row
from anglehash.remote.snapshot import RemoteView, connect
from anglehash.remote.transfer import pull, push


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    codes = np.random.default_rng(0).integers(0, 256, (95, 8), dtype=np.uint8)
    model = tmp_path / "model"
    model.mkdir()
    write_json(model / "weights.json", list(range(20_000)))
    write_manifest(model, "model", 2, {})
    ids = [f"{i}.jpg" for i in range(95)]
    labels = [[f"l{i % 3}"] for i in range(95)]
    return Gallery.create(
        tmp_path / "g", codes=codes, ids=ids, labels=labels, bits=64, model_id="m", root="photos", model=model
    )


def class_of(place: Target) -> Any:
    engine = connect(place)
    engine.close()
    return type(engine)


def same(one: Any, other: Any) -> bool:
    return (one.bits, one.model_id, one.root) == (other.bits, other.model_id, other.root) and (
        [stored.item for stored in one] == [stored.item for stored in other]
    )


def test_there_and_back(tmp_path: Path, target: str, gallery: Gallery) -> None:
    place = Target.parse(target)
    first = push(gallery.path, place)
    assert (first.items, first.sent, first.found, first.model) == (95, 95, 0, True)
    again = push(gallery.path, place)
    assert (again.sent, again.found, again.checksum) == (0, 95, first.checksum)
    back = pull(place, tmp_path / "back")
    assert (back.items, back.sent, back.checksum, back.model) == (95, 95, first.checksum, True)
    with Gallery.open(tmp_path / "back") as pulled, RemoteGallery.open(place) as there:
        assert same(pulled, gallery)
        weights = "weights.json"
        assert (there.model_folder / weights).read_bytes() == (gallery.model_folder / weights).read_bytes()
        assert (pulled.model_folder / weights).read_bytes() == (gallery.model_folder / weights).read_bytes()
    assert verify(tmp_path / "back") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "g", "model"]
    with pytest.raises(OutputExistsError):
        pull(place, tmp_path / "back")


def test_a_push_that_is_broken_off_shows_nothing_and_the_next_finishes_it(
    target: str, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Target.parse(target)
    monkeypatch.setattr(transfer, "BATCH", 10)
    backend_class = class_of(place)
    put, calls = backend_class.put, [0]

    def failing(self: Any, collection: str, rows: Sequence[Row]) -> None:
        calls[0] += 1
        if calls[0] == 4:
            put(self, collection, rows[:5])  # half a batch arrives
            raise RemoteError("the line is down")
        put(self, collection, rows)

    monkeypatch.setattr(backend_class, "put", failing)
    with pytest.raises(RemoteError):
        push(gallery.path, place)
    with pytest.raises(ModelError, match="no gallery"):
        RemoteGallery.open(place)
    done = push(gallery.path, place)
    assert (done.found, done.sent) == (30, 65)
    with RemoteGallery.open(place) as there:
        assert same(there, gallery)
        ours = [name for name in there.engine.collections() if name.startswith(f"{place.name}_")]
        assert [name for name in ours if len(name) == len(place.name) + 17] == [there.entry.collection]


def test_a_new_push_takes_the_old_ones_place_at_once(tmp_path: Path, target: str, gallery: Gallery) -> None:
    place = Target.parse(target)
    push(gallery.path, place)
    reader = RemoteGallery.open(place)
    with RemoteGallery.open(place) as writer:
        assert writer.change(Changes([Item("new.jpg", bytes(8))], ["0.jpg"])).removed == 1
    assert (push(gallery.path, place).sent, reader.refresh()) == (95, True)
    with RemoteGallery.open(place) as there:
        assert same(there, gallery)
        assert there.generation == 3
    push(other(tmp_path / "h", 8, "m").path, place, force=True)
    with reader:  # its collection is gone: it reads the new one
        assert [hit.id for hit in reader.search(np.zeros((1, 8), np.uint8), 2)[0]]


def other(path: Path, size: int, model: str) -> Gallery:
    codes = np.arange(3 * size, dtype=np.uint8).reshape(3, size)
    return Gallery.create(path, codes=codes, ids=list("abc"), labels=[[]] * 3, bits=8 * size, model_id=model)


def test_another_model_or_length_is_refused_and_both_are_named(
    tmp_path: Path, target: str, gallery: Gallery
) -> None:
    place = Target.parse(target)
    push(gallery.path, place)
    with pytest.raises(
        ModelError, match=r"holds 64-bit codes of the model m, but .* has 64-bit codes of m2: "
    ):
        push(other(tmp_path / "a", 8, "m2").path, place)
    with pytest.raises(
        ModelError, match=r"holds 64-bit codes of the model m, but .* has 16-bit codes of m: "
    ):
        push(other(tmp_path / "b", 2, "m").path, place)
    with RemoteGallery.open(place) as there:
        assert same(there, gallery)
    push(other(tmp_path / "c", 2, "m").path, place, force=True)
    with RemoteGallery.open(place) as there:
        assert (there.bits, len(there)) == (16, 3)


def test_what_comes_back_changed_is_never_published(
    target: str, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Target.parse(target)
    backend_class = class_of(place)
    put = backend_class.put
    spoilt = [True]

    def spoiling(self: Any, collection: str, rows: Sequence[Row]) -> None:
        put(
            self,
            collection,
            [row._replace(crc=row.crc ^ 1) if spoilt[0] and row.row == 7 else row for row in rows],
        )

    monkeypatch.setattr(backend_class, "put", spoiling)
    with pytest.raises(ModelError, match="what came back is not what was sent"):
        push(gallery.path, place)
    with pytest.raises(ModelError, match="no gallery"):
        RemoteGallery.open(place)
    spoilt[0] = False
    assert push(gallery.path, place).sent == 95


def test_a_damaged_row_is_never_answered_from(tmp_path: Path, target: str, gallery: Gallery) -> None:
    place = Target.parse(target)
    push(gallery.path, place)
    with RemoteGallery.open(place) as there:
        (row,) = there.engine.named(there.entry.collection, ["7.jpg"])
        there.engine.put(there.entry.collection, [row._replace(doc=row.doc.replace("l1", "l2"))])
        with pytest.raises(ModelError, match="row 8 does not match its crc"):
            there.search(gallery.codes[7:8], 1)
    with pytest.raises(ModelError, match="row 8 does not match its crc"):
        pull(place, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    push(other(tmp_path / "h", 8, "m").path, place)  # another content: all rows are sent
    assert push(gallery.path, place).sent == 95
    assert pull(place, tmp_path / "back").items == 95


def test_a_pull_that_is_broken_off_goes_on(
    tmp_path: Path, target: str, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Target.parse(target)
    push(gallery.path, place)
    monkeypatch.setattr(transfer, "CHUNK", 10)
    rows = RemoteView.rows

    def breaking(self: RemoteView) -> Any:
        for row in rows(self):
            if row.row == 36:
                raise RemoteError("the line is down")
            yield row

    with monkeypatch.context() as patch:
        patch.setattr(RemoteView, "rows", breaking)
        with pytest.raises(RemoteError):
            pull(place, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    done = pull(place, tmp_path / "back")
    assert (done.found, done.sent) == (30, 65)
    assert same(Gallery.open(tmp_path / "back"), gallery)


def test_an_engine_that_is_down_is_one_line() -> None:
    pytest.importorskip("psycopg")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(
        RemoteError, match=r"^postgres:postgresql://127\.0\.0\.1:\d+/x#g: .*refused"
    ) as caught:
        RemoteGallery.open(f"postgres://me:secret@127.0.0.1:{port}/x#g")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_connection_that_is_lost_in_a_push(
    gallery: Gallery, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a proxy that ends every connection after some batches, and then no longer does."""
    monkeypatch.setattr(transfer, "BATCH", 10)
    port = int(postgres.split("port=")[1].split()[0])
    with Proxy(port, after=16_000) as proxy:
        place = Target.parse(f"postgres:{postgres.replace(str(port), str(proxy.port))}#lost")
        with pytest.raises(RemoteError) as caught:
            push(gallery.path, place, model=False)
        assert "\n" not in str(caught.value)
        proxy.after = None
        with pytest.raises(ModelError, match="no gallery"):
            RemoteGallery.open(place)
        done = push(gallery.path, place, model=False)
        assert 0 < done.found < 95
        assert done.found + done.sent == 95
        with RemoteGallery.open(place) as there:
            assert same(there, gallery)


class Proxy:
    """Passes bytes to a port of this machine; ends a connection for which ``after`` bytes have come."""

    def __init__(self, port: int, after: int | None) -> None:
        self._to, self.after = port, after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        total = 0
        with source, suppress(OSError):
            while data := source.recv(1024):
                total += len(data)
                if counted and self.after is not None and total > self.after:
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
