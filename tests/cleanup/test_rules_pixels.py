"""Preprocessing in the first convolution's weights, as far as its padding allows."""

import pytest

from attn_export.exporter.cleanup.rules import fold_channel_order, fold_pixel_mean, fold_pixel_scale, resolve_sizes
from tests.cleanup.conftest import Fires, Keeps, graph, settled

SCALE, MEAN, ORDER = fold_pixel_scale.RULE, fold_pixel_mean.RULE, fold_channel_order.RULE
IMAGE, OUT = "float[N, 3, H, W] x", "float[N, 6, P, Q] y"
W, B = "float[6, 3, 3, 3] w = random", "float[6] b = random"
OF_CHANNELS = "float[1, 3, 1, 1] a = random"
ENDS = "int64[1] start = {-1}, int64[1] end = {-9223372036854775807}, int64[1] axis = {1}, int64[1] step = {-1}"
PADDED = "pads = [1, 1, 1, 1]"
BGR = "s = Slice(x, start, end, axis, step) y = Conv(s, w, b)"
GREY = "float[6, 1, 3, 3] w = random, float[1, 1, 1, 1] a = random"
ROW = f"{W}, {B}, float[1, 1, 1, 3] a = random"
GROUPS = f"float[6, 1, 3, 3] w = random, {B}, {OF_CHANNELS}"
# Channels 1 and 0 of three, and 3 to 1 of four.
PART = f"float[6, 2, 3, 3] w = random, {B}, {ENDS.replace('start = {-1}', 'start = {1}')}"
ALL_BUT_ONE = f"{W}, {B}, {ENDS.replace('-9223372036854775807', '-4')}"
PADS = "the convolution pads with zeros, and the image's mean isn't 0"


def before_conv(body: str, constants: str = f"{W}, {B}, {OF_CHANNELS}", **options: object) -> str:
    return graph(str(options.pop("inputs", IMAGE)), str(options.pop("outputs", OUT)), body, constants)


FIRES = [
    Fires("plain", SCALE, before_conv("s = Mul(x, a) y = Conv(s, w, b)"), "Conv"),
    Fires("padded", SCALE, before_conv(f"s = Mul(a, x) y = Conv <{PADDED}> (s, w)"), "Conv"),
    Fires(
        "of-pixels",
        SCALE,
        before_conv("c = Cast <to = 1> (x) s = Mul(c, a) y = Conv(s, w, b)", inputs="uint8[N, 3, H, W] x"),
        "Cast Conv",
    ),
    Fires(
        "grey",
        SCALE,
        before_conv(
            "s = Mul(x, a) y = Conv(s, w)",
            GREY,
            inputs="float[N, 1, H, W] x",
        ),
        "Conv",
    ),
    Fires(
        "grey-in-another-layout",
        SCALE,
        before_conv(
            "c = Cast <to = 1> (x) v = Reshape(c, shape) s = Mul(v, a) y = Conv(s, w)",
            f"{GREY}, int64[4] shape = {{0, 1, 5, 4}}",
            inputs="uint8[N, 5, 4, 1] x",
        ),
        "Cast Conv Reshape",
    ),
    Fires(
        "sizes-of-pixels",
        resolve_sizes.RULE,
        before_conv(
            "c = Cast <to = 1> (x) n = Shape <start = 0, end = 1> (x) shape = Concat <axis = 0> (n, rest) "
            "y = Reshape(c, shape)",
            "int64[1] rest = {-1}",
            inputs="uint8[N, 3, H, W] x",
            outputs="float[N, P] y",
        ),
        "Cast Reshape",
    ),
    Fires("with-a-bias", MEAN, before_conv("s = Sub(x, a) y = Conv(s, w, b)"), "Conv"),
    Fires("without-a-bias", MEAN, before_conv("s = Sub(x, a) y = Conv <pads = [0, 0, 0, 0]> (s, w)"), "Conv"),
    Fires("strided", MEAN, before_conv("s = Sub(x, a) y = Conv <strides = [2, 2]> (s, w, b)"), "Conv"),
    Fires("unpadded", ORDER, before_conv(BGR, f"{W}, {B}, {ENDS}"), "Conv"),
    Fires("padded", ORDER, before_conv(BGR.replace("Conv", f"Conv <{PADDED}> "), f"{W}, {B}, {ENDS}"), "Conv"),
]
KEEPS = [
    Keeps("padded", MEAN, before_conv(f"s = Sub(x, a) y = Conv <{PADDED}> (s, w, b)"), PADS),
    Keeps("padded-on-one-side", MEAN, before_conv("s = Sub(x, a) y = Conv <pads = [0, 0, 0, 1]> (s, w, b)"), PADS),
    Keeps("padded-by-rule", MEAN, before_conv('s = Sub(x, a) y = Conv <auto_pad = "SAME_UPPER"> (s, w, b)'), PADS),
    Keeps("the-other-way", MEAN, before_conv("s = Sub(a, x) y = Conv(s, w, b)")),
    Keeps(
        "a-row",
        SCALE,
        before_conv("s = Mul(x, a) y = Conv(s, w, b)", ROW, inputs="float[N, 3, H, 3] x"),
    ),
    Keeps(
        "other-readers",
        SCALE,
        before_conv("s = Mul(x, a) y = Conv(s, w, b) z = Relu(s)", outputs=f"{OUT}, float[N, 3, H, W] z"),
        "the image has other readers",
    ),
    Keeps(
        "groups",
        SCALE,
        before_conv("s = Mul(x, a) y = Conv <group = 3> (s, w, b)", GROUPS),
        "the convolution has groups",
    ),
    Keeps("inside-the-network", SCALE, before_conv("r = Relu(x) s = Mul(r, a) y = Conv(s, w, b)")),
    Keeps(
        "a-part",
        ORDER,
        before_conv(BGR, PART),
    ),
    Keeps("all-but-one", ORDER, before_conv(BGR, ALL_BUT_ONE, inputs="float[N, 4, H, W] x")),
    Keeps("of-rows", ORDER, before_conv(BGR, f"{W}, {B}, {ENDS.replace('axis = {1}', 'axis = {2}')}")),
]


@pytest.mark.parametrize("padded", [False, True])
def test_of_a_whole_preprocessing_only_the_mean_before_padding_is_left(padded: bool) -> None:
    first = f"Conv <{PADDED}>" if padded else "Conv"
    last = f"r = Slice(s, start, end, axis, step) y = {first} (r, w, b)"
    body = f"c = Cast <to = 1> (x) m = Sub(c, a) s = Mul(m, f) {last}"
    text = before_conv(
        body, f"{W}, {B}, {OF_CHANNELS}, float[1, 3, 1, 1] f = random, {ENDS}", inputs="uint8[N, 3, H, W] x"
    )
    done = settled(text, ORDER, SCALE, MEAN)
    assert [node.op_type for node in done.model.graph] == ["Cast", *(["Sub"] if padded else []), "Conv"]
    assert (PADS in done.reasons) is padded
