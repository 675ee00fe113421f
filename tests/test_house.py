"""The law of the house: imports go down only, and what must stay light stays light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import anglehash

SOURCE = Path(anglehash.__file__).parent
FLOORS = [  # a room imports lower floors only; rooms on one floor are strangers
    {"errors"},
    {"codes", "files", "registry", "progress", "signals"},
    {"asymmetric", "config", "manifest", "cache"},
    {"data"},
    {"encode"},
    {"models"},
    {"evaluation"},
    {"methods", "index", "report"},
    {"training", "gallery"},
    {"benchmark", "remote"},
    {"server"},
    {"cli"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
TORCH = {"torch", "sklearn", "onnx", "onnxscript"}
TORCH_ROOMS = {"models", "methods", "training", "benchmark"}


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(p): p
    for p in sorted(SOURCE.rglob("*.py"))
    if p.parent != SOURCE or p.stem not in ("__init__", "__main__")
}


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, submodules by their full name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from {name if name in MODULES else node.module for name in full}


IMPORTS = {name: set(imports(path)) for name, path in MODULES.items()}


def room(name: str) -> str:
    return name.split(".")[1]


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name: str) -> None:
    for other in IMPORTS[name]:
        if other.split(".")[0] == "anglehash":
            assert other != "anglehash", f"{name} imports the package root"
            own, theirs = room(name), room(other)
            assert own == theirs or FLOOR[theirs] < FLOOR[own], f"{name} must not import {other}"


def test_no_circle_between_files() -> None:
    TopologicalSorter({name: IMPORTS[name] & MODULES.keys() for name in MODULES}).prepare()


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) not in TORCH_ROOMS])
def test_torch_lives_in_few_rooms(name: str) -> None:
    allowed = {"sklearn"} if name == "anglehash.data.datasets.digits" else set()
    assert not {other.split(".")[0] for other in IMPORTS[name]} & TORCH - allowed


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) != "cli"])
def test_click_lives_in_the_command_line_only(name: str) -> None:
    assert "click" not in {other.split(".")[0] for other in IMPORTS[name]}


def test_every_room_has_a_floor() -> None:
    assert {room(name) for name in MODULES} == set(FLOOR)


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
