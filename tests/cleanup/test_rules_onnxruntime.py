"""What ONNX Runtime likes: gates as large as their maps, summaries over channels that lie together."""

import numpy as np
import pytest

from attn_export.exporter.cleanup.rule import Rule
from attn_export.exporter.cleanup.rules import (
    average_channels,
    pool_integers,
    read_gate_directly,
    repeat_spatial_gate,
    resize_gate,
    summarize_channels_last,
    summarize_maps,
)
from tests.cleanup.conftest import Fires, Keeps, assert_same, assert_shapes_hold, graph, settled

RESIZE, REPEAT, LAST = resize_gate.RULE, repeat_spatial_gate.RULE, summarize_channels_last.RULE
# Those of integers.
DIRECTLY, BACK, AVERAGE, POOL = read_gate_directly.RULE, summarize_maps.RULE, average_channels.RULE, pool_integers.RULE
SIZE, ONE = "6, 7", "int64[1] one = {1}"
MAP, FULL = f"float[N, 8, {SIZE}] x", f"float[N, 8, {SIZE}] y"
GATE, SPATIAL = "float[N, 8, 1, 1] g", f"float[N, 1, {SIZE}] g"
GATED = "m = Relu(x) s = Sigmoid(g) y = Mul(m, s)"
SUMMARY, TURNED = f"float[N, 2, {SIZE}] y", "Concat ReduceMax ReduceMean Reshape Reshape Transpose"
JOINED = "a = ReduceMean(x, one) m = ReduceMax(x, one) y = Concat <axis = 1> (a, m)"
RESIZED = 'r = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> '
RESIZED += "(g, , to) y = Mul(x, r)"
REPEATED, ONES = "r = Conv(g, w) y = Mul(x, r)", "float[8, 1, 1, 1] w = {1, 1, 1, 1, 1, 1, 1, 1}"
LISTED = "t = Transpose <perm = [0, 2, 3, 1]> (x) f = Reshape(t, places) a = ReduceMean <keepdims = 0> (f, two) "
LISTED += "m = ReduceMax <keepdims = 0> (f, two) c = Concat <axis = 1> (a, m) y = Reshape(c, map)"
LISTS = "int64[3] places = {0, 42, 8}, int64[1] two = {2}, int64[4] map = {0, 2, 6, 7}"
PLACES = "int64[2] places = {2, 3}"
IF = "k = If(t) <then_branch = b () => (float{0} r) {{ r = Neg({1}) }}, else_branch = e () => (float{0} q) "
IF += "{{ q = Abs({1}) }}>"


def gated(body: str = GATED, *, x: str = MAP, g: str = GATE, y: str = FULL, more: str = "", opset: int = 20) -> str:
    return graph(f"{x}, {g}", y, body, more, opset=opset)


def half(text: str) -> str:
    return text.replace("float[", "float16[")


FIRES = [
    Fires("relu", RESIZE, gated(), "Mul Relu Resize Sigmoid"),
    Fires("gate-first", RESIZE, gated(GATED.replace("(m, s)", "(s, m)")), "Mul Relu Resize Sigmoid"),
    Fires("hard-sigmoid", RESIZE, gated(GATED.replace("Sigmoid", "HardSigmoid")), "HardSigmoid Mul Relu Resize"),
    Fires(
        "convolution",
        RESIZE,
        gated("m = Conv(x, w) s = Sigmoid(g) y = Mul(m, s)", more="float[8, 8, 1, 1] w = random"),
        "Conv Mul Resize Sigmoid",
    ),
    *(Fires(f"opset-{opset}", RESIZE, gated(opset=opset), "Mul Relu Resize Sigmoid") for opset in (13, 17, 18, 19)),
    Fires("float16", RESIZE, half(gated()), "Mul Relu Resize Sigmoid"),
    Fires(
        "gate-is-read-twice",
        RESIZE,
        gated(f"{GATED} z = Neg(s)", y=f"{FULL}, float[N, 8, 1, 1] z"),
        "Mul Neg Relu Resize Sigmoid",
    ),
    Fires("spatial", REPEAT, gated(g=SPATIAL), "Conv Mul Relu Sigmoid"),
    Fires("gate-first", REPEAT, gated("s = HardSigmoid(g) y = Mul(s, x)", g=SPATIAL), "Conv HardSigmoid Mul"),
    Fires("opset-11", REPEAT, gated(g=SPATIAL, opset=11), "Conv Mul Relu Sigmoid"),
    Fires("float16", REPEAT, half(gated(g=SPATIAL)), "Conv Mul Relu Sigmoid"),
    Fires("mean-first", LAST, graph(MAP, SUMMARY, JOINED, ONE), TURNED),
    Fires("maximum-first", LAST, graph(MAP, SUMMARY, JOINED.replace("(a, m)", "(m, a)"), ONE), TURNED),
    Fires("axis-from-the-back", LAST, graph(MAP, SUMMARY, JOINED.replace("axis = 1", "axis = -3"), ONE), TURNED),
    Fires(
        "attribute-axes",
        LAST,
        graph(MAP, SUMMARY, JOINED.replace("(x, one)", "<axes = [-3]> (x)"), opset=11),
        TURNED,
    ),
    Fires("unnamed-batch", LAST, graph(f"float[?, 8, {SIZE}] x", f"float[?, 2, {SIZE}] y", JOINED, ONE), TURNED),
    Fires("float16", LAST, half(graph(MAP, SUMMARY, JOINED, ONE)), TURNED),
    Fires("resized", DIRECTLY, gated(RESIZED, more="float[4] to = {1, 1, 6, 7}"), "Mul"),
    Fires("repeated", DIRECTLY, gated(REPEATED, g=SPATIAL, more=ONES), "Mul"),
    Fires("gate-first", DIRECTLY, gated(REPEATED.replace("(x, r)", "(r, x)"), g=SPATIAL, more=ONES), "Mul"),
    Fires("listed", BACK, graph(MAP, SUMMARY, LISTED, LISTS), "Concat ReduceMax ReduceMean"),
    Fires(
        "maximum-first",
        BACK,
        graph(MAP, SUMMARY, LISTED.replace("(a, m)", "(m, a)"), LISTS),
        "Concat ReduceMax ReduceMean",
    ),
    Fires("mean", AVERAGE, graph(MAP, f"float[N, 1, {SIZE}] y", "y = ReduceMean(x, one)", ONE), "Conv"),
    Fires(
        "open-map", AVERAGE, graph("float[N, 8, H, W] x", "float[N, 1, H, W] y", "y = ReduceMean(x, one)", ONE), "Conv"
    ),
    Fires("mean", POOL, graph(MAP, "float[N, 8, 1, 1] y", "y = ReduceMean(x, places)", PLACES), "GlobalAveragePool"),
    Fires("maximum", POOL, graph(MAP, "float[N, 8, 1, 1] y", "y = ReduceMax(x, places)", PLACES), "MaxPool"),
    Fires("global-maximum", POOL, graph(MAP, "float[N, 8, 1, 1] y", "y = GlobalMaxPool(x)"), "MaxPool"),
]

OPEN = "H and W are dynamic"
MAP_OPEN, FULL_OPEN = "float[N, 8, H, W] x", "float[N, 8, H, W] y"
KEEPS = [
    Keeps("open-map", RESIZE, gated(x=MAP_OPEN, y=FULL_OPEN), OPEN),
    Keeps("map-isn't-blocked", RESIZE, gated("s = Sigmoid(g) y = Mul(x, s)"), "the map isn't in the blocked layout"),
    *(
        Keeps(f"opset-{opset}", RESIZE, gated(opset=opset), f"Resize without roi needs opset 13, the file has {opset}")
        for opset in (11, 12)
    ),
    Keeps("no-gate", RESIZE, gated("m = Relu(x) s = Relu(g) y = Mul(m, s)")),
    Keeps("map-of-one-place", RESIZE, gated(x="float[N, 8, 1, 1] x", y="float[N, 8, 1, 1] y")),
    Keeps("spatial-gate", RESIZE, gated(g=SPATIAL)),
    Keeps("unknown-rank", RESIZE, gated(x="float[] x", g="float[] g", y="float[] y")),
    # Resized it would have fewer channels than its map: it would still be broadcast.
    Keeps("gate-of-one-number", RESIZE, gated(g="float[N, 1, 1, 1] g"), None),
    Keeps("open-map", REPEAT, gated(x=MAP_OPEN, g="float[N, 1, H, W] g", y=FULL_OPEN), OPEN),
    Keeps("channel-gate", REPEAT, gated()),
    Keeps("no-gate", REPEAT, gated("y = Mul(x, g)", g=SPATIAL)),
    Keeps("map-of-one-channel", REPEAT, gated(x=f"float[N, 1, {SIZE}] x", g=SPATIAL, y=f"float[N, 1, {SIZE}] y")),
    Keeps("open-channels", REPEAT, gated(x=f"float[N, C, {SIZE}] x", g=SPATIAL, y=f"float[N, C, {SIZE}] y")),
    Keeps("unknown-rank", REPEAT, gated(x="float[] x", g="float[] g", y="float[] y")),
    Keeps("open-map", LAST, graph("float[N, 8, H, W] x", "float[N, 2, H, W] y", JOINED, ONE), OPEN),
    Keeps(
        "summary-is-an-output",
        LAST,
        graph(MAP, f"{SUMMARY}, float[N, 1, {SIZE}] a", JOINED, ONE),
        "a summary has other readers",
    ),
    Keeps(
        "summary-is-read-twice",
        LAST,
        graph(MAP, f"{SUMMARY}, float[N, 1, {SIZE}] z", f"{JOINED} z = Neg(m)", ONE),
        "a summary has other readers",
    ),
    Keeps(
        "summary-is-read-in-a-body",
        LAST,
        graph(f"{MAP}, bool t", f"{SUMMARY}, float[N, 1, {SIZE}] k", JOINED + IF.format(f"[N, 1, {SIZE}]", "a"), ONE),
        "a summary has other readers",
    ),
    Keeps("other-axis", LAST, graph(MAP, "float[N, 16, 1, 7] y", JOINED, "int64[1] one = {2}")),
    Keeps(
        "axis-not-kept",
        LAST,
        graph(MAP, "float[N, 12, 7] y", JOINED.replace("(x, one)", "<keepdims = 0> (x, one)"), ONE),
    ),
    Keeps(
        "joined-along-another-axis",
        LAST,
        graph(MAP, "float[N, 1, 12, 7] y", JOINED.replace("axis = 1", "axis = 2"), ONE),
    ),
    Keeps(
        "of-two-maps", LAST, graph(f"{MAP}, {MAP.replace('x', 'e')}", SUMMARY, JOINED.replace("Max(x", "Max(e"), ONE)
    ),
    Keeps("overridable-axis", LAST, graph(f"{MAP}, int64[1] one", "float[N, A, B, C] y", JOINED, ONE)),
    Keeps("unknown-rank", LAST, graph("float[] x", "float[] y", JOINED, ONE)),
    Keeps("other-weights", DIRECTLY, gated(REPEATED, g=SPATIAL, more=ONES.replace("{1", "{2"))),
    Keeps("resized-map", DIRECTLY, gated(RESIZED, g="float[N, 8, 3, 7] g", more="float[4] to = {1, 1, 2, 1}")),
    Keeps("gate-itself", DIRECTLY, gated()),
    Keeps("other-order", BACK, graph(MAP, SUMMARY, LISTED.replace("0, 2, 3, 1]", "0, 3, 2, 1]"), LISTS), None),
    Keeps("other-size", BACK, graph(MAP, "float[N, 2, 7, 6] y", LISTED, LISTS.replace("6, 7}", "7, 6}")), None),
    Keeps(
        "open-channels",
        AVERAGE,
        graph(f"float[N, C, {SIZE}] x", f"float[N, 1, {SIZE}] y", "y = ReduceMean(x, one)", ONE),
    ),
    Keeps("not-kept", AVERAGE, graph(MAP, f"float[N, {SIZE}] y", "y = ReduceMean <keepdims = 0> (x, one)", ONE)),
    Keeps("open-map", POOL, graph("float[N, 8, H, W] x", "float[N, 8, 1, 1] y", "y = GlobalMaxPool(x)"), OPEN),
    Keeps("one-axis", POOL, graph(MAP, f"float[N, 1, {SIZE}] y", "y = ReduceMax(x, one)", ONE)),
]


def test_the_ones_have_the_type_of_the_gate() -> None:
    done = next(case for case in FIRES if case.rule is REPEAT and case.name == "float16").apply_to_fixpoint()
    ones = done.constants["ones_8"]
    assert (ones.dtype, ones.shape) == (np.float16, (8, 1, 1, 1))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        pytest.param(RESIZE, gated(g="float[1, 8, 1, 1] g"), id="one-channel-gate-for-all-images"),
        pytest.param(RESIZE, gated(x=f"float[1, 8, {SIZE}] x"), id="one-map-for-all-channel-gates"),
        pytest.param(REPEAT, gated(g=f"float[1, 1, {SIZE}] g"), id="one-spatial-gate-for-all-images"),
        pytest.param(REPEAT, gated(x=f"float[1, 8, {SIZE}] x", g=SPATIAL), id="one-map-for-all-spatial-gates"),
    ],
)
def test_what_is_broadcast_over_images_says_so(rule: Rule, text: str) -> None:
    """Whether the rule fires is its own affair; the shapes that it writes down have to be true."""
    done = settled(text, rule)
    assert_same(done.raw, done.model)
    assert_shapes_hold(done.model)
