from __future__ import annotations

import json
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

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
from anglehash.models.backbones import make_backbone
from anglehash.models.model import Model
from anglehash.training.fit import fit as learn

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
        "image_size": 12,
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
    assert loaded.get_params() == fitted.get_params()
    with pytest.raises(OutputExistsError):
        fitted.save(tmp_path / "m")
    fitted.save(tmp_path / "m", force=True)


def test_it_is_a_scikit_learn_estimator(fitted: Hasher) -> None:
    twin = clone(fitted.set_params(bits=12))
    assert twin.get_params() == fitted.get_params()
    assert not hasattr(twin, "model_")
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
        ([np.full((9, 9, 3), i, np.uint8) for i in range(2)], [1, "1"], "are indistinguishable"),
        ([np.full((9, 9, 3), i, np.uint8) for i in range(2)], ["a", None], "one is missing"),
        (np.zeros((4, 9, 9, 3)), [0, 1, 0, 1], "uint8"),
        ([np.zeros((9, 9, 3))] * 2, [0, 1], r"image 0 is an array of float64 \(9, 9, 3\): give uint8"),
        ([], [], "needs images"),
        ([np.zeros((9, 9, 3), np.uint8)] * 2, "ab", "y is a list or array .* got str"),
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


def test_before_fit_there_is_nothing_and_the_message_says_what_to_do(tmp_path: Path) -> None:
    calls: list[Callable[[Hasher], object]] = [
        lambda hasher: hasher.encode([np.zeros((9, 9, 3), np.uint8)]),
        lambda hasher: hasher.transform([np.zeros((9, 9, 3), np.uint8)]),
        lambda hasher: hasher.get_feature_names_out(),
        lambda hasher: hasher.classes_,
        lambda hasher: hasher.save(tmp_path / "m"),
    ]
    for call in calls:
        for kind in (NotFittedError, SklearnNotFittedError):
            with pytest.raises(kind, match=r"fit"):
                call(small())
    assert not hasattr(small(), "classes_")
    assert not hasattr(small(), "model_")


def test_an_unreadable_image_is_named_by_encode_and_by_fit(fitted: Hasher, tmp_path: Path) -> None:
    images: list[Any] = [*colours(7)[0], b"no image"]
    with pytest.raises(DataError, match=r"1 of 8 images .* \(first: image 7: not-an-image"):
        fitted.encode(images)
    with pytest.raises(DataError, match=r"1 of 8 images .* \(first: image 7: not-an-image"):
        small().fit(images, ["a", "b"] * 4)
    with pytest.raises(DataError, match=r"2 of 2 images .* \(first: image 0 \(gone\.png\): unreadable-file"):
        small().fit(["gone.png", "lost.png"], ["a", "b"])


def test_an_unreadable_file_of_a_folder_is_named_by_encode_and_by_fit(fitted: Hasher, tmp_path: Path) -> None:
    for i, (pixels, name) in enumerate(zip(*colours(8), strict=True)):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    (tmp_path / "red" / "9.png").write_bytes(b"no image")
    for use in (fitted.encode, small().fit):
        with pytest.raises(DataError, match=r"1 of 9 images .* \(first: red/9\.png: not-an-image"):
            use(tmp_path)


def test_fit_encode_and_load_leave_the_global_generators_as_they_were(tmp_path: Path) -> None:
    def state() -> bytes:
        return torch.get_rng_state().numpy().tobytes() + repr(np.random.get_state()).encode()  # noqa: NPY002

    before = state()
    every: list[dict[str, Any]] = [{}, {"likeness": 0.0}, {"fine_tune": True, "method": "posterior"}]
    for options in every:
        hasher = small(settings={"epochs": 1}, **options).fit(*colours(20))
        hasher.save(tmp_path / "m", force=True)
        Hasher.load(tmp_path / "m").encode(colours(3)[0])
        assert state() == before


@pytest.mark.parametrize("changes", [{}, {"settings": None}, {"loss": {"gamma": 2.0}, "likeness": 1.5}])
def test_a_loaded_hasher_has_the_same_parameters(changes: dict[str, Any], tmp_path: Path) -> None:
    hasher = small(**changes).fit(*colours(20))
    hasher.save(tmp_path / "m")
    loaded = Hasher.load(tmp_path / "m")
    assert loaded.get_params() == hasher.get_params()
    assert clone(loaded).get_params() == hasher.get_params()
    assert "model_" not in vars(clone(loaded))


def test_a_hasher_of_a_model_of_the_command_line_has_its_settings(tmp_path: Path) -> None:
    config = small(settings={"epochs": 1, "flip": False}).config
    learn(labelled(colours(20)), config).save(tmp_path / "m")
    loaded = Hasher.load(tmp_path / "m")
    assert loaded.config == loaded.model_.config
    assert (loaded.settings or {})["flip"] is False
    assert "batch_size" not in (loaded.settings or {})


def test_columns_have_names_and_come_as_a_table(fitted: Hasher) -> None:
    images = colours(4)[0]
    names = fitted.get_feature_names_out()
    assert names[0] == "hasher0"
    assert len(names) == fitted.bits
    table = copy(fitted).set_output(transform="pandas").transform(images)
    assert list(table.columns) == list(names)
    assert np.array_equal(table.to_numpy(), fitted.transform(images))


def test_its_tags_are_honest(fitted: Hasher) -> None:
    tags = get_tags(small())
    assert tags.estimator_type is None
    assert tags.requires_fit
    assert tags.target_tags.required
    assert not tags.input_tags.two_d_array
    assert tags.transformer_tags is not None
    assert tags.transformer_tags.preserves_dtype == []
    assert not hasattr(fitted, "n_features_in_")


def test_codes_follow_the_order_of_the_images(fitted: Hasher) -> None:
    images = colours(9)[0]
    order = np.random.default_rng(0).permutation(9)
    assert np.array_equal(fitted.encode([images[i] for i in order]), fitted.encode(images)[order])


def test_y_may_be_any_column() -> None:
    images, names = colours(20)
    ways = [names, tuple(names), np.array(names), np.array(names, dtype=object), pandas.Series(names)]
    assert {small(settings={"epochs": 1}).fit(images, y).classes_ for y in ways} == {("blue", "red")}
    numbers = [int(name == "red") for name in names]
    ways = [numbers, np.array(numbers), torch.tensor(numbers), pandas.Series(numbers)]
    assert {small(settings={"epochs": 1}).fit(images, y).classes_ for y in ways} == {("0", "1")}
    assert small(settings={"epochs": 1}).fit(np.stack(images), numbers).classes_ == ("0", "1")


def test_a_device_that_is_not_there_is_refused_by_every_method() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for method in ("andsh", "itq", "posterior"):
        with pytest.raises(ConfigError, match="device 'cuda' needs a GPU"):
            small(method=method, settings={"device": "cuda"}).fit(*colours(8))


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
    assert (Hasher().config.likeness, Hasher(likeness=0).config.likeness) == (1, 0)
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
    hasher = small(bits=16, image_size=8, settings={"epochs": 1}).fit(digits.select(np.arange(200)))
    assert hasher.classes_ == tuple("0123456789")


def test_fine_tuning_changes_a_pretrained_backbone_but_keeps_its_statistics() -> None:
    images, labels = colours(24)
    hasher = Hasher(bits=8, image_size=32, fine_tune=True, settings={"epochs": 1, "batch_size": 12}).fit(
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
