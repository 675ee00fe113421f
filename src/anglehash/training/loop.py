"""The one training loop: any network, any loss, resumable to the bit.

A loss is a module called as ``loss(logits, labels)``; what it may have besides, and is then reported, stands in
:mod:`anglehash.methods.losses`. Every epoch starts from its own seed, so a run that was killed and resumed ends
with the same weights as an unbroken one on the same kind of processor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anglehash.config import TrainConfig
from anglehash.errors import TrainingError
from anglehash.files import sha256_json
from anglehash.methods.batches import steps_of_epoch
from anglehash.models.device import training_device
from anglehash.progress import Progress, silent
from anglehash.signals import Stopping
from anglehash.training.checkpoint import Checkpoint
from anglehash.training.distributed import ALONE, Ranks


class Inputs(Protocol):
    """What the network is fed: cached features, or images that are augmented at each visit."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def batch(self, rows: Tensor) -> Tensor:
        """The network's input for these images, in this order."""
        ...


class FeatureInputs:
    """Cached features, ``(n, width)`` float."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self._features = torch.from_numpy(features)

    def __len__(self) -> int:
        return len(self._features)

    def batch(self, rows: Tensor) -> Tensor:
        """Rows of the features."""
        return self._features.index_select(0, rows)  # [rows] takes four times as long


class ImageInputs:
    """Prepared images, ``(n, size, size, 3)`` ``uint8``, shifted and mirrored at random.

    Args:
        pixels: the images.
        flip: mirror half of them, left to right.
        shift: largest shift in each direction, as a share of the side; borders are mirrored in.
    """

    def __init__(self, pixels: NDArray[np.uint8], *, flip: bool, shift: float = 0.125) -> None:
        self._pixels = pixels
        self._flip = flip
        self._reach = round(pixels.shape[1] * shift)

    def __len__(self) -> int:
        return len(self._pixels)

    def batch(self, rows: Tensor) -> Tensor:
        """Augmented images, ``(len(rows), 3, size, size)`` float in 0..255."""
        images = torch.from_numpy(self._pixels[rows.numpy()]).permute(0, 3, 1, 2).float()
        side, reach = images.shape[-1], self._reach
        padded = nn.functional.pad(images, (reach,) * 4, mode="reflect")
        places = torch.randint(0, 2 * reach + 1, (len(rows), 2)).tolist()
        mirrored = (torch.rand(len(rows)) < (0.5 if self._flip else 0.0)).tolist()
        out = torch.empty_like(images)
        for i, ((top, left), mirror) in enumerate(zip(places, mirrored, strict=True)):
            crop = padded[i, :, top : top + side, left : left + side]
            out[i] = crop.flip(-1) if mirror else crop
        return out.contiguous(memory_format=torch.channels_last)


def train(
    network: nn.Module,
    loss: nn.Module,
    inputs: Inputs,
    labels: NDArray[np.bool_],
    config: TrainConfig,
    *,
    checkpoint: Checkpoint,
    validate: Callable[[], float] | None = None,
    ranks: Ranks = ALONE,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Train ``network`` and ``loss`` together, in place.

    Args:
        network: inputs to logits; its parts named ``backbone`` learn at ``config.backbone_rate``.
        loss: logits and labels to a scalar.
        inputs: ``n`` images.
        labels: ``(n, classes)`` multi-hot.
        config: a config whose preset has been applied.
        checkpoint: where each epoch is kept; a state that it holds is taken up first.
        validate: called after each epoch; its value is logged as ``validation_map``.
        ranks: the processes that share each batch.
        progress: callback.

    Returns:
        The log: one record an epoch.

    Raises:
        TrainingError: the loss is not finite. The last whole epoch stays in the checkpoint.
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM came; likewise.
    """
    assert config.epochs is not None
    assert config.learning_rate is not None
    n, epochs, device = len(inputs), config.epochs, training_device(config.device)
    targets = torch.from_numpy(labels).to(device)
    for part in (network, loss):
        part.to(device)
    steps = steps_of_epoch(n, config.batch_size)
    optimizer = _optimizer(network, loss, config)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=epochs * steps
    )
    state = {"network": network, "loss": loss}
    tell_progress, tell_rows = _hook(loss, "set_progress"), _hook(loss, "set_rows")
    statistics: Callable[[], dict[str, Any]] = getattr(loss, "statistics", dict)
    _hook(loss, "remember")(targets)
    log = checkpoint.load(state, optimizer, schedule)
    ranks.check_same(sha256_json(log), "a checkpoint")
    with torch.random.fork_rng(devices=[]), ranks.joined_batch_norms(network), Stopping() as stopping:
        for epoch in range(len(log), epochs):
            torch.manual_seed(config.seed * 1_000_003 + epoch)
            started = time.perf_counter()
            network.train()
            loss.train()
            total = 0.0
            for step, rows in enumerate(torch.randperm(n).tensor_split(steps)):
                tell_progress((epoch * steps + step) / (epochs * steps))
                tell_rows(rows.to(device))
                with ranks.own_randomness(config.seed, epoch, step):
                    logits = network(inputs.batch(ranks.share(rows)).to(device))
                value = loss(ranks.gather(logits), targets[rows.to(device)])
                _backward(value, optimizer, epoch, step)
                ranks.sum_gradients(network.parameters())
                optimizer.step()
                total += float(value.detach()) * len(rows)
                schedule.step()
                progress("training", epoch * steps + step + 1, epochs * steps, f"epoch {epoch + 1}/{epochs}")
                stopping.end_if_asked()  # not anywhere: an exception in a destructor would be lost
            ranks.align(state.values())
            _check_finite(state, epoch)
            network.eval()
            loss.eval()
            record: dict[str, Any] = {"epoch": epoch + 1, "loss": total / n}
            record["learning_rate"] = optimizer.param_groups[0]["lr"]
            record |= statistics()
            if validate is not None and ranks.first:
                record["validation_map"] = validate()
            record["seconds"] = round(time.perf_counter() - started, 3)
            log.append(record)
            if ranks.first:
                checkpoint.save(state, optimizer, schedule, log)
            stopping.end_if_asked()
    for part in (network, loss):
        part.cpu()
    return log


def _hook(loss: nn.Module, name: str) -> Callable[[Any], None]:
    """A method that a loss may have; nothing is done where it does not."""
    hook: Callable[[Any], None] = getattr(loss, name, lambda value: None)
    return hook


def _optimizer(network: nn.Module, loss: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; a pretrained backbone learns slower, and nothing pulls the loss's own vectors to zero."""
    rate, decay = config.learning_rate or 0.0, config.weight_decay or 0.0
    backbone = [p for name, p in network.named_parameters() if name.startswith("backbone.")]
    head = [p for name, p in network.named_parameters() if not name.startswith("backbone.")]
    own = list(loss.parameters())
    groups: list[dict[str, Any]] = [{"params": head, "lr": rate, "weight_decay": decay}]
    if backbone:
        groups.append({"params": backbone, "lr": rate * config.backbone_rate, "weight_decay": decay})
    if own:
        groups.append({"params": own, "lr": rate, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, fused=True)  # seven times as fast, at a hidden layer of 512


def _backward(value: Tensor, optimizer: torch.optim.Optimizer, epoch: int, step: int) -> None:
    number = float(value.detach())
    if not math.isfinite(number):
        raise TrainingError(
            f"the loss became {number} at epoch {epoch + 1}, step {step + 1}: training stopped and the last "
            "whole epoch, if there is one, is kept. Try a lower learning rate, and --force to start again"
        )
    optimizer.zero_grad(set_to_none=True)
    value.backward()  # type: ignore[no-untyped-call]


def _check_finite(modules: Mapping[str, nn.Module], epoch: int) -> None:
    for part, module in modules.items():
        for name, values in module.state_dict().items():
            if not bool(torch.isfinite(values).all()):
                raise TrainingError(
                    f"{part} {name} holds a NaN or infinity after epoch {epoch + 1}: training stopped and the "
                    "epoch before, if there is one, is kept. Try a lower learning rate, and --force to start again"
                )
