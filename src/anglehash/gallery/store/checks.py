"""Whether the truth belongs to the manifest and the receipt beside it, and whether its dead are those it counted."""

from __future__ import annotations

import sqlite3

import numpy as np

from anglehash.errors import ModelError
from anglehash.gallery.store.database import State, death
from anglehash.gallery.store.layout import Receipt, Store
from anglehash.gallery.store.segments import LAST_ROW, Rows


def check_state(store: Store, receipt: Receipt, state: State, noted: int) -> None:
    """Compare the truth with the manifest and with the last generation that was acknowledged.

    Raises:
        ModelError: they do not belong together.
    """
    if noted > state.generation:
        raise ModelError(
            f"{store.database} is damaged: generation {noted} was acknowledged, but it holds {state.generation}; "
            "its log is lost or damaged. anglehash repair keeps what is left; or restore a backup"
        )
    other = (state.bits, state.model) != (receipt.bits, receipt.model)
    miscounted = state.generation == receipt.generation and state.live != receipt.count
    if other or miscounted or state.generation < receipt.generation:
        raise ModelError(
            f"{store.path.parent}: the manifest names {receipt.count} codes of {receipt.bits} bits of the model "
            f"{receipt.model} in generation {receipt.generation}, but {store.database.name} holds {state.live} of "
            f"{state.bits} bits of {state.model} in {state.generation}. Run anglehash repair, or restore a backup"
        )


def read_dead(connection: sqlite3.Connection, store: Store, state: State) -> Rows:
    """The rows that died.

    Raises:
        ModelError: their number or digest is not that of the state.
    """
    found = connection.execute("SELECT row, died FROM items WHERE died > 0").fetchall()
    digest = 0
    for row, died in found:
        digest ^= death(row, died) if type(died) is int and 0 < row <= LAST_ROW else -1
    if (len(found), digest) != (state.dead, state.dead_digest):
        raise ModelError(
            f"{store.database} is damaged: its removed items are not those that it counted. "
            "Run anglehash repair, or restore a backup"
        )
    return np.array([row for row, _ in found], dtype=np.uint32)
