from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anglehash.errors import DataError
from anglehash.methods.losses.labels import labelled, multi_hot


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_class_numbers(dtype: torch.dtype) -> None:
    hot = multi_hot(torch.tensor([2, 0], dtype=dtype), 2, 3)
    assert hot.dtype == torch.bool
    assert hot.tolist() == [[False, False, True], [True, False, False]]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool, torch.uint8])
def test_multi_hot_of_any_dtype(dtype: torch.dtype) -> None:
    rows = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=dtype)
    assert multi_hot(rows, 2, 3).tolist() == [[True, False, True], [False, False, False]]


def test_an_empty_batch() -> None:
    assert multi_hot(torch.zeros(0, dtype=torch.int64), 0, 3).shape == (0, 3)
    assert multi_hot(torch.zeros(0, 3), 0, 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3]), r"class numbers must be in 0\.\.2 \(-1: no label\), got 0\.\.3"),
        (torch.tensor([-2, 0]), r"got -2\.\.0"),
        (torch.tensor([0, 1, 2]), r"labels must be \(2,\) whole class numbers or \(2, 3\).*got int64 \(3,\)"),
        (torch.tensor([0.0, 1.0]), r"got float32 \(2,\)"),
        (torch.tensor([True, False]), r"got bool \(2,\)"),
        (torch.zeros(2, 4), r"got float32 \(2, 4\)"),
        (torch.full((2, 3), 0.5), "must be 0 or 1"),
        (torch.full((2, 3), torch.nan), "must be 0 or 1"),
    ],
)
def test_what_is_not_label_is_refused_in_one_line(labels: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        multi_hot(labels, 2, 3)
    assert "\n" not in str(caught.value)


def test_logits_come_in_the_finer_precision() -> None:
    labels = torch.tensor([0])
    for given, computed in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        z, _ = labelled(torch.ones(1, 4, dtype=given), labels, bits=4, classes=2)
        assert z.dtype == computed


@pytest.mark.parametrize("logits", [torch.ones(4), torch.ones(2, 5), torch.ones(2, 4, dtype=torch.int64)])
def test_other_logits_are_refused(logits: Tensor) -> None:
    with pytest.raises(DataError, match=r"logits must be float of shape \(batch, 4\), got"):
        labelled(logits, torch.tensor([0, 1]), bits=4, classes=2)


@pytest.mark.parametrize("labels", [torch.tensor([0, -1]), torch.tensor([[1, 0], [0, 0]])])
def test_an_image_without_a_label_is_refused(labels: Tensor) -> None:
    with pytest.raises(DataError, match="1 of 2 images have no label and cannot train a classifier: leave"):
        labelled(torch.ones(2, 4), labels, bits=4, classes=2)
