"""From a model to a bundle, with the proof that both give the same codes."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Encoded, ImageStore
from anglehash.data.split import RetrievalSplit
from anglehash.encode.bundle import KIND, LEARNED, SPLIT, Origin, packed_learned, write_bundle
from anglehash.encode.encoder import Encoding
from anglehash.encode.network import Network
from anglehash.encode.self_test import pictures
from anglehash.encode.unknown_level import KEY
from anglehash.errors import ConfigError, DataError
from anglehash.evaluation.evaluate_model import refuse_seen
from anglehash.evaluation.ranking import average_precision_of_codes
from anglehash.files import cache_dir, refuse_existing
from anglehash.manifest import is_a
from anglehash.models.model import Model
from anglehash.models.onnx_export import CALIBRATION, quantised, whole_network
from anglehash.progress import Progress, silent

MOST = 2_000
"""Images that are compared, where no protocol says which."""

LIBRARIES = ("anglehash", "numpy", "pillow", "onnxruntime")


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The images on which model and bundle are compared.

    Attributes:
        source: what to call them.
        images: where they are.
        rows: those that are compared.
        calibration: those that an 8-bit network takes its ranges from.
        split: whose queries and database ``rows`` are, in this order; ``None`` where there are no labels.
    """

    source: str
    images: ImageStore
    rows: NDArray[np.int64]
    calibration: NDArray[np.int64]
    split: RetrievalSplit | None = None

    @classmethod
    def of_split(cls, split: RetrievalSplit) -> Trial:
        """Queries and database; calibration by training images, which a database may hold too."""
        rows = np.concatenate([split.query, split.database])
        source = split.train if len(split.train) else split.database
        drawn = np.random.default_rng(0).permutation(source)[:CALIBRATION]
        return cls(split.dataset.name, split.dataset.images, rows, np.sort(drawn), split)

    @classmethod
    def of_images(cls, name: str, images: ImageStore) -> Trial:
        """Images without labels: a seeded draw of them, another part of which calibrates."""
        drawn = np.random.default_rng(0).permutation(len(images))
        held = min(CALIBRATION, len(images) // 2)
        return cls(name, images, np.sort(drawn[held : held + MOST]), np.sort(drawn[:held]))

    @classmethod
    def of_probes(cls) -> Trial:
        """The golden probes alone."""
        images = Encoded(list(pictures().values()))
        return cls("golden probes", images, np.arange(len(images)), np.zeros(0, dtype=np.int64))


def export_bundle(
    model_path: Path,
    output: Path,
    trial: Trial,
    *,
    int8: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the bundle of a model, and compare the codes of both.

    Args:
        model_path: the model's folder.
        output: folder of the bundle.
        trial: the images to compare on.
        int8: the bundle holds the network in 8 bits, which is a model of its own.
        force: replace a bundle that is there.
        progress: callback.

    Returns:
        What was written and measured, as JSON values.

    Raises:
        OutputExistsError: there is something at ``output``.
        ModelError: the model is damaged, or cannot be expressed.
        ConfigError: ``int8`` without images to calibrate on.
        DataError: no image can be read, or a query was seen in training.
    """
    refuse_existing(output, force=force, ours=is_a(KIND))
    if int8 and not len(trial.calibration):
        raise ConfigError("--int8 takes the ranges of its numbers from images like yours: add --data")
    model = Model.load(model_path)
    if trial.split:
        refuse_seen(model, trial.split)
    progress("export", 0, 1, "")
    network = whole_network(model)
    progress("export", 1, 1, f"{len(network) / 2**20:.1f} MiB")
    expected = model.encode(trial.images, rows=trial.rows, cache=cache_dir(), progress=progress)
    running = _network(model, network)
    same = _probes_agree(model, running)
    parity: dict[str, Any] = {"source": trial.source, "images": len(expected.rows)}
    parity |= {"model": _score(trial, expected, model.bits)}
    parity["fp32"] = _compared(trial, expected, running, progress)
    same = same and parity["fp32"]["bits_differ"] == 0
    if int8:
        pixels = np.stack(
            [model.backbone.preprocessing(trial.images.read(int(r))) for r in trial.calibration]
        )
        network = quantised(network, pixels)
        parity["int8"] = _compared(trial, expected, _network(model, network), progress)
    origin = Origin(model.id, same and not int8, "int8" if int8 else "fp32")
    facts = {**_facts(model), "parity": parity}
    extra = {LEARNED: packed_learned(model.seen, model.class_vectors)}
    if model.split_manifest:
        extra[SPLIT] = (model_path / SPLIT).read_bytes()
    write_bundle(output, network, model.backbone.preprocessing, origin, facts, extra, force=force)
    return {
        "bundle": str(output),
        "id": origin.id_of(network),
        "model": model.id,
        "precision": origin.precision,
        "bytes": len(network),
        "parity": parity,
    }


def _network(model: Model, network: bytes) -> Network:
    return Network(
        network,
        model.backbone.preprocessing,
        bits=model.bits,
        name="the exported network",
    )


def _probes_agree(model: Model, network: Network) -> bool:
    images = Encoded(list(pictures().values()))
    return np.array_equal(model.encode(images).codes, network.encode(images).codes)


def _compared(trial: Trial, expected: Encoding, network: Network, progress: Progress) -> dict[str, Any]:
    """How far the codes of a network are those of the model, on the images that both could read."""
    found = network.encode(trial.images, rows=trial.rows, progress=progress)
    _, ours, theirs = np.intersect1d(found.rows, expected.rows, return_indices=True)
    if not len(ours):
        raise DataError(f"none of the {len(trial.rows)} images of {trial.source} can be read by both")
    differ = np.bitwise_count(found.codes[ours] ^ expected.codes[theirs]).sum(axis=1)
    return {
        "bits_differ": int(differ.sum()),
        "equal_bits": 1 - float(differ.sum()) / (len(differ) * network.bits),
        "equal_codes": float((differ == 0).mean()),
        **_score(trial, found, network.bits),
    }


def _score(trial: Trial, found: Encoding, bits: int) -> dict[str, float]:
    """The mAP of codes by the split, exact under ties; nothing where there is none."""
    if trial.split is None:
        return {}
    labels = trial.split.dataset.labels[found.rows]
    query = np.isin(found.rows, trial.split.query)
    asked, codes, cut = found.codes[query], found.codes[~query], trial.split.rank_cuts[0]
    precision = average_precision_of_codes(asked, codes, labels[query], labels[~query], bits=bits, k=cut)
    return {"map": float(np.mean(precision))}


def _facts(model: Model) -> dict[str, Any]:
    """What the manifest says of the model, and how an image has to be prepared by another program."""
    preprocessing = model.backbone.preprocessing
    kept = ("bits", "method", "likeness", "head", "config", "classes", "multi_label", "backbone", "split")
    facts = model.facts()
    return {
        **{name: facts[name] for name in (*kept, KEY)},
        "input": {
            "layout": "images: (n, size, size, 3) uint8, RGB, 0 to 255; logits: (n, bits) float32, bit 1 where > 0",
            "size": preprocessing.size,
            "upright": "turned as EXIF says",
            "resize": "short side to size and the central square cut out, in one step, by Pillow's antialiased BICUBIC",
            "jpeg": "decoded reduced 2, 4 or 8 times where no side falls below 2 x size (Pillow's draft)",
            "colour": f"8-bit RGB without colour management, transparency over {list(preprocessing.background)}",
            "mean and std": "inside the network",
        },
        "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
    }
