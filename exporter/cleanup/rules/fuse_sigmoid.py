"""A decomposed sigmoid -> Sigmoid.

Before (each):
    y = Div(1, Add(1, Exp(Neg(x))))                          # also Reciprocal; Div(z, ...) is z times the sigmoid
    y = Div(Add(Tanh(Div(x, 2)), 1), 2)                      # also as products

After:
    y = Sigmoid(x)

Skips: parts with other readers, other factors.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import is_op, is_read_once, made_by, rank, scalar

CLOSE = 1e-7


def _match(node: ir.Node, context: Context) -> MatchResult:
    old = node.outputs[0]
    exponential = _exponential(node.inputs[-1]) if is_op(node, "Div", "Reciprocal") else None
    found = exponential or _tangent(node)
    if found is None:
        return None
    times = exponential is not None and is_op(node, "Div") and scalar(node.inputs[0]) != 1
    factor = node.inputs[0] if times else None
    source, parts = found
    if not all(is_read_once(part) for part in parts):
        return Skip("a part of it has other readers")
    builder = Builder()
    new = builder.add("Sigmoid", source, shape=source.shape, like=old)
    if factor is None:
        return builder.rewrite((source,), old, new)
    inputs = tuple(dict.fromkeys((source, factor)))
    return builder.last(node, inputs, "Mul", factor, new)


Found = tuple[ir.Value, tuple[ir.Value, ...]]


def _exponential(value: ir.Value | None) -> Found | None:
    """The x of 1 + exp(-x), and the values between."""
    power = _affine(value)[0]
    exponent = made_by(power, "Exp")
    negated = exponent.inputs[0] if exponent is not None else None
    source = _negated(negated)
    if value is None or power is None or negated is None or source is None or _affine(value)[1:] != (1.0, 1.0):
        return None
    return source, (value, power, negated)


def _negated(value: ir.Value | None) -> ir.Value | None:
    negation = made_by(value, "Neg")
    if negation is not None:
        return negation.inputs[0]
    source, slope, shift = _affine(value)
    return source if (slope, shift) == (-1.0, 0.0) else None


def _tangent(node: ir.Node) -> Found | None:
    """The x of (1 + tanh(x / 2)) / 2, and the values between."""
    parts: list[ir.Value] = []
    value: ir.Value | None = node.outputs[0]
    slope, shift = 1.0, 0.0
    while made_by(value, "Tanh") is None:
        inner, factor, term = _affine(value)
        if inner is None or inner is value or len(parts) > 1:
            return None
        slope, shift = slope * factor, shift + slope * term
        parts.append(inner)
        value = inner
    tangent = made_by(value, "Tanh")
    half = tangent.inputs[0] if tangent is not None else None
    source, inner_slope, inner_shift = _affine(half)
    wanted = abs(slope - 0.5) + abs(shift - 0.5) + abs(inner_slope - 0.5) + abs(inner_shift)
    if source is None or half is None or wanted > CLOSE:
        return None
    return source, (*parts, half)


def _affine(value: ir.Value | None) -> tuple[ir.Value | None, float, float]:
    """What a sum or product with a number is made of, the factor and the term; the value itself for other nodes."""
    node = made_by(value, "Add", "Sub", "Mul", "Div")
    for operand, other in (node.inputs[:2], node.inputs[1::-1]) if node is not None else ():
        number = scalar(other)
        fits = number is not None and operand is not None and (rank(other) or 0) <= (rank(operand) or 0)
        if node is None or number is None or not fits or (is_op(node, "Sub", "Div") and operand is not node.inputs[0]):
            continue
        if is_op(node, "Add", "Sub"):
            return operand, 1.0, number if is_op(node, "Add") else -number
        return (operand, number if is_op(node, "Mul") else 1 / number, 0.0) if number else (None, 1.0, 0.0)
    return value, 1.0, 0.0


RULE = Rule("fuse the sigmoid", frozenset({"Div", "Reciprocal", "Mul", "Add"}), _match)
