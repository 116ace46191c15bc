"""The layers of a channel gate: convolutions of what is pooled, views below them, the shared one applied once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_export.exporter.cleanup.rules import apply_second_layer_once, convolve_squeezed, merge_views, sink_views
from tests.cleanup.conftest import Fires, Keeps, assert_same, assert_valid, graph, operators, settled

CONVOLVE, SINK, ONCE = convolve_squeezed.RULE, sink_views.RULE, apply_second_layer_once.RULE
POOLED, OUT = "float[N, 8, 1, 1] p", "float[N, 4, 1, 1] y"
W, WT, B = "float[4, 8] w = random", "float[8, 4] w = random", "float[4] b = random"
BACK = "s = Sigmoid(h) y = Unsqueeze(s, back)"
VIEW = "int64[2] back = {2, 3}"
CONVOLVED = "Conv Reshape Sigmoid Unsqueeze"
IF = "<then_branch = t () => (float[N, 4] r) { r = Neg(h) }, else_branch = e () => (float[N, 4] q) { q = Abs(h) }>"


def layer(body: str, constants: str, *, inputs: str = POOLED, outputs: str = OUT, opset: int = 20) -> str:
    return graph(inputs, outputs, f"f = Flatten(p) {body} {BACK}", f"{constants}, {VIEW}", opset=opset)


def shared(body: str, *, weights: str = "float[8, 4, 1, 1] w = random, float[8] b = random", **more: str) -> str:
    inputs = more.get("inputs", "float[N, 4, 1, 1] a, float[N, 4, 1, 1] m")
    return graph(inputs, more.get("outputs", "float[N, 8, 1, 1] y"), body, weights)


def sunk(body: str, constants: str = "", *, inputs: str = "float[N, 8, 1, 1] c", dtype: str = "float") -> str:
    """A flattened vector, an activation, and the gate's shape again."""
    return graph(
        inputs,
        f"{dtype}[N, 8, 1, 1] y",
        f"v = Flatten(c) {body} u = Unsqueeze(g, back) y = Neg(u)",
        ", ".join(filter(None, [constants, VIEW])),
    )


FIRES = [
    Fires("gemm", CONVOLVE, layer("h = Gemm <transB = 1> (f, w, b)", f"{W}, {B}"), CONVOLVED),
    Fires("gemm-without-bias", CONVOLVE, layer("h = Gemm <transB = 1> (f, w)", W), CONVOLVED),
    Fires("gemm-not-transposed", CONVOLVE, layer("h = Gemm(f, w, b)", f"{WT}, {B}"), CONVOLVED),
    Fires(
        "alpha-and-beta",
        CONVOLVE,
        layer("h = Gemm <transB = 1, alpha = 0.7, beta = 1.3> (f, w, b)", f"{W}, {B}"),
        CONVOLVED,
    ),
    Fires("bias-of-one-number", CONVOLVE, layer("h = Gemm(f, w, b)", f"{WT}, float[1] b = {{0.3}}"), CONVOLVED),
    Fires("bias-as-a-row", CONVOLVE, layer("h = Gemm(f, w, b)", f"{WT}, float[1, 4] b = random"), CONVOLVED),
    Fires("matmul", CONVOLVE, layer("h = MatMul(f, w)", WT), CONVOLVED),
    Fires("matmul-and-add", CONVOLVE, layer("m = MatMul(f, w) h = Add(m, b)", f"{WT}, {B}"), CONVOLVED),
    Fires("add-and-matmul", CONVOLVE, layer("m = MatMul(f, w) h = Add(b, m)", f"{WT}, {B}"), CONVOLVED),
    Fires(
        "squeezed",
        CONVOLVE,
        graph(POOLED, OUT, f"f = Squeeze(p, back) h = Gemm(f, w, b) {BACK}", f"{WT}, {B}, {VIEW}"),
        CONVOLVED,
    ),
    Fires(
        "two-views-before",
        CONVOLVE,
        graph(
            POOLED,
            OUT,
            f"v = Squeeze(p, last) f = Squeeze(v, two) h = Gemm(f, w, b) {BACK}",
            f"{WT}, {B}, {VIEW}, int64[1] last = {{3}}, int64[1] two = {{2}}",
        ),
        CONVOLVED,
    ),
    Fires(
        "weight-is-shared",
        CONVOLVE,
        layer(
            "h = Gemm(f, w, b) z = MatMul(e, w)",
            f"{WT}, {B}",
            inputs=f"{POOLED}, float[N, 8] e",
            outputs=f"{OUT}, float[N, 4] z",
        ),
        "Conv MatMul Reshape Sigmoid Unsqueeze",
    ),
    Fires(
        "result-is-an-output",
        CONVOLVE,
        layer("h = Gemm(f, w, b)", f"{WT}, {B}", outputs=f"{OUT}, float[N, 4] h"),
        CONVOLVED,
    ),
    Fires(
        "result-is-read-in-a-body",
        CONVOLVE,
        layer(
            f"h = Gemm(f, w, b) z = If(c) {IF}",
            f"{WT}, {B}",
            inputs=f"{POOLED}, bool c",
            outputs=f"{OUT}, float[N, 4] z",
        ),
        "Conv If Reshape Sigmoid Unsqueeze",
    ),
    Fires(
        "opset-11",
        CONVOLVE,
        graph(
            POOLED,
            OUT,
            "f = Flatten(p) h = Gemm(f, w, b) s = Sigmoid(h) y = Unsqueeze <axes = [2, 3]> (s)",
            f"{WT}, {B}",
            opset=11,
        ),
        CONVOLVED,
    ),
    Fires(
        "float16",
        CONVOLVE,
        graph(
            "float16[N, 8, 1, 1] p",
            "float16[N, 4, 1, 1] y",
            f"f = Flatten(p) h = Gemm(f, w, b) {BACK}",
            f"float16[8, 4] w = random, float16[4] b = random, {VIEW}",
        ),
        CONVOLVED,
    ),
    *(
        Fires(op, SINK, sunk(f"g = {op}(v)"), " ".join(sorted(["Neg", "Reshape", op, "Unsqueeze"])))
        for op in ("Sigmoid", "Tanh", "Relu", "HardSigmoid", "HardSwish", "LeakyRelu", "Elu", "Softplus", "Gelu")
    ),
    Fires(
        "clip", SINK, sunk("g = Clip(v, low, high)", "float low = {0}, float high = {1}"), "Clip Neg Reshape Unsqueeze"
    ),
    Fires("clip-without-a-limit", SINK, sunk("g = Clip(v, , high)", "float high = {1}"), "Clip Neg Reshape Unsqueeze"),
    Fires("cast", SINK, sunk("g = Cast <to = 10> (v)", dtype="float16"), "Cast Neg Reshape Unsqueeze"),
    *(
        Fires(
            f"{op}-of-two",
            SINK,
            sunk(f"w = Flatten(d) g = {op}(v, w)", inputs="float[N, 8, 1, 1] c, float[N, 8, 1, 1] d"),
            " ".join(sorted([op, "Neg", "Reshape", "Unsqueeze"])),
        )
        for op in ("Add", "Sub", "Mul", "Div", "Min", "Max")
    ),
    Fires("with-itself", SINK, sunk("g = Mul(v, v)"), "Mul Neg Reshape Unsqueeze"),
    Fires("a-number", SINK, sunk("g = Sub(k, v)", "float[1] k = {1}"), "Neg Reshape Sub Unsqueeze"),
    Fires("a-vector", SINK, sunk("g = Div(v, k)", "float[8] k = random"), "Div Neg Reshape Unsqueeze"),
    Fires("a-row", SINK, sunk("g = Add(k, v)", "float[1, 8] k = random"), "Add Neg Reshape Unsqueeze"),
    Fires(
        "batch-norm",
        SINK,
        sunk(
            "g = BatchNormalization(v, s, b, mean, var)",
            "float[8] s = random, float[8] b = random, float[8] mean = random, float[8] var = random",
        ),
        "BatchNormalization Neg Reshape Unsqueeze",
    ),
    Fires(
        "view-is-read-twice",
        SINK,
        graph(
            "float[N, 8, 1, 1] c",
            "float[N, 8, 1, 1] y, float[N, 8] z",
            "v = Flatten(c) g = Sigmoid(v) u = Unsqueeze(g, back) y = Neg(u) z = Neg(v)",
            VIEW,
        ),
        "Flatten Neg Neg Reshape Sigmoid Unsqueeze",
    ),
    Fires(
        "result-is-an-output",
        SINK,
        graph(
            "float[N, 8, 1, 1] c",
            "float[N, 8, 1, 1] y, float[N, 8] g",
            "v = Flatten(c) g = Sigmoid(v) y = Unsqueeze(g, back)",
            VIEW,
        ),
        "Reshape Sigmoid Unsqueeze",
    ),
    Fires("twice", SINK, sunk("r = Relu(v) g = Sigmoid(r)"), "Neg Relu Reshape Sigmoid Unsqueeze", 2),
    Fires(
        "shared-layer",
        ONCE,
        shared("c = Conv(a, w, b) d = Conv(m, w, b) y = Add(c, d)"),
        "Add Conv",
    ),
    Fires(
        "no-bias",
        ONCE,
        shared("c = Conv(a, w) d = Conv(m, w) y = Add(c, d)", weights="float[8, 4, 1, 1] w = random"),
        "Add Conv",
    ),
    Fires(
        "grouped",
        ONCE,
        shared(
            "c = Conv <group = 2> (a, w, b) d = Conv <group = 2> (m, w, b) y = Add(c, d)",
            weights="float[8, 2, 1, 1] w = random, float[8] b = random",
        ),
        "Add Conv",
    ),
    Fires(
        "equal-copies-of-the-weights",
        ONCE,
        shared(
            "c = Conv(a, w, b) d = Conv(m, w2, b) y = Add(c, d)",
            weights="float[2, 4, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[2, 4, 1, 1] w2 = {1, 2, 3, 4, 5, 6, 7, 8}, "
            "float[2] b = {1, -1}",
            outputs="float[N, 2, 1, 1] y",
        ),
        "Add Conv",
    ),
    Fires(
        "bias-is-read-elsewhere",
        ONCE,
        shared(
            "c = Conv(a, w, b) d = Conv(m, w, b) y = Add(c, d) z = Add(k, b)",
            inputs="float[N, 4, 1, 1] a, float[N, 4, 1, 1] m, float[8] k",
            outputs="float[N, 8, 1, 1] y, float[8] z",
        ),
        "Add Add Conv",
    ),
    Fires(
        "float16",
        ONCE,
        graph(
            "float16[N, 4, 1, 1] a, float16[N, 4, 1, 1] m",
            "float16[N, 8, 1, 1] y",
            "c = Conv(a, w, b) d = Conv(m, w, b) y = Add(c, d)",
            "float16[8, 4, 1, 1] w = random, float16[8] b = random",
        ),
        "Add Conv",
    ),
]

CLASSIFIER = "the result doesn't become a gate"
SHARED = "float[N, 8, 1, 1] y, float[N, 8, 1, 1] "
BOTH = "c = Conv(a, w, b) d = Conv(m, w, b) y = Add(c, d)"
KEEPS = [
    Keeps(
        "classifier",
        CONVOLVE,
        graph(POOLED, "float[N, 4] y", "f = Flatten(p) y = Gemm(f, w, b)", f"{WT}, {B}"),
        CLASSIFIER,
    ),
    Keeps(
        "computed-weights",
        CONVOLVE,
        layer("h = Gemm(f, w)", "float[1] k = {1}", inputs=f"{POOLED}, float[8, 4] w"),
        "the weights aren't constant",
    ),
    Keeps(
        "overridable-weights",
        CONVOLVE,
        layer("h = Gemm(f, w, b)", f"{WT}, {B}", inputs=f"{POOLED}, float[8, 4] w"),
        "the weights aren't constant",
    ),
    Keeps(
        "overridable-bias",
        CONVOLVE,
        layer("h = Gemm(f, w, b)", f"{WT}, {B}", inputs=f"{POOLED}, float[4] b"),
        "the weights aren't constant",
    ),
    Keeps(
        "transposed-input",
        CONVOLVE,
        graph(
            "float[2, 8, 1, 1] p",
            "float[8, 4, 1, 1] y",
            f"f = Flatten(p) h = Gemm <transA = 1> (f, w) {BACK}",
            f"float[2, 4] w = random, {VIEW}",
        ),
        "its input is transposed (transA)",
    ),
    Keeps(
        "larger-map",
        CONVOLVE,
        graph("float[N, 2, 2, 2] p", OUT, f"f = Flatten(p) h = Gemm(f, w, b) {BACK}", f"{WT}, {B}, {VIEW}"),
    ),
    Keeps("unknown-rank", CONVOLVE, layer("h = Gemm(f, w, b)", f"{WT}, {B}", inputs="float[] p")),
    Keeps("no-view", CONVOLVE, graph("float[N, 8] f", OUT, f"h = Gemm(f, w, b) {BACK}", f"{WT}, {B}, {VIEW}")),
    # One number for each image, which happen to be as many as the channels.
    Keeps(
        "bias-as-a-column",
        CONVOLVE,
        graph(
            "float[4, 8, 1, 1] p",
            "float[4, 4, 1, 1] y",
            f"f = Flatten(p) h = Gemm(f, w, b) {BACK}",
            f"{WT}, float[4, 1] b = random, {VIEW}",
        ),
        None,
    ),
    Keeps("classifier", SINK, graph(POOLED, "float[N, 8] y", "f = Flatten(p) y = Relu(f)"), CLASSIFIER),
    Keeps(
        "larger-map",
        SINK,
        graph("float[N, 4, 2, 1] c", "float[N, 8, 1, 1] y", "v = Flatten(c) g = Relu(v) y = Unsqueeze(g, back)", VIEW),
    ),
    Keeps("an-axis-is-mixed", SINK, sunk("g = Softmax <axis = 1> (v)")),
    Keeps("something-that-is-no-view", SINK, sunk("g = Add(v, e)", inputs="float[N, 8, 1, 1] c, float[N, 8] e")),
    Keeps(
        "overridable-vector",
        SINK,
        sunk("g = Add(v, e)", "float[8] e = random", inputs="float[N, 8, 1, 1] c, float[8] e"),
    ),
    Keeps("unknown-rank", SINK, sunk("g = Sigmoid(v)", inputs="float[] c")),
    Keeps(
        "other-weights",
        ONCE,
        shared(
            "c = Conv(a, w, b) d = Conv(m, w2, b) y = Add(c, d)",
            weights="float[8, 4, 1, 1] w = random, float[8, 4, 1, 1] w2 = random, float[8] b = random",
        ),
        "the two layers don't share their weights",
    ),
    Keeps(
        "one-bias",
        ONCE,
        shared("c = Conv(a, w, b) d = Conv(m, w) y = Add(c, d)"),
        "the two layers don't share their weights",
    ),
    Keeps(
        "computed-weights",
        ONCE,
        shared(
            "c = Conv(a, w) d = Conv(m, w) y = Add(c, d)",
            weights="",
            inputs="float[N, 4, 1, 1] a, float[N, 4, 1, 1] m, float[8, 4, 1, 1] w",
        ),
        "the two layers don't share their weights",
    ),
    Keeps(
        "overridable-bias",
        ONCE,
        shared(BOTH, inputs="float[N, 4, 1, 1] a, float[N, 4, 1, 1] m, float[8] b"),
        "the two layers don't share their weights",
    ),
    Keeps(
        "other-attributes",
        ONCE,
        shared(
            "c = Conv <pads = [0, 0, 0, 0]> (a, w, b) d = Conv(m, w, b) y = Add(c, d)",
        ),
        "the two layers differ in their attributes",
    ),
    Keeps(
        "layer-is-read-twice",
        ONCE,
        shared(f"{BOTH} z = Neg(c)", outputs=f"{SHARED} z"),
        "a layer's result has other readers",
    ),
    Keeps("layer-is-an-output", ONCE, shared(BOTH, outputs=f"{SHARED} d"), "a layer's result has other readers"),
    Keeps(
        "layer-is-read-in-a-body",
        ONCE,
        shared(
            f"{BOTH} z = If(k) <then_branch = t () => (float[N, 8, 1, 1] r) {{ r = Neg(c) }}, "
            "else_branch = e () => (float[N, 8, 1, 1] q) { q = Abs(c) }>",
            inputs="float[N, 4, 1, 1] a, float[N, 4, 1, 1] m, bool k",
            outputs=f"{SHARED} z",
        ),
        "a layer's result has other readers",
    ),
    Keeps(
        "larger-maps",
        ONCE,
        shared(BOTH, inputs="float[N, 4, H, W] a, float[N, 4, H, W] m", outputs="float[N, 8, H, W] y"),
    ),
    Keeps("unknown-rank", ONCE, shared(BOTH, inputs="float[] a, float[] m", outputs="float[] y")),
    Keeps("one-layer-twice", ONCE, shared("c = Conv(a, w, b) y = Add(c, c)")),
]


def test_weights_keep_their_names_and_types() -> None:
    done = next(case for case in FIRES if case.rule is CONVOLVE and case.name == "float16").apply_to_fixpoint()
    assert {name: (array.shape, array.dtype) for name, array in done.constants.items() if name in "wb"} == {
        "w": ((4, 8, 1, 1), np.dtype(np.float16)),
        "b": ((4,), np.dtype(np.float16)),
    }


def test_a_weight_that_is_shared_stays_for_its_other_reader() -> None:
    done = next(case for case in FIRES if case.name == "weight-is-shared").apply_to_fixpoint()
    assert {name: array.shape for name, array in done.constants.items() if name.startswith("w")} == {
        "w": (8, 4),
        "w_1": (4, 8, 1, 1),
    }


def test_the_shared_bias_is_doubled_exactly() -> None:
    done = next(case for case in FIRES if case.name == "bias-is-read-elsewhere").apply_to_fixpoint()
    assert np.array_equal(done.constants["b_1"], 2 * done.constants["b"])


ACTIVATIONS = st.lists(st.sampled_from(["Relu", "Sigmoid", "Tanh", "Identity"]), max_size=2)


@settings(max_examples=30, deadline=None)
@given(
    gemm=st.booleans(),
    bias=st.booleans(),
    squeezed=st.booleans(),
    before=ACTIVATIONS,
    after=ACTIVATIONS,
    reshaped=st.booleans(),
)
def test_any_gate_of_one_layer_loses_its_views(
    gemm: bool, bias: bool, squeezed: bool, before: list[str], after: list[str], reshaped: bool
) -> None:
    body, value = ("f0 = Squeeze(p, back) " if squeezed else "f0 = Flatten(p) "), "f0"
    for i, op in enumerate(before):
        body, value = f"{body} i{i} = {op}({value}) ", f"i{i}"
    if gemm:
        body += f"h = Gemm({value}, w{', b' if bias else ''}) "
    else:
        body += f"m = MatMul({value}, w) h = Add(m, b) " if bias else f"h = MatMul({value}, w) "
    value = "h"
    for i, op in enumerate(after):
        body, value = f"{body} o{i} = {op}({value}) ", f"o{i}"
    body += f"u = Reshape({value}, shape) " if reshaped else f"u = Unsqueeze({value}, back) "
    text = graph(POOLED, OUT, f"{body} y = Neg(u)", f"{WT}, {B}, {VIEW}, int64[4] shape = {{0, 4, 1, 1}}")
    done = settled(text, merge_views.RULE, CONVOLVE, SINK)
    wanted = sorted(["Conv", "Neg", *(op for op in before + after if op != "Identity")])
    assert operators(done.model) == " ".join(wanted)
    assert_valid(done.model)
    assert_same(done.raw, done.model)
