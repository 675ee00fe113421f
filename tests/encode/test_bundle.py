"""A bundle gives the model's codes, and opens only where every byte is what was exported."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import anglehash.encode.bundle as bundles
from anglehash import Bundle, Hasher
from anglehash.data.dataset import Arrays, Encoded
from anglehash.encode.bundle import NETWORK
from anglehash.encode.self_test import pictures
from anglehash.encode.unknown_level import Level
from anglehash.errors import DataError, ModelError, OutputExistsError
from anglehash.manifest import read_manifest, write_manifest
from anglehash.training.export_bundle import Trial, export_bundle
from tests.encode.conftest import BITS, SIZE, noise


@pytest.fixture
def quick(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is exported once: that takes seconds."""
    network = (exported / NETWORK).read_bytes()
    monkeypatch.setattr("anglehash.training.export_bundle.whole_network", lambda model: network)


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "b"))


def rewritten(path: Path, **facts: Any) -> None:
    """What somebody with bad intentions does: change the content, and seal it as it should be."""
    old = json.loads((path / "manifest.json").read_bytes())
    kept = {k: v for k, v in old.items() if k not in ("format", "version", "files", "seal")}
    write_manifest(path, "bundle", 2, {**kept, **facts})


def test_codes_and_id_are_the_models(hasher: Hasher, exported: Path) -> None:
    images = noise(70, seed=2)
    bundle = Bundle.open(exported)
    assert (bundle.id, bundle.bits, bundle.class_names) == (hasher.model_.id, BITS, ("a", "b"))
    np.testing.assert_array_equal(bundle.codes(images), hasher.encode(images))
    found = bundle.encode(Arrays(images), rows=np.array([3, 1, 69]))
    assert found.rows.tolist() == [3, 1, 69]
    np.testing.assert_array_equal(found.codes, hasher.encode([images[r] for r in (3, 1, 69)]))
    np.testing.assert_allclose(found.logits, hasher.logits([images[r] for r in (3, 1, 69)]), atol=1e-4)
    assert bundle.probes is not None
    assert bundle.probes[2:] == (0, 0)
    np.testing.assert_array_equal(bundle.seen, hasher.model_.seen)
    assert bundle.config == hasher.model_.config
    assert hasher.model_.level is not None
    assert bundle.level == hasher.model_.level == Level.in_folder(exported, bundle.id)


@pytest.mark.usefixtures("quick")
def test_parity_counts_the_bits_that_differ(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anglehash.training import export_bundle as exporting

    images = Arrays(noise(60, seed=1))
    trial = Trial.of_images("noise", images)
    honest = export_bundle(model, tmp_path / "honest", trial)
    assert honest["id"] == honest["model"]
    assert honest["parity"]["images"] == 30
    assert honest["parity"]["fp32"] == {"bits_differ": 0, "equal_bits": 1.0, "equal_codes": 1.0}

    real = exporting._network

    class Flipped:
        """Two bits of the first image are others."""

        bits = BITS

        def __init__(self, *network: Any) -> None:
            self._network = real(*network)

        def encode(self, images: Any, **options: Any) -> Any:
            found = self._network.encode(images, **options)
            found.codes[0, 0] ^= 0b11000000
            return found

    monkeypatch.setattr(exporting, "_network", Flipped)
    other = export_bundle(model, tmp_path / "other", trial)
    assert other["parity"]["fp32"]["bits_differ"] == 2
    assert other["parity"]["fp32"]["equal_bits"] == pytest.approx(1 - 2 / (30 * BITS))
    assert other["parity"]["fp32"]["equal_codes"] == pytest.approx(29 / 30)
    assert other["id"] != other["model"]  # no gallery of the model takes it


@pytest.mark.usefixtures("quick")
def test_eight_bits_are_a_model_of_their_own(model: Path, tmp_path: Path) -> None:
    trial = Trial.of_images("noise", Arrays(noise(60, seed=1)))
    found = export_bundle(model, tmp_path / "b8", trial, int8=True)
    assert found["precision"] == "int8"
    assert found["id"] != found["model"]
    assert found["parity"]["fp32"]["equal_bits"] == 1
    assert 0.8 < found["parity"]["int8"]["equal_bits"] <= 1
    bundle = Bundle.open(tmp_path / "b8", strict=True)
    assert bundle.id == found["id"]
    kinds = {node.op_type for node in onnx.load_model(tmp_path / "b8" / NETWORK).graph.node}
    assert "QuantizeLinear" in kinds


def test_a_whole_network_without_its_images_has_no_eight_bits(model: Path, tmp_path: Path) -> None:
    from anglehash.errors import ConfigError

    with pytest.raises(ConfigError, match="add --data"):
        export_bundle(model, tmp_path / "b", Trial.of_probes(), int8=True)
    assert not (tmp_path / "b").exists()


def test_unreadable_images_are_named(exported: Path) -> None:
    bundle = Bundle.open(exported)
    with pytest.raises(DataError, match=r"1 of 2 images cannot be encoded \(first: image 1: not-an-image"):
        bundle.codes([noise(1)[0], b"hello"])
    found = bundle.encode(Encoded([b"hello", pictures()["probe-plain.png"]]))
    assert (found.rows.tolist(), [p[:2] for p in found.problems]) == ([1], [(0, "not-an-image")])


@pytest.mark.usefixtures("quick")
def test_another_bundle_is_replaced_and_nothing_else(model: Path, copy: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        export_bundle(model, copy, Trial.of_probes())
    with pytest.raises(OutputExistsError, match="was not written by this command"):
        export_bundle(model, tmp_path / "photos", Trial.of_probes(), force=True)
    export_bundle(model, copy, Trial.of_probes(), force=True)


def test_a_flipped_bit_is_always_found(copy: Path) -> None:
    """FAULTS case 8; the long mode flips over 300 bits."""
    rng = random.Random(0)
    files = sorted(copy.iterdir())
    for trial in range(400 if os.environ.get("ANGLEHASH_LONG") else 40):
        file = copy / NETWORK if trial % 2 else rng.choice(files)
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        with pytest.raises(ModelError, match=rf"{file.name}|anglehash-bundle|anglehash-"):
            Bundle.open(copy)
        file.write_bytes(whole)
    Bundle.open(copy)


def foreign(**changes: Any) -> onnx.ModelProto:
    """A network of the right signature that is not ours."""
    images = helper.make_tensor_value_info(
        "images", changes.get("type", TensorProto.UINT8), ["n", SIZE, SIZE, 3]
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", changes.get("bits", BITS)])
    weight = onnx.numpy_helper.from_array(
        np.full((SIZE * SIZE * 3, BITS), changes.get("fill", 1), np.float32), "w"
    )
    if "location" in changes:
        weight.data_location = TensorProto.EXTERNAL
        weight.ClearField("raw_data")
        weight.external_data.add(key="location", value=changes["location"])
    nodes = [
        helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["cast"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"], domain=changes.get("domain", "")),
    ]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "g", [images], [logits], initializer=[weight])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"location": "../secret.bin"}, "keeps weights in other files"),
        ({"domain": "com.microsoft"}, "custom operator"),
        ({"type": TensorProto.FLOAT}, "signature"),
        ({"bits": 7}, "signature|ONNX Runtime cannot read"),
        ({"fill": np.nan}, "NaN or infinite logits"),
    ],
    ids=["external", "custom", "input", "bits", "nan"],
)
def test_a_foreign_network_is_refused_with_a_right_checksum(
    copy: Path, changes: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / NETWORK).write_bytes(foreign(**changes).SerializeToString())
    rewritten(copy)
    if "location" in changes or "domain" in changes:  # it does not even come to ONNX Runtime
        monkeypatch.setattr(bundles, "Network", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(ModelError, match=match):
        Bundle.open(copy)


def test_what_is_too_large_is_refused_before_it_is_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (NETWORK, "manifest.json", "probe-plain.png"):
        whole = (copy / name).read_bytes()
        with (copy / name).open("r+b") as file:
            file.truncate(bundles.MAX_NETWORK + 1)  # a sparse file
        with pytest.raises(ModelError, match=rf"{name} has more than \d+ MiB"):
            Bundle.open(copy)
        (copy / name).write_bytes(whole)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b"])
def test_a_manifest_that_names_files_elsewhere_is_refused(copy: Path, name: str) -> None:
    from anglehash.manifest import _text

    content = json.loads((copy / "manifest.json").read_bytes())
    del content["seal"]
    content["files"][name] = "0" * 64
    (copy / "manifest.json").write_bytes(_text(content))
    with pytest.raises(ModelError, match="names a file outside of its folder"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    "facts", [{"bits": 3}, {"bits": "x"}, {"probes": [{"file": "probe-a"}]}, {"preprocessing": 1}]
)
def test_facts_that_make_no_sense_are_refused(copy: Path, facts: dict[str, Any]) -> None:
    rewritten(copy, **facts)
    with pytest.raises((ModelError, DataError), match=r"is not a bundle|preprocessing"):
        Bundle.open(copy)


def test_a_missing_or_newer_or_other_folder_is_refused(copy: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no folder"):
        Bundle.open(tmp_path / "nothing")
    with pytest.raises(ModelError, match="anglehash-model, but an anglehash-bundle is wanted"):
        Bundle.open(model)
    (copy / NETWORK).unlink()
    with pytest.raises(ModelError, match=r"network.onnx is missing"):
        Bundle.open(copy)
    write_manifest(copy, "bundle", 3, {})
    with pytest.raises(ModelError, match="upgrade anglehash"):
        Bundle.open(copy)
    for name in ("w.pt", "w.pkl", "w.bin"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
        with pytest.raises(ModelError, match="hold pickled code and are never opened: export"):
            Bundle.open(tmp_path / name)


@pytest.fixture
def other_code(copy: Path) -> Path:
    """A bundle whose probes have another code here: 3 bits of one of them."""
    probes = read_manifest(copy, "bundle", 2)["probes"]
    probes[4]["code"] = f"{int(probes[4]['code'], 16) ^ 0b111 << 4:04x}"
    rewritten(copy, probes=probes)
    return copy


def test_probes_that_differ_warn_or_in_strict_mode_refuse(
    other_code: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        bundle = Bundle.open(other_code)
    (record,) = caplog.records
    assert f"3 of {16 * BITS} bits of the golden probes differ here" in record.message
    assert "pixels of 0 of 16" in record.message
    assert bundle.probes is not None
    assert bundle.probes[2:] == (3, 0)
    with pytest.raises(ModelError, match=r"bits of the golden probes differ here.*leave out --strict"):
        Bundle.open(other_code, strict=True)


def test_another_decoder_shows_in_the_pixels(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    real: Callable[..., Any] = Image.Image.resize

    def other(self: Any, size: Any, resample: Any = None, **options: Any) -> Any:
        return real(self, size, Image.Resampling.BOX, **options)

    monkeypatch.setattr(Image.Image, "resize", other)
    found = Bundle.open(exported).probes
    assert found is not None
    assert found.pixels_differ == 16


def test_the_probes_take_every_format() -> None:
    from anglehash.data.images.decoding import decode

    found = {name: decode(data) for name, data in pictures().items()}
    assert {one.format for one in found.values()} == {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"}
    assert found["probe-turned.jpg"].pixels.shape[:2] == (256, 171)
    assert pictures() == pictures()
    assert sum(map(len, pictures().values())) < 1 << 20
