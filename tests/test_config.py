from __future__ import annotations

from pathlib import Path

import pytest

from anglehash.config import TrainConfig
from anglehash.errors import ConfigError


def test_toml_is_read_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('bits = 48\nseed = 3\n[loss]\nmargin = "cosface"\n')
    config = TrainConfig.from_toml(path, seed=5)
    assert (config.bits, config.seed, config.loss) == (48, 5, {"margin": "cosface"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bit = 3", "did you mean 'bits'"),
        ("bits = 3", r"4\.\.1024"),
        ("epochs = 0", r"epochs must be in 1\.\."),
        ('dropout = "a"', "dropout"),
        ("loss = 3", "loss must be a table, got 3"),
        ("epochs = 1.5", "epochs must be a whole number, got 1.5"),
        ("batch_norm = 'no'", "batch_norm must be true or false, got 'no'"),
        ("preset = ['a']", "preset must be a text"),
        ("backbone = 3", "backbone must be a text"),
        ("seed = true", "seed must be a whole number"),
        ("unlabelled = 'maybe'", "refuse"),
        ("bits = ", "cannot read"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        TrainConfig.from_toml(path)
    assert "run.toml" in str(caught.value)


def test_a_preset_fills_what_was_left_open() -> None:
    preset = {"epochs": 30, "batch_norm": True, "loss": {"gamma": 3.0, "m": 4}}
    config = TrainConfig(epochs=7, loss={"m": 2}).with_preset(preset)
    assert (config.epochs, config.batch_norm, config.loss) == (7, True, {"gamma": 3.0, "m": 2})


def test_settings_survive_json() -> None:
    config = TrainConfig(bits=12, loss={"gamma": 1.5})
    assert TrainConfig.from_dict(config.to_dict()) == config
