"""From labelled images to a model: prepare, train, calibrate."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from anglehash.codes import pack
from anglehash.config import TrainConfig
from anglehash.data.dataset import Dataset
from anglehash.data.split import RetrievalSplit
from anglehash.data.workers import prepare
from anglehash.errors import DataError, unknown
from anglehash.evaluation.ranking import average_precision_of_codes
from anglehash.learn.backbones import Backbone, make_backbone
from anglehash.learn.checkpoint import Checkpoint
from anglehash.learn.classifier import PosteriorClassifier
from anglehash.learn.device import torch_threads
from anglehash.learn.end_to_end import EndToEnd, logits_of_images
from anglehash.learn.features import extract
from anglehash.learn.head import HashHead
from anglehash.learn.losses import LOSSES
from anglehash.learn.material import Material
from anglehash.learn.model import Model
from anglehash.learn.training import FeatureInputs, ImageInputs, Inputs, logits_of, train
from anglehash.learn.workfolder import CHECKPOINT
from anglehash.progress import Report, silent

COMMON = {
    "hidden": 0,
    "batch_norm": False,
    "dropout": 0.5,
    "epochs": 30,
    "learning_rate": 3e-3,
    "weight_decay": 5e-4,
}
"""Settings that a preset leaves open."""


def settled(config: TrainConfig) -> TrainConfig:
    """The config with every open setting taken from its method's preset, else from :data:`COMMON`.

    Raises:
        ConfigError: the method or the preset is unknown.
    """
    presets: Mapping[str, Mapping[str, Any]] = getattr(LOSSES[config.method], "presets", {"default": {}})
    if config.preset not in presets:
        raise unknown(f"preset of {config.method}", config.preset, presets)
    return config.with_preset(presets[config.preset]).with_preset(COMMON)


def fit(
    data: Dataset | RetrievalSplit,
    config: TrainConfig,
    *,
    work: Path | None = None,
    cache: Path | None = None,
    like: Model | None = None,
    download: bool = False,
    report: Report = silent,
) -> Model:
    """Train a model.

    Args:
        data: labelled images (a tenth is kept for validation), or a split (its training part is used).
        config: the settings.
        work: folder for checkpoints; a run that was begun there is taken up.
        cache: folder of cached features and keys, or ``None``.
        like: a model whose classifier is taken over where it was fitted to the same features of the same
            images, to spare its cross-validation.
        download: weights of a backbone that are not on this machine may be fetched.
        report: told of the progress.

    Raises:
        DataError: fewer than 2 classes, or an image without a label while ``unlabelled`` is ``refuse``.
        TrainingError: the loss is not finite, or ``work`` holds another run.
    """
    config = settled(config)
    material = Material.of(data, config, cache=cache, report=report).checked(config)
    with torch_threads(config.threads):
        run, backbone = _begin(material, config, work, cache, report, download=download)
        if config.fine_tune or not backbone.pretrained:
            backbone, log = run.end_to_end(backbone)
            return run.model(backbone, log, like, None)
        features = run.features(backbone, run.known, cache)
        return run.model(backbone, run.on_features(features), like, features)


def _begin(
    material: Material,
    config: TrainConfig,
    work: Path | None,
    cache: Path | None,
    report: Report,
    *,
    download: bool,
) -> tuple[_Run, Backbone]:
    """The parts of a run, their weights drawn by its seed."""
    _check_options(config)
    learned = np.flatnonzero(material.dataset.labels[material.train].any(axis=0))
    names = tuple(material.dataset.class_names[i] for i in learned)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        backbone = make_backbone(
            config.backbone,
            size=config.size,
            salvage=config.salvage,
            threads=config.threads,
            download=download,
        )
        head = HashHead(
            backbone.width,
            config.bits,
            hidden=config.hidden or 0,
            batch_norm=bool(config.batch_norm),
            dropout=config.dropout or 0.0,
        )
        loss = LOSSES[config.method](config.bits, len(names), **config.loss)
    identity = {
        "config": config.to_dict(),
        "split": material.split["hash"],
        "classes": list(names),
        "backbone": backbone.identity if backbone.pretrained else backbone.name,
    }
    run = _Run(
        config=config,
        material=material,
        class_names=names,
        labels=material.dataset.labels[:, learned],
        head=head,
        loss=loss,
        checkpoint=Checkpoint(work / CHECKPOINT if work else None, identity),
        cache=cache,
        report=report,
    )
    return run, backbone


def _check_options(config: TrainConfig) -> None:
    """Refuse an option that the loss does not have.

    Raises:
        ConfigError: naming it, and the options that there are.
    """
    known = [
        name
        for name in inspect.signature(LOSSES[config.method]).parameters
        if name not in ("bits", "classes")
    ]
    for name in config.loss:
        if name not in known:
            raise unknown(f"option of the loss {config.method}", name, known)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Run:
    """The two ways to train: on cached features, or through the backbone."""

    config: TrainConfig
    material: Material
    class_names: tuple[str, ...]
    labels: NDArray[np.bool_]
    head: HashHead
    loss: nn.Module
    checkpoint: Checkpoint
    cache: Path | None
    report: Report

    @property
    def known(self) -> NDArray[np.int64]:
        """The rows of training and validation, ascending."""
        return np.sort(np.concatenate([self.material.train, self.material.validation]))

    def model(
        self,
        backbone: Backbone,
        log: list[dict[str, Any]],
        like: Model | None,
        features: NDArray[np.float32] | None,
    ) -> Model:
        """What was learned, with the calibrated classifier beside it.

        ``features`` are those of the known rows; ``None`` where the backbone learned, so that they are new.
        """
        dataset, known = self.material.dataset, self.known
        if like and like.backbone.identity == backbone.identity and like.split == self.material.split:
            posterior = like.classifier
        else:
            labelled = self.labels[known].any(axis=1)
            posterior = PosteriorClassifier(
                backbone.width, len(self.class_names), multi_label=dataset.multi_label
            )
            own = self.features(backbone, known, None) if features is None else features
            posterior.fit(
                own[labelled], self.labels[known[labelled]], seed=self.config.seed, report=self.report
            )
        class_vectors = getattr(self.loss, "weight", torch.zeros(0, self.config.bits))
        return Model(
            config=self.config,
            class_names=self.class_names,
            multi_label=dataset.multi_label,
            backbone=backbone,
            head=self.head,
            classifier=posterior,
            class_vectors=class_vectors.detach().numpy(),
            seen=self.material.keys[known],
            split=self.material.split,
            split_manifest=self.material.split_manifest,
            log=log,
            problems=dataset.problems,
            backbone_trained=features is None,
        )

    def features(
        self, backbone: Backbone, rows: NDArray[np.int64], cache: Path | None
    ) -> NDArray[np.float32]:
        """Features of images that are known to be readable, ``(len(rows), width)``."""
        found = extract(self.material.dataset.images, backbone, rows=rows, cache=cache, report=self.report)
        if found.problems:
            row, reason, detail = found.problems[0]
            raise DataError(f"{self.material.dataset.ids[row]} changed while it was read: {reason}, {detail}")
        return found.values

    def on_features(self, features: NDArray[np.float32]) -> list[dict[str, Any]]:
        """Train the head on the features of the known rows."""
        parts = (self.material.train, self.material.validation)
        known, held = (features[np.searchsorted(self.known, rows)] for rows in parts)
        self.head.standardise(torch.from_numpy(known))

        def validate() -> float:
            return self.validation_map(logits_of(self.head, held), logits_of(self.head, known))

        return self.train(self.head, FeatureInputs(known), validate)

    def end_to_end(self, backbone: Backbone) -> tuple[Backbone, list[dict[str, Any]]]:
        """Train head and backbone on augmented images."""
        known, held = (
            self.pixels(backbone, self.material.train),
            self.pixels(backbone, self.material.validation),
        )
        network = EndToEnd(backbone.trainable(), self.head, keep_statistics=backbone.pretrained)
        if backbone.pretrained:
            self.head.standardise(torch.from_numpy(self.features(backbone, self.material.train, self.cache)))

        def validate() -> float:
            return self.validation_map(*(logits_of_images(network, images) for images in (held, known)))

        rate = self.config.backbone_rate if backbone.pretrained else 1.0
        log = self.train(network, ImageInputs(known, flip=self.config.flip), validate, backbone_rate=rate)
        return backbone.with_weights(network.backbone.state_dict()), log

    def train(
        self,
        network: nn.Module,
        inputs: Inputs,
        validate: Callable[[], float],
        *,
        backbone_rate: float = 1.0,
    ) -> list[dict[str, Any]]:
        """The one loop, with this run's parts."""
        return train(
            network,
            self.loss,
            inputs,
            self.labels[self.material.train],
            replace(self.config, backbone_rate=backbone_rate),
            checkpoint=self.checkpoint,
            validate=validate if len(self.material.validation) else None,
            report=self.report,
        )

    def pixels(self, backbone: Backbone, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Prepared images, ``(len(rows), size, size, 3)``."""
        out = np.empty((len(rows), backbone.size, backbone.size, 3), dtype=np.uint8)
        done = 0
        for part in prepare(self.material.dataset.images, rows, backbone.preprocessing):
            out[done : done + len(part.rows)] = part.pixels
            done += len(part.rows)
            self.report("decoding", done, len(rows), "")
        if done < len(rows):
            raise DataError(f"{len(rows) - done} images changed while they were read: run the command again")
        return out

    def validation_map(self, held: NDArray[np.float32], known: NDArray[np.float32]) -> float:
        """Mean average precision of the validation images as queries among the training images."""
        scores = average_precision_of_codes(
            pack(held),
            pack(known),
            self.labels[self.material.validation],
            self.labels[self.material.train],
            bits=self.config.bits,
        )
        return float(scores.mean())
