"""Backups that a stranger has made up: every seal and every crc is right, and what they say is not."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anglehash.errors import ModelError
from anglehash.files import sha256_json
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.backup import backup, restore
from anglehash.gallery.store.database import death, read_state
from anglehash.gallery.store.items import COLUMNS, crc_of
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.verify import verify
from anglehash.gallery.store.writer import Changes
from anglehash.manifest import write_manifest

Members = dict[str, bytes]
Index = dict[str, Any]
N = 20


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A backup with a model, labels, metadata, a source, a removed item and a file that gave no code."""
    from anglehash.gallery.store.items import Item, Seen
    from anglehash.gallery.store.sources import Source

    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_bytes(b"12")
    write_manifest(model, "model", 2, {"id": "m", "bits": 12})
    none = np.zeros((0, 2), np.uint8)
    Gallery.create(tmp_path / "g", codes=none, ids=[], labels=[], bits=12, model_id="m", model=model).close()
    with open_writer(tmp_path / "g") as writer:
        number = writer.add_source(Source("/photos"))
        items = [Item(str(i), bytes([i, 16]), ("x",), {"n": i}, bytes(32), 1, number) for i in range(N)]
        writer.commit(Changes(items, seen=[Seen("bad", "empty", "nothing")]))
        writer.commit(Changes(remove=["7"]))
    backup(tmp_path / "g", tmp_path / "good.tar")
    return tmp_path / "good.tar"


def read(file: Path) -> tuple[Index, Members]:
    with tarfile.open(file) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    return json.loads(members.pop("backup.json")), members


def write(file: Path, index: Index, members: Members, *, recount: bool = True) -> None:
    """Write a backup whose hashes and seal are right."""
    if recount:
        index["files"] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for name, data in members.items()
        }
    index.pop("seal", None)
    text = json.dumps({**index, "seal": sha256_json(index)}).encode()
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in {"backup.json": text, **members}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def refused(file: Path, output: Path) -> str:
    """The one line with which a backup is refused; nothing of it appears."""
    before = sorted(output.parent.iterdir())
    with pytest.raises(ModelError) as error:
        restore(file, output)
    assert sorted(output.parent.iterdir()) == before
    line = str(error.value)
    assert file.name in line
    assert line.isprintable()
    assert len(line) < 700
    return line


def changed(original: Path, change: Callable[[sqlite3.Connection], None], **index: Any) -> Path:
    """The backup with another database, whose own counts and crcs are for ``change`` to keep."""
    facts, members = read(original)
    database = original.with_name("changed.db")
    database.write_bytes(members["items.db"])
    connection = sqlite3.connect(database, isolation_level=None)
    change(connection)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    members["items.db"] = database.read_bytes()
    database.unlink()
    file = original.with_name("changed.tar")
    write(file, {**facts, **index}, members)
    return file


def set_row(at: int, /, **columns: Any) -> Callable[[sqlite3.Connection], None]:
    """Change columns of a row, whose crc is made right."""

    def change(connection: sqlite3.Connection) -> None:
        for name, value in columns.items():
            connection.execute(
                f"UPDATE items SET {name} = ? WHERE row = ?",
                (value, at if name == "row" else columns.get("row", at)),
            )
        row_now = columns.get("row", at)
        record = connection.execute(f"SELECT {COLUMNS} FROM items WHERE row = ?", (row_now,)).fetchone()
        number, born, date, source, *fields, _ = record
        crc = crc_of(number, born, date, source, [f.encode() if isinstance(f, str) else f for f in fields])
        connection.execute("UPDATE items SET crc = ? WHERE row = ?", (crc, row_now))

    return change


def set_state(**facts: Any) -> Callable[[sqlite3.Connection], None]:
    """Change what the database says of itself; its crc is made right."""
    import zlib

    def change(connection: sqlite3.Connection) -> None:
        ((text,),) = connection.execute("SELECT facts FROM state").fetchall()
        text = json.dumps({**json.loads(text), **facts}, sort_keys=True)
        connection.execute("UPDATE state SET facts = ?, crc = ?", (text, zlib.crc32(text.encode())))

    return change


def set_text(table: str, column: str, text: str) -> Callable[[sqlite3.Connection], None]:
    """Change the text of a source or of a file that was seen; its crc is made right."""
    import zlib

    def change(connection: sqlite3.Connection) -> None:
        connection.execute(f"UPDATE {table} SET {column} = ?", (text,))
        if table == "sources":
            connection.execute("UPDATE sources SET crc = ?", (zlib.crc32(b"1 %s" % text.encode()),))
            return
        query = "SELECT id, reason, detail, content, size, date FROM files"
        ((name, reason, detail, content, size, date),) = connection.execute(query).fetchall()
        crc = crc_of(0, 0, date, size, (name, reason.encode(), detail.encode(), content, b""))
        connection.execute("UPDATE files SET crc = ?", (crc,))

    return change


def hide(connection: sqlite3.Connection) -> None:
    """A row that is neither there nor removed."""
    connection.execute("UPDATE items SET died = -1 WHERE row = 3")
    set_state(live=N - 2)(connection)


def removed_by_word(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE items SET died = 'never' WHERE row = 8")


def removed_before(connection: sqlite3.Connection) -> None:
    state = read_state(connection, Path("items.db"))
    connection.execute("UPDATE items SET died = 1 WHERE row = 8")
    digest = state.dead_digest ^ death(8, state.generation) ^ death(8, 1)
    set_state(dead_digest=digest)(connection)


def two_lengths(connection: sqlite3.Connection) -> None:
    """One code too long and one too short: together as long as they should be."""
    set_row(1, code=b"\x01\x10\x00")(connection)
    set_row(2, code=b"\x01")(connection)


def trigger(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM items; END")


def broken_index(connection: sqlite3.Connection) -> None:
    """An index that no longer leads to a row."""
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_master SET sql = replace(sql, 'died = 0', 'died = 9') WHERE name = 'live'"
    )
    connection.execute("PRAGMA writable_schema = RESET")
    connection.execute("UPDATE items SET id = x'ff' WHERE row = 1")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_master SET sql = replace(sql, 'died = 9', 'died = 0') WHERE name = 'live'"
    )


DATABASES = {
    "hidden row": hide,
    "removed by a word": removed_by_word,
    "removed before it was added": removed_before,
    "codes of two lengths": two_lengths,
    "a trigger": trigger,
    "an index that lies": broken_index,
    "code with further bits": set_row(1, code=b"\x01\x1f"),
    "code as text": set_row(1, code="ab"),
    "row 0": set_row(1, row=0),
    "row -1": set_row(1, row=-1),
    "row too far": set_row(1, row=2**40),
    "row beyond the last": set_row(1, row=N + 1),
    "born later": set_row(1, born=10**9),
    "born before": set_row(1, born=0),
    "half a content": set_row(1, content=b"12"),
    "half a signature": set_row(1, signature=b"12"),
    "half a key": set_row(1, pixels=bytes(33)),
    "labels of numbers": set_row(1, labels="\n3\n"),
    "labels that filters miss": set_row(1, labels='\n "x"\n'),
    "labels without ends": set_row(1, labels='"x"'),
    "labels that are not JSON": set_row(1, labels="\nx\n"),
    "labels too deep": set_row(1, labels="\n" + "[" * 100_000 + "\n"),
    "metadata of NaN": set_row(1, metadata='{"n":NaN}'),
    "metadata twice": set_row(1, metadata='{"n":1,"n":2}'),
    "metadata in another order": set_row(1, metadata='{"b":1,"a":2}'),
    "metadata that are a list": set_row(1, metadata="[1]"),
    "metadata too deep": set_row(1, metadata='{"n":' + "[" * 100_000),
    "source of numbers": set_text("sources", "facts", "[1, 2, 3]"),
    "source of many": set_text("sources", "facts", '["a", "b", "c", "d"]'),
    "source with NUL": set_text("sources", "facts", '["/pho\\u0000tos", "", ""]'),
    "source that is not a list": set_text("sources", "facts", "3"),
    "reason of a number": set_text("files", "reason", "3"),
    "reason that is not JSON": set_text("files", "reason", "empty"),
    "detail too deep": set_text("files", "detail", "[" * 100_000),
    "more items": set_state(live=N),
    "no removed ones": set_state(dead=0, dead_digest=0),
    "fewer rows": set_state(last_row=3),
    "endless rows": set_state(last_row=2**61),
    "bits as text": set_state(bits="12"),
    "other bits": set_state(bits=16),
    "true bits": set_state(bits=True),
    "no bits": set_state(bits=0),
    "endless generation": set_state(generation=2**63 - 1),
    "negative generation": set_state(generation=-1),
    "generation of a fraction": set_state(generation=3.0),
    "model of a number": set_state(model=3),
    "another model": set_state(model="n"),
    "incomplete": set_state(complete=False),
    "more to say": set_state(further=1),
    "root of a list": set_state(root=["/"]),
}


@pytest.mark.parametrize("name", DATABASES)
@pytest.mark.parametrize("agrees", [True, False], ids=["index agrees", "index differs"])
def test_a_database_that_makes_no_sense(original: Path, tmp_path: Path, name: str, agrees: bool) -> None:
    """``agrees``: backup.json says what the database says, also where that is wrong."""
    index = {}
    if agrees:
        probe = tmp_path / "probe.db"
        probe.write_bytes(read(original)[1]["items.db"])
        with sqlite3.connect(probe, isolation_level=None) as connection:
            DATABASES[name](connection)
            ((text,),) = connection.execute("SELECT facts FROM state").fetchall()
        connection.close()
        for leftover in tmp_path.glob("probe.db*"):
            leftover.unlink()
        index = {key: json.loads(text)[key] for key in ("generation", "live", "bits", "model")}
    refused(changed(original, DATABASES[name], **index), tmp_path / "out")


INDEXES: dict[str, Index] = {
    "other count": {"live": N + 1},
    "other bits": {"bits": 64},
    "other model": {"model": "n"},
    "other generation": {"generation": 1},
    "files as a list": {"files": ["items.db"]},
    "files of numbers": {"files": {"items.db": 3}},
    "no files": {"files": {}},
    "size as text": {"files": {"items.db": {"size": "many", "sha256": ""}}},
    "size of a fraction": {"files": {"items.db": {"size": 1e300, "sha256": ""}}},
    "size below nothing": {"files": {"items.db": {"size": -1, "sha256": ""}}},
    "version as text": {"version": "1"},
    "version that is endless": {"version": 10**400},
    "version 0": {"version": 0},
    "a newer version": {"version": 2},
    "true version": {"version": None},
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_that_lies(original: Path, tmp_path: Path, name: str) -> None:
    index, members = read(original)
    file = tmp_path / "changed.tar"
    write(file, {**index, **INDEXES[name]}, members, recount=False)
    refused(file, tmp_path / "out")


def other_model(index: Index, members: Members) -> None:
    members["model/weights"] = b"13"


def further_file(index: Index, members: Members) -> None:
    members["model/more.bin"] = bytes(1000)


def further_folder(index: Index, members: Members) -> None:
    members["model/more/x"] = b"1"


def a_gallery(index: Index, members: Members) -> None:
    _with_a_right_seal(members, format="anglehash-gallery")


def of_another_id(index: Index, members: Members) -> None:
    _with_a_right_seal(members, id="n")


def _with_a_right_seal(members: Members, **facts: Any) -> None:
    content = {**json.loads(members["model/manifest.json"]), **facts}
    del content["seal"]
    text = json.dumps({**content, "seal": sha256_json(content)}, indent=2) + "\n"
    members["model/manifest.json"] = text.encode()


def file_and_folder(index: Index, members: Members) -> None:
    members["model/weights/x"] = b"1"


def too_long(index: Index, members: Members) -> None:
    members["model/" + "x" * 300] = b"1"


def line_end(index: Index, members: Members) -> None:
    members["model/\x1b[2J\nx"] = b"1"


def bytes_after(index: Index, members: Members) -> None:
    members["items.db"] += bytes(5000)


def cut_database(index: Index, members: Members) -> None:
    members["items.db"] = members["items.db"][:-4096]


def no_database(index: Index, members: Members) -> None:
    members["items.db"] = b"SQLite format 3\0" + bytes(5000)


FOLDERS = [
    other_model, further_file, further_folder, a_gallery, of_another_id, file_and_folder, too_long, line_end,
    bytes_after, cut_database, no_database,
]  # fmt: skip


@pytest.mark.parametrize("change", FOLDERS, ids=lambda change: change.__name__)
def test_files_that_do_not_belong_together(
    original: Path, tmp_path: Path, change: Callable[[Index, Members], None]
) -> None:
    index, members = read(original)
    change(index, members)
    write(tmp_path / "changed.tar", index, members)
    refused(tmp_path / "changed.tar", tmp_path / "out")


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE, **more: Any) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for key, value in more.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.PAX_FORMAT)


def gnu_sparse(name: str, size: int) -> bytes:
    """The old form: a header of its own type that says how long the file is."""
    head = bytearray(member(name, 0, tarfile.GNUTYPE_SPARSE))
    head[257:265] = b"ustar  \0"
    head[386:398], head[398:410], head[483:495] = (b"%011o\0" % n for n in (size, 0, size))
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


BIG = 64 * 2**20
ZEROS = hashlib.sha256(bytes(BIG)).hexdigest()


def pax_sparse(member_name: str, length: int, data: bytes = b"", /, **facts: object) -> bytes:
    headers = {f"GNU.sparse.{key}": str(value) for key, value in facts.items()}
    return member(member_name, length, pax_headers=headers) + data


NAME = "model/holes.bin"
SPARSE = {
    "gnu": gnu_sparse(NAME, BIG),
    "pax 0.0": pax_sparse(NAME, 0, size=BIG, numblocks=1, offset=BIG, numbytes=0),
    "pax 0.1": pax_sparse(NAME, 0, size=BIG, numblocks=1, map=f"{BIG},0", name=NAME),
    "pax 1.0": pax_sparse(
        "x", 512, f"1\n{BIG}\n0\n".encode().ljust(512, b"\0"), major=1, minor=0, name=NAME, realsize=BIG
    ),
    "a size that lies": pax_sparse(NAME, 0, size=BIG),
    "a size beyond the end": member(NAME, BIG),
    "a map of no numbers": pax_sparse(NAME, 0, map="a,b", size="x"),
    "a link": member(NAME, 0, tarfile.SYMTYPE, linkname="/dev/zero"),
    "a hard link": member(NAME, 0, tarfile.LNKTYPE, linkname="items.db"),
    "a device": member(NAME, 0, tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a pipe": member(NAME, 0, tarfile.FIFOTYPE),
    "a folder": member(NAME, 0, tarfile.DIRTYPE),
    "contiguous": member(NAME, BIG, tarfile.CONTTYPE),
}


@pytest.mark.parametrize("name", SPARSE)
def test_more_bytes_than_there_are(
    original: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, members = read(original)
    index["files"][NAME] = {"sha256": ZEROS, "size": BIG}
    file = tmp_path / "holes.tar"
    write(file, index, members, recount=False)
    data = file.read_bytes().rstrip(b"\0")
    data += bytes(-len(data) % 512)
    file.write_bytes(data + SPARSE[name] + bytes(1024))
    written = 0
    create = restore.__globals__["_create"]

    class Counted:
        def __init__(self, out: Any) -> None:
            self.out = out

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            self.out.close()

        def write(self, block: bytes) -> None:
            nonlocal written
            written += len(block)
            self.out.write(block)

    monkeypatch.setitem(restore.__globals__, "_create", lambda target: Counted(create(target)))
    refused(file, tmp_path / "out")
    assert written <= file.stat().st_size


def test_members_that_share_their_bytes(original: Path, tmp_path: Path) -> None:
    """Each of many members claims the bytes of all that follow it."""
    index, members = read(original)
    file = tmp_path / "shared.tar"
    heads = [member(f"model/{i}", 0, pax_headers={"GNU.sparse.size": "100000"}) for i in range(50)]
    for i in range(50):
        index["files"][f"model/{i}"] = {"sha256": "", "size": 100_000}
    write(file, index, members, recount=False)
    file.write_bytes(
        file.read_bytes().rstrip(b"\0").ljust(2**16, b"\0")[: 2**16] + b"".join(heads) + bytes(2**17)
    )
    refused(file, tmp_path / "out")


@pytest.mark.parametrize("seed", range(20))
def test_headers_at_random(original: Path, tmp_path: Path, seed: int) -> None:
    """Fields of tar's headers are made up; their checksums are right."""
    rng = np.random.default_rng(seed)
    data = bytearray(original.read_bytes())
    with tarfile.open(original) as tar:
        places = [m.offset for m in tar.getmembers()]
    for _ in range(3):
        place = int(rng.choice(places))
        field, size = [(0, 100), (124, 12), (156, 1), (257, 8), (345, 155)][rng.integers(5)]
        noise = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        data[place + field : place + field + size] = rng.choice([noise, bytes(size), b"7" * size])
        head = data[place : place + 512]
        head[148:156] = b" " * 8
        data[place + 148 : place + 156] = b"%06o\0 " % sum(head)
    file = tmp_path / "random.tar"
    file.write_bytes(data)
    with suppress(ModelError):
        restore(file, tmp_path / "out")
    assert not (tmp_path / "out").exists() or verify(tmp_path / "out") == []


def test_what_is_restored_verifies(original: Path, tmp_path: Path) -> None:
    restore(original, tmp_path / "out")
    assert verify(tmp_path / "out") == []
    assert len(Gallery.open(tmp_path / "out")) == N - 1
    with open_writer(tmp_path / "out") as writer:
        writer.commit(Changes(remove=["3"]))
    assert verify(tmp_path / "out") == []
