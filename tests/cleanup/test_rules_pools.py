"""The mean and the maximum of whole maps: one form of many, and the form that TensorRT likes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.rules import pool_channels_last, pool_in_one_form
from tests.cleanup.conftest import Fires, Keeps, assert_same, assert_valid, graph, operators, settled

POOL, LAST = pool_in_one_form.RULE, pool_channels_last.RULE
MAP, FIXED, POOLED = "float[N, 8, H, W] x", "float[N, 8, 6, 7] x", "float[N, 8, 1, 1] y"
AXES = "int64[2] axes = {2, 3}"
WEIGHTS = "float[4, 8, 1, 1] w = random, float[4] b = random"
IF = "<then_branch = t () => (float[N, 8, 1, 1] r) { r = Neg(p) }, else_branch = e () => (float[N, 8, 1, 1] q) "
IF += "{ q = Abs(p) }>"


def reduced(body: str, constants: str = AXES, *, inputs: str = MAP, outputs: str = POOLED, opset: int = 20) -> str:
    return graph(inputs, outputs, body, constants, opset=opset)


def gating(body: str, constants: str, *, inputs: str = MAP, outputs: str = POOLED, opset: int = 20) -> str:
    """v has lost its axes, and is given them back to gate a map: else a pool and a view would be a node more."""
    constants = f"{constants}, int64[4] back = {{0, 8, 1, 1}}".removeprefix(", ")
    return graph(inputs, outputs, f"{body} s = Sigmoid(v) y = Reshape(s, back)", constants, opset=opset)


def convolved(body: str, *, inputs: str = MAP, outputs: str = "float[N, 4, 1, 1] y", opset: int = 20) -> str:
    return graph(inputs, outputs, body, WEIGHTS, opset=opset)


# For ONNX Runtime alone a whole map's pool is one operator without axes; elsewhere it is a reduction.
BLOCKED, PLAIN = (Target.ONNXRUNTIME,), (Target.ANY, Target.TENSORRT)


def pooled(
    name: str, text: str, left: str, times: int = 1, *, targets: tuple[Target, ...] = (*PLAIN, *BLOCKED)
) -> list[Fires]:
    """What is left for each target; ``Mean`` and ``Max`` stand for the pools in the form that it prefers."""
    return [
        Fires(f"{name}-for-{target}", POOL, text, in_form_for(target, left), times, target=target) for target in targets
    ]


def in_form_for(target: Target, left: str) -> str:
    forms = {"Mean": "GlobalAveragePool", "Max": "GlobalMaxPool"} if target in BLOCKED else {}
    return " ".join(
        sorted(forms.get(word, f"Reduce{word}" if word in ("Mean", "Max") else word) for word in left.split())
    )


WHOLE = [
    pooled("mean", reduced("y = ReduceMean(x, axes)"), "Mean", targets=BLOCKED),
    pooled("max", reduced("y = ReduceMax(x, axes)"), "Max", targets=BLOCKED),
    pooled("mean-opset-11", reduced("y = ReduceMean <axes = [2, 3]> (x)", "", opset=11), "Mean", targets=BLOCKED),
    pooled("max-opset-17", reduced("y = ReduceMax <axes = [-1, -2]> (x)", "", opset=17), "Max", targets=BLOCKED),
    pooled(
        "axes-not-kept",
        gating("v = ReduceMax <keepdims = 0> (x, axes)", "int64[2] axes = {-1, -2}"),
        "Max Reshape Reshape Sigmoid",
    ),
    pooled(
        "two-means-kept",
        reduced("a = ReduceMean(x, h) y = ReduceMean(a, w)", "int64[1] h = {2}, int64[1] w = {3}"),
        "Mean",
    ),
    pooled(
        "two-means-last-first",
        reduced("a = ReduceMean(x, w) y = ReduceMean(a, h)", "int64[1] h = {2}, int64[1] w = {3}"),
        "Mean",
    ),
    pooled(
        "two-means-not-kept",
        gating(
            "a = ReduceMean <keepdims = 0> (x, h) v = ReduceMean <keepdims = 0> (a, h)",
            "int64[1] h = {2}",
        ),
        "Mean Reshape Reshape Sigmoid",
    ),
    pooled(
        "two-maxima-from-the-back",
        gating(
            "a = ReduceMax <keepdims = 0> (x, w) v = ReduceMax <keepdims = 0> (a, w)",
            "int64[1] w = {-1}",
        ),
        "Max Reshape Reshape Sigmoid",
    ),
    pooled(
        "mean-of-the-flattened-map",
        gating(
            "f = Reshape(x, flat) v = ReduceMean <keepdims = 0> (f, two)",
            "int64[3] flat = {0, 8, -1}, int64[1] two = {2}",
        ),
        "Mean Reshape Reshape Sigmoid",
    ),
    pooled(
        "max-of-the-flattened-map",
        gating(
            "f = Reshape(x, flat) v = ReduceMax(f, two)",
            "int64[3] flat = {0, 8, -1}, int64[1] two = {-1}",
        ),
        "Max Reshape Reshape Sigmoid",
    ),
    pooled(
        "average-pool-of-the-map",
        reduced("y = AveragePool <kernel_shape = [6, 7]> (x)", "", inputs=FIXED),
        "Mean",
    ),
    pooled(
        "max-pool-of-the-map",
        reduced("y = MaxPool <kernel_shape = [6, 7], strides = [6, 7], pads = [0, 0, 0, 0]> (x)", "", inputs=FIXED),
        "Max",
    ),
    pooled(
        "valid-padding-is-none",
        reduced('y = AveragePool <kernel_shape = [6, 7], auto_pad = "VALID"> (x)', "", inputs=FIXED),
        "Mean",
    ),
    pooled(
        "ceil-mode-changes-nothing",
        reduced("y = AveragePool <kernel_shape = [6, 7], strides = [4, 4], ceil_mode = 1> (x)", "", inputs=FIXED),
        "Mean",
    ),
    pooled(
        "unnamed-batch",
        gating(
            "v = ReduceMean <keepdims = 0> (x, axes)", AXES, inputs="float[?, 8, ?, ?] x", outputs="float[?, 8, 1, 1] y"
        ),
        "Mean Reshape Reshape Sigmoid",
    ),
    pooled(
        "float16",
        reduced("y = ReduceMean(x, axes)", inputs="float16[N, 8, H, W] x", outputs="float16[N, 8, 1, 1] y"),
        "Mean",
        targets=BLOCKED,
    ),
    pooled(
        "read-in-a-body",
        reduced(f"p = ReduceMean(x, axes) y = If(c) {IF}", inputs=f"{MAP}, bool c"),
        "Mean If",
        targets=BLOCKED,
    ),
    pooled(
        "both-kinds-of-one-map",
        reduced("p = ReduceMean(x, axes) m = ReduceMax(x, axes) y = Add(p, m)"),
        "Add Mean Max",
        2,
        targets=BLOCKED,
    ),
    pooled("global-mean", graph(MAP, POOLED, "y = GlobalAveragePool(x)"), "Mean", targets=PLAIN),
    pooled("global-max", graph(MAP, POOLED, "y = GlobalMaxPool(x)"), "Max", targets=PLAIN),
    *(
        pooled(f"global-opset-{opset}", graph(MAP, POOLED, f"y = {pool}(x)", opset=opset), kind, targets=PLAIN)
        for opset, pool, kind in (
            (11, "GlobalAveragePool", "Mean"),
            (13, "GlobalMaxPool", "Max"),
            (17, "GlobalAveragePool", "Mean"),
        )
    ),
    pooled(
        "global-float16",
        graph(MAP.replace("float", "float16"), POOLED.replace("float", "float16"), "y = GlobalAveragePool(x)"),
        "Mean",
        targets=PLAIN,
    ),
    pooled(
        "global-of-fixed-and-unnamed-sizes",
        graph("float[?, 8, 6, ?] x", "float[?, 8, 1, 1] y", "y = GlobalMaxPool(x)"),
        "Max",
        targets=PLAIN,
    ),
    pooled(
        "global-read-in-a-body",
        graph(f"{MAP}, bool c", POOLED, f"p = GlobalAveragePool(x) y = If(c) {IF}"),
        "If Mean",
        targets=PLAIN,
    ),
    pooled(
        "a-reduction-and-a-global-pool",
        reduced("p = GlobalAveragePool(x) m = ReduceMax(x, axes) y = Add(p, m)"),
        "Add Mean Max",
    ),
]

FIRES = [
    *(case for cases in WHOLE for case in cases),
    Fires("mean", LAST, convolved("p = GlobalAveragePool(x) y = Conv(p, w, b)"), "Conv ReduceMean Reshape Transpose"),
    Fires("max", LAST, convolved("p = GlobalMaxPool(x) y = Conv(p, w)"), "Conv ReduceMax Reshape Transpose"),
    Fires(
        "attribute-axes",
        LAST,
        convolved("p = GlobalMaxPool(x) y = Conv(p, w)", opset=11),
        "Conv ReduceMax Reshape Transpose",
    ),
    Fires(
        "two-readers",
        LAST,
        convolved(
            "p = GlobalAveragePool(x) y = Conv(p, w, b) z = Conv(p, w)",
            outputs="float[N, 4, 1, 1] y, float[N, 4, 1, 1] z",
        ),
        "Conv Conv ReduceMean Reshape Transpose",
    ),
    Fires(
        "result-is-an-output-too",
        LAST,
        convolved("p = GlobalAveragePool(x) y = Conv(p, w, b)", outputs="float[N, 4, 1, 1] y, float[N, 8, 1, 1] p"),
        "Conv ReduceMean Reshape Transpose",
    ),
    Fires(
        "unnamed-axes",
        LAST,
        convolved("p = GlobalAveragePool(x) y = Conv(p, w, b)", inputs="float[?, 8, ?, ?] x"),
        "Conv ReduceMean Reshape Transpose",
    ),
    Fires(
        "mean-as-a-reduction",
        LAST,
        graph(MAP, "float[N, 4, 1, 1] y", "p = ReduceMean(x, axes) y = Conv(p, w, b)", f"{WEIGHTS}, {AXES}"),
        "Conv ReduceMean Reshape Transpose",
    ),
    Fires(
        "max-as-a-reduction",
        LAST,
        graph(MAP, "float[N, 4, 1, 1] y", "p = ReduceMax <axes = [-1, -2]> (x) y = Conv(p, w)", WEIGHTS, opset=17),
        "Conv ReduceMax Reshape Transpose",
    ),
]

UNWANTED = "the rewrite would add a view"
KEEPS = [
    Keeps("mean-in-its-form", POOL, reduced("y = ReduceMean(x, axes)")),
    Keeps("max-in-its-form", POOL, reduced("y = ReduceMax <axes = [-1, -2]> (x)", "", opset=17)),
    Keeps("mean-in-its-form-for-tensorrt", POOL, reduced("y = ReduceMean(x, axes)"), target=Target.TENSORRT),
    *(
        Keeps(f"{pool}-for-onnxruntime", POOL, graph(MAP, POOLED, f"y = {pool}(x)"), target=Target.ONNXRUNTIME)
        for pool in ("GlobalAveragePool", "GlobalMaxPool")
    ),
    Keeps("global-of-three-axes", POOL, graph("float[N, 8, L] x", "float[N, 8, 1] y", "y = GlobalAveragePool(x)")),
    Keeps("global-of-unknown-rank", POOL, graph("float[] x", "float[] y", "y = GlobalMaxPool(x)")),
    Keeps(
        "other-axes", POOL, reduced("y = ReduceMean(x, axes)", "int64[2] axes = {1, 2}", outputs="float[N, 1, 1, W] y")
    ),
    Keeps("one-axis", POOL, reduced("y = ReduceMean(x, axes)", "int64[1] axes = {2}", outputs="float[N, 8, 1, W] y")),
    Keeps("all-axes", POOL, graph(MAP, "float[1, 1, 1, 1] y", "y = ReduceMean(x)")),
    Keeps("no-axes", POOL, graph(MAP, "float[N, 8, H, W] y", "y = ReduceMean <noop_with_empty_axes = 1> (x)")),
    Keeps("computed-axes", POOL, reduced("y = ReduceMean(x, axes)", "", inputs=f"{MAP}, int64[2] axes")),
    Keeps("overridable-axes", POOL, reduced("y = ReduceMean(x, axes)", inputs=f"{MAP}, int64[2] axes")),
    Keeps("unknown-rank", POOL, reduced("y = ReduceMean(x, axes)", inputs="float[] x", outputs="float[] y")),
    Keeps(
        "five-axes",
        POOL,
        reduced("y = ReduceMean(x, axes)", inputs="float[N, 8, H, W, 2] x", outputs="float[N, 8, 1, 1, 2] y"),
    ),
    Keeps(
        "first-mean-is-an-output",
        POOL,
        reduced(
            "a = ReduceMean(x, h) y = ReduceMean(a, w)",
            "int64[1] h = {2}, int64[1] w = {3}",
            outputs=f"{POOLED}, float[N, 8, 1, W] a",
        ),
    ),
    Keeps(
        "first-mean-is-read-twice",
        POOL,
        reduced(
            "a = ReduceMean(x, h) y = ReduceMean(a, w) z = Neg(a)",
            "int64[1] h = {2}, int64[1] w = {3}",
            outputs=f"{POOLED}, float[N, 8, 1, W] z",
        ),
    ),
    Keeps(
        "mean-of-maxima",
        POOL,
        reduced("a = ReduceMax(x, h) y = ReduceMean(a, w)", "int64[1] h = {2}, int64[1] w = {3}"),
    ),
    Keeps(
        "the-same-axis-twice",
        POOL,
        reduced("a = ReduceMean(x, h) y = ReduceMean(a, h)", "int64[1] h = {2}", outputs="float[N, 8, 1, W] y"),
    ),
    Keeps(
        "flattened-with-channels",
        POOL,
        reduced(
            "f = Reshape(x, flat) y = ReduceMean(f, two)",
            "int64[3] flat = {0, 4, -1}, int64[1] two = {2}",
            outputs="float[N, 4, 1] y",
        ),
    ),
    Keeps(
        "kernel-smaller-than-the-map",
        POOL,
        reduced("y = AveragePool <kernel_shape = [6, 6]> (x)", "", inputs=FIXED, outputs="float[N, 8, 1, 2] y"),
        "the kernel may not cover the whole map",
    ),
    Keeps(
        "small-kernel",
        POOL,
        reduced("y = MaxPool <kernel_shape = [2, 2]> (x)", "", inputs=FIXED, outputs="float[N, 8, 5, 6] y"),
    ),
    Keeps(
        "open-map",
        POOL,
        reduced("y = AveragePool <kernel_shape = [6, 7]> (x)", "", outputs="float[N, 8, A, B] y"),
        "the kernel may not cover the whole map",
    ),
    Keeps(
        "padding",
        POOL,
        reduced(
            "y = MaxPool <kernel_shape = [6, 7], pads = [1, 1, 1, 1]> (x)",
            "",
            inputs=FIXED,
            outputs="float[N, 8, 3, 3] y",
        ),
    ),
    Keeps(
        "dilation",
        POOL,
        graph(
            "float[N, 8, 4, 4] x",
            "float[N, 8, 4, 4] y",
            'y = MaxPool <kernel_shape = [4, 4], dilations = [2, 2], auto_pad = "SAME_UPPER"> (x)',
        ),
        "the kernel may not cover the whole map",
    ),
    Keeps(
        "indices",
        POOL,
        graph(FIXED, f"{POOLED}, int64[N, 8, 1, 1] i", "y, i = MaxPool <kernel_shape = [6, 7]> (x)"),
    ),
    Keeps(
        "shape-that-no-constant-says",
        POOL,
        reduced(
            "v = ReduceMean <keepdims = 0> (x, axes) s = Sigmoid(v) y = Unsqueeze(s, axes)",
            inputs="float[?, ?, H, W] x",
            outputs="float[?, ?, 1, 1] y",
        ),
        "the shape of the result is unknown",
    ),
    *(
        Keeps(f"{name}-for-{target}", POOL, text, UNWANTED, target=target)
        for target in Target
        for name, text in (
            (
                "axes-not-wanted-back",
                reduced("y = ReduceMean <keepdims = 0> (x, axes)", outputs="float[N, 8] y"),
            ),
            (
                "classifier",
                reduced(
                    "v = ReduceMean <keepdims = 0> (x, axes) y = Gemm(v, w)",
                    f"{AXES}, float[8, 5] w = random",
                    outputs="float[N, 5] y",
                ),
            ),
            (
                "mean-of-the-flattened-map",
                reduced(
                    "f = Reshape(x, flat) y = ReduceMean <keepdims = 0> (f, two)",
                    "int64[3] flat = {0, 8, -1}, int64[1] two = {2}",
                    outputs="float[N, 8] y",
                ),
            ),
        )
    ),
    Keeps(
        "before-the-classifier",
        LAST,
        graph(
            MAP, "float[N, 4] y", "p = GlobalAveragePool(x) f = Flatten(p) y = MatMul(f, w)", "float[8, 4] w = random"
        ),
    ),
    Keeps(
        "also-read-by-something-else",
        LAST,
        convolved(
            "p = GlobalAveragePool(x) y = Conv(p, w, b) z = Relu(p)",
            outputs="float[N, 4, 1, 1] y, float[N, 8, 1, 1] z",
        ),
    ),
    Keeps(
        "also-read-in-a-body",
        LAST,
        convolved(
            f"p = GlobalAveragePool(x) y = Conv(p, w, b) z = If(c) {IF}",
            inputs=f"{MAP}, bool c",
            outputs="float[N, 4, 1, 1] y, float[N, 8, 1, 1] z",
        ),
    ),
    *(
        Keeps(
            name,
            LAST,
            graph(MAP, outputs, "p = ReduceMean(x, axes) y = Conv(p, w)", f"{weights}, int64[{n}] axes = {axes}"),
        )
        for name, outputs, weights, n, axes in (
            ("one-axis", "float[N, 4, 1, W] y", "float[4, 8, 1, 1] w = random", 1, "{2}"),
            ("other-axes", "float[N, 4, 1, W] y", "float[4, 1, 1, 1] w = random", 2, "{1, 2}"),
        )
    ),
    Keeps("nobody-reads-it", LAST, graph(MAP, POOLED, "y = GlobalAveragePool(x)")),
    Keeps(
        "computed-weights",
        LAST,
        graph(f"{MAP}, float[4, 8, 1, 1] w", "float[N, 4, 1, 1] y", "p = GlobalAveragePool(x) y = Conv(p, w)"),
    ),
    Keeps(
        "overridable-weights",
        LAST,
        convolved("p = GlobalAveragePool(x) y = Conv(p, w)", inputs=f"{MAP}, float[4, 8, 1, 1] w"),
    ),
    Keeps(
        "open-channels",
        LAST,
        convolved("p = GlobalAveragePool(x) y = Conv(p, w)", inputs="float[N, C, H, W] x"),
    ),
    Keeps(
        "three-axes",
        LAST,
        graph(
            "float[N, 8, L] x",
            "float[N, 4, 1] y",
            "p = GlobalAveragePool(x) y = Conv(p, w)",
            "float[4, 8, 1] w = random",
        ),
    ),
]


AXES_OF_A_MAP = st.permutations([2, 3]).flatmap(lambda two: st.tuples(*(st.sampled_from([n, n - 4]) for n in two)))


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["Mean", "Max"]),
    axes=AXES_OF_A_MAP,
    kept=st.booleans(),
    opset=st.sampled_from([11, 13, 17, 18, 20]),
    target=st.sampled_from(Target),
)
def test_every_spelling_of_a_reduction_is_known(
    kind: str, axes: tuple[int, int], kept: bool, opset: int, target: Target
) -> None:
    stated = f"<axes = [{axes[0]}, {axes[1]}], keepdims = {int(kept)}> (x)"
    if opset >= 18:
        stated = f"<keepdims = {int(kept)}> (x, axes)"
    constants = f"int64[2] axes = {{{axes[0]}, {axes[1]}}}" if opset >= 18 else ""
    if kept:
        text = reduced(f"y = Reduce{kind} {stated}", constants, opset=opset)
    else:
        text = gating(f"v = Reduce{kind} {stated}", constants, opset=opset)
    done = settled(text, POOL, target=target)
    assert operators(done.model) == in_form_for(target, kind if kept else f"{kind} Reshape Reshape Sigmoid")
    assert done.is_unchanged == (kept and target in PLAIN), "it may be in that form already"
    assert_valid(done.model)
    assert_same(done.raw, done.model)


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(["Mean", "Max"]),
    first=st.sampled_from([2, 3, -1, -2]),
    kept=st.tuples(st.booleans(), st.booleans()),
    target=st.sampled_from(Target),
)
def test_two_reductions_over_one_axis_each_are_one_pool(
    kind: str, first: int, kept: tuple[bool, bool], target: Target
) -> None:
    second = {2: 3, 3: 2}[first % 4] if kept[0] else 2
    text = gating(
        f"a = Reduce{kind} <keepdims = {int(kept[0])}> (x, f) v = Reduce{kind} <keepdims = {int(kept[1])}> (a, o)",
        f"int64[1] f = {{{first}}}, int64[1] o = {{{second}}}",
    )
    done = settled(text, POOL, target=target)
    assert done.fired[POOL.name] == 1
    assert operators(done.model) == in_form_for(
        target, f"{kind} Reshape Sigmoid" if all(kept) else f"{kind} Reshape Reshape Sigmoid"
    )
    assert_same(done.raw, done.model)
