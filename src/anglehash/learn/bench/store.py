"""Where finished cells are kept: nothing that was computed is lost, and nothing stale is taken for new.

A benchmark's folder holds ``result.json``, everything together with a line a cell, and ``cells/``, a file a
cell, written as each is finished. Either is enough to go on from: the first is what one shares, the second
is what survives a power cut.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anglehash.errors import ConfigError, OutputExistsError
from anglehash.files import write_atomic

FORMAT = 1


class Store:
    """The folder of a benchmark.

    Args:
        folder: new, or of an earlier run.

    Raises:
        OutputExistsError: the folder holds something else.
        ConfigError: a file of it is damaged, or of a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if folder.exists() and not self._ours():
            raise OutputExistsError(
                f"{folder} was not written by this command before, so nothing is put into it: choose another name"
            )
        self.previous = self._read(folder / "result.json") if (folder / "result.json").exists() else {}
        self._cells = {cell["hash"]: cell for cell in self.previous.get("cells", [])}
        for path in sorted(self._folder_of_cells.glob("*.json")):
            cell = self._read(path)
            self._cells[cell["hash"]] = cell

    @property
    def _folder_of_cells(self) -> Path:
        return self.folder / "cells"

    def _ours(self) -> bool:
        if not self.folder.is_dir():
            return False
        return (
            self._folder_of_cells.is_dir()
            or (self.folder / "result.json").exists()
            or not any(self.folder.iterdir())
        )

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if value.get("format", FORMAT) > FORMAT:
                raise ConfigError(
                    f"{path} is of a newer version of anglehash: update, or choose another output"
                )
            if not isinstance(value.get("hash", value.get("cells")), str | list):
                raise ValueError("it has no cells")
        except (OSError, ValueError, AttributeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"{path} is damaged ({error}): delete this file, and its cells are computed again"
            ) from error
        return dict(value)

    def get(self, name: str) -> dict[str, Any] | None:
        """A finished cell by its hash."""
        return self._cells.get(name)

    def put(self, cell: Mapping[str, Any]) -> None:
        """Keep a finished cell, on disk before this returns."""
        self._cells[cell["hash"]] = dict(cell)
        text = json.dumps(cell, allow_nan=False) + "\n"
        write_atomic(self._folder_of_cells / f"{cell['hash']}.json", text.encode())

    def finish(self, facts: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Write ``result.json``; a cell of before that is not among ``cells`` stays in ``cells/``."""
        named = {cell["hash"] for cell in cells}
        for name, cell in self._cells.items():
            if name not in named and not (self._folder_of_cells / f"{name}.json").exists():
                self.put(cell)
        result = {"format": FORMAT, **facts, "cells": list(cells)}
        write_atomic(self.folder / "result.json", _pretty(result).encode())
        return result


def _pretty(result: Mapping[str, Any]) -> str:
    """JSON with a line a cell: short, and a difference between two versions can be read."""
    rest = json.dumps({**result, "cells": []}, indent=1, allow_nan=False)
    lines = ",\n".join("  " + json.dumps(cell, allow_nan=False) for cell in result["cells"])
    head, _, tail = rest.rpartition('"cells": []')
    return f'{head}"cells": [\n{lines}\n ]{tail}\n'
