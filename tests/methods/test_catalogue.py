from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anglehash import Hasher, open_dataset
from anglehash.config import TrainConfig
from anglehash.data.dataset import Dataset
from anglehash.errors import ConfigError
from anglehash.methods.catalogue import COMMON, is_classical, method_names, settled
from anglehash.methods.classical import CLASSICAL
from anglehash.methods.losses import LOSSES


def test_methods_are_losses_and_conventional_ones() -> None:
    assert method_names() == sorted({*LOSSES, *CLASSICAL})
    assert not set(LOSSES) & set(CLASSICAL)
    assert [is_classical(name) for name in ("andsh", "itq")] == [False, True]


@pytest.mark.parametrize("name", method_names())
def test_every_method_settles_with_its_default_preset(name: str) -> None:
    config = settled(TrainConfig(method=name))
    assert None not in config.to_dict().values()
    assert settled(config) == config


def test_settings_come_from_the_user_then_the_preset_then_the_common_ones() -> None:
    config = settled(TrainConfig(method="andsh", epochs=3, loss={"gamma": 1.0}))
    assert (config.epochs, config.loss["gamma"]) == (3, 1.0)
    assert config.hidden == LOSSES["andsh"].presets["default"]["hidden"]  # type: ignore[attr-defined]
    assert config.learning_rate == COMMON["learning_rate"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "andhs"}, "unknown method 'andhs'; did you mean 'andsh'"),
        ({"method": "itqq"}, "unknown method 'itqq'; did you mean 'itq'"),
        ({"method": "itq", "preset": "paper"}, "unknown preset of itq 'paper'"),
        (
            {"method": "itq", "loss": {"iteration": 3}},
            "option of the method itq 'iteration'; did you mean 'iterations'",
        ),
        ({"method": "csq", "loss": {"labels": 3}}, "option of the method csq 'labels'"),
        ({"method": "itq", "loss": {"seed": 3}}, "option of the method itq 'seed'"),  # it is the run's
        (
            {"method": "posterior", "loss": {"nested": 128}},
            "got nested = 128, likeness = 1 and networks = 1: give --likeness 0 and networks = 1, or leave",
        ),
        (
            {"method": "posterior", "likeness": 0, "networks": 2, "loss": {"nested": 8}},
            "and networks = 2: give",
        ),
    ],
)
def test_what_is_unknown_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settled(TrainConfig.from_dict(settings))


def test_the_seed_of_centres_is_an_option() -> None:
    assert settled(TrainConfig(method="csq", loss={"seed": 3})).loss == {"seed": 3}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_dataset("digits").select(np.arange(250))


@pytest.mark.parametrize("likeness", [0.0, 1.0])
@pytest.mark.parametrize("method", ["itq", "sh", "sdh"])  # a linear head, a sine, a kernel
def test_a_conventional_model_is_kept_and_encodes_like_any_other(
    method: str, likeness: float, digits: Dataset, tmp_path: Path
) -> None:
    hasher = Hasher(bits=16, method=method, likeness=likeness, image_size=32).fit(digits)
    codes: NDArray[np.uint8] = hasher.encode(digits)
    hasher.save(tmp_path / "model")
    again = Hasher.load(tmp_path / "model")
    assert (again.encode(digits) == codes).all()
    assert (again.model_.id, again.likeness) == (hasher.model_.id, likeness)
    kind = {"itq": "linear", "sh": "spectral", "sdh": "kernel"}[method]
    facts = again.model_.facts()
    assert (facts["likeness"], facts["head"]) == (likeness, f"likeness+{kind}" if likeness else kind)
    assert len(np.unique(codes, axis=0)) > 20
    assert "validation_map" in hasher.model_.log[-1]


def test_conventional_methods_train_no_backbone(digits: Dataset) -> None:
    with pytest.raises(
        ConfigError, match="itq learns from features and trains no backbone: leave out --fine-tune"
    ):
        Hasher(method="itq", image_size=32, fine_tune=True).fit(digits)
    with pytest.raises(
        ConfigError, match="itq learns from the features of a pretrained backbone, and tiny has no"
    ):
        Hasher(method="itq", backbone="tiny", image_size=16).fit(digits)
    with pytest.raises(ConfigError, match="networks = 2 learn from the features of a pretrained backbone"):
        Hasher(backbone="tiny", image_size=16, settings={"networks": 2}).fit(digits)


def test_posterior_codes_have_their_backbone_learn_the_classes_first(digits: Dataset, tmp_path: Path) -> None:
    short = {"epochs": 20, "code_epochs": 10, "folds": 2}
    hasher = Hasher(
        bits=16, method="posterior", loss=short, backbone="tiny", image_size=8, settings={"epochs": 3}
    ).fit(digits)
    model = hasher.model_
    assert model.backbone_trained
    assert model.facts()["head"] == "likeness+posterior"
    assert [record["epoch"] for record in model.log] == [1, 2, 3, 4]
    assert "validation_map" not in model.log[0]  # class logits are no codes
    assert model.log[3]["validation_map"] > 0.3  # chance is .1
    codes: NDArray[np.uint8] = hasher.encode(digits)
    hasher.save(tmp_path / "model")
    assert (Hasher.load(tmp_path / "model").encode(digits) == codes).all()
