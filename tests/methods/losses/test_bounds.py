from __future__ import annotations

import pytest

from anglehash.errors import ConfigError
from anglehash.methods.losses.bounds import largest_distance, most_codes
from anglehash.methods.losses.centers import hash_centers, minimum_distance


def most_by_search(bits: int, distance: int) -> int:
    """A(K, d), by trying all sets of codes that hold 0."""

    def extend(size: int, allowed: list[int]) -> int:
        best = size
        for i, code in enumerate(allowed):
            if size + len(allowed) - i <= best:
                break
            rest = [other for other in allowed[i + 1 :] if (other ^ code).bit_count() >= distance]
            best = max(best, extend(size + 1, rest))
        return best

    return extend(1, [code for code in range(2**bits) if code.bit_count() >= distance])


SMALL = [
    (bits, distance) for bits in range(1, 7) for distance in range(1, bits + 1) if bits < 6 or distance > 2
]


@pytest.mark.parametrize(("bits", "distance"), SMALL)
def test_bounds_all_codes_that_a_search_finds(bits: int, distance: int) -> None:
    found = most_by_search(bits, distance)
    assert (
        most_codes(bits, distance) == found if 2 * distance >= bits else found <= most_codes(bits, distance)
    )


@pytest.mark.parametrize(
    ("bits", "distance", "size"),
    # known values of A(n, d): simplex, Hadamard and Plotkin codes, Hamming codes, Golay's
    [
        (7, 3, 16),
        (8, 4, 16),
        (9, 5, 6),
        (10, 6, 6),
        (11, 6, 12),
        (12, 6, 24),
        (13, 8, 4),
        (14, 8, 8),
        (15, 3, 2048),
        (15, 8, 16),
        (16, 4, 2048),
        (16, 8, 32),
        (23, 7, 4096),
        (24, 12, 48),
        (64, 32, 128),
    ],
)
def test_known_values(bits: int, distance: int, size: int) -> None:
    assert most_codes(bits, distance) == size


@pytest.mark.parametrize(
    ("bits", "distance", "size"),
    # known values that the bound does not reach; it may not fall below them
    [(9, 3, 40), (10, 4, 40), (11, 4, 72), (12, 4, 144), (13, 5, 64), (15, 5, 256), (16, 6, 256)],
)
def test_is_never_below_known_codes(bits: int, distance: int, size: int) -> None:
    assert size <= most_codes(bits, distance) < 1.4 * size


@pytest.mark.parametrize("bits", [4, 5, 12, 13, 64, 1023, 1024])
def test_largest_distance_of_few_classes_by_hand(bits: int) -> None:
    assert largest_distance(2, bits) == bits
    # each bit parts at most 2 of the 3 pairs of three codes, and 4 of the 6 of four
    assert largest_distance(3, bits) == largest_distance(4, bits) == 2 * bits // 3


@pytest.mark.parametrize("bits", [12, 16, 20, 24, 32, 48, 64, 128])
def test_hadamard_rows_reach_the_largest_distance(bits: int) -> None:
    assert largest_distance(2 * bits, bits) == bits // 2 == minimum_distance(hash_centers(2 * bits, bits))


@pytest.mark.parametrize("classes", [10, 21, 80, 200, 1000])
@pytest.mark.parametrize("bits", [4, 12, 16, 24, 32, 36, 48, 64, 128])
def test_no_centers_are_farther_apart(classes: int, bits: int) -> None:
    found = minimum_distance(hash_centers(classes, bits))
    assert found <= largest_distance(classes, bits) <= bits


def test_more_classes_or_fewer_bits_are_never_farther_apart() -> None:
    table = [[largest_distance(c, k) for c in range(2, 60)] for k in range(4, 40)]
    assert all(row == sorted(row, reverse=True) for row in table)
    assert all(column == tuple(sorted(column)) for column in zip(*table, strict=True))
    assert largest_distance(17, 4) == 0


def test_refuses_a_distance_that_codes_cannot_have() -> None:
    with pytest.raises(ConfigError, match=r"a distance of 8-bit codes is in 1..8, got 9"):
        most_codes(8, 9)
