"""From labelled features to a head: the half of a run that needs no image.

``fit`` uses it on the cached features of a frozen backbone, and so does the benchmark, which trains many
heads on the same features.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from anglehash.codes import pack
from anglehash.config import TrainConfig
from anglehash.evaluation.ranking import average_precision_of_codes
from anglehash.methods.catalogue import is_classical
from anglehash.methods.classical import CLASSICAL
from anglehash.methods.likeness import with_likeness
from anglehash.methods.losses import LOSSES
from anglehash.models.heads.ensemble import ensemble_of
from anglehash.models.heads.hash_head import HashHead, logits_of
from anglehash.progress import Progress, silent
from anglehash.training.checkpoint import Checkpoint
from anglehash.training.distributed import ALONE, Ranks
from anglehash.training.loop import FeatureInputs, train


class Labelled(NamedTuple):
    """Images as a head sees them.

    Attributes:
        features: ``(n, width)`` float32.
        labels: ``(n, classes)`` bool, multi-hot.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.bool_]


class Learned(NamedTuple):
    """What was learned.

    Attributes:
        head: features to logits, in evaluation mode.
        class_vectors: ``(classes, bits)`` float32 of the loss; empty where a method has none.
        log: one record an epoch; a single one of a conventional method.
    """

    head: nn.Module
    class_vectors: NDArray[np.float32]
    log: list[dict[str, Any]]


def learn_head(
    known: Labelled,
    config: TrainConfig,
    *,
    held: Labelled | None = None,
    checkpoint: Checkpoint | None = None,
    ranks: Ranks = ALONE,
    progress: Progress = silent,
) -> Learned:
    """Learn a head from the features of the training images.

    Args:
        known: the training images.
        config: the settings, settled (:func:`~anglehash.methods.catalogue.settled`).
        held: validation images, whose mAP as queries among the training images is logged; may be empty.
        checkpoint: where epochs are kept; nowhere by default, nor with several networks.
        ranks: the processes that share each batch; a conventional method is learned by the first of them.
        progress: callback.

    Raises:
        TrainingError: the loss is not finite, or the checkpoint is of another run.
        ConfigError, DataError: a setting or the labels do not suit the method.
    """
    held = held if held is not None and len(held.labels) else None
    kept = checkpoint if checkpoint and config.networks == 1 else Checkpoint(None, {})

    def one(config: TrainConfig) -> Learned:
        if is_classical(config.method):
            return ranks.once(lambda: _conventional(known, config, held, progress))
        return _deep(known, config, held, kept, ranks, progress)

    every = [one(replace(config, seed=seed)) for seed in seeds_of(config)]
    return ranks.once(lambda: add_likeness(joined(every, known, config, held), known, config, held))


def seeds_of(config: TrainConfig) -> list[int]:
    """The seed of each network; runs of neighbouring seeds share none.

    >>> seeds_of(TrainConfig(seed=1)), seeds_of(TrainConfig(seed=1, networks=3))
    ([1], [3, 4, 5])
    """
    return [(config.seed * config.networks + network) % 2**31 for network in range(config.networks)]


def joined(every: list[Learned], known: Labelled, config: TrainConfig, held: Labelled | None) -> Learned:
    """Several networks as one (:mod:`anglehash.models.heads.ensemble`); the first one's log, with the mAP of all."""
    first = every[0]
    if len(every) == 1:
        return first
    head = ensemble_of([learned.head for learned in every], known.features)
    vectors = head.of_logits([torch.from_numpy(learned.class_vectors) for learned in every]).numpy()
    return _around(first, head, vectors, known, None if config.likeness else held)


def add_likeness(learned: Learned, known: Labelled, config: TrainConfig, held: Labelled | None) -> Learned:
    """What was learned, with likeness where the settings ask for it; the log ends with the final code's mAP."""
    if not config.likeness:
        return learned
    head = with_likeness(learned.head, known.features, known.labels, config.likeness, seed=config.seed)
    vectors = head.of_logits(torch.from_numpy(learned.class_vectors)).numpy()
    return _around(learned, head, vectors, known, held)


def _around(
    learned: Learned, head: nn.Module, vectors: NDArray[np.float32], known: Labelled, held: Labelled | None
) -> Learned:
    """The same with another head around it; the log ends with the mAP of its codes, where images are held."""
    last = dict(learned.log[-1])
    if held is not None and len(held.labels):
        last["validation_map"] = map_among(head, held, known)
    return Learned(head, vectors, [*learned.log[:-1], last])


def _deep(
    known: Labelled,
    config: TrainConfig,
    held: Labelled | None,
    checkpoint: Checkpoint,
    ranks: Ranks,
    progress: Progress,
) -> Learned:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        head, loss = new_parts(config, known.features.shape[1], known.labels.shape[1])
    head.standardise(torch.from_numpy(known.features))

    def validate() -> float:
        assert held is not None
        return map_among(head, held, known)

    log = train(
        head,
        loss,
        FeatureInputs(known.features),
        known.labels,
        config,
        checkpoint=checkpoint,
        validate=validate if held else None,
        ranks=ranks,
        progress=progress,
    )
    return Learned(head.eval(), class_vectors_of(loss, config.bits), log)


def new_parts(config: TrainConfig, width: int, classes: int) -> tuple[HashHead, nn.Module]:
    """A head and a loss, their weights drawn from torch's global generator."""
    head = HashHead(
        width,
        config.bits,
        hidden=config.hidden or 0,
        batch_norm=bool(config.batch_norm),
        dropout=config.dropout or 0.0,
    )
    return head, LOSSES[config.method](config.bits, classes, **config.loss)


def class_vectors_of(loss: nn.Module, bits: int) -> NDArray[np.float32]:
    """The class vectors of a loss, ``(classes, bits)``; no row where it has none."""
    vectors = getattr(loss, "weight", torch.zeros(0, bits))
    return np.asarray(vectors.detach().float().cpu().numpy())


def map_among(head: nn.Module, query: Labelled, database: Labelled) -> float:
    """The mAP of the codes of some images among those of others, over all ranks, exact under ties."""
    own, others = logits_of(head, query.features), logits_of(head, database.features)
    return map_of_logits(own, others, query.labels, database.labels)


def map_of_logits(
    query: NDArray[np.float32],
    database: NDArray[np.float32],
    query_labels: NDArray[np.bool_],
    database_labels: NDArray[np.bool_],
) -> float:
    """The same of logits, ``(n, bits)``."""
    scores = average_precision_of_codes(
        pack(query), pack(database), query_labels, database_labels, bits=query.shape[1]
    )
    return float(scores.mean())


def _conventional(known: Labelled, config: TrainConfig, held: Labelled | None, progress: Progress) -> Learned:
    started = time.perf_counter()
    head = CLASSICAL[config.method](
        known.features, known.labels, config.bits, seed=config.seed, progress=progress, **config.loss
    ).eval()
    record: dict[str, Any] = {"epoch": 1, "seconds": round(time.perf_counter() - started, 3)}
    if held:
        record["validation_map"] = map_among(head, held, known)
    return Learned(head, np.zeros((0, config.bits), dtype=np.float32), [record])
