from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from anglehash.benchmark.baselines import (
    BASELINES,
    LEAST_BYTES,
    Baseline,
    baseline_average_precision,
    principal_axes,
)
from anglehash.errors import ConfigError, DataError
from anglehash.evaluation.metrics import average_precision

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(6, 24))
CLASSES = RNG.integers(0, 6, 700)
FEATURES = (3 + CENTRES[CLASSES] + RNG.normal(size=(700, 24))).astype(np.float32)
LABELS = np.eye(6, dtype=bool)[CLASSES]
TRAIN, QUERY, DATABASE = FEATURES[:400], FEATURES[400:420], FEATURES[420:]
UNIT = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
SIZES = {"float": None, "bits": None, "pq": 6, "rabitq": 11}


def scores_of(baseline: Baseline) -> NDArray[np.float32]:
    return np.concatenate(list(baseline.scores()))


def make(name: str, size: int | None = None, **parts: Any) -> Baseline:
    three = {"train": TRAIN, "query": QUERY, "database": DATABASE} | parts
    return BASELINES[name](**three, bytes_per_item=size or SIZES[name])


@pytest.mark.parametrize("name", BASELINES)
def test_a_rival_ranks_better_than_chance_and_the_same_again(name: str) -> None:
    baseline = make(name)
    scores = scores_of(baseline)
    assert scores.shape == (20, 280)
    assert scores.dtype == np.float32
    assert baseline.note
    assert np.array_equal(scores, scores_of(baseline)), "a second pass"
    assert np.array_equal(scores, scores_of(make(name))), "rebuilt"
    chance = LABELS[420:].mean(axis=0).mean()
    assert baseline_average_precision(baseline, LABELS[400:420], LABELS[420:]).mean() > chance + 0.15


@pytest.mark.parametrize("name", BASELINES)
def test_an_item_scores_the_same_whatever_stands_beside_it(name: str) -> None:
    some = make(name, query=QUERY[:3], database=DATABASE[5:40])
    np.testing.assert_allclose(scores_of(some), scores_of(make(name))[:3, 5:40], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_only_directions_count(name: str) -> None:
    scale = RNG.uniform(0.1, 10, (700, 1)).astype(np.float32)
    longer = {
        "train": scale[:400] * TRAIN,
        "query": scale[400:420] * QUERY,
        "database": scale[420:] * DATABASE,
    }
    a, b = scores_of(make(name)), scores_of(make(name, None, **longer))
    assert np.isclose(a, b, rtol=1e-3, atol=1e-3).mean() > 0.99  # rounding may turn a bit at its threshold


@pytest.mark.parametrize("name", BASELINES)
def test_a_handful_of_images_is_enough_and_nothing_is_printed(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    baseline = make(name, train=TRAIN[:3], query=QUERY[:1], database=DATABASE[:2])
    assert np.isfinite(scores_of(baseline)).all()
    assert capfd.readouterr() == ("", "")


def test_float_is_the_cosine() -> None:
    expected = [[sum(q * d) for d in UNIT[420:].astype(float)] for q in UNIT[400:420].astype(float)]
    baseline = make("float")
    np.testing.assert_allclose(scores_of(baseline), expected, atol=1e-6)
    assert baseline.bytes_per_item == 4 * 24


def test_bits_are_signs_around_the_mean_of_the_training_images() -> None:
    mean = UNIT[:400].mean(axis=0)
    expected = [[-sum((q > mean) != (d > mean)) for d in UNIT[420:]] for q in UNIT[400:420]]
    baseline = make("bits")
    assert scores_of(baseline).tolist() == expected
    assert baseline.bytes_per_item == 3


def test_pq_is_the_distance_that_faiss_finds_itself() -> None:
    index = faiss.IndexPQ(24, 6, 8)
    index.pq.cp.min_points_per_centroid = 1
    index.pq.cp.seed = 0
    index.train(UNIT[:400])
    index.add(UNIT[420:])
    distances, ids = index.search(UNIT[400:420], 280)
    baseline = make("pq", 6)
    found = np.take_along_axis(scores_of(baseline), ids, axis=1)
    np.testing.assert_allclose(1 - found, distances, atol=1e-5)  # |q| = 1
    assert baseline.bytes_per_item == 6


def test_pq_comes_near_to_float_as_bytes_grow() -> None:
    exact = baseline_average_precision(make("float"), LABELS[400:420], LABELS[420:]).mean()
    lost = [
        abs(baseline_average_precision(make("pq", size), LABELS[400:420], LABELS[420:]).mean() - exact)
        for size in (1, 24)
    ]
    assert lost[1] < 0.01 < lost[0]
    cosines = (scores_of(make("pq", 24)) + 1) / 2
    np.testing.assert_allclose(cosines, scores_of(make("float")), atol=0.04)


def test_pq_takes_bytes_that_do_not_divide_the_width() -> None:
    baseline = make("pq", 5)
    assert baseline.bytes_per_item == 5
    assert "20 dimensions" in baseline.note


def test_pq_of_few_training_images_is_smaller_and_says_so() -> None:
    assert make("pq", 8, train=TRAIN[:16]).bytes_per_item == 4  # 16 centroids: half a byte


@pytest.mark.parametrize("size", [9, 11])
def test_rabitq_is_the_estimate_that_faiss_finds_itself(size: int) -> None:
    width = 8 * (size - 8)
    mean, axes = principal_axes(UNIT[:400], width)
    axes = (axes @ np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))[0]).astype(np.float32)
    index: Any = faiss.IndexRaBitQ(width, faiss.METRIC_L2)
    index.qb = 0
    index.train((UNIT[:400] - mean) @ axes)
    index.add((UNIT[420:] - mean) @ axes)
    queries = (UNIT[400:420] - mean) @ axes
    estimates, ids = index.search(queries, 280)
    baseline = make("rabitq", size)
    found = np.take_along_axis(scores_of(baseline), ids, axis=1)
    lengths = (queries**2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.maximum(lengths - found, 0), estimates, atol=1e-5)
    assert baseline.bytes_per_item == size == index.code_size


def test_rabitq_takes_no_more_than_it_can_use() -> None:
    assert make("rabitq", 100).bytes_per_item == 8 + 3  # all 24 dimensions
    assert make("rabitq", 100, train=TRAIN[:9]).bytes_per_item == 8 + 2  # nine images have nine directions


def test_principal_axes_hold_the_variance() -> None:
    mean, axes = principal_axes(FEATURES, 5)
    variances = ((FEATURES - mean) @ axes).var(axis=0)
    singular = np.linalg.svd(FEATURES - FEATURES.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(variances, singular[:5] ** 2 / 700, rtol=1e-3)
    np.testing.assert_allclose(axes.T @ axes, np.eye(5), atol=1e-5)


def test_average_precision_is_that_of_the_scores_at_every_cut() -> None:
    baseline = make("bits")  # heavy ties
    got = baseline_average_precision(baseline, LABELS[400:420], LABELS[420:], (None, 10))
    relevant = CLASSES[400:420, None] == CLASSES[None, 420:]
    for column, k in enumerate((None, 10)):
        np.testing.assert_allclose(got[:, column], average_precision(-scores_of(baseline), relevant, k=k))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("float", 4, "float takes 96 bytes"),
        ("bits", 4, "bits takes 3 bytes"),
        ("pq", 25, "1 to 24 at this width: got 25"),
        ("pq", -1, "got -1"),
        ("rabitq", 8, "9 or more: got 8"),
    ],
)
def test_a_size_that_cannot_be_is_refused(name: str, size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(name, size)


@pytest.mark.parametrize("name", LEAST_BYTES)
def test_the_least_bytes_are_enough_and_one_less_is_not(name: str) -> None:
    assert make(name, LEAST_BYTES[name]).bytes_per_item == LEAST_BYTES[name]
    with pytest.raises(ConfigError, match=f"{name} needs"):
        BASELINES[name](TRAIN, QUERY, DATABASE, bytes_per_item=LEAST_BYTES[name] - 1)


def test_the_parts_must_fit_together() -> None:
    with pytest.raises(DataError, match=r"one width.*\(400, 24\), \(20, 23\)"):
        make("float", query=QUERY[:, :23])
    with pytest.raises(DataError, match="at least one"):
        make("bits", train=TRAIN[:0])
    with pytest.raises(ConfigError, match="needs bytes_per_item"):
        BASELINES["pq"](TRAIN, QUERY, DATABASE)
