from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anglehash.errors import ConfigError, DataError
from anglehash.methods.losses.reference import Reference

BITS = 4
LABELS = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()


def random_logits(seed: int) -> Tensor:
    return torch.randn(len(LABELS), BITS, generator=torch.Generator().manual_seed(seed))


def remembering(limit: int = 0) -> Reference:
    reference = Reference(BITS, limit)
    reference.remember(LABELS)
    return reference


def visit(reference: Reference, rows: list[int], logits: Tensor) -> Tensor:
    reference.set_rows(torch.tensor(rows))
    value: Tensor = reference(logits[rows], LABELS[rows])
    return value


def naive(pairs: list[tuple[int, int]], logits: Tensor, kept: Tensor) -> float:
    values = []
    for i, r in pairs:
        theta = float(logits[i] @ kept[r]) / 2
        values.append(math.log1p(math.exp(theta)) - bool((LABELS[i] & LABELS[r]).any()) * theta)
    return sum(values) / len(values)


def test_a_batch_meets_the_last_logits_of_all_visited_images_but_itself() -> None:
    reference, old, new = remembering(), random_logits(0), random_logits(1)
    visit(reference, [0, 1, 4], old)
    got = visit(reference, [3, 1], new)
    kept = old.clone()
    kept[[3, 1]] = new[[3, 1]]
    pairs = [(i, r) for i in (3, 1) for r in (0, 1, 3, 4) if i != r]
    assert got.item() == pytest.approx(naive(pairs, new, kept))
    assert reference.seen.tolist() == [True, True, False, True, True]
    assert torch.equal(reference.logits[[0, 1, 3, 4]], kept[[0, 1, 3, 4]])


def test_the_gradient_reaches_the_batch_only() -> None:
    reference, logits = remembering(), random_logits(0)
    visit(reference, [0, 1, 2, 3, 4], random_logits(1))
    kept = reference.logits.clone()
    kept[2] = logits[2]
    there = logits[2:3].clone().requires_grad_()
    reference.set_rows(torch.tensor([2]))
    reference(there, LABELS[2:3]).backward()
    # (sigmoid(theta) - s) u / 2, the mean over the four others
    similar = (LABELS & LABELS[2]).any(dim=1)
    slopes = torch.sigmoid(kept @ logits[2] / 2) - similar.float()
    expected = sum(slopes[r] * kept[r] / 2 for r in (0, 1, 3, 4)) / 4
    torch.testing.assert_close(there.grad, torch.as_tensor(expected)[None])
    assert not reference.logits.requires_grad


def test_without_rows_the_batch_is_its_own_reference() -> None:
    reference, logits = Reference(BITS, 0), random_logits(0).double().requires_grad_()
    pairs = [(i, j) for i in range(5) for j in range(i)]
    assert reference(logits, LABELS).item() == pytest.approx(naive(pairs, logits.detach(), logits.detach()))
    assert torch.autograd.gradcheck(lambda z: reference(z, LABELS), (logits,))


def test_rows_are_taken_by_one_call() -> None:
    reference, logits = remembering(), random_logits(0)
    visit(reference, [0, 1], logits)
    reference(logits, LABELS)  # a call without rows: nothing is kept
    assert reference.seen.sum() == 2


def test_no_more_than_the_limit_are_drawn_and_all_in_time() -> None:
    reference, logits = remembering(limit=2), random_logits(0)
    everything = naive([(0, r) for r in range(1, 5)], logits, logits)
    visit(reference, [1, 2, 3, 4], logits)
    torch.manual_seed(0)
    values = [visit(reference, [0], logits).item() for _ in range(300)]
    drawn = [naive([(0, r) for r in pair if r], logits, logits) for pair in PAIRS]
    assert all(any(v == pytest.approx(d) for d in drawn) for v in values)
    assert len({round(v, 5) for v in values}) == len({round(d, 5) for d in drawn})
    assert sum(values) / len(values) == pytest.approx(everything, abs=0.1)


PAIRS = [(a, b) for a in range(5) for b in range(a)]


def test_the_draw_is_of_torchs_global_generator() -> None:
    reference, logits = remembering(limit=2), random_logits(0)
    visit(reference, [1, 2, 3, 4], logits)
    torch.manual_seed(3)
    first = [visit(reference, [0], logits).item() for _ in range(5)]
    torch.manual_seed(3)
    assert [visit(reference, [0], logits).item() for _ in range(5)] == first


def test_an_image_that_meets_none_but_itself_costs_nothing() -> None:
    assert visit(remembering(), [4], random_logits(0)).item() == 0


def test_rows_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match=r"call remember\(labels\)"):
        Reference(BITS, 0).set_rows(torch.tensor([0]))
    reference = remembering()
    reference.set_rows(torch.tensor([0, 1, 2]))
    with pytest.raises(DataError, match="set_rows named 3 images, but the batch has 2"):
        reference(random_logits(0)[:2], LABELS[:2])
    with pytest.raises(ConfigError, match="reference must be a whole number >= 0"):
        Reference(BITS, -1)
