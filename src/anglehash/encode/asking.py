"""With which code an item asks for more like it, where queries have codes of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy as safetensors
from numpy.typing import NDArray
from safetensors import SafetensorError

from anglehash.codes import Codes, hamming, pack
from anglehash.data.dataset import ImageStore
from anglehash.encode.bundle import KIND, LEARNED, VERSION
from anglehash.encode.encoding import MODEL_VERSION, Encoder, Encoding
from anglehash.errors import ModelError, NoModelError
from anglehash.manifest import kind_of, read_manifest
from anglehash.progress import Report, silent

Asking = Callable[[Codes], Codes]
"""Codes of items to the codes with which they ask."""


def asking_of(folder: Callable[[], Path], model_id: str) -> Asking:
    """How the items of a gallery ask, by its model.

    Args:
        folder: gives the folder of the model or bundle; a copy may have to be fetched.
        model_id: of the gallery.

    Returns:
        :func:`of_its_class` where queries have codes of their own, else what leaves codes as they are: where
        one code serves both sides, and where a gallery has no copy of its model.

    Raises:
        ModelError: it is damaged, or another model.
    """
    try:
        path = folder()
    except NoModelError:
        return _same
    if not path.exists():
        return _same
    kind = KIND if kind_of(path) == KIND else "model"
    facts = read_manifest(path, kind, MODEL_VERSION if kind == "model" else VERSION)
    if facts.get("id") != model_id:
        raise ModelError(f"the gallery holds codes of the model {model_id}, but {path} is {facts.get('id')}")
    if facts.get("dual") is not True:
        return _same
    try:
        vectors = safetensors.load_file(path / LEARNED)["class_vectors"]
        if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != facts["bits"]:
            raise ValueError(f"class_vectors is {vectors.shape}, with codes of {facts['bits']} bits")
    except (SafetensorError, KeyError, OSError, ValueError) as error:
        raise ModelError(f"{path / LEARNED} is not what anglehash wrote: {error}") from error
    return lambda codes: of_its_class(codes, vectors)


def of_its_class(codes: Codes, class_vectors: NDArray[np.float32]) -> Codes:
    """The code of the class that each item is nearest to; the first of equally near ones.

    Args:
        codes: ``(n, ceil(bits / 8))`` packed, of items.
        class_vectors: ``(classes, bits)``, whose signs are the codes of classes. Bits that are 0 in all of them
            are of no class: there an item keeps its own.

    >>> vectors = np.array([[1, 1, 1, 1, 1, 1, 1, 1], [-1, -1, -1, -1, -1, -1, -1, 1]], np.float32)
    >>> [f"{code:08b}" for code in of_its_class(np.array([[0b11110111], [0b00000111]], np.uint8), vectors)[:, 0]]
    ['11111111', '00000001']
    >>> vectors[:, 4:] = 0
    >>> [f"{code:08b}" for code in of_its_class(np.array([[0b11010111], [0b00000111]], np.uint8), vectors)[:, 0]]
    ['11110111', '00000111']
    """
    known, told = pack(class_vectors), pack(np.abs(class_vectors).max(axis=0, keepdims=True))
    nearest: Codes = known[hamming(codes, known).argmin(axis=1)]
    return nearest | (codes & ~told)


class AsQueries:
    """An encoder whose codes are those with which images ask: for a program that searches with a file of codes.

    Args:
        encoder: it; where one code serves both sides the codes are the same.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.id = f"{encoder.id}, asking"
        self.bits = encoder.bits

    def encode(
        self,
        images: ImageStore,
        *,
        rows: NDArray[np.int64] | None = None,
        cache: Path | None = None,
        report: Report = silent,
    ) -> Encoding:
        """Codes of images; see :class:`~anglehash.encode.encoding.Encoder`."""
        found = self._encoder.encode(images, rows=rows, cache=cache, report=report)
        return found._replace(codes=found.query_codes, logits=found.query_logits, asking=None)


def _same(codes: Codes) -> Codes:
    return codes
