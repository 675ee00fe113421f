"""Whether what is whole also makes sense. A checksum says that bytes are those that were written, not by whom.

A backup, or a gallery that is copied from elsewhere, may be made by a stranger: every number is compared with what
this library would have written, so that nothing is counted, hidden or mixed up that a search would then trust.
"""

from __future__ import annotations

from anglehash.codes import check_bits, width
from anglehash.data.image_hash import KEY_BYTES
from anglehash.data.perceptual_hash import SIGNATURE
from anglehash.errors import AnglehashError
from anglehash.gallery.store.database import State
from anglehash.gallery.store.items import Record, labels_of, labels_text, metadata_of, metadata_text
from anglehash.gallery.store.segments import LAST_ROW

_LENGTHS = {"content": (0, KEY_BYTES), "pixels": (0, KEY_BYTES), "signature": (0, SIGNATURE.itemsize)}


def state_fault(state: State) -> str:
    """What is wrong with a state whose crc is right; empty where nothing is."""
    try:
        check_bits(state.bits)
    except AnglehashError as error:
        return str(error)
    if state.last_row > LAST_ROW or state.live + state.dead > state.last_row:
        return f"it counts {state.live} items and {state.dead} removed ones in {state.last_row} rows"
    return "" if state.complete else "it is of a gallery that is not complete"


def row_fault(record: Record, died: object, state: State) -> str:
    """What is wrong with a row whose crc is right; empty where nothing is.

    Args:
        record: the row.
        died: the generation in which it died, or 0.
        state: of its database; nothing is wrong with it.
    """
    row, born, _, _, _, content, pixels, signature, labels, metadata, code, _ = record
    if not 0 < row <= state.last_row or not 0 < born <= state.generation:
        return f"row {row} of generation {born} is beyond those that were counted"
    if type(died) is not int or (died and not born <= died <= state.generation):
        return f"row {row} died in generation {died!r}, which there was not"
    size = width(state.bits)
    if len(code) != size or code[-1] & ((1 << (8 * size - state.bits)) - 1):
        return f"row {row} has no code of {state.bits} bits"
    for (name, lengths), value in zip(_LENGTHS.items(), (content, pixels, signature), strict=True):
        if len(value) not in lengths:
            return f"row {row} has a {name} of {len(value)} bytes"
    try:
        said = labels_of(labels)
        same = all(isinstance(label, str) for label in said) and labels_text(said) == labels
        same &= metadata_text(metadata_of(metadata)) == metadata
    except (ValueError, TypeError, RecursionError, AnglehashError):
        same = False
    return "" if same else f"row {row} has labels or metadata that are not written as they are here"
