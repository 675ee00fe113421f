"""The codes of a finished cell, kept beside it: a measure that comes later needs no training."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anglehash.codes import Codes
from anglehash.errors import DataError
from anglehash.evaluation.likeness_table import Truth, likeness_of_codes
from anglehash.files import write_atomic

LEFT_OUT = ("finer_queries",)  # of the split, not of the codes


class ExperimentCodes(NamedTuple):
    """Packed codes of one cell, each part in the order of its split.

    Attributes:
        query: of the queries.
        database: of the database.
        copies: of the copies of some database images.
        bits: length of a code.
    """

    query: Codes
    database: Codes
    copies: Codes
    bits: int

    def save(self, path: Path) -> None:
        """Write them as a ``.npz`` file, whole or not at all."""
        file = BytesIO()
        np.savez(file, allow_pickle=False, **self._asdict())
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, file.getvalue())

    @classmethod
    def load(cls, path: Path) -> ExperimentCodes:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                return cls(held["query"], held["database"], held["copies"], int(held["bits"]))
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(
                f"{path} is damaged ({error}): delete it, and its cell is computed again"
            ) from error

    def likeness(self, truth: Truth) -> dict[str, Any]:
        """The measures of likeness, as a cell holds them."""
        found = likeness_of_codes(self.query, self.database, self.copies, truth, bits=self.bits)
        return {key: value for key, value in found.items() if key not in LEFT_OUT}
