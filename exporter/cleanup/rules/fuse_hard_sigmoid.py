"""A decomposed hard sigmoid -> HardSigmoid.

Before (each):
    y = Div(Clip(Add(x, 3), 0, 6), 6)                        # relu6(x + 3) / 6; Mul by 1/6 alike
    y = Clip(Add(Mul(x, 1/6), 0.5), 0, 1)

After:
    y = HardSigmoid(x, alpha=1/6, beta=0.5)         # or another slope and middle

Howard et al.: "Searching for MobileNetV3", https://arxiv.org/abs/1905.02244, section 5.2.

Skips: parts with other readers, limits other than 0 and 1.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import attribute, constant, is_op, is_read_once, made_by, rank, scalar

# float16 rounds 1/6 to three digits.
CLOSE = 5e-4
SIXTH = 1 / 6
# Closer to 0 or 1, the rounding of the two attributes would dominate the result.
LOWEST_MIDDLE = 0.1


def _match(node: ir.Node, context: Context) -> MatchResult:
    if is_op(node, "Clip"):
        value, slope = node.inputs[0], 1.0
    else:
        clipped, factor = _with_constant(node)
        if factor is None or made_by(clipped, "Clip") is None or (is_op(node, "Div") and clipped is not node.inputs[0]):
            return None
        slope = factor if is_op(node, "Mul") else 1 / factor if factor else 0.0
        value = clipped
    clip = node if is_op(node, "Clip") else made_by(value, "Clip")
    if clip is None:
        return None
    limits = _limits(clip)
    added = made_by(clip.inputs[0], "Add")
    if limits is None or added is None:
        return None
    inner, shift = _with_constant(added)
    inner_slope = 1.0
    parts = [clip.inputs[0]] + ([value] if clip is not node else [])
    multiplied = made_by(inner, "Mul", "Div")
    if multiplied is not None:
        scaled, factor = _with_constant(multiplied)
        if factor and (is_op(multiplied, "Mul") or scaled is multiplied.inputs[0]):
            parts.append(inner)
            inner_slope = factor if is_op(multiplied, "Mul") else 1 / factor
            inner = scaled
    if inner is None or shift is None:
        return None
    alpha, beta = slope * inner_slope, slope * shift
    low, high = (slope * limit for limit in limits)
    rounding = CLOSE if node.outputs[0].dtype == ir.DataType.FLOAT16 else 1e-6
    if abs(low) > rounding or abs(high - 1) > rounding:
        return None
    if not LOWEST_MIDDLE <= beta <= 1 - LOWEST_MIDDLE:
        return Skip(f"beta is {beta:.3g}: the result is nearly always 0 or 1")
    if not all(part is not None and is_read_once(part) for part in parts):
        return Skip("a part of it has other readers")
    builder, old = Builder(), node.outputs[0]
    slope = SIXTH if abs(alpha - SIXTH) < rounding else alpha
    new = builder.add("HardSigmoid", inner, shape=old.shape, like=old, alpha=slope, beta=beta)
    return builder.rewrite((inner,), old, new)


def _with_constant(node: ir.Node) -> tuple[ir.Value | None, float | None]:
    """The computed operand of a binary operator and its constant scalar, None if it has none."""
    for value, other in (node.inputs[:2], node.inputs[1::-1]):
        array = constant(other)
        if array is not None and array.size == 1 and array.ndim <= (rank(value) or 0):  # broadcasting adds no axis
            return value, float(array.reshape(-1)[0])
    return node.inputs[0], None


def _limits(clip: ir.Node) -> tuple[float, float] | None:
    """The limits of a Clip: inputs, or attributes before opset 11."""
    if len(clip.inputs) < 3:
        low, high = attribute(clip, "min", None), attribute(clip, "max", None)
    else:
        low, high = scalar(clip.inputs[1]), scalar(clip.inputs[2])
    return None if low is None or high is None else (low, high)


RULE = Rule("fuse the hard sigmoid", frozenset({"Clip", "Mul", "Div"}), _match, recomputes_constants=True)
