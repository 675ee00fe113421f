from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from anglehash.errors import OutputExistsError, TrainingError
from anglehash.training.workdir import CHECKPOINT, LOG, working_folder


def interrupted(output: Path, *, epochs: int) -> Path:
    """The folder of a training that failed after some epochs."""
    place = working_folder(output, resume=False, force=False)
    work = place.__enter__()
    (work / LOG).touch()
    if epochs:
        (work / CHECKPOINT).write_text("weights")
    failure = ZeroDivisionError()
    assert not place.__exit__(ZeroDivisionError, failure, None)
    return work


def test_a_finished_training_leaves_nothing(tmp_path: Path) -> None:
    with working_folder(tmp_path / "m", resume=False, force=False) as work:
        (work / CHECKPOINT).touch()
    assert not list(tmp_path.iterdir())


def test_a_failure_before_the_first_epoch_leaves_nothing(tmp_path: Path) -> None:
    assert not interrupted(tmp_path / "m", epochs=0).exists()


def test_an_unfinished_training_is_taken_up_or_begun_again_only_when_asked(tmp_path: Path) -> None:
    work = interrupted(tmp_path / "m", epochs=1)
    with pytest.raises(OutputExistsError, match="--resume"):
        working_folder(tmp_path / "m", resume=False, force=False).__enter__()
    again = working_folder(tmp_path / "m", resume=True, force=False)
    assert (again.__enter__() / CHECKPOINT).read_text() == "weights"
    failure = ZeroDivisionError()
    assert not again.__exit__(ZeroDivisionError, failure, None)
    with working_folder(tmp_path / "m", resume=False, force=True):
        assert not (work / CHECKPOINT).exists()


def test_resuming_what_never_began_starts_from_the_beginning(tmp_path: Path) -> None:
    with working_folder(tmp_path / "m", resume=True, force=False) as work:
        assert work.is_dir()


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_somebody_elses_is_neither_used_nor_emptied(tmp_path: Path, resume: bool) -> None:
    work = tmp_path / "m.training"
    work.mkdir()
    (work / "holiday.jpg").touch()
    with pytest.raises(OutputExistsError, match="no training wrote it"):
        working_folder(tmp_path / "m", resume=resume, force=True).__enter__()
    assert (work / "holiday.jpg").exists()


def test_a_strangers_file_inside_survives(tmp_path: Path) -> None:
    with working_folder(tmp_path / "m", resume=False, force=False) as work:
        (work / "notes.txt").touch()
    assert (work / "notes.txt").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no file locks there")
def test_two_trainings_towards_one_model_are_kept_apart(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from anglehash.training.workdir import working_folder\n"
        "with working_folder(Path(sys.argv[1]), resume=False, force=False): print('held', flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "m")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout
    assert other.stdin
    assert other.stdout.readline() == "held\n"
    with pytest.raises(TrainingError, match=f"process {other.pid}"):
        working_folder(tmp_path / "m", resume=True, force=False).__enter__()
    other.stdin.close()
    other.wait(timeout=30)
    other.stdout.close()
    with working_folder(tmp_path / "m", resume=True, force=True) as work:  # a dead process holds nothing
        assert work.is_dir()
