"""Shapes that are computed from shapes, and gates that are expanded before they are multiplied."""

from attn_export.exporter.cleanup.rules import drop_expand, resolve_sizes
from tests.cleanup.conftest import Fires, Keeps, assert_same, graph, settled

RESOLVE, EXPAND = resolve_sizes.RULE, drop_expand.RULE
MAP, GATE = "float[N, 8, H, W]", "float[N, 8, 1, 1]"
SIZE = "s = Shape(x) n = Gather(s, zero) "
NUMBERS = (
    "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] rest = {-1}, "
    "int64[1] c = {8}, int64 nought = {0}"
)
# `gate.expand_as(x)`, `gate.expand(n, c, h, w)`, and -1 for "keep this axis", which Expand doesn't have: the exporter
# that goes through TorchScript computes in the graph whether a size is -1.
KEPT = "fill = ConstantOfShape <value = int64[1] {1}> (four) minus = Mul(fill, rest) "
LEGACY = f"{KEPT} s = Shape(x) is = Equal(s, minus) to = Where(is, fill, s) e = Expand(g, to) y = Mul(x, e)"


def gated(body: str, *, gate: str = GATE, constants: str = NUMBERS, outputs: str = f"{MAP} y", opset: int = 20) -> str:
    return graph(f"{MAP} x, {gate} g", outputs, body, constants, opset=opset)


FIRES = [
    Fires(
        "repeated-to-all-channels",
        EXPAND,
        graph(
            f"{MAP} x, float[N, 1, H, W] g", f"{MAP} y", "e = Tile(g, to) y = Mul(x, e)", "int64[4] to = {1, 8, 1, 1}"
        ),
        "Mul",
    ),
    Fires(
        "view-of-size",
        RESOLVE,
        graph(
            "float[N, 8] x",
            f"{GATE} y",
            f"{SIZE} t = Concat <axis = 0> (n, c, one, one) y = Reshape(x, t)",
            NUMBERS,
        ),
        "Reshape",
    ),
    Fires(
        "number-and-unsqueeze",
        RESOLVE,
        graph(
            "float[N, 8] x",
            f"{GATE} y",
            "s = Shape(x) n = Gather(s, nought) u = Unsqueeze(n, zero) t = Concat <axis = 0> (u, c, one, one) "
            "y = Reshape(x, t)",
            NUMBERS,
        ),
        "Reshape",
    ),
    Fires(
        "slice",
        RESOLVE,
        graph(
            f"{GATE} x",
            "float[N, 8] y",
            "s = Shape(x) t = Slice(s, zero, two) y = Reshape(x, t)",
            NUMBERS,
        ),
        "Reshape",
    ),
    Fires(
        "start-and-end-of-shape",
        RESOLVE,
        graph(f"{GATE} x", "float[N, 8] y", "s = Shape <start = 0, end = -2> (x) y = Reshape(x, s)", NUMBERS),
        "Reshape",
    ),
    Fires(
        "rest-is-minus-one",
        RESOLVE,
        graph(f"{MAP} x", "float[N, R] y", f"{SIZE} t = Concat <axis = 0> (n, rest) y = Reshape(x, t)", NUMBERS),
        "Reshape",
    ),
    Fires(
        "one-size-that-moved",
        RESOLVE,
        graph(
            "float[N, 8, 1] x",
            "float[1, 8, N] y",
            f"{SIZE} t = Concat <axis = 0> (one, c, n) y = Reshape(x, t)",
            NUMBERS,
        ),
        "Reshape",
    ),
    Fires(
        "unnamed-axes-stay",
        RESOLVE,
        graph(
            "float[?, 8, ?, ?] x",
            "float[?, 1, 8, ?, ?] y",
            "s = Shape(x) n = Gather(s, zero) h = Gather(s, two) t = Concat <axis = 0> (n, c, h, rest) "
            "y0 = Reshape(x, t) y = Unsqueeze(y0, one)",
            NUMBERS,
        ),
        "Reshape Unsqueeze",
    ),
    Fires(
        "arithmetic",
        RESOLVE,
        graph(
            "float[N, 8, 6] x",
            "float[N, 48] y",
            f"{SIZE} a = Gather(s, one) b = Gather(s, two) ab = Mul(a, b) t = Concat <axis = 0> (n, ab) "
            "y = Reshape(x, t)",
            NUMBERS,
        ),
        "Reshape",
    ),
    Fires(
        "allowzero-without-zeros",
        RESOLVE,
        graph(
            "float[N, 8] x",
            "float[N, 8, 1] y",
            f"{SIZE} t = Concat <axis = 0> (n, c, one) y = Reshape <allowzero = 1> (x, t)",
            NUMBERS,
        ),
        "Reshape",
    ),
    Fires(
        "float16-and-opset-11",
        RESOLVE,
        graph(
            "float16[N, 8] x",
            "float16[N, 8, 1, 1] y",
            f"{SIZE} t = Concat <axis = 0> (n, c, one, one) y = Reshape(x, t)",
            NUMBERS,
            opset=11,
        ),
        "Reshape",
    ),
    Fires("expand-as", EXPAND, gated("s = Shape(x) e = Expand(g, s) y = Mul(x, e)"), "Mul"),
    Fires("the-other-way-round", EXPAND, gated("s = Shape(x) e = Expand(g, s) y = Mul(e, x)"), "Mul"),
    *(
        Fires(f"{op}-keeps-its-sides", EXPAND, gated(f"s = Shape(x) e = Expand(g, s) y = {op}(e, x)"), op)
        for op in ("Add", "Sub", "Div")
    ),
    Fires("torchscript", EXPAND, gated(LEGACY, constants=f"{NUMBERS}, int64[1] four = {{4}}"), "Mul"),
    Fires(
        "torchscript-opset-11",
        EXPAND,
        gated(LEGACY, constants=f"{NUMBERS}, int64[1] four = {{4}}", opset=11),
        "Mul",
    ),
    Fires(
        "sizes-one-by-one",
        EXPAND,
        gated(
            "s = Shape(x) n = Gather(s, zero) h = Gather(s, two) w = Gather(s, last) "
            "t = Concat <axis = 0> (n, c, h, w) e = Expand(g, t) y = Mul(x, e)",
            constants=f"{NUMBERS}, int64[1] last = {{-1}}",
        ),
        "Mul",
    ),
    Fires(
        "known-sizes",
        EXPAND,
        graph(
            f"float[N, 8, 6, 7] x, {GATE} g",
            "float[N, 8, 6, 7] y",
            "e = Expand(g, to) y = Mul(x, e)",
            "int64[4] to = {1, 8, 6, 7}",
        ),
        "Mul",
    ),
    Fires(
        "read-twice",
        EXPAND,
        gated("s = Shape(x) e = Expand(g, s) y = Mul(x, e) z = Neg(e)", outputs=f"{MAP} y, {MAP} z"),
        "Expand Mul Neg Shape",
    ),
    Fires(
        "expanded-is-an-output",
        EXPAND,
        gated("s = Shape(x) e = Expand(g, s) y = Mul(x, e)", outputs=f"{MAP} y, {MAP} e"),
        "Expand Mul Shape",
    ),
    Fires(
        "spatial-gate",
        EXPAND,
        gated("s = Shape(x) e = Expand(g, s) y = Mul(x, e)", gate="float[N, 1, H, W]"),
        "Mul",
    ),
    Fires(
        "float16",
        EXPAND,
        graph(
            "float16[N, 8, H, W] x, float16[N, 8, 1, 1] g",
            "float16[N, 8, H, W] y",
            "s = Shape(x) e = Expand(g, s) y = Mul(x, e)",
        ),
        "Mul",
    ),
]

KEEPS = [
    Keeps(
        "repeated-channels",
        EXPAND,
        graph(
            f"{MAP} x, float[N, 4, 1, 1] g", f"{MAP} y", "e = Tile(g, to) y = Mul(x, e)", "int64[4] to = {1, 2, 1, 1}"
        ),
        "axis -3 may grow beyond the other operand",
    ),
    Keeps(
        "repeated-beyond-the-map",
        EXPAND,
        graph(
            "float[N, 1, H, W] x, float[N, 1, 1, 1] g",
            f"{MAP} y",
            "e = Tile(g, to) y = Mul(x, e)",
            "int64[4] to = {1, 8, 1, 1}",
        ),
        "axis -3 may grow beyond the other operand",
    ),
    Keeps(
        "values-decide",
        RESOLVE,
        graph("float[N, 8] x, int64[2] t", "float[A, B] y", "y = Reshape(x, t)"),
        "the shape depends on data",
    ),
    Keeps(
        "overridable-shape",
        RESOLVE,
        graph("float[N, 8] x, int64[2] t", "float[A, B] y", "y = Reshape(x, t)", "int64[2] t = {4, -1}"),
        "the shape depends on data",
    ),
    Keeps(
        "two-axes-move",
        RESOLVE,
        graph(
            "float[N, 8, H] x",
            "float[H, 8, N] y",
            f"{SIZE} h = Gather(s, two) t = Concat <axis = 0> (h, c, n) y0 = Reshape(x, t) y = Relu(y0)",
            NUMBERS,
        ),
        "the shape has more than one unknown axis",
    ),
    Keeps(
        "zero-is-a-size",
        RESOLVE,
        graph(
            "float[N, 0] x",
            "float[N, 0, 1] y",
            f"{SIZE} t = Concat <axis = 0> (n, zero, one) y = Reshape <allowzero = 1> (x, t)",
            NUMBERS,
        ),
        "the shape has a size of 0",
    ),
    Keeps(
        "unknown-rank",
        RESOLVE,
        graph("float[] x", "float[A, B] y", f"{SIZE} t = Concat <axis = 0> (n, rest) y = Reshape(x, t)", NUMBERS),
        "the shape depends on data",
    ),
    Keeps(
        "constant-already",
        RESOLVE,
        graph("float[N, 8] x", "float[N, 8, 1] y", "y = Reshape(x, t)", "int64[3] t = {0, 8, 1}"),
    ),
    Keeps(
        "larger-than-the-other",
        EXPAND,
        graph(
            "float[N, 1, H, W] x, float[N, 1, 1, 1] g, float[N, 8, H, W] like",
            f"{MAP} y",
            "s = Shape(like) e = Expand(g, s) y = Mul(x, e)",
        ),
        "axis -3 may grow beyond the other operand",
    ),
    Keeps(
        "other-sizes",
        EXPAND,
        graph(
            f"float[N, 8, A, B] x, {GATE} g, {MAP} like",
            "float[N, 8, C, D] y",
            "s = Shape(like) e = Expand(g, s) y = Mul(x, e)",
        ),
        "axis -1 may grow beyond the other operand",
    ),
    Keeps(
        "more-axes",
        EXPAND,
        graph(
            f"{MAP} x, {GATE} g",
            "float[1, N, 8, H, W] y",
            "s = Shape(x) t = Concat <axis = 0> (one, s) e = Expand(g, t) y = Mul(x, e)",
            NUMBERS,
        ),
        "Expand adds an axis that the other operand lacks",
    ),
    Keeps(
        "values-decide",
        EXPAND,
        graph(f"{MAP} x, {GATE} g, int64[4] to", "float[A, B, C, D] y", "e = Expand(g, to) y = Mul(x, e)"),
        "the target shape depends on data",
    ),
    Keeps(
        "overridable-sizes",
        EXPAND,
        graph(
            f"float[N, 8, 6, 7] x, {GATE} g, int64[4] to",
            "float[A, B, C, D] y",
            "e = Expand(g, to) y = Mul(x, e)",
            "int64[4] to = {1, 8, 6, 7}",
        ),
        "the target shape depends on data",
    ),
    Keeps(
        "unknown-rank-of-the-other",
        EXPAND,
        graph(f"float[] x, {GATE} g, {MAP} like", "float[] y", "s = Shape(like) e = Expand(g, s) y = Mul(x, e)"),
        "an operand has an unknown rank",
    ),
    Keeps(
        "no-broadcasting-operator",
        EXPAND,
        graph(
            f"{MAP} x, {GATE} g",
            "float[N, 16, H, W] y",
            "s = Shape(x) e = Expand(g, s) y = Concat <axis = 1> (x, e)",
        ),
    ),
    # The product of the expanded with itself is as large as the expanded.
    Keeps(
        "its-own-factor",
        EXPAND,
        graph(f"{MAP} x, {GATE} g", f"{MAP} y", "s = Shape(x) e = Expand(g, s) y = Mul(e, e)"),
        None,
    ),
]


def test_sizes_are_resolved_in_the_same_run_as_what_needs_them() -> None:
    """A gate that is viewed by its size, then expanded by the map's."""
    text = graph(
        f"{MAP} x, float[N, 8] g",
        f"{MAP} y",
        "s = Shape(g) n = Gather(s, zero) t = Concat <axis = 0> (n, rest, one, one) v = Reshape(g, t) "
        "m = Shape(x) e = Expand(v, m) y = Mul(x, e)",
        NUMBERS,
    )
    done = settled(text, RESOLVE, EXPAND)
    assert [node.op_type for node in done.model.graph] == ["Reshape", "Mul"]
    assert done.constants["shape_0x-1x1x1"].tolist() == [0, -1, 1, 1]
    assert_same(done.raw, done.model)


def test_an_axis_that_stays_is_written_as_kept() -> None:
    """0 is right at every batch size; a number would fix it."""
    done = next(case for case in FIRES if case.name == "view-of-size").apply_to_fixpoint()
    assert {name: array.tolist() for name, array in done.constants.items()} == {"shape_0x8x1x1": [0, 8, 1, 1]}
