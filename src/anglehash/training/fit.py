"""From labelled images to a model: prepare, train, calibrate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from anglehash.config import TrainConfig
from anglehash.data.dataset import Dataset
from anglehash.data.images.workers import prepare
from anglehash.data.split import RetrievalSplit
from anglehash.errors import ConfigError, DataError
from anglehash.files import sha256_json
from anglehash.methods.catalogue import is_classical, kind_of, settled
from anglehash.methods.classical.cross_fitted import LogLoss, has_several
from anglehash.models.backbones import Backbone, make_backbone
from anglehash.models.device import own_generators, torch_threads, training_device
from anglehash.models.features import extract
from anglehash.models.heads.hash_head import HashHead
from anglehash.models.model import Model
from anglehash.progress import Progress, silent
from anglehash.training.checkpoint import Checkpoint
from anglehash.training.distributed import ALONE, Ranks
from anglehash.training.end_to_end import EndToEnd, logits_of_images
from anglehash.training.fit_head import (
    Labelled,
    Learned,
    add_likeness,
    class_vectors_of,
    learn_head,
    map_of_logits,
    new_parts,
)
from anglehash.training.loop import ImageInputs, train
from anglehash.training.training_data import TrainingData
from anglehash.training.unknown_level import calibrated
from anglehash.training.workdir import CHECKPOINT


def fit(
    data: Dataset | RetrievalSplit,
    config: TrainConfig,
    *,
    work: Path | None = None,
    cache: Path | None = None,
    download: bool = False,
    skip_unreadable: bool = True,
    ranks: Ranks = ALONE,
    progress: Progress = silent,
) -> Model:
    """Train a model; torch's global generators are left as they were.

    Args:
        data: labelled images (a tenth is kept for validation), or a split (its training part is used).
        config: the settings.
        work: folder for checkpoints; a run that was begun there is taken up.
        cache: folder of cached features and keys, or ``None``.
        download: weights of a backbone that are not on this machine may be fetched.
        skip_unreadable: leave out images of a dataset that cannot be read and note them in the model's ``problems``;
            otherwise they are refused.
        ranks: the processes that train together; each gets the model, and one of them should save it.
        progress: callback.

    Raises:
        DataError: fewer than 2 classes, an image without a label while ``unlabelled`` is ``refuse``, or images that
            cannot be read.
        ConfigError: a setting is out of range, or no such device.
        TrainingError: the loss is not finite, or ``work`` holds another run.
    """
    config = settled(config)
    _check_method(config)
    device = training_device(config.device)
    material = TrainingData.of(
        data, config, skip_unreadable=skip_unreadable, cache=cache, progress=progress
    ).checked(config)
    with torch_threads(config.threads), own_generators(device):
        torch.manual_seed(config.seed)
        backbone = make_backbone(
            config.backbone,
            size=config.image_size,
            allow_truncated=config.allow_truncated,
            max_pixels=config.max_pixels,
            threads=config.threads,
            download=download,
            device=config.device,
        )
        run = _Run.begin(material, config, backbone, work, cache, ranks, progress)
        parts = run.parts(backbone.width) if config.fine_tune or not backbone.pretrained else None
        if parts is None:
            features = run.features(backbone, run.known, cache)
            return run.model(backbone, run.learned_head(features), features)
        backbone, learned = run.end_to_end(backbone, *parts)
        features = run.features(backbone, run.known, None)
        if is_classical(config.method):
            last = run.learned_head(features)
            learned = last._replace(log=[*learned.log, {**last.log[0], "epoch": len(learned.log) + 1}])
        else:
            trained = learned
            known, held = run.labelled(features)
            learned = ranks.once(lambda: add_likeness(trained, known, config, held))
        return run.model(backbone, learned, features, backbone_trained=True)


def _check_method(config: TrainConfig) -> None:
    """Refuse what a conventional method cannot do.

    Raises:
        ConfigError: it is asked to train a backbone.
    """
    if kind_of(config.method) == "classical" and config.fine_tune:
        raise ConfigError(
            f"{config.method} learns from features and trains no backbone: leave out --fine-tune, or choose a "
            "deep method"
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Run:
    """The two ways to train: on cached features, or through the backbone."""

    config: TrainConfig
    material: TrainingData
    class_names: tuple[str, ...]
    labels: NDArray[np.bool_]
    checkpoint: Checkpoint
    cache: Path | None
    ranks: Ranks
    progress: Progress

    @classmethod
    def begin(
        cls,
        material: TrainingData,
        config: TrainConfig,
        backbone: Backbone,
        work: Path | None,
        cache: Path | None,
        ranks: Ranks,
        progress: Progress,
    ) -> _Run:
        """What a run needs to know before it trains."""
        if kind_of(config.method) == "classical" and not backbone.pretrained:
            raise ConfigError(
                f"{config.method} learns from the features of a pretrained backbone, and {backbone.name} has no "
                "weights yet: choose another backbone, or a deep method"
            )
        if config.networks > 1 and not is_classical(config.method) and not backbone.pretrained:
            raise ConfigError(
                f"networks = {config.networks} learn from the features of a pretrained backbone, and {backbone.name} "
                "has no weights yet: choose another backbone, or networks = 1"
            )
        learned = np.flatnonzero(material.dataset.labels[material.train].any(axis=0))
        names = tuple(material.dataset.class_names[i] for i in learned)
        identity = {
            "config": config.to_dict(),
            "split": material.split["hash"],
            "classes": list(names),
            "backbone": backbone.identity if backbone.pretrained else backbone.name,
        }
        ranks.check_same(sha256_json(identity), "data or settings")
        return cls(
            config=config,
            material=material,
            class_names=names,
            labels=material.dataset.labels[:, learned],
            checkpoint=Checkpoint(work / CHECKPOINT if work else None, identity),
            cache=cache,
            ranks=ranks,
            progress=progress,
        )

    @property
    def known(self) -> NDArray[np.int64]:
        """The rows of training and validation, ascending."""
        return np.sort(np.concatenate([self.material.train, self.material.validation]))

    def parts(self, width: int) -> tuple[HashHead, nn.Module]:
        """What a backbone of ``width`` features learns with, their weights drawn from torch's generator.

        A method that learns from features alone has its backbone learn the classes, and comes after it.
        """
        classes = len(self.class_names)
        if is_classical(self.config.method):
            return HashHead(width, classes), LogLoss(several=has_several(self.labels[self.material.train]))
        return new_parts(self.config, width, classes)

    def model(
        self,
        backbone: Backbone,
        learned: Learned,
        features: NDArray[np.float32],
        *,
        backbone_trained: bool = False,
    ) -> Model:
        """What was learned; ``features`` are those of the known rows."""
        dataset = self.material.dataset
        training, held = self.labelled(features)
        level = self.ranks.once(lambda: calibrated(learned.head, training, held))
        return Model(
            config=self.config,
            class_names=self.class_names,
            multi_label=dataset.multi_label,
            backbone=backbone,
            head=learned.head,
            class_vectors=learned.class_vectors,
            seen=self.material.keys[self.known],
            split=self.material.split,
            split_manifest=self.material.split_manifest,
            log=learned.log,
            problems=dataset.problems,
            backbone_trained=backbone_trained,
            level=level,
        )

    def features(
        self, backbone: Backbone, rows: NDArray[np.int64], cache: Path | None
    ) -> NDArray[np.float32]:
        """Features of images that are known to be readable, ``(len(rows), width)``.

        With a cache each process computes a share of what it lacks, and finds the others' there.
        """
        if cache is not None and self.ranks.size > 1:
            share = rows[self.ranks.rank :: self.ranks.size]
            extract(self.material.dataset.images, backbone, rows=share, cache=cache, progress=self.progress)
            self.ranks.wait()
        found = extract(
            self.material.dataset.images, backbone, rows=rows, cache=cache, progress=self.progress
        )
        if found.problems:
            row, reason, detail = found.problems[0]
            raise DataError(f"{self.material.dataset.ids[row]} changed while it was read: {reason}, {detail}")
        return found.values

    def learned_head(self, features: NDArray[np.float32]) -> Learned:
        """Learn the head on the features of the known rows."""
        known, held = self.labelled(features)
        return learn_head(
            known,
            self.config,
            held=held,
            checkpoint=self.checkpoint,
            ranks=self.ranks,
            progress=self.progress,
        )

    def labelled(self, features: NDArray[np.float32]) -> tuple[Labelled, Labelled]:
        """Training and validation images, out of the features of the known rows."""
        known, held = (
            Labelled(features[np.searchsorted(self.known, rows)], self.labels[rows])
            for rows in (self.material.train, self.material.validation)
        )
        return known, held

    def end_to_end(self, backbone: Backbone, head: HashHead, loss: nn.Module) -> tuple[Backbone, Learned]:
        """Train head and backbone on augmented images."""
        train_rows, held_rows = self.material.train, self.material.validation
        known, held = self.pixels(backbone, train_rows), self.pixels(backbone, held_rows)
        network = EndToEnd(backbone.trainable(), head, keep_statistics=backbone.pretrained)
        if backbone.pretrained:
            head.standardise(torch.from_numpy(self.features(backbone, train_rows, self.cache)))

        def validate() -> float:
            query, database = (logits_of_images(network, images) for images in (held, known))
            return map_of_logits(query, database, self.labels[held_rows], self.labels[train_rows])

        log = train(
            network,
            loss,
            ImageInputs(known, flip=self.config.flip),
            self.labels[train_rows],
            self.config if backbone.pretrained else replace(self.config, backbone_rate=1.0),
            checkpoint=self.checkpoint,
            validate=validate if len(held) and not is_classical(self.config.method) else None,
            ranks=self.ranks,
            progress=self.progress,
        )
        trained = backbone.with_weights(network.backbone.state_dict())
        return trained, Learned(head, class_vectors_of(loss, self.config.bits), log)

    def pixels(self, backbone: Backbone, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Prepared images, ``(len(rows), size, size, 3)``."""
        out = np.empty((len(rows), backbone.size, backbone.size, 3), dtype=np.uint8)
        done = 0
        for part in prepare(self.material.dataset.images, rows, backbone.preprocessing):
            out[done : done + len(part.rows)] = part.pixels
            done += len(part.rows)
            self.progress("decoding", done, len(rows), "")
        if done < len(rows):
            raise DataError(f"{len(rows) - done} images changed while they were read: run the command again")
        return out
