"""What every loss promises; a loss that is registered is found and held to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

from anglehash.codes import pack
from anglehash.config import TrainConfig
from anglehash.errors import ConfigError
from anglehash.evaluation.ranking import average_precision_of_codes
from anglehash.methods.losses import LOSSES
from anglehash.models.heads.hash_head import HashHead, logits_of
from anglehash.training.checkpoint import Checkpoint
from anglehash.training.loop import FeatureInputs, train

BITS, CLASSES = 16, 3


@pytest.fixture(params=list(LOSSES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(name: str) -> Callable[[], nn.Module]:
    """Makes the same loss each time."""

    def same() -> nn.Module:
        torch.manual_seed(0)
        return LOSSES[name](BITS, CLASSES)

    return same


def random_logits(n: int, bits: int = BITS) -> Tensor:
    return torch.randn(n, bits, generator=torch.Generator().manual_seed(1))


def one_hot(labels: Tensor) -> Tensor:
    return nn.functional.one_hot(labels, CLASSES)


def test_gives_a_finite_scalar_and_a_gradient_at_every_logit(make: Callable[[], nn.Module]) -> None:
    # small logits: none is past a hinge yet
    logits, labels = (0.3 * random_logits(12)).requires_grad_(), torch.arange(12) % CLASSES
    value = make()(logits, labels)
    assert value.shape == ()
    assert value.isfinite()
    value.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad != 0).all()


def test_gradient_reaches_every_parameter(make: Callable[[], nn.Module]) -> None:
    loss = make()
    loss(random_logits(12).requires_grad_(), torch.arange(12) % CLASSES).backward()
    for parameter in loss.parameters():
        assert parameter.grad is not None
        assert (parameter.grad != 0).any()


def test_order_of_the_batch_does_not_matter(make: Callable[[], nn.Module]) -> None:
    logits, labels = random_logits(12), torch.arange(12) % CLASSES
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(make()(logits[order], labels[order]), make()(logits, labels))


def test_class_numbers_and_one_hot_rows_agree(make: Callable[[], nn.Module]) -> None:
    logits, labels = random_logits(12), torch.arange(12) % CLASSES
    for hot in (one_hot(labels), one_hot(labels).bool(), one_hot(labels).float()):
        torch.testing.assert_close(make()(logits, hot), make()(logits, labels))


@pytest.mark.parametrize("labels", [[0], [0, 0], [0, 1]])
@pytest.mark.parametrize("zero", [False, True])
def test_degenerate_batches_are_finite(make: Callable[[], nn.Module], labels: list[int], zero: bool) -> None:
    logits = (random_logits(len(labels)) * (not zero)).requires_grad_()
    value = make()(logits, torch.tensor(labels))
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("size", [1e-30, 1e3])
def test_tiny_and_huge_logits_are_finite(make: Callable[[], nn.Module], size: float) -> None:
    logits, labels = (size * random_logits(12)).requires_grad_(), torch.arange(12) % CLASSES
    value = make()(logits, labels)
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(("bits", "classes"), [(12, 200), (16, 2), (4, 10)])
def test_any_bits_and_classes_and_a_batch_that_misses_some(name: str, bits: int, classes: int) -> None:
    torch.manual_seed(0)
    logits = (0.3 * random_logits(12, bits)).requires_grad_()
    labels = torch.tensor([0, classes - 1] * 6)
    value = LOSSES[name](bits, classes)(logits, labels)
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad != 0).any(dim=1).all()


def test_takes_images_with_several_labels(make: Callable[[], nn.Module]) -> None:
    logits = random_logits(4).requires_grad_()
    labels = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1]])
    value = make()(logits, labels)
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_its_own_codes_score_lower_than_the_same_codes_on_the_wrong_images(
    make: Callable[[], nn.Module],
) -> None:
    loss, labels = make(), torch.arange(24) % CLASSES
    logits = (0.3 * random_logits(24)).requires_grad_()
    optimizer = torch.optim.Adam([logits, *loss.parameters()], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits, labels).backward()
        optimizer.step()
    of_class = torch.stack([logits[labels == c].mean(dim=0) for c in range(CLASSES)]).sign().detach()
    perfect = of_class[labels]
    wrong = perfect[torch.randperm(24, generator=torch.Generator().manual_seed(2))]
    assert loss(perfect, labels) < loss(wrong, labels)


def test_is_saved_and_loaded_by_its_state(make: Callable[[], nn.Module]) -> None:
    saved = make()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in saved.parameters():
            parameter.add_(torch.randn_like(parameter))
    loaded = make()
    loaded.load_state_dict(saved.state_dict())
    logits, labels = random_logits(6), torch.arange(6) % CLASSES
    assert torch.equal(loaded(logits, labels), saved(logits, labels))


def test_every_preset_is_a_config_that_makes_a_loss(name: str) -> None:
    presets = getattr(LOSSES[name], "presets", {"default": {}})
    assert "default" in presets
    for preset in presets.values():
        config = TrainConfig(method=name).with_preset(preset)
        assert LOSSES[name](BITS, CLASSES, **config.loss)(random_logits(4), torch.arange(4) % 3).isfinite()


def test_statistics_are_numbers_for_the_log(make: Callable[[], nn.Module]) -> None:
    statistics = getattr(make(), "statistics", dict)
    assert json.loads(json.dumps(statistics(), allow_nan=False)) == statistics()


def test_learns_the_toy_set(make: Callable[[], nn.Module]) -> None:
    """Three noisy clouds, a linear head: afterwards nearly all nearest codes are of the same class."""
    loss = make()
    centre, noise = torch.randn(CLASSES, 8), torch.randn(180, 8)
    labels = torch.arange(180) % CLASSES
    features = centre[labels] + 0.5 * noise
    head = nn.Linear(8, BITS)
    before = purity(head(features), labels)
    optimizer = torch.optim.Adam([*head.parameters(), *loss.parameters()], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss(head(features), labels).backward()
        optimizer.step()
    after = purity(head(features), labels)
    assert after > 0.9
    assert after > before + 0.05


def test_learns_real_digits(name: str) -> None:
    """A linear head on the 64 pixels of 600 digits, by the training loop; others are retrieved."""
    digits = load_digits()
    pixels, hot = digits.data.astype(np.float32), np.eye(10, dtype=bool)[digits.target]
    torch.manual_seed(0)
    head, loss = HashHead(64, BITS), LOSSES[name](BITS, 10)
    head.standardise(torch.from_numpy(pixels[:600]))
    before = held_out_map(head, pixels[600:1200], hot[600:1200])
    config = TrainConfig(
        method=name, bits=BITS, epochs=12, batch_size=60, learning_rate=0.02, weight_decay=0.0
    )
    train(head, loss, FeatureInputs(pixels[:600]), hot[:600], config, checkpoint=Checkpoint(None, {}))
    after = held_out_map(head, pixels[600:1200], hot[600:1200])
    assert after > before + 0.2


def held_out_map(head: HashHead, pixels: NDArray[np.float32], labels: NDArray[np.bool_]) -> float:
    codes = pack(logits_of(head, pixels))
    precision = average_precision_of_codes(codes[:200], codes[200:], labels[:200], labels[200:], bits=BITS)
    return float(precision.mean())


def purity(logits: Tensor, labels: Tensor) -> float:
    """Precision among the 59 nearest other codes: a class has 60 images."""
    code = (logits > 0).float()
    distance = torch.cdist(code, code, p=0).fill_diagonal_(torch.inf)
    nearest = distance.argsort(dim=1, stable=True)[:, :59]
    return float((labels[nearest] == labels[:, None]).float().mean())


REMEMBERING = [name for name in LOSSES if hasattr(LOSSES[name], "set_rows")]


@pytest.mark.parametrize("name", REMEMBERING)
def test_what_is_remembered_is_part_of_the_state_and_changes_nothing_without_rows(name: str) -> None:
    logits, labels = random_logits(12), torch.arange(12) % CLASSES
    rows, hot = torch.randperm(12), one_hot(labels).bool()

    def remembering() -> Any:
        loss: Any = LOSSES[name](BITS, CLASSES)
        loss.remember(hot)
        return loss

    first = remembering()
    for part in rows.tensor_split(3):
        first.set_rows(part)
        value = first(logits[part], labels[part])
        assert value.isfinite()
    resumed = remembering()
    resumed.load_state_dict(first.state_dict())
    for loss in (first, resumed):
        loss.set_rows(rows[:5])
    there = logits[rows[:5]].clone().requires_grad_()
    value = resumed(there, labels[rows[:5]])
    value.backward()
    assert torch.equal(value, first(logits[rows[:5]], labels[rows[:5]]))
    assert there.grad is not None
    assert (there.grad != 0).all()
    torch.testing.assert_close(first(logits, labels), LOSSES[name](BITS, CLASSES)(logits, labels))


def test_an_unknown_loss_is_reported_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown loss 'andhs'; did you mean 'andsh'"):
        LOSSES["andhs"]


def test_importing_the_registry_loads_no_torch_and_its_first_use_finds_the_members() -> None:
    code = (
        "import sys; from anglehash.methods.losses import LOSSES; assert 'torch' not in sys.modules;"
        "assert 'andsh' in LOSSES; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
