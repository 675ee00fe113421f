from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from anglehash.errors import ConfigError, ModelError
from anglehash.methods.classical.cross_fitted import (
    Classifier,
    ClassifierConfig,
    CrossFitted,
    agreement,
    best_temperature,
    learn_classifier,
)
from anglehash.methods.classical.itq import itq
from anglehash.methods.classical.nested import prefixes
from anglehash.methods.classical.posterior import (
    CodeConfig,
    all_pairs,
    learn_code,
    pair_loss,
    posterior,
    rank_loss,
    steps_of_code,
)
from anglehash.models.heads.hash_head import logits_of
from anglehash.models.heads.posterior import PosteriorHead

SHORT = CodeConfig(sharpness=1.6, hidden=32, epochs=3, lengths=(12,))
CLASSIFIER_CONFIG = ClassifierConfig(hidden=16, epochs=4, learning_rate=1e-2, weight_decay=1e-2, dropout=0.2)


def digits(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    found = load_digits()
    return found.data[:n].astype(np.float32), np.eye(10, dtype=bool)[found.target[:n]]


def quiet(done: int, note: str) -> None:
    pass


def judged(features: np.ndarray, labels: np.ndarray, folds: int = 3) -> CrossFitted:
    torch.manual_seed(0)
    return CrossFitted.learn(features, labels, folds, CLASSIFIER_CONFIG, quiet)


def test_agreement_of_one_label_by_hand() -> None:
    log_odds = torch.tensor([[0.9, 0.1], [0.4, 0.6]]).log()
    wanted = [[0.82, 0.42], [0.42, 0.52]]  # .9 .9 + .1 .1, .9 .4 + .1 .6, .4 .4 + .6 .6
    assert torch.allclose(agreement(log_odds, several=False), torch.tensor(wanted))


@pytest.mark.parametrize("spread", [0.5, 2.0, 8.0])
def test_agreement_of_several_labels_is_a_product_over_classes(spread: float) -> None:
    log_odds = torch.randn(12, 7, generator=torch.Generator().manual_seed(0)) * spread - 1
    found = agreement(log_odds, several=True)
    p = torch.sigmoid(log_odds).double()
    short = []
    for i, j in product(range(12), repeat=2):
        exact = 1 - math.prod(1 - float(p[i, c] * p[j, c]) for c in range(7))
        short.append(exact - float(found[i, j]))
    assert min(short) > -1e-6
    assert max(short) < 0.04  # what the docstring allows


def test_agreement_is_the_share_of_pairs_that_meet() -> None:
    rng = np.random.default_rng(0)
    p = torch.tensor([[0.7, 0.2, 0.4], [0.3, 0.5, 0.1]])
    draws = rng.random((200_000, 2, 3)) < p.numpy()
    met = (draws[:, 0] & draws[:, 1]).any(axis=1).mean()
    assert float(agreement(torch.logit(p), several=True)[0, 1]) == pytest.approx(met, abs=0.004)


@pytest.mark.parametrize("several", [False, True])
def test_the_temperature_has_the_least_log_loss(several: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    true = torch.randn(4000, 4, generator=generator)
    if several:
        y = torch.bernoulli(torch.sigmoid(true), generator=generator)
    else:
        y = F.one_hot(torch.multinomial(true.softmax(1), 1, generator=generator)[:, 0], 4).float()
    for factor in (0.7, 1.0, 3.0):  # three times too sure: the temperature is 3
        assert best_temperature(true * factor, y, several=several) == pytest.approx(factor, rel=0.12)


def test_no_image_classifies_itself() -> None:
    features, labels = digits(90)
    before = judged(features, labels)
    for row in (0, 41):
        changed = labels.copy()
        changed[row] = np.roll(labels[row], 3)
        after = judged(features, changed)
        one, other = (j.log_odds * j.temperature for j in (before, after))
        assert torch.allclose(one[row], other[row], atol=1e-5)
        assert not torch.allclose(one, other, atol=1e-2)  # others have learned it


def test_the_judgements_are_as_sure_as_they_are_right() -> None:
    features, labels = digits(600)
    features += np.random.default_rng(0).normal(0, 12, features.shape).astype(np.float32)  # hard to read
    learned = ClassifierConfig(hidden=64, epochs=40, learning_rate=1e-2, weight_decay=0.0, dropout=0.0)
    torch.manual_seed(0)
    classifiers = CrossFitted.learn(features, labels, 3, learned, quiet)
    truth = torch.from_numpy(labels).float().argmax(1)
    raw, reported = (classifiers.log_odds * t for t in (classifiers.temperature, 1.0))
    right = float((reported.argmax(1) == truth).float().mean())
    sure, too_sure = (float(x.softmax(1).max(1).values.mean()) for x in (reported, raw))
    assert too_sure > right + 0.1
    assert sure == pytest.approx(right, abs=0.05)


def test_images_with_several_labels_are_distinguished_from_the_others() -> None:
    features, labels = digits(80)
    assert not judged(features, labels).several
    labels[3, :2] = True
    assert judged(features, labels).several


def test_the_head_is_the_mean_of_the_code_over_the_classifiers() -> None:
    features, labels = digits(200)
    torch.manual_seed(0)
    classifiers = judged(features, labels)
    code = learn_code(classifiers, torch.from_numpy(labels).float(), SHORT, quiet)
    head = PosteriorHead(**classifiers.state(), **code)
    x = torch.from_numpy(features[:9])
    reported = []
    for net in classifiers.nets:
        with torch.no_grad():
            log_odds = net((x - classifiers.mean) * classifiers.scale) / classifiers.temperature
        log_odds = log_odds - log_odds.mean(1, keepdim=True)
        read = torch.relu(log_odds @ code["code_weight"].T + code["code_bias"])
        reported.append(read @ code["weight"].T + code["bias"])
    assert torch.allclose(head(x), torch.stack(reported).mean(0), atol=1e-4)


def test_with_several_labels_the_code_reads_the_roots_of_the_posteriors() -> None:
    features, labels = digits(200)
    labels[:, 9] |= labels[:, 0]
    classifiers = judged(features, labels)
    code = learn_code(classifiers, torch.from_numpy(labels).float(), SHORT, quiet)
    head = PosteriorHead(**classifiers.state(), **code)
    x = torch.from_numpy(features[:9])
    root = torch.sigmoid(head.log_odds(x)).sqrt()
    reported = torch.relu(root @ code["code_weight"].T + code["code_bias"]) @ code["weight"].T + code["bias"]
    assert torch.allclose(head(x), reported.mean(0), atol=1e-4)


def test_rank_loss_is_what_its_sum_says() -> None:
    rng = np.random.default_rng(0)
    t, s = rng.normal(size=(6, 6)), rng.random((6, 6))
    total = 0.0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        behind = sum((1 - s[i, k]) * math.exp(t[i, k]) for k in others)
        for j in others:
            share = s[i, j] / sum(s[i, k] for k in others)
            total -= share * math.log(math.exp(t[i, j]) / (math.exp(t[i, j]) + behind))
    assert float(rank_loss(torch.from_numpy(t), torch.from_numpy(s))) == pytest.approx(total / 6)


def test_both_losses_fall_as_likeness_follows_what_is_wanted() -> None:
    group = torch.arange(6) // 3
    wanted = (group[:, None] == group).float()
    for loss in (pair_loss, rank_loss):
        values = [float(loss(strength * (wanted - 0.5), wanted)) for strength in (-4.0, 0.0, 4.0, 40.0)]
        assert values == sorted(values, reverse=True)
        assert values[-1] < 1e-3


def test_distances_follow_the_agreement() -> None:
    features, labels = digits(1200)
    head = posterior(features[:900], labels[:900], 48, epochs=15)
    assert isinstance(head, PosteriorHead)
    bits = logits_of(head, features[900:]) > 0
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    with torch.inference_mode():
        log_odds = head.log_odds(torch.from_numpy(features[900:])).mean(0)
    likely = agreement(log_odds, several=False).numpy()
    pairs = np.triu_indices(len(bits), 1)
    means = [
        distances[pairs][(low <= likely[pairs]) & (likely[pairs] < high)].mean()
        for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.1))
    ]
    assert means == sorted(means, reverse=True)
    assert means[-1] < 5 < 15 < means[0]


def test_a_head_whose_tensors_do_not_fit_is_refused() -> None:
    features, labels = digits(60)
    state = posterior(features, labels, 8, epochs=1, code_epochs=1, hidden=4, code_hidden=6).state_dict()
    assert PosteriorHead(**state)(torch.from_numpy(features)).shape == (60, 8)
    for name in state:
        if name not in ("roots", "hidden_bias", "class_bias"):
            with pytest.raises(ModelError):
                PosteriorHead(**{**state, name: state[name][1:]})
    with pytest.raises(ModelError, match=r"must have the shape \(classifiers, classes, hidden\)"):
        PosteriorHead(**{**state, "class_weight": state["class_weight"][0]})


QUICK = {"epochs": 4, "hidden": 16, "code_hidden": 32, "code_epochs": 20, "folds": 2}


def test_nested_codes_are_cut_from_one_long_code() -> None:
    features, labels = digits(200)
    long, short = (posterior(features, labels, bits, nested=32, **QUICK) for bits in (32, 12))
    x = torch.from_numpy(features)
    assert torch.allclose(long(x)[:, :12], short(x), atol=1e-5)
    apart = posterior(features, labels, 12, **QUICK)
    assert not torch.allclose(apart(x), short(x), atol=0.1)


def test_the_prefixes_of_nested_codes_follow_the_agreement_more_closely() -> None:
    torch.manual_seed(0)
    log_odds = 2 * torch.randn(250, 12)
    one = torch.ones(1)
    classifiers = CrossFitted(one, one, [], log_odds, 1.0, several=False)
    wanted = agreement(log_odds * 1.6, several=False)[*np.triu_indices(250, 1)]
    found = {}
    for nested in (False, True):
        torch.manual_seed(1)
        settings = CodeConfig(sharpness=1.6, hidden=32, epochs=120, lengths=prefixes(64, nested=nested))
        code = learn_code(classifiers, F.one_hot(log_odds.argmax(1), 12), settings, quiet)
        x = log_odds - log_odds.mean(1, keepdim=True)
        z = torch.relu(x @ code["code_weight"].T + code["code_bias"]) @ code["weight"].T + code["bias"]
        likeness = [(z[:, :k].sign() @ z[:, :k].sign().T)[*np.triu_indices(250, 1)] for k in (8, 64)]
        found[nested] = [float(torch.corrcoef(torch.stack([wanted, t]))[0, 1]) for t in likeness]
    assert found[True][0] > found[False][0] + 0.05
    assert found[True][1] > found[False][1] - 0.05


def test_kept_bits_are_those_of_itq() -> None:
    features, labels = digits(200)
    head = posterior(features, labels, 16, kept=0.25, seed=3, **QUICK)
    logits = logits_of(head, features)
    assert logits.shape == (200, 16)
    kept = logits_of(itq(features, labels, 4, seed=3), features)
    assert np.allclose(logits[:, 12:], kept / np.abs(kept).mean(), atol=1e-4)
    without = posterior(features, labels, 12, seed=3, **QUICK)
    assert np.allclose(logits[:, :12], logits_of(without, features), atol=1e-5)
    again = PosteriorHead(**head.state_dict())
    assert np.array_equal(logits_of(again, features), logits)
    with pytest.raises(ModelError, match="both or neither"):
        PosteriorHead(**{k: v for k, v in head.state_dict().items() if k != "kept_bias"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nested": 15}, "nested must be 0 or a length from bits = 16 to 1024, got 15"),
        ({"nested": 2000}, "to 1024, got 2000"),
        ({"kept": 1.0}, "kept must be a number in"),
        ({"nested": 32, "kept": 0.5}, "cannot both be asked for"),
        ({"hidden": 0}, "hidden must be"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        posterior(*digits(60), 16, **options)


@pytest.mark.parametrize(
    ("several", "classes", "hidden"), [(False, 10, 128), (True, 10, 512), (False, 65, 256)]
)
def test_several_labels_and_many_classes_have_wider_classifiers(
    several: bool, classes: int, hidden: int
) -> None:
    features, labels = digits(130)
    labels = np.eye(classes, dtype=bool)[np.arange(130) % classes]
    labels[0, :2] |= several
    head = posterior(features, labels, 8, epochs=1, code_epochs=1)
    assert head.get_buffer("hidden_bias").shape == (5, hidden)
    assert posterior(features, labels, 8, epochs=1, code_epochs=1, hidden=9).get_buffer(
        "hidden_bias"
    ).shape == (5, 9)


def test_what_is_given_of_a_recipe_stays() -> None:
    many = np.eye(65, dtype=bool)
    given: dict[str, Any] = {
        "hidden": 3, "epochs": 2, "learning_rate": 0.1, "weight_decay": 0.0, "dropout": 0.0,
    }  # fmt: skip
    assert ClassifierConfig.suiting(many, **given) == ClassifierConfig(**given)
    assert ClassifierConfig.suiting(many, **dict.fromkeys(given)) == ClassifierConfig(
        256, 12, 2e-3, 5e-2, 0.3
    )
    assert ClassifierConfig.suiting(many[:64, :64]) == ClassifierConfig(128, 12, 4e-3, 5e-2, 0.5)
    both = np.ones((2, 3), dtype=bool)
    assert ClassifierConfig.suiting(both) == ClassifierConfig(512, 16, 4e-3, 5e-2, 0.5, shared=True)
    assert ClassifierConfig.suiting(both, dropout=0.0, hidden=7) == ClassifierConfig(
        7, 16, 4e-3, 5e-2, 0.0, shared=True
    )
    with pytest.raises(ConfigError, match="dropout"):
        ClassifierConfig.suiting(many, dropout=1.0)


@pytest.mark.parametrize("several", [False, True])
def test_the_size_of_a_step_is_that_of_the_kind_of_labels(
    several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = digits(150)
    labels[0, :2] |= several
    short: dict[str, Any] = {"epochs": 1, "folds": 2, "code_epochs": 2, "hidden": 8}
    usual = logits_of(posterior(features, labels, 8, **short), features)
    monkeypatch.setattr("anglehash.methods.classical.posterior.PAIRS", {several: 50, not several: 10**6})
    assert not np.allclose(logits_of(posterior(features, labels, 8, **short), features), usual, atol=1e-2)


def test_agreement_with_others_is_a_part_of_that_of_all() -> None:
    log_odds = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    for several in (False, True):
        part = agreement(log_odds[2:5], log_odds[4:], several=several)
        assert torch.allclose(part, agreement(log_odds, several=several)[2:5, 4:], atol=1e-6)


@pytest.mark.parametrize(("several", "steps"), [(False, 60 * 1), (True, 60 * 2)])
def test_the_code_takes_smaller_steps_with_several_labels(several: bool, steps: int) -> None:
    features, labels = digits(500)
    labels[0, :2] |= several
    reported: list[str] = []
    posterior(
        features,
        labels,
        8,
        epochs=1,
        folds=2,
        progress=lambda stage, done, total, note: reported.append(note),
    )
    epochs = steps // steps_of_code(500, several=several)
    assert reported[-1] == f"code, epoch {epochs}/{epochs}"


def test_the_agreement_of_all_pairs_at_once_is_that_of_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = digits(150)
    labels[::3, 3] = True
    short: dict[str, Any] = {"epochs": 2, "folds": 2, "code_epochs": 5, "hidden": 8}

    def logits(seed: int = 0) -> np.ndarray:
        return logits_of(posterior(features, labels, 8, seed=seed, **short), features).ravel()

    once, another = logits(), logits(1)
    monkeypatch.setattr("anglehash.methods.classical.posterior.AT_ONCE", 149)
    step_by_step = logits()  # rounding grows a little
    assert np.corrcoef(once, step_by_step)[0, 1] > 0.98 > np.corrcoef(once, another)[0, 1] + 0.1


def test_all_pairs_of_blocks_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    log_odds = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    wanted = agreement(log_odds, several=True)
    asked: list[int] = []

    def of(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        asked.append(len(rows) * len(others))
        return agreement(log_odds[rows], log_odds[others], several=True)

    monkeypatch.setattr("anglehash.methods.classical.posterior.PAIRS", {True: 4})
    assert torch.allclose(all_pairs(11, of), wanted, atol=1e-6)
    assert asked == [4 * 11, 4 * 7, 3 * 3]  # each pair of blocks once


def test_shared_dropout_leaves_the_same_features_and_units_for_a_whole_batch() -> None:
    torch.manual_seed(0)
    net = Classifier(12, 8, 3, 0.25, shared=True)
    x = torch.randn(5, 12)
    torch.manual_seed(1)
    reported = net(x)
    torch.manual_seed(1)  # 9 of 12 features, 6 of 8 units: by hand, with the others set to 0
    features, units = torch.zeros(12), torch.zeros(8)
    features[torch.randperm(12)[:9]] = 12 / 9
    units[torch.randperm(8)[:6]] = 8 / 6
    wanted = net.classes(torch.relu(net.hidden(x * features)) * units)
    assert torch.allclose(reported, wanted, atol=1e-6)
    assert not torch.equal(net(x), reported)  # the next batch loses others


def test_shared_dropout_is_none_at_zero_and_after_training() -> None:
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    shared = Classifier(12, 8, 3, 0.5, shared=True).eval()
    torch.manual_seed(0)
    plain = Classifier(12, 8, 3, 0.5).eval()
    assert torch.equal(shared(x), plain(x))
    nothing = Classifier(12, 8, 3, 0.0, shared=True)
    assert torch.allclose(nothing(x), nothing.eval()(x), atol=1e-6)
    assert Classifier(12, 8, 3, 0.999, shared=True)(x).shape == (5, 3)  # one is always left


def test_classifiers_learn_with_what_is_left() -> None:
    features, labels = digits(300)
    labels[::7, 2] = True
    x, y = torch.from_numpy(features), torch.from_numpy(labels).float()
    x = (x - x.mean(0)) / (x.std(0) + 1)
    torch.manual_seed(0)
    net = learn_classifier(x, y, ClassifierConfig(64, 20, 1e-2, 1e-2, 0.5, shared=True), several=True)
    with torch.no_grad():
        right = ((net(x) > 0) == (y > 0)).all(dim=1).float().mean()
    assert right > 0.75
