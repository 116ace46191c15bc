"""What rules are told of nodes and values."""

import onnx_ir as ir
import pytest

from attn_export.exporter.graph.facts import (
    attribute,
    axes_of,
    constant,
    dims,
    is_op,
    is_pooled,
    is_read_once,
    made_by,
    only_user,
    other_input,
    rank,
    scalar,
    users,
)
from tests.cleanup.conftest import graph, model_of


def only(body: str, constants: str = "", inputs: str = "float[N, 8, H, W] x", opset: int = 20) -> ir.Node:
    return model_of(graph(inputs, "float[A] y", body, constants, opset=opset)).graph.node(0)


@pytest.mark.parametrize(
    ("node", "axes"),
    [
        (only("y = ReduceMean(x, a)", "int64[2] a = {-1, 2}"), (2, 3)),
        (only("y = ReduceMean <axes = [-1, 1]> (x)", opset=13), (1, 3)),
        (only("y = ReduceMean(x)"), (0, 1, 2, 3)),
        (only("y = ReduceMean <noop_with_empty_axes = 1> (x)"), None),
        (only("y = ReduceMean(x, a)", inputs="float[N, 8, H, W] x, int64[1] a"), None),
        (only("y = ReduceMean(x, a)", "int64[1] a = {1}", "float[N, 8] x, int64[1] a"), None),
        (only("y = ReduceMean(x, a)", "int64[1] a = {1}", "float[] x"), None),
        (only("y = Squeeze(x, a)", "int64[2] a = {-1, -2}"), (2, 3)),
        (only("y = Squeeze(x)"), None),
        (only("y = Unsqueeze(x, a)", "int64[2] a = {-1, 0}"), (0, 5)),
        (only("y = Unsqueeze <axes = [4]> (x)", opset=11), (4,)),
    ],
)
def test_axes_are_counted_from_the_front(node: ir.Node, axes: tuple[int, ...] | None) -> None:
    assert axes_of(node) == axes


def test_a_constant_is_what_nobody_can_change() -> None:
    text = graph(
        "float[2] x, float[2] open",
        "float[2] y",
        "k = Constant <value = float[2] {1, 2}> () s = Add(k, fixed) t = Add(open, s) y = Add(t, x)",
        "float[2] fixed = {1, 2}, float[2] open = {1, 2}",
    )
    graph_of = model_of(text).graph
    k, s = graph_of.node(0).outputs[0], graph_of.node(1).outputs[0]
    k.const_value = ir.tensor([1.0, 2.0])
    assert constant(k) is not None
    assert constant(graph_of.initializers["fixed"]) is not None
    assert constant(graph_of.initializers["open"]) is None
    assert constant(s) is None
    s.const_value = ir.tensor([2.0, 4.0])
    assert constant(s) is None, "what is computed isn't written in the graph"
    assert constant(None) is None


def test_a_scalar_is_one_number_in_any_shape() -> None:
    values = model_of(
        graph("float x", "float y", "y = Add(x, a)", "float a = {2}, float[1, 1] b = {3}, float[2] c = {1, 2}")
    ).graph.initializers
    assert [scalar(values[name]) for name in "abc"] == [2.0, 3.0, None]
    assert scalar(None) is None


def test_dimensions_are_numbers_names_or_nothing() -> None:
    value = only("y = Relu(x)", inputs="float[N, 8, ?, 1] x").inputs[0]
    assert (dims(value), rank(value)) == (("N", 8, None, 1), 4)
    value = only("y = Relu(x)", inputs="float[] x").inputs[0]
    assert (dims(value), rank(value)) == (None, None)
    assert (dims(None), rank(None)) == (None, None)


@pytest.mark.parametrize(
    ("shape", "pooled"),
    [
        ("N, 8, 1, 1", True),
        ("?, 8, 1, 1", True),
        ("N, C, 1, 1", False),
        ("N, 8, 1", False),
        ("N, 8, H, 1", False),
        ("", False),
    ],
)
def test_what_is_pooled_has_one_place_and_known_channels(shape: str, pooled: bool) -> None:
    assert is_pooled(only("y = Relu(x)", inputs=f"float[{shape}] x").inputs[0]) is pooled


def test_operators_are_those_of_onnx() -> None:
    text = graph("float[N] x", "float[N] y", "a = Relu(x) b = other.Relu(a) y = Relu(b)").replace(
        '["" : 20]', '["" : 20, "other" : 1]'
    )
    first, second, _ = model_of(text).graph
    assert is_op(first, "Add", "Relu")
    assert not is_op(first, "Add")
    assert not is_op(second, "Relu")
    assert not is_op(None, "Relu")
    assert made_by(first.outputs[0], "Relu") is first
    assert made_by(second.outputs[0], "Relu") is None
    assert made_by(first.inputs[0], "Relu") is None


def test_a_second_result_is_not_what_a_node_makes() -> None:
    node = only("y, i = MaxPool <kernel_shape = [2, 2]> (x)")
    assert made_by(node.outputs[0], "MaxPool") is node
    assert made_by(node.outputs[1], "MaxPool") is None


def test_attributes_have_defaults() -> None:
    node = only("y = ReduceMean <keepdims = 0> (x)")
    assert (attribute(node, "keepdims", 1), attribute(node, "noop_with_empty_axes", 7)) == (0, 7)


def test_the_other_input() -> None:
    node = only("y = Add(x, e)", inputs="float[N] x, float[N] e")
    x, e = node.inputs
    assert x is not None
    assert e is not None
    assert other_input(node, x) is e
    assert other_input(node, e) is x


def test_readers_in_bodies_are_readers() -> None:
    text = graph(
        "float[N] x, bool c",
        "float[N] y, float[N] z",
        "a = Relu(x) y = Neg(a) z = If(c) <then_branch = t () => (float[N] r) { r = Neg(a) }, "
        "else_branch = e () => (float[N] q) { q = Abs(x) }>",
    )
    value = model_of(text).graph.node(0).outputs[0]
    assert [node.op_type for node in users(value)] == ["Neg", "Neg"]
    assert only_user(value) is None
    assert not is_read_once(value)


@pytest.mark.parametrize(
    ("body", "outputs", "one", "once"),
    [
        ("a = Relu(x) y = Neg(a)", "float[N] y", True, True),
        ("a = Relu(x) y = Mul(a, a)", "float[N] y", True, False),
        ("a = Relu(x) b = Neg(a) y = Add(a, b)", "float[N] y", False, False),
        ("a = Relu(x) y = Neg(a)", "float[N] y, float[N] a", False, False),
        ("a = Relu(x) y = Neg(x)", "float[N] y", False, False),
    ],
)
def test_who_reads_a_value(body: str, outputs: str, one: bool, once: bool) -> None:
    value = model_of(graph("float[N] x", outputs, body)).graph.node(0).outputs[0]
    assert (only_user(value) is not None, is_read_once(value)) == (one, once)
