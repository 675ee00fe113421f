from __future__ import annotations

import copy
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from anglehash import Hasher
from anglehash.codes import pack
from anglehash.data.dataset import Arrays
from anglehash.encode.asking import AsQueries, asking_of, of_its_class
from anglehash.errors import ModelError, NoModelError
from anglehash.learn.model import Model
from anglehash.learn.shallow import SHALLOW
from tests.encode.conftest import BITS, noise

ONE = np.eye(2, dtype=bool)[np.arange(60) % 2]


@pytest.fixture(scope="module")
def dual(hasher: Hasher) -> Model:
    features = hasher.model_.encode(Arrays(noise(60))).features
    head = SHALLOW["posterior-dual"](features, ONE, BITS, folds=2, hidden=8, epochs=3)
    return replace(hasher.model_, head=head, class_vectors=head.get_buffer("class_codes").numpy())


def test_an_item_asks_with_the_code_of_the_class_that_it_is_nearest_to() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 20)).astype(np.float32)
    codes = pack(rng.normal(size=(50, 20)))
    found = of_its_class(codes, vectors)
    bits, classes = np.unpackbits(codes, axis=1, count=20), (vectors > 0).astype(int)
    for own, asks in zip(bits, found, strict=True):
        apart = [int((own != other).sum()) for other in classes]
        assert np.array_equal(asks, pack(vectors)[int(np.argmin(apart))])


def test_an_item_keeps_the_bits_that_say_nothing_of_classes() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 20)).astype(np.float32)
    vectors[:, 13:] = 0
    logits = rng.normal(size=(50, 20))
    found = np.unpackbits(of_its_class(pack(logits), vectors), axis=1, count=20)
    alone = np.unpackbits(of_its_class(pack(logits[:, :13]), vectors[:, :13]), axis=1, count=13)
    assert np.array_equal(found, np.c_[alone, logits[:, 13:] > 0])


def test_only_a_dual_model_makes_items_ask_with_other_codes(
    dual: Model, hasher: Hasher, tmp_path: Path
) -> None:
    dual.save(tmp_path / "dual")
    codes = pack(np.random.default_rng(1).normal(size=(20, BITS)))
    asking = asking_of(lambda: tmp_path / "dual", dual.id)
    assert np.array_equal(asking(codes), of_its_class(codes, dual.class_vectors))
    assert not np.array_equal(asking(codes), codes)

    features = hasher.model_.encode(Arrays(noise(60))).features
    one = replace(dual, head=SHALLOW["itq"](features, ONE, BITS))
    one.save(tmp_path / "one")
    for place in ("one", "nowhere"):
        same = asking_of(partial(Path, tmp_path / place), one.id)
        assert np.array_equal(same(codes), codes)

    def pushed_without() -> Path:
        raise NoModelError("pushed without its model")

    assert np.array_equal(asking_of(pushed_without, one.id)(codes), codes)
    with pytest.raises(ModelError, match=f"holds codes of the model {one.id}, but .*dual is {dual.id}"):
        asking_of(lambda: tmp_path / "dual", one.id)


@pytest.mark.parametrize("name", ["data.safetensors", "manifest.json"])
def test_a_damaged_copy_of_a_model_is_told(dual: Model, tmp_path: Path, name: str) -> None:
    dual.save(tmp_path / "m")
    os.truncate(tmp_path / "m" / name, (tmp_path / "m" / name).stat().st_size - 9)
    with pytest.raises(ModelError, match=name):
        asking_of(lambda: tmp_path / "m", dual.id)


@pytest.mark.parametrize("shape", [(0, BITS), (2, BITS + 1), (BITS,)])
def test_class_codes_that_do_not_fit_are_told(dual: Model, tmp_path: Path, shape: tuple[int, ...]) -> None:
    replace(dual, class_vectors=np.ones(shape, dtype=np.float32)).save(tmp_path / "m")
    with pytest.raises(ModelError, match=r"data\.safetensors is not what anglehash wrote: class_vectors"):
        asking_of(lambda: tmp_path / "m", dual.id)


def test_query_logits_that_are_not_finite_are_refused(dual: Model) -> None:
    head = replace(dual, head=copy.deepcopy(dual.head))
    head.head.get_buffer("query_weight")[0, 0] = torch.nan
    with pytest.raises(ModelError, match="NaN or infinite logits"):
        head.encode(Arrays(noise(3)))


def test_an_encoder_of_queries_gives_the_codes_that_ask(dual: Model) -> None:
    images = Arrays(noise(30, seed=4))
    both, asked = dual.encode(images), AsQueries(dual).encode(images)
    assert np.array_equal(asked.codes, both.query_codes)
    assert np.array_equal(asked.logits, both.query_logits)
    assert not np.array_equal(asked.codes, both.codes)
    assert AsQueries(dual).id != dual.id
