"""Parts of maps: computed bounds, writes with ScatterND, slices of what was concatenated."""

from attn_export.exporter.cleanup.rules import concat_scattered, fold_known_sizes, take_concatenated
from tests.cleanup.conftest import Fires, Keeps, graph

SIZES, SCATTER, TAKE = fold_known_sizes.RULE, concat_scattered.RULE, take_concatenated.RULE
MAP, OUT = "float[N, 4, 6, 5] x", "float[A, B, C, D] y"
NUMBERS = (
    "int64 two = {2}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] first = {1}, int64[1] three = {3}, "
    "int64[1] four = {4}, int64[1] large = {99}, int64[1] minus = {-1}"
)
HEIGHT = "s = Shape(x) h = Gather(s, two) l = Unsqueeze(h, zero)"


def part(body: str, inputs: str = MAP, more: str = "", *, outputs: str = OUT) -> str:
    return graph(inputs, outputs, body, NUMBERS + more)


def scattered(
    indices: str, count: int, *, turned: str = "1, 0, 2, 3", other: str = "1, 0, 2, 3", back: str = "1, 0, 2, 3"
) -> str:
    body = f"d = Transpose<perm = [{turned}]>(x) u = Transpose<perm = [{other}]>(w) "
    body += f"t = ScatterND(d, rows, u) y = Transpose<perm = [{back}]>(t)"
    return part(body, f"{MAP}, float[N, {count}, 6, 5] w", f", int64[{count}, 1] rows = {{{indices}}}")


NO_RUN = "the indices aren't one run of an axis of known size, or the result has other readers"
BOTH = f"{MAP}, float[N, 3, 6, 5] w"
CONCAT = "c = Concat<axis = 1>(x, w)"
FIRES = [
    Fires(
        "bound-of-a-slice", SIZES, part(f"{HEIGHT} y = Slice(x, one, l, two1)", more=", int64[1] two1 = {2}"), "Slice"
    ),
    Fires(
        "sum-of-sizes",
        SIZES,
        part(f"{HEIGHT} b = Sub(l, one) y = Slice(x, one, b, two1)", more=", int64[1] two1 = {2}"),
        "Slice",
    ),
    Fires(
        "whole-run",
        SCATTER,
        scattered("0, 1, 2, 3", 4).replace("y = Transpose", "v = Transpose").replace("(t)", "(t) y = Relu(v)"),
        "Relu",
    ),
    Fires("first-channels", SCATTER, scattered("0, 1", 2), "Concat Slice"),
    Fires("last-channels", SCATTER, scattered("2, 3", 2), "Concat Slice"),
    Fires("channels-between", SCATTER, scattered("1, 2", 2), "Concat Slice Slice"),
    Fires("first-part", TAKE, part(f"{CONCAT} z = Slice(c, zero, four, one) y = Relu(z)", BOTH), "Relu"),
    Fires(
        "second-part",
        TAKE,
        part(f"{CONCAT} z = Slice(c, four, seven, one) y = Relu(z)", BOTH, ", int64[1] seven = {7}"),
        "Relu",
    ),
]
KEEPS = [
    Keeps(
        "dynamic-size",
        SIZES,
        part(f"{HEIGHT} y = Slice(x, one, l, two1)", "float[N, 4, H, 5] x", ", int64[1] two1 = {2}"),
    ),
    Keeps("a-returned-size", SIZES, graph(MAP, "int64[4] y", "y = Shape(x)")),
    Keeps("no-run", SCATTER, scattered("0, 2", 2), NO_RUN),
    Keeps("backwards", SCATTER, scattered("1, 0", 2), NO_RUN),
    Keeps("from-the-end", SCATTER, scattered("-2, -1", 2), NO_RUN),
    Keeps("added", SCATTER, scattered("0, 1", 2).replace("ScatterND(", 'ScatterND<reduction = "add">(')),
    Keeps("turned-back-otherwise", SCATTER, scattered("0, 1", 2, back="1, 0, 3, 2")),
    Keeps(
        "other-axis", TAKE, part(f"{CONCAT} z = Slice(c, zero, four, two1) y = Relu(z)", BOTH, ", int64[1] two1 = {2}")
    ),
    Keeps("less-than-a-part", TAKE, part(f"{CONCAT} z = Slice(c, zero, three, one) y = Relu(z)", BOTH)),
    Keeps("across-parts", TAKE, part(f"{CONCAT} z = Slice(c, three, large, one) y = Relu(z)", BOTH)),
    Keeps("from-behind", TAKE, part(f"{CONCAT} z = Slice(c, zero, minus, one) y = Relu(z)", BOTH)),
    Keeps(
        "with-steps",
        TAKE,
        part(f"{CONCAT} z = Slice(c, zero, four, one, two1) y = Relu(z)", BOTH, ", int64[1] two1 = {2}"),
    ),
]
