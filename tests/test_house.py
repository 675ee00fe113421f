"""The law of the house: imports go down only, and what must stay light stays light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import anglehash

SOURCE = Path(anglehash.__file__).parent
FLOORS = [  # a room may import from lower floors only; rooms on one floor are strangers
    {"errors"},
    {"codes", "files", "registry", "progress"},
    {"asymmetric", "config", "manifest", "checksummed"},
    {"data"},
    {"evaluation", "encode"},
    {"learn", "search"},
    {"serve"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
TORCH = {"torch", "safetensors.torch", "sklearn", "onnx", "onnxscript"}
MODULES = sorted(
    p for p in SOURCE.rglob("*.py") if p.parent != SOURCE or p.stem not in ("__init__", "__main__")
)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_go_down(path: Path) -> None:
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "anglehash" and len(parts) > 1 and parts[1] != room(path):
            assert FLOOR[parts[1]] < FLOOR[room(path)], f"{path.name} must not import {name}"


@pytest.mark.parametrize("path", [m for m in MODULES if room(m) != "learn"], ids=lambda p: p.stem)
def test_torch_lives_in_learn_only(path: Path) -> None:
    allowed = {"sklearn"} if path.stem == "digits" else set()
    used = {name for name in imports(path) if name in TORCH or name.split(".")[0] in TORCH}
    assert not {name.split(".")[0] for name in used} - allowed


def test_every_room_has_a_floor() -> None:
    assert {room(path) for path in MODULES} == set(FLOOR)


def test_all_lists_every_public_name() -> None:
    assert sorted(anglehash.__all__) == anglehash.__all__
    for name in anglehash.__all__:
        assert getattr(anglehash, name).__doc__


@pytest.mark.parametrize("what", ["import anglehash", "import anglehash.cli.main"])
def test_importing_is_light(what: str) -> None:
    heavy = "('torch', 'numba', 'sklearn', 'faiss', 'onnxruntime', 'pyarrow')"
    code = f"import sys; {what}; sys.exit(' '.join(m for m in {heavy} if m in sys.modules) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Hashr"):
        anglehash.Hashr  # noqa: B018


def test_nothing_is_kept_or_reported_behind_the_users_back(tmp_path: Path) -> None:
    code = "import anglehash.data.images.worker, onnxruntime as o; o.get_device(); o.SessionOptions()"
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", f"import anglehash; {code}"], check=True, env=environment)
    assert not list(tmp_path.rglob("*"))
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
