"""The heads of every method are exported: a bundle gives the codes that torch gives."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from anglehash import Bundle, Hasher
from anglehash.data.dataset import Arrays
from anglehash.encode.bundle import NETWORK
from anglehash.encode.network import Network
from anglehash.methods.classical import CLASSICAL
from anglehash.methods.likeness import with_likeness
from anglehash.models.heads.classical import HEADS
from anglehash.models.heads.ensemble import ensemble_of
from anglehash.models.onnx_export import whole_network
from anglehash.training.export_bundle import Trial, export_bundle
from tests.encode.conftest import BITS, noise

ONE = np.eye(2, dtype=bool)[np.arange(60) % 2]
SEVERAL = ONE | (np.arange(60) % 3 == 0)[:, None]


class _SideBySide(nn.Module):
    """All heads at once, so that one export, which takes seconds, shows all."""

    def __init__(self, heads: dict[str, nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(heads)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([head(features) for head in self.heads.values()], dim=1)


def test_codes_of_each_conventional_kind_of_head_are_those_of_torch(hasher: Hasher) -> None:
    """What a conventional method computes has the form of one of these; a deep one's is in test_bundle."""
    model = hasher.model_
    features = model.encode(Arrays(noise(60))).features
    learned = [CLASSICAL[name](features, ONE, BITS, seed=0) for name in ("itq", "ksh", "sh")]
    heads: dict[str, nn.Module] = {str(head.kind): head for head in learned}
    assert heads.keys() == HEADS.keys() - {"posterior"}  # that is below
    ensemble = ensemble_of(
        [copy.deepcopy(learned[0]), CLASSICAL["lsh"](features, ONE, BITS, seed=1)], features
    )
    heads |= {"ensemble": ensemble, "likeness": with_likeness(copy.deepcopy(ensemble), features, ONE, 1.0)}
    network = whole_network(replace(model, head=_SideBySide(heads)))
    running = Network(network, model.backbone.preprocessing, bits=BITS * len(heads), name="all heads")
    images = Arrays(noise(100, seed=1))
    found = running.encode(images).logits
    for place, (kind, head) in enumerate(heads.items()):
        own, expected = found[:, place * BITS :][:, :BITS], replace(model, head=head).encode(images).logits
        np.testing.assert_array_equal(own > 0, expected > 0, err_msg=kind)
        np.testing.assert_allclose(own, expected, atol=1e-4 * np.abs(expected).max(), err_msg=kind)


def test_a_posterior_model_is_exported_in_full_precision_and_in_8_bits(
    hasher: Hasher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = hasher.model_.encode(Arrays(noise(60))).features
    model = replace(hasher.model_, head=CLASSICAL["posterior"](features, SEVERAL, BITS, seed=0, kept=0.5))
    assert float(model.head.get_buffer("roots")) == 1 < len(model.head.get_buffer("kept_bias"))
    model.save(tmp_path / "m")
    trial = Trial.of_images("noise", Arrays(noise(80, seed=2)))
    done = export_bundle(tmp_path / "m", tmp_path / "b", trial)
    assert done["parity"]["fp32"] == {"bits_differ": 0, "equal_bits": 1.0, "equal_codes": 1.0}
    bundle, images = Bundle.open(tmp_path / "b", strict=True), noise(50, seed=3)
    assert bundle.id == model.id
    np.testing.assert_array_equal(bundle.codes(images), model.encode(Arrays(images)).codes)

    network = (tmp_path / "b" / NETWORK).read_bytes()
    monkeypatch.setattr(
        "anglehash.training.export_bundle.whole_network", lambda model: network
    )  # not once more
    done = export_bundle(tmp_path / "m", tmp_path / "b8", trial, int8=True)
    assert done["id"] != done["model"]
    assert 0.9 < done["parity"]["int8"]["equal_bits"] <= 1
    assert done["bytes"] < len(network)
    for precision in ("b", "b8"):  # the head is in float64, but its weights take half of that
        assert _held((tmp_path / precision / NETWORK).read_bytes(), "DOUBLE") < 5 * 128 * model.backbone.width


def _held(network: bytes, kind: str) -> int:
    """Numbers of a type that a network holds."""
    wanted = onnx.TensorProto.DataType.Value(kind)
    weights = onnx.load_model_from_string(network).graph.initializer
    return sum(int(np.prod(weight.dims)) for weight in weights if weight.data_type == wanted)
