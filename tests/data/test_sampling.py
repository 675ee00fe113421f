from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from anglehash.data.dataset import Dataset
from anglehash.data.sampling import Pool, keep_classes, tenth, without
from anglehash.errors import ConfigError, DataError

Make = Callable[..., Dataset]

LABELS = arrays(np.bool_, st.tuples(st.integers(1, 60), st.integers(1, 5))).filter(lambda hot: hot.any())


def pool(dataset: Dataset, seed: int = 0, unlabelled: str = "refuse") -> Pool:
    return Pool(dataset, np.random.default_rng(seed), unlabelled)


def test_without_keeps_the_order() -> None:
    assert without(np.array([5, 1, 4, 2]), np.array([1]), np.array([2, 9])).tolist() == [5, 4]


def test_rows_are_those_of_the_named_parts(synthetic: Make) -> None:
    images = pool(synthetic([0, 1, 0, 1], parts=["train", "test", "query", "train"]))
    assert images.rows("train").tolist() == [0, 3]
    assert images.rows("query", "test").tolist() == [1, 2]
    assert images.rows().tolist() == [0, 1, 2, 3]


def test_a_part_without_images_is_explained(synthetic: Make) -> None:
    with pytest.raises(
        DataError, match=r"no labelled image in part query or test; its parts are \['train'\]"
    ):
        pool(synthetic([0, 1], parts=["train", "train"])).rows("query", "test")


def test_unlabelled_images_are_refused_or_skipped_where_they_are_asked_for(synthetic: Make) -> None:
    dataset = synthetic([0, -1, 1, -1], parts=["train", "train", "train", "test"])
    with pytest.raises(DataError, match=r"1 of 3 images .* have no label \(first: 000001\.png\).*skip"):
        pool(dataset).rows("train")
    assert pool(dataset, unlabelled="skip").rows().tolist() == [0, 2]
    with pytest.raises(DataError, match="no labelled image in part test"):
        pool(dataset, unlabelled="skip").rows("test")
    with pytest.raises(ConfigError, match="refuse, skip"):
        pool(dataset, unlabelled="ignore")


def test_narrowing_keeps_the_order_of_classes_and_leaves_out_what_has_no_label_left(synthetic: Make) -> None:
    dataset = synthetic([0, 1, 2, 1], class_names=["sky", "sea", "sun"])
    narrow = pool(dataset).narrowed(["sun", "sky"])
    assert narrow.dataset.class_names == ("sky", "sun")
    assert narrow.rows().tolist() == [0, 2]
    with pytest.raises(ConfigError, match="did you mean 'sun'"):
        keep_classes(dataset, ["sunn"])


def test_each_class_gets_its_number_and_no_image_serves_two(synthetic: Make) -> None:
    # The only images of c1 are also of c0: c1, the rarer, must be served first.
    hot = np.array([[True, True]] * 2 + [[True, False]] * 4)
    for seed in range(20):
        drawn = pool(synthetic(hot), seed).draw_each(np.arange(6), 2)
        assert len(drawn) == 4
        assert set(drawn) >= {0, 1}


def test_a_class_that_is_too_small_is_named(synthetic: Make) -> None:
    with pytest.raises(DataError, match="3 images of every class are wanted, 'c1' has 2"):
        pool(synthetic([0, 0, 0, 1, 1])).draw_each(np.arange(5), 3)


@given(LABELS, st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_a_tenth_never_takes_the_last_image_of_a_class(
    synthetic: Make, hot: NDArray[np.bool_], seed: int
) -> None:
    images = pool(synthetic(hot), seed, "skip")
    rows = images.rows()
    drawn = images.draw_tenth(rows)
    rest = without(rows, drawn)
    assert sorted([*drawn, *rest]) == rows.tolist()
    assert (hot[rest].any(axis=0) == hot[rows].any(axis=0)).all()


def test_a_class_that_lost_its_last_image_to_others_gets_one_back(synthetic: Make) -> None:
    # c0 and c1 give one of their two images each; these may be the two that make up c2.
    hot = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0]], dtype=np.bool_)
    drawn = [pool(synthetic(hot), seed).draw_tenth(np.arange(4)).tolist() for seed in range(40)]
    assert {tuple(rows) for rows in drawn} == {(2,), (0, 3), (1, 2), (1, 3)}


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_of_single_labels_it_is_exactly_a_tenth_of_each_class(
    synthetic: Make, labels: list[int], seed: int
) -> None:
    drawn = pool(synthetic(labels), seed).draw_tenth(np.arange(len(labels)))
    sizes = np.bincount(labels, minlength=5)
    assert np.bincount(np.array(labels)[drawn], minlength=5).tolist() == tenth(sizes).tolist()


def test_the_most_frequent_classes_come_in_order_and_ties_in_class_order(synthetic: Make) -> None:
    images = pool(synthetic([0, 1, 1, 2, 2, 3, 3, 3]))
    assert images.most_frequent_classes(3) == ["c3", "c1", "c2"]
    with pytest.raises(DataError, match="needs 5 classes, got 4"):
        images.most_frequent_classes(5)


def test_draws_of_classes_differ_and_do_not_depend_on_how_many_are_asked_for(synthetic: Make) -> None:
    dataset = synthetic(np.repeat(np.arange(4), 2))
    draws = [pool(dataset).draw_classes(2, draw) for draw in range(5)]
    assert len(set(draws)) == 5
    assert all(len(draw) == 2 and list(draw) == sorted(draw) for draw in draws)
    assert len({pool(dataset, seed).draw_classes(2, 0) for seed in range(20)}) > 1


@pytest.mark.parametrize(("count", "draw", "message"), [
    (4, 0, "two be left"), (1, 0, "two must be drawn"), (2, 5, r"draw must be in 0\.\.4"), (2, -1, r"0\.\.4"),
])  # fmt: skip
def test_draws_that_do_not_exist_are_explained(synthetic: Make, count: int, draw: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pool(synthetic([0, 1, 2, 3, 4])).draw_classes(count, draw)


@pytest.mark.parametrize(("classes", "count"), [(10, 3), (200, 50), (4, 2)])
def test_by_default_a_quarter_of_the_classes_is_drawn(synthetic: Make, classes: int, count: int) -> None:
    assert len(pool(synthetic(np.arange(classes))).draw_classes(None, 0)) == count


def test_a_negative_seed_is_refused(synthetic: Make) -> None:
    with pytest.raises(ConfigError, match="must be 0 or more, got -1"):
        Pool.seeded(synthetic([0, 1]), -1, "refuse")
