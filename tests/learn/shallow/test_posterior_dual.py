from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from anglehash.codes import pack
from anglehash.errors import ConfigError, ModelError
from anglehash.evaluation.ranking import average_precision_of_codes
from anglehash.learn.on_features import class_codes_of
from anglehash.learn.shallow.dual_head import DualHead, Line, descend, fit
from anglehash.learn.shallow.itq import itq
from anglehash.learn.shallow.posterior import posterior
from anglehash.learn.shallow.posterior_dual import (
    alternate,
    flatness_for,
    learn_codes,
    lines_of,
    posterior_dual,
    reading_of,
)
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


@pytest.mark.parametrize("lengths", [(6,), (2, 4, 6)])
def test_the_fit_is_its_sum_up_to_a_constant(lengths: tuple[int, ...]) -> None:
    wanted, others, share = drawn(1, 5).sigmoid(), drawn(5, 6, seed=1).sign(), drawn(5, seed=2).abs()
    lines = [
        Line(length, torch.tensor(0.3 - length / 40).double(), torch.tensor(length / 9).double())
        for length in lengths
    ]
    pull, push = fit(wanted, others, share, lines)
    constants = []
    for signs in product((-1.0, 1.0), repeat=6):
        code = torch.tensor(signs, dtype=torch.float64)
        total = sum(
            float(share[j] * (slope * code[:length] @ others[j, :length] + offset - wanted[0, j]) ** 2)
            for length, slope, offset in lines
            for j in range(5)
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


def test_lines_are_those_of_weighted_least_squares() -> None:
    items, classes, wanted = drawn(50, 8).sign(), drawn(4, 8, seed=1).sign(), drawn(50, 4, seed=2)
    share = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    for length, slope, offset in lines_of(items, classes, wanted, share, (3, 8)):
        products = (items[:, :length] @ classes[:, :length].T).flatten().numpy()
        weight = share.sqrt().expand(50, 4).flatten().numpy()  # polyfit squares it
        expected = np.polyfit(products, wanted.flatten().numpy(), 1, w=weight)
        np.testing.assert_allclose([float(slope), float(offset)], expected, rtol=1e-9)


@pytest.mark.parametrize("lengths", [(12,), (4, 12)])
def test_the_codes_say_most_and_the_best_of_many_beginnings_more(lengths: tuple[int, ...]) -> None:
    wanted = torch.softmax(2 * drawn(400, 6), dim=1).float()
    share = torch.full((6,), 1 / 6)
    classes = drawn(6, 12, seed=4).sign().float()
    fitted = alternate(classes, wanted, share, lengths, 3)
    assert [line.length for line in fitted.lines] == list(lengths)
    errors = []
    for length, slope, offset in fitted.lines:
        said = slope * fitted.items[:, :length] @ fitted.classes[:, :length].T + offset
        errors.append(float((said - wanted).square().mean()))
    assert fitted.error == pytest.approx(sum(errors), rel=1e-4)
    assert errors[-1] < 0.5 * float((wanted - wanted.mean()).square().mean())

    def found(starts: int, seed: int) -> float:
        torch.manual_seed(seed)
        return learn_codes(wanted, share, lengths, 2, starts).error

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
    assert torch.allclose(head.sides(x)[1], asked)
    pull = torch.softmax(0.7 * log_odds, dim=1) @ head.pull_weight + head.pull_bias

    every = torch.tensor(list(product((-1.0, 1.0), repeat=12)), dtype=torch.float64)
    sums = ((every @ head.push) * every).sum(dim=1) - 2 * pull @ every.T
    reached = quadratic(head(x).sign(), pull, head.push)
    typical = float((sums.mean(dim=1) - sums.min(dim=1).values).mean())
    assert float((reached - sums.min(dim=1).values).mean()) < 0.05 * typical


def test_inner_products_with_class_codes_follow_the_posterior() -> None:
    features, labels = digits(noise=9)
    head = posterior_dual(features[:900], labels[:900], 32, **{**SHORT, "hidden": 64, "epochs": 8})
    x = torch.from_numpy(features[900:])
    assert isinstance(head, DualHead)
    said = (head(x).sign() @ head.class_codes.T).flatten().numpy()
    wanted = torch.softmax(0.7 * head.judged(x), dim=1).flatten().numpy()
    assert np.corrcoef(said, wanted)[0, 1] > 0.9


def test_items_posteriors_are_sharper_where_bits_serve_many_classes() -> None:
    assert flatness_for(200, 16) == pytest.approx(0.5 * 3.125**0.25)
    assert [flatness_for(c, 16) for c in (2, 64, 65)] == [0.5, 0.5, pytest.approx(0.501942, abs=1e-6)]
    features, labels = digits()
    powers = [
        float(posterior_dual(features[:60], labels[:60], 8, flatness=f, **SHORT).get_buffer("item_power"))
        for f in (None, 0.5, 0.7)
    ]
    assert powers == pytest.approx([0.7, 0.7, 0.98])
    head = posterior_dual(features[:130], np.eye(130, dtype=bool), 8, **SHORT)
    # 130 / 32 classes a bit, 1.4 on the mean of judges
    assert float(head.get_buffer("item_power")) == pytest.approx(1.4 * 0.5 * (130 / 32) ** 0.25)


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


def test_several_labels_take_the_same_further_options() -> None:
    features, labels = digits()
    labels = labels[:120].copy()
    labels[:30, 3] = True
    for option in ({"nested": 16}, {"kept": 0.5}):
        head = posterior_dual(features[:120], labels, 8, **SHORT, **option)
        same = posterior(features[:120], labels, 8, **SHORT, **option)
        assert torch.equal(head(torch.from_numpy(features)), same(torch.from_numpy(features)))


def test_the_first_bits_of_nested_codes_are_codes() -> None:
    features, labels = digits(noise=9)
    known, query, database = slice(0, 900), slice(900, 1200), slice(1200, None)
    whole = posterior_dual(features[known], labels[known], 64, seed=1, nested=64)

    def found(asked: np.ndarray, kept: np.ndarray) -> float:
        bits = asked.shape[1]
        return float(
            average_precision_of_codes(
                pack(asked), pack(kept), labels[query], labels[database], bits=bits
            ).mean()
        )

    asked, kept = sides_of(whole, features[query]).queries, logits_of(whole, features[database])
    for bits in (8, 16, 32):
        own = posterior_dual(features[known], labels[known], bits, seed=1)
        alone = found(sides_of(own, features[query]).queries, logits_of(own, features[database]))
        assert found(asked[:, :bits], kept[:, :bits]) > alone - 0.03
    plain = posterior_dual(features[known], labels[known], 64, seed=1)
    cut = found(sides_of(plain, features[query]).queries[:, :8], logits_of(plain, features[database])[:, :8])
    assert found(asked[:, :8], kept[:, :8]) > cut + 0.02  # that of codes that are not nested


def test_a_shortened_head_gives_the_first_bits_of_both_sides() -> None:
    features, labels = digits()
    head = posterior_dual(features[:200], labels[:200], 16, nested=16, **SHORT)
    assert isinstance(head, DualHead)
    short = head.shortened(11)
    again = posterior_dual(features[:200], labels[:200], 11, nested=16, **SHORT)
    whole = sides_of(head, features)
    for other in (short, again):
        sides = sides_of(other, features)
        np.testing.assert_array_equal(sides.items, whole.items[:, :11])
        np.testing.assert_array_equal(sides.queries > 0, whole.queries[:, :11] > 0)
    assert short.class_codes.shape == (10, 11)


def test_kept_bits_are_those_of_itq_on_both_sides() -> None:
    features, labels = digits()
    head = posterior_dual(features[:200], labels[:200], 16, seed=3, kept=0.25, **SHORT)
    assert head.kept == 4
    sides, features64 = sides_of(head, features[:50]), torch.from_numpy(features[:50]).double()
    kept = itq(features[:200], labels[:200], 4, seed=3).double()(features64).numpy()
    for side in sides:
        assert side.shape == (50, 16)
        ratio = side[:, 12:] / kept
        np.testing.assert_allclose(ratio, np.full_like(ratio, np.median(ratio)), rtol=1e-3)
        assert np.median(ratio) > 0
    without = posterior_dual(features[:200], labels[:200], 12, seed=3, **SHORT)
    np.testing.assert_array_equal(sides.items[:, :12], logits_of(without, features[:50]))
    vectors = class_codes_of(head, 16)
    assert np.all(np.abs(vectors[:, :12]) == 1)
    assert not vectors[:, 12:].any()


@pytest.mark.parametrize("method", [posterior, posterior_dual])
def test_logits_are_of_one_size_whatever_a_bit_keeps(method: Callable[..., nn.Module]) -> None:
    """A real-valued query weighs its bits by their size."""
    features, labels = digits()
    head = method(100 * features[:400], labels[:400], 16, kept=0.5, **SHORT)
    for side in sides_of(head, 100 * features[:400]):
        assert np.abs(side[:, 8:]).mean() == pytest.approx(1, abs=0.05)
        assert 0.4 < np.abs(side[:, :8]).mean() < 1.6


@pytest.mark.parametrize(
    "option",
    [
        {"flatness": 0.0}, {"rounds": 0}, {"starts": 0}, {"dropout": 1.0}, {"folds": 1}, {"kept": 1.0}, {"nested": 4},
        {"nested": 16, "kept": 0.5}, {"kept": 0.25}, {"kept": 0.75}, {"kept": 0.01},
    ],
)  # fmt: skip
def test_options_out_of_range_are_named(option: dict[str, float]) -> None:
    features, labels = digits()
    with pytest.raises(ConfigError, match=next(iter(option))):
        posterior_dual(features[:50], labels[:50], 8, **{**SHORT, **option})


def test_kept_bits_that_the_features_cannot_give_are_named_before_anything_is_learned() -> None:
    features, labels = digits()

    def report(*told: object) -> None:
        raise AssertionError(told)

    for method in (posterior, posterior_dual):
        with pytest.raises(ConfigError, match=r"kept asks for 32 bits of ITQ: .* 10"):
            method(features[:50, 20:30], labels[:50], 64, kept=0.5, report=report)


def test_tensors_that_do_not_fit_are_refused() -> None:
    features, labels = digits()
    state = posterior_dual(features[:60], labels[:60], 8, kept=0.5, **SHORT).state_dict()
    for name in ("class_codes", "query_weight", "pull_weight", "push", "kept_weight"):
        with pytest.raises(ModelError, match=name):
            DualHead(**{**state, name: state[name][1:]})
    with pytest.raises(ModelError, match="class_codes"):  # longer than what is searched
        DualHead(**{**state, "class_codes": torch.ones(10, 9)})
    with pytest.raises(ModelError, match="kept_bias"):
        DualHead(**{name: value for name, value in state.items() if name != "kept_bias"})
