from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor, nn

from anglehash.config import TrainConfig
from anglehash.errors import ConfigError, DataError
from anglehash.methods.catalogue import settled
from anglehash.methods.losses.angular import PRESETS, AngularHashLoss
from anglehash.methods.losses.dynamic import MULTILABEL
from anglehash.training.fit_head import Labelled, learn_head

BITS, CLASSES = 6, 5
SEVERAL = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [1, 1, 0, 1, 1], [0, 0, 1, 1, 0], [1, 1, 1, 1, 1]])
ONE = torch.tensor([3, 0, 2, 3, 1])


def make(bits: int = BITS, classes: int = CLASSES, **options: Any) -> AngularHashLoss:
    torch.manual_seed(0)
    return AngularHashLoss(bits, classes, **options).double()


def random_logits(n: int, bits: int = BITS, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, bits, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("multilabel", MULTILABEL)
def test_margins_without_strength_and_a_huge_lambda_are_softmax(multilabel: str) -> None:
    def value(**options: Any) -> Tensor:
        loss = make(multilabel=multilabel, **options)
        torch.manual_seed(5)  # of the draw in sample
        total: Tensor = loss(random_logits(len(SEVERAL)), SEVERAL)
        return total

    softmax = value(margin="softmax")
    for same in (
        {"margin": "asoftmax", "m": 1},
        {"margin": "cosface", "m": 0},
        {"margin": "arcface", "m": 0},
        {"margin": "asoftmax", "lambda_min": 1e12, "lambda_base": 1e12},
    ):
        torch.testing.assert_close(value(**same), softmax)


def test_perfect_logits_beat_random_ones_and_those_beat_opposite_ones() -> None:
    for name, preset in PRESETS.items():
        loss = make(64, 10, **preset["loss"])
        labels = torch.arange(40) % 10
        perfect = loss.weight.detach()[labels]
        ranked = [loss(z, labels).item() for z in (perfect, random_logits(40, 64), -perfect)]
        assert ranked == sorted(ranked), name


@pytest.mark.parametrize(
    ("bits", "classes", "scale"),
    [(16, 2, 4), (16, 3, 4), (12, 200, math.sqrt(2) * math.log(199)), (64, 200, 8)],
)
def test_auto_scale_by_hand(bits: int, classes: int, scale: float) -> None:
    assert AngularHashLoss(bits, classes).scale == pytest.approx(scale)


def test_auto_scale_lets_the_softmax_become_sure() -> None:
    # METHOD: with sqrt(K) alone 12 bits and 200 classes stop at .14, all others at a right angle
    def surest(scale: float) -> float:
        return math.exp(scale) / (math.exp(scale) + 199)

    assert surest(math.sqrt(12)) == pytest.approx(0.14, abs=0.005)
    assert surest(float(AngularHashLoss(12, 200).scale)) > 0.85


@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(PRESETS)))
@settings(deadline=None, max_examples=30)
def test_length_of_the_logits_does_not_matter(seed: int, preset: str) -> None:
    loss = make(**PRESETS[preset]["loss"])
    logits = random_logits(len(ONE), seed=seed)
    length = torch.linspace(0.1, 10, len(ONE))[:, None]
    torch.testing.assert_close(loss(logits * length, ONE), loss(logits, ONE))


def test_length_is_the_scale_where_asked_for() -> None:
    logits = nn.functional.normalize(random_logits(len(ONE)))
    torch.testing.assert_close(make(scale="feature")(logits * 5, ONE), make(scale=5)(logits, ONE))


def test_length_of_class_vectors_does_not_matter() -> None:
    loss, longer = make(gamma=1), make(gamma=1)
    longer.weight.data *= torch.linspace(0.1, 10, CLASSES)[:, None]
    torch.testing.assert_close(longer(random_logits(5), SEVERAL), loss(random_logits(5), SEVERAL))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_taken_in_float32(dtype: torch.dtype) -> None:
    logits, loss = random_logits(5).to(dtype), make().float()
    value = loss(logits, ONE)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits.float(), ONE), rtol=0, atol=0)


def test_autocast_does_not_reach_into_the_loss() -> None:
    logits, loss = random_logits(5).float(), make().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(logits, ONE)
    assert torch.equal(inside, loss(logits, ONE))


def test_float32_is_close_to_float64() -> None:
    logits = random_logits(5)
    value = make(gamma=1).float()(logits.float(), SEVERAL)
    torch.testing.assert_close(value.double(), make(gamma=1)(logits, SEVERAL), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, -1, -1]), torch.tensor([[1, 0, 0, 0, 0]] + [[0] * 5] * 2)]
)
def test_images_without_a_label_are_refused_or_skipped(labels: Tensor) -> None:
    logits = random_logits(3)
    with pytest.raises(DataError, match=r"^2 of 3 images have no label .* unlabelled='skip'$"):
        make()(logits, labels)
    for multilabel in MULTILABEL:
        options: dict[str, Any] = {"multilabel": multilabel, "gamma": 1, "unlabelled": "skip"}
        torch.testing.assert_close(make(**options)(logits, labels), make(**options)(logits[:1], labels[:1]))


@pytest.mark.parametrize("multilabel", MULTILABEL)
def test_a_batch_that_loses_all_its_images_keeps_the_separation(multilabel: str) -> None:
    loss = make(multilabel=multilabel, unlabelled="skip")
    logits = random_logits(2).requires_grad_()
    value = loss(logits, torch.tensor([-1, -1]))
    value.backward()
    assert loss.terms is not None
    assert loss.terms.classification == loss.terms.quantization == 0
    assert value == loss.terms.separation
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_progress_anneals_lambda_and_a_new_loss_is_annealed() -> None:
    loss = AngularHashLoss(16, 3)
    assert loss.lambda_ == 5
    loss.set_progress(0)
    assert loss.lambda_ == 1000
    loss.set_progress(0.44)
    assert 5 < loss.lambda_ < 5.2
    loss.set_progress(0.46)
    assert loss.lambda_ == 5
    loss.set_iteration(100)
    assert loss.lambda_ == pytest.approx(1000 / 13)


def test_margin_grows_over_the_run() -> None:
    loss, values = make(), []
    for part in (0, 0.05, 0.2, 0.45, 1):
        loss.set_progress(part)
        values.append(loss.components(random_logits(5), ONE).classification.item())
    assert values == sorted(values)
    assert values[-1] == values[-2] > values[0]


@pytest.mark.parametrize("progress", [-0.1, 1.1, math.nan])
def test_progress_is_a_part_of_the_run(progress: float) -> None:
    with pytest.raises(ConfigError, match="progress"):
        AngularHashLoss(16, 3).set_progress(progress)


def test_parts_add_up_and_are_kept_for_the_log() -> None:
    loss = make(gamma=3)
    assert loss.terms is None
    total = loss(random_logits(5), SEVERAL)
    parts = loss.components(random_logits(5), SEVERAL)
    torch.testing.assert_close(total, parts.classification + parts.separation + 3 * parts.quantization)
    assert loss.terms == parts
    assert not any(term.requires_grad for term in loss.terms)
    assert all(term.requires_grad for term in parts if term is not parts.quantization)


def test_statistics_are_what_the_last_call_gave() -> None:
    loss = make()
    loss(random_logits(5), ONE)
    statistics = loss.statistics()
    assert loss.terms is not None
    assert statistics["separation"] == loss.terms.separation.item()
    assert statistics["lambda"] == 5
    assert statistics["class_distance_min"] == loss.hamming_statistics().min


def test_class_codes_and_their_true_distances() -> None:
    loss = AngularHashLoss(4, 3)
    loss.weight.data = torch.tensor([[1.0, -1, 0, 2], [1, -1, -3, 2], [-1, 1, 1, 2]])
    codes = loss.class_codes()
    assert codes.dtype == np.uint8
    assert codes.tolist() == [[1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 1]]
    assert loss.hamming_statistics() == pytest.approx((2, math.sqrt(3), 0))  # 0, 3, 3


@pytest.mark.parametrize(("bits", "classes"), [(4, 200), (8, 2), (1024, 200)])
def test_starts_with_unit_directions_whatever_the_sizes(bits: int, classes: int) -> None:
    torch.manual_seed(0)
    loss = AngularHashLoss(bits, classes)
    assert loss.weight.shape == (classes, bits)
    assert loss.weight.square().sum(dim=1).mean().item() == pytest.approx(1, abs=0.5)
    torch.manual_seed(0)
    assert torch.equal(AngularHashLoss(bits, classes).weight, loss.weight)


def test_many_classes_and_bits_at_once() -> None:
    loss = make(1024, 200).float()
    value = loss(random_logits(128, 1024).float(), torch.arange(128))
    value.backward()
    assert value.isfinite()
    assert loss.weight.grad is not None
    assert loss.weight.grad.isfinite().all()


def test_can_be_copied_and_printed() -> None:
    loss = make(margin="cosface", gamma=3)
    loss(random_logits(5), ONE)
    torch.testing.assert_close(copy.deepcopy(loss)(random_logits(5), ONE), loss(random_logits(5), ONE))
    assert "margin='cosface', m=0.2" in repr(loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "one class has no other to be separated from"),
        ({"classes": 2.0}, "classes must be a whole number"),
        ({"bits": 3}, "bits must be a whole number in 4..1024"),
        ({"margin": "asoft"}, "unknown margin 'asoft'; did you mean 'asoftmax'"),
        ({"margin": "cosface", "m": 4}, "m of the margin 'cosface'"),
        ({"scale": 0}, "scale must be a finite number > 0"),
        ({"scale": True}, "scale must be a finite number > 0"),
        ({"scale": "big"}, r"scale must be a finite number > 0 \(or 'auto' or 'feature'\), got 'big'"),
        ({"alpha": -1}, "alpha is a weight"),
        ({"beta": math.nan}, "beta is a weight"),
        ({"gamma": "1"}, "gamma is a weight"),
        ({"distance": "cosine"}, "unknown distance 'cosine'; did you mean 'cos'"),
        ({"multilabel": "merged"}, "did you mean 'merge'"),
        ({"unlabelled": "ignore"}, "unknown setting of unlabelled 'ignore'"),
        ({"anneal": 0}, "anneal"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    settings = {"bits": 16, "classes": 3, **options}
    with pytest.raises(ConfigError, match=message) as caught:
        AngularHashLoss(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("logits", "got"),
    [
        (torch.zeros(2, 8), r"float32 \(2, 8\)"),
        (torch.zeros(16), r"float32 \(16,\)"),
        (torch.zeros(2, 16, dtype=torch.int64), r"int64 \(2, 16\)"),
    ],
)
def test_logits_that_do_not_fit_are_refused_in_one_line(logits: Tensor, got: str) -> None:
    with pytest.raises(DataError, match=rf"^logits must be float of shape \(batch, 16\), got {got}$"):
        AngularHashLoss(16, 3)(logits, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        # cosines 1 and 0, s = 10, m = .2: as the first class 8 against 0, as the second -2 against 10
        ([[1, 0], [0, 1]], [math.log(1 + math.exp(-8)), math.log(1 + math.exp(12))]),
        # one image has both classes, so that each image has its own class among its others: 10 and 0 for either
        (
            [[1, 0], [1, 1]],
            [math.log(math.exp(8) + math.exp(10) + 1) - 8, math.log(math.exp(12) + math.exp(2) + 1)],
        ),
    ],
)
def test_the_public_preset_appends_only_where_images_have_several_labels(
    training: list[list[int]], expected: list[float]
) -> None:
    loss = make(4, 2, **PRESETS["public"]["loss"])
    loss.weight.data.copy_(torch.tensor([[1.0, 1, 1, 1], [1, 1, -1, -1]]))
    loss.remember(torch.tensor(training, dtype=torch.bool))
    image = torch.full((1, 4), 3.0, dtype=torch.float64)
    got = [loss.components(image, torch.tensor([y])).classification.item() for y in (0, 1)]
    assert got == pytest.approx(expected)


def test_a_run_of_the_public_preset_can_become_sure_of_single_labels() -> None:
    labels = np.eye(2, dtype=np.bool_)[np.arange(64) % 2]
    features = (labels @ np.array([[3, 0, 0], [0, 3, 0]]) + 0.1).astype(np.float32)
    config = settled(TrainConfig(bits=8, preset="public", epochs=20, dropout=0.0, likeness=0.0))
    last = learn_head(Labelled(features, labels), config).log[-1]
    assert last["classification"] < math.log(2)  # with its own class as a rival it could not be


@pytest.mark.parametrize("preset", PRESETS)
def test_learns_digits(preset: str) -> None:
    """Raw 8 x 8 scans, a linear head, 100 steps: mAP of 300 queries against 1,200 others, 16 bits."""
    pixels, labels = load_digits(return_X_y=True)
    features = torch.tensor((pixels - pixels.mean(axis=0)) / (pixels.std(axis=0) + 1e-6)).float()
    target = torch.tensor(labels)
    torch.manual_seed(0)
    head, loss = nn.Linear(64, 16), AngularHashLoss(16, 10, **PRESETS[preset]["loss"])
    untrained = mean_average_precision(head(features), labels)
    optimizer = torch.optim.Adam([*head.parameters(), *loss.parameters()], lr=0.02)
    for step in range(100):
        rows = torch.randint(1200, (128,))
        loss.set_progress(step / 100)
        optimizer.zero_grad()
        loss(head(features[rows]), target[rows]).backward()
        optimizer.step()
    trained = mean_average_precision(head(features), labels)
    assert untrained < 0.4
    assert trained > 0.55


def mean_average_precision(logits: Tensor, labels: np.ndarray[Any, Any]) -> float:
    """Of rows 1200..1499 against rows 0..1199, ties in the order of the rows."""
    sign = np.where(logits.detach().numpy() > 0, 1, -1)
    query, database = sign[1200:1500], sign[:1200]
    order = np.argsort(-(query @ database.T), axis=1, kind="stable")
    relevant = labels[:1200][order] == labels[1200:1500, None]
    precision = relevant.cumsum(axis=1) / np.arange(1, 1201)
    return float(((precision * relevant).sum(axis=1) / relevant.sum(axis=1)).mean())


def test_the_example_of_the_docs_runs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "method.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(example.splitlines()) <= 12
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(example, names)
    fresh = AngularHashLoss(32, 10)(nn.Linear(64, 32)(names["features"]), names["labels"])
    assert names["value"].item() < fresh.item() - 1
    assert names["codes"].shape == (100, 32)
