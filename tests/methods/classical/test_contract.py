"""Every shallow method is held to this, whichever it is."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn

from anglehash.codes import pack
from anglehash.errors import ConfigError, DataError
from anglehash.evaluation.ranking import average_precision_of_codes
from anglehash.methods.classical import CLASSICAL
from anglehash.models.heads.classical import restore_head
from anglehash.models.heads.hash_head import logits_of

Data = tuple[NDArray[np.float32], NDArray[np.bool_]]
SUPERVISED = {"ksh", "sdh", "cosdish", "posterior"}
ONE_COMPONENT_A_BIT = {"pca-sign", "itq"}
RANDOM = {"lsh", "itq"} | SUPERVISED


@pytest.fixture(params=list(CLASSICAL))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def method(name: str) -> Callable[..., nn.Module]:
    return CLASSICAL[name]


def clouds(n: int, *, width: int = 70, classes: int = 5, seed: int = 0) -> Data:
    """Noisy clouds around one centre a class."""
    rng = np.random.default_rng(seed)
    centres = 2 * np.random.default_rng(99).standard_normal((classes, width))
    of = rng.integers(0, classes, n)
    features = centres[of] + rng.standard_normal((n, width)) + 3
    return features.astype(np.float32), np.eye(classes, dtype=bool)[of]


@pytest.mark.parametrize("bits", [4, 12, 24, 64])
def test_gives_a_head_with_finite_logits_for_any_length(method: Callable[..., nn.Module], bits: int) -> None:
    features, labels = clouds(150)
    head = method(features, labels, bits)
    assert not head.training
    logits = logits_of(head, clouds(20, seed=1)[0])
    assert logits.shape == (20, bits)
    assert np.isfinite(logits).all()
    assert len(np.unique(pack(logits), axis=0)) > 1


def test_equal_seeds_give_equal_heads_and_only_random_methods_listen(
    method: Callable[..., nn.Module], name: str
) -> None:
    features, labels = clouds(320)  # more than KSH has anchors: which rows they are is drawn
    one, same, other = (method(features, labels, 12, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert all(torch.equal(one[key], other[key]) for key in one) == (name not in RANDOM)


def test_does_not_change_what_it_is_given(method: Callable[..., nn.Module]) -> None:
    features, labels = clouds(60)
    copies = features.copy(), labels.copy()
    method(features, labels, 8)
    assert np.array_equal(features, copies[0])
    assert np.array_equal(labels, copies[1])


def test_a_head_is_restored_from_its_state_alone(method: Callable[..., nn.Module]) -> None:
    features, labels = clouds(150)
    head = method(features, labels, 12)
    state = head.state_dict()
    assert state
    assert not list(head.parameters())
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in state.values())
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    again = restore_head(str(head.kind), state)
    assert not again.training
    assert np.array_equal(logits_of(again, features), logits_of(head, features))


def test_the_logits_of_a_row_do_not_depend_on_the_rows_beside_it(method: Callable[..., nn.Module]) -> None:
    features, labels = clouds(150)
    head = method(features, labels, 24)
    together = logits_of(head, features)
    assert np.array_equal(logits_of(head, features, block=1), together)
    assert np.array_equal(logits_of(head, features[::-1].copy())[::-1], together)
    alone = head(torch.from_numpy(features)).numpy()  # float32: near enough
    np.testing.assert_allclose(alone, together, rtol=1e-3, atol=2e-3 * np.abs(together).max())


def test_takes_one_row_of_each_class(method: Callable[..., nn.Module]) -> None:
    features, labels = clouds(40)
    first = labels.argmax(axis=0)
    head = method(features[first], labels[first], 4)  # five rows: four principal components
    assert np.isfinite(logits_of(head, features)).all()


def test_takes_duplicated_rows(method: Callable[..., nn.Module]) -> None:
    features, labels = clouds(20)
    many = np.repeat(np.arange(20), 30)
    head = method(features[many], labels[many], 12)
    assert np.isfinite(logits_of(head, features)).all()


def test_takes_features_that_are_constant_or_copies(method: Callable[..., nn.Module]) -> None:
    features, labels = clouds(100, width=20)
    wide = np.concatenate([features, features, np.full((100, 10), 7, dtype=np.float32)], axis=1)
    head = method(wide, labels, 12)
    assert np.isfinite(logits_of(head, wide)).all()


def test_takes_images_with_several_labels(method: Callable[..., nn.Module]) -> None:
    features, labels = clouds(150)
    labels[:50, 0] = True
    assert np.isfinite(logits_of(method(features, labels, 12), features)).all()


def test_one_class_only_is_taken(method: Callable[..., nn.Module]) -> None:
    features, _ = clouds(60)
    assert np.isfinite(logits_of(method(features, np.ones((60, 1), dtype=bool), 8), features)).all()


def test_labels_reach_supervised_methods_only(method: Callable[..., nn.Module], name: str) -> None:
    features, labels = clouds(150)
    other = np.roll(labels, 1, axis=0)
    one, two = method(features, labels, 12).state_dict(), method(features, other, 12).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one) == (name not in SUPERVISED)


def test_supervised_methods_refuse_rows_without_a_label(method: Callable[..., nn.Module], name: str) -> None:
    features, labels = clouds(30)
    labels[4] = False
    if name in SUPERVISED:
        with pytest.raises(DataError, match="1 of 30 training rows have no label"):
            method(features, labels, 8)
    else:
        method(features, labels, 8)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_features_that_are_not_finite(method: Callable[..., nn.Module], value: float) -> None:
    features, labels = clouds(30)
    features[3, 2] = value
    with pytest.raises(DataError, match="finite"):
        method(features, labels, 8)


@pytest.mark.parametrize("rows", [1, 12])
def test_refuses_rows_that_are_all_equal(method: Callable[..., nn.Module], rows: int) -> None:
    features, labels = np.full((rows, 6), 2.5, dtype=np.float32), np.ones((rows, 1), dtype=bool)
    with pytest.raises(DataError, match=f"all {rows} training rows have the same features"):
        method(features, labels, 8)


def test_refuses_a_length_out_of_range(method: Callable[..., nn.Module]) -> None:
    with pytest.raises(ConfigError, match=r"4\.\.1024"):
        method(*clouds(30), 3)


def test_more_bits_than_components(method: Callable[..., nn.Module], name: str) -> None:
    features, labels = clouds(100, width=10)
    if name in ONE_COMPONENT_A_BIT:
        with pytest.raises(
            ConfigError, match=f"{name} takes one principal component a bit, 24, but .* have 10"
        ):
            method(features, labels, 24)
    else:
        assert np.isfinite(logits_of(method(features, labels, 24), features)).all()


def test_every_option_is_checked(method: Callable[..., nn.Module]) -> None:
    """A number that counts or measures something refuses -1, and a fraction where it counts."""
    features, labels = clouds(30)
    for option, parameter in inspect.signature(method).parameters.items():
        if parameter.default is inspect.Parameter.empty or option in ("seed", "progress"):
            continue
        if isinstance(parameter.default, bool):
            continue
        wrong: list[Any] = [-1, float("nan") if "float" in str(parameter.annotation) else 2.5]
        for value in wrong:
            with pytest.raises(ConfigError, match=option):
                method(features, labels, 8, **{option: value})


def test_tells_of_its_progress_and_comes_to_an_end(method: Callable[..., nn.Module], name: str) -> None:
    reported: list[tuple[str, int, int]] = []
    method(*clouds(60), 8, progress=lambda stage, done, total, note: reported.append((stage, done, total)))
    assert {stage for stage, _, _ in reported} == {name}
    assert [done for _, done, _ in reported] == list(range(1, reported[-1][2] + 1))


@pytest.mark.parametrize("name", ["lsh", "pca-sign", "sh", "itq"])
def test_the_order_of_the_rows_does_not_matter(name: str) -> None:
    features, labels = clouds(300)
    order = np.random.default_rng(5).permutation(300)
    codes = [
        logits_of(CLASSICAL[name](features[rows], labels[rows], 12), features) > 0
        for rows in (np.arange(300), order)
    ]
    assert (codes[0] == codes[1]).mean() > 0.998  # a logit of 1e-7 may round to the other side


@lru_cache
def digits() -> tuple[Data, Data]:
    images, classes = load_digits(return_X_y=True)
    labels, order = np.eye(10, dtype=bool)[classes], np.random.default_rng(0).permutation(len(images))
    features = images.astype(np.float32)
    return (features[order[:1200]], labels[order[:1200]]), (features[order[1200:]], labels[order[1200:]])


@lru_cache
def map_on_digits(name: str) -> float:
    (known, known_labels), (held, held_labels) = digits()
    head = CLASSICAL[name](known, known_labels, 32)
    queries, database = (pack(logits_of(head, rows)) for rows in (held, known))
    return float(average_precision_of_codes(queries, database, held_labels, known_labels, bits=32).mean())


def test_supervised_methods_and_itq_beat_random_projections_on_digits(name: str) -> None:
    least = {"ksh": 0.95, "sdh": 0.95, "cosdish": 0.8, "itq": 0.6}.get(name)
    if least is None:
        assert map_on_digits(name) > 0.25  # chance is 0.1
    else:
        assert map_on_digits(name) > max(least, map_on_digits("lsh") + 0.1)


def test_importing_the_registry_loads_no_torch_and_its_first_use_finds_the_members() -> None:
    code = (
        "import sys; from anglehash.methods.classical import CLASSICAL; assert 'torch' not in sys.modules;"
        "assert 'itq' in CLASSICAL; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_method_is_reported_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown shallow method 'cosdsh'; did you mean 'cosdish'"):
        CLASSICAL["cosdsh"]
