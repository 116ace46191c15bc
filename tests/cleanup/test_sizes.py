"""What can be told of shapes that a graph computes, as PyTorch's exporters spell them."""

from typing import Any

import onnx_ir as ir
import onnx_ir.passes.common as common
import pytest

from attn_export.exporter.cleanup.sizes import MAX_SIZES, MAX_VALUES, AxisOf, shape_of, sizes_in
from tests.cleanup.conftest import graph, model_of

NUMBERS = (
    "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, int64[1] last = {-1}, "
    "int64[1] c = {8}, int64 i = {0}, int64[2] pair = {0, -1}, int64[1] far = {9223372036854775807}, "
    "int64[1] four = {4}, float[1] whole = {2.0}, int64[1] nine = {9}"
)


def sizes(body: str, shape: str = "N, 8, H, W", kind: str = "int64[K]") -> Any:
    """Of the value t, as far as they are told; the input is x."""
    model = model_of(graph(f"float[{shape}] x, int64[2] given", f"{kind} t", body, NUMBERS))
    common.ShapeInferencePass(check_type=False, strict_mode=False)(model)
    found = sizes_in(model.graph.outputs[0])
    names = {value: value.name for value in model.graph.inputs}
    return found and tuple((names.get(n.value), n.axis) if isinstance(n, AxisOf) else n for n in found)


ALL = ("N", 8, "H", "W")
TOLD = [
    ("shape", "t = Shape(x)", ALL),
    ("shape-from", "t = Shape <start = 2> (x)", ("H", "W")),
    ("shape-from-the-back", "t = Shape <start = -3, end = -1> (x)", (8, "H")),
    ("one", "s = Shape(x) t = Gather(s, zero)", ("N",)),
    ("a-number", "s = Shape(x) t = Gather(s, i)", ("N",)),
    ("the-last", "s = Shape(x) t = Gather(s, last)", ("W",)),
    ("first-and-last", "s = Shape(x) t = Gather(s, pair)", ("N", "W")),
    ("beyond", "s = Shape(x) t = Gather(s, nine)", None),
    ("slice", "s = Shape(x) t = Slice(s, zero, two)", ("N", 8)),
    ("slice-to-the-end", "s = Shape(x) t = Slice(s, two, far)", ("H", "W")),
    ("slice-from-the-back", "s = Shape(x) t = Slice(s, last, far, zero, one)", ("W",)),
    ("every-other", "s = Shape(x) t = Slice(s, zero, far, zero, two)", ("N", "H")),
    ("backwards", "s = Shape(x) m = Neg(far) t = Slice(s, last, zero, zero, last)", ("W", "H", 8)),
    ("computed-slice", "s = Shape(x) b = Slice(given, zero, one) t = Slice(s, zero, b)", None),
    (
        "unsqueezed-and-joined",
        "s = Shape(x) n = Gather(s, i) u = Unsqueeze(n, zero) t = Concat <axis = 0> (u, c, last)",
        ("N", 8, -1),
    ),
    ("joined-from-the-back", "s = Shape(x) n = Gather(s, zero) t = Concat <axis = -1> (n, c)", ("N", 8)),
    (
        "reshaped-to-a-list",
        "s = Shape(x) n = Gather(s, i) u = Reshape(n, last) t = Concat <axis = 0> (u, one)",
        ("N", 1),
    ),
    ("squeezed", "s = Shape(x) n = Gather(s, zero) m = Squeeze(n, zero) t = Unsqueeze(m, zero)", ("N",)),
    ("cast", "s = Shape(x) a = Cast <to = 6> (s) t = Cast <to = 7> (a)", ALL),
    ("identity", "s = Shape(x) t = Identity(s)", ALL),
    ("given", "t = Identity(given)", None),
    ("joined-with-given", "s = Shape(x) t = Concat <axis = 0> (s, given)", None),
    ("filled", "t = ConstantOfShape <value = int64[1] {1}> (four)", (1, 1, 1, 1)),
    (
        "filled-with-as-many-as-axes",
        "s = Shape(x) k = Shape(s) t = ConstantOfShape <value = int64[1] {-1}> (k)",
        (-1, -1, -1, -1),
    ),
    ("filled-with-as-many-as-images", "n = Shape <end = 1> (x) t = ConstantOfShape <value = int64[1] {1}> (n)", None),
    ("times-one", "s = Shape(x) t = Mul(s, one)", ALL),
    ("times-two", "s = Shape(x) t = Mul(s, two)", (None, 16, None, None)),
    ("added-nothing", "s = Shape(x) t = Add(s, zero)", ALL),
    ("less-one", "s = Shape <start = 1, end = 2> (x) t = Sub(s, one)", (7,)),
    ("divided", "s = Shape <start = 1, end = 2> (x) t = Div(s, two)", (4,)),
    ("divided-with-a-rest", "s = Shape <start = 1, end = 2> (x) t = Div(s, three)", (None,)),
    ("divided-by-nothing", "s = Shape <start = 1, end = 2> (x) t = Div(s, zero)", (None,)),
    ("whole-float", "f = Identity(whole) t = Cast <to = 7> (f)", None),
    # How TorchScript's exporter writes expand(-1, ...) and expand_as.
    (
        "kept-axes",
        (
            "s = Shape(x) k = Shape(s) f = ConstantOfShape <value = int64[1] {1}> (k) m = Mul(f, last) "
            "q = Equal(s, m) t = Where(q, f, s)"
        ),
        ALL,
    ),
    (
        "all-kept",
        "f = ConstantOfShape <value = int64[1] {1}> (four) m = Mul(f, last) q = Equal(m, m) t = Where(q, f, m)",
        (1, 1, 1, 1),
    ),
    ("unknown-choice", "s = Shape(x) q = Equal(s, two) t = Where(q, s, s)", (None, 8, None, None)),
    ("chosen-by-size", "s = Shape <end = 1> (x) q = Equal(s, two) t = Where(q, one, s)", (None,)),
]


@pytest.mark.parametrize(("body", "expected"), [pytest.param(*rest, id=name) for name, *rest in TOLD])
def test_sizes_are_reported_as_far_as_they_are_known(body: str, expected: Any) -> None:
    assert sizes(body, kind="int64" if body.endswith("Gather(s, i)") else "int64[K]") == expected


def test_an_axis_without_a_name_is_that_axis_of_that_value() -> None:
    assert sizes("t = Shape(x)", "?, 8, ?, W") == (("x", 0), 8, ("x", 2), "W")


def test_axes_without_names_are_the_same_only_for_one_value() -> None:
    model = model_of(graph("float[?, 8] x, float[?, 8] e", "int64[2] s, int64[2] t", "s = Shape(x) t = Shape(e)"))
    first, second = (sizes_in(value) for value in model.graph.outputs)
    assert first == sizes_in(model.graph.outputs[0]) != second


def test_nothing_is_reported_of_a_value_without_a_rank() -> None:
    model = model_of(graph("float[] x", "int64[K] t", "t = Shape(x)"))
    assert sizes_in(model.graph.outputs[0]) is None
    assert shape_of(model.graph.inputs[0]) is None


def test_an_initializer_that_may_be_overridden_is_not_told() -> None:
    model = model_of(graph("int64[2] k", "int64[2] t", "t = Identity(k)", "int64[2] k = {1, 2}"))
    assert sizes_in(model.graph.outputs[0]) is None


def test_no_value_has_no_sizes() -> None:
    assert sizes_in(None) is None


def test_a_list_in_a_list_is_not_taken_for_a_list() -> None:
    """The first row of [[N, 8, H, W]] is the four of them, not N."""
    body = "s = Shape(x) u = Unsqueeze(s, zero) t = Gather(u, i)"
    assert sizes(body) in (None, ALL)


def test_a_chain_is_followed_so_far_only() -> None:
    steps = MAX_VALUES + 10
    body = "s0 = Shape(x) " + " ".join(f"s{n + 1} = Identity(s{n})" for n in range(steps)) + f" t = Identity(s{steps})"
    assert sizes(body) is None
    assert sizes("s = Shape(x) a = Identity(s) t = Identity(a)") == ALL


def test_arithmetic_that_is_used_twice_at_each_step_is_evaluated_once() -> None:
    """The graph has 2^60 paths, and its numbers have 2^60 digits."""
    steps = 60
    body = "s0 = Shape(x) " + " ".join(f"s{n + 1} = Mul(s{n}, s{n})" for n in range(steps)) + f" t = Identity(s{steps})"
    assert sizes(body) == (None,) * 4
    assert sizes(body, shape="1, 1, 1, 1") == (1, 1, 1, 1)


def test_long_lists_are_no_shapes() -> None:
    tensor = ir.tensor(list(range(MAX_SIZES + 1)), name="long")
    value = ir.Value(name="long", const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape([MAX_SIZES + 1]))
    assert sizes_in(value) is None
