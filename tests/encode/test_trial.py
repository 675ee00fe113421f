"""B13 of the faults: a network is run in a process of its own, under limits, before it is believed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from anglehash import Bundle
from anglehash.data.images.decoding import Preprocessing
from anglehash.encode import trial
from anglehash.encode.bundle import NETWORK
from anglehash.encode.trial import try_out
from anglehash.errors import ModelError

SIZE, BITS = 8, 4
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")


def network(*extra: Any, initializers: Any = (), term: str | None = None) -> bytes:
    """A network of four logits, each the mean of all pixels, plus a term that other operators make."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "axes"], ["m"], keepdims=0),
        helper.make_node("Unsqueeze", ["m", "one"], ["u"]),
        helper.make_node("Expand", ["u", "shape"], ["e"]),
        *extra,
        helper.make_node("Add", ["e", term or "zero"], ["y"]),
    ]
    given = {"axes": [1, 2, 3], "one": [1], "shape": [1, BITS]}
    tensors = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in given.items()]
    tensors.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", SIZE, SIZE, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", BITS])
    graph = helper.make_graph(nodes, "g", [x], [y], initializer=[*tensors, *initializers])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())


def filled(name: str, *shape: int) -> tuple[Any, Any]:
    """A node that makes a tensor of this shape out of a few bytes, and its initializer."""
    tensor = numpy_helper.from_array(np.array(shape, np.int64), f"{name}-shape")
    value = numpy_helper.from_array(np.ones(1, np.float32), "")
    return helper.make_node("ConstantOfShape", [f"{name}-shape"], [name], value=value), tensor


def constant_of(gigabytes: float) -> bytes:
    node, shape = filled("c", int(gigabytes * 2**28))
    top = helper.make_node("ReduceMax", ["c"], ["t"], keepdims=0)
    return network(node, top, initializers=[shape], term="t")


def products(count: int, side: int) -> bytes:
    node, shape = filled("p0", side, side)
    steps = [helper.make_node("MatMul", ["p0", f"p{i}"], [f"p{i + 1}"]) for i in range(count)]
    top = helper.make_node("ReduceMax", [f"p{count}"], ["t"], keepdims=0)
    # Of the input, so that it is worked out when the network runs, and not when it is loaded.
    small = helper.make_node("Clip", ["t", "zero-d", "zero-d"], ["z"])
    zero = numpy_helper.from_array(np.zeros((), np.float32), "zero-d")
    return network(node, *steps, top, small, initializers=[shape, zero], term="z")


def tried(data: bytes) -> None:
    pixels = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    try_out(data, pixels, Preprocessing(size=SIZE), bits=BITS, name="it")


def test_a_network_that_keeps_the_limits_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried(network())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it is known"))
    tried(network())


@linux
@pytest.mark.parametrize("gigabytes", [3, 8, 64])
def test_a_constant_of_gigabytes_is_refused(gigabytes: int) -> None:
    began = time.monotonic()
    with pytest.raises(ModelError, match="MiB of memory"):
        tried(constant_of(gigabytes))
    assert time.monotonic() - began < 60


def test_endless_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 3.0)
    with pytest.raises(ModelError, match="takes more than 3 s"):
        tried(products(10_000, 2000))


def test_other_faults_are_named_as_before() -> None:
    unknown = network(helper.make_node("Identity", ["zero"], ["unused"]))
    with pytest.raises(ModelError, match="it must turn"):
        try_out(unknown, np.zeros((1, 8, 8, 3), np.uint8), Preprocessing(size=8), bits=5, name="it")
    with pytest.raises(ModelError, match="ONNX Runtime cannot read the model"):
        tried(b"no network")


@linux
def test_a_bundle_is_opened_only_after_its_network_was_tried(exported: Path, tmp_path: Path) -> None:
    import shutil

    from tests.encode.test_bundle import rewritten

    folder = Path(shutil.copytree(exported, tmp_path / "b"))
    hostile = onnx.load_from_string((folder / NETWORK).read_bytes())
    node, shape = filled("large", 2**31)
    hostile.graph.initializer.append(shape)
    hostile.graph.node.insert(0, node)
    hostile.graph.node.append(helper.make_node("ReduceMax", ["large"], ["top"], keepdims=0))
    last = hostile.graph.output[0].name
    for one in hostile.graph.node:
        for i, name in enumerate(one.output):
            if name == last:
                one.output[i] = "before"
    hostile.graph.node.append(helper.make_node("Add", ["before", "top"], [last]))
    (folder / NETWORK).write_bytes(hostile.SerializeToString())
    rewritten(folder)
    for probe in (True, False):
        with pytest.raises(ModelError, match="MiB of memory"):
            Bundle.open(folder, probe=probe)
