from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from anglehash.models.backbones import make_backbone


@pytest.mark.parametrize("size", [8, 9, 28, 64])
def test_takes_small_images(size: int) -> None:
    backbone = make_backbone("tiny", size=size)
    assert backbone(np.zeros((2, size, size, 3), dtype=np.uint8)).shape == (2, 256)


def test_learns_digits_from_nothing() -> None:
    scans, labels = load_digits(return_X_y=True)
    images = np.repeat((scans.reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8), 3, axis=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = make_backbone("tiny", size=8)
        module = backbone.trainable()
        classify = nn.Linear(backbone.width, 10)
        optimizer = torch.optim.AdamW([*module.parameters(), *classify.parameters()], lr=3e-3)
        inputs = torch.from_numpy(images[:1000]).permute(0, 3, 1, 2).float()
        targets = torch.from_numpy(labels)
        for rows in torch.randperm(1000).tensor_split(20):
            loss = F.cross_entropy(classify(module(inputs[rows])), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        features = torch.from_numpy(backbone.with_weights(module.state_dict())(images[1000:]))
        accuracy = (classify(features).argmax(dim=1) == targets[1000:]).float().mean()
    assert accuracy > 0.85
