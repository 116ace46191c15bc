"""Views of views, transposes of units, and axes that are reduced away and put back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from attn_export.exporter.cleanup.rules import keep_reduced_axis, merge_views, view_unit_transpose
from tests.cleanup.conftest import Fires, Keeps, assert_same, graph, operators, settled

MERGE, TURN, KEEP = merge_views.RULE, view_unit_transpose.RULE, keep_reduced_axis.RULE
POOLED = "float[N, 8, 1, 1] x"
IF = "z = If(c) <then_branch = t () => (float{shape} r) {{ r = Neg({read}) }}, "
IF += "else_branch = e () => (float{shape} q) {{ q = Abs({read}) }}>"


def unviewed(body: str, constants: str = "", *, inputs: str = POOLED, outputs: str = "float[N, 8, 1, 1] y") -> str:
    return graph(inputs, outputs, body, constants)


FIRES = [
    # y stays behind Relu, so that the view in the end is no output of the graph.
    Fires(
        "flatten-unsqueeze-unsqueeze",
        MERGE,
        unviewed(
            "f = Flatten(x) u = Unsqueeze(f, two) v = Unsqueeze(u, three) y = Relu(v)",
            "int64[1] two = {2}, int64[1] three = {3}",
        ),
        "Relu",
        2,
    ),
    Fires(
        "squeeze-and-reshape",
        MERGE,
        unviewed(
            "f = Squeeze(x, axes) v = Reshape(f, shape) y = Relu(v)",
            "int64[2] axes = {2, 3}, int64[4] shape = {0, 8, 1, 1}",
        ),
        "Relu",
    ),
    Fires(
        "reshape-to-its-own-shape",
        MERGE,
        unviewed("v = Reshape(x, shape) y = Relu(v)", "int64[4] shape = {-1, 8, 1, 1}"),
        "Relu",
    ),
    Fires(
        "two-views-that-are-one",
        MERGE,
        graph(
            "float[N, 2, 4, 3] x",
            "float[N, 8, 3] y",
            "v = Reshape(x, first) y = Reshape(v, second)",
            "int64[2] first = {0, -1}, int64[3] second = {0, 8, 3}",
        ),
        "Reshape",
    ),
    Fires(
        "first-view-is-read-twice",
        MERGE,
        unviewed(
            "f = Flatten(x) v = Reshape(f, shape) y = Relu(v) z = Neg(f)",
            "int64[4] shape = {0, 8, 1, 1}",
            outputs="float[N, 8, 1, 1] y, float[N, 8] z",
        ),
        "Flatten Neg Relu",
    ),
    Fires(
        "first-view-is-an-output",
        MERGE,
        unviewed(
            "f = Flatten(x) v = Reshape(f, shape) y = Relu(v)",
            "int64[4] shape = {0, 8, 1, 1}",
            outputs="float[N, 8, 1, 1] y, float[N, 8] f",
        ),
        "Flatten Relu",
    ),
    Fires(
        "result-is-read-in-a-body",
        MERGE,
        unviewed(
            "f = Flatten(x) v = Reshape(f, shape) " + IF.format(shape="[N, 8, 1, 1]", read="v"),
            "int64[4] shape = {0, 8, 1, 1}",
            inputs=f"{POOLED}, bool c",
            outputs="float[N, 8, 1, 1] z",
        ),
        "If",
    ),
    Fires(
        "float16",
        MERGE,
        graph(
            "float16[N, 8, 1, 1] x",
            "float16[N, 8, 1, 1] y",
            "f = Flatten(x) v = Reshape(f, shape) y = Relu(v)",
            "int64[4] shape = {0, 8, 1, 1}",
        ),
        "Relu",
    ),
    Fires(
        "eca", TURN, graph("float[N, 8, 1] x", "float[N, 1, 8] y", "y = Transpose <perm = [0, 2, 1]> (x)"), "Reshape"
    ),
    Fires(
        "channels-last-of-pooled",
        TURN,
        graph("float[N, 8, 1, 1] x", "float[N, 1, 1, 8] y", "y = Transpose <perm = [0, 2, 3, 1]> (x)"),
        "Reshape",
    ),
    Fires("all-reversed", TURN, graph("float[1, 8, 1] x", "float[1, 8, 1] y", "y = Transpose(x)"), "Reshape"),
    Fires(
        "unnamed-batch",
        TURN,
        graph("float[?, 8, 1] x", "float[?, 1, 8] y", "y = Transpose <perm = [0, 2, 1]> (x)"),
        "Reshape",
    ),
    *(
        Fires(
            kind,
            KEEP,
            graph(
                "float[N, 8, H, W] x",
                "float[N, 1, H, W] y",
                f"r = {kind} <keepdims = 0> (x, one) y = Unsqueeze(r, one)",
                "int64[1] one = {1}",
            ),
            kind,
        )
        for kind in ("ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin", "ReduceL2")
    ),
    Fires(
        "negative-axis",
        KEEP,
        graph(
            "float[N, 8, H, W] x",
            "float[N, 1, H, W] y",
            "r = ReduceMax <keepdims = 0> (x, first) y = Unsqueeze(r, one)",
            "int64[1] first = {-3}, int64[1] one = {1}",
        ),
        "ReduceMax",
    ),
    Fires(
        "attribute-axes",
        KEEP,
        graph(
            "float[N, 8, H, W] x",
            "float[N, 1, H, W] y",
            "r = ReduceMax <axes = [1], keepdims = 0> (x) y = Unsqueeze <axes = [1]> (r)",
            opset=11,
        ),
        "ReduceMax",
    ),
    Fires(
        "put-back-by-reshape",
        KEEP,
        graph(
            "float[N, 8, 5, 4] x",
            "float[N, 1, 5, 4] y",
            "r = ReduceMean <keepdims = 0> (x, one) y = Reshape(r, shape)",
            "int64[1] one = {1}, int64[4] shape = {-1, 1, 5, 4}",
        ),
        "ReduceMean",
    ),
    Fires(
        "two-axes",
        KEEP,
        graph(
            "float[N, 8, H, W] x",
            "float[N, 8, 1, 1] y",
            "r = ReduceMean <keepdims = 0> (x, axes) y = Unsqueeze(r, axes)",
            "int64[2] axes = {2, 3}",
        ),
        "ReduceMean",
    ),
]

KEEPS = [
    Keeps(
        "result-is-an-output",
        MERGE,
        unviewed("f = Flatten(x) y = Reshape(f, shape)", "int64[4] shape = {0, 8, 1, 1}"),
        "the result is a graph output and must keep its name",
    ),
    Keeps(
        "unknown-rank",
        MERGE,
        graph("float[] x", "float[] y", "f = Squeeze(x) y = Relu(f)"),
    ),
    Keeps(
        "one-view-to-another-shape",
        MERGE,
        graph(
            "float[N, 8, H, W] x",
            "float[A, B, 8] y",
            "v = Neg(x) w = Reshape(v, shape) y = Relu(w)",
            "int64[3] shape = {2, -1, 8}",
        ),
    ),
    Keeps(
        "overridable-shape",
        MERGE,
        graph(
            "float[N, 8, 1, 1] x, int64[4] shape",
            "float[A, B, C, D] y",
            "f = Flatten(x) v = Reshape(f, shape) y = Relu(v)",
            "int64[4] shape = {0, 8, 1, 1}",
        ),
    ),
    Keeps(
        "larger-axes-move",
        TURN,
        graph("float[N, 8, 3] x", "float[N, 3, 8] y", "y = Transpose <perm = [0, 2, 1]> (x)"),
    ),
    Keeps(
        "units-and-larger-axes-move",
        TURN,
        graph("float[N, 8, 1, 3] x", "float[N, 3, 1, 8] y", "y = Transpose <perm = [0, 3, 2, 1]> (x)"),
    ),
    Keeps(
        "two-unnamed-axes",
        TURN,
        graph("float[?, 1, ?] x", "float[?, ?, 1] y", "y = Transpose <perm = [0, 2, 1]> (x)"),
        "no constant can express the final shape",
    ),
    Keeps("unknown-rank", TURN, graph("float[] x", "float[] y", "y = Transpose(x)")),
    Keeps(
        "other-axis",
        KEEP,
        graph(
            "float[N, 8, H, W] x",
            "float[N, H, 1, W] y",
            "r = ReduceMax <keepdims = 0> (x, one) y = Unsqueeze(r, two)",
            "int64[1] one = {1}, int64[1] two = {2}",
        ),
    ),
    Keeps(
        "also-read-without",
        KEEP,
        graph(
            "float[N, 8, H, W] x",
            "float[N, 1, H, W] y, float[N, H, W] z",
            "r = ReduceMax <keepdims = 0> (x, one) y = Unsqueeze(r, one) z = Neg(r)",
            "int64[1] one = {1}",
        ),
        "another node reads the reduction without the axis",
    ),
    Keeps(
        "also-an-output",
        KEEP,
        graph(
            "float[N, 8, H, W] x",
            "float[N, 1, H, W] y, float[N, H, W] r",
            "r = ReduceMax <keepdims = 0> (x, one) y = Unsqueeze(r, one)",
            "int64[1] one = {1}",
        ),
        "another node reads the reduction without the axis",
    ),
    Keeps(
        "also-read-in-a-body",
        KEEP,
        graph(
            "float[N, 8, H, W] x, bool c",
            "float[N, 1, H, W] y, float[N, H, W] z",
            "r = ReduceMax <keepdims = 0> (x, one) y = Unsqueeze(r, one) " + IF.format(shape="[N, H, W]", read="r"),
            "int64[1] one = {1}",
        ),
        "another node reads the reduction without the axis",
    ),
    Keeps(
        "overridable-axes",
        KEEP,
        graph(
            "float[N, 8, H, W] x, int64[1] axis",
            "float[A, B, C, D] y",
            "r = ReduceMax <keepdims = 0> (x, axis) y = Unsqueeze(r, one)",
            "int64[1] axis = {1}, int64[1] one = {1}",
        ),
        "the reduced axes are unknown",
    ),
    Keeps(
        "unknown-rank",
        KEEP,
        graph(
            "float[] x",
            "float[] y",
            "r = ReduceMax <keepdims = 0> (x, one) y = Unsqueeze(r, one)",
            "int64[1] one = {1}",
        ),
        "",
    ),
]


# Each splits and joins the 24 numbers of an image in another way.
SHAPES = [(0, 24), (0, 2, 12), (0, 4, 6), (0, 2, 3, 4), (-1, 4, 3, 2), (0, 1, 24), (0, 24, 1, 1), (-1, 24, 1)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4))
def test_any_chain_of_reshapes_becomes_one_at_most(chain: list[tuple[int, ...]]) -> None:
    constants = ", ".join(
        f"int64[{len(shape)}] s{i} = {{{', '.join(map(str, shape))}}}" for i, shape in enumerate(chain)
    )
    body = "v0 = Neg(x) " + "".join(f"v{i + 1} = Reshape(v{i}, s{i}) " for i in range(len(chain)))
    last = ", ".join(["N", *map(str, chain[-1][1:])])
    text = graph("float[N, 2, 3, 4] x", f"float[{last}] y", f"{body} y = Relu(v{len(chain)})", constants)
    done = settled(text, MERGE)
    unchanged = chain[-1][1:] == (2, 3, 4)
    assert operators(done.model) == ("Neg Relu" if unchanged else "Neg Relu Reshape")
    assert_same(done.raw, done.model)
