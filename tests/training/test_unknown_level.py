"""The level beyond which a picture is unknown, against a loop and by hand; where a model keeps it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from anglehash import Hasher
from anglehash.codes import pack, unpack
from anglehash.encode.unknown_level import Level
from anglehash.manifest import checked_info
from anglehash.models.model import Model
from anglehash.training.fit_head import Labelled
from anglehash.training.unknown_level import calibrated, evenly, level_of, right_distances


def drawn(n: int, seed: int, *, bits: int = 12, classes: int = 4) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    return pack(rng.normal(size=(n, bits))), rng.random((n, classes)) < 0.3


def looped(
    queries: NDArray[Any],
    wanted: NDArray[np.bool_],
    codes: NDArray[Any],
    labels: NDArray[np.bool_],
    loo: bool,
) -> list[int]:
    found = []
    for q, own in enumerate(unpack(queries, 12).tolist()):
        far = {}
        for i, code in enumerate(unpack(codes, 12).tolist()):
            if not (loo and i == q):
                far[i] = sum(a != b for a, b in zip(own, code, strict=True))
        least = min(far.values())
        if any(wanted[q][c] and labels[i][c] for i in far if far[i] == least for c in range(labels.shape[1])):
            found.append(least)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_right_queries_are_those_of_a_loop(seed: int) -> None:
    queries, wanted = drawn(80, seed)
    codes, labels = drawn(150, 100 + seed)
    found = right_distances(queries, wanted, codes, labels)
    assert found.tolist() == looped(queries, wanted, codes, labels, loo=False)
    assert 0 < len(found) < 80
    others = right_distances(codes, labels, codes, labels, own=np.arange(150))
    assert others.tolist() == looped(codes, labels, codes, labels, loo=True)


@pytest.mark.parametrize("seed", range(5))
def test_a_level_is_the_smallest_that_19_of_20_stay_within(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distances = rng.integers(0, 12, rng.integers(1, 90))
    level = level_of(distances, "validation")
    fits = [bits for bits in range(13) if 20 * sum(d <= bits for d in distances) >= 19 * len(distances)]
    assert level is not None
    assert level.bits == min(fits)
    assert level.rejects == round(sum(d > min(fits) for d in distances) / len(distances), 4)
    assert level_of(distances[:0], "validation") is None


class _Signs(nn.Module):
    """Features that are the logits already."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def code(*ones: int) -> list[float]:
    return [1.0 if bit in ones else -1.0 for bit in range(8)]


def test_a_level_worked_out_by_hand() -> None:
    known = Labelled(
        np.array([code(), code(), code(*range(8))], np.float32),
        np.array([[True, False], [True, False], [False, True]]),
    )
    # 38 are one bit from their own class and 2 are three; one with the other's label finds nothing that is right
    near, far, wrong = [code(0)] * 38, [code(0, 1, 2)] * 2, [code(1)]
    held = Labelled(
        np.array(near + far + wrong, np.float32), np.array([[True, False]] * 40 + [[False, True]])
    )
    assert calibrated(_Signs(), known, held) == Level(1, 0.05, 40, "validation")
    few = Labelled(held.features[:19], held.labels[:19])
    # the two zeros find each other; the third finds them, 8 bits away, and is not right
    assert calibrated(_Signs(), known, few) == Level(0, 0.0, 2, "training")
    alone = Labelled(known.features[1:], known.labels[1:])
    assert calibrated(_Signs(), alone, few) is None


def test_of_many_images_some_are_looked_up() -> None:
    assert evenly(5).tolist() == [0, 1, 2, 3, 4]
    assert evenly(0).tolist() == []
    assert (len(evenly(9_999)), evenly(9_999)[-1]) == (2_000, 9_998)


def fitted(**settings: Any) -> Hasher:
    rng = np.random.default_rng(0)
    shades = [40 + 150 * (i % 2) for i in range(300)]
    images = [rng.integers(0, 40, (12, 12, 3), dtype=np.uint8) + np.uint8(shade) for shade in shades]
    settings = {"epochs": 1, **settings}
    hasher = Hasher(bits=12, backbone="tiny", image_size=12, settings=settings)
    return hasher.fit(images, ["dark", "bright"] * 150)


def test_a_model_keeps_its_level(tmp_path: Path) -> None:
    hasher = fitted()
    level = hasher.model_.level
    assert level is not None
    assert level.source == "validation"
    assert 20 <= level.images <= 30
    assert 0 <= level.bits <= 12
    assert 0 <= level.rejects <= 0.05
    hasher.save(tmp_path / "m")
    stated = json.loads((tmp_path / "m" / "manifest.json").read_bytes())["unknown"]
    assert stated == {
        "level": level.bits, "rejects": level.rejects, "images": level.images, "from": "validation",
    }  # fmt: skip
    assert Model.load(tmp_path / "m").level == level
    assert Level.in_folder(tmp_path / "m", hasher.model_.id) == level
    assert Level.in_folder(tmp_path / "m", "another") is None
    assert Level.in_folder(tmp_path, hasher.model_.id) is None
    manifest = (tmp_path / "m" / "manifest.json").read_bytes()
    assert Level.of_model(manifest.replace(b"validation", b"invalidity"), hasher.model_.id) is None


def test_without_validation_images_the_level_says_that_it_is_from_training(tmp_path: Path) -> None:
    level = fitted(use_validation=True).model_.level
    assert level is not None
    assert (level.source, level.images <= 300) == ("training", True)


def test_a_model_without_a_level_says_so(tmp_path: Path) -> None:
    model = dataclasses.replace(fitted().model_, level=None)
    model.save(tmp_path / "m")
    assert checked_info((tmp_path / "m" / "manifest.json").read_bytes())["unknown"] is None
    assert Model.load(tmp_path / "m").level is None


@pytest.mark.parametrize(
    "given", [None, 3, [], {"level": 3}, {"level": "x", "rejects": 0, "images": 1, "from": "validation"}]
)
def test_a_manifest_that_states_no_level_has_none(given: Any) -> None:
    assert Level.of({"unknown": given}) is None
    assert Level.of({}) is None
