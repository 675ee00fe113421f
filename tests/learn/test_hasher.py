from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from anglehash import Hasher, make_split, open_dataset, unpack
from anglehash.data.dataset import Arrays, Dataset, one_hot
from anglehash.errors import (
    AnglehashError,
    ConfigError,
    DataError,
    ModelError,
    NotFittedError,
    OutputExistsError,
)
from anglehash.learn.backbones import make_backbone
from anglehash.learn.model import Model

Pixels = NDArray[np.uint8]


def colours(n: int, seed: int = 0) -> tuple[list[Pixels], list[str]]:
    """Small noisy images, reddish or bluish."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for i in range(n):
        image = rng.integers(0, 120, (12, 14, 3), dtype=np.uint8)
        image[..., 0 if i % 2 else 2] += 100
        images.append(image)
        labels.append("red" if i % 2 else "blue")
    return images, labels


def small(**changes: object) -> Hasher:
    options: dict[str, object] = {
        "bits": 12,
        "method": "andsh",
        "backbone": "tiny",
        "size": 12,
        "settings": {"epochs": 4, "learning_rate": 0.01, "batch_size": 16},
    }
    return Hasher(**{**options, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fitted() -> Hasher:
    images, labels = colours(60)
    return small().fit(images, labels)


def test_it_learns_and_encodes_new_images(fitted: Hasher) -> None:
    images, labels = colours(30, seed=1)
    bits = fitted.transform(images)
    assert bits.shape == (30, 12)
    assert set(np.unique(bits)) <= {0, 1}
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    same = np.array(labels)[:, None] == np.array(labels)[None]
    assert distances[same].mean() < distances[~same].mean() - 3


def test_codes_are_packed_bits_of_the_logits(fitted: Hasher) -> None:
    images, _ = colours(5, seed=2)
    assert np.array_equal(unpack(fitted.encode(images), 12), fitted.logits(images) > 0)


def test_every_way_to_hand_over_an_image_gives_the_same_code(fitted: Hasher, tmp_path: Path) -> None:
    pixels = colours(1, seed=3)[0][0]
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    ways: list[Any] = [pixels, Image.fromarray(pixels), path, str(path), path.read_bytes()]
    codes = fitted.encode(ways)
    assert (codes == codes[0]).all()
    assert np.array_equal(fitted.encode(tmp_path), codes[:1])
    assert np.array_equal(fitted.encode(np.stack([pixels])), codes[:1])
    assert np.array_equal(fitted.encode(np.array([str(path)])), codes[:1])


def test_equal_settings_and_data_give_equal_codes_and_another_seed_others(fitted: Hasher) -> None:
    images, labels = colours(60)
    assert np.array_equal(small().fit(images, labels).encode(images), fitted.encode(images))
    assert not np.array_equal(small(seed=1).fit(images, labels).encode(images), fitted.encode(images))


def test_a_saved_hasher_encodes_the_same(fitted: Hasher, tmp_path: Path) -> None:
    images, _ = colours(20, seed=4)
    fitted.save(tmp_path / "m")
    loaded = Hasher.load(tmp_path / "m")
    assert np.array_equal(loaded.encode(images), fitted.encode(images))
    assert loaded.model_.id == fitted.model_.id
    assert (loaded.bits, loaded.classes_) == (12, ("blue", "red"))
    assert loaded.config == fitted.model_.config
    with pytest.raises(OutputExistsError):
        fitted.save(tmp_path / "m")
    fitted.save(tmp_path / "m", force=True)


def test_it_is_a_scikit_learn_estimator(fitted: Hasher) -> None:
    copy = clone(fitted.set_params(bits=12))
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "model_")
    images, labels = colours(60)
    pipeline = make_pipeline(small(), KNeighborsClassifier(3, metric="hamming"))
    assert pipeline.fit(images, labels).score(*colours(20, seed=5)) > 0.9


def test_several_labels_as_lists_and_as_a_matrix_agree() -> None:
    images, labels = colours(40)
    lists = [[name, "all"] if i % 4 == 0 else [name] for i, name in enumerate(labels)]
    matrix = np.array([[name in row for name in ("all", "blue", "red")] for row in lists])
    one, two = small().fit(images, lists), small().fit(images, matrix)
    assert one.classes_ == ("all", "blue", "red")
    assert one.model_.multi_label
    assert np.array_equal(one.encode(images), two.encode(images))


def test_labels_may_be_numbers() -> None:
    images, _ = colours(20)
    assert small().fit(images, [i % 2 * 5 + 5 for i in range(20)]).classes_ == ("5", "10")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([np.zeros((9, 9, 3), np.uint8)] * 4, None, "give y"),
        ([np.zeros((9, 9, 3), np.uint8)] * 4, ["a"], "4 images need as many labels, got 1"),
        ([np.full((9, 9, 3), i, np.uint8) for i in range(4)], ["a"] * 4, "of 1 class"),
        ([3, 4], ["a", "b"], "image 0 is a int"),
        ([np.full((9, 9, 3), i, np.uint8) for i in range(2)], [1, "1"], "cannot be told apart"),
        ([np.full((9, 9, 3), i, np.uint8) for i in range(2)], ["a", None], "one is missing"),
        (np.zeros((4, 9, 9, 3)), [0, 1, 0, 1], "uint8"),
        ([np.zeros((9, 9, 3), np.uint8)] * 2, np.array([[2, 0], [0, 1]]), "multi-hot"),
    ],
)
def test_unusable_input_is_explained(images: object, labels: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        small().fit(images, labels)  # type: ignore[arg-type]


def test_settings_are_checked_when_it_fits() -> None:
    hasher = small(bits=3)
    with pytest.raises(ConfigError, match=r"4\.\.1024"):
        hasher.fit(*colours(8))
    with pytest.raises(ConfigError, match="did you mean 'andsh'"):
        small(method="andhs").fit(*colours(8))
    with pytest.raises(ConfigError, match="unknown preset of andsh 'papr'; did you mean 'paper'"):
        small(preset="papr").fit(*colours(8))
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        small(settings={"epoch": 3}).fit(*colours(8))


def test_encoding_before_fit_says_what_to_do() -> None:
    with pytest.raises(NotFittedError, match=r"fit\(\.\.\.\)"):
        small().encode([np.zeros((9, 9, 3), np.uint8)])


def test_an_unreadable_image_is_named(fitted: Hasher) -> None:
    with pytest.raises(DataError, match=r"1 of 2 images .* \(first: image 1: not-an-image"):
        fitted.encode([colours(1)[0][0], b"no image"])


def test_the_model_knows_what_it_has_seen(fitted: Hasher) -> None:
    assert fitted.model_.seen.shape == (60, 32)
    split = make_split(labelled(colours(60)), "holdout")
    known = small().fit(split).model_
    assert len(known.seen) == len(split.train) + len(split.validation)
    near = {"looked_at": len(split.validation), "near_copies": 0, "share": 0.0, "first": None}
    assert known.split == {"protocol": "holdout", "seed": 0, "hash": split.hash, "near_copies": near}


def test_learning_from_validation_too(fitted: Hasher) -> None:
    settings = {"epochs": 1, "use_validation": True}
    model = small(settings=settings).fit(*colours(60)).model_
    assert len(model.seen) == 60
    assert "validation_map" not in model.log[0]
    assert "validation_map" in fitted.model_.log[0]


def test_likeness_is_an_argument_and_no_further_setting() -> None:
    assert (Hasher().config.likeness, Hasher(likeness=0).config.likeness) == ("auto", 0)
    with pytest.raises(ConfigError, match="Hasher takes likeness as an argument: give it there, not in set"):
        Hasher(settings={"likeness": 0}).config  # noqa: B018


def labelled(data: tuple[list[Pixels], list[str]]) -> Dataset:
    images, labels = data
    return Dataset(
        name="colours",
        ids=tuple(f"{i:03d}" for i in range(len(images))),
        images=Arrays(images),
        labels=one_hot([int(name == "red") for name in labels], 2),
        class_names=("blue", "red"),
        parts=np.full(len(images), ""),
    )


@pytest.mark.parametrize("rounds", [30])
def test_any_flipped_bit_in_a_model_is_refused(fitted: Hasher, tmp_path: Path, rounds: int) -> None:
    fitted.save(tmp_path / "m")
    rng = np.random.default_rng(0)
    files = sorted((tmp_path / "m").iterdir())
    for i in range(rounds):
        path = files[i % len(files)]
        good = path.read_bytes()
        bad = bytearray(good)
        bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        with pytest.raises(ModelError, match=path.name):
            Model.load(tmp_path / "m")
        path.write_bytes(good)
    Model.load(tmp_path / "m")


def test_foreign_folders_are_refused(fitted: Hasher, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not an anglehash model"):
        Hasher.load(tmp_path)
    fitted.save(tmp_path / "m")
    (tmp_path / "m" / "head.safetensors").unlink()
    with pytest.raises(ModelError, match=r"head\.safetensors is missing"):
        Hasher.load(tmp_path / "m")


def test_the_manifest_says_what_codes_depend_on(fitted: Hasher, tmp_path: Path) -> None:
    fitted.save(tmp_path / "m")
    facts = json.loads((tmp_path / "m" / "manifest.json").read_text())
    assert facts["preprocessing"]["size"] == 12
    assert facts["classes"] == ["blue", "red"]
    assert {"anglehash", "torch", "pillow", "numpy", "python"} <= facts["versions"].keys()
    assert set(facts["files"]) == {
        "backbone.safetensors",
        "classifier.safetensors",
        "data.safetensors",
        "head.safetensors",
        "log.jsonl",
    }


def test_weights_with_nan_are_not_believed(fitted: Hasher) -> None:
    images, labels = colours(20)
    model = small(settings={"epochs": 1}).fit(images, labels).model_
    next(p for p in model.head.parameters()).data.fill_(float("nan"))
    with pytest.raises(ModelError, match="train it again"):
        model.encode(Arrays(images))


def test_digits_are_found_through_the_known_set() -> None:
    digits = open_dataset("digits")
    hasher = small(bits=16, size=8, settings={"epochs": 1}).fit(digits.select(np.arange(200)))
    assert hasher.classes_ == tuple("0123456789")


def test_fine_tuning_changes_a_pretrained_backbone_but_keeps_its_statistics() -> None:
    images, labels = colours(24)
    hasher = Hasher(bits=8, size=32, fine_tune=True, settings={"epochs": 1, "batch_size": 12}).fit(
        images, labels
    )
    start = make_backbone("efficientnet_lite0", size=32)
    assert hasher.model_.backbone.identity != start.identity
    assert hasher.model_.backbone_trained
    module, before = hasher.model_.backbone.module, start.module
    assert module is not None
    assert before is not None
    old = dict(before.named_buffers())
    for name, buffer in module.named_buffers():
        if "running" in name:
            assert torch.equal(buffer, old[name])
    assert hasher.encode(images).shape == (24, 1)


def test_all_errors_are_of_one_family() -> None:
    assert issubclass(NotFittedError, AnglehashError)


def test_a_gpu_that_is_not_there_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"device must be 'cpu' or 'cuda', got 'gpu'"):
        small(settings={"device": "gpu"}).fit(*colours(8))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="needs a GPU for each process"):
            small(settings={"device": "cuda"}).fit(*colours(8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
def test_a_gpu_learns_what_the_cpu_learns() -> None:
    images, labels = colours(60)
    found = {}
    for device in ("cpu", "cuda"):
        settings = {"epochs": 4, "learning_rate": 0.01, "batch_size": 16, "device": device}
        model = small(settings=settings).fit(images, labels).model_
        assert next(model.head.parameters()).device.type == "cpu"
        found[device] = model.log[-1]["loss"]
    assert found["cuda"] == pytest.approx(found["cpu"], rel=0.1)
