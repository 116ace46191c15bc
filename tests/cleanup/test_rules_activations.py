"""Hard sigmoids and hard swishes in one operator."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_export.exporter.cleanup.rules import fuse_hard_sigmoid, fuse_hard_swish, fuse_sigmoid, merge_clips
from tests.cleanup.conftest import Fires, Keeps, assert_same, assert_valid, graph, operators, settled

SIGMOID, SWISH, CLIPS = fuse_hard_sigmoid.RULE, fuse_hard_swish.RULE, merge_clips.RULE
LOGISTIC = fuse_sigmoid.RULE
MAP, OUT = "float[N, 8, H, W] x", "float[N, 8, H, W] y"
NUMBERS = (
    "float nought = {0}, float one = {1}, float three = {3}, float six = {6}, float sixth = {0.16666667}, "
    "float half = {0.5}, float[1] listed = {3}"
)
SIXTH = "alpha = 0.16666667"
IF = "<then_branch = t () => (float[N, 8, H, W] r) {{ r = Neg({0}) }}, else_branch = e () => (float[N, 8, H, W] q) "
IF += "{{ q = Abs({0}) }}>"


def hard(body: str, constants: str = NUMBERS, *, inputs: str = MAP, outputs: str = OUT, opset: int = 20) -> str:
    return graph(inputs, outputs, body, constants, opset=opset)


DIVIDED = "a = Add(x, three) c = Clip(a, nought, six) y = Div(c, six)"
RELU6 = "a = Add(x, three) c = Clip(a, nought, six)"
GATED = "float[N, 8, H, W] x, float[N, 8, H, W] z"
TANH = "h = Mul(x, half) t = Tanh(h)"
POWER = "n = Neg(x) e = Exp(n) a = Add(e, one)"
TENTHS = ", float two = {2}, float minus = {-1}, float tenth = {0.1}"
FIRES = [
    Fires("exponential", LOGISTIC, hard(f"{POWER} y = Div(one, a)"), "Sigmoid"),
    Fires("reciprocal", LOGISTIC, hard(f"{POWER} y = Reciprocal(a)"), "Sigmoid"),
    Fires(
        "negative-factor",
        LOGISTIC,
        hard(f"{POWER.replace('Neg(x)', 'Mul(minus, x)')} y = Reciprocal(a)", NUMBERS + TENTHS),
        "Sigmoid",
    ),
    Fires("swish-by-exponential", LOGISTIC, hard(f"{POWER} y = Div(x, a)"), "Mul Sigmoid"),
    Fires("quotient-of-another", LOGISTIC, hard(f"{POWER} y = Div(z, a)", inputs=GATED), "Mul Sigmoid"),
    Fires("tangent", LOGISTIC, hard(f"{TANH} a = Add(t, one) y = Mul(half, a)"), "Sigmoid"),
    Fires("tangent-scaled-first", LOGISTIC, hard(f"{TANH} m = Mul(t, half) y = Add(m, half)"), "Sigmoid"),
    Fires(
        "tangent-divided",
        LOGISTIC,
        hard("h = Div(x, two) t = Tanh(h) a = Add(t, one) y = Div(a, two)", NUMBERS + TENTHS),
        "Sigmoid",
    ),
    Fires("times-its-input", SIGMOID, hard(f"{RELU6} m = Mul(x, c) y = Div(m, six)"), "HardSigmoid Mul"),
    Fires("times-its-input-scaled", SIGMOID, hard(f"{RELU6} s = Mul(x, sixth) y = Mul(s, c)"), "HardSigmoid Mul"),
    Fires("times-its-input-divided", SIGMOID, hard(f"{RELU6} s = Div(x, six) y = Mul(c, s)"), "HardSigmoid Mul"),
    Fires("times-another", SIGMOID, hard(f"{RELU6} m = Mul(z, c) y = Mul(sixth, m)", inputs=GATED), "HardSigmoid Mul"),
    Fires("two-clips", CLIPS, hard("c = Clip(x, nought, six) y = Clip(c, one, three)"), "Clip"),
    Fires("clips-apart", CLIPS, hard("c = Clip(x, nought, one) y = Clip(c, three, six)"), "Clip"),
    Fires("clips-without-limits", CLIPS, hard("c = Clip(x, nought) y = Clip(c, , six)"), "Clip"),
    Fires("clip-of-nothing", CLIPS, hard("c = Clip(x) y = Clip(c, one)"), "Clip"),
    Fires("clip-after-relu", CLIPS, hard("c = Relu(x) y = Clip(c, , six)"), "Clip"),
    Fires("relu-after-clip", CLIPS, hard("c = Clip(x, one) y = Relu(c)"), "Clip"),
    Fires("relus", CLIPS, hard("c = Relu(x) y = Relu(c)"), "Relu"),
    Fires("relu-of-all", CLIPS, hard("c = Clip(x) y = Relu(c)"), "Relu"),
    Fires("tensorflows-relu6", CLIPS, hard("c = Relu(x) y = Min(c, six)"), "Clip"),
    Fires("minimum-and-maximum", CLIPS, hard("c = Min(six, x) y = Max(listed, c)"), "Clip"),
    Fires("relu6-divided", SIGMOID, hard(DIVIDED), "HardSigmoid"),
    Fires(
        "relu6-multiplied", SIGMOID, hard("a = Add(three, x) c = Clip(a, nought, six) y = Mul(sixth, c)"), "HardSigmoid"
    ),
    Fires(
        "number-in-a-list",
        SIGMOID,
        hard("a = Add(x, listed) c = Clip(a, nought, six) y = Mul(c, sixth)"),
        "HardSigmoid",
    ),
    Fires("clipped-last", SIGMOID, hard("m = Mul(x, sixth) a = Add(m, half) y = Clip(a, nought, one)"), "HardSigmoid"),
    Fires("divided-first", SIGMOID, hard("m = Div(x, six) a = Add(half, m) y = Clip(a, nought, one)"), "HardSigmoid"),
    Fires("no-slope", SIGMOID, hard("a = Add(x, half) y = Clip(a, nought, one)"), "HardSigmoid"),
    Fires(
        "slope-before-and-after",
        SIGMOID,
        hard("m = Mul(x, half) a = Add(m, three) c = Clip(a, nought, six) y = Div(c, six)"),
        "HardSigmoid",
    ),
    Fires(
        "read-in-a-body",
        SIGMOID,
        hard(
            f"a = Add(x, three) c = Clip(a, nought, six) p = Div(c, six) y = If(k) {IF.format('p')}",
            inputs=f"{MAP}, bool k",
        ),
        "HardSigmoid If",
    ),
    Fires("opset-11", SIGMOID, hard(DIVIDED, opset=11), "HardSigmoid"),
    Fires(
        "unknown-batch",
        SIGMOID,
        hard(DIVIDED, inputs="float[?, 8, ?, ?] x", outputs="float[?, 8, ?, ?] y"),
        "HardSigmoid",
    ),
    Fires(
        "float16",
        SIGMOID,
        graph(
            "float16[N, 8, H, W] x",
            "float16[N, 8, H, W] y",
            "a = Add(x, three) l = Squeeze(low) h = Squeeze(high) c = Clip(a, l, h) y = Mul(c, sixth)",
            "float16[1] three = {3}, float16[1] sixth = {0.16666667}, float16[1] low = {0}, float16[1] high = {6}",
        ),
        "HardSigmoid",
    ),
    Fires("swish", SWISH, hard(f"h = HardSigmoid <{SIXTH}> (x) y = Mul(x, h)", ""), "HardSwish"),
    Fires("swish-the-other-way-round", SWISH, hard(f"h = HardSigmoid <{SIXTH}> (x) y = Mul(h, x)", ""), "HardSwish"),
    Fires("swish-opset-14", SWISH, hard(f"h = HardSigmoid <{SIXTH}> (x) y = Mul(h, x)", "", opset=14), "HardSwish"),
    Fires(
        "swish-float16",
        SWISH,
        graph(
            "float16[N, 8, H, W] x", "float16[N, 8, H, W] y", f"h = HardSigmoid <{SIXTH}, beta = 0.5> (x) y = Mul(x, h)"
        ),
        "HardSwish",
    ),
    Fires(
        "swish-read-in-a-body",
        SWISH,
        hard(f"h = HardSigmoid <{SIXTH}> (x) p = Mul(x, h) y = If(k) {IF.format('p')}", "", inputs=f"{MAP}, bool k"),
        "HardSwish If",
    ),
]

READ = "a part of it has other readers"
FIRST_READ = "the first of both has other readers"
TWO = f"{OUT}, float[N, 8, H, W] "
GATE = f"h = HardSigmoid <{SIXTH}> (x) y = Mul(x, h)"
KEEPS = [
    Keeps("other-limits", SIGMOID, hard("a = Add(x, three) c = Clip(a, nought, three) y = Div(c, six)")),
    Keeps("no-lower-limit", SIGMOID, hard("a = Add(x, three) c = Clip(a, , six) y = Div(c, six)")),
    Keeps("relu6-alone", SIGMOID, hard("a = Add(x, three) y = Clip(a, nought, six)")),
    Keeps("divided-by-what-is-clipped", SIGMOID, hard("a = Add(x, three) c = Clip(a, one, six) y = Div(six, c)")),
    Keeps("nothing-added", SIGMOID, hard("c = Clip(x, nought, six) y = Div(c, six)")),
    Keeps("sum-is-read-twice", SIGMOID, hard(f"{DIVIDED} z = Neg(a)", outputs=f"{TWO} z"), READ),
    Keeps("clip-is-read-twice", SIGMOID, hard(f"{DIVIDED} z = Neg(c)", outputs=f"{TWO} z"), READ),
    Keeps("clip-is-an-output", SIGMOID, hard(DIVIDED, outputs=f"{TWO} c"), READ),
    Keeps(
        "clip-is-read-in-a-body",
        SIGMOID,
        hard(f"{DIVIDED} z = If(k) {IF.format('c')}", inputs=f"{MAP}, bool k", outputs=f"{TWO} z"),
        READ,
    ),
    Keeps(
        "overridable-divisor",
        SIGMOID,
        hard(
            DIVIDED.replace("Div(c, six)", "Div(c, d)"), f"{NUMBERS}, float[1] d = {{6}}", inputs=f"{MAP}, float[1] d"
        ),
    ),
    Keeps(
        "a-vector-is-added",
        SIGMOID,
        graph(
            "float[N, 8] x",
            "float[N, 8] y",
            "a = Add(x, v) c = Clip(a, nought, six) y = Div(c, six)",
            f"{NUMBERS}, float[8] v = random",
        ),
    ),
    # float32 tells 5.998 from 6: to take it for 6 is an error of 3e-4.
    Keeps(
        "nearly-the-limits",
        SIGMOID,
        hard(DIVIDED.replace("six) y", "high) y"), f"{NUMBERS}, float high = {{5.998}}"),
        None,
    ),
    # The number has more axes than the map, and so has the result.
    Keeps(
        "number-with-more-axes",
        SIGMOID,
        hard(
            DIVIDED.replace("three", "deep"),
            f"{NUMBERS}, float[1, 1, 1, 1, 1] deep = {{3}}",
            outputs="float[1, N, 8, H, W] y",
        ),
        None,
    ),
    Keeps(
        "unknown-rank",
        SIGMOID,
        hard(DIVIDED, inputs="float[] x", outputs="float[] y"),
        "it can't be verified: an input's rank isn't known",
    ),
    Keeps(
        "other-slope",
        SWISH,
        hard("h = HardSigmoid(x) y = Mul(x, h)", ""),
        "alpha is 0.2 and beta 0.5, not 1/6 and 0.5",
    ),
    Keeps(
        "other-middle",
        SWISH,
        hard(f"h = HardSigmoid <{SIXTH}, beta = 0.25> (x) y = Mul(x, h)", ""),
        "alpha is 0.1667 and beta 0.25, not 1/6 and 0.5",
    ),
    Keeps("old-opset", SWISH, hard(GATE, "", opset=13), "HardSwish needs opset 14, the file has 13"),
    Keeps(
        "sigmoid-is-read-twice",
        SWISH,
        hard(f"{GATE} z = Neg(h)", "", outputs=f"{TWO} z"),
        "the hard sigmoid has other readers",
    ),
    Keeps("sigmoid-is-an-output", SWISH, hard(GATE, "", outputs=f"{TWO} h"), "the hard sigmoid has other readers"),
    Keeps(
        "sigmoid-is-read-in-a-body",
        SWISH,
        hard(f"{GATE} z = If(k) {IF.format('h')}", "", inputs=f"{MAP}, bool k", outputs=f"{TWO} z"),
        "the hard sigmoid has other readers",
    ),
    Keeps(
        "gate-of-something-else",
        SWISH,
        hard(f"h = HardSigmoid <{SIXTH}> (e) y = Mul(x, h)", "", inputs=f"{MAP}, float[N, 8, 1, 1] e"),
    ),
    Keeps(
        "another-factor-of-the-tangent", LOGISTIC, hard(f"{TANH} a = Add(t, one) y = Mul(a, tenth)", NUMBERS + TENTHS)
    ),
    Keeps("the-whole-tangent", LOGISTIC, hard("t = Tanh(x) a = Add(t, one) y = Mul(a, half)")),
    Keeps("positive-exponent", LOGISTIC, hard("e = Exp(x) a = Add(e, one) y = Reciprocal(a)")),
    Keeps(
        "two-and-a-power", LOGISTIC, hard("n = Neg(x) e = Exp(n) a = Add(e, two) y = Reciprocal(a)", NUMBERS + TENTHS)
    ),
    Keeps("divided-by-one", LOGISTIC, hard(f"{POWER} y = Div(a, one)")),
    Keeps("power-is-read-twice", LOGISTIC, hard(f"{POWER} y = Reciprocal(a) z = Neg(e)", outputs=f"{TWO} z"), READ),
    Keeps("tangent-is-an-output", LOGISTIC, hard(f"{TANH} a = Add(t, one) y = Mul(a, half)", outputs=f"{TWO} t"), READ),
    Keeps("clip-of-a-vector", CLIPS, hard("c = Relu(x) y = Min(c, v)", "float[8, 1, 1] v = random")),
    Keeps("one-input", CLIPS, hard("c = Relu(x) y = Max(c)", "")),
    Keeps("three-inputs", CLIPS, hard("c = Relu(x) y = Max(c, x, x)", "")),
    Keeps("limit-is-computed", CLIPS, hard("c = Relu(x) l = ReduceMax<keepdims = 0>(x) y = Clip(c, l)", "")),
    Keeps("first-is-read-twice", CLIPS, hard("c = Relu(x) y = Relu(c) z = Neg(c)", "", outputs=f"{TWO} z"), FIRST_READ),
    Keeps("first-is-an-output", CLIPS, hard("c = Relu(x) y = Relu(c)", "", outputs=f"{TWO} c"), FIRST_READ),
    Keeps(
        "deep-limit",
        CLIPS,
        hard("c = Relu(x) y = Max(c, deep)", "float[1, 1, 1, 1, 1] deep = {3}", outputs="float[1, N, 8, H, W] y"),
    ),
    Keeps(
        "whole-numbers",
        CLIPS,
        graph("int32[N] x", "int32[N] y", "c = Max(x, a) y = Min(c, b)", "int32 a = {1}, int32 b = {7}", opset=11),
        "Clip takes whole numbers from opset 12 on",
    ),
    Keeps("squared", SWISH, hard(f"h = HardSigmoid <{SIXTH}> (x) y = Mul(h, h)", "")),
]


def attributes_of(text: str) -> tuple[float, float]:
    (node,) = settled(text, SIGMOID).model.graph
    return node.attributes["alpha"].as_float(), node.attributes["beta"].as_float()


@pytest.mark.parametrize("body", [case.text for case in FIRES if case.name.startswith(("relu6", "clipped", "divided"))])
def test_every_spelling_has_the_same_slope(body: str) -> None:
    """`fuse_hard_swish` and runtimes look for 1/6 exactly."""
    assert attributes_of(body) == pytest.approx((1 / 6, 0.5), abs=1e-7)


def test_the_slope_of_a_float16_graph_is_meant_to_be_a_sixth() -> None:
    assert attributes_of(next(case.text for case in FIRES if case.name == "float16"))[0] == pytest.approx(
        1 / 6, abs=1e-8
    )


@pytest.mark.parametrize("relu6", ["c = Clip(a, nought, six)", "r = Relu(a) c = Min(r, six)"])
@pytest.mark.parametrize(
    "body",
    [
        "d = Div(c, six) y = Mul(x, d)",
        "d = Mul(x, c) y = Div(d, six)",
        "d = Mul(c, x) y = Mul(d, sixth)",
        "d = Mul(x, sixth) y = Mul(d, c)",
    ],
)
def test_parts_become_a_hard_swish_in_the_end(body: str, relu6: str) -> None:
    done = settled(hard(f"a = Add(x, three) {relu6} {body}"), CLIPS, SIGMOID, SWISH)
    assert operators(done.model) == "HardSwish"
    assert_same(done.raw, done.model)


@settings(max_examples=30, deadline=None)
@given(
    outer=st.sampled_from([("Div", 6.0), ("Mul", 1 / 6), ("Div", 4.0), ("Mul", 0.1), None]),
    inner=st.sampled_from([("Mul", 0.5), ("Div", 3.0), ("Mul", -1.5), None]),
    shift=st.floats(-3, 3, width=32),
    turned=st.booleans(),
)
def test_any_slope_and_middle_is_fused(
    outer: tuple[str, float] | None, inner: tuple[str, float] | None, shift: float, turned: bool
) -> None:
    slope = 1.0 if outer is None else outer[1] if outer[0] == "Mul" else 1 / outer[1]
    body, value, names = (
        "",
        "x",
        [f"float shift = {{{shift:.6f}}}", f"float low = {{0}}, float high = {{{1 / slope!r}}}"],
    )
    if inner is not None:
        body, value = f"i = {inner[0]}({value}, inner) ", "i"
        names.append(f"float inner = {{{inner[1]!r}}}")
    body += f"a = Add({'shift, ' + value if turned else value + ', shift'}) "
    body += f"{'y' if outer is None else 'c'} = Clip(a, low, high) "
    if outer is not None:
        body += f"y = {outer[0]}(c, outer)"
        names.append(f"float outer = {{{outer[1]!r}}}")
    done = settled(hard(body, ", ".join(names)), SIGMOID)
    if not 0.1 <= shift * slope <= 0.9:  # nearly always 0 or 1: what is left is too small for the attributes' rounding
        assert "HardSigmoid" not in operators(done.model)
        assert done.log.reverted == []
        return
    assert operators(done.model) == "HardSigmoid"
    assert_valid(done.model)
    assert_same(done.raw, done.model)


LIMIT = st.none() | st.sampled_from([-2.0, 0.0, 0.5, 3.0, 6.0])
CLAMP = st.sampled_from(["Relu", "Min", "Max", "Clip"]) | st.just("Clip")


@given(st.lists(st.tuples(CLAMP, LIMIT, LIMIT), min_size=2, max_size=4))
def test_any_row_of_clamps_becomes_one(row: list[tuple[str, float | None, float | None]]) -> None:
    """Whatever the limits are, the lower above the upper included."""
    names, body, value = [], "", "x"
    for index, (operator, low, high) in enumerate(row):
        stated = [low, high] if operator == "Clip" else [] if operator == "Relu" else [low or 1.0]
        names += [f"float l{index}_{i} = {{{limit}}}" for i, limit in enumerate(stated) if limit is not None]
        listed = ["" if limit is None else f"l{index}_{i}" for i, limit in enumerate(stated)]
        name = "y" if index == len(row) - 1 else f"v{index}"
        body += f"{name} = {operator}({', '.join([value, *listed]).rstrip(', ')}) "
        value = name
    done = settled(hard(body, ", ".join(names)), CLIPS)
    assert len(done.model.graph) == 1
    assert done.log.reverted == []
    assert_valid(done.model)
    assert_same(done.raw, done.model)
