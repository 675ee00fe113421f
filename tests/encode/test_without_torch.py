"""The installed package without torch: a wheel, in an environment of its stated dependencies and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anglehash import Hasher
from anglehash.training.export_bundle import Trial, export_bundle

ROOT = Path(__file__).parents[2]


def needed(name: str, found: dict[str, Distribution]) -> None:
    """A distribution and all that it requires, without extras."""
    if name in found:
        return
    found[name] = one = distribution(name)
    for requirement in one.requires or ():
        if "extra ==" not in requirement and "platform_system" not in requirement:
            needed(re.split(r"[^\w.-]", requirement)[0], found)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with our wheel and links to the packages that it requires."""
    pytest.importorskip("setuptools")
    place = tmp_path_factory.mktemp("bare")
    source = place / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "env"], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(place / "env")}))
    shutil.unpack_archive(wheel, site, format="zip")
    found: dict[str, Distribution] = {}
    for requirement in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        needed(re.split(r"[^\w.-]", requirement)[0], found)
    for one in found.values():
        tops = {file.parts[0] for file in one.files or () if ".." not in file.parts}
        for top in tops - {"__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(one.locate_file(top))))
    return place / "env" / "bin" / "python"


def run(python: Path, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["ANGLEHASH_CACHE"] = str(folder / "cache")
    command = [str(python), "-m", "anglehash", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_wheel_without_torch_encodes_indexes_and_searches(python: Path, tmp_path: Path) -> None:
    for name in ("torch", "sklearn", "onnx", "onnxscript"):
        missing = subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False)
        assert missing.returncode == 1, f"{name} is in the environment that should lack it"

    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(40):  # enough for worker processes
        pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i:02d}.png")
    photos = sorted((tmp_path / "photos").iterdir())
    settings = {"epochs": 1}
    hasher = Hasher(16, "andsh", backbone="tiny", image_size=16, settings=settings).fit(
        photos, ["a", "b"] * 20
    )
    hasher.save(tmp_path / "model")
    export_bundle(tmp_path / "model", tmp_path / "bundle", Trial.of_probes())
    codes = hasher.encode(photos)

    done = run(python, tmp_path, "encode", "bundle", "photos", "-o", "codes.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "codes.npz") as arrays:
        np.testing.assert_array_equal(arrays["codes"], codes)

    done = run(python, tmp_path, "index", "bundle", "photos", "-o", "gallery", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == hasher.model_.id
    for engine in ("faiss", "multi-index"):
        done = run(python, tmp_path, "search", "gallery", photos[7], "-k", 1, "--engine", engine, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["results"][0]["distance"] == 0
    done = run(python, tmp_path, "add", "gallery", "photos", "--prefix", "again", "--json")
    assert (done.returncode, json.loads(done.stdout)["added"]) == (0, 40), done.stderr
    assert run(python, tmp_path, "verify", "gallery").returncode == 0
    assert run(python, tmp_path, "info", "bundle").returncode == 0

    for command in (["train", "photos", "-o", "m"], ["encode", "model", "photos", "-o", "c.npz"]):
        done = run(python, tmp_path, *command)
        assert done.returncode == 1
        assert "pip install 'anglehash[train]'" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert "anglehash export model -o BUNDLE" in done.stderr

    # A gallery of the model itself: its bundle serves it, with the same answers.
    from anglehash import Gallery

    Gallery.create(
        tmp_path / "theirs", codes=codes, ids=[p.name for p in photos], labels=[["a"]] * 40, bits=16,
        model_id=hasher.model_.id, model=tmp_path / "model",
    ).close()  # fmt: skip
    assert run(python, tmp_path, "search", "theirs", photos[3]).returncode == 1
    done = run(python, tmp_path, "search", "theirs", photos[3], "--model", "bundle", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["id"] == "03.png"
