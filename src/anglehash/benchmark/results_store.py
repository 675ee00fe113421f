"""Where finished cells are kept: nothing that was computed is lost, and nothing stale is taken for new.

A benchmark's folder holds ``result.json``, everything together with a line a cell, and ``cells/``, a file a
cell, written as each is finished. Either is enough to go on from: the first is what one shares, the second
is what survives a power cut. ``codes/`` has the codes of each cell, for measures that come later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from anglehash.benchmark.saved_codes import ExperimentCodes
from anglehash.errors import ConfigError, OutputExistsError, TrainingError
from anglehash.files import hold, write_atomic

FORMAT = 1


class Store:
    """The folder of a benchmark, held while it is open: a second run into it is refused.

    Args:
        folder: new, or of an earlier run.

    Raises:
        OutputExistsError: the folder holds something else.
        ConfigError: a file of it is damaged, or of a newer version.
        TrainingError: another benchmark is writing to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if folder.exists() and not self._ours():
            raise OutputExistsError(
                f"{folder} was not written by this command before, so nothing is put into it: choose another name"
            )
        self._cells_folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self._cells_folder / "benchmark.lock").open("a+")
        if other := hold(self._lock):
            self._lock.close()
            raise TrainingError(
                f"another benchmark is writing to {folder} (process {other}): wait for it, or choose another output"
            )
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> None:
        result = self.folder / "result.json"
        self.previous = self._read(result, "cells") if result.exists() else {}
        self._cells = {self._checked(cell, result): cell for cell in self.previous.get("cells", [])}
        for path in sorted(self._cells_folder.glob("*.json")):
            cell = self._read(path, "hash")
            self._cells[self._checked(cell, path)] = cell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    @property
    def _cells_folder(self) -> Path:
        return self.folder / "cells"

    @property
    def _codes_folder(self) -> Path:
        return self.folder / "codes"

    def _ours(self) -> bool:
        if not self.folder.is_dir():
            return False
        return (
            self._cells_folder.is_dir()
            or (self.folder / "result.json").exists()
            or not any(self.folder.iterdir())
        )

    @staticmethod
    def _read(path: Path, key: str) -> dict[str, Any]:
        """A table out of a file that must have ``key``."""
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if value.get("format", FORMAT) > FORMAT:
                raise ConfigError(
                    f"{path} is of a newer version of anglehash: update, or choose another output"
                )
            if key not in value:
                raise ValueError(f"it has no {key}")
            if key == "cells" and not isinstance(value[key], list):
                raise ValueError("its cells are no list")
        except ConfigError:
            raise
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise _damaged(path, str(error)) from error
        return dict(value)

    @staticmethod
    def _checked(cell: Any, path: Path) -> str:
        """The hash of a cell that has all that a run asks of it."""
        needed = {"hash": str, "split_hash": str, "variant": str, "map": float}
        if not isinstance(cell, dict) or not all(isinstance(cell.get(k), kind) for k, kind in needed.items()):
            raise _damaged(path, "a cell lacks its hash, split, variant or mAP")
        return str(cell["hash"])

    def get(self, name: str) -> dict[str, Any] | None:
        """A finished cell by its hash."""
        return self._cells.get(name)

    def put(self, cell: Mapping[str, Any]) -> None:
        """Keep a finished cell, on disk before this returns."""
        self._cells[cell["hash"]] = dict(cell)
        text = json.dumps(cell, allow_nan=False) + "\n"
        write_atomic(self._cells_folder / f"{cell['hash']}.json", text.encode())

    def codes_of(self, name: str) -> ExperimentCodes | None:
        """The codes of a finished cell by its hash, where they are at hand."""
        path = self._codes_folder / f"{name}.npz"
        return ExperimentCodes.load(path) if path.exists() else None

    def take_codes(self, name: str, folder: Path) -> None:
        """Keep the codes of a cell, on disk before this returns, if ``folder`` has them."""
        path = folder / f"{name}.npz"
        if path.exists():
            self._codes_folder.mkdir(exist_ok=True)
            write_atomic(self._codes_folder / path.name, path.read_bytes())
            path.unlink()

    def finish(self, facts: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Write ``result.json``; a cell of before that is not among ``cells`` stays in ``cells/``."""
        named = {cell["hash"] for cell in cells}
        for name, cell in self._cells.items():
            if name not in named and not (self._cells_folder / f"{name}.json").exists():
                self.put(cell)
        result = {"format": FORMAT, **facts, "cells": list(cells)}
        write_atomic(self.folder / "result.json", _pretty(result).encode())
        return result


def _damaged(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is damaged ({why}): delete this file, and its cells are computed again")


def _pretty(result: Mapping[str, Any]) -> str:
    """JSON with a line a cell: short, and a difference between two versions can be read."""
    rest = json.dumps({**result, "cells": []}, indent=1, allow_nan=False)
    lines = ",\n".join("  " + json.dumps(cell, allow_nan=False) for cell in result["cells"])
    head, _, tail = rest.rpartition('"cells": []')
    return f'{head}"cells": [\n{lines}\n ]{tail}\n'
