"""What TensorRT likes: CBAM's layers as sums of products, summaries chosen, both gates multiplied first."""

from attn_export.exporter.cleanup.rules import multiply_gates_first, select_summaries, sum_gate_products
from tests.cleanup.conftest import Fires, Keeps, graph

SUM, FIRST, SELECT = sum_gate_products.RULE, multiply_gates_first.RULE, select_summaries.RULE
MAP, OUT = "float[N, 8, H, W] x", "float[N, 8, 1, 1] y"
WEIGHTS = "float[4, 8, 1, 1] w1 = random, float[4] b1 = random, float[8, 4, 1, 1] w2 = random, float[8] b2 = random"
SUMMED = "Add Add Mul Mul ReduceMax ReduceMean ReduceSum ReduceSum ReduceSum Relu Reshape Transpose Transpose Where"

AXES = "int64[2] axes = {2, 3}"
REDUCTIONS = ("ReduceMean(x, axes)", "ReduceMax(x, axes)")
STATED = ("ReduceMean <axes = [2, 3]> (x)", "ReduceMax <axes = [-1, -2]> (x)")


def mlp(
    body: str = "",
    *,
    first: str = "w1, b1",
    second: str = "w1, b1",
    last: str = "w2, b2",
    inputs: str = MAP,
    outputs: str = OUT,
    weights: str = WEIGHTS,
    opset: int = 20,
    attributes: str = "",
    pools: tuple[str, str] = ("GlobalAveragePool(x)", "GlobalMaxPool(x)"),
    squash: str = "Relu",
    joined: str = "Add(g, h)",
) -> str:
    return graph(
        inputs,
        outputs,
        f"p = {pools[0]} c = Conv {attributes} (p, {first}) g = {squash}(c) "
        f"q = {pools[1]} d = Conv {attributes} (q, {second}) h = {squash}(d) "
        f"a = {joined} y = Conv {attributes} (a, {last}) {body}",
        weights,
        opset=opset,
    )


IF = "k = If(t) <then_branch = b () => (float{0} r) {{ r = Neg({1}) }}, else_branch = e () => (float{0} s) "
IF += "{{ s = Abs({1}) }}>"
GATED = "s = Sigmoid(u) m = Mul(x, g) y = Mul(m, s)"
GATES = "float[N, 8, H, W] x, float[N, 8, 1, 1] g, float[N, 1, H, W] u"
FULL = "float[N, 8, H, W] y"
SUMMARY = "float[N, 2, H, W] y"
JOINED = "a = ReduceMean(x, one) m = ReduceMax(x, one) y = Concat <axis = 1> (a, m)"
ONE = "int64[1] one = {1}"

FIRES = [
    Fires("both-biases", SUM, mlp(), SUMMED),
    Fires("no-bias", SUM, mlp(first="w1", second="w1", last="w2"), SUMMED.replace("Add Add ", "")),
    Fires("one-bias", SUM, mlp(last="w2"), SUMMED.replace("Add Add", "Add")),
    Fires("maximum-first", SUM, mlp(pools=("GlobalMaxPool(x)", "GlobalAveragePool(x)")), SUMMED),
    Fires("reductions", SUM, mlp(pools=REDUCTIONS, weights=f"{WEIGHTS}, {AXES}"), SUMMED),
    Fires("reductions-maximum-first", SUM, mlp(pools=REDUCTIONS[::-1], weights=f"{WEIGHTS}, {AXES}"), SUMMED),
    Fires("a-reduction-and-a-global-pool", SUM, mlp(pools=("GlobalAveragePool(x)", STATED[1]), opset=17), SUMMED),
    Fires("opset-17-reductions", SUM, mlp(pools=STATED, opset=17), SUMMED),
    Fires("other-order-of-the-sum", SUM, mlp(joined="Add(h, g)"), SUMMED),
    Fires("opset-13", SUM, mlp(opset=13), SUMMED),
    Fires("opset-17", SUM, mlp(opset=17), SUMMED),
    Fires(
        "result-goes-on",
        SUM,
        mlp("z = Sigmoid(y)", outputs="float[N, 8, 1, 1] z"),
        f"{SUMMED}".replace("Relu Reshape", "Relu Reshape Sigmoid"),
    ),
    Fires(
        "read-in-a-body",
        SUM,
        mlp(IF.format("[N, 8, 1, 1]", "y"), inputs=f"{MAP}, bool t", outputs="float[N, 8, 1, 1] k"),
        "Add Add If" + SUMMED.removeprefix("Add Add"),
    ),
    Fires("fixed-map", SUM, mlp(inputs="float[1, 8, 7, 5] x", outputs="float[1, 8, 1, 1] y"), SUMMED),
    Fires("unnamed-batch", SUM, mlp(inputs="float[?, 8, ?, ?] x", outputs="float[?, 8, 1, 1] y"), SUMMED),
    Fires(
        "float16",
        SUM,
        mlp(
            inputs=MAP.replace("float", "float16"),
            outputs=OUT.replace("float", "float16"),
            weights=WEIGHTS.replace("float", "float16"),
        ),
        SUMMED,
    ),
    Fires("map-first", FIRST, graph(GATES, FULL, GATED), "Mul Mul Sigmoid"),
    Fires(
        "gates-first",
        FIRST,
        graph(GATES, FULL, "s = HardSigmoid(u) m = Mul(g, x) y = Mul(s, m)"),
        "HardSigmoid Mul Mul",
    ),
    Fires(
        "once-gated-is-read-by-reductions",
        FIRST,
        graph(GATES, f"{FULL}, float[N, 1, H, W] z", f"{GATED} z = ReduceMean(m, one)", ONE),
        "Mul Mul Mul ReduceMean Sigmoid",
    ),
    Fires(
        "float16",
        FIRST,
        graph(GATES.replace("float", "float16"), FULL.replace("float", "float16"), GATED),
        "Mul Mul Sigmoid",
    ),
    Fires("mean-first", SELECT, graph(MAP, SUMMARY, JOINED, ONE), "ReduceMax ReduceMean Where"),
    Fires(
        "maximum-first",
        SELECT,
        graph(MAP, SUMMARY, JOINED.replace("(a, m)", "(m, a)"), ONE),
        "ReduceMax ReduceMean Where",
    ),
    Fires(
        "axis-from-the-back",
        SELECT,
        graph(MAP, SUMMARY, JOINED.replace("axis = 1", "axis = -3"), ONE),
        "ReduceMax ReduceMean Where",
    ),
    Fires(
        "opset-11",
        SELECT,
        graph(
            MAP,
            SUMMARY,
            JOINED.replace("ReduceMean(x, one)", "ReduceMean <axes = [1]> (x)").replace(
                "ReduceMax(x, one)", "ReduceMax <axes = [-3]> (x)"
            ),
            opset=11,
        ),
        "ReduceMax ReduceMean Where",
    ),
    Fires(
        "float16",
        SELECT,
        graph(MAP.replace("float", "float16"), SUMMARY.replace("float", "float16"), JOINED, ONE),
        "ReduceMax ReduceMean Where",
    ),
]

SHARE = "the branches don't share their map and weights"
KEEPS = [
    Keeps("old-opset", SUM, mlp(opset=12), "ReduceSum with axes as input needs opset 13, the file has 12"),
    Keeps("other-bias", SUM, mlp(second="w1"), SHARE),
    Keeps(
        "other-weights",
        SUM,
        mlp(second="w3, b1", weights=f"{WEIGHTS}, float[4, 8, 1, 1] w3 = random"),
        SHARE,
    ),
    Keeps("one-kind-of-pool", SUM, mlp(pools=("GlobalAveragePool(x)", "Relu(x)")), None),
    Keeps("twice-the-mean", SUM, mlp(pools=(STATED[0], "GlobalAveragePool(x)"), opset=17)),
    Keeps(
        "means-over-one-axis",
        SUM,
        mlp(
            pools=("ReduceMean(x, one)", "ReduceMax(x, one)"),
            weights=f"{WEIGHTS}, int64[1] one = {{2}}",
            outputs="float[N, 8, 1, W] y",
        ),
    ),
    Keeps("other-activation", SUM, mlp(squash="Tanh")),
    Keeps("difference", SUM, mlp(joined="Sub(g, h)")),
    Keeps("hidden-is-an-output", SUM, mlp(outputs=f"{OUT}, float[N, 4, 1, 1] a"), "the hidden layer has other readers"),
    Keeps(
        "hidden-is-read-twice",
        SUM,
        mlp("z = Neg(a)", outputs=f"{OUT}, float[N, 4, 1, 1] z"),
        "the hidden layer has other readers",
    ),
    Keeps(
        "hidden-is-read-in-a-body",
        SUM,
        mlp(IF.format("[N, 4, 1, 1]", "a"), inputs=f"{MAP}, bool t", outputs=f"{OUT}, float[N, 4, 1, 1] k"),
        "the hidden layer has other readers",
    ),
    Keeps("pool-is-an-output", SUM, mlp(outputs=f"{OUT}, float[N, 8, 1, 1] p")),
    Keeps("layer-is-read-twice", SUM, mlp("z = Neg(d)", outputs=f"{OUT}, float[N, 4, 1, 1] z")),
    Keeps(
        "groups",
        SUM,
        mlp(
            attributes="<group = 2>",
            weights="float[4, 4, 1, 1] w1 = random, float[8, 2, 1, 1] w2 = random",
            first="w1",
            second="w1",
            last="w2",
        ),
        "the layers are grouped",
    ),
    Keeps("overridable-weights", SUM, mlp(inputs=f"{MAP}, float[4, 8, 1, 1] w1")),
    *(
        Keeps(f"overridable-{name}", SUM, mlp(inputs=f"{MAP}, {declared}"), None)
        for name, declared in (("first-bias", "float[4] b1"), ("second-bias", "float[8] b2"))
    ),
    Keeps("unknown-rank", SUM, mlp(inputs="float[] x", outputs="float[] y"), None),
    Keeps("no-squashed-gate", FIRST, graph(GATES, FULL, "m = Mul(x, g) y = Mul(m, u)")),
    Keeps(
        "two-channel-gates",
        FIRST,
        graph("float[N, 8, H, W] x, float[N, 8, 1, 1] g, float[N, 8, 1, 1] u", FULL, GATED),
    ),
    Keeps(
        "two-spatial-gates", FIRST, graph("float[N, 8, H, W] x, float[N, 1, H, W] g, float[N, 1, H, W] u", FULL, GATED)
    ),
    Keeps(
        "gate-of-one-number", FIRST, graph("float[N, 8, H, W] x, float[N, 8, 1, 1] g, float[N, 1, 1, 1] u", FULL, GATED)
    ),
    Keeps(
        "gate-of-columns", FIRST, graph("float[N, 8, H, W] x, float[N, 8, 1, 1] g, float[N, 1, 1, W] u", FULL, GATED)
    ),
    Keeps("unknown-rank", FIRST, graph("float[] x, float[] g, float[] u", "float[] y", GATED)),
    Keeps("other-operator", FIRST, graph(GATES, FULL, "s = Sigmoid(u) m = Add(x, g) y = Mul(m, s)")),
    Keeps("summary-is-an-output", SELECT, graph(MAP, f"{SUMMARY}, float[N, 1, H, W] a", JOINED, ONE)),
    Keeps("summary-is-read-twice", SELECT, graph(MAP, f"{SUMMARY}, float[N, 1, H, W] z", f"{JOINED} z = Neg(m)", ONE)),
    Keeps(
        "summary-is-read-in-a-body",
        SELECT,
        graph(f"{MAP}, bool t", f"{SUMMARY}, float[N, 1, H, W] k", JOINED + IF.format("[N, 1, H, W]", "a"), ONE),
    ),
    Keeps(
        "joined-along-another-axis",
        SELECT,
        graph(MAP, "float[N, 1, G, W] y", JOINED.replace("axis = 1", "axis = 2"), ONE),
    ),
    Keeps("other-axis", SELECT, graph(MAP, "float[N, 16, 1, W] y", JOINED, "int64[1] one = {2}")),
    Keeps(
        "three-summaries",
        SELECT,
        graph(
            MAP,
            "float[N, 3, H, W] y",
            JOINED.replace("(a, m)", "(a, m, i)").replace("y =", "i = ReduceMin(x, one) y ="),
            ONE,
        ),
    ),
    Keeps("twice-the-same", SELECT, graph(MAP, SUMMARY, JOINED.replace("(a, m)", "(a, a)"), ONE)),
    Keeps("three-axes", SELECT, graph("float[N, 8, L] x", "float[N, 2, L] y", JOINED, ONE)),
    Keeps("overridable-axis", SELECT, graph(f"{MAP}, int64[1] one", "float[N, A, H, W] y", JOINED, ONE)),
    Keeps("unknown-rank", SELECT, graph("float[] x", "float[] y", JOINED, ONE)),
]
