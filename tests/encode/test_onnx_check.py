"""What an ONNX file wants is read off its bytes as the onnx package reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from anglehash.encode.onnx_check import check_plain, fields
from anglehash.errors import ModelError


def model(*nodes: Any, initializers: Any = (), **options: Any) -> Any:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    nodes = nodes or (helper.make_node("Relu", ["x"], ["y"]),)
    graph = helper.make_graph(list(nodes), "g", [value], [out], initializer=list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], **options)


def refused(what: Any, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        check_plain(what if isinstance(what, bytes) else what.SerializeToString(), "it")


def tensor(**changes: Any) -> Any:
    made = numpy_helper.from_array(np.ones(3, np.float32), "w")
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def external(path: str = "../../etc/passwd") -> Any:
    made = tensor(data_location=TensorProto.EXTERNAL)
    made.ClearField("raw_data")
    made.external_data.add(key="location", value=path)
    return made


def inside(graph: Any) -> Any:
    """A node that holds a graph."""
    return helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph)


def test_a_plain_model_passes() -> None:
    check_plain(model(initializers=[tensor()]).SerializeToString(), "it")
    check_plain(model(inside(model().graph)).SerializeToString(), "it")


def test_weights_in_other_files_are_refused_wherever_they_are() -> None:
    refused(model(initializers=[external()]), "it keeps weights in other files")
    constant = helper.make_node("Constant", [], ["y"], value=external("/dev/zero"))
    refused(model(constant), "other files")
    refused(model(inside(model(initializers=[external()]).graph)), "other files")
    sparse = model()
    sparse.graph.sparse_initializer.add().values.CopyFrom(external())
    refused(sparse, "other files")
    several = model(helper.make_node("Constant", [], ["y"], values=[tensor(), external()]))
    refused(several, "other files")
    only_named = tensor()  # no location, but a path all the same
    only_named.external_data.add(key="location", value="w.bin")
    refused(model(initializers=[only_named]), "other files")


def test_operators_outside_the_standard_are_refused_wherever_they_are() -> None:
    custom = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    refused(model(custom), r"a custom operator of 'com\.microsoft'")
    refused(model(inside(model(custom).graph)), "custom operator")
    check_plain(model(helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")).SerializeToString(), "it")


def test_what_may_run_without_end_or_brings_code_is_refused() -> None:
    loop = helper.make_node("Loop", ["", "", "x"], ["y"], body=model().graph)
    refused(model(loop), "the operator Loop, which may run without end")
    function = helper.make_function(
        "mine", "F", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 20)]
    )
    refused(model(functions=[function]), "functions of its own")
    training = model()
    training.training_info.add()
    refused(training, "a training")


@pytest.mark.parametrize(
    "data", [b"", b"not a model", b"\x00" * 40, b"\x3a\xff\xff\xff\xff\x7f", b"\xff" * 30]
)
def test_other_bytes_are_no_model(data: bytes) -> None:
    refused(data, "it is not an ONNX model")


def test_the_runtimes_own_format_is_refused() -> None:
    refused(b"\x20\x00\x00\x00ORTM" + bytes(40), "own format")


def test_endless_depth_is_refused() -> None:
    graph = model().graph
    for _ in range(20):  # one branch each: two would double it every time
        graph = model(helper.make_node("If", ["x"], ["y"], then_branch=graph)).graph
    refused(model(helper.make_node("If", ["x"], ["y"], then_branch=graph)), "inside each other")


@given(
    st.lists(
        st.tuples(st.integers(1, 2**29 - 1), st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=300)))
    )
)
def test_fields_come_back_as_they_were_written(written: list[tuple[int, int | bytes]]) -> None:
    def varint(value: int) -> bytes:
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes([*out, value])

    message = b"".join(
        varint(n << 3) + varint(v) if isinstance(v, int) else varint(n << 3 | 2) + varint(len(v)) + v
        for n, v in written
    )
    read = [(n, v if isinstance(v, int) else bytes(v)) for n, v in fields(memoryview(message), "it")]
    assert read == written


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        check_plain(data, "it")
    except ModelError:
        return
    onnx.ModelProto().ParseFromString(data)  # what passes is a message to the onnx package too
