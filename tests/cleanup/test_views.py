"""When two shapes are surely one, and which constant makes a Reshape."""

import onnx_ir as ir
import onnx_ir.passes.common as common
import pytest

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.cleanup.rule import Builder
from attn_export.exporter.cleanup.views import is_view, reshape_like, reshape_target, same_shape, source_of
from tests.cleanup.conftest import graph, model_of


def value(shape: tuple[Dim, ...] | None) -> ir.Value:
    return ir.Value(name="v", shape=None if shape is None else ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((2, 3), (2, 3), True),
        ((2, 3), (3, 2), False),
        (("N", 8), ("N", 8), True),
        # One axis is left to the number of elements, which views don't change.
        (("N", 8), (None, 8), True),
        ((None, 8), (None, 8), True),
        (("N", 8), ("M", 8), True),
        (("N", 8), (4, 8), True),
        (("N", "H"), ("H", "N"), False),
        ((None, None), (None, None), False),
        (("N", None), (None, "H"), False),
        (("N", 8, 1), ("N", 8), False),
        ((), (), True),
        (None, (2, 3), False),
        (None, None, False),
    ],
)
def test_shapes_are_the_same_only_where_that_is_sure(
    first: tuple[Dim, ...] | None, second: tuple[Dim, ...] | None, same: bool
) -> None:
    assert same_shape(value(first), value(second)) is same
    assert same_shape(value(second), value(first)) is same


@pytest.mark.parametrize(
    ("source", "shape", "target"),
    [
        (("N", 8, 1, 1), ("N", 8), [0, 8]),
        (("N", 8), ("N", 8, 1, 1), [0, 8, 1, 1]),
        (("N", 8, "H", "W"), ("N", 8, "P"), [0, 8, -1]),
        (("N", 8, "H", "W"), ("N", 8, "P", "Q"), None),
        ((1, 8, "N"), ("N", 8), [-1, 8]),
        ((None, 8, 1), (None, 8), [-1, 8]),
        ((None, 8, None), (None, 8, None), None),
        (("N", "H", 2), ("N", 2, "H"), [0, 2, -1]),
        (("N", "H"), ("H", "N"), None),
        ((2, 3), (6,), [6]),
        (("N", 8), ("N", 8, "N"), [0, 8, -1]),
        ((0, 8), (0, 8), None),
        ((1,), (), []),
        (None, ("N",), None),
        (("N",), None, None),
    ],
)
def test_a_constant_says_the_shape_where_one_can(
    source: tuple[Dim, ...] | None, shape: tuple[Dim, ...] | None, target: list[int] | None
) -> None:
    made = reshape_target(value(source), value(shape))
    assert (None if made is None else made.tolist()) == target
    assert made is None or made.dtype == "int64"


def test_a_reshape_is_drawn_with_its_shape_and_its_constant() -> None:
    builder = Builder()
    made = reshape_like(builder, value(("N", 8, 1, 1)), value(("N", 8)))
    assert made is not None
    (node,) = builder.nodes
    assert (node.op_type, str(made.shape), made.dtype) == ("Reshape", "[N,8]", ir.DataType.FLOAT)
    assert node.inputs[1] is not None
    assert node.inputs[1].name == "shape_0x8"


def test_nothing_is_drawn_where_no_constant_says_the_shape() -> None:
    builder = Builder()
    assert reshape_like(builder, value((None, None)), value((None, None))) is None
    assert builder.nodes == []


@pytest.mark.parametrize(
    ("body", "view"),
    [
        ("y = Flatten(x)", True),
        ("y = Reshape(x, two)", True),
        ("y = Reshape(x, given)", False),
        ("y = Reshape(x, open)", False),
        ("y = Squeeze(x, two)", True),
        ("y = Squeeze(x)", False),
        ("y = Squeeze(x, given)", False),
        ("y = Unsqueeze(x, two)", True),
        ("y = Relu(x)", False),
        ("y = Transpose(x)", False),
    ],
)
def test_what_a_view_is(body: str, view: bool) -> None:
    text = graph(
        "float[N, 8, 1, 1] x, int64[2] given, int64[2] open",
        "float[A] y",
        body,
        "int64[2] two = {2, 3}, int64[2] open = {2, 3}",
    )
    assert is_view(model_of(text).graph.node(0)) is view


def test_no_node_is_no_view() -> None:
    assert not is_view(None)
    assert source_of(None) is None


def test_the_source_lies_behind_every_view() -> None:
    text = graph(
        "float[N, 8, 1, 1] x",
        "float[N, 8] y",
        "r = Relu(x) f = Flatten(r) u = Unsqueeze(f, two) y = Flatten(u)",
        "int64[1] two = {2}",
    )
    model = model_of(text)
    common.ShapeInferencePass()(model)
    found = source_of(model.graph.outputs[0])
    assert found is not None
    assert found.name == "r"
