from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anglehash.codes import as_words, check_bits, check_codes, hamming, pack, unpack, width
from anglehash.errors import CodeMismatchError, ConfigError, DataError

bit_rows = st.integers(4, 150).flatmap(
    lambda bits: arrays(np.int8, st.tuples(st.integers(1, 6), st.just(bits)), elements=st.integers(0, 1))
)


def test_a_positive_logit_is_a_one_and_zero_is_not() -> None:
    assert unpack(pack(np.array([[0.5, 0.0, -0.0, -2.0, np.inf]])), 5).tolist() == [[1, 0, 0, 0, 1]]


@given(bit_rows)
def test_unpack_undoes_pack_at_any_length(bits: np.ndarray) -> None:
    codes = pack(bits)
    assert codes.shape == (len(bits), width(bits.shape[1]))
    assert np.array_equal(unpack(codes, bits.shape[1]), bits)


@given(bit_rows)
def test_hamming_counts_differing_bits_and_is_a_metric(bits: np.ndarray) -> None:
    distances = hamming(pack(bits), pack(bits))
    counted = (bits[:, None, :] != bits[None, :, :]).sum(axis=2)
    assert np.array_equal(distances, counted)
    assert (distances == distances.T).all()
    assert (np.diag(distances) == 0).all()
    through = distances[:, :, None] + distances[None, :, :]  # through any third code
    assert (distances[:, None, :] <= through).all()


def test_words_keep_every_bit() -> None:
    codes = np.arange(20, dtype=np.uint8).reshape(2, 10)
    assert as_words(codes).shape == (2, 2)
    assert np.bitwise_count(as_words(codes)).sum() == np.unpackbits(codes).sum()


def test_nan_has_no_code() -> None:
    with pytest.raises(DataError, match="1 rows of logits hold a NaN"):
        pack(np.array([[1.0, np.nan], [1.0, 2.0]]))


def test_codes_of_other_widths_are_refused_with_both_shapes() -> None:
    with pytest.raises(CodeMismatchError, match=r"\(1, 1\).*\(1, 2\)"):
        hamming(np.zeros((1, 1), np.uint8), np.zeros((1, 2), np.uint8))
    with pytest.raises(CodeMismatchError, match="12-bit codes are uint8"):
        check_codes(np.zeros((1, 1), np.uint8), 12)
    with pytest.raises(CodeMismatchError, match="past their 12 bits"):
        check_codes(np.array([[0, 1]], np.uint8), 12)


@pytest.mark.parametrize("bits", [3, 1025, 8.0, True, "8"])
def test_lengths_outside_4_to_1024_are_refused(bits: object) -> None:
    with pytest.raises(ConfigError, match=r"4\.\.1024"):
        check_bits(bits)  # type: ignore[arg-type]
