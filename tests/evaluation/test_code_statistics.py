from __future__ import annotations

import numpy as np
import pytest

from anglehash.codes import hamming, pack
from anglehash.errors import CodeMismatchError, DataError
from anglehash.evaluation.code_statistics import (
    bit_balance,
    class_code_distances,
    class_id_codes,
    distinct,
    unique_codes,
)

BITS = np.array([[1, 1, 0, 0, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]])


def test_three_class_codes_by_hand() -> None:
    # distances 2 (1-2), 3 (1-3), 3 (2-3): mean 8/3, unbiased variance ((2/3)^2 + 2 (1/3)^2) / 2 = 1/3
    distances = class_code_distances(pack(BITS))
    assert distances == pytest.approx((8 / 3, np.sqrt(1 / 3), 2))


def test_two_classes_have_one_pair_and_no_spread() -> None:
    assert class_code_distances(pack(BITS[:2])) == (2.0, 0.0, 2)


def test_distances_stay_under_their_bound() -> None:
    rng = np.random.default_rng(0)
    for classes in (2, 3, 7, 50):
        distances = class_code_distances(pack(rng.normal(size=(classes, 32))))
        assert distances.min <= distances.mean <= 32 * classes / (2 * (classes - 1))


def test_one_class_has_no_distance() -> None:
    with pytest.raises(DataError, match="two classes"):
        class_code_distances(pack(BITS[:1]))


def test_codes_are_counted_once() -> None:
    assert unique_codes(pack(np.repeat(BITS, 3, axis=0))) == 3


def test_the_balance_of_each_bit() -> None:
    assert bit_balance(pack(BITS), 5).tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3, 0, 2 / 3])
    with pytest.raises(CodeMismatchError):
        bit_balance(pack(BITS), 12)
    with pytest.raises(DataError):
        bit_balance(pack(BITS[:0]), 5)


def test_class_ids_are_0_or_2_apart() -> None:
    posterior = np.random.default_rng(0).dirichlet(np.ones(11), size=40)
    codes = class_id_codes(posterior)
    same = posterior.argmax(axis=1)[:, None] == posterior.argmax(axis=1)[None, :]
    assert (hamming(codes, codes) == np.where(same, 0, 2)).all()


def test_a_tied_class_id_is_the_first() -> None:
    assert class_id_codes(np.array([[0.5, 0.5]])).tolist() == [[0b10000000]]


@pytest.mark.parametrize("width", [1, 8, 9, 17])
def test_distinct_codes_are_those_of_a_dictionary(width: int) -> None:
    codes = np.random.default_rng(width).integers(0, 2, (60, width), dtype=np.uint8)
    codes[:, : width - 2] = 7  # repeats, which differ in the last bytes only
    rows, member = distinct(codes)
    first: dict[bytes, int] = {}
    for row, code in enumerate(codes):
        first.setdefault(code.tobytes(), row)
    assert sorted(rows.tolist()) == sorted(first.values())
    assert [int(rows[m]) for m in member] == [first[code.tobytes()] for code in codes]
    assert unique_codes(codes) == len(first)
