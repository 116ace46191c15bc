"""Nodes that keep a value between two numbers: Clip, Relu, and Min or Max with a number."""

import math
from typing import NamedTuple

import onnx_ir as ir

from attn_export.exporter.graph.facts import attribute, constant, is_op, rank, scalar

CLAMPS = ("Clip", "Relu", "Min", "Max")


class Limits(NamedTuple):
    """``min(max(x, low), high)``; infinite where there is no limit."""

    low: float
    high: float


class Clamp(NamedTuple):
    """What is clamped, and to which limits."""

    source: ir.Value
    limits: Limits


def clamp_of(node: ir.Node) -> Clamp | None:
    """The node as a clamp; None for other nodes, and where the limits aren't constant numbers."""
    if is_op(node, "Relu"):
        return _clamp(node.inputs[0], 0.0, math.inf)
    if is_op(node, "Clip"):
        low, high = (_limit(node, index, name) for index, name in ((1, "min"), (2, "max")))
        return _clamp(node.inputs[0], -math.inf if low is None else low, math.inf if high is None else high)
    if is_op(node, "Min", "Max") and len(node.inputs) == 2:
        for value, other in (node.inputs[:2], node.inputs[1::-1]):
            number = scalar(other)
            if number is not None and (rank(other) or 0) <= (rank(value) or 0) and constant(value) is None:
                return _clamp(value, *((-math.inf, number) if is_op(node, "Min") else (number, math.inf)))
    return None


def _clamp(source: ir.Value | None, low: float, high: float) -> Clamp | None:
    return None if source is None or math.isnan(low) or math.isnan(high) else Clamp(source, Limits(low, high))


def _limit(clip: ir.Node, index: int, name: str) -> float | None:
    """A limit, which is an input from opset 11 on; not a number if it isn't constant."""
    value = clip.inputs[index] if len(clip.inputs) > index else None
    if value is None:
        stated = attribute(clip, name, None)
        return None if stated is None else float(stated)
    number = scalar(value)
    return math.nan if number is None else number
