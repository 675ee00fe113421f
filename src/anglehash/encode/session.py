"""ONNX Runtime, held on a short lead: one processor, nothing printed, no other file opened."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from anglehash.errors import ModelError, first_line


class Session:
    """An ONNX model with one input and one output, ready to run on the processor.

    Args:
        model: the serialised model.
        threads: of one operation; the results do not depend on it.

    Raises:
        ModelError: ONNX Runtime cannot read the model.
    """

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised; nothing is printed
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # Threads that wait by spinning take the processor from those that decode images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no other base
            raise ModelError(f"ONNX Runtime cannot read the model: {first_line(error)}") from error
        self._input = self._session.get_inputs()[0].name

    @property
    def signature(self) -> list[tuple[str, list[int | str | None]]]:
        """Type and shape, less its first extent, of each input and output."""
        return [
            (v.type, list(v.shape[1:])) for v in (*self._session.get_inputs(), *self._session.get_outputs())
        ]

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """The model's output for a batch of inputs."""
        return np.asarray(self._session.run(None, {self._input: batch})[0], dtype=np.float32)
