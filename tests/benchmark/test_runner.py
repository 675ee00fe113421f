"""A small benchmark on 300 scanned digits, frozen features at 32 px."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from anglehash.benchmark import runner
from anglehash.benchmark import workers as processes
from anglehash.benchmark.experiment import Measures, compute
from anglehash.benchmark.run_file import Cell, Run
from anglehash.benchmark.runner import Finished, benchmark
from anglehash.benchmark.split_features import SplitFeatures
from anglehash.config import TrainConfig
from anglehash.data.protocols import make_split
from anglehash.data.sources.open import open_dataset
from anglehash.errors import DataError, TrainingError
from anglehash.evaluation.evaluate_model import evaluate_model
from anglehash.training.fit import fit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("photos")
    digits = load_digits()
    for row in range(300):
        (folder / str(digits.target[row])).mkdir(exist_ok=True)
        pixels = (digits.images[row] * 15.9).astype(np.uint8)
        Image.fromarray(pixels).save(folder / str(digits.target[row]) / f"{row}.png")
    return Run(
        name="small",
        data=str(folder),
        protocol="holdout",
        bits=(8, 16),
        seeds=(0, 1),
        methods=("ce", "itq"),
        settings={"image_size": 32, "epochs": 2},
        baselines=("float", "bits"),
        examples={"variants": ["ce", "itq"], "bits": 8, "queries": 3, "answers": 4},
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(run: Run, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    folder = tmp_path_factory.mktemp("results") / "small"
    return benchmark(run, folder, cache=cache), folder


@pytest.fixture
def folder(finished: tuple[Finished, Path], tmp_path: Path) -> Path:
    """A copy of the finished benchmark that a test may spoil."""
    return Path(shutil.copytree(finished[1], tmp_path / "small"))


def test_every_cell_is_there_with_what_the_report_needs(run: Run, finished: tuple[Finished, Path]) -> None:
    done, folder = finished
    assert done.failed == []
    assert json.loads((folder / "result.json").read_text()) == done.result
    cells = done.result["cells"]
    assert [cell["hash"] for cell in cells] == [cell.hash for cell in run.cells()]
    assert all(0.1 < cell["map"] <= 1 for cell in cells)
    first = cells[0]
    assert len(first["precision_recall"]) == 9
    assert len(first["per_class"]) == 10
    assert len(first["answers"]["rows"]) == 3
    assert {len(row) for row in first["answers"]["rows"]} == {4}
    assert first["train_cpu_seconds"] > 0
    assert "precision_recall" not in cells[1]  # seed 1: curves are kept once
    assert [(c["bytes"], c["bits"]) for c in cells if c["kind"] == "baseline"] == [(5120, None), (160, None)]
    split = done.result["splits"][0]
    assert 0.5 < split["class_id_map"] <= split["posterior_map"] <= 1
    assert split["queries"] + split["database"] == 300 - split["dropped_queries"]


def test_a_cell_is_what_training_and_evaluation_give(
    run: Run, finished: tuple[Finished, Path], cache: Path
) -> None:
    split = make_split(open_dataset(run.data), "holdout")
    for method in ("ce", "itq"):
        model = fit(
            split,
            TrainConfig(method=method, bits=16, image_size=32, epochs=2, preset="default", likeness=0.0),
            cache=cache,
        )
        result = evaluate_model(model, split, cache=cache).result
        cell = next(
            c for c in finished[0].result["cells"] if (c["variant"], c["bits"], c["seed"]) == (method, 16, 0)
        )
        for key in ("map", "map_logits", "map_convention"):
            assert cell[key] == pytest.approx(result[key], abs=2e-3)  # float32 here, float64 there
        for key, value in cell["likeness"].items():
            assert value == (None if value is None else pytest.approx(result["likeness"][key], abs=2e-2)), key
        posterior_map = finished[0].result["splits"][0]["posterior_map"]
        assert posterior_map == pytest.approx(result["posterior_map"], abs=1e-3)


def test_finished_cells_are_kept(
    run: Run, folder: Path, cache: Path, finished: tuple[Finished, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("a finished cell was computed again")

    monkeypatch.setattr(processes, "work", never)
    monkeypatch.setattr(runner, "class_references", never)
    shutil.rmtree(folder / "cells")  # a clone has the result alone
    again = benchmark(run, folder, cache=cache).result
    del again["circumstances"]["command"]  # it names the folder
    assert again == {**finished[0].result, "circumstances": again["circumstances"]}


def without(folder: Path, lost: str) -> None:
    """Take a key out of all finished cells."""
    for path in folder.rglob("*.json"):
        held = json.loads(path.read_text())
        for cell in held.get("cells", [held]):
            cell.pop(lost, None)
        path.write_text(json.dumps(held))


def test_cells_have_the_measures_of_likeness_and_keep_their_codes(
    run: Run, folder: Path, cache: Path, finished: tuple[Finished, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [cell for cell in finished[0].result["cells"] if cell["kind"] != "baseline"]
    own = finished[0].result["splits"][0]["likeness"]
    assert (own["feature_width"], own["finer_queries"]) == (1280, None)
    assert own["copies"] == finished[0].result["splits"][0]["database"]  # fewer than 300
    assert list(own["references"]) == [
        "float_cosine",
        "feature_signs",
        "right_class_random",
        "right_class_cosine",
    ]
    for cell in cells:
        assert 0 < cell["likeness"]["distinct_lists"] <= 1
        assert 0 < cell["likeness"]["copy_recall_at_1"] <= cell["likeness"]["copy_recall_at_10"] <= 1
        assert cell["likeness"]["self_retrieval"] == pytest.approx(
            cell["unique_codes"] / finished[0].result["splits"][0]["database"], rel=1e-5
        )
        assert (folder / "codes" / f"{cell['hash']}.npz").exists()

    def never(*arguments: object) -> None:
        raise AssertionError("a cell was trained for what its codes tell")

    monkeypatch.setattr(processes, "work", never)
    without(folder, "likeness")
    assert benchmark(run, folder, cache=cache).result["cells"] == finished[0].result["cells"]
    monkeypatch.undo()

    spoiled = min((folder / "codes").iterdir())
    without(folder, "likeness")
    spoiled.write_bytes(b"nothing")
    with pytest.raises(DataError, match=f"{spoiled.name} is damaged.*delete it"):
        benchmark(run, folder, cache=cache)
    without(folder, "likeness")
    shutil.rmtree(folder / "codes")
    assert benchmark(replace(run, likeness_bits=()), folder, cache=cache).failed == []
    again = benchmark(replace(run, likeness_bits=(8,)), folder, cache=cache).result["cells"]
    assert [bool(cell.get("likeness")) for cell in again if cell["kind"] != "baseline"] == [
        cell["bits"] == 8 for cell in cells
    ]


def test_only_what_is_missing_is_computed(
    run: Run, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []

    def count(asked: Run, split_spec: object, cell: Cell, *rest: Path) -> dict[str, object]:
        computed.append((cell.variant, cell.bits))
        return {"hash": cell.hash, "map": 0.5, "bits": cell.bits, "variant": cell.variant}

    monkeypatch.setattr(processes, "work", count)
    benchmark(replace(run, bits=(8, 16, 24), seeds=(0,)), folder, cache=cache)
    assert computed == [("ce", 24), ("itq", 24)]


@pytest.mark.parametrize(
    ("thrown", "line"),
    [
        (TrainingError("the loss became nan"), "the loss became nan"),
        (MemoryError("of 3 GiB\nat 0x7"), "MemoryError: of 3 GiB"),
        (np.linalg.LinAlgError(), "LinAlgError: no reason given"),
        (None, "ValueError: Out of range float values are not JSON compliant"),
    ],
)
def test_a_failing_cell_costs_no_other(
    run: Run,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    thrown: Exception | None,
    line: str,
) -> None:

    def fail_once(cell: Cell, shared: SplitFeatures, wanted: Measures) -> dict[str, object]:
        if (cell.variant, cell.seed) != ("ce", 1):
            return compute(cell, shared, wanted)
        if thrown:
            raise thrown
        return {"map": float("nan")}

    monkeypatch.setattr(processes, "compute", fail_once)
    mine = replace(run, bits=(8,))
    done = benchmark(mine, tmp_path / "out", cache=cache)
    assert [(cell.variant, cell.seed, said) for cell, said in done.failed] == [("ce", 1, line)]
    assert done.result["failed"] == [
        {"variant": "ce", "bits": 8, "bytes": 1, "seed": 1, "split_seed": 0, "draw": None, "error": line}
    ]
    assert len(done.result["cells"]) == len(list(mine.cells())) - 1
    monkeypatch.undo()
    assert benchmark(mine, tmp_path / "out", cache=cache).result["failed"] == []


def test_a_full_disk_ends_the_run(
    run: Run, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(processes, "compute", full)
    with pytest.raises(OSError, match="No space left"):
        benchmark(replace(run, bits=(8,)), tmp_path / "out", cache=cache)


@pytest.mark.parametrize("lost", ["precision_recall", "answers", "map_logits"])
def test_a_finished_cell_that_lacks_what_is_wanted_now_is_computed_again(
    run: Run, folder: Path, cache: Path, finished: tuple[Finished, Path], lost: str
) -> None:
    without(folder, lost)
    cells = benchmark(run, folder, cache=cache).result["cells"]
    wanted = finished[0].result["cells"]
    assert [cell.get(lost) for cell in cells] == [cell.get(lost) for cell in wanted]


def test_real_valued_queries_are_measured_where_that_is_wanted(run: Run, folder: Path, cache: Path) -> None:
    mine = replace(run, methods=("ce",), bits=(8,), baselines=(), examples={})
    before = benchmark(mine, folder, cache=cache).result["cells"]
    assert [cell["map_asymmetric"] for cell in before] == [None, None]
    after = benchmark(replace(mine, map_asymmetric=True), folder, cache=cache).result["cells"]
    assert [cell["map"] for cell in after] == [cell["map"] for cell in before]
    assert all(cell["map"] < cell["map_asymmetric"] <= 1 for cell in after)


def test_references_of_another_backbone_or_size_are_not_taken(run: Run, folder: Path, cache: Path) -> None:
    before = json.loads((folder / "result.json").read_text())["splits"][0]
    mine = replace(run, settings={**run.settings, "image_size": 48}, methods=("itq",), bits=(8,))
    split = benchmark(mine, folder, cache=cache).result["splits"][0]
    assert (split["hash"], split["size"], before["size"]) == (before["hash"], 48, 32)
    assert split["posterior_map"] != before["posterior_map"]


def test_beds_of_killed_runs_are_swept_away(
    run: Run, folder: Path, cache: Path, finished: tuple[Finished, Path]
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stale, busy = cache / f"bed-{ended.pid}-x", cache / f"bed-{os.getppid()}-x"
    for shared in (stale, busy):
        shared.mkdir()
        (shared / "features.npy").write_bytes(b"x")
    benchmark(run, folder, cache=cache)
    assert not stale.exists()
    assert busy.exists()
    shutil.rmtree(busy)


def test_two_variants_may_have_the_same_settings(run: Run, tmp_path: Path, cache: Path) -> None:
    mine = replace(run, bits=(8,), seeds=(0,), baselines=(), examples={}, methods=("itq",))
    twins = replace(mine, variants=[{"name": "another", "method": "itq"}])
    cells = benchmark(twins, tmp_path / "out", cache=cache).result["cells"]
    assert [cell["variant"] for cell in cells] == ["itq", "another"]
    assert cells[0]["map"] == cells[1]["map"]


def test_cells_of_other_images_are_refused_and_stay(run: Run, folder: Path, cache: Path) -> None:
    for path in (folder / "cells").iterdir():
        path.write_text(path.read_text().replace('"split_hash": "', '"split_hash": "0000'))
    before = {path.name: path.read_bytes() for path in (folder / "cells").iterdir()}
    with pytest.raises(DataError, match=r"10 finished cells are of other images than .* holds now.*--force"):
        benchmark(run, folder, cache=cache)
    assert {path.name: path.read_bytes() for path in (folder / "cells").iterdir()} == before
    assert (
        len(benchmark(replace(run, methods=("itq",)), folder, cache=cache, force=True).result["cells"]) == 6
    )


def test_several_processes_give_the_same(
    run: Run, tmp_path: Path, cache: Path, finished: tuple[Finished, Path]
) -> None:
    done = benchmark(replace(run, bits=(8,), baselines=()), tmp_path / "out", cache=cache, workers=2)
    known = {cell["hash"]: cell["map"] for cell in finished[0].result["cells"]}
    assert {cell["hash"]: cell["map"] for cell in done.result["cells"]} == {
        cell.hash: known[cell.hash] for cell in replace(run, bits=(8,), baselines=()).cells()
    }


def test_a_class_of_the_queries_that_none_trains_is_named(run: Run, tmp_path: Path, cache: Path) -> None:
    rows = ["file_name,label,split"]
    for number in range(3):
        for part in ("train", "query", "database"):
            if (number, part) != (2, "train"):
                shade = 40 * number + {"train": 0, "query": 10, "database": 20}[part]
                name = f"{number}-{part}.png"
                Image.new("RGB", (8, 8), (shade, number, 9)).save(tmp_path / name)
                rows.append(f"{name},{'abc'[number]},{part}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    mine = replace(run, data=str(tmp_path / "table.csv"), protocol="given")
    with pytest.raises(DataError, match=r"1 classes of the queries have no training image \(first: c\)"):
        benchmark(mine, tmp_path / "out", cache=cache)


def test_a_network_without_weights_is_benchmarked_where_it_learns(
    run: Run, tmp_path: Path, cache: Path
) -> None:
    tiny = {"backbone": "tiny", "image_size": 32, "epochs": 1}
    mine = replace(run, methods=("ce",), bits=(8,), seeds=(0,), baselines=(), examples={}, settings=tiny)
    with pytest.raises(DataError, match=r"tiny has no pretrained weights .*fine_tune = true in \[settings\]"):
        benchmark(mine, tmp_path / "out", cache=cache)
    learning = replace(mine, settings={**tiny, "fine_tune": True})
    result = benchmark(learning, tmp_path / "out", cache=cache).result
    assert [cell["variant"] for cell in result["cells"]] == ["ce"]
    assert result["splits"][0]["posterior_map"] is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux for the processes")
@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_stop_ends_the_workers_at_once_and_keeps_what_is_finished(
    run: Run, tmp_path: Path, cache: Path, sent: signal.Signals, code: int
) -> None:
    (tmp_path / "long.toml").write_text(f"""
    data = '{run.data}'
    protocol = "holdout"
    bits = [8]
    seeds = [0]
    methods = ["itq", "ce"]
    settings = {{ image_size = 32, epochs = 100000 }}
    """)
    out = tmp_path / "out"
    asked = ["benchmark", str(tmp_path / "long.toml"), "-o", str(out), "--workers", "2"]
    running = subprocess.Popen(
        [sys.executable, "-c", STARTED, *asked], env={**os.environ, "ANGLEHASH_CACHE": str(cache)}
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("cells/*.json")) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    pool_of = children(running.pid)
    assert len(pool_of) >= 2
    running.send_signal(sent)
    assert running.wait(timeout=30) == code
    assert len(list(out.glob("cells/*.json"))) == 1
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in pool_of) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [child for child in pool_of if Path(f"/proc/{child}").exists()]
    assert bool(list(cache.glob(f"bed-{running.pid}-*"))) == (sent == signal.SIGKILL)  # swept by the next


STARTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
from anglehash.cli.main import main
sys.exit(main())
"""


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has ended
            continue
        if int(parent) == process:
            found.append(int(stat.parent.name))
    return found
