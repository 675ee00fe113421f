"""What an ONNX file wants, read off its bytes before anything runs it.

An ONNX file is a protobuf message. ONNX Runtime acts on what it finds while it loads: it opens the files that
tensors refer to and looks up operators. So the bytes are walked first, with the few field numbers of ``onnx.proto``
that matter, without the ``onnx`` package and without building anything out of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from anglehash.errors import ModelError

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
"""Operators that the ONNX standard defines; all others need code that is not in the file."""

ENDLESS = ("Loop", "Scan")
"""Operators of the standard that may run without end; no network of ours has one."""

_DEEPEST = 32  # messages inside each other; a plain network has 5

# Message -> field number -> the message in that field, as far as they matter. Source: onnx.proto, IR version 13.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}  # fmt: skip

_TRAINING, _FUNCTION = 20, 25  # of a model
_OPERATOR, _DOMAIN = 4, 7  # of a node
_EXTERNAL, _LOCATION = 13, 14  # of a tensor


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: which.
        value: an integer; or the bytes of a text, a number or a message.
    """

    number: int
    value: int | memoryview


def check_plain(model: bytes, name: str) -> None:
    """Refuse a model that needs anything that is not in it.

    Args:
        model: the content of an ONNX file.
        name: what to call it in messages.

    Raises:
        ModelError: it is not an ONNX file, keeps weights in other files, wants operators outside the standard or
            such as may run without end, or brings functions or a training of its own.
    """
    if model[4:8] == b"ORTM":  # ONNX Runtime's own format, which it recognises by itself
        raise ModelError(f"{name} is in ONNX Runtime's own format: only plain ONNX is read")
    todo = [("model", memoryview(model), 0)]
    graphs = 0
    while todo:
        kind, message, depth = todo.pop()
        if depth > _DEEPEST:
            raise ModelError(f"{name} is damaged: more than {_DEEPEST} messages lie inside each other")
        for field in fields(message, name):
            _check(kind, field, name)
            inside = _INSIDE[kind].get(field.number)
            if inside and isinstance(field.value, memoryview):
                todo.append((inside, field.value, depth + 1))
                graphs += kind == "model"
    if not graphs:
        raise ModelError(f"{name} is not an ONNX model: it has no graph")


def _check(kind: str, field: Field, name: str) -> None:
    """Refuse a field that asks for more than the file."""
    number, value = field
    if kind == "tensor" and (number == _EXTERNAL or (number == _LOCATION and value != 0)):
        raise ModelError(f"{name} keeps weights in other files: save it again with all of them in it")
    if kind == "model" and number in (_TRAINING, _FUNCTION):
        what = "functions of its own" if number == _FUNCTION else "a training"
        raise ModelError(f"{name} brings {what}: only plain networks are read")
    if kind == "node" and isinstance(value, memoryview):
        text = bytes(value).decode(errors="replace")
        if number == _DOMAIN and text not in DOMAINS:
            raise ModelError(
                f"{name} wants a custom operator of {text!r}: only those of the ONNX standard are run"
            )
        if number == _OPERATOR and text in ENDLESS:
            raise ModelError(f"{name} has the operator {text}, which may run without end: refused")


def fields(message: memoryview, name: str) -> Iterator[Field]:
    r"""The fields of a protobuf message, in their order.

    Args:
        message: its bytes.
        name: what to call the file in messages.

    Raises:
        ModelError: the bytes are no message.

    Field 1 is the number 150; field 2 is the text "hi".

    >>> [(number, value if isinstance(value, int) else bytes(value))
    ...  for number, value in fields(memoryview(b"\x08\x96\x01\x12\x02hi"), "it")]
    [(1, 150), (2, b'hi')]
    """
    place = 0
    while place < len(message):
        tag, place = _varint(message, place, name)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = _varint(message, place, name)
            yield Field(number, value)
            continue
        if wire == 2:
            length, place = _varint(message, place, name)
        else:
            length = {1: 8, 5: 4}.get(wire, -1)
        if number == 0 or length < 0 or place + length > len(message):
            raise ModelError(f"{name} is not an ONNX model, or is damaged")
        yield Field(number, message[place : place + length])
        place += length


def _varint(message: memoryview, place: int, name: str) -> tuple[int, int]:
    """A number of up to ten bytes of seven bits each, and where it ends."""
    value = 0
    for i in range(10):
        if place + i == len(message):
            break
        byte = message[place + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, place + i + 1
    raise ModelError(f"{name} is not an ONNX model, or is damaged")
