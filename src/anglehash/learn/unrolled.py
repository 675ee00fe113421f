"""The descent of dual codes as plain ONNX nodes, one step after the other.

An exporter would trace the same steps in minutes; and a loop, the other way to say it, is refused by whoever
opens a bundle, since a hostile file could loop for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.errors import MissingExtraError
from anglehash.learn.shallow.dual_head import PASSES, TIE


def with_descent(network: bytes, push: NDArray[np.float64], *, bits: int, kept: int = 0) -> bytes:
    """Put the descent behind a network, as :func:`~anglehash.learn.shallow.dual_head.descend` computes it.

    Args:
        network: an ONNX model with one output, ``(n, searched + bits + kept)`` ``float64``: the pull of all bits
            that are searched, the logits of queries, and those of bits that both sides share.
        push: ``(searched, searched)``.
        bits: how many of the searched bits are in a code.
        kept: further bits of a code, which both sides share.

    Returns:
        The model with the output ``logits``, ``(n, 2 (bits + kept))`` ``float32``: those of items, then those of
        queries.

    Raises:
        MissingExtraError: the onnx package is not installed.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise MissingExtraError("onnx", extra="train") from error
    model = onnx.load_model_from_string(network)
    graph = model.graph
    constants = _constants(push, bits, kept)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    for name, operator, inputs, attributes in _steps(graph.output[0].name, len(push), bits, kept):
        graph.node.append(onnx.helper.make_node(operator, inputs, [name], name=f"node {name}", **attributes))
    shape = [graph.output[0].type.tensor_type.shape.dim[0].dim_param or "n", 2 * (bits + kept)]
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, shape))
    return bytes(model.SerializeToString())


_FLOAT = 1  # of onnx.TensorProto

Step = tuple[str, str, list[str], dict[str, Any]]
"""The name of a value, and the operator, inputs and attributes that it comes from."""


def _constants(push: NDArray[np.float64], bits: int, kept: int) -> dict[str, NDArray[Any]]:
    """What the steps refer to, by name."""
    searched = len(push)
    others = push - np.diag(push.diagonal())
    rows = {f"descent push {k}": others[k : k + 1] for k in range(len(push))}
    places = {f"descent place {k}": np.array([k], dtype=np.int64) for k in range(len(push))}
    fixed = {
        "descent first": np.arange(searched, dtype=np.int64),
        "descent second": np.arange(searched, searched + bits, dtype=np.int64),
        "descent push": others,
        "descent tie": np.full((), TIE),
        "descent minus tie": np.full((), -TIE),
        "descent one": np.ones((), dtype=np.float64),
        "descent minus one": -np.ones((), dtype=np.float64),
        "descent least": np.full((), 1e-6),
    }
    if kept:
        fixed["descent third"] = np.arange(searched + bits, searched + bits + kept, dtype=np.int64)
    return {**fixed, **rows, **places}


def _steps(given: str, searched: int, bits: int, kept: int) -> Iterator[Step]:
    """The nodes, in order."""
    tie, less, one, minus = "descent tie", "descent minus tie", "descent one", "descent minus one"
    yield "descent pull", "Gather", [given, "descent first"], {"axis": 1}
    yield "descent asked", "Gather", [given, "descent second"], {"axis": 1}
    yield "descent up", "Greater", ["descent pull", tie], {}
    yield "descent start", "Where", ["descent up", one, minus], {}
    yield "descent others", "MatMul", ["descent start", "descent push"], {}
    yield "descent field", "Sub", ["descent pull", "descent others"], {}
    now, last = [f"descent bit {k}" for k in range(searched)], [""] * searched
    for k in range(searched):
        yield now[k], "Gather", ["descent start", f"descent place {k}"], {"axis": 1}
    field = "descent field"
    for step in range(PASSES * searched):
        k, own = step % searched, f"descent {step}"
        yield f"{own} last", "Gather", [field, f"descent place {k}"], {"axis": 1}
        yield f"{own} up", "Greater", [f"{own} last", tie], {}
        yield f"{own} down", "Less", [f"{own} last", less], {}
        yield f"{own} rise", "Where", [f"{own} up", one, now[k]], {}
        yield f"{own} better", "Where", [f"{own} down", minus, f"{own} rise"], {}
        yield f"{own} turn", "Sub", [f"{own} better", now[k]], {}
        yield f"{own} change", "Mul", [f"{own} turn", f"descent push {k}"], {}
        yield f"{own} field", "Sub", [field, f"{own} change"], {}
        now[k], last[k], field = f"{own} better", f"{own} last", f"{own} field"
    yield "descent bits", "Concat", now[:bits], {"axis": 1}
    yield "descent last", "Concat", last[:bits], {"axis": 1}
    yield "descent size", "Abs", ["descent last"], {}
    yield "descent sure", "Max", ["descent size", "descent least"], {}
    yield "descent logits", "Mul", ["descent bits", "descent sure"], {}
    sides = ["descent logits", "descent asked"]
    if kept:
        yield "descent kept", "Gather", [given, "descent third"], {"axis": 1}
        sides = ["descent logits", "descent kept", "descent asked", "descent kept"]
    yield "descent both", "Concat", sides, {"axis": 1}
    yield "logits", "Cast", ["descent both"], {"to": _FLOAT}
