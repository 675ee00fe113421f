"""A frozen network with the preprocessing that belongs to it: images in, codes out."""

from __future__ import annotations

from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import pack
from anglehash.data.dataset import ImageStore
from anglehash.data.images.decoding import Pixels, Preprocessing
from anglehash.data.images.workers import prepare
from anglehash.encode.encoder import Encoding
from anglehash.encode.session import Session
from anglehash.errors import ModelError, first_line
from anglehash.progress import Progress, silent

BATCH = 32
"""Images that go through the network at once: more do not go faster, and need more memory."""


class Network:
    """An ONNX network from prepared images to logits.

    Args:
        model: the content of the ONNX file, which :func:`~anglehash.encode.onnx_check.check_plain` has let pass: one
            input, ``(n, size, size, 3)`` ``uint8`` RGB; one output, ``(n, bits)`` ``float32``.
        preprocessing: how its images are prepared.
        bits: length of a code.
        name: what to call it in messages.
        threads: CPU threads; the codes do not depend on it.

    Raises:
        ModelError: ONNX Runtime cannot read it, or its input or output are others.
    """

    def __init__(
        self,
        model: bytes,
        preprocessing: Preprocessing,
        *,
        bits: int,
        name: str,
        threads: int = 1,
    ) -> None:
        self.preprocessing = preprocessing
        self.bits = bits
        self._name = name
        self._session = Session(model, threads=threads)
        size = preprocessing.size
        wanted = [("tensor(uint8)", [size, size, 3]), ("tensor(float)", [self.bits])]
        if self._session.signature != wanted:
            raise ModelError(
                f"{name} must turn {wanted[0]} into {wanted[1]}, but has the signature {self._session.signature}"
            )

    def logits(self, pixels: Pixels) -> NDArray[np.float32]:
        """Logits of prepared images, ``(n, size, size, 3)``.

        Raises:
            ModelError: a logit is NaN or infinite, or the network fails.
        """
        found = np.empty((len(pixels), self.bits), dtype=np.float32)
        for start in range(0, len(pixels), BATCH):
            part = pixels[start : start + BATCH]
            try:
                logits = self._session(part)
            except Exception as error:  # ONNX Runtime's errors have no other base
                raise ModelError(f"{self._name} fails on an image: {first_line(error)}") from error
            if logits.shape != (len(part), self.bits):
                raise ModelError(
                    f"{self._name} gives {logits.shape} for {len(part)} images, not {self.bits} numbers each"
                )
            found[start : start + BATCH] = logits
        if not np.isfinite(found).all():
            raise ModelError(f"{self._name} gives NaN or infinite logits: its weights are unusable")
        return found

    def encode(
        self, images: ImageStore, *, rows: NDArray[np.int64] | None = None, progress: Progress = silent
    ) -> Encoding:
        """Codes of images; see :class:`~anglehash.encode.encoder.Encoder`. Decoding runs beside the network."""
        rows = np.arange(len(images), dtype=np.int64) if rows is None else np.asarray(rows, dtype=np.int64)
        kept = [np.zeros(0, dtype=np.int64)]
        logits = [np.zeros((0, self.bits), dtype=np.float32)]
        problems: list[tuple[int, str, str]] = []
        notes: list[tuple[int, str]] = []
        done = 0
        progress("codes", done, len(rows), "")
        batches = prepare(images, rows, self.preprocessing, batch=BATCH)
        with closing(batches):  # ends the decoders at once where the network fails
            for batch in batches:
                kept.append(batch.rows)
                logits.append(self.logits(batch.pixels))
                problems += batch.problems
                notes += batch.notes
                done += len(batch.rows) + len(batch.problems)
                progress("codes", done, len(rows), f"{len(problems)} skipped" if problems else "")
        values = np.concatenate(logits)
        none = np.zeros((len(values), 0), dtype=np.float32)
        return Encoding(np.concatenate(kept), pack(values), values, none, problems, notes)
