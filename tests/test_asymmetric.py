from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anglehash.asymmetric import SURE, asymmetric_distances, bit_weights, check_weights, lookups
from anglehash.codes import hamming, pack
from anglehash.errors import CodeMismatchError, DataError

LOGITS = arrays(np.float32, (3, 13), elements=st.floats(-9, 9, width=32))


def test_weights_by_hand() -> None:
    # mean size (3 + 1) / 2 = 2; 255 tanh(1.5 * 1.5) = 249.4, 255 tanh(1.5 * .5) = 161.9
    assert bit_weights(np.array([[3.0, -1.0]])).tolist() == [[249, -162]]


@given(LOGITS, st.floats(0.01, 100))
def test_the_sign_is_the_bits_and_the_scale_does_not_matter(logits: np.ndarray, scale: float) -> None:
    weights = bit_weights(logits)
    assert np.abs(weights).max() <= SURE
    assert not (weights * logits < 0).any()
    assert np.abs(bit_weights(logits.astype(np.float64) * scale) - weights).max() <= 1  # .5 rounds either way


def test_a_query_that_is_sure_of_nothing_is_near_to_all() -> None:
    weights = bit_weights(np.zeros((1, 8)))
    assert asymmetric_distances(weights, pack(np.eye(8))).tolist() == [[0] * 8]


def test_equally_sure_bits_rank_like_hamming_distance() -> None:
    rng = np.random.default_rng(0)
    signs = rng.choice([-2.0, 2.0], (5, 24))
    codes = pack(rng.normal(size=(40, 24)))
    assert np.array_equal(asymmetric_distances(bit_weights(signs), codes), 231 * hamming(pack(signs), codes))


@settings(deadline=None)
@given(LOGITS, st.integers(0, 9))
def test_distances_and_lookups_add_up_the_weights_of_differing_bits(logits: np.ndarray, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2, (6, 13))
    codes, weights = pack(bits), bit_weights(logits)
    found = asymmetric_distances(weights, codes)
    for own, row in zip(weights, found, strict=True):
        table = lookups(own)
        for code, item, distance in zip(codes, bits, row, strict=True):
            differing = sum(abs(int(w)) for w, bit in zip(own, item, strict=True) if (w > 0) != bit)
            assert distance == differing == sum(table[byte, value] for byte, value in enumerate(code))


@pytest.mark.parametrize("logits", [np.zeros(4), np.zeros((2, 0))])
def test_another_shape_is_refused(logits: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"logits must have the shape \(queries, bits\), got"):
        bit_weights(logits)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="1 of 2 rows of logits hold a NaN or an infinite value"):
        bit_weights(np.array([[1.0, 2.0], [1.0, value]]))


def test_the_greatest_numbers_have_weights_too() -> None:
    assert (
        bit_weights(np.array([[1.5e308, -0.5e308]])).tolist() == bit_weights(np.array([[3.0, -1.0]])).tolist()
    )


def test_weights_of_another_length_are_refused() -> None:
    with pytest.raises(CodeMismatchError, match=r"8-bit codes have logits of shape \(n, 8\), got \(1, 4\)"):
        check_weights(np.zeros((1, 4), np.int32), 8)
