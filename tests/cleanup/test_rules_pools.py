"""The mean and the maximum of whole maps: one form of many, and the form that TensorRT likes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_export.exporter.cleanup.rules import pool_channels_last, pool_in_one_form
from attn_export.exporter.target import Target
from tests.cleanup.conftest import Fires, Keeps, assert_same, assert_valid, graph, operators, settled

POOL, LAST = pool_in_one_form.RULE, pool_channels_last.RULE
MAP, FIXED, POOLED = "float[N, 8, H, W] x", "float[N, 8, 6, 7] x", "float[N, 8, 1, 1] y"
AXES = "int64[2] axes = {2, 3}"
WEIGHTS = "float[4, 8, 1, 1] w = random, float[4] b = random"
IF = "<then_branch = t () => (float[N, 8, 1, 1] r) { r = Neg(p) }, else_branch = e () => (float[N, 8, 1, 1] q) "
IF += "{ q = Abs(p) }>"


def reduced(body: str, constants: str = AXES, *, inputs: str = MAP, outputs: str = POOLED, opset: int = 20) -> str:
    return graph(inputs, outputs, body, constants, opset=opset)


def convolved(body: str, *, inputs: str = MAP, outputs: str = "float[N, 4, 1, 1] y", opset: int = 20) -> str:
    return graph(inputs, outputs, body, WEIGHTS, opset=opset)


FIRES = [
    Fires("mean", POOL, reduced("y = ReduceMean(x, axes)"), "GlobalAveragePool"),
    Fires("max", POOL, reduced("y = ReduceMax(x, axes)"), "GlobalMaxPool"),
    Fires("mean-opset-11", POOL, reduced("y = ReduceMean <axes = [2, 3]> (x)", "", opset=11), "GlobalAveragePool"),
    Fires("max-opset-17", POOL, reduced("y = ReduceMax <axes = [-1, -2]> (x)", "", opset=17), "GlobalMaxPool"),
    Fires(
        "axes-not-kept",
        POOL,
        reduced("y = ReduceMax <keepdims = 0> (x, axes)", "int64[2] axes = {-1, -2}", outputs="float[N, 8] y"),
        "GlobalMaxPool Reshape",
    ),
    Fires(
        "two-means-kept",
        POOL,
        reduced("a = ReduceMean(x, h) y = ReduceMean(a, w)", "int64[1] h = {2}, int64[1] w = {3}"),
        "GlobalAveragePool",
    ),
    Fires(
        "two-means-last-first",
        POOL,
        reduced("a = ReduceMean(x, w) y = ReduceMean(a, h)", "int64[1] h = {2}, int64[1] w = {3}"),
        "GlobalAveragePool",
    ),
    Fires(
        "two-means-not-kept",
        POOL,
        reduced(
            "a = ReduceMean <keepdims = 0> (x, h) y = ReduceMean <keepdims = 0> (a, h)",
            "int64[1] h = {2}",
            outputs="float[N, 8] y",
        ),
        "GlobalAveragePool Reshape",
    ),
    Fires(
        "two-maxima-from-the-back",
        POOL,
        reduced(
            "a = ReduceMax <keepdims = 0> (x, w) y = ReduceMax <keepdims = 0> (a, w)",
            "int64[1] w = {-1}",
            outputs="float[N, 8] y",
        ),
        "GlobalMaxPool Reshape",
    ),
    Fires(
        "mean-of-the-flattened-map",
        POOL,
        reduced(
            "f = Reshape(x, flat) y = ReduceMean <keepdims = 0> (f, two)",
            "int64[3] flat = {0, 8, -1}, int64[1] two = {2}",
            outputs="float[N, 8] y",
        ),
        "GlobalAveragePool Reshape",
    ),
    Fires(
        "max-of-the-flattened-map",
        POOL,
        reduced(
            "f = Reshape(x, flat) y = ReduceMax(f, two)",
            "int64[3] flat = {0, 8, -1}, int64[1] two = {-1}",
            outputs="float[N, 8, 1] y",
        ),
        "GlobalMaxPool Reshape",
    ),
    Fires(
        "average-pool-of-the-map",
        POOL,
        reduced("y = AveragePool <kernel_shape = [6, 7]> (x)", "", inputs=FIXED),
        "GlobalAveragePool",
    ),
    Fires(
        "max-pool-of-the-map",
        POOL,
        reduced("y = MaxPool <kernel_shape = [6, 7], strides = [6, 7], pads = [0, 0, 0, 0]> (x)", "", inputs=FIXED),
        "GlobalMaxPool",
    ),
    Fires(
        "valid-padding-is-none",
        POOL,
        reduced('y = AveragePool <kernel_shape = [6, 7], auto_pad = "VALID"> (x)', "", inputs=FIXED),
        "GlobalAveragePool",
    ),
    Fires(
        "ceil-mode-changes-nothing",
        POOL,
        reduced("y = AveragePool <kernel_shape = [6, 7], strides = [4, 4], ceil_mode = 1> (x)", "", inputs=FIXED),
        "GlobalAveragePool",
    ),
    Fires(
        "unnamed-batch",
        POOL,
        reduced("y = ReduceMean <keepdims = 0> (x, axes)", inputs="float[?, 8, ?, ?] x", outputs="float[?, 8] y"),
        "GlobalAveragePool Reshape",
    ),
    Fires(
        "float16",
        POOL,
        reduced("y = ReduceMean(x, axes)", inputs="float16[N, 8, H, W] x", outputs="float16[N, 8, 1, 1] y"),
        "GlobalAveragePool",
    ),
    Fires(
        "read-in-a-body",
        POOL,
        reduced(f"p = ReduceMean(x, axes) y = If(c) {IF}", inputs=f"{MAP}, bool c"),
        "GlobalAveragePool If",
    ),
    Fires(
        "both-kinds-of-one-map",
        POOL,
        reduced("p = ReduceMean(x, axes) m = ReduceMax(x, axes) y = Add(p, m)"),
        "Add GlobalAveragePool GlobalMaxPool",
        2,
    ),
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
]

KEEPS = [
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
        "the kernel isn't known to cover the whole map",
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
        "the kernel isn't known to cover the whole map",
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
        "the kernel isn't known to cover the whole map",
    ),
    Keeps(
        "indices",
        POOL,
        graph(FIXED, f"{POOLED}, int64[N, 8, 1, 1] i", "y, i = MaxPool <kernel_shape = [6, 7]> (x)"),
    ),
    Keeps(
        "shape-that-no-constant-says",
        POOL,
        reduced("y = ReduceMean <keepdims = 0> (x, axes)", inputs="float[?, ?, H, W] x", outputs="float[?, ?] y"),
        "the shape of the result isn't known",
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


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_the_rule_fires(case: Fires) -> None:
    case.assert_fires()


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_the_graph_computes_what_it_did(case: Fires) -> None:
    case.assert_same()


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_the_rule_comes_to_rest(case: Fires) -> None:
    case.assert_rests()


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize("case", FIRES, ids=str)
def test_cleaning_twice_is_cleaning_once(case: Fires, target: Target) -> None:
    case.assert_cleaned(target)


@pytest.mark.parametrize("case", KEEPS, ids=str)
def test_the_rule_keeps_away(case: Keeps) -> None:
    case.assert_keeps()


AXES_OF_A_MAP = st.permutations([2, 3]).flatmap(lambda two: st.tuples(*(st.sampled_from([n, n - 4]) for n in two)))


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["Mean", "Max"]),
    axes=AXES_OF_A_MAP,
    kept=st.booleans(),
    opset=st.sampled_from([11, 13, 17, 18, 20]),
)
def test_every_spelling_of_a_reduction_is_known(kind: str, axes: tuple[int, int], kept: bool, opset: int) -> None:
    stated = f"<axes = [{axes[0]}, {axes[1]}], keepdims = {int(kept)}> (x)"
    if opset >= 18:
        stated = f"<keepdims = {int(kept)}> (x, axes)"
    text = reduced(
        f"y = Reduce{kind} {stated}",
        f"int64[2] axes = {{{axes[0]}, {axes[1]}}}" if opset >= 18 else "",
        outputs=POOLED if kept else "float[N, 8] y",
        opset=opset,
    )
    done = settled(text, POOL)
    pool = "GlobalAveragePool" if kind == "Mean" else "GlobalMaxPool"
    assert operators(done.model) == (pool if kept else f"{pool} Reshape")
    assert_valid(done.model)
    assert_same(done.raw, done.model)


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(["Mean", "Max"]),
    first=st.sampled_from([2, 3, -1, -2]),
    kept=st.tuples(st.booleans(), st.booleans()),
)
def test_two_reductions_over_one_axis_each_are_one_pool(kind: str, first: int, kept: tuple[bool, bool]) -> None:
    second = {2: 3, 3: 2}[first % 4] if kept[0] else 2
    last = ["N", "8"] + ["1"] * (kept[0] + kept[1])
    text = reduced(
        f"a = Reduce{kind} <keepdims = {int(kept[0])}> (x, f) y = Reduce{kind} <keepdims = {int(kept[1])}> (a, s)",
        f"int64[1] f = {{{first}}}, int64[1] s = {{{second}}}",
        outputs=f"float[{', '.join(last)}] y",
    )
    done = settled(text, POOL)
    assert done.fired[POOL.name] == 1
    assert not {"ReduceMean", "ReduceMax"} & set(operators(done.model).split())
    assert_same(done.raw, done.model)
