"""A decomposed hard sigmoid -> HardSigmoid.

Before (each):
    y = Div(Clip(Add(x, 3), 0, 6), 6)                        # relu6(x + 3) / 6; Mul by 1/6 alike
    y = Clip(Add(Mul(x, 1/6), 0.5), 0, 1)
    y = Div(Mul(z, Clip(Add(x, 3), 0, 6)), 6)                # z * relu6(x + 3) / 6; also Mul(Div(z, 6), Clip(...))

After:
    y = HardSigmoid(x, alpha=1/6, beta=0.5)         # or another slope and middle; times z

Howard et al.: "Searching for MobileNetV3", https://arxiv.org/abs/1905.02244, section 5.2.

Skips: parts with other readers, limits other than 0 and 1.
"""

from typing import NamedTuple

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.clamps import Limits, clamp_of
from attn_export.exporter.graph.facts import constant, is_op, is_read_once, made_by, rank

# float16 rounds 1/6 to three digits.
CLOSE = 5e-4
SIXTH = 1 / 6
# Closer to 0 or 1, the rounding of the two attributes would dominate the result.
LOWEST_MIDDLE = 0.1


class _Ramp(NamedTuple):
    """``clip(slope * x + shift)``, its limits, and the values between x and its result."""

    source: ir.Value
    slope: float
    shift: float
    limits: Limits
    parts: tuple[ir.Value, ...]

    def times(self, factor: float) -> "_Ramp":
        limits = Limits(self.limits.low * factor, self.limits.high * factor)
        return self._replace(slope=self.slope * factor, shift=self.shift * factor, limits=limits)


def _match(node: ir.Node, context: Context) -> MatchResult:
    gated, ramp = _gated_ramp(node)
    if ramp is None:
        return None
    rounding = CLOSE if node.outputs[0].dtype == ir.DataType.FLOAT16 else 1e-6
    if abs(ramp.limits.low) > rounding or abs(ramp.limits.high - 1) > rounding:
        return None
    if not LOWEST_MIDDLE <= ramp.shift <= 1 - LOWEST_MIDDLE:
        return Skip(f"beta is {ramp.shift:.3g}: the result is nearly always 0 or 1")
    if not all(is_read_once(part) for part in ramp.parts):
        return Skip("a part of it has other readers")
    builder, old = Builder(), node.outputs[0]
    alpha = SIXTH if abs(ramp.slope - SIXTH) < rounding else ramp.slope
    new = builder.add("HardSigmoid", ramp.source, shape=ramp.source.shape, like=old, alpha=alpha, beta=ramp.shift)
    if gated is None:
        return builder.rewrite((ramp.source,), old, new)
    inputs = tuple(dict.fromkeys((ramp.source, gated)))
    return builder.last(node, inputs, "Mul", gated, new)


def _gated_ramp(node: ir.Node) -> tuple[ir.Value | None, _Ramp | None]:
    """What a ramp is multiplied with, None if nothing, and the ramp, scaled by the factor of whatever is multiplied."""
    if is_op(node, "Clip"):
        return None, _ramp(node.outputs[0], ())
    scaled, factor = _scaled(node)
    if scaled is not None:
        if (ramp := _ramp(scaled, (scaled,))) is not None:
            return None, ramp.times(factor)
        product = made_by(scaled, "Mul")
        pair = _times_ramp(product, (scaled,)) if product is not None else None
        return (pair[0], pair[1].times(factor)) if pair is not None else (None, None)
    pair = _times_ramp(node, ()) if is_op(node, "Mul") else None
    inner = pair[0].producer() if pair is not None else None
    scaled, factor = _scaled(inner) if inner is not None else (None, 1.0)
    if pair is None or scaled is None:
        return None, None
    return scaled, pair[1].times(factor)._replace(parts=(*pair[1].parts, pair[0]))


def _times_ramp(product: ir.Node, parts: tuple[ir.Value, ...]) -> tuple[ir.Value, _Ramp] | None:
    for other, value in (product.inputs[:2], product.inputs[1::-1]):
        ramp = _ramp(value, (*parts, value)) if value is not None else None
        if ramp is not None and other is not None and constant(other) is None:
            return other, ramp
    return None


def _ramp(value: ir.Value | None, parts: tuple[ir.Value, ...]) -> _Ramp | None:
    clip = made_by(value, "Clip")
    clamp = clamp_of(clip) if clip is not None else None
    added = made_by(clamp.source, "Add") if clamp is not None else None
    if clamp is None or added is None:
        return None
    inner, shift = _with_constant(added)
    if inner is None or shift is None:
        return None
    multiplied = made_by(inner, "Mul", "Div")
    scaled, factor = _scaled(multiplied) if multiplied is not None else (None, 1.0)
    if scaled is None:
        return _Ramp(inner, 1.0, shift, clamp.limits, (*parts, clamp.source))
    return _Ramp(scaled, factor, shift, clamp.limits, (*parts, clamp.source, inner))


def _scaled(node: ir.Node) -> tuple[ir.Value | None, float]:
    """What a node multiplies with a number, and the number; None if it does something else."""
    value, number = _with_constant(node) if is_op(node, "Mul", "Div") else (None, None)
    if value is None or not number or (is_op(node, "Div") and value is not node.inputs[0]):
        return None, 1.0
    return value, number if is_op(node, "Mul") else 1 / number


def _with_constant(node: ir.Node) -> tuple[ir.Value | None, float | None]:
    """The computed operand of a binary operator and its constant scalar, None if it has none."""
    for value, other in (node.inputs[:2], node.inputs[1::-1]):
        array = constant(other)
        if array is not None and array.size == 1 and array.ndim <= (rank(value) or 0):  # broadcasting adds no axis
            return value, float(array.reshape(-1)[0])
    return node.inputs[0], None


RULE = Rule("fuse the hard sigmoid", frozenset({"Clip", "Mul", "Div"}), _match, recomputes_constants=True)
