"""Several processes learn what one learns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import distributed

from anglehash.errors import ConfigError, TrainingError
from anglehash.training.distributed import ALONE, Ranks, ranks_of_this_run
from tests.training.distributed_job import everything

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def start(processes: int, *command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [*TORCHRUN, "--nproc-per-node", str(processes), *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True,
    )  # fmt: skip


def test_three_processes_give_the_weights_of_one(tmp_path: Path) -> None:
    job = start(3, str(Path(__file__).with_name("distributed_job.py")), str(tmp_path))
    text, _ = job.communicate(timeout=240)
    assert job.returncode == 0, text
    alone = everything(ALONE)
    together = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(3)]
    assert together[0].keys() == alone.keys()
    for name, value in alone.items():
        for found in together:
            assert torch.allclose(found[name], value, rtol=1e-5, atol=1e-5), name


def test_shares_are_a_partition_in_order() -> None:
    rows = torch.tensor([5, 3, 8, 1, 9])
    parts = [Ranks(rank, 3).share(rows) for rank in range(3)]
    assert [part.tolist() for part in parts] == [[5, 3], [8, 1], [9]]
    with pytest.raises(ConfigError, match="2 images cannot be shared by 3"):
        Ranks(0, 3).share(rows[:2])


def test_each_process_draws_its_own_numbers_and_leaves_the_common_ones() -> None:
    drawn, common = [], []
    for rank in range(2):
        torch.manual_seed(7)
        with Ranks(rank, 2).own_randomness(0, 1, 2):
            drawn.append(torch.rand(3))
        common.append(torch.rand(3))
    assert not torch.equal(*drawn)
    assert torch.equal(*common)


def test_a_process_that_is_reported_to_end_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "init_process_group", lambda backend, timeout: None)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: ended.append(True))
    with (
        pytest.raises(TrainingError, match=r"another one is gone: .* --resume to go on"),
        ranks_of_this_run(),
    ):
        raise SystemExit(143)
    assert ended == [True]


def test_nothing_that_was_printed_is_lost_where_the_interpreter_is_not_taken_down() -> None:
    code = "import torch, sys; from anglehash.cli.main import main; sys.argv = ['anglehash', '--version']; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("anglehash ")


SETTINGS = 'bits = 8\nbackbone = "tiny"\nimage_size = 16\nepochs = 40\n'


def test_a_killed_process_ends_the_run_and_resume_goes_on(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(SETTINGS)
    rng = np.random.default_rng(0)
    for image in range(60):
        folder = tmp_path / "photos" / f"class {image % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{image}.png")
    train = [
        "-m",
        "anglehash",
        "train",
        str(tmp_path / "photos"),
        "-o",
        str(tmp_path / "model"),
        "--config",
        str(tmp_path / "run.toml"),
    ]
    log = tmp_path / "model.training" / "log.jsonl"
    job = start(2, *train)
    deadline = time.monotonic() + 120
    while not log.exists():
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found = subprocess.run(
        ["pgrep", "-P", str(job.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(found[-1]), signal.SIGKILL)
    text, _ = job.communicate(timeout=120)
    assert job.returncode != 0
    assert "start the same command with --resume to go on" in text
    assert not (tmp_path / "model").exists()
    kept = len(log.read_text().splitlines())
    job = start(2, *train, "--resume")
    text, _ = job.communicate(timeout=240)
    assert job.returncode == 0, text
    assert len((tmp_path / "model" / "log.jsonl").read_text().splitlines()) == 40 > kept
