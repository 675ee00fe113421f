from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from anglehash.data.dataset import PARTS, Dataset, Encoded
from anglehash.data.image_hash import id_keys
from anglehash.data.protocols import PROTOCOLS, fit_split, make_split
from anglehash.data.sources.open import open_dataset
from anglehash.data.split import RetrievalSplit
from anglehash.errors import ConfigError, DataError

Make = Callable[..., Dataset]


def by_ids(dataset: Dataset, protocol: str, **options: Any) -> RetrievalSplit:
    return make_split(dataset, protocol, keys=id_keys(dataset.ids), **options)


def per_class(split: RetrievalSplit, part: str) -> list[int]:
    counts: list[int] = split.dataset.labels[split.part(part)].sum(axis=0).tolist()
    return counts


CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# -- CIFAR-10 ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cifar(synthetic: Make) -> Dataset:
    labels = np.concatenate([np.arange(50_000) % 10, np.arange(10_000) % 10])
    return synthetic(labels, parts=["train"] * 50_000 + ["test"] * 10_000, class_names=CIFAR)


@pytest.mark.parametrize("protocol", ["cifar10-I", "cifar10-I-54k"])
def test_protocol_one_draws_100_queries_and_500_training_images_a_class(
    cifar: Dataset, protocol: str
) -> None:
    split = by_ids(cifar, protocol)
    assert per_class(split, "query") == [100] * 10
    assert per_class(split, "train") == [450] * 10
    assert per_class(split, "validation") == [50] * 10
    assert (split.query >= 50_000).all()
    assert (np.concatenate([split.train, split.validation]) < 50_000).all()
    everything = np.concatenate([split.query, split.database])
    if protocol == "cifar10-I":
        assert sorted(everything) == list(range(60_000))
        assert np.isin([*split.train, *split.validation], split.database).all()
    else:
        assert len(split.database) == 54_000
        assert sorted([*everything, *split.train, *split.validation]) == list(range(60_000))
    assert split.rank_cuts == (None,)


def test_both_forms_of_protocol_one_make_the_same_draws(cifar: Dataset) -> None:
    one, smaller = by_ids(cifar, "cifar10-I", seed=2), by_ids(cifar, "cifar10-I-54k", seed=2)
    for part in ("query", "train", "validation"):
        assert one.part(part).tolist() == smaller.part(part).tolist()


def test_protocol_two_takes_the_official_parts_whole(cifar: Dataset) -> None:
    split = by_ids(cifar, "cifar10-II")
    assert split.query.tolist() == list(range(50_000, 60_000))
    assert split.database.tolist() == list(range(50_000))
    assert per_class(split, "validation") == [500] * 10
    assert sorted([*split.train, *split.validation]) == list(range(50_000))


def test_the_lossless_protocol_cuts_one_permutation(synthetic: Make) -> None:
    split = by_ids(synthetic(np.arange(4000) % 10, parts=["train"] * 4000), "cifar10-lossless", seed=1)
    order = np.random.default_rng(1).permutation(4000)
    assert split.validation.tolist() == sorted(order[:250])
    assert split.train.tolist() == sorted(order[250:2500])
    assert split.database.tolist() == sorted(order[2500:3500])
    assert split.query.tolist() == sorted(order[3500:])


def test_the_lossless_protocol_refuses_jpeg_and_too_few(synthetic: Make) -> None:
    few = synthetic(np.arange(3999) % 10, parts=["train"] * 3999)
    with pytest.raises(DataError, match="needs 4,000 images, got 3,999"):
        by_ids(few, "cifar10-lossless")
    coded = synthetic(np.arange(4000) % 10, parts=["train"] * 4000)
    with pytest.raises(DataError, match="take the data set cifar10-lossless"):
        by_ids(replace(coded, images=Encoded([b"\xff\xd8\xff"] * 4000)), "cifar10-lossless")


def test_the_groups_of_cifar10_have_the_draws_of_the_lossless_protocol(
    synthetic: Make, tmp_path: Path
) -> None:
    dataset = synthetic(np.arange(4000) % 10, parts=["train"] * 4000, class_names=CIFAR)
    plain = by_ids(dataset, "cifar10-lossless", seed=1)
    new, whole = (by_ids(dataset, name, seed=1) for name in ("cifar10-groups-new", "cifar10-groups"))
    for split in (new, whole):
        for part in ("train", "validation", "query"):
            assert np.array_equal(split.part(part), plain.part(part))
        assert split.dataset.class_names == ("craft", "road", "wild", "pet")
        assert split.dataset.labels.sum(axis=1).tolist() == [1] * 4000
        # airplane, automobile, bird, cat, deer, dog
        assert split.dataset.labels[:6].argmax(axis=1).tolist() == [0, 1, 2, 3, 2, 3]
        assert split.dataset.finer_names == CIFAR
        assert split.dataset.finer is not None
        assert np.array_equal(split.dataset.finer, dataset.labels)
    assert np.array_equal(new.database, plain.database)
    assert whole.database.tolist() == sorted([*plain.train, *plain.validation, *plain.database])
    whole.save(tmp_path / "split.json")
    again = RetrievalSplit.load(tmp_path / "split.json", dataset, keys=whole.keys)
    assert again.hash == whole.hash
    assert again.dataset.finer_names == CIFAR
    with pytest.raises(DataError, match=r"cifar10-groups needs the classes of cifar10, but .* \(first: c0\)"):
        by_ids(synthetic(np.arange(4000) % 10, parts=["train"] * 4000), "cifar10-groups")


# -- NUS-WIDE, COCO, Tiny-ImageNet ---------------------------------------------------------------------


@pytest.fixture
def nuswide(tmp_path: Path) -> Dataset:
    """The official layout, generated: 25,000 images, 81 concepts, of which 60 are rare.

    Each image has one concept and often a second one; 500 have rare ones only.
    """
    rng = np.random.default_rng(0)
    concepts = np.concatenate([np.arange(500) % 60, 60 + rng.integers(0, 21, 24_500)])
    hot = np.zeros((25_000, 81), dtype=np.bool_)
    hot[np.arange(25_000), concepts] = True
    hot[rng.permutation(np.arange(500, 25_000))[:10_000], rng.integers(0, 81, 10_000)] = True
    lists, labels = tmp_path / "ImageList", tmp_path / "Groundtruth" / "AllLabels"
    lists.mkdir(parents=True)
    labels.mkdir(parents=True)
    (lists / "Imagelist.txt").write_text("".join(f"sky\\\\{row:05d}.jpg\n" for row in range(25_000)))
    for c, shown in enumerate(hot.T):
        flags = np.full((25_000, 2), ord("\n"), dtype=np.uint8)
        flags[:, 0] = shown + ord("0")
        (labels / f"Labels_concept{c:02d}.txt").write_bytes(flags.tobytes())
    return open_dataset("nuswide", root=tmp_path)


def test_nuswide_draws_100_and_500_a_concept_of_the_21_most_frequent(nuswide: Dataset) -> None:
    split = by_ids(nuswide, "nuswide-21")
    assert split.dataset.class_names == tuple(f"concept{c}" for c in range(60, 81))
    assert split.sizes["query"] == 2_100
    assert split.sizes["train"] + split.sizes["validation"] == 10_500
    assert abs(split.sizes["validation"] - 1_050) <= 21  # a tenth, rounded by concept
    assert split.sizes["database"] == 24_500 - 2_100
    assert min(per_class(split, "query")) >= 100
    assert np.isin([*split.train, *split.validation], split.database).all()
    assert split.rank_cuts == (5000,)


def test_nuswide_leaves_out_images_without_a_frequent_concept(synthetic: Make) -> None:
    hot = np.zeros((16_030, 24), dtype=np.bool_)
    hot[np.arange(16_030), np.concatenate([np.arange(30) % 3, 3 + np.arange(16_000) % 21])] = True
    split = by_ids(synthetic(hot), "nuswide-21")
    assert split.dataset.class_names == tuple(f"c{c}" for c in range(3, 24))
    assert sorted([*split.query, *split.database]) == list(range(30, 16_030))
    assert per_class(split, "query") == [100] * 21


def test_coco_cuts_one_permutation(synthetic: Make) -> None:
    split = by_ids(synthetic(np.arange(6168) % 7), "coco", seed=3)
    order = np.random.default_rng(3).permutation(6168)
    assert split.query.tolist() == sorted(order[:500])
    assert split.database.tolist() == sorted(order[500:])
    assert split.validation.tolist() == sorted(order[500:1000])
    assert split.train.tolist() == sorted(order[1000:4500])
    assert split.rank_cuts == (None, 5000)


def test_coco_leaves_out_what_keeps_no_label(synthetic: Make) -> None:
    hot = np.zeros((5000, 3), dtype=np.bool_)
    hot[:, 1] = True
    hot[np.arange(4990), np.arange(4990) % 2 * 2] = True  # the last 10 have the second label alone
    dataset = synthetic(hot, class_names=["cat", "person", "dog"])
    split = by_ids(dataset, "coco", drop_labels=("person",))
    assert split.dataset.class_names == ("cat", "dog")
    assert sorted([*split.query, *split.database]) == list(range(4990))
    assert split.options == {"drop_labels": ("person",)}
    with pytest.raises(ConfigError, match="unknown label to drop 'persn'; did you mean 'person'"):
        by_ids(dataset, "coco", drop_labels=("persn",))


def test_coco_still_refuses_an_image_that_never_had_a_label(synthetic: Make) -> None:
    dataset = synthetic([-1] + [0, 1, 2] * 2000)
    with pytest.raises(DataError, match="1 of 6001 images of synthetic have no label"):
        by_ids(dataset, "coco", drop_labels=("c0",))


def test_tiny_imagenet_trains_on_100_a_class_and_never_looks_at_the_unlabelled_test_images(
    synthetic: Make,
) -> None:
    labels = [*np.repeat(np.arange(20), 150), *np.repeat(np.arange(20), 10), *[-1] * 30]
    split = by_ids(
        synthetic(labels, parts=["train"] * 3000 + ["validation"] * 200 + ["test"] * 30), "tiny-imagenet"
    )
    assert split.query.tolist() == list(range(3000, 3200))
    assert split.database.tolist() == list(range(3000))
    assert per_class(split, "train") == [90] * 20
    assert per_class(split, "validation") == [10] * 20
    assert split.rank_cuts == (1000, None)


# -- holdout, given, unseen ----------------------------------------------------------------------------

LABELS = arrays(np.bool_, st.tuples(st.integers(4, 60), st.integers(2, 5))).filter(
    lambda hot: (hot.sum(axis=0) >= 2).sum() >= 2
)


@given(LABELS, st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_holdout_is_disjoint_and_complete_and_keeps_every_class_in_training(
    synthetic: Make, hot: NDArray[np.bool_], seed: int
) -> None:
    labelled = np.flatnonzero(hot.any(axis=1)).tolist()
    try:
        split = by_ids(synthetic(hot), "holdout", seed=seed, unlabelled="skip")
    except DataError:  # so few images of several labels each that none can be spared for a query
        reject()
    assert sorted([*split.query, *split.database]) == labelled
    assert sorted([*split.train, *split.validation]) == split.database.tolist()
    present = hot.any(axis=0)
    assert (hot[split.train].any(axis=0) == present).all()
    assert hot[split.database][:, hot[split.query].any(axis=0)].any(axis=0).all()  # every query has an answer


@given(LABELS, st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_fit_split_is_disjoint_and_complete_and_keeps_every_class_in_training(
    synthetic: Make, hot: NDArray[np.bool_], seed: int
) -> None:
    train, validation = fit_split(synthetic(hot), seed=seed, unlabelled="skip")
    assert sorted([*train, *validation]) == np.flatnonzero(hot.any(axis=1)).tolist()
    assert (hot[train].any(axis=0) == hot.any(axis=0)).all()


def test_holdout_takes_a_tenth_of_each_class(synthetic: Make) -> None:
    split = by_ids(synthetic(np.repeat([0, 1, 2, 3], [300, 20, 3, 1])), "holdout")
    assert per_class(split, "query") == [30, 2, 1, 0]
    assert per_class(split, "database") == [270, 18, 2, 1]
    assert per_class(split, "validation") == [27, 2, 1, 0]
    assert per_class(split, "train") == [243, 16, 1, 1]


@pytest.mark.parametrize(("labels", "message"), [
    ([0] * 50, r"all of 50 images to learn from are of 1 class \(c0\): add others"),
    (range(20), "no image can be spared for a query"),
    ([-1] * 5, "no labelled image at all"),
])  # fmt: skip
def test_holdout_explains_what_it_cannot_split(synthetic: Make, labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        by_ids(synthetic(labels), "holdout", unlabelled="skip")


def test_fit_split_refuses_one_class_and_unlabelled_images(synthetic: Make) -> None:
    with pytest.raises(DataError, match="are of 1 class"):
        fit_split(synthetic([0, 0, 0]), seed=0)
    with pytest.raises(DataError, match="1 of 3 images of synthetic have no label"):
        fit_split(synthetic([0, 1, -1]), seed=0)


def test_a_split_tells_that_unlabelled_images_were_skipped(synthetic: Make) -> None:
    split = by_ids(synthetic([0, 1, -1, 0, 1]), "holdout", unlabelled="skip")
    assert split.unlabelled == "skip"
    assert not any(2 in split.part(part) for part in PARTS)


def test_given_takes_the_parts_as_they_are(synthetic: Make) -> None:
    parts = ["train", "validation", "query", "database", "database", "train"]
    split = by_ids(synthetic([0, 1, 0, 1, 0, 1], parts=parts), "given")
    assert {name: split.part(name).tolist() for name in PARTS} == {
        "train": [0, 5],
        "validation": [1],
        "query": [2],
        "database": [3, 4],
    }


def test_given_takes_a_tenth_of_training_where_no_validation_is_given(synthetic: Make) -> None:
    parts = ["train"] * 40 + ["query"] * 10 + ["database"] * 10
    split = by_ids(synthetic([0, 1] * 30, parts=parts), "given")
    assert per_class(split, "validation") == [2, 2]
    assert sorted([*split.train, *split.validation]) == list(range(40))


def test_given_searches_the_training_images_of_an_official_pair(synthetic: Make) -> None:
    split = by_ids(synthetic([0, 1] * 30, parts=["train"] * 40 + ["test"] * 20), "given")
    assert split.query.tolist() == list(range(40, 60))
    assert split.database.tolist() == list(range(40))


def test_given_without_training_images_evaluates_a_finished_model(synthetic: Make) -> None:
    split = by_ids(synthetic([0, 0, 1], parts=["query", "database", "database"]), "given")
    assert split.sizes == {"train": 0, "validation": 0, "query": 1, "database": 2}


@pytest.mark.parametrize(("parts", "message"), [
    (["train", "train", "query", ""], r"1 of 4 images name no part \(first: 000003\.png\)"),
    (["train", "train", "query", "query"], r"in part database; its parts are \['query', 'train'\]"),
    (["train", "train", "database", "database"], "in part query or test"),
])  # fmt: skip
def test_given_explains_a_missing_part(synthetic: Make, parts: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        by_ids(synthetic([0, 1, 0, 1], parts=parts), "given")


def test_unseen_classes_do_not_train_and_are_retrieved_among_themselves(synthetic: Make) -> None:
    dataset = synthetic(np.arange(1000) % 10)
    splits = [by_ids(dataset, "unseen", draw=draw) for draw in range(5)]
    assert len({split.held_out for split in splits}) == 5
    for split in splits:
        assert len(split.held_out) == 3
        held_out = np.isin(dataset.class_names, split.held_out)
        for part, wanted in (("query", 10), ("database", 90)):
            assert per_class(split, part) == np.where(held_out, wanted, 0).tolist()
        for part, wanted in (("validation", 10), ("train", 90)):
            assert per_class(split, part) == np.where(held_out, 0, wanted).tolist()


def test_unseen_labels_hide_the_seen_ones_of_the_same_image(synthetic: Make) -> None:
    hot = np.zeros((400, 8), dtype=np.bool_)
    hot[:, 0] = np.arange(400) % 2 == 0
    hot[np.arange(400), 1 + np.arange(400) % 7] = True
    split = by_ids(synthetic(hot), "unseen", unseen=2, draw=1)
    held_out = np.isin(split.dataset.class_names, split.held_out)
    searched = split.dataset.labels[np.concatenate([split.query, split.database])]
    assert not searched[:, ~held_out].any()
    assert not split.dataset.labels[np.concatenate([split.train, split.validation])][:, held_out].any()


# -- what all of them promise --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def any_data(synthetic: Make, cifar: Dataset) -> Callable[[str], Dataset]:
    """A data set that suits the protocol of this name."""
    parts = ["train"] * 6000 + ["validation"] * 500 + ["query"] * 300 + ["database"] * 300
    small = synthetic(np.arange(7100) % 10, parts=parts)
    tables = json.loads((files("anglehash.data") / "groups.json").read_text())
    coco = [name for members in tables["coco"].values() for name in members]
    tiny = synthetic(np.arange(3000) % 30, parts=["train"] * 2400 + ["validation"] * 600)
    others = {
        "nuswide-21": synthetic(np.arange(16_000) % 22),
        "coco-groups": synthetic(np.arange(6500) % 80, class_names=coco),
        "tiny-imagenet-groups": replace(tiny, facts={"wnids": list(tables["tiny_imagenet"])[:30]}),
    }
    return lambda name: cifar if name.startswith("cifar10") else others.get(name, small)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_seed_gives_one_split_and_another_seed_another(
    any_data: Callable[[str], Dataset], name: str
) -> None:
    dataset = any_data(name)
    first, again, other = (by_ids(dataset, name, seed=seed) for seed in (0, 0, 1))
    assert first.hash == again.hash
    assert all((first.part(part) == again.part(part)).all() for part in PARTS)
    if name != "given":
        assert any(first.part(part).tolist() != other.part(part).tolist() for part in PARTS)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_parts_are_sorted_and_apart_where_they_must_be(any_data: Callable[[str], Dataset], name: str) -> None:
    split = by_ids(any_data(name), name)
    for part in PARTS:
        assert (np.diff(split.part(part)) > 0).all()
    assert not np.isin(split.train, split.validation).any()
    for part in ("train", "validation", "database"):
        assert not np.isin(split.query, split.part(part)).any()
    assert split.dropped_queries == 0
    assert len(split.validation)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_says_what_it_is_and_has_no_other_option(any_data: Callable[[str], Dataset], name: str) -> None:
    assert PROTOCOLS[name].__doc__
    with pytest.raises(ConfigError, match=f"unknown option of protocol {name} 'fraction'"):
        by_ids(any_data(name), name, fraction=0.5)
    assert by_ids(any_data(name), name, **dict.fromkeys(("draw", "fraction"))).protocol == name


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"given"}))
def test_a_query_that_is_a_copy_is_left_out_and_counted(
    any_data: Callable[[str], Dataset], name: str
) -> None:
    dataset = any_data(name)
    keys = id_keys(dataset.ids).copy()
    whole = make_split(dataset, name, keys=keys)
    twins = whole.query[[0, 1, 2]]
    keys[twins] = keys[whole.database[[0, 1, 1]]]
    split = make_split(dataset, name, keys=keys)
    assert split.dropped_queries == 3
    assert split.query.tolist() == sorted(set(whole.query) - set(twins))
    assert split.database.tolist() == whole.database.tolist()


def test_given_refuses_a_query_that_is_a_copy(synthetic: Make) -> None:
    dataset = synthetic([0, 1, 0, 1], images=[0, 1, 2, 2], parts=["train", "train", "query", "database"])
    with pytest.raises(DataError, match="1 query images are also in the database part"):
        make_split(dataset, "given")


def test_keys_come_from_pixels_and_unreadable_images_are_passed_over(synthetic: Make) -> None:
    sound = synthetic([0, 1] * 20)
    split = make_split(sound, "holdout")
    assert split.sizes == {"train": 32, "validation": 4, "query": 4, "database": 36}
    empty = replace(sound, images=Encoded([b""] * 40))
    with pytest.raises(DataError, match=r"40 of 40 images cannot be read \(first: 000000\.png: empty"):
        make_split(empty, "holdout")


def test_unknown_protocols_and_wrong_keys_are_refused(synthetic: Make) -> None:
    dataset = synthetic([0, 1, 0, 1])
    with pytest.raises(ConfigError, match="did you mean 'holdout'"):
        make_split(dataset, "holdot")
    with pytest.raises(DataError, match="keys must be uint8"):
        make_split(dataset, "holdout", keys=id_keys(["a"]))
