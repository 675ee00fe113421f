"""Codes and ids as files that other tools read: Parquet, NumPy, faiss. They are written, and never read back."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anglehash.encode.codes_file import write_codes
from anglehash.errors import ConfigError, unknown
from anglehash.files import refuse_existing, write_atomic
from anglehash.gallery.interface import AnyGallery
from anglehash.gallery.store.items import Item, metadata_text


def export_codes(gallery: AnyGallery, path: Path, *, force: bool = False) -> int:
    """Write all codes of a gallery, in its order, in the format that the file's suffix names; how many there were.

    - ``.parquet``: columns ``id``, ``code`` (binary of ``ceil(bits / 8)`` bytes), ``labels`` (list of text),
      ``metadata`` (JSON); the schema's metadata has ``bits`` and ``model``.
    - ``.npz``: ``codes``, ``ids``, ``bits``, as ``anglehash encode`` writes them.
    - ``.faiss``: an ``IndexBinaryFlat``; item ``i`` is line ``i`` of ``FILE.ids.json``. faiss wants whole bytes: spare
      bits are 0 in all codes, and in a query that is packed the same way, so distances are the same.

    What of an id is not UTF-8 is written as a Python escape in Parquet; the other two keep it.

    Raises:
        ConfigError: another suffix.
        OutputExistsError: there is something at ``path`` and ``force`` is not set.
    """
    if path.suffix not in WRITERS:
        raise unknown("format of codes (by the file's suffix)", path.suffix, WRITERS)
    refuse_existing(path, force=force)
    items = [stored.item for stored in gallery]
    WRITERS[path.suffix](gallery, items, path)
    return len(items)


def _parquet(gallery: AnyGallery, items: list[Item], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": pa.array([_text(item.id) for item in items], pa.string()),
        "code": pa.array([item.code for item in items], pa.binary(gallery.codes.shape[1])),
        "labels": pa.array(
            [[_text(label) for label in item.labels] for item in items], pa.list_(pa.string())
        ),
        "metadata": pa.array([metadata_text(item.metadata) for item in items], pa.string()),
    }
    facts = {"bits": str(gallery.bits), "model": gallery.model_id}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(facts), buffer)
    write_atomic(path, buffer.getvalue())


def _npz(gallery: AnyGallery, items: list[Item], path: Path) -> None:
    write_codes(path, gallery.codes, [item.id for item in items], gallery.bits)


def _faiss(gallery: AnyGallery, items: list[Item], path: Path) -> None:
    import faiss

    codes = np.ascontiguousarray(gallery.codes)
    if not len(codes):
        raise ConfigError(f"{gallery.path} is empty: nothing to index")
    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(codes)
    write_atomic(path, faiss.serialize_index_binary(index).tobytes())
    ids = json.dumps([item.id for item in items], indent=0)
    write_atomic(path.with_name(path.name + ".ids.json"), ids.encode("ascii"))


def _text(text: str) -> str:
    r"""Text as UTF-8 can hold it.

    >>> _text("caf\udce9")
    'caf\\udce9'
    """
    return text.encode("utf-8", "backslashreplace").decode()


WRITERS: dict[str, Callable[[AnyGallery, list[Item], Path], None]] = {
    ".parquet": _parquet, ".npz": _npz, ".faiss": _faiss,
}  # fmt: skip
