from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from anglehash.codes import pack
from anglehash.errors import ConfigError, ModelError
from anglehash.evaluation.ranking import average_precision_of_codes
from anglehash.learn.shallow.dual_head import DualHead, descend, fit
from anglehash.learn.shallow.posterior import posterior
from anglehash.learn.shallow.posterior_dual import alternate, learn_codes, posterior_dual, reading_of
from anglehash.learn.shallow.posterior_head import PosteriorHead
from anglehash.learn.sides import is_dual, logits_of, sides_of

SHORT = {"folds": 3, "hidden": 16, "epochs": 4}


def digits(*, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    found = load_digits()
    features = found.data + np.random.default_rng(0).normal(0, noise, found.data.shape)
    return features.astype(np.float32), np.eye(10, dtype=bool)[found.target]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quadratic(codes: Tensor, pull: Tensor, push: Tensor) -> Tensor:
    return ((codes @ push) * codes).sum(dim=-1) - 2 * (codes * pull).sum(dim=-1)


def test_the_fit_is_its_sum_up_to_a_constant() -> None:
    wanted, others, share = drawn(1, 5).sigmoid(), drawn(5, 6, seed=1).sign(), drawn(5, seed=2).abs()
    slope, offset = torch.tensor(0.3).double(), torch.tensor(-0.2).double()
    pull, push = fit(wanted, others, share, slope, offset)
    constants = []
    for signs in product((-1.0, 1.0), repeat=6):
        code = torch.tensor(signs, dtype=torch.float64)
        total = sum(
            float(share[j] * (slope * code @ others[j] + offset - wanted[0, j]) ** 2) for j in range(5)
        )
        constants.append(total - float(quadratic(code, pull[0], push)))
    assert np.ptp(constants) < 1e-12


def test_no_single_bit_could_be_better_and_many_codes_are_the_best_of_all() -> None:
    bits, best = 8, 0
    every = torch.tensor(list(product((-1.0, 1.0), repeat=bits)), dtype=torch.float64)
    for seed in range(40):
        basis = drawn(bits, 4, seed=seed)
        push, pull = basis @ basis.T / bits, drawn(1, bits, seed=seed + 100)
        code = descend(pull, push, passes=20).sign()
        reached = float(quadratic(code, pull, push))
        for k in range(bits):
            flipped = code.clone()
            flipped[0, k] *= -1
            assert float(quadratic(flipped, pull, push)) >= reached - 1e-12
        best += reached <= float(quadratic(every, pull, push).min()) + 1e-12
    assert best >= 20


def test_more_passes_never_make_the_sum_larger() -> None:
    basis = drawn(16, 5)
    push, pull = basis @ basis.T, drawn(50, 16, seed=1)
    sums = [quadratic(descend(pull, push, passes=p).sign(), pull, push) for p in (1, 2, 3, 8)]
    assert all(bool((b <= a + 1e-12).all()) for a, b in pairwise(sums))
    assert bool((sums[-1] < sums[0] - 1e-6).any())


def test_a_logit_is_never_zero() -> None:
    logits = descend(torch.zeros(3, 4), torch.zeros(4, 4))
    assert bool((logits.abs() >= 1e-6).all())


def test_codes_of_rows_do_not_depend_on_each_other() -> None:
    basis = drawn(12, 5)
    push, pull = basis @ basis.T, drawn(9, 12, seed=3)
    together = descend(pull, push)
    assert all(torch.equal(descend(pull[i : i + 1], push)[0], together[i]) for i in range(9))


def test_the_reading_of_queries_is_that_of_least_squares() -> None:
    items, wanted = drawn(300, 6).sign(), drawn(300, 3, seed=1)
    with_offset = np.c_[items.numpy(), np.ones(300)]
    expected = np.linalg.lstsq(with_offset, wanted.numpy(), rcond=None)[0][:6].T
    np.testing.assert_allclose(reading_of(items, wanted).numpy(), expected, rtol=1e-3, atol=1e-4)


def test_the_codes_say_most_and_the_best_of_many_beginnings_more() -> None:
    wanted = torch.softmax(2 * drawn(400, 6), dim=1).float()
    share = torch.full((6,), 1 / 6)
    classes = drawn(6, 12, seed=4).sign().float()
    fitted = alternate(classes, wanted, share, 3)
    said = fitted.slope * fitted.items @ fitted.classes.T + fitted.offset
    assert fitted.error == pytest.approx(float((said - wanted).square().mean()), rel=1e-4)
    assert fitted.error < 0.5 * float((wanted - wanted.mean()).square().mean())

    def found(starts: int, seed: int) -> float:
        torch.manual_seed(seed)
        return learn_codes(wanted, share, 12, 2, starts).error

    one, many = (np.mean([found(starts, seed) for seed in range(6)]) for starts in (1, 12))
    assert many < one


def test_the_head_does_what_its_formulas_say() -> None:
    features, labels = digits()
    head = posterior_dual(features[:300], labels[:300], 12, **SHORT)
    assert isinstance(head, DualHead)
    assert is_dual(head)
    x = torch.from_numpy(features[300:340]).double()
    head = head.double()
    log_odds = head.log_odds(x).mean(dim=0)
    asked = torch.softmax(2.8 * log_odds, dim=1) @ head.query_weight
    assert torch.allclose(head.sides(x)[1], asked, atol=1e-6)
    wanted = torch.softmax(0.7 * log_odds, dim=1)
    codes = head(x).sign()

    def error(codes: Tensor) -> Tensor:
        said = head.slope * codes @ head.class_codes.T + head.offset
        return ((said - wanted).square() * head.class_share).sum(dim=1)

    every = torch.tensor(list(product((-1.0, 1.0), repeat=12)), dtype=torch.float64)
    said = head.slope * every @ head.class_codes.T + head.offset
    least = ((said[None] - wanted[:, None]).square() * head.class_share).sum(dim=2).min(dim=1).values
    typical = error(torch.ones_like(codes)).mean()
    assert float((error(codes) - least).mean()) < 0.05 * float(typical - least.mean())


def test_two_codes_find_more_than_one() -> None:
    features, labels = digits(noise=9)
    known, query, database = slice(0, 900), slice(900, 1200), slice(1200, None)
    found = []
    for method in (posterior, posterior_dual):
        head = method(features[known], labels[known], 12, seed=1)
        asked, kept = sides_of(head, features[query]).queries, logits_of(head, features[database])
        found.append(
            average_precision_of_codes(
                pack(asked), pack(kept), labels[query], labels[database], bits=12
            ).mean()
        )
    assert found[1] > found[0] + 0.02


def test_images_with_several_labels_have_one_code_for_both_sides() -> None:
    features, labels = digits()
    labels = labels[:120].copy()
    labels[:30, 3] = True
    head = posterior_dual(features[:120], labels, 8, seed=2, **SHORT)
    assert isinstance(head, PosteriorHead)
    same = posterior(features[:120], labels, 8, seed=2, **SHORT)
    assert all(torch.equal(value, head.state_dict()[name]) for name, value in same.state_dict().items())
    assert not is_dual(head)
    sides = sides_of(head, features[:20])
    assert sides.queries is sides.items


@pytest.mark.parametrize("option", [{"flatness": 0.0}, {"rounds": 0}, {"starts": 0}, {"dropout": 1.0}])
def test_options_out_of_range_are_named(option: dict[str, float]) -> None:
    features, labels = digits()
    with pytest.raises(ConfigError, match=next(iter(option))):
        posterior_dual(features[:50], labels[:50], 8, **{**SHORT, **option})


def test_tensors_that_do_not_fit_are_refused() -> None:
    features, labels = digits()
    state = posterior_dual(features[:60], labels[:60], 8, **SHORT).state_dict()
    for name in ("class_codes", "class_share", "query_weight"):
        with pytest.raises(ModelError, match=name):
            DualHead(**{**state, name: state[name][1:]})
