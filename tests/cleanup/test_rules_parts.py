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


COUNTED = "s = Shape(x) n = Gather(s, nought) r = Range(nought, n, step) "
OVERWRITTEN = "t = ScatterND(x, rows, w) y = Relu(t)"
COUNTERS = ", int64 nought = {0}, int64 step = {1}, int64[1] end = {9223372036854775807}, int64[1] back = {-1}"
WHOLE = "p = Slice(r, zero, end, zero, one) rows = Unsqueeze(p, back) "


def overwritten(body: str, more: str = COUNTERS) -> str:
    """All of x, or a part of it, is replaced by w."""
    return part(body, f"{MAP}, float[N, 4, 6, 5] w", more)


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
        "Relu Transpose Transpose",
    ),
    Fires("first-channels", SCATTER, scattered("0, 1", 2), "Concat Slice"),
    Fires("last-channels", SCATTER, scattered("2, 3", 2), "Concat Slice"),
    Fires("channels-between", SCATTER, scattered("1, 2", 2), "Concat Slice Slice"),
    Fires(
        "computed-channels",
        SCATTER,
        part(
            "s = Shape(x) n = Gather(s, step) r = Range(nought, n, step) p = Slice(r, zero, two1, zero, one) "
            "rows = Unsqueeze(p, back) d = Transpose<perm = [1, 0, 2, 3]>(x) u = Transpose<perm = [1, 0, 2, 3]>(w) "
            "t = ScatterND(d, rows, u) y = Transpose<perm = [1, 0, 2, 3]>(t)",
            f"{MAP}, float[N, 2, 6, 5] w",
            COUNTERS + ", int64[1] two1 = {2}",
        ),
        "Concat Slice",
    ),
    Fires("whole-batch", SCATTER, overwritten(COUNTED + WHOLE + OVERWRITTEN), "Relu"),
    Fires(
        "whole-batch-without-a-slice",
        SCATTER,
        overwritten(f"{COUNTED} rows = Unsqueeze(r, back) {OVERWRITTEN}"),
        "Relu",
    ),
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
    Keeps(
        "a-part-of-the-batch",
        SCATTER,
        part(
            f"{COUNTED} p = Slice(r, zero, one, zero, one) rows = Unsqueeze(p, back) {OVERWRITTEN}",
            f"{MAP}, float[1, 4, 6, 5] w",
            COUNTERS,
        ),
    ),
    Keeps(
        "all-but-the-first",
        SCATTER,
        part(
            f"{COUNTED} p = Slice(r, one, end, zero, one) rows = Unsqueeze(p, back) {OVERWRITTEN}",
            f"{MAP}, float[M, 4, 6, 5] w",
            COUNTERS,
        ),
    ),
    Keeps(
        "as-many-as-there-are-channels",
        SCATTER,
        overwritten(COUNTED.replace("(s, nought)", "(s, step)") + WHOLE + OVERWRITTEN),
    ),
    Keeps(
        "every-second",
        SCATTER,
        overwritten(COUNTED + WHOLE + OVERWRITTEN, COUNTERS.replace("step = {1}", "step = {2}")),
    ),
    Keeps(
        "added-to-the-whole-batch",
        SCATTER,
        overwritten(COUNTED + WHOLE + OVERWRITTEN.replace("ScatterND(", 'ScatterND<reduction = "add">(')),
    ),
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
