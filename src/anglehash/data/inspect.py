"""What a data set holds, and what about it will hurt: the report of ``anglehash check``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.config import MAX_PIXELS
from anglehash.data.dataset import Dataset
from anglehash.data.image_hash import Keys, as_items, readable
from anglehash.data.labels import look_alike, looks_missing
from anglehash.data.perceptual_hash import Signatures, across_parts, series_line
from anglehash.data.protocols import fit_split, make_split
from anglehash.data.sources.folders import outside_line
from anglehash.errors import DataError
from anglehash.progress import Progress, silent

TINY_CLASS = 10
"""A class with fewer images gives no query part that could be trusted."""

SHOWN = 20
"""How many of a kind are listed; the counts are of all."""

_PAIRED = 4_000  # most images that are paired: their matrix takes 64 MB


def check(
    dataset: Dataset, *, max_pixels: int = MAX_PIXELS, cache: Path | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Decode every image and count what a user should know before training.

    Args:
        dataset: the listed images.
        max_pixels: of an image that is decoded.
        cache: see :func:`~anglehash.data.image_hash.sign`.
        progress: callback.

    Returns:
        JSON values: ``name``, ``images`` (readable ones), ``classes``, ``per_class`` and ``per_part``
        counts, ``tiny_classes``, ``finer`` (classes of the finer label, images without one; ``None`` without
        such a label), ``unlabelled``, ``problems`` (skipped files by reason), ``duplicates`` (images with the
        same pixels), ``near_copies`` (validation images, as ``train`` draws them, that have one in the training
        part; ``None`` where none can be drawn), ``labels_per_image``, ``relevant_pairs`` (the share of image
        pairs with a label in common: about the mAP of a random ranking), ``facts`` of the set and ``warnings``,
        one sentence each.
    """
    images, keys, signatures = readable(dataset, max_pixels=max_pixels, cache=cache, progress=progress)
    per_class = _per_class(images)
    found: dict[str, Any] = {
        "name": images.name,
        "images": len(images),
        "classes": sum(counts["images"] > 0 for counts in per_class.values()),
        "per_class": per_class,
        "per_part": _per_part(images),
        "tiny_classes": {
            name: counts["images"] for name, counts in per_class.items() if counts["images"] < TINY_CLASS
        },
        "finer": _finer(images),
        "unlabelled": {"images": len(images.unlabelled), "first": _ids(images, images.unlabelled)},
        "problems": {
            "images": len(images.problems),
            "reasons": dict(sorted(Counter(p.reason for p in images.problems).items())),
            "first": [p._asdict() for p in images.problems[:SHOWN]],
        },
        "duplicates": _duplicates(images, keys),
        "near_copies": _near_copies(images, signatures),
        "labels_per_image": _labels_per_image(images.labels),
        "relevant_pairs": _relevant_pairs(images.labels),
        "facts": images.facts,
    }
    return found | {
        "warnings": [
            *_of_classes(found, images),
            *_of_names(images),
            *_of_images(found),
            *_of_listing(images.facts),
            *_of_split(images, keys),
            *filter(None, [series_line(found["near_copies"], "validation images", "the training part")]),
        ]
    }


def _finer(images: Dataset) -> dict[str, int] | None:
    if images.finer is None:
        return None
    return {
        "classes": int(images.finer.any(axis=0).sum()),
        "without": int((~images.finer.any(axis=1)).sum()),
    }


def _parts(images: Dataset) -> NDArray[np.str_]:
    return np.where(images.parts == "", "no part", images.parts)


def _per_part(images: Dataset) -> dict[str, int]:
    """Images of each part; nothing where the data name no part at all."""
    counts = dict(sorted(Counter(_parts(images).tolist()).items()))
    return {} if counts.keys() <= {"no part"} else counts


def _per_class(images: Dataset) -> dict[str, dict[str, int]]:
    totals = images.labels.sum(axis=0)
    by_part = {part: images.labels[_parts(images) == part].sum(axis=0) for part in _per_part(images)}
    return {
        name: {"images": int(totals[c])} | {part: int(sums[c]) for part, sums in by_part.items()}
        for c, name in enumerate(images.class_names)
    }


def _ids(images: Dataset, rows: NDArray[np.int64]) -> list[str]:
    return [images.ids[row] for row in rows[:SHOWN]]


def _labels_per_image(labels: NDArray[np.bool_]) -> dict[str, Any]:
    each = labels.sum(axis=1)
    return {
        "several": int((each > 1).sum()),
        "mean": round(float(each.mean()), 3) if len(each) else 0.0,
        "max": int(each.max(initial=0)),
    }


def _relevant_pairs(labels: NDArray[np.bool_]) -> float | None:
    """The share of pairs of different images with a label in common; among some drawn images if many."""
    some = labels[np.random.default_rng(0).permutation(len(labels))[:_PAIRED]].astype(np.float32)
    if len(some) < 2:
        return None
    relevant = (some @ some.T) > 0
    pairs = len(some) * (len(some) - 1)
    return round(float((relevant.sum() - relevant.trace()) / pairs), 4)


def _duplicates(images: Dataset, keys: Keys) -> dict[str, Any]:
    """Groups of images with the same pixels: by the parts they are in, and those whose labels differ."""
    groups = _same(keys)
    parts = [sorted(set(_parts(images)[g].tolist())) for g in groups]
    across = [g for g, names in zip(groups, parts, strict=True) if len(names) > 1]
    conflicts = [g for g in groups if _differ(images.labels[g])]
    return {
        "groups": len(groups),
        "images": sum(map(len, groups)),
        "by_parts": dict(sorted(Counter(map(" + ".join, parts)).items())),
        "across_parts": len(across),
        "conflicting_labels": len(conflicts),
        "first": [_ids(images, g) for g in groups[:SHOWN]],
        "first_across_parts": [_ids(images, g) for g in across[:SHOWN]],
        "first_conflicting": [_ids(images, g) for g in conflicts[:SHOWN]],
    }


def _near_copies(images: Dataset, signatures: Signatures) -> dict[str, Any] | None:
    """Near copies across the parts that ``train`` would take."""
    try:
        train, validation = fit_split(images, seed=0, unlabelled="skip")
    except DataError:
        return None  # the warnings say why nothing can be learned
    return across_parts(signatures, validation, train, images.ids)


def _differ(labels: NDArray[np.bool_]) -> bool:
    """Whether two images have other labels; an image without any contradicts nobody."""
    known = labels[labels.any(axis=1)]
    return bool((known != known[:1]).any())


def _same(keys: Keys) -> list[NDArray[np.int64]]:
    """The rows of each key that several images share, by first row."""
    _, key, count = np.unique(as_items(keys), return_inverse=True, return_counts=True)
    rows = np.flatnonzero(count[key] > 1)
    rows = rows[np.argsort(key[rows], kind="stable")]
    groups = np.split(rows, np.flatnonzero(np.diff(key[rows])) + 1)
    return sorted((g for g in groups if len(g)), key=lambda g: int(g[0]))


def _of_classes(progress: dict[str, Any], images: Dataset) -> Iterator[str]:
    sizes = {name: counts["images"] for name, counts in progress["per_class"].items()}
    kinds = {
        "no readable image": [*images.facts.get("empty_classes", ()), *_with(sizes, range(1))],
        "a single image, which trains and is searched but is never a query": _with(sizes, range(1, 2)),
        f"only 2 to {TINY_CLASS - 1} images, so scores on it are unsure": _with(sizes, range(2, TINY_CLASS)),
    }
    for what, names in kinds.items():
        if names:
            yield f"{len(names)} of {len(sizes)} classes: {what} (first: {names[0]})."


def _of_names(images: Dataset) -> Iterator[str]:
    """Classes that a reader takes for one, and such as are no class."""
    groups: dict[str, list[str]] = {}
    for name in images.class_names:
        groups.setdefault(look_alike(name), []).append(name)
    for names in groups.values():
        if len(names) > 1:
            same = (
                "stand for the same number"
                if len(set(map(str.casefold, names))) > 1 and _is_number(names[0])
                else "look equal"
            )
            yield f"the classes {' and '.join(map(repr, names))} {same}: they count as {len(names)} classes."
    for name in filter(looks_missing, images.class_names):
        yield f"the class {name!r} looks like a missing label: leave the cell empty where there is none."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _with(sizes: dict[str, int], wanted: range) -> list[str]:
    return [name for name, size in sizes.items() if size in wanted]


def _of_images(progress: dict[str, Any]) -> Iterator[str]:
    doubles, unlabelled, problems = progress["duplicates"], progress["unlabelled"], progress["problems"]
    if problems["images"]:
        first = problems["first"][0]
        yield f"{problems['images']} files are skipped (first: {first['id']}: {first['reason']})."
    if unlabelled["images"]:
        yield (
            f"{unlabelled['images']} images have no label (first: {unlabelled['first'][0]}): they stop a "
            "training run unless asked to skip them."
        )
    if doubles["groups"]:
        yield (
            f"{doubles['images']} images in {doubles['groups']} groups have the same pixels "
            f"(first: {' = '.join(doubles['first'][0])}), {doubles['across_parts']} groups in several parts."
        )
    if doubles["conflicting_labels"]:
        yield (
            f"{doubles['conflicting_labels']} groups of images with the same pixels have different labels "
            f"(first: {' = '.join(doubles['first_conflicting'][0])})."
        )


def _of_listing(facts: Mapping[str, Any]) -> Iterator[str]:
    """What the folder or table holds that was not taken."""
    if columns := facts.get("ignored_columns"):
        yield f"{len(columns)} columns of the table are not used: {', '.join(columns[:SHOWN])}."
    if repeated := facts.get("repeated_lines"):
        yield f"{repeated} lines of the table repeat another and count once."
    if unlisted := facts.get("unlisted_images"):
        yield f"{unlisted} images lie beside the listed ones and are not used."
    if excluded := facts.get("excluded"):
        yield f"{excluded} files or folders are left out by --exclude."
    if outside := facts.get("links_outside"):
        yield outside_line(outside)
    if ignored := facts.get("ignored_files"):
        yield f"{ignored} other files were passed over."


def _of_split(images: Dataset, keys: Keys) -> Iterator[str]:
    """What would happen to these data under the split they bring, or else under ``holdout``."""
    searched = images.brings_split and bool(np.isin(images.parts, ("query", "test", "database")).any())
    protocol = "given" if searched else "holdout"
    try:
        split = make_split(images, protocol, keys=keys, unlabelled="skip")
    except DataError as error:
        yield f"Protocol {protocol} is refused: {error}."
        return
    if split.dropped_queries:
        yield f"Protocol {protocol} leaves out {split.dropped_queries} queries, copies of images elsewhere."
    labels = split.dataset.labels
    lonely = labels[split.query].any(axis=0) & ~labels[split.database].any(axis=0)
    if lonely.any():
        first = images.class_names[int(lonely.argmax())]
        yield f"{lonely.sum()} classes have queries but no database image (first: {first}): they score 0."
