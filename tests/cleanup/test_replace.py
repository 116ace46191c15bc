"""What a rewrite leaves behind: names, notes, shared constants, and nothing that nobody reads."""

import numpy as np
import onnx_ir as ir
import pytest

from attn_export.exporter.cleanup.replace import UniqueNames, apply_rewrite, drop_unread
from attn_export.exporter.cleanup.rule import Builder, Rewrite
from attn_export.exporter.graph.names import unique_name
from tests.cleanup.conftest import assert_same, graph, model_of

TEXT = graph(
    "float[N, 4] x",
    "float[N, 4] y",
    "a = Mul(x, k) b = Relu(a) y = Neg(b)",
    "float[1] k = {2}",
)
IF = "z = If(c) <then_branch = t () => (float[N] r) { r = Neg(a) }, else_branch = e () => (float[N] q) { q = Abs(a) }>"


def named(text: str = TEXT) -> ir.Model:
    """Every node is called after its operator, and knows where it comes from."""
    model = model_of(text)
    for node in model.graph:
        node.name = f"block/{node.op_type}"
        node.metadata_props["module"] = f"from {node.op_type}"
    return model


def value(model: ir.Model, name: str) -> ir.Value:
    return next(v for node in model.graph for v in node.outputs if v.name == name)


def scaled(model: ir.Model, old: str, array: np.ndarray, name: str = "scale", op_type: str = "Mul") -> Rewrite:
    """A constant times the input in the place of a value, by way of a node before."""
    builder, x, replaced = Builder(), model.graph.inputs[0], value(model, old)
    inner = builder.add("Identity", x, shape=x.shape, like=x)
    new = builder.add(op_type, inner, builder.constant(array, name), shape=replaced.shape, like=replaced)
    return builder.rewrite((x,), replaced, new)


TWO = np.array([2], dtype=np.float32)


def test_the_result_keeps_its_name_type_and_shape() -> None:
    model = named()
    before = value(model, "b")
    shape, dtype = before.shape, before.dtype
    apply_rewrite(model.graph, scaled(model, "b", TWO), UniqueNames(model.graph))
    after = value(model, "b")
    assert after is not before
    assert (after.shape, after.dtype) == (shape, dtype)
    assert [v.name for v in model.graph.outputs] == ["y"]


def test_an_output_of_the_graph_keeps_its_name() -> None:
    model = named()
    apply_rewrite(model.graph, scaled(model, "y", TWO), UniqueNames(model.graph))
    (output,) = model.graph.outputs
    assert output.name == "y"
    assert output.producer() is not None
    assert [node.op_type for node in model.graph] == ["Identity", "Mul"]


def test_the_last_node_of_the_same_operator_keeps_the_name() -> None:
    model = named()
    apply_rewrite(model.graph, scaled(model, "a", TWO), UniqueNames(model.graph))
    assert [node.name for node in model.graph] == ["block/Identity", "block/Mul", "block/Relu", "block/Neg"]


def test_nodes_of_other_operators_are_called_after_them() -> None:
    model = named()
    apply_rewrite(model.graph, scaled(model, "b", TWO), UniqueNames(model.graph))
    names = [node.name for node in model.graph]
    assert names[:2] == ["block/Identity", "block/Mul"]
    assert len(set(names)) == len(names)


def test_notes_are_those_of_what_was_replaced() -> None:
    model = named()
    apply_rewrite(model.graph, scaled(model, "b", TWO), UniqueNames(model.graph))
    assert [node.metadata_props["module"] for node in model.graph][:2] == ["from Relu", "from Relu"]


def test_values_between_are_called_after_the_result() -> None:
    model = named()
    apply_rewrite(model.graph, scaled(model, "b", TWO), UniqueNames(model.graph))
    assert [v.name for node in model.graph for v in node.outputs] == ["b/Identity", "b", "y"]


def test_what_nobody_reads_is_gone_with_its_constants() -> None:
    model = named()
    apply_rewrite(model.graph, scaled(model, "b", TWO), UniqueNames(model.graph))
    assert [node.op_type for node in model.graph] == ["Identity", "Mul", "Neg"]
    assert set(model.graph.initializers) == {"scale"}


def test_a_value_that_is_there_already_takes_the_place() -> None:
    model = named()
    apply_rewrite(
        model.graph, Rewrite((value(model, "a"),), value(model, "b"), value(model, "a")), UniqueNames(model.graph)
    )
    assert [node.op_type for node in model.graph] == ["Mul", "Neg"]
    assert [v.name for node in model.graph for v in node.inputs if v is not None] == ["x", "k", "a"]


def test_what_a_node_does_not_compute_cannot_be_replaced() -> None:
    model = named()
    with pytest.raises(ValueError, match="output of a node"):
        apply_rewrite(model.graph, Rewrite((), model.graph.inputs[0], value(model, "a")), UniqueNames(model.graph))


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param(TWO, {"scale"}, id="equal"),
        pytest.param(TWO + 1, {"scale", "scale_1"}, id="other-number"),
        pytest.param(TWO.astype(np.float64), {"scale", "scale_1"}, id="other-type"),
        pytest.param(TWO.reshape(1, 1), {"scale", "scale_1"}, id="other-shape"),
    ],
)
def test_constants_are_shared_where_they_are_equal(second: np.ndarray, expected: set[str]) -> None:
    text = graph("float[N, 4] x", "float[N, 4] y, float[N, 4] z", "y = Relu(x) z = Neg(x)")
    model = named(text)
    names = UniqueNames(model.graph)
    apply_rewrite(model.graph, scaled(model, "y", TWO), names)
    apply_rewrite(model.graph, scaled(model, "z", second), names)
    assert set(model.graph.initializers) == expected


def test_an_equal_constant_that_was_there_before_is_no_reason_to_rename_it() -> None:
    model = named()
    apply_rewrite(model.graph, scaled(model, "y", TWO, name="x"), UniqueNames(model.graph))
    assert set(model.graph.initializers) == {"x_1"}, "the input is called x"


def test_a_constant_may_have_the_name_of_the_one_that_it_replaces() -> None:
    model = named()
    apply_rewrite(model.graph, scaled(model, "a", TWO + 1, name="k"), UniqueNames(model.graph))
    assert {n: v.const_value.numpy().tolist() for n, v in model.graph.initializers.items() if v.const_value} == {
        "k": [3]
    }


def test_a_constant_that_others_read_keeps_its_name() -> None:
    model = named(TEXT.replace("y = Neg(b)", "y = Mul(b, k)"))
    apply_rewrite(model.graph, scaled(model, "a", TWO + 1, name="k"), UniqueNames(model.graph))
    assert set(model.graph.initializers) == {"k", "k_1"}


def test_names_of_bodies_are_taken() -> None:
    """A value of a body would hide one of the same name outside."""
    text = graph(
        "float[N] x, bool c",
        "float[N] y, float[N] z",
        "y = Relu(x) z = If(c) <then_branch = t () => (float[N] scale) { inner = Neg(x) scale = Abs(inner) }, "
        "else_branch = e () => (float[N] q) <float[1] k = {1}> { q = Add(x, k) }>",
    )
    model = model_of(text)
    names = UniqueNames(model.graph)
    assert {"scale", "inner", "q", "k", "x", "c", "y", "z"} <= names.values
    apply_rewrite(model.graph, scaled(model, "y", TWO), names)
    assert set(model.graph.initializers) == {"scale_1"}
    carry = model_of(text)
    apply_rewrite(carry.graph, scaled(carry, "y", TWO, name="k"), UniqueNames(carry.graph))
    assert set(carry.graph.initializers) == {"k_1"}


def test_readers_in_bodies_read_the_new_value() -> None:
    text = graph("float[N] x, bool c", "float[N] z", f"a = Mul(k, x) {IF}", "float[1] k = {2}")
    model = model_of(text)
    apply_rewrite(model.graph, scaled(model, "a", TWO), UniqueNames(model.graph))
    assert [node.op_type for node in model.graph] == ["Identity", "Mul", "If"]
    assert_same(model_of(text), model)


def test_taken_names_get_a_number() -> None:
    taken: set[str | None] = {"a", "a_1"}
    assert [unique_name("a", taken) for _ in range(2)] == ["a_2", "a_3"]
    assert unique_name("b", taken) == "b"


def test_a_node_that_is_read_is_not_dropped() -> None:
    model = named()
    names = UniqueNames(model.graph)
    for node in list(model.graph):
        drop_unread(model.graph, node, names)
    assert len(model.graph) == 3


def test_constants_that_are_read_or_returned_or_asked_for_stay() -> None:
    text = graph(
        "float[N] x, float[1] open",
        "float[N] y, float[1] returned",
        "a = Add(x, open) b = Add(a, returned) c = Add(b, shared) d = Add(c, alone) y = Add(x, shared)",
        "float[1] open = {1}, float[1] returned = {2}, float[1] shared = {3}, float[1] alone = {4}",
    )
    model = named(text)
    names = UniqueNames(model.graph)
    drop_unread(model.graph, value(model, "d").producer(), names)  # type: ignore[arg-type]
    assert [node.outputs[0].name for node in model.graph] == ["y"]
    assert set(model.graph.initializers) == {"open", "returned", "shared"}
    assert "alone" not in names.values
