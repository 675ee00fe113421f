from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anglehash.data.dataset import PARTS
from anglehash.data.labels import cell_labels, multi_hot, part_name, split_labels
from anglehash.errors import DataError

LABEL = st.text(st.characters(exclude_characters="|"), min_size=1).map(str.strip).filter(bool)


@given(st.lists(LABEL))
def test_a_cell_and_a_list_mean_the_same(labels: list[str]) -> None:
    assert split_labels("|".join(labels)) == cell_labels(labels) == tuple(sorted(set(labels)))


@pytest.mark.parametrize("cell", [True, 1.5, {"a": 1}, [["a"]], [None], b"a"])
def test_other_cells_are_refused(cell: object) -> None:
    with pytest.raises(DataError, match="a label is a text"):
        cell_labels(cell)


@given(st.lists(st.sets(st.sampled_from("abcde"))))
def test_multi_hot_says_what_each_row_has(rows: list[set[str]]) -> None:
    matrix, names = multi_hot([tuple(row) for row in rows])
    assert names == tuple(sorted(set().union(*rows)))
    assert matrix.shape == (len(rows), len(names))
    assert [{names[c] for c in np.flatnonzero(row)} for row in matrix] == rows


def test_the_order_of_classes_can_be_given() -> None:
    matrix, names = multi_hot([("a",)], ["b", "a"])
    assert names == ("b", "a")
    assert matrix.tolist() == [[False, True]]


def test_every_part_is_its_own_name() -> None:
    assert [part_name(part) for part in PARTS] == list(PARTS)
    assert part_name("test") == "test"
    assert part_name("holiday") is None
