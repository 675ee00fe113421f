from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anglehash.asymmetric import SURE, asymmetric_distances, bit_weights
from anglehash.codes import pack
from anglehash.errors import CodeMismatchError, ConfigError, DataError
from anglehash.gallery.filters import Filter
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.query import Hit
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.writer import Changes
from anglehash.index import _asymmetric as weighted
from anglehash.index._asymmetric import nearest

BITS = 20
RNG = np.random.default_rng(0)
CODES = pack(np.repeat(RNG.normal(size=(60, BITS)), 2, axis=0))  # each twice: ties
LOGITS = RNG.normal(size=(3, BITS)).astype(np.float32)
WEIGHTS = bit_weights(LOGITS)
DISTANCES = asymmetric_distances(WEIGHTS, CODES)


@settings(deadline=None)
@given(
    st.sampled_from([1, 7, 500, None]),
    st.sampled_from([0, 1200, None]),
    st.lists(st.integers(0, 120), max_size=3),
    st.one_of(st.none(), st.sets(st.integers(0, 119))),
)
def test_the_nearest_are_those_of_a_full_sort(
    k: int | None, reach: int | None, cuts: list[int], allowed: set[int] | None
) -> None:
    within = None if allowed is None else np.array(sorted(allowed), dtype=np.int64)
    parts = np.split(CODES, sorted(cuts))
    for weights, distances in zip(WEIGHTS, DISTANCES, strict=True):
        found = nearest(weights, parts, k=k, reach=reach, within=within)
        places = np.arange(120) if within is None else within
        expected = sorted(
            (int(distances[p]), int(p)) for p in places if reach is None or distances[p] <= reach
        )
        assert list(zip(found.distances.tolist(), found.places.tolist(), strict=True)) == expected[:k]


@pytest.mark.parametrize("seed", range(20))
def test_what_comes_too_late_is_passed_over_and_nothing_else(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small blocks and few distances: the farthest that may come is tightened all the time, among many ties."""
    monkeypatch.setattr(weighted, "BLOCK", 8)
    rng = np.random.default_rng(seed)
    codes, weights = pack(rng.normal(size=(300, 12))), rng.integers(-3, 4, 12).astype(np.int32)
    distances = asymmetric_distances(weights[None], codes)[0]
    for k in (1, 2, 5, 20):
        order = np.argsort(distances, kind="stable")[:k]
        found = nearest(weights, [codes[:70], codes[70:]], k=k)
        assert found.places.tolist() == order.tolist()
        assert found.distances.tolist() == distances[order].tolist()


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery.create(
        tmp_path / "g", codes=CODES, ids=[f"{i:03}.jpg" for i in range(120)],
        labels=[["even" if i % 2 == 0 else "odd"] for i in range(120)], bits=BITS, model_id="m",
    )  # fmt: skip


def test_a_gallery_is_asked_with_logits(gallery: Gallery) -> None:
    for row, hits in zip(DISTANCES, gallery.search(LOGITS, 9, asymmetric=True), strict=True):
        order = np.argsort(row, kind="stable")[:9]
        assert [hit.id for hit in hits] == [f"{i:03}.jpg" for i in order]
        assert [hit.distance for hit in hits] == pytest.approx(row[order] / SURE)
        assert [hit.rank for hit in hits] == list(range(1, 10))


def test_filters_and_radius_come_first(gallery: Gallery) -> None:
    odd = gallery.search(LOGITS[:1], 5, asymmetric=True, where=Filter(labels=("odd",)))[0]
    order = [i for i in np.argsort(DISTANCES[0], kind="stable") if i % 2][:5]
    assert [hit.id for hit in odd] == [f"{i:03}.jpg" for i in order]
    near = gallery.search(LOGITS[:1], radius=4, asymmetric=True)[0]
    assert 0 < len(near) == (DISTANCES[0] <= 4 * SURE).sum()


def test_pages_go_on(gallery: Gallery) -> None:
    whole = [hit.id for hit in gallery.search(LOGITS[:1], 120, asymmetric=True)[0]]
    shown, cursor = [], None
    for _ in range(5):
        page = gallery.page(LOGITS[:1], 27, cursor=cursor, asymmetric=True)
        shown += [(hit.rank, hit.id) for hit in page.hits]
        cursor = page.cursor
    assert cursor is None
    assert shown == list(enumerate(whole, start=1))
    first = gallery.page(LOGITS[:1], 5, asymmetric=True).cursor
    with pytest.raises(ConfigError, match="another search"):
        gallery.page(pack(LOGITS[:1]), 5, cursor=first)


def test_removed_items_are_not_found_and_added_ones_are(gallery: Gallery) -> None:
    best = gallery.search(LOGITS[:1], 1, asymmetric=True)[0][0]
    with open_writer(gallery.path) as writer:
        writer.commit(Changes(remove=[best.id]))
    assert gallery.refresh()
    order = np.argsort(DISTANCES[0], kind="stable")
    assert [hit.id for hit in gallery.search(LOGITS[:1], 3, asymmetric=True)[0]] == [
        f"{i:03}.jpg" for i in order[1:4]
    ]
    with open_writer(gallery.path) as writer:
        writer.commit(Changes(add=[Item("own.jpg", pack(LOGITS[:1]).tobytes(), ())]))
    assert gallery.refresh()
    assert gallery.search(LOGITS[:1], 1, asymmetric=True)[0][0]._replace(code=b"") == Hit(1, "own.jpg", 0, ())


def test_bad_queries_are_refused(gallery: Gallery) -> None:
    with pytest.raises(CodeMismatchError, match="20-bit codes have logits of shape"):
        gallery.search(LOGITS[:, :8], 1)
    with pytest.raises(DataError, match="1 of 1 rows of logits hold a NaN"):
        gallery.search(np.full((1, BITS), np.nan), 1)
    with pytest.raises(
        CodeMismatchError, match="queries are packed codes or float logits, got int64 of the shape"
    ):
        gallery.search(np.ones((1, BITS), np.int64), 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown engine"):
        gallery.search(LOGITS, 1, engine="nope")
    for queries in (LOGITS[:2], pack(LOGITS[:2]), pack(LOGITS[:0])):
        with pytest.raises(DataError, match="answers to one query, got"):
            gallery.page(queries, 1)
    with pytest.raises(ConfigError, match="give k, radius, or both"):
        gallery.search(LOGITS)
    with pytest.raises(ConfigError, match="at least 1"):
        gallery.search(LOGITS, 0)
