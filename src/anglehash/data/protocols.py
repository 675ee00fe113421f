"""The named protocols: how the images of a data set become a retrieval split.

Each is one function from a :class:`~anglehash.data.sampling.Pool` to :class:`Parts` and reads like its
definition; draws are made in the order in which they are written. A further protocol is one more function.
Their counts and reasons are in ``docs/protocols.md``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from anglehash.config import MAX_PIXELS
from anglehash.data.dataset import Dataset, refuse_problems
from anglehash.data.groups import grouped
from anglehash.data.image_hash import Keys, check_keys, readable
from anglehash.data.sampling import Pool, Rows, without
from anglehash.data.split import RetrievalSplit, held_out_columns, only_held_out, same_image
from anglehash.errors import DataError, unknown
from anglehash.progress import Progress, silent
from anglehash.registry import Registry


@dataclass(frozen=True, slots=True)
class Parts:
    """What a protocol has drawn.

    Attributes:
        dataset: the images, with the labels that count.
        query: rows to search with.
        database: rows to search in.
        training: rows to learn from, those of validation among them.
        validation: the training rows that are kept for choosing epochs and settings.
        rank_cuts: mAP is taken over this many first ranks, the headline first.
        held_out: classes kept out of training.
        drop_leaks: leave out a query that is also elsewhere; otherwise such a split is refused.
    """

    dataset: Dataset
    _: KW_ONLY
    query: Rows
    database: Rows
    training: Rows
    validation: Rows
    rank_cuts: tuple[int | None, ...] = (None,)
    held_out: tuple[str, ...] = ()
    drop_leaks: bool = True


PROTOCOLS: Registry[Callable[..., Parts]] = Registry("protocol")


def make_split(
    dataset: Dataset,
    protocol: str,
    *,
    seed: int = 0,
    keys: Keys | None = None,
    unlabelled: str = "refuse",
    allow_truncated: bool = False,
    max_pixels: int = MAX_PIXELS,
    cache: Path | None = None,
    progress: Progress = silent,
    **options: Any,
) -> RetrievalSplit:
    """Split a data set by a named protocol.

    A drawn query with the pixels of a training, validation or database image is left out and counted in
    ``dropped_queries``; protocol ``given`` is refused instead, since there the data are at fault.

    Args:
        dataset: the images; unreadable ones are skipped and noted in ``split.dataset.problems``.
        protocol: a name of :data:`PROTOCOLS`.
        seed: of the draws.
        keys: the keys of the images; computed from their pixels when not given. Where the images are not
            at hand, :func:`~anglehash.data.image_hash.id_keys` stands in.
        unlabelled: what happens to images without a label: ``refuse`` or ``skip``.
        allow_truncated: accept JPEG files whose end is missing.
        max_pixels: of an image that is decoded.
        cache: folder that remembers keys, or ``None``; see :func:`~anglehash.data.image_hash.sign`.
        progress: callback while keys are computed.
        options: the protocol's own settings; ``None`` stands for the default.

    Raises:
        ConfigError: an unknown protocol or option, or a value that it cannot have.
        DataError: the data do not have what the protocol needs.
    """
    settings = _settings(protocol, options)
    signatures = None
    if keys is None:
        dataset, keys, signatures = readable(
            dataset, allow_truncated=allow_truncated, max_pixels=max_pixels, cache=cache, progress=progress
        )
        if not len(dataset):  # there is nothing to skip to
            refuse_problems(dataset.problems, len(dataset.problems))
    else:
        keys = check_keys(keys, len(dataset))
    parts = PROTOCOLS[protocol](Pool.seeded(dataset, seed, unlabelled), **settings)
    query = parts.query
    if parts.drop_leaks:
        query = query[~same_image(keys, query, np.concatenate([parts.training, parts.database]))]
    return RetrievalSplit(
        dataset=parts.dataset,
        keys=keys,
        train=np.sort(without(parts.training, parts.validation)),
        validation=np.sort(parts.validation),
        query=np.sort(query),
        database=np.sort(parts.database),
        protocol=protocol,
        seed=seed,
        rank_cuts=parts.rank_cuts,
        dropped_queries=len(parts.query) - len(query),
        held_out=parts.held_out,
        unlabelled=unlabelled,
        options=settings,
        signatures=signatures,
    )


def _settings(protocol: str, options: dict[str, Any]) -> dict[str, Any]:
    """The protocol's options, with its defaults for those that are not given."""
    keywords = inspect.signature(PROTOCOLS[protocol]).parameters.values()
    known = {p.name: p.default for p in keywords if p.kind is inspect.Parameter.KEYWORD_ONLY}
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in known:
            raise unknown(f"option of protocol {protocol}", name, known)
    return known | given


def fit_split(dataset: Dataset, *, seed: int, unlabelled: str = "refuse") -> tuple[Rows, Rows]:
    """Training and validation rows where no protocol is named: all of the data, a tenth to validate.

    The tenth is taken class by class and leaves every class in training; a class of one image is in
    training only. Where users' data name their parts, only the training part is learned from, and a
    validation part that they name takes the place of the tenth.

    Raises:
        DataError: fewer than two classes, or unlabelled images that are to be refused.
    """
    pool = Pool.seeded(dataset, seed, unlabelled)
    named = ("train",) if dataset.brings_split else ()
    rows = pool.of_two_classes(pool.rows(*named))
    validation = pool.rows_if_any("validation") if named else rows[:0]
    if not len(validation):
        validation = pool.draw_tenth(rows)
    return without(rows, validation), validation


@PROTOCOLS.register("cifar10-I")
def cifar10_one(pool: Pool) -> Parts:
    """A class: 100 queries of the test images, 500 training images, 50 of them validation.

    All but the queries is searched.
    """
    query = pool.draw_each(pool.rows("test"), 100)
    training = pool.draw_each(pool.rows("train"), 500)
    return Parts(
        pool.dataset,
        query=query,
        database=without(pool.rows("train", "test"), query),
        training=training,
        validation=pool.draw_each(training, 50),
    )


@PROTOCOLS.register("cifar10-I-54k")
def cifar10_one_54k(pool: Pool) -> Parts:
    """The draws of ``cifar10-I``, with a database that is without the training images."""
    parts = cifar10_one(pool)
    return replace(parts, database=without(parts.database, parts.training))


@PROTOCOLS.register("cifar10-II")
def cifar10_two(pool: Pool) -> Parts:
    """All test images are queries; all training images train and are searched, 500 a class are validation."""
    training = pool.rows("train")
    return Parts(
        pool.dataset,
        query=pool.rows("test"),
        database=training,
        training=training,
        validation=pool.draw_each(training, 500),
    )


@PROTOCOLS.register("cifar10-lossless")
def cifar10_lossless(pool: Pool) -> Parts:
    """The first 4,000 training images, permuted: 2,500 train, then 1,000 are searched, then 500 query.

    The first 250 that train are validation.
    """
    rows = pool.at_least(4000, pool.rows("train")[:4000])
    if _is_jpeg(pool.dataset.images.read(int(rows[0]))):
        raise DataError(
            f"{pool.dataset.name}: these images are JPEG-coded, take the data set cifar10-lossless"
        )
    training, database, query = np.split(pool.permuted(rows), [2500, 3500])
    return Parts(pool.dataset, query=query, database=database, training=training, validation=training[:250])


def _is_jpeg(image: object) -> bool:
    return isinstance(image, bytes) and image.startswith(b"\xff\xd8")


@PROTOCOLS.register("cifar10-groups")
def cifar10_groups(pool: Pool) -> Parts:
    """The draws of ``cifar10-lossless``, labels four groups; what trains is searched too. Finer: the classes."""
    parts = cifar10_lossless(pool)
    searched = np.concatenate([parts.training, parts.database])
    return replace(parts, dataset=grouped(pool.dataset, "cifar10-groups"), database=searched)


@PROTOCOLS.register("cifar10-groups-new")
def cifar10_groups_new(pool: Pool) -> Parts:
    """The same with the 1,000 images alone as database that training has not seen."""
    parts = cifar10_lossless(pool)
    return replace(parts, dataset=grouped(pool.dataset, "cifar10-groups-new"))


@PROTOCOLS.register("nuswide-21")
def nuswide_21(pool: Pool) -> Parts:
    """The images of the 21 most frequent concepts; a concept: 100 queries, then 500 training images.

    An image without any of the 21 is left out; all but the queries is searched.
    """
    pool = pool.narrowed(pool.most_frequent_classes(21))
    query = pool.draw_each(pool.rows(), 100)
    database = without(pool.rows(), query)
    training = pool.draw_each(database, 500)
    return Parts(
        pool.dataset,
        query=query,
        database=database,
        training=training,
        validation=pool.draw_tenth(training),
        rank_cuts=(5000,),
    )


@PROTOCOLS.register("coco")
def coco(pool: Pool, *, drop_labels: Sequence[str] = ()) -> Parts:
    """Permuted: 500 queries, the rest is searched; its first 4,000 train, the first 500 of them validation.

    Dropped labels do not count; an image that keeps none is left out.
    """
    pool.rows()  # an image that had no label before any was dropped is still refused
    for name in drop_labels:
        if name not in pool.dataset.class_names:
            raise unknown("label to drop", name, pool.dataset.class_names)
    if drop_labels:
        pool = pool.narrowed([name for name in pool.dataset.class_names if name not in drop_labels])
    query, database = np.split(pool.permuted(pool.at_least(4500, pool.rows())), [500])
    training = database[:4000]
    return Parts(
        pool.dataset,
        query=query,
        database=database,
        training=training,
        validation=training[:500],
        rank_cuts=(None, 5000),
    )


@PROTOCOLS.register("coco-groups")
def coco_groups(pool: Pool) -> Parts:
    """Labels: 12 super-categories. Permuted: 5,500 are searched, 668 query; the first 3,500 train.

    The first 350 that train are validation. Finer: the 79 labels without ``person``.
    """
    rows = pool.permuted(pool.at_least(6168, pool.rows()))
    training, query = rows[:3500], rows[5500:6168]
    dataset = grouped(pool.dataset, "coco-groups")
    return Parts(dataset, query=query, database=rows[:5500], training=training, validation=training[:350])


@PROTOCOLS.register("tiny-imagenet")
def tiny_imagenet(pool: Pool) -> Parts:
    """The official validation images are queries; all training images are searched, 100 a class train.

    Of those, 10 a class are our validation part. The official test images have no label and no use here.
    """
    query, database = pool.rows("validation"), pool.rows("train")
    training = pool.draw_each(database, 100)
    return Parts(
        pool.dataset,
        query=query,
        database=database,
        training=training,
        validation=pool.draw_each(training, 10),
        rank_cuts=(1000, None),
    )


@PROTOCOLS.register("tiny-imagenet-groups")
def tiny_imagenet_groups(pool: Pool) -> Parts:
    """Labels: 23 groups. A class: 5 queries of the validation images, 70 of the training images are searched.

    Of those 30 a class train, 3 of them validation. Finer: the 200 classes.
    """
    query = pool.draw_each(pool.rows("validation"), 5)
    database = pool.draw_each(pool.rows("train"), 70)
    training = pool.draw_each(database, 30)
    dataset, validation = grouped(pool.dataset, "tiny-imagenet-groups"), pool.draw_each(training, 3)
    return Parts(dataset, query=query, database=database, training=training, validation=validation)


@PROTOCOLS.register("holdout")
def holdout(pool: Pool) -> Parts:
    """A tenth of each class are queries; the rest is searched and trains, a tenth of it as validation."""
    rows = pool.of_two_classes(pool.rows())
    query = pool.draw_tenth(rows)
    if not len(query):
        raise DataError(
            f"{pool.dataset.name}: no image can be spared for a query, which needs another image of its "
            "class to find: add images, so that some class has two"
        )
    database = without(rows, query)
    return Parts(
        pool.dataset,
        query=query,
        database=database,
        training=database,
        validation=pool.draw_tenth(database),
    )


@PROTOCOLS.register("given")
def given(pool: Pool) -> Parts:
    """The parts that the data name; where they name ``test``, its images query the training images.

    Without a validation part, a tenth of the training part is validation. Without a training part nothing
    trains, and the split evaluates a finished model.
    """
    pool.refuse_partless()
    query = pool.rows("query", "test")
    train, validation = pool.rows_if_any("train"), pool.rows_if_any("validation")
    if len(train) and not len(validation):
        validation = pool.draw_tenth(pool.of_two_classes(train))
    training = np.union1d(train, validation)
    official_pair = "test" in pool.part_names() and "database" not in pool.part_names()
    return Parts(
        pool.dataset,
        query=query,
        database=training if official_pair else pool.rows("database"),
        training=training,
        validation=validation,
        drop_leaks=False,
    )


@PROTOCOLS.register("unseen")
def unseen(pool: Pool, *, draw: int = 0, unseen: int | None = None) -> Parts:
    """Classes kept out of training; a tenth of their images are queries among the others of them.

    ``unseen`` is their number, by default a quarter of the classes, rounded up; ``draw``, 0 to 4, is one of
    five different sets of them. All other images train, a tenth of them as validation. An image with an
    unseen class is retrieved by its unseen classes only.
    """
    held_out = pool.draw_classes(unseen, draw)
    pool = replace(pool, dataset=only_held_out(pool.dataset, held_out))
    rows = pool.rows()
    apart = pool.dataset.labels[rows][:, held_out_columns(pool.dataset, held_out)].any(axis=1)
    query, training = pool.draw_tenth(rows[apart]), pool.of_two_classes(rows[~apart])
    return Parts(
        pool.dataset,
        query=query,
        database=without(rows[apart], query),
        training=training,
        validation=pool.draw_tenth(training),
        held_out=held_out,
    )
