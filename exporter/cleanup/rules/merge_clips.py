"""Clip, Relu, and Min or Max with a number, two in a row -> one Clip, or Relu.

Before (each):
    y = Clip(Clip(x, a, b), c, d)
    y = Min(Relu(x), 6)                                      # how TensorFlow writes ReLU6

After:
    y = Clip(x, min(max(a, c), d), min(max(b, c), d))

Each is min(max(x, low), high), https://onnx.ai/onnx/operators/onnx__Clip.html: the limits of the first go through the
second. A limit that isn't given is infinite.

Skips: limits that aren't constant numbers, a first operator with other readers, whole numbers before opset 12.
"""

import math

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.clamps import clamp_of
from attn_export.exporter.graph.facts import is_read_once

FIRST_OPSET_OF_WHOLE_NUMBERS = 12


def _match(node: ir.Node, context: Context) -> MatchResult:
    second = clamp_of(node)
    before = second.source.producer() if second is not None else None
    first = clamp_of(before) if before is not None else None
    if second is None or first is None:
        return None
    if not is_read_once(second.source):
        return Skip("the first of both has other readers")
    old, source = node.outputs[0], first.source
    if old.dtype is None or (not old.dtype.is_floating_point() and context.opset < FIRST_OPSET_OF_WHOLE_NUMBERS):
        return Skip(f"Clip takes whole numbers from opset {FIRST_OPSET_OF_WHOLE_NUMBERS} on")
    low, high = (min(max(limit, second.limits.low), second.limits.high) for limit in first.limits)
    builder = Builder()
    if low == 0 and math.isinf(high):
        return builder.last(node, (source,), "Relu", source)
    bounds = [_number(builder, limit, old.dtype) for limit in (low, high)]
    return builder.last(node, (source,), "Clip", source, *bounds)


def _number(builder: Builder, limit: float, dtype: ir.DataType) -> ir.Value | None:
    return None if math.isinf(limit) else builder.constant(np.array(limit, dtype=dtype.numpy()), f"limit_{limit:g}")


RULE = Rule("merge clips", frozenset({"Clip", "Relu", "Min", "Max"}), _match)
