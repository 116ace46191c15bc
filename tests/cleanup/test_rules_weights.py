"""BatchNorm in the convolution's weights, and the expansion in the first layer's."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.apply import apply_to_fixpoint
from attn_export.exporter.cleanup.pipeline import prepare
from attn_export.exporter.cleanup.rule import Context
from attn_export.exporter.cleanup.rules import (
    fold_added_bias,
    fold_batch_norm,
    fold_gain,
    squeeze_before_expansion,
    standardize_weights,
)
from tests.cleanup.conftest import Fires, Keeps, assert_same, assert_valid, graph, model_of, settled

FOLD, SQUEEZE, ADDED = fold_batch_norm.RULE, squeeze_before_expansion.RULE, fold_added_bias.RULE
GAIN, STANDARD = fold_gain.RULE, standardize_weights.RULE
MAP, OUT = "float[N, 4, H, W] x", "float[N, 6, H, W] y"
PADS = "pads = [1, 1, 1, 1]"
W, B = "float[6, 4, 3, 3] w = random", "float[6] b = random"
NORM = "float[6] scale = random, float[6] shift = random, float[6] mean = random, float[6] var = random"
PARAMETERS = "scale, shift, mean, var"


def folded(
    body: str, constants: str = f"{W}, {B}, {NORM}", *, inputs: str = MAP, outputs: str = OUT, opset: int = 20
) -> str:
    return graph(inputs, outputs, body, constants, opset=opset)


ADD = f"c = Conv <{PADS}> (x, w, b) y = Add(c, a)"
ADD_FIRST = f"c = Conv <{PADS}> (x, w) y = Add(a, c)"
ADD_FIRES = [
    Fires("to-a-bias", ADDED, folded(ADD, f"{W}, {B}, float[1, 6, 1, 1] a = random"), "Conv"),
    Fires("without-a-bias", ADDED, folded(ADD_FIRST, f"{W}, float[6, 1, 1] a = random"), "Conv"),
    Fires("opset-11", ADDED, folded(ADD_FIRST, f"{W}, float[1, 6, 1, 1] a = random", opset=11), "Conv"),
    Fires(
        "of-one-channel",
        ADDED,
        folded(ADD_FIRST, "float[1, 4, 3, 3] w = random, float[1, 1, 1, 1] a = random", outputs="float[N, 1, H, W] y"),
        "Conv",
    ),
]
ADD_KEEPS = [
    Keeps("a-number", ADDED, folded(ADD, f"{W}, {B}, float[1] a = random")),
    Keeps("a-row", ADDED, folded(ADD, f"{W}, {B}, float[1, 1, 1, 6] a = random", inputs="float[N, 4, H, 6] x")),
    Keeps("other-axes", ADDED, folded(ADD, f"{W}, {B}, float[6] a = random", inputs="float[N, 4, H, 6] x")),
    Keeps("a-batch", ADDED, folded(ADD, f"{W}, {B}, float[3, 6, 1, 1] a = random", inputs="float[3, 4, H, W] x")),
    Keeps(
        "a-channel-that-is-widened",
        ADDED,
        folded(ADD_FIRST, "float[1, 4, 3, 3] w = random, float[1, 6, 1, 1] a = random"),
    ),
    Keeps("a-map", ADDED, folded(ADD, f"{W}, {B}", inputs=f"{MAP}, float[1, 6, 1, 1] a")),
    Keeps(
        "other-readers",
        ADDED,
        folded(f"{ADD} z = Relu(c)", f"{W}, {B}, float[1, 6, 1, 1] a = random", outputs=f"{OUT}, float[N, 6, H, W] z"),
        "the convolution's result has other readers",
    ),
]
GAIN_BEFORE, GAIN_BEHIND = f"m = Mul(x, k) y = Conv <{PADS}> (m, w, b)", f"c = Conv <{PADS}> (x, w, b) y = Div(c, k)"
NUMBER = f"{W}, {B}, float k = {{0.2}}"
GAIN_FIRES = [
    Fires("before", GAIN, folded(GAIN_BEFORE, NUMBER), "Conv"),
    Fires("behind", GAIN, folded(GAIN_BEHIND, NUMBER), "Conv"),
]
GAIN_KEEPS = [
    Keeps("a-channel's-gain", GAIN, folded(GAIN_BEHIND, f"{W}, {B}, float[6, 1, 1] k = random")),
    Keeps("number-by-result", GAIN, folded(f"c = Conv <{PADS}> (x, w, b) y = Div(k, c)", NUMBER)),
    Keeps(
        "other-readers",
        GAIN,
        folded(f"{GAIN_BEHIND} z = Relu(c)", NUMBER, outputs=f"{OUT}, float[N, 6, H, W] z"),
        "what is multiplied has other readers",
    ),
    Keeps(
        "shared-weights",
        GAIN,
        folded(f"{GAIN_BEHIND} z = Conv <{PADS}> (x, w)", NUMBER, outputs=f"{OUT}, float[N, 6, H, W] z"),
        "the convolution's weights aren't its own constants",
    ),
    Keeps(
        "too-large",
        GAIN,
        folded(GAIN_BEHIND.replace("Div", "Mul"), f"{W}, {B}, float k = {{3.3e38}}"),
        "the weights would be too large for their type",
    ),
]
STANDARDIZED = """f, m, v = BatchNormalization <training_mode = 1> (w, scale, shift, mean, var)
    s = Reshape(f, shape)  y = Conv <pads = [1, 1, 1, 1]> (x, s)"""
FLAT = f"float[1, 6, 36] w = random, {NORM}, int64[4] shape = {{6, 4, 3, 3}}"
STANDARD_FIRES = [Fires("a-weight", STANDARD, folded(STANDARDIZED, FLAT), "Conv")]
STANDARD_KEEPS = [
    Keeps("statistics-read", STANDARD, folded(STANDARDIZED, FLAT, outputs=f"{OUT}, float[6] m")),
    Keeps(
        "an-input",
        STANDARD,
        folded(STANDARDIZED, FLAT.removeprefix("float[1, 6, 36] w = random, "), inputs=f"{MAP}, float[1, 6, 36] w"),
    ),
]
PLAIN = f"c = Conv <{PADS}> (x, w, b) y = BatchNormalization(c, {PARAMETERS})"
FIRES = [
    *ADD_FIRES,
    *GAIN_FIRES,
    *STANDARD_FIRES,
    Fires("with-bias", FOLD, folded(PLAIN), "Conv"),
    Fires("opset-11", FOLD, folded(PLAIN, opset=11), "Conv"),
    Fires(
        "without-bias",
        FOLD,
        folded(f"c = Conv <{PADS}> (x, w) y = BatchNormalization <epsilon = 0.1> (c, {PARAMETERS})", f"{W}, {NORM}"),
        "Conv",
    ),
    Fires(
        "depthwise",
        FOLD,
        graph(
            "float[N, 6, H, W] x",
            OUT,
            f"c = Conv <{PADS}, group = 6> (x, w, b) y = BatchNormalization(c, {PARAMETERS})",
            f"float[6, 1, 3, 3] w = random, {B}, {NORM}",
        ),
        "Conv",
    ),
    Fires(
        "strides-and-dilations",
        FOLD,
        graph(
            "float[N, 4, 9, 11] x",
            "float[N, 6, 4, 5] y",
            "c = Conv <pads = [1, 1, 1, 1], strides = [2, 2], dilations = [2, 2], kernel_shape = [3, 3]> (x, w) "
            f"y = BatchNormalization(c, {PARAMETERS})",
            f"{W}, {NORM}",
        ),
        "Conv",
    ),
    Fires(
        "one-dimension",
        FOLD,
        graph(
            "float[N, 4, L] x",
            "float[N, 6, L] y",
            f"c = Conv <pads = [1, 1]> (x, w) y = BatchNormalization(c, {PARAMETERS})",
            f"float[6, 4, 3] w = random, {NORM}",
        ),
        "Conv",
    ),
    Fires(
        "weights-are-shared",
        FOLD,
        folded(
            f"c = Conv <{PADS}> (x, w, b) y = BatchNormalization(c, {PARAMETERS}) "
            f"z = Conv <{PADS}, dilations = [1, 1]> (x, w, b)",
            outputs=f"{OUT}, float[N, 6, H, W] z",
        ),
        "Conv Conv",
    ),
    Fires(
        "read-in-a-body",
        FOLD,
        folded(
            f"c = Conv <{PADS}> (x, w, b) n = BatchNormalization(c, {PARAMETERS}) "
            "y = If(k) <then_branch = t () => (float[N, 6, H, W] r) { r = Neg(n) }, "
            "else_branch = e () => (float[N, 6, H, W] q) { q = Abs(n) }>",
            inputs=f"{MAP}, bool k",
        ),
        "Conv If",
    ),
    Fires(
        "float16",
        FOLD,
        graph(
            "float16[N, 4, H, W] x",
            "float16[N, 6, H, W] y",
            PLAIN,
            f"{W}, {B}, {NORM}".replace("float", "float16"),
        ),
        "Conv",
    ),
    *(
        Fires(
            name,
            SQUEEZE,
            graph(
                f"float[{batch}, 4, H, W] s",
                f"float[{batch}, 2, 1, 1] y, float[{batch}, 16, H, W] x",
                f"x = Conv(s, w3{b3}) p = {pool} y = Conv(p, w1{b1})",
                "float[16, 4, 1, 1] w3 = random, float[2, 16, 1, 1] w1 = random, "
                "float[16] b3 = random, float[2] b1 = random, int64[2] axes = {2, 3}",
            ),
            f"Conv Conv {'GlobalAveragePool' if target is Target.ONNXRUNTIME else 'ReduceMean'}",
            target=target,
        )
        for name, batch, b3, b1, pool, target in (
            ("both-biases", "N", ", b3", ", b1", "GlobalAveragePool(x)", Target.ONNXRUNTIME),
            ("no-bias", "N", "", "", "GlobalAveragePool(x)", Target.ONNXRUNTIME),
            ("one-bias", "N", ", b3", "", "GlobalAveragePool(x)", Target.ONNXRUNTIME),
            ("reduction-for-onnxruntime", "N", ", b3", ", b1", "ReduceMean(x, axes)", Target.ONNXRUNTIME),
            ("other-bias", "N", "", ", b1", "ReduceMean(x, axes)", Target.ANY),
            ("global-pool-for-any", "N", ", b3", ", b1", "GlobalAveragePool(x)", Target.ANY),
            ("tensorrt-at-batch-1", "1", ", b3", ", b1", "ReduceMean(x, axes)", Target.TENSORRT),
            ("tensorrt-at-any-batch", "N", ", b3", ", b1", "ReduceMean(x, axes)", Target.TENSORRT),
        )
    ),
    Fires(
        "float16",
        SQUEEZE,
        graph(
            "float16[N, 4, H, W] s",
            "float16[N, 2, 1, 1] y, float16[N, 16, H, W] x",
            "x = Conv(s, w3) p = GlobalAveragePool(x) y = Conv(p, w1)",
            "float16[16, 4, 1, 1] w3 = random, float16[2, 16, 1, 1] w1 = random",
        ),
        "Conv Conv ReduceMean",
    ),
]


def expanded(
    body: str = "x = Conv(s, w3) p = GlobalAveragePool(x) y = Conv(p, w1)",
    constants: str = "float[16, 4, 1, 1] w3 = random, float[2, 16, 1, 1] w1 = random",
    *,
    inputs: str = "float[N, 4, H, W] s",
    outputs: str = "float[N, 2, 1, 1] y",
) -> str:
    return graph(inputs, outputs, body, constants)


READ, POINTWISE = (
    "the convolution's result has other readers",
    "a convolution isn't pointwise: kernel 1x1, stride 1, no padding, one group",
)
KEEPS = [
    *ADD_KEEPS,
    *GAIN_KEEPS,
    *STANDARD_KEEPS,
    Keeps(
        "training",
        FOLD,
        folded(
            f"c = Conv <{PADS}> (x, w, b) y, m, v = BatchNormalization <training_mode = 1> (c, {PARAMETERS})",
            outputs=f"{OUT}, float[6] m, float[6] v",
        ),
        "BatchNorm is in training mode",
    ),
    Keeps("convolution-is-an-output", FOLD, folded(PLAIN, outputs=f"{OUT}, float[N, 6, H, W] c"), READ),
    Keeps(
        "convolution-is-read-twice", FOLD, folded(f"{PLAIN} z = Neg(c)", outputs=f"{OUT}, float[N, 6, H, W] z"), READ
    ),
    Keeps(
        "convolution-is-read-in-a-body",
        FOLD,
        folded(
            f"{PLAIN} z = If(k) <then_branch = t () => (float[N, 6, H, W] r) {{ r = Neg(c) }}, "
            "else_branch = e () => (float[N, 6, H, W] q) { q = Abs(c) }>",
            inputs=f"{MAP}, bool k",
            outputs=f"{OUT}, float[N, 6, H, W] z",
        ),
        READ,
    ),
    Keeps(
        "computed-weights",
        FOLD,
        folded(PLAIN, f"{B}, {NORM}", inputs=f"{MAP}, float[6, 4, 3, 3] w"),
        "the convolution's weights aren't constant",
    ),
    *(
        Keeps(
            f"overridable-{name}",
            FOLD,
            folded(PLAIN, inputs=f"{MAP}, {declared}"),
            "the weights are graph inputs, which callers may override",
        )
        for name, declared in (
            ("weights", "float[6, 4, 3, 3] w"),
            ("bias", "float[6] b"),
            ("scale", "float[6] scale"),
            ("variance", "float[6] var"),
        )
    ),
    Keeps("no-convolution", FOLD, graph(OUT.replace("y", "x"), OUT, f"y = BatchNormalization(x, {PARAMETERS})", NORM)),
    Keeps("unknown-rank", FOLD, folded(PLAIN, inputs="float[] x", outputs="float[] y"), None),
    *(
        Keeps(name, SQUEEZE, expanded(body), POINTWISE)
        for name, body in (
            ("strides", "x = Conv <strides = [2, 2]> (s, w3) p = GlobalAveragePool(x) y = Conv(p, w1)"),
            ("padding", f"x = Conv <{PADS}> (s, w3) p = GlobalAveragePool(x) y = Conv(p, w1)"),
            (
                "automatic-padding",
                'x = Conv <auto_pad = "SAME_UPPER"> (s, w3) p = GlobalAveragePool(x) y = Conv(p, w1)',
            ),
        )
    ),
    Keeps(
        "larger-kernel",
        SQUEEZE,
        expanded(
            f"x = Conv <{PADS}> (s, w3) p = GlobalAveragePool(x) y = Conv(p, w1)",
            "float[16, 4, 3, 3] w3 = random, float[2, 16, 1, 1] w1 = random",
        ),
        POINTWISE,
    ),
    Keeps(
        "groups",
        SQUEEZE,
        expanded(
            "x = Conv <group = 2> (s, w3) p = GlobalAveragePool(x) y = Conv(p, w1)",
            "float[16, 2, 1, 1] w3 = random, float[2, 16, 1, 1] w1 = random",
        ),
        POINTWISE,
    ),
    Keeps(
        "narrows",
        SQUEEZE,
        expanded(
            constants="float[4, 16, 1, 1] w3 = random, float[2, 4, 1, 1] w1 = random", inputs="float[N, 16, H, W] s"
        ),
    ),
    Keeps(
        "maximum",
        SQUEEZE,
        expanded("x = Conv(s, w3) p = GlobalMaxPool(x) y = Conv(p, w1)"),
    ),
    Keeps(
        "mean-over-one-axis",
        SQUEEZE,
        expanded(
            "x = Conv(s, w3) p = ReduceMean(x, one) y = Conv(p, w1)",
            "float[16, 4, 1, 1] w3 = random, float[2, 16, 1, 1] w1 = random, int64[1] one = {2}",
            outputs="float[N, 2, 1, W] y",
        ),
    ),
    Keeps(
        "activation-between",
        SQUEEZE,
        expanded("e = Conv(s, w3) x = Relu(e) p = GlobalAveragePool(x) y = Conv(p, w1)"),
    ),
    Keeps(
        "pool-is-read-twice",
        SQUEEZE,
        expanded(
            "x = Conv(s, w3) p = GlobalAveragePool(x) y = Conv(p, w1) z = Neg(p)",
            outputs="float[N, 2, 1, 1] y, float[N, 16, 1, 1] z",
        ),
    ),
    Keeps("pool-is-an-output", SQUEEZE, expanded(outputs="float[N, 2, 1, 1] y, float[N, 16, 1, 1] p")),
    Keeps("overridable-weights", SQUEEZE, expanded(inputs="float[N, 4, H, W] s, float[16, 4, 1, 1] w3")),
    Keeps(
        "overridable-bias",
        SQUEEZE,
        expanded(
            "x = Conv(s, w3, b3) p = GlobalAveragePool(x) y = Conv(p, w1)",
            "float[16, 4, 1, 1] w3 = random, float[2, 16, 1, 1] w1 = random, float[16] b3 = random",
            inputs="float[N, 4, H, W] s, float[16] b3",
        ),
        "a bias isn't constant",
    ),
    Keeps("unknown-rank", SQUEEZE, expanded(inputs="float[] s", outputs="float[] y")),
]


def test_weights_keep_their_names_and_types() -> None:
    done = next(case for case in FIRES if case.rule is FOLD and case.name == "float16").apply_to_fixpoint()
    kept = {name: array.dtype for name, array in done.constants.items()}
    assert kept == dict.fromkeys("wb", np.dtype(np.float16))


def test_a_bias_is_called_after_its_weight() -> None:
    model = model_of(next(case.text for case in FIRES if case.name == "without-bias"))
    model.graph.initializers["w"].name = "conv.weight"
    prepare(model)
    assert len(apply_to_fixpoint(model, [FOLD], Context(20, Target.ANY)).applied) == 1
    assert set(model.graph.initializers) == {"conv.weight", "conv.bias"}


def test_shared_weights_stay_for_the_other_convolution() -> None:
    done = next(case for case in FIRES if case.name == "weights-are-shared").apply_to_fixpoint()
    assert {"w", "b", "w_1", "b_1"} <= set(done.constants)
    plain = next(node for node in done.model.graph if node.outputs[0].name == "z")
    assert [value.name for value in plain.inputs if value is not None] == ["x", "w", "b"]


def test_weights_that_would_leave_their_type_stay_as_they_are() -> None:
    """Folded they would be infinite; the graph as it is isn't, where x is small."""
    text = graph(
        "float16[N, 1, H, W] x",
        "float16[N, 1, H, W] y",
        f"c = Conv(x, w) y = BatchNormalization(c, {PARAMETERS})",
        "float16[1, 1, 1, 1] w = {1000}, float16[1] scale = {1000}, float16[1] shift = {0}, float16[1] mean = {0}, "
        "float16[1] var = {1}",
    )
    done = settled(text, FOLD)
    assert done.is_unchanged
    assert done.log.applied == []


@settings(max_examples=25, deadline=None)
@given(
    bias=st.booleans(),
    group=st.sampled_from([1, 2]),
    kernel=st.sampled_from([1, 3]),
    epsilon=st.sampled_from([1e-5, 1e-3, 0.5]),
    opset=st.sampled_from([11, 14, 15, 20]),
)
def test_any_batch_norm_is_folded(bias: bool, group: int, kernel: int, epsilon: float, opset: int) -> None:
    pad = kernel // 2
    text = graph(
        MAP,
        OUT,
        f"c = Conv <group = {group}, pads = [{pad}, {pad}, {pad}, {pad}]> (x, w{', b' if bias else ''}) "
        f"y = BatchNormalization <epsilon = {epsilon}> (c, {PARAMETERS})",
        f"float[6, {4 // group}, {kernel}, {kernel}] w = random, {B}, {NORM}",
        opset=opset,
    )
    done = settled(text, FOLD)
    assert [node.op_type for node in done.model.graph] == ["Conv"]
    assert_valid(done.model)
    assert_same(done.raw, done.model)
