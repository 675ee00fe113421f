"""What every backbone promises, run over the registry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import anglehash.models.backbones as backbones
from anglehash.data.images.decoding import Preprocessing
from anglehash.errors import ConfigError, DataError, ModelError
from anglehash.models.backbones import BACKBONES, Backbone, make_backbone, restore_backbone

SIZE = 32
PLAIN = sorted(name for name in BACKBONES if not name.endswith(":"))


@pytest.fixture(autouse=True)
def _torch_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where onnxscript is not installed: an export per member would take a minute (see test_onnx.py)."""
    monkeypatch.setattr(backbones, "find_spec", lambda name: None)


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


def make(name: str, *, size: int = SIZE, seed: int = 0) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_backbone(name, size=size, pretrained=False)


def restored(backbone: Backbone, folder: Path) -> Backbone:
    facts = {"name": backbone.name, "identity": backbone.identity}
    return restore_backbone(folder, facts, backbone.preprocessing.to_dict())


@pytest.mark.parametrize("name", PLAIN)
def test_gives_a_vector_per_image(name: str, images: NDArray[np.uint8]) -> None:
    backbone = make(name)
    features = backbone(images)
    assert features.shape == (5, backbone.width)
    assert features.dtype == np.float32
    assert backbone(images[:0]).shape == (0, backbone.width)
    assert not np.array_equal(features[0], features[1])


@pytest.mark.parametrize("name", PLAIN)
def test_an_image_does_not_depend_on_its_batch(name: str, images: NDArray[np.uint8]) -> None:
    backbone = make(name)
    alone = np.concatenate([backbone(image[None]) for image in images])
    np.testing.assert_array_equal(backbone(images), alone)


def test_another_device_runs_in_torch_and_is_another_engine(
    images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[str] = []

    def device(name: str) -> torch.device:
        wanted.append(name)
        return torch.device("cpu")  # in the place of a GPU

    monkeypatch.setattr(backbones, "training_device", device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        there = make_backbone("tiny", size=SIZE, pretrained=False, device="cuda")
    np.testing.assert_allclose(there(images), make("tiny")(images), rtol=1e-4, atol=1e-5)
    assert wanted == ["cuda"]
    assert there.engine.endswith(" cuda")
    assert there.identity == make("tiny").identity


def test_large_batches_are_cut(images: NDArray[np.uint8]) -> None:
    backbone = make("tiny")
    many = np.tile(images, (15, 1, 1, 1))
    np.testing.assert_array_equal(backbone(many), np.tile(backbone(images), (15, 1)))


@pytest.mark.parametrize("name", PLAIN)
def test_identity_follows_weights_and_preprocessing(name: str) -> None:
    backbone = make(name)
    assert make(name).identity == backbone.identity
    assert make(name, seed=1).identity != backbone.identity
    assert make(name, size=40).identity != backbone.identity
    assert not backbone.pretrained


@pytest.mark.parametrize("name", PLAIN)
def test_a_copy_learns_and_the_backbone_does_not(name: str, images: NDArray[np.uint8]) -> None:
    backbone = make(name)
    before = backbone(images)
    module = backbone.trainable()
    assert module.training
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    module(inputs).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.sub_(0.01 * torch.sign(parameter))
    np.testing.assert_array_equal(backbone(images), before)

    tuned = backbone.with_weights(module.state_dict())
    assert tuned.identity != backbone.identity
    assert tuned.pretrained
    with torch.inference_mode():
        np.testing.assert_allclose(tuned(images), module.eval()(inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", PLAIN)
def test_saved_and_restored_is_the_same(name: str, images: NDArray[np.uint8], tmp_path: Path) -> None:
    backbone = make(name)
    backbone.save(tmp_path)
    again = restored(backbone, tmp_path)
    assert again.identity == backbone.identity
    np.testing.assert_array_equal(again(images), backbone(images))


def test_restoring_refuses_what_is_not_the_models(tmp_path: Path) -> None:
    make("tiny", seed=1).save(tmp_path)
    with pytest.raises(ModelError, match="not the one that the model was trained with"):
        restored(make("tiny", seed=0), tmp_path)
    with pytest.raises(ModelError, match="does not hold the weights"):
        restored(make("efficientnet_lite0"), tmp_path)
    (tmp_path / "backbone.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"backbone\.safetensors"):
        restored(make("tiny"), tmp_path)


def test_unusable_weights_are_reported(images: NDArray[np.uint8]) -> None:
    backbone = make("tiny")
    state = {key: value.clone() for key, value in backbone.trainable().state_dict().items()}
    state["layers.1.weight"][0] = torch.nan
    with pytest.raises(ModelError, match="NaN or infinite features for 5 of 5"):
        backbone.with_weights(state)(images)


@pytest.mark.parametrize("wrong", [np.zeros((2, 31, 32, 3), np.uint8), np.zeros((2, 32, 32, 3), np.float32)])
def test_images_that_were_not_prepared_are_refused(wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(DataError, match=r"uint8 images of shape \(n, 32, 32, 3\)"):
        make("tiny")(wrong)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_lite", "did you mean 'efficientnet_lite"),
        ("tiny:large", "unknown backbone 'tiny:'"),
        ("onnx", "did you mean 'onnx:'"),
        ("onnx:", "wants a name behind the colon"),
        ("timm:", "wants a name behind the colon"),
    ],
)
def test_an_unknown_name_is_explained(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_backbone(name, size=SIZE)


def test_a_network_that_does_not_take_the_size_says_so() -> None:
    class Picky(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.conv2d(images, torch.ones(1, 3, 40, 40)).flatten(1)

    request = backbones.Request(name="picky", preprocessing=Preprocessing(size=SIZE))
    with pytest.raises(ConfigError, match="picky does not take images of 32 px"):
        Backbone(request, Picky())
    with pytest.raises(ConfigError, match="must give features of shape"):
        Backbone(request, torch.nn.Identity())
