from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from anglehash.config import TrainConfig
from anglehash.errors import TrainingError
from anglehash.methods.losses import LOSSES
from anglehash.models.heads.hash_head import HashHead
from anglehash.training.checkpoint import Checkpoint
from anglehash.training.loop import FeatureInputs, ImageInputs, train

CONFIG = TrainConfig(method="andsh", bits=8, epochs=6, batch_size=16, learning_rate=0.01, weight_decay=1e-3)
RNG = np.random.default_rng(0)
CLASSES = RNG.integers(0, 3, 60)
FEATURES = (RNG.normal(size=(3, 10))[CLASSES] + RNG.normal(size=(60, 10))).astype(np.float32)
LABELS = np.eye(3, dtype=bool)[CLASSES]


class Killed(BaseException):
    pass


def run(
    path: Path | None, *, config: TrainConfig = CONFIG, stop_after: int | None = None, **options: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    torch.manual_seed(1)
    head, loss = HashHead(10, 8, batch_norm=True, dropout=0.3), LOSSES[config.method](8, 3, **options)
    epochs = 0

    def validate() -> float:
        nonlocal epochs
        epochs += 1
        if stop_after is not None and epochs > stop_after:
            raise Killed
        return 0.5

    checkpoint = Checkpoint(path, {"config": config.to_dict()})
    log = train(head, loss, FeatureInputs(FEATURES), LABELS, config, checkpoint=checkpoint, validate=validate)
    return head.state_dict() | {f"loss.{k}": v for k, v in loss.state_dict().items()}, log


def test_the_loss_falls_and_every_epoch_is_logged() -> None:
    _, log = run(None)
    assert [record["epoch"] for record in log] == [1, 2, 3, 4, 5, 6]
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[-1]["validation_map"] == 0.5


@pytest.mark.parametrize("killed_after", [0, 1, 4])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path, killed_after: int) -> None:
    unbroken, _ = run(None)
    with pytest.raises(Killed):
        run(tmp_path / "c", stop_after=killed_after)
    resumed, log = run(tmp_path / "c")
    assert len(log) == CONFIG.epochs
    for name, value in unbroken.items():
        assert torch.equal(value, resumed[name]), name


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("dpsh", {"reference": 0}),
        ("dpsh", {"reference": 20}),
        ("dsdh", {"reference": 20, "mu": 10.0, "nu": 0.1}),
        ("hashnet", {}),
    ],
)
def test_a_loss_that_remembers_resumes_too(tmp_path: Path, method: str, options: dict[str, Any]) -> None:
    config = TrainConfig(**{**CONFIG.to_dict(), "method": method})
    unbroken, log = run(None, config=config, **options)
    with pytest.raises(Killed):
        run(tmp_path / "c", config=config, stop_after=2, **options)
    resumed, log_resumed = run(tmp_path / "c", config=config, **options)
    assert unbroken.keys() == resumed.keys()
    for name, value in unbroken.items():
        assert torch.equal(value, resumed[name]), name
    assert [r["loss"] for r in log] == [r["loss"] for r in log_resumed]


class Listening(nn.Module):
    """Notes what it is reported."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: torch.Tensor | None = None
        self.messages: list[tuple[str, Any]] = []

    def remember(self, labels: torch.Tensor) -> None:
        self.messages.append(("remember", labels.shape))
        self.labels = labels

    def set_progress(self, fraction: float) -> None:
        self.messages.append(("progress", fraction))

    def set_rows(self, rows: torch.Tensor) -> None:
        self.messages.append(("rows", rows))

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        kind, rows = self.messages[-1]
        assert kind == "rows"
        assert self.labels is not None
        assert torch.equal(self.labels[rows], labels)
        return logits.square().mean()


def test_a_loss_is_reported_all_labels_once_and_the_rows_of_each_batch() -> None:
    loss = Listening()
    train(HashHead(10, 8), loss, FeatureInputs(FEATURES), LABELS, CONFIG, checkpoint=Checkpoint(None, {}))
    assert [what for what, _ in loss.messages] == ["remember", *["progress", "rows"] * 42]
    assert loss.messages[0][1] == (60, 3)
    rows = [value for what, value in loss.messages if what == "rows"]
    assert rows[0].dtype == torch.int64
    assert sorted(torch.cat(rows[:7]).tolist()) == list(range(60))
    assert [value for what, value in loss.messages if what == "progress"] == [i / 42 for i in range(42)]


def test_training_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        head, loss = HashHead(10, 8), LOSSES["andsh"](8, 3)
    train(head, loss, FeatureInputs(FEATURES), LABELS, CONFIG, checkpoint=Checkpoint(None, {}))
    assert torch.equal(torch.rand(3), expected)


def test_another_run_is_not_resumed_and_the_difference_is_named(tmp_path: Path) -> None:
    run(tmp_path / "c")
    other = TrainConfig(**{**CONFIG.to_dict(), "seed": 9})
    with pytest.raises(TrainingError, match=r"config.seed: 0 -> 9"):
        run(tmp_path / "c", config=other)


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    run(tmp_path / "c")
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:100])
    with pytest.raises(TrainingError, match="is damaged"):
        run(tmp_path / "c")


class NanAfter(nn.Module):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        return logits.square().mean() * (float("nan") if self.left < 0 else 1.0)


def test_nan_stops_at_its_step_and_the_last_epoch_is_kept(tmp_path: Path) -> None:
    head = HashHead(10, 8)
    path = tmp_path / "c"
    with pytest.raises(TrainingError, match="nan at epoch 2, step 3"):
        train(head, NanAfter(9), FeatureInputs(FEATURES), LABELS, CONFIG, checkpoint=Checkpoint(path, {}))
    fresh = HashHead(10, 8)
    optimizer = torch.optim.AdamW([{"params": fresh.parameters()}])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=42)
    log = Checkpoint(path, {}).load({"network": fresh, "loss": NanAfter(0)}, optimizer, schedule)
    assert len(log) == 1
    assert all(bool(torch.isfinite(p).all()) for p in fresh.parameters())


def test_every_image_is_visited_once_an_epoch_even_when_batches_do_not_divide() -> None:
    seen: list[int] = []

    class Rows(FeatureInputs):
        def batch(self, rows: torch.Tensor) -> torch.Tensor:
            seen.extend(rows.tolist())
            assert len(rows) > 1
            return super().batch(rows)

    config = TrainConfig(**{**CONFIG.to_dict(), "epochs": 1, "batch_size": 59})
    train(
        HashHead(10, 8),
        LOSSES["andsh"](8, 3),
        Rows(FEATURES),
        LABELS,
        config,
        checkpoint=Checkpoint(None, {}),
    )
    assert sorted(seen) == list(range(60))


def test_augmentation_shifts_and_mirrors_but_keeps_the_pixels() -> None:
    ramp = np.tile(np.arange(16, dtype=np.uint8)[None, None, :, None], (1, 16, 1, 3))
    torch.manual_seed(0)
    out = ImageInputs(ramp, flip=True).batch(torch.zeros(40, dtype=torch.long))
    assert out.shape == (40, 3, 16, 16)
    steps = out[:, 0, 0, 9] - out[:, 0, 0, 8]  # inside, the ramp rises by one, or falls when mirrored
    assert set(steps.tolist()) == {1.0, -1.0}
    assert len(set(out[steps > 0][:, 0, 0, 8].tolist())) > 1
    still = ImageInputs(ramp, flip=False, shift=0).batch(torch.zeros(2, dtype=torch.long))
    assert torch.equal(still[0, 0, 0], torch.arange(16.0))
