"""A remote gallery says which queries are unknown, as the local one does that was pushed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anglehash.codes import hamming, pack
from anglehash.encode.unknown_level import Level
from anglehash.gallery.filters import Condition, Filter
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.target import Target
from anglehash.manifest import write_manifest
from anglehash.remote.gallery import RemoteGallery
from anglehash.remote.transfer import push

BITS = 24


@pytest.mark.parametrize("with_model", [True, False])
def test_it_says_what_the_local_one_says(tmp_path: Path, target: str, with_model: bool) -> None:
    model, name = None, f"with-{with_model}"  # an engine keeps models by their ids
    if with_model:
        model = tmp_path / "m"
        model.mkdir()
        level = {"level": 5, "rejects": 0.05, "images": 40, "from": "validation"}
        write_manifest(model, "model", 2, {"id": name, "unknown": level})
    rng = np.random.default_rng(0)
    codes, queries = pack(rng.normal(size=(60, BITS))), pack(rng.normal(size=(40, BITS)))
    names, labels = [f"{i}.jpg" for i in range(60)], [[f"l{i % 2}"] for i in range(60)]
    here = Gallery.create(
        tmp_path / "g", codes=codes, ids=names, labels=labels, bits=BITS, model_id=name, model=model
    )
    push(here.path, Target.parse(target))
    nearest = hamming(queries, codes).min(axis=1)
    expected = [bool(distance > 5) if with_model else None for distance in nearest.tolist()]
    assert len(set(expected)) == 1 + with_model
    with RemoteGallery.open(target) as there:
        assert there.level == here.level
        for where in (Filter(), Filter(labels=("l1",)), Filter(where=(Condition("n", "=", "1"),))):
            assert [hits.unknown for hits in there.search(queries, 2, where=where)] == expected
        assert [hits.unknown for hits in there.search(queries, radius=3)] == expected
        assert [there.page(code[None], 2).hits.unknown for code in queries] == expected
        assert there.similar("3.jpg", 2).unknown is (False if with_model else None)
        there.level = Level(BITS, 0.0, 40, "training")
        assert there.search(queries[:1], 1)[0].unknown is False
