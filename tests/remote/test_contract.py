"""One contract for every engine that keeps galleries: a local gallery of the same items decides."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anglehash.data.image_hash import Picture
from anglehash.errors import CodeMismatchError, ConfigError, DataError, ModelError
from anglehash.gallery.filters import Condition, Filter, nanoseconds
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.writer import Changes
from anglehash.gallery.target import Target
from anglehash.remote.gallery import RemoteGallery
from anglehash.remote.transfer import push

LABELS = ["a", "b", 'quote"', "it's", ",", "%", "\n", "\ud800", "é", "\0", "x" * 600]
NAMES = ["caf\udce9.jpg", "a\nb", "100%_sure\\.jpg", "'; DROP TABLE items; --", "日本/é.jpg", "d1/#?*.jpg"]


def items(n: int, bits: int, seed: int = 0) -> list[Item]:
    rng = np.random.default_rng(seed)
    codes = np.packbits(rng.integers(0, 2, (n, bits)), axis=1)
    made = []
    for i in range(n):
        labels = tuple(sorted(rng.choice(LABELS, rng.integers(0, 4), replace=False).tolist()))
        metadata = {"n": i, "even": "yes" if i % 2 == 0 else "no", "tags": [str(i % 7), "x"]} if i % 5 else {}
        date = nanoseconds(datetime(2020, 1, 1 + i % 28, tzinfo=UTC), 0) if i % 3 else 0
        name = NAMES[i] if i < len(NAMES) else f"d{i % 4}/IMG_é{i}.jpg"
        made.append(Item(name, codes[i].tobytes(), labels, metadata, bytes([i % 256]) * 32, date))
    return made


def local(path: Path, given: list[Item], bits: int, model: str = "m") -> Gallery:
    none = np.zeros((0, -(-bits // 8)), np.uint8)
    Gallery.create(path, codes=none, ids=[], labels=[], bits=bits, model_id=model, root="photos").close()
    with open_writer(path) as writer:
        writer.commit_all(given)
    return Gallery.open(path)


def day(number: int) -> datetime:
    return datetime(2020, 1, number, tzinfo=UTC)


FILTERS = [
    *(Filter(labels=(label,)) for label in LABELS),
    Filter(labels=("a", "é")),
    Filter(labels=("nothing",)),
    Filter(path="d1/*"),
    Filter(path="d1/IMG_*"),
    Filter(path="*/IMG_é?.jpg"),
    Filter(path="d[02]*"),
    Filter(path="100%_*"),
    Filter(path="a\n*"),
    Filter(path="'*"),
    Filter(path="caf?.jpg"),
    Filter(path="日本*"),
    Filter(path="d2/IMG_é10.jpg"),
    Filter(after=day(10)),
    Filter(before=day(10)),
    Filter(after=day(3), before=day(20), labels=("b",)),
    Filter(where=(Condition("n", ">=", "100"),)),
    Filter(where=(Condition("n", "<", "9"),)),
    Filter(where=(Condition("n", "=", "7.0"),)),
    Filter(where=(Condition("tags", "=", "3"),)),
    Filter(where=(Condition("even", "!=", "yes"),)),
    Filter(labels=("a",), path="d1/*", where=(Condition("even", "=", "no"), Condition("n", ">", "20"))),
]


@pytest.mark.parametrize("bits", [12, 64])
def test_answers_as_a_local_gallery_does(tmp_path: Path, target: str, bits: int) -> None:
    """12 bits over 300 items: most of an answer is tied; queries are codes of the gallery and others."""
    here = local(tmp_path / "g", items(300, bits), bits)
    push(here.path, Target.parse(target))
    queries = np.concatenate(
        [here.codes[:2], np.packbits(np.random.default_rng(9).integers(0, 2, (2, bits)), axis=1)]
    )
    with RemoteGallery.open(target) as there:
        assert (there.bits, there.model_id, there.root, len(there)) == (bits, "m", "photos", 300)
        assert [one.item for one in there] == [one.item for one in here]
        assert np.array_equal(there.codes, here.codes)
        for k, radius in (
            (1, None),
            (7, None),
            (299, None),
            (400, None),
            (None, 0),
            (None, bits // 3),
            (5, 4),
        ):
            assert there.search(queries, k, radius=radius) == here.search(queries, k, radius=radius)
        assert there.search(queries, radius=bits) == here.search(queries, radius=bits)
        for name in (*NAMES, "d1/IMG_é9.jpg"):
            assert there.item(name).item == here.item(name).item
            assert there.similar(name, 5) == here.similar(name, 5)
        mine, theirs = here.info(), there.info()
        assert {k: theirs[k] for k in ("items", "bits", "model", "unique_codes", "labels")} == {
            k: mine[k] for k in ("items", "bits", "model", "unique_codes", "labels")
        }


def test_filters_come_before_the_top_k(tmp_path: Path, target: str) -> None:
    here = local(tmp_path / "g", items(300, 12), 12)
    push(here.path, Target.parse(target))
    query = here.codes[3:4]
    with RemoteGallery.open(target) as there:
        for where in FILTERS:
            for k, radius in ((7, None), (None, 4), (3, 3)):
                expected = here.search(query, k, radius=radius, where=where)
                assert there.search(query, k, radius=radius, where=where) == expected, where
            assert there.listed(where)[0] == here.listed(where)[0], where
        joined, after = list[Item](), 0
        while True:
            part, following = there.listed(Filter(labels=("a",)), limit=7, after_row=after)
            joined += part
            if following is None:
                break
            after = following
        assert joined == here.listed(Filter(labels=("a",)))[0]
        for where in (Filter(), FILTERS[0], FILTERS[-1]):
            cursor, hits = None, list[Any]()
            while True:
                page = there.page(query, 11, cursor=cursor, where=where)
                hits, cursor = hits + page.hits, page.cursor
                if cursor is None:
                    break
            assert hits == here.search(query, 300, where=where)[0]


def test_the_same_picture_comes_first(tmp_path: Path, target: str) -> None:
    """By bytes and by pixels, with filters that an engine can look for and others, and page by page."""
    keys = (b"", b"x" * 32, b"y" * 32)
    made = [
        item._replace(content=keys[i % 40 == 7], pixels=keys[2 * (i % 50 == 9)])
        for i, item in enumerate(items(300, 12))
    ]
    here = local(tmp_path / "g", made, 12)
    push(here.path, Target.parse(target))
    picture, query = Picture(*keys[1:]), here.codes[3:4]
    with RemoteGallery.open(target) as there:
        assert [one.item for one in there] == made
        for where in (Filter(), *FILTERS):
            for k, radius in ((3, None), (20, None), (None, 4)):
                expected = here.search(query, k, radius=radius, where=where, pictures=[picture])
                assert there.search(query, k, radius=radius, where=where, pictures=[picture]) == expected, (
                    where
                )
        whole = here.search(query, 300, pictures=[picture], without=[made[7].id])[0]
        assert sum(hit.same_picture for hit in whole) == 13  # 8 by bytes and 6 by pixels, without one
        cursor, hits = None, list[Any]()
        while True:
            page = there.page(query, 11, cursor=cursor, picture=picture, without=made[7].id)
            hits, cursor = hits + page.hits, page.cursor
            if cursor is None:
                break
        assert hits == whole
        assert page.hits.tied_at_last is None  # an engine does not count them
        assert there.similar(made[9].id, 9) == here.similar(made[9].id, 9)
        assert there.similar(made[9].id, 9)[0].same_picture


def test_create_add_replace_remove(target: str) -> None:
    """The same changes to a list decide; a replaced item goes to the end, as in a local gallery."""
    rng, truth = np.random.default_rng(0), dict[str, Item]()
    with RemoteGallery.create(target, bits=16, model_id="m") as there:
        assert there.search(np.zeros((1, 2), np.uint8), 3) == [[]]
        for step in range(6):
            fresh = [Item(f"{i}", rng.integers(0, 4, 2, dtype=np.uint8).tobytes(), (f"l{step}",))
                     for i in rng.choice(60, 20, replace=False).tolist()]  # fmt: skip
            gone = rng.choice(sorted(truth), len(truth) // 4, replace=False).tolist() if truth else []
            before = set(truth)
            for name in [*gone, *(item.id for item in fresh)]:
                truth.pop(name, None)
            truth |= {item.id: item for item in fresh}
            done = there.change(Changes(fresh, [*gone, "never there"]))
            replaced = len((before - set(gone)) & {item.id for item in fresh})
            assert done == (len(fresh) - replaced, replaced, len(gone))
            with RemoteGallery.open(target) as again:
                assert [one.item for one in again] == list(truth.values())
            codes = np.frombuffer(b"".join(item.code for item in truth.values()), np.uint8).reshape(-1, 2)
            query = np.array([[1, 2]], np.uint8)
            distances = np.unpackbits(query ^ codes, axis=1).sum(axis=1)
            expected = [
                (int(d), list(truth)[i]) for i, d in sorted(enumerate(distances), key=lambda p: (p[1], p[0]))
            ]
            assert [(hit.distance, hit.id) for hit in there.search(query, 9)[0]] == expected[:9]


def test_ties_past_what_an_engine_gives_at_once(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    milvus = pytest.importorskip("anglehash.remote.backends.milvus")
    monkeypatch.setattr(milvus, "LIMIT", 50)
    codes = np.repeat(np.array([[0], [1], [3]], np.uint8), [3, 180, 20], axis=0)
    order = np.random.default_rng(0).permutation(len(codes))
    with RemoteGallery.create(target, bits=8, model_id="m") as there:
        there.change(Changes([Item(str(i), codes[i].tobytes()) for i in order.tolist()]))
        ranked = sorted(
            range(len(order)), key=lambda place: (np.bitwise_count(codes[order[place], 0]), place)
        )
        expected = [str(order[place]) for place in ranked]
        for k in (2, 3, 4, 24, 40, 60, 183, 190, 500):
            assert [hit.id for hit in there.search(codes[:1], k)[0]] == expected[:k], k
        for radius, many in ((0, 3), (1, 183), (2, 203), (8, 203)):
            assert [hit.id for hit in there.search(codes[:1], radius=radius)[0]] == expected[:many]


def test_refuses(target: str) -> None:
    with RemoteGallery.create(target, bits=12, model_id="model-1") as there:
        with pytest.raises(ModelError, match="is there already"):
            RemoteGallery.create(target, bits=12, model_id="m")
        query = np.zeros((1, 2), np.uint8)
        with pytest.raises(CodeMismatchError, match="12-bit codes"):
            there.search(np.zeros((1, 8), np.uint8), 1)
        with pytest.raises(ConfigError, match="give k, radius, or both"):
            there.search(query)
        with pytest.raises(ConfigError, match="k is a number of neighbours"):
            there.search(query, 0)
        with pytest.raises(ConfigError, match=r"radius is a whole number of bits in 0\.\.12"):
            there.search(query, radius=13)
        with pytest.raises(ConfigError, match="has no index 'hnws'"):
            there.search(query, 1, engine="hnws")
        with pytest.raises(ConfigError, match="another search"):
            there.page(query, 1, cursor=None if not (c := _cursor(there, query)) else c, radius=3)
        with pytest.raises(ModelError, match=r"model model-1, but the query's model is model-2"):
            there.require_model("model-2")
        with pytest.raises(DataError, match="no item 'x'"):
            there.item("x")
        for wrong, error in (
            ([Item("a", b"123")], CodeMismatchError),
            ([Item("a", b"\0\1")], CodeMismatchError),
            ([Item("a", b"\0\0"), Item("a", b"\0\0")], DataError),
            ([Item("a\U0010ff80", b"\0\0")], DataError),
            ([Item("a" * 5000, b"\0\0")], DataError),
            ([Item("a", b"\0\0", metadata={"x": "y" * 70_000})], DataError),
        ):
            with pytest.raises(error):
                there.change(Changes(wrong))
    with RemoteGallery.open(target) as again:
        assert (len(again), again.generation) == (2, 2)
    with pytest.raises(ModelError, match=r"no gallery .*: make it with anglehash push"):
        RemoteGallery.open(target + "x")


def _cursor(there: RemoteGallery, query: Any) -> str:
    there.change(Changes([Item("p", b"\0\0"), Item("q", b"\0\0")]))
    cursor = there.page(query, 1).cursor
    assert cursor
    return cursor


def test_hnsw_finds_most_of_the_nearest_where_pgvector_is(tmp_path: Path, postgres: str) -> None:
    """Approximate, so its recall is what is tested: an answer is right if it is not farther than the k-th."""
    import psycopg

    with psycopg.connect(postgres) as connection:
        if not connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone():
            pytest.skip("this PostgreSQL has no pgvector: ANGLEHASH_POSTGRES may name one that has")
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    here, target = local(tmp_path / "g", items(1000, 64), 64), f"postgres:{postgres}#hnsw"
    push(here.path, Target.parse(target), force=True)
    queries = np.random.default_rng(5).integers(0, 256, (20, 8), dtype=np.uint8)
    with RemoteGallery.open(target) as there:
        found, exact = there.search(queries, 10, engine="hnsw"), here.search(queries, 10)
        right = [
            sum(hit.distance <= own[-1].distance for hit in hits)
            for hits, own in zip(found, exact, strict=True)
        ]
        assert sum(right) >= 0.9 * 200
        for hits in found:
            assert hits == sorted(hits, key=lambda hit: hit.distance)
            for hit in hits:
                code = np.frombuffer(there.item(hit.id).item.code, np.uint8)
                assert hit.distance == np.bitwise_count(queries[found.index(hits)] ^ code).sum()
        labelled = there.search(queries[:1], 5, engine="hnsw", where=Filter(labels=("a",)))[0]
        assert len(labelled) == 5
        assert all("a" in hit.labels for hit in labelled)
