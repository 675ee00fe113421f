from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import anglehash.models.backbones.onnx_file as onnx_file
from anglehash.errors import ConfigError, ModelError
from anglehash.models.backbones import Backbone, make_backbone, restore_backbone

SIZE = 8
Save = Callable[..., str]


def graph_of(*nodes: Any, shape: list[Any], kind: int = TensorProto.FLOAT, initializer: Any = ()) -> Any:
    return helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, None)],
        initializer=list(initializer),
    )


FIRST: list[str | int | None] = ["n", 3, "h", "w"]
LAST = ["n", "h", "w", 3]
POOL = helper.make_node("GlobalAveragePool", ["images"], ["features"])
SAME = helper.make_node("Identity", ["images"], ["features"])
FLAT = [
    helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["features"]),
]
TO_FIRST = helper.make_node("Transpose", ["images"], ["first"], perm=[0, 3, 1, 2])
POOL_FIRST = helper.make_node("GlobalAveragePool", ["first"], ["features"])
CAST = helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT)
POOL_CAST = helper.make_node("GlobalAveragePool", ["float"], ["features"])


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a graph as a model; returns its name as a backbone."""

    def write(graph: Any, *, opsets: dict[str, int] | None = None, scaling: Any = None) -> str:
        versions = [helper.make_opsetid(name, n) for name, n in (opsets or {"": 17}).items()]
        path = tmp_path / "network.onnx"
        path.write_bytes(helper.make_model(graph, opset_imports=versions, ir_version=8).SerializeToString())
        if scaling is not None:
            (tmp_path / "network.onnx.json").write_text(json.dumps(scaling))
        return f"onnx:{path}"

    return write


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


def means(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = images.mean(axis=(1, 2))
    return result


@pytest.mark.parametrize(
    "graph",
    [
        graph_of(POOL, shape=FIRST),
        graph_of(*FLAT, shape=FIRST),
        graph_of(SAME, shape=FIRST),  # a map as large as the image: averaged here
        graph_of(TO_FIRST, POOL_FIRST, shape=LAST),
        graph_of(CAST, POOL_CAST, shape=FIRST, kind=TensorProto.UINT8),
        graph_of(POOL, shape=[1, 3, SIZE, SIZE]),
        graph_of(POOL, shape=["n", 3, SIZE, SIZE]),
    ],
    ids=["n,3,1,1", "n,3", "map", "channels last", "uint8", "one by one", "fixed size"],
)
def test_runs_what_people_export(graph: Any, save: Save, images: NDArray[np.uint8]) -> None:
    backbone = make_backbone(save(graph), size=SIZE)
    assert backbone.width == 3
    assert backbone.pretrained
    np.testing.assert_allclose(backbone(images), means(images), rtol=1e-5)
    assert backbone(images[:0]).shape == (0, 3)


def test_the_file_beside_it_scales_the_pixels(save: Save, images: NDArray[np.uint8]) -> None:
    scaling = {"scale": 1 / 255, "mean": [0.5, 0, 0.25], "std": [0.5, 1, 2]}
    plain = make_backbone(save(graph_of(POOL, shape=FIRST)), size=SIZE)
    scaled = make_backbone(save(graph_of(POOL, shape=FIRST), scaling=scaling), size=SIZE)
    expected = (means(images) / 255 - [0.5, 0, 0.25]) / [0.5, 1, 2]
    np.testing.assert_allclose(scaled(images), expected, rtol=1e-4, atol=1e-6)
    assert scaled.identity != plain.identity


@pytest.mark.parametrize(
    "scaling",
    [
        {"mean": [0, 0]},
        {"std": [1, 0, 1]},
        {"mean": "grey"},
        {"sdt": [1, 1, 1]},
        [1],
        {"scale": float("nan")},
        1,
    ],
)
def test_a_wrong_file_beside_it_is_named(scaling: Any, save: Save) -> None:
    with pytest.raises(ConfigError, match=r"network\.onnx\.json"):
        make_backbone(save(graph_of(POOL, shape=FIRST), scaling=scaling), size=SIZE)


def test_uint8_cannot_be_scaled(save: Save) -> None:
    graph = graph_of(CAST, POOL_CAST, shape=FIRST, kind=TensorProto.UINT8)
    with pytest.raises(ConfigError, match="must not scale"):
        make_backbone(save(graph, scaling={"scale": 0.5}), size=SIZE)


def test_identity_is_the_content_and_not_the_place(save: Save, tmp_path: Path) -> None:
    name = save(graph_of(POOL, shape=FIRST))
    (tmp_path / "copy.onnx").write_bytes((tmp_path / "network.onnx").read_bytes())
    first = make_backbone(name, size=SIZE)
    assert make_backbone(f"onnx:{tmp_path / 'copy.onnx'}", size=SIZE).identity == first.identity
    assert make_backbone(name, size=SIZE + 1).identity != first.identity
    assert make_backbone(save(graph_of(*FLAT, shape=FIRST)), size=SIZE).identity != first.identity


@pytest.mark.parametrize("scaling", [None, {"mean": [1, 2, 3]}])
def test_a_model_keeps_its_own_copy(
    scaling: Any, save: Save, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    backbone = make_backbone(save(graph_of(POOL, shape=FIRST), scaling=scaling), size=SIZE)
    folder = tmp_path / "model"
    folder.mkdir()
    backbone.save(folder)
    for path in tmp_path.glob("network.onnx*"):
        path.unlink()
    facts = {"name": backbone.name, "identity": backbone.identity}
    again = restore_backbone(folder, facts, backbone.preprocessing.to_dict())
    assert isinstance(again, Backbone)
    np.testing.assert_array_equal(again(images), backbone(images))
    with pytest.raises(ModelError, match="not the one"):
        restore_backbone(folder, {**facts, "identity": "other"}, backbone.preprocessing.to_dict())


def test_it_cannot_be_fine_tuned(save: Save) -> None:
    backbone = make_backbone(save(graph_of(POOL, shape=FIRST)), size=SIZE)
    assert backbone.module is None
    with pytest.raises(ConfigError, match="cannot be fine-tuned"):
        backbone.trainable()
    with pytest.raises(ConfigError, match="cannot be fine-tuned"):
        backbone.with_weights({})


def test_another_size_is_answered_with_the_right_one(save: Save) -> None:
    with pytest.raises(ConfigError, match="use --image-size 8"):
        make_backbone(save(graph_of(POOL, shape=["n", 3, 8, 8])), size=16)


TWO = helper.make_tensor_value_info("more", TensorProto.FLOAT, FIRST)
ADD = helper.make_node("Add", ["images", "more"], ["features"])


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (graph_of(POOL, shape=["n", 1, "h", "w"]), "must take float32 or uint8 images"),
        (graph_of(SAME, shape=["n", 3]), "must take float32 or uint8 images"),
        (graph_of(POOL, shape=FIRST, kind=TensorProto.DOUBLE), "must take float32 or uint8 images"),
        (graph_of(POOL, shape=[4, 3, "h", "w"]), "4 images at a time"),
        (graph_of(POOL, shape=["n", 3, 8, 16]), "16 x 8 px"),
        (graph_of(helper.make_node("ReduceMean", ["images"], ["features"]), shape=FIRST), "must give"),
        (
            helper.make_graph([ADD], "g", [TWO, *graph_of(shape=FIRST).input], graph_of(shape=FIRST).output),
            "1 input",
        ),
    ],
    ids=["grey", "vectors", "double", "batch of 4", "oblong", "scalar", "two inputs"],
)
def test_what_is_not_backbone_is_refused(graph: Any, message: str, save: Save) -> None:
    with pytest.raises(ModelError, match=message):
        make_backbone(save(graph), size=SIZE)


def outside(place: str) -> Any:
    """A weight that lies in another file."""
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    return tensor


@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "weights.bin"])
@pytest.mark.parametrize("hidden", [False, True], ids=["weight", "inside a branch"])
def test_weights_in_other_files_are_refused(place: str, hidden: bool, save: Save) -> None:
    if hidden:
        constant = helper.make_node("Constant", [], ["weight"], value=outside(place))
        result = helper.make_tensor_value_info("weight", TensorProto.FLOAT, [1])
        branch = helper.make_graph([constant], "branch", [], [result])
        node = helper.make_node("If", ["condition"], ["unused"], then_branch=branch, else_branch=branch)
        condition = helper.make_tensor("condition", TensorProto.BOOL, [], [True])
        graph = graph_of(POOL, node, shape=FIRST, initializer=[condition])
    else:
        graph = graph_of(POOL, shape=FIRST, initializer=[outside(place)])
    with pytest.raises(ModelError, match="keeps weights in other files"):
        make_backbone(save(graph), size=SIZE)


@pytest.mark.parametrize("domain", ["my.own", "com.microsoft"])
def test_custom_operators_are_refused(domain: str, save: Save) -> None:
    node = helper.make_node("Anything", ["images"], ["features"], domain=domain)
    with pytest.raises(ModelError, match=f"custom operator {domain}.Anything"):
        make_backbone(save(graph_of(node, shape=FIRST), opsets={"": 17, domain: 1}), size=SIZE)


def test_functions_of_the_model_itself_are_welcome(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "Pool", ["images"], ["features"], [POOL], opset[:1])
    node = helper.make_node("Pool", ["images"], ["features"], domain="local")
    model = helper.make_model(
        graph_of(node, shape=FIRST), opset_imports=opset, functions=[function], ir_version=8
    )
    onnx.save(model, tmp_path / "local.onnx")
    backbone = make_backbone(f"onnx:{tmp_path / 'local.onnx'}", size=SIZE)
    np.testing.assert_allclose(backbone(images), means(images), rtol=1e-5)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".bin", ".PT"])
def test_pickles_are_refused_unread(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"anything")
    with pytest.raises(ModelError, match=r"convert it with torch\.onnx\.export"):
        make_backbone(f"onnx:{path}", size=SIZE)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickle in disguise", b"\x08\x08" * 100])
def test_what_is_not_model_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"file\.onnx"):
        make_backbone(f"onnx:{path}", size=SIZE)


def test_an_oversized_file_is_refused_unread(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 10)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
    name = save(graph_of(POOL, shape=FIRST))
    with pytest.raises(ModelError, match="the most that is read"):
        make_backbone(name, size=SIZE)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file .*gone\.onnx"):
        make_backbone(f"onnx:{tmp_path / 'gone.onnx'}", size=SIZE)


def test_unusable_features_are_reported(save: Save, images: NDArray[np.uint8]) -> None:
    log = [helper.make_node("Log", ["images"], ["log"]), helper.make_node("Flatten", ["log"], ["features"])]
    backbone = make_backbone(save(graph_of(*log, shape=FIRST)), size=SIZE)
    images = np.maximum(images, 1)
    assert np.isfinite(backbone(images)).all()
    images[2, 0, 0, 0] = 0  # its logarithm is -inf
    with pytest.raises(ModelError, match="for 1 of 5 images"):
        backbone(images)
