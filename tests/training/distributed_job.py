"""What test_distributed.py lets several processes do together, and one alone: distributed_job.py OUT."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from anglehash.config import TrainConfig
from anglehash.methods.catalogue import settled
from anglehash.methods.losses import LOSSES
from anglehash.models.backbones import make_backbone
from anglehash.training.checkpoint import Checkpoint
from anglehash.training.distributed import Ranks, ranks_of_this_run
from anglehash.training.end_to_end import EndToEnd
from anglehash.training.fit_head import Labelled, learn_head, new_parts
from anglehash.training.loop import FeatureInputs, ImageInputs, Inputs, train

N, WIDTH, CLASSES = 50, 6, 3  # batches of 7 and 8, that is shares of 3 and 4, or of 2 and 3


CONVENTIONAL = {"posterior": {"folds": 2, "epochs": 2, "code_epochs": 2}, "ksh": {"anchors": 20}}


def labels() -> np.ndarray:
    """Each image in one class or two."""
    rng = np.random.default_rng(1)
    wanted = np.eye(CLASSES, dtype=bool)[np.arange(N) % CLASSES]
    return wanted | (rng.random((N, CLASSES)) < 0.2)


def configs() -> dict[str, TrainConfig]:
    """Every loss."""
    shape = {"bits": 8, "epochs": 2, "batch_size": 8, "dropout": 0.0, "hidden": 5, "batch_norm": False}
    return {name: settled(TrainConfig.from_dict({"method": name, **shape})) for name in LOSSES}


def learn(
    network: nn.Module, loss: nn.Module, inputs: Inputs, config: TrainConfig, ranks: Ranks
) -> dict[str, Tensor]:
    """Train, and give all that was learned."""
    train(network, loss, inputs, labels(), config, checkpoint=Checkpoint(None, {}), ranks=ranks)
    return {
        f"{part}.{name}": value.clone()
        for part, module in (("network", network), ("loss", loss))
        for name, value in module.state_dict().items()
    }


def everything(ranks: Ranks) -> dict[str, Tensor]:
    """The weights after each training, by name."""
    out: dict[str, Tensor] = {}
    features = np.random.default_rng(0).normal(size=(N, WIDTH)).astype(np.float32)
    for name, config in configs().items():
        torch.manual_seed(0)
        head, loss = new_parts(config, WIDTH, CLASSES)
        out |= {
            f"{name}/{k}": v for k, v in learn(head, loss, FeatureInputs(features), config, ranks).items()
        }
    for name, options in CONVENTIONAL.items():
        config = settled(TrainConfig.from_dict({"method": name, "bits": 8, "loss": options}))
        reported = list[str]()
        known = Labelled(features, labels())
        learned = learn_head(
            known, config, ranks=ranks, progress=lambda what, *_, reported=reported: reported.append(what)
        )
        out |= {f"{name}/{k}": v for k, v in learned.head.state_dict().items()}
        assert bool(reported) == ranks.first, "the others wait"
    return out | {f"batch norm/{k}": v for k, v in one_step(ranks).items()}


def one_step(ranks: Ranks) -> dict[str, Tensor]:
    """The gradients of a network with batch norms for planes and for logits, and what those remember.

    In float64, where little is left to rounding. One step only: a bias in front of a batch norm has no
    gradient but rounding, which AdamW makes large.
    """
    torch.manual_seed(0)
    config = replace(configs()["andsh"], batch_norm=True)
    backbone = make_backbone("tiny", size=16)
    head, loss = new_parts(config, backbone.width, CLASSES)
    network = EndToEnd(backbone.trainable(), head).double()
    loss.double()
    pixels = np.random.default_rng(2).integers(0, 256, (N, 16, 16, 3), dtype=np.uint8)
    rows = torch.arange(8)
    with ranks.joined_batch_norms(network):
        logits = network(ImageInputs(pixels, flip=False, shift=0.0).batch(ranks.share(rows)).double())
        loss(ranks.gather(logits), torch.from_numpy(labels())[rows]).backward()
    ranks.sum_gradients(network.parameters())
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    assert any("norm" in type(m).__name__.lower() for m in network.backbone.modules())
    return gradients | {name: value.clone() for name, value in network.named_buffers()}


if __name__ == "__main__":
    with ranks_of_this_run() as ranks:
        found = everything(ranks)
        save_file(found, Path(sys.argv[1]) / f"{ranks.rank}.safetensors")
