from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anglehash.errors import DataError
from anglehash.learn.losses.labels import multi_hot


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
def test_what_is_no_label_is_refused_in_one_line(labels: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        multi_hot(labels, 2, 3)
    assert "\n" not in str(caught.value)
