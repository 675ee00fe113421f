from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from anglehash.evaluation.ties import Ties, expected_sum, ratio, tie_orders


def test_one_group_behind_others_by_hand() -> None:
    # N = 2 items with Q = 1 hit before; n = 2, r = 1: the hit is at rank 3 (P = 2/3) or at rank 4 (P = 2/4)
    ties = Ties(*(np.array([value]) for value in (2, 1, 2, 1)))
    assert ties.precision_at_hits(4).tolist() == pytest.approx([(2 / 3 + 2 / 4) / 2])
    assert ties.precision_at_hits(3).tolist() == pytest.approx([(2 / 3) / 2])
    assert ties.precision_at_hits(2).tolist() == [0]


def test_weights_end_inside_a_group() -> None:
    # values 6 / 3 items: each counts 2; ranks 1 and 2 weigh 1 and 1/2
    assert expected_sum(np.array([[3]]), np.array([[6]]), np.array([1, 0.5])).tolist() == [3]


def test_orders_are_permutations_that_a_seed_repeats() -> None:
    orders = [order.tolist() for order in islice(tie_orders(20, seed=5), 3)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert orders[0] != orders[1]
    assert orders == [order.tolist() for order in islice(tie_orders(20, seed=5), 3)]
    assert orders[0] != next(tie_orders(20, seed=6)).tolist()


def test_nothing_of_nothing_is_0() -> None:
    assert ratio(np.array([1, 0]), np.array([2, 0])).tolist() == [0.5, 0]
