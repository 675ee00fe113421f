from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anglehash import Hasher, make_split, open_dataset, unpack
from anglehash.data.split import RetrievalSplit
from anglehash.errors import DataError
from anglehash.evaluation.evaluate_model import evaluate_model
from anglehash.evaluation.metrics import mean_average_precision
from anglehash.models.model import Model


@pytest.fixture(scope="module")
def split() -> RetrievalSplit:
    return make_split(open_dataset("digits").select(np.arange(400)), "holdout")


@pytest.fixture(scope="module")
def model(split: RetrievalSplit) -> Model:
    settings = {"epochs": 4, "learning_rate": 3e-3, "flip": False}
    return Hasher(16, "andsh", backbone="tiny", image_size=16, settings=settings).fit(split).model_


def test_the_result_is_that_of_the_codes(model: Model, split: RetrievalSplit) -> None:
    measured = evaluate_model(model, split)
    query, database = unpack(measured.query, 16), unpack(measured.database, 16)
    distances = (query[:, None] != database[None]).sum(axis=2)
    labels = split.dataset.labels.argmax(axis=1)
    relevant = labels[split.query][:, None] == labels[split.database][None]
    assert measured.result["map"] == pytest.approx(mean_average_precision(distances, relevant))
    assert measured.result["split_hash"] == split.hash
    assert (measured.result["queries"], measured.result["database"]) == distances.shape
    assert measured.result["class_codes"]["min"] <= measured.result["class_codes"]["mean"] <= 16
    assert 0.5 < measured.result["class_id_map"] <= measured.result["posterior_map"] <= 1


def test_a_query_that_was_trained_on_is_refused(model: Model, split: RetrievalSplit) -> None:
    database = np.setdiff1d(split.database, split.train[:1])
    swapped = replace(split, train=split.train[1:], query=split.train[:1], database=database)
    with pytest.raises(DataError, match="1 query images were seen in training"):
        evaluate_model(model, swapped)


def test_classes_that_the_classifier_has_not_seen_have_no_ceiling(split: RetrievalSplit) -> None:
    unseen = make_split(split.dataset, "unseen", unseen=3)
    settings = {"epochs": 1, "flip": False}
    model = Hasher(bits=16, backbone="tiny", image_size=16, settings=settings).fit(unseen).model_
    assert len(model.class_names) == 7
    result = evaluate_model(model, unseen).result
    assert result["posterior_map"] is None
    assert result["class_id_map"] is None
    assert result["map"] > 0
    assert sum(value is not None for value in result["per_class"].values()) == 3


def test_without_a_training_part_there_is_no_ceiling(model: Model, split: RetrievalSplit) -> None:
    none = np.zeros(0, dtype=np.int64)
    result = evaluate_model(model, replace(split, train=none, validation=none)).result
    assert result["posterior_map"] is None
    assert result["map"] > 0
