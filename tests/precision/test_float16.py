"""What a graph is after it was changed to float16: one test for every trap."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_export.exporter.artifacts import MODULE_KEY
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.precision.choose import LARGEST_SUM, MARGIN
from attn_export.exporter.precision.half import float_type, to_half
from attn_export.exporter.precision.rounding import FLOAT16 as HALF
from tests.precision.conftest import FLOAT, FLOAT16, typed

DRAW = np.random.default_rng(0)
CONV = DRAW.standard_normal((4, 3, 3, 3)).astype(np.float32)
IMAGE = DRAW.standard_normal((2, 3, 8, 8)).astype(np.float32)


def close(before: list[Any], after: list[Any], tolerance: float = 4e-3) -> None:
    for a, b in zip(before, after, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.isfinite(b).all()
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * (np.abs(a).max(initial=0) or 1))


# ---- the ordinary ------------------------------------------------------------------------------------------------


def test_weights_and_compute_are_float16_inputs_and_outputs_are_not() -> None:
    made = typed(
        "(float[N,3,8,8] x) => (float[N,4,6,6] y) { c = Conv(x, w, b) y = Relu(c) }",
        w=CONV,
        b=np.ones(4, np.float32),
    )
    assert made.kept == ()
    assert made.ops() == ["Cast", "Conv", "Relu", "Cast"]
    assert made.types["w"] == made.types["b"] == made.types["c"] == FLOAT16
    assert made.types["x"] == made.types["y"] == FLOAT
    close(*made.run(x=IMAGE))


def test_a_new_cast_says_what_it_does_and_has_the_module_of_the_node_it_serves() -> None:
    made = typed("(float[N,3,8,8] x) => (float[N,3,1,1] y) { a = Relu(x) m = GlobalAveragePool(a) y = Neg(m) }")
    casts = {n.name: n.metadata_props[MODULE_KEY] for n in made.model.graph if n.op_type == "Cast"}
    assert casts == {"x/to_fp16": "path.a", "a/to_fp32": "path.m", "m/to_fp16": "path.m", "y/to_fp32": "path.y"}


def test_a_graph_in_float16_stays_as_it_is() -> None:
    text = "(float16[2] x) => (float16[2] y) { y = Relu(x) }"
    made = typed(text)
    assert made.kept == ()
    assert made.ops() == ["Relu"]


def test_once_is_enough() -> None:
    made = typed(
        "(float[N,3,8,8] x) => (float[N,4,1,1] y) { c = Conv(x, w) m = GlobalAveragePool(c) y = Relu(m) }", w=CONV
    )
    assert float_type(made.model.graph) is FLOAT16
    before = made.after.SerializeToString(deterministic=True)
    assert to_half(made.model, {}, HALF) == ()
    assert ir.to_proto(made.model).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    "text",
    [
        """(bool c, float[2] x) => (float[2] y) { y = If(c) <then_branch = t () => (float[2] a) { a = Relu(x) },
        else_branch = e () => (float[2] b) { b = Neg(x) }> }""",
    ],
)
def test_bodies_are_refused_with_the_name_of_the_node(text: str) -> None:
    with pytest.raises(CleanupError, match="If node_y has a subgraph"):
        typed(text)


# ---- what stays in float32 ---------------------------------------------------------------------------------------

SUMS = {
    "GlobalAveragePool": "m = GlobalAveragePool(a)",
    "ReduceMean": "m = ReduceMean <keepdims = 1> (a, axes)",
    "ReduceSum": "m = ReduceSum <keepdims = 1> (a, axes)",
    "AveragePool": "m = AveragePool <kernel_shape = [8, 8]> (a)",
    "ReduceL2": "m = ReduceL2 <keepdims = 1> (a, axes)",
}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_over_a_map_stays_in_float32(name: str) -> None:
    made = typed(
        f"(float[N,3,8,8] x) => (float[N,3,1,1] y) {{ a = Relu(x) {SUMS[name]} y = Neg(m) }}",
        axes=np.array([2, 3], np.int64),
    )
    assert [(k.node, k.module_path, k.op_type) for k in made.kept] == [("node_m", "path.m", name)]
    assert made.types["m"] == FLOAT
    assert made.types["a"] == FLOAT16
    close(*made.run(x=IMAGE))


@pytest.mark.parametrize("name", ["GlobalMaxPool", "MaxPool <kernel_shape = [8, 8]>"])
def test_a_maximum_is_exact_and_so_is_not_kept(name: str) -> None:
    made = typed(f"(float[N,3,8,8] x) => (float[N,3,1,1] y) {{ a = Relu(x) m = {name}(a) y = Neg(m) }}")
    assert made.kept == ()


@given(st.integers(1, 12), st.integers(1, 12))
def test_how_many_elements_are_many(height: int, width: int) -> None:
    made = typed(f"(float[N,3,{height},{width}] x) => (float[N,3,1,1] y) {{ a = Relu(x) y = GlobalAveragePool(a) }}")
    assert [k.op_type for k in made.kept] == ["GlobalAveragePool"] * (height * width > LARGEST_SUM)


def test_an_open_size_may_be_large() -> None:
    made = typed("(float[N,3,H,W] x) => (float[N,3,1,1] y) { a = Relu(x) y = GlobalAveragePool(a) }")
    assert made.reasons == {"node_y": "it sums a dynamic number of elements"}


def test_the_layer_behind_a_pooled_sum_stays_with_it_and_the_classifier_does_not() -> None:
    made = typed(
        """(float[N,4,8,8] x) => (float[N,5] y) {
        a = Relu(x) m = ReduceMean <keepdims = 0> (a, axes) r = Reshape(m, shape) c = Conv(r, w) f = Relu(c)
        g = Mul(a, f) p = GlobalAveragePool(g) q = Flatten(p) y = Gemm(q, v) }""",
        axes=np.array([2, 3], np.int64),
        shape=np.array([-1, 4, 1, 1], np.int64),
        w=DRAW.standard_normal((4, 4, 1, 1)).astype(np.float32),
        v=DRAW.standard_normal((4, 5)).astype(np.float32),
    )
    assert set(made.reasons) == {"node_m", "node_r", "node_c", "node_p"}
    assert (made.types["w"], made.types["v"]) == (FLOAT, FLOAT16)
    close(*made.run(x=DRAW.standard_normal((2, 4, 8, 8)).astype(np.float32)))


@given(st.floats(1, 1e30))
def test_what_was_seen_to_be_large_is_computed_and_read_in_float32(size: float) -> None:
    text = "(float[3] x) => (float[3] y) { a = Relu(x) b = Exp(a) c = Log(b) y = Neg(c) }"
    made = typed(text, {"x": 1.0, "a": 1.0, "b": size, "c": 1.0, "y": 1.0})
    wide = size * MARGIN > HALF.largest
    assert set(made.reasons) == ({"node_b", "node_c"} if wide else set())
    assert made.types["b"] == (FLOAT if wide else FLOAT16)


@pytest.mark.parametrize("size", [float("inf"), float("nan")])
def test_infinity_and_nan_are_large(size: float) -> None:
    assert set(typed("(float[3] x) => (float[3] y) { a = Relu(x) y = Neg(a) }", {"a": size}).reasons) == {
        "node_a",
        "node_y",
    }


def test_two_neighbours_that_stay_have_no_cast_between_them() -> None:
    made = typed(
        "(float[2,3,8,8] x) => (float[2,3] y) { a = Relu(x) p = GlobalAveragePool(a) t = Transpose(p) "
        "s = Squeeze(t, axes) l = ReduceL2 <keepdims = 1> (s, last) d = Relu(l) y = Add(d, zeros) }",
        axes=np.array([0, 1], np.int64),
        last=np.array([0], np.int64),
        zeros=np.zeros((2, 3), np.float32),
        checked=False,
    )
    assert [made.types[name] for name in "ptsl"] == [FLOAT] * 4
    assert {made.reasons["node_t"], made.reasons["node_s"]} == {"it moves data between float32 nodes"}


def test_an_overflow_is_kept_named_and_stays_finite() -> None:
    """Weights that make activations of a million, and weights that bring them back."""
    big = (CONV * 1e6).astype(np.float32)
    made = typed(
        "(float[N,3,8,8] x) => (float[N,4,6,6] y) { c = Conv(x, w) r = Relu(c) s = Mul(r, k) y = Sigmoid(s) }",
        {"x": 4, "c": 3e7, "r": 3e7, "s": 30, "y": 1},
        w=big,
        k=np.array(1e-6, np.float32),
    )
    assert set(made.reasons) == {"node_c", "node_r", "node_s"}
    assert "its output reaches 3e+07" in made.reasons["node_c"]
    close(*made.run(x=IMAGE))


def test_weights_beyond_float16_are_kept_and_named() -> None:
    made = typed(
        "(float[3] x) => (float[3] y) { a = Mul(x, w) b = Mul(a, v) y = Relu(b) }",
        w=np.array([1, 70000, -1e9], np.float32),
        v=np.array([1, 1e-4, 1e-9], np.float32),
    )
    assert made.reasons == {"node_a": "its weights reach 1e+09, beyond float16's maximum"}


# ---- small numbers -----------------------------------------------------------------------------------------------


@given(st.floats(1e-30, 1e-8))
def test_a_scale_never_becomes_zero(scale: float) -> None:
    made = typed("(float[3] x) => (float[3] y) { a = Mul(x, w) y = Relu(a) }", w=np.array(scale, np.float32))
    assert "node_a" in made.reasons
    assert made.types["w"] == FLOAT


def test_nothing_is_divided_by_a_number_that_became_zero() -> None:
    made = typed(
        "(float[3] x) => (float[3] y) { a = Div(x, w) y = Relu(a) }", w=np.array([1, 1e-9, 2], np.float32), checked=True
    )
    assert made.reasons == {"node_a": "it divides by values that float16 rounds to zero"}


def test_the_small_number_before_a_division_stays_there() -> None:
    """``x / (norm + 1e-12)``: on an image that is black it is what keeps NaN away."""
    made = typed(
        """(float[2,4] x) => (float[2,4] y) {
        a = Mul(x, x) s = ReduceSum <keepdims = 1> (a, axes) e = Add(s, epsilon) r = Sqrt(e) d = Div(x, r)
        y = Relu(d) }""",
        axes=np.array([1], np.int64),
        epsilon=np.array(1e-12, np.float32),
    )
    assert set(made.reasons) == {"node_e", "node_r", "node_d"}
    close(*made.run(x=np.array([[0, 0, 0, 0], [1, 2, 3, 4]], np.float32)))


def test_dead_channels_do_not_keep_a_layer() -> None:
    weights = CONV.copy()
    weights[1] *= 1e-12
    made = typed("(float[N,3,8,8] x) => (float[N,4,6,6] y) { y = Conv(x, w) }", w=weights)
    assert made.kept == ()


def test_a_bias_that_is_lost_in_what_it_is_added_to_does_not_keep_a_layer() -> None:
    """Found by using it: BatchNorm that is folded into a convolution may leave a bias of 1e-9."""
    text = "(float[N,3,8,8] x) => (float[N,4,6,6] y) { y = Conv(x, w, b) }"
    bias = np.full(4, 1e-9, np.float32)
    assert typed(text, {"y": 5.0}, w=CONV, b=bias).kept == ()
    assert set(typed(text, {"y": 1e-8}, w=CONV, b=bias).reasons) == {"node_y"}


def test_small_statistics_keep_a_batch_normalization() -> None:
    text = (
        "(float[N,3,8,8] x) => (float[N,3,8,8] y) { b = BatchNormalization <epsilon = %s> (x, s, o, m, v) y = Relu(b) }"
    )
    ones, small = np.ones(3, np.float32), np.full(3, 1e-8, np.float32)
    vectors: dict[str, Any] = {"s": ones, "o": ones, "m": ones}
    assert typed(text % "1e-9", v=small, **vectors).reasons == {"node_b": "its statistics are too small for float16"}
    assert typed(text % "1e-5", v=small, **vectors).kept == ()
    usual = typed(text % "1e-5", v=ones, **vectors)
    assert usual.kept == ()
    assert usual.types["v"] == FLOAT16
    close(*usual.run(x=IMAGE))


# ---- operators with types of their own ---------------------------------------------------------------------------


def test_scales_of_resize_stay_in_float32_also_where_they_are_a_constant_node() -> None:
    for scales in ("", "s = Constant <value = float[4] {1, 1, 2, 2}> ()"):
        weights: dict[str, Any] = {} if scales else {"s": np.array([1, 1, 2, 2], np.float32)}
        made = typed(
            f"(float[N,3,8,8] x) => (float[N,3,16,16] y) {{ a = Relu(x) {scales} "
            'y = Resize <mode = "nearest"> (a, , s) }',
            **weights,
        )
        assert made.types["s"] == FLOAT
        assert made.kept == ()
        close(*made.run(x=IMAGE))


def test_sizes_are_computed_as_before() -> None:
    """2049 has no float16; neither has most of what is above."""
    made = typed(
        """(float[1,1,1,W] x) => (float[1,1,1,V] y) {
        s = Shape <start = 3, end = 4> (x) f = Cast <to = 1> (s) h = Mul(f, half) i = Cast <to = 7> (h)
        n = Concat <axis = 0> (ones, i) a = Relu(x) y = Resize <mode = "nearest"> (a, , , n) }""",
        half=np.array(0.5, np.float32),
        ones=np.ones(3, np.int64),
    )
    assert set(made.reasons.values()) == {"it computes sizes"}
    assert made.types["half"] == made.types["h"] == FLOAT
    before, after = made.run(x=DRAW.standard_normal((1, 1, 1, 4098)).astype(np.float32))
    assert before[0].shape == after[0].shape == (1, 1, 1, 2049)


def test_a_cast_inside_becomes_one_to_float16_or_goes() -> None:
    made = typed(
        """(float[3] x, int64[3] k) => (float[3] y) {
        f = Cast <to = 1> (k) a = Add(x, f) h = Cast <to = 10> (a) b = Relu(h) c = Cast <to = 1> (b)
        d = Cast <to = 1> (c) y = Neg(d) }"""
    )
    casts = [n for n in made.model.graph if n.op_type == "Cast"]
    assert [n.attributes["to"].as_int() for n in casts] == [int(FLOAT16), int(FLOAT16), int(FLOAT)]
    assert made.types["f"] == FLOAT16
    close(*made.run(x=np.array([1, 2, -3], np.float32), k=np.array([1, 2, 3])))


def test_a_cast_that_makes_an_output_or_a_condition() -> None:
    made = typed(
        """(float[3] x, int64[3] k) => (float[3] y, float[3] z, int64[3] i) {
        a = Relu(x) y = Cast <to = 1> (k) b = Add(a, y) z = Neg(b) i = Cast <to = 7> (a) }"""
    )
    close(*made.run(x=np.array([1, 2, -3], np.float32), k=np.array([1, 2, 3])))


def test_where_reads_its_condition_as_it_is() -> None:
    made = typed(
        "(float[3] x) => (float[3] y) { a = Relu(x) c = Greater(a, one) b = Where(c, a, minus) y = Neg(b) }",
        one=np.array(1, np.float32),
        minus=np.array(-np.inf, np.float32),
    )
    assert made.kept == ()
    assert made.types["c"] == ir.DataType.BOOL
    before, after = made.run(x=np.array([0, 1, 2], np.float32))
    assert np.array_equal(before[0], after[0])


@pytest.mark.parametrize(("upper", "gives"), [(6.0, 6.0), (3.4e38, HALF.largest)])
def test_bounds_of_clip_are_float16_and_at_most_its_largest(upper: float, gives: float) -> None:
    made = typed(
        "(float[3] x) => (float[3] y) { a = Clip(x, low, high) y = Neg(a) }",
        low=np.array(0, np.float32),
        high=np.array(upper, np.float32),
    )
    assert made.kept == ()
    bound = made.model.graph.initializers["high"].const_value
    assert bound is not None
    assert bound.numpy() == gives
    close(*made.run(x=np.array([-1, 3, 7], np.float32)))


@pytest.mark.parametrize("value", ["", "<value = float[1] {2.5}>"])
def test_what_fills_a_tensor_fills_it_with_float16(value: str) -> None:
    made = typed(
        f"(float[2,3] x) => (float[2,3] y) {{ s = Shape(x) f = ConstantOfShape {value} (s) a = Relu(x) y = Add(a, f) }}"
    )
    assert made.types["f"] == FLOAT16
    close(*made.run(x=np.ones((2, 3), np.float32)))


def test_what_has_no_float16_form_stays() -> None:
    made = typed(
        "(float[3] x) => (float[3] y) { r = Range(zero, three, one) a = Relu(x) y = Add(a, r) }",
        zero=np.array(0, np.float32),
        three=np.array(3, np.float32),
        one=np.array(1, np.float32),
    )
    assert made.reasons == {"node_r": "ONNX defines no float16 variant"}
    assert made.ops() == ["Cast", "Range", "Cast", "Relu", "Add", "Cast"]
    close(*made.run(x=np.ones(3, np.float32)))


def test_statistics_that_a_layer_normalization_returns_are_float32_by_definition() -> None:
    made = typed(
        "(float[2,8] x) => (float[2,8] y, float[2,1] m) { a = Relu(x) y, m = LayerNormalization(a, w) }",
        w=np.ones(8, np.float32),
    )
    assert made.kept == ()
    assert made.types["m"] == FLOAT
    close(*made.run(x=DRAW.standard_normal((2, 8)).astype(np.float32)))


def test_an_instance_normalization_sums_squares() -> None:
    made = typed(
        "(float[2,3,8,8] x) => (float[2,3,8,8] y) { a = Relu(x) b = InstanceNormalization(a, w, w) y = Relu(b) }",
        w=np.ones(3, np.float32),
    )
    assert set(made.reasons) == {"node_b"}
    close(*made.run(x=IMAGE))


def test_an_operator_that_onnx_does_not_know_is_left_in_float32() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20, "x.y" : 1]> '
        "main (float[3] x) => (float[3] y) { a = Relu(x) b = x.y.Gate(a) y = Neg(b) }"
    )
    model = ir.from_proto(proto)
    for node in model.graph:
        node.outputs[0].type = ir.TensorType(FLOAT)
    assert [k.op_type for k in to_half(model, {}, HALF)] == ["Gate"]
    assert [node.op_type for node in model.graph] == ["Cast", "Relu", "Cast", "Gate", "Cast", "Neg", "Cast"]


def test_what_onnx_cannot_type_is_refused() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20, "x.y" : 1]> '
        "main (float[3] x) => (float[3] y) { a = Relu(x) b = x.y.Gate(a) y = Neg(b) }"
    )
    with pytest.raises(CleanupError, match="the type of b is unknown"):
        to_half(ir.from_proto(proto), {}, HALF)


# ---- wiring ------------------------------------------------------------------------------------------------------


def test_a_weight_of_both_sides_is_there_twice() -> None:
    made = typed(
        "(float[N,4,8,8] x) => (float[N,4,1,1] y) "
        "{ a = Mul(x, w) m = GlobalAveragePool(a) b = Mul(m, w) y = Add(b, w) }",
        {"b": 1e6},
        w=np.full((4, 1, 1), 3, np.float32),
    )
    assert (made.types["w"], made.types["w.fp16"]) == (FLOAT, FLOAT16)
    assert set(made.reasons) == {"node_m", "node_b", "node_y"}
    close(*made.run(x=DRAW.standard_normal((1, 4, 8, 8)).astype(np.float32)))


def test_an_output_that_is_read_inside_as_well() -> None:
    made = typed(
        "(float[N,3,8,8] x) => (float[N,3,8,8] a, float[N,3,1,1] m, float[N,3,1,1] y) "
        "{ a = Relu(x) m = GlobalAveragePool(a) b = GlobalMaxPool(a) y = Add(m, b) }"
    )
    assert made.reads("node_m") == "a"  # the output's own Cast, not a second one
    assert made.reads("node_b") == "a.fp16"
    assert made.ops().count("Cast") == 4
    close(*made.run(x=IMAGE))


def test_an_input_that_is_returned_is_not_rounded() -> None:
    made = typed("(float[3] x) => (float[3] i, float[3] y) { i = Identity(x) y = Relu(x) }")
    before, after = made.run(x=np.array([1 / 3, 2 / 3, 1e9], np.float32))
    assert np.array_equal(before[0], after[0])


def test_a_weight_that_is_returned_is_not_rounded() -> None:
    made = typed(
        "(float[3] x) => (float[3] i, float[3] y) { i = Identity(w) y = Add(x, w) }", w=np.full(3, 1 / 3, "f4")
    )
    close(*made.run(x=np.ones(3, np.float32)))


def test_inputs_of_other_types_and_weights_that_a_caller_may_replace() -> None:
    made = typed(
        "(float[3] x, float[3] w, bool[3] c, float16[3] h) => (float[3] y, bool[3] n) "
        "{ a = Mul(x, w) b = Cast <to = 1> (h) d = Where(c, a, b) y = Relu(d) n = Not(c) }",
        w=np.ones(3, np.float32),
    )
    assert made.types["w"] == FLOAT
    assert made.types["h"] == FLOAT16
    feeds = {"x": np.ones(3, np.float32), "c": np.array([True, False, True]), "h": np.ones(3, np.float16)}
    before, after = made.run(**feeds)
    close(before[:1], after[:1])


def test_names_that_are_taken_are_not_taken_again() -> None:
    made = typed(
        "(float[3] x) => (float[3] y, float[3] x.fp16) { y = Relu(x) x.fp16 = Neg(x) }".replace("x.fp16", "x_")
    )
    assert len(set(made.types)) == len(made.types)


# ---- random graphs -----------------------------------------------------------------------------------------------

UNARY = ("Relu", "Neg", "Sigmoid", "HardSigmoid", "Abs", "Tanh", "Identity")
SHRINKING = ("GlobalAveragePool", "GlobalMaxPool")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[str, dict[str, float], list[str]]:
    """Nodes that read what is there already, wherever it comes from; some values are said to be large."""
    there, nodes = ["x"], []
    for number in range(draw(st.integers(1, 9))):
        name = f"v{number}"
        kind = draw(st.sampled_from((*UNARY, *SHRINKING, "Add", "Mul", "Max", "weight")))
        first, second = draw(st.sampled_from(there)), draw(st.sampled_from(there))
        if kind in ("Add", "Mul", "Max"):
            nodes.append(f"{name} = {kind}({first}, {second})")
        elif kind == "weight":
            nodes.append(f"{name} = Mul({first}, w)")
        else:
            nodes.append(f"{name} = {kind}({first})")
        there.append(name)
    computed = there[1:]
    outputs = draw(st.lists(st.sampled_from(computed), min_size=1, max_size=3, unique=True))
    largest = dict.fromkeys(draw(st.lists(st.sampled_from(there), max_size=3)), 1e6)
    returned = ", ".join(f"float[N,3,H_{name},W_{name}] {name}" for name in outputs)
    return f"(float[N,3,8,8] x) => ({returned}) {{ {' '.join(nodes)} }}", largest, outputs


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_any_graph_stays_valid_typed_and_right(drawn: tuple[str, dict[str, float], list[str]]) -> None:
    text, largest, _ = drawn
    made = typed(text, largest, w=np.full((3, 1, 1), 0.7, np.float32))
    x = np.random.default_rng(1).uniform(-1, 1, (2, 3, 8, 8)).astype(np.float32)
    before, after = made.run(x=x)
    close(before, after, 2e-2)
    for name in largest:
        for node in made.model.graph:
            if any(v is not None and v.name == name for v in (*node.inputs, *node.outputs)) and node.op_type != "Cast":
                assert made.types[name] == FLOAT


# ---- rounding ----------------------------------------------------------------------------------------------------


@given(st.floats(width=32, allow_nan=True, allow_infinity=True))
def test_rounding_is_numpys_but_never_makes_infinity_of_a_number(number: float) -> None:
    got = HALF.rounded(np.array([number], np.float32))[0]
    assert got.dtype == np.float16
    with np.errstate(over="ignore"):
        expected = np.float16(np.clip(number, -HALF.largest, HALF.largest) if np.isfinite(number) else number)
    assert np.array_equal(got, expected, equal_nan=True)
    assert HALF.overflows(np.array([number], np.float32)) == (np.isfinite(number) and abs(number) > HALF.largest)


@given(st.floats(1e-4, 6e4), st.integers(0, 2**20))
def test_ordinary_weights_change_little_and_do_not_vanish(size: float, seed: int) -> None:
    array = (np.random.default_rng(seed).uniform(0.5, 1, 50) * size).astype(np.float32)
    assert HALF.change(array) < 5e-4
    assert not HALF.vanishes(array)
