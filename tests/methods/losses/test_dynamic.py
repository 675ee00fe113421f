from __future__ import annotations

import math
import statistics

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anglehash.methods.losses.dynamic import MULTILABEL, AngularBatch, against

AGAINST_THE_OTHERS = ("merge", "partial", "sample")


def harder(cosine: Tensor) -> Tensor:
    return cosine - 0.2


def by_hand(generator: torch.Generator | None = None, images: int = 1) -> AngularBatch:
    """Classes along +x, +y and -x; an image along +x that has the first two; s = 2 and no margin.

    The mean of its classes is 45 degrees away.
    """
    return AngularBatch(
        cosine=torch.tensor([[1.0, 0, -1]]).expand(images, 3),
        merged=torch.tensor([[math.sqrt(0.5)]]).expand(images, 1),
        positive=torch.tensor([[True, True, False]]).expand(images, 3),
        scale=2.0,
        margin=lambda cosine: cosine,
        generator=generator,
    )


def single_label() -> AngularBatch:
    torch.manual_seed(0)
    positive = F.one_hot(torch.tensor([3, 0, 2, 3]), 4).bool()
    cosine = torch.rand(4, 4, dtype=torch.float64) * 2 - 1
    return AngularBatch(cosine, cosine[positive][:, None], positive, 3.0, harder)


def test_by_hand() -> None:
    e, merged = math.exp, math.sqrt(2)  # logits 2, 0, -2, and 2 cos 45 degrees
    expected = {
        "merge": math.log(e(merged) + e(-2)) - merged,
        "append": math.log(e(merged) + e(2) + 1 + e(-2)) - merged,
        "partial": (math.log(1 + e(-4)) + math.log(1 + e(-2))) / 2,
        "smooth": math.log(e(2) + 1 + e(-2)) - (2 + 0) / 2,
    }
    got = {mode: MULTILABEL[mode](by_hand()).item() for mode in expected}
    assert got == pytest.approx(expected)


def test_sample_by_hand() -> None:
    values = MULTILABEL["sample"](by_hand(torch.Generator().manual_seed(0), images=2000)).tolist()
    near, far = math.log(1 + math.exp(-4)), math.log(1 + math.exp(-2))
    shares = [statistics.mean(math.isclose(v, x, rel_tol=1e-5) for v in values) for x in (near, far)]
    assert sum(shares) == 1
    assert shares[0] == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(2000))


def test_sample_repeats_with_its_generator_or_the_global_one() -> None:
    def draw(seed: int) -> list[float]:
        return MULTILABEL["sample"](by_hand(torch.Generator().manual_seed(seed), images=50)).tolist()

    def global_draw() -> list[float]:
        torch.manual_seed(0)
        return MULTILABEL["sample"](by_hand(images=50)).tolist()

    assert draw(0) == draw(0) != draw(1)
    assert global_draw() == global_draw()


@pytest.mark.parametrize("mode", sorted(MULTILABEL.keys() - {"append"}))
def test_one_label_is_the_usual_cross_entropy(mode: str) -> None:
    batch = single_label()
    logits = torch.where(batch.positive, harder(batch.cosine), batch.cosine) * 3
    expected = F.cross_entropy(logits, batch.positive.int().argmax(dim=1), reduction="none")
    torch.testing.assert_close(MULTILABEL[mode](batch), expected)


def test_append_keeps_a_single_class_among_the_others() -> None:
    batch = single_label()
    target = 3 * harder(batch.merged)
    everything = torch.cat([target, 3 * batch.cosine], dim=1)
    torch.testing.assert_close(MULTILABEL["append"](batch), everything.logsumexp(dim=1) - target[:, 0])
    assert (MULTILABEL["append"](batch) > math.log(2)).all()  # its twin alone: it cannot fall to 0


@pytest.mark.parametrize("mode", AGAINST_THE_OTHERS)
def test_an_image_with_every_class_has_no_rival(mode: str) -> None:
    cosine = torch.tensor([[0.5, -0.5], [0.1, 0.2]], requires_grad=True)
    every = torch.ones(2, 2, dtype=torch.bool)
    value = MULTILABEL[mode](AngularBatch(cosine, cosine.mean(dim=1, keepdim=True), every, 3.0, harder))
    assert value.tolist() == pytest.approx([0, 0], abs=1e-6)
    value.sum().backward()  # type: ignore[no-untyped-call]
    assert cosine.grad is not None
    assert cosine.grad.abs().max() < 1e-6


@pytest.mark.parametrize("mode", AGAINST_THE_OTHERS)
def test_classes_that_an_image_has_are_never_among_the_others(mode: str) -> None:
    cosine = torch.tensor([[0.3, 0.2, -0.1], [0.3, 0.2, -0.1]], requires_grad=True)
    positive = torch.tensor([[True, False, False], [True, True, False]])
    batch = AngularBatch(cosine, cosine[:, :1], positive, 3.0, harder, torch.Generator().manual_seed(0))
    MULTILABEL[mode](batch).sum().backward()  # type: ignore[no-untyped-call]
    assert cosine.grad is not None
    # a positive gradient pushes a class away: every one that the image lacks, none that it has
    assert ((cosine.grad > 0) == ~positive).all()


def test_huge_logits_stay_finite() -> None:
    target, others = torch.tensor([[-1e4]]), torch.tensor([[1e4, 1e4]])
    got = against(target, others, torch.tensor([[True, True]]))
    assert got.item() == pytest.approx(2e4 + math.log(2))
